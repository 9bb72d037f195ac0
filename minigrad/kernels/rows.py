"""Softmax and its relatives, row by row.

(Not named softmax.py: loading a module makes it an attribute of its package, in the place of the function softmax.)

A row passes by three times: for its maximum, for the exponentials and their sum, and for the division. Only the first
time it comes from far. All is arithmetic on vectors, the exponential too: a call of the C library would be one number
at a time. What a vector has beyond the end of a row is left out by `first`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import from_dtype, njit, types
from numpy.lib.array_utils import normalize_axis_index

from . import reference, threads
from .pieces import empty, get, put
from .simd import (
    borrowed,
    exp,
    first,
    fma,
    greatest,
    lanes,
    load_flags,
    maximum,
    spread,
    total,
    where,
)

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


# ------------------------------------------------------------------------------------------------------------ kernels
@njit(**_OPTIONS)
def _greatest(row):
    """The maximum of a row; any number if one of them is NaN, for then x - m is NaN whatever m is."""
    n = row.size
    most = spread(row, -math.inf)
    for j in range(0, n, lanes(row)):
        x = get(row, j, n - j)
        most = maximum(most, where(first(x, n - j), x, -math.inf))
    return greatest(most)


@njit(**_OPTIONS)
def _softmax(x, out, top, bottom):
    x, out = borrowed(x), borrowed(out)
    for i in range(top, bottom):
        row, y = x[i], out[i]
        n, m, s = row.size, _greatest(row), spread(row, 0)
        for j in range(0, n, lanes(row)):
            e = exp(get(row, j, n - j) - m)
            put(y, j, n - j, e)
            s = s + where(first(e, n - j), e, 0)
        scale = 1 / total(s)
        for j in range(0, n, lanes(row)):
            put(y, j, n - j, get(y, j, n - j) * scale)


@njit(**_OPTIONS)
def _masked_softmax(x, masks, mask_of, scale, out, top, bottom):
    x, masks, out = borrowed(x), borrowed(masks), borrowed(out)
    for i in range(top, bottom):
        row, legal, y = x[i], masks[mask_of[i]], out[i]
        n, s = row.size, spread(row, 0)
        most = spread(row, -math.inf)
        for j in range(0, n, lanes(row)):
            v = get(row, j, n - j) * scale
            most = maximum(most, where(load_flags(v, legal, j, n - j), v, -math.inf))
        m = greatest(most)
        for j in range(0, n, lanes(row)):
            v = get(row, j, n - j) * scale
            e = where(load_flags(v, legal, j, n - j), exp(v - m), 0)
            put(y, j, n - j, e)
            s = s + e
        for j in range(0, n, lanes(row)):  # where nothing is legal all are 0, and 0 times 1 / 0 is none
            e = get(y, j, n - j)
            put(y, j, n - j, where(load_flags(e, legal, j, n - j), e * (1 / total(s)), 0))


@njit(**_OPTIONS)
def _log_softmax(x, out, top, bottom):
    x, out = borrowed(x), borrowed(out)
    for i in range(top, bottom):
        row, y = x[i], out[i]
        n, m, s = row.size, _greatest(row), spread(row, 0)
        for j in range(0, n, lanes(row)):
            v = get(row, j, n - j) - m
            put(y, j, n - j, v)
            s = s + where(first(v, n - j), exp(v), 0)
        log_sum = math.log(total(s))
        for j in range(0, n, lanes(row)):
            put(y, j, n - j, get(y, j, n - j) - log_sum)


@njit(**_OPTIONS)
def _softmax_vjp(y, g, scale, out, top, bottom):
    y, g, out = borrowed(y), borrowed(g), borrowed(out)
    for i in range(top, bottom):
        p, h, d = y[i], g[i], out[i]
        n, s = p.size, spread(p, 0)
        for j in range(0, n, lanes(p)):
            s = fma(get(p, j, n - j), get(h, j, n - j), s)
        along = total(s)
        for j in range(0, n, lanes(p)):
            put(d, j, n - j, get(p, j, n - j) * (get(h, j, n - j) - along) * scale)


@njit(**_OPTIONS)
def _log_softmax_vjp(y, g, out, top, bottom):
    y, g, out = borrowed(y), borrowed(g), borrowed(out)
    for i in range(top, bottom):
        log_p, h, d = y[i], g[i], out[i]
        n, s = h.size, spread(h, 0)
        for j in range(0, n, lanes(h)):
            s = s + get(h, j, n - j)
        sum_g = total(s)
        for j in range(0, n, lanes(h)):
            put(d, j, n - j, get(h, j, n - j) - exp(get(log_p, j, n - j)) * sum_g)


# -------------------------------------------------------------------------------------------------------- from Python
def _kernels(serial: Any, *inputs: str) -> dict[Any, threads.Kernel]:
    """A kernel for each dtype."""
    kernels = {}
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        number = from_dtype(dtype)
        kinds = {
            "rows": types.Array(number, 2, "C", readonly=True),
            "masks": types.Array(types.boolean, 2, "C", readonly=True),
            "index": types.Array(types.intp, 1, "C", readonly=True),
            "scale": number,
        }
        read = [kinds[name] for name in inputs]
        kernels[dtype] = threads.Kernel(serial, (*read, types.Array(number, 2, "C"), types.intp, types.intp))
    return kernels


_softmaxes = _kernels(_softmax, "rows")
_masked_softmaxes = _kernels(_masked_softmax, "rows", "masks", "index", "scale")
_log_softmaxes = _kernels(_log_softmax, "rows")
_softmax_vjps = _kernels(_softmax_vjp, "rows", "rows", "scale")
_log_softmax_vjps = _kernels(_log_softmax_vjp, "rows", "rows")


def softmax(x: Array, dim: int) -> Array:
    """See `reference.softmax`."""
    kernel = _softmaxes.get(x.dtype)
    return reference.softmax(x, dim) if kernel is None else _run(kernel, 0.8, dim, x)


def log_softmax(x: Array, dim: int) -> Array:
    """See `reference.log_softmax`."""
    kernel = _log_softmaxes.get(x.dtype)
    return reference.log_softmax(x, dim) if kernel is None else _run(kernel, 0.8, dim, x)


def softmax_vjp(y: Array, g: Array, dim: int, scale: float = 1.0) -> Array:
    """See `reference.softmax_vjp`."""
    kernel = _softmax_vjps.get(y.dtype)
    if kernel is None or g.dtype != y.dtype or g.shape != y.shape:
        return reference.softmax_vjp(y, g, dim, scale)
    return _run(kernel, 0.4, dim, y, g, extra=(scale,))


def log_softmax_vjp(y: Array, g: Array, dim: int) -> Array:
    """See `reference.log_softmax_vjp`."""
    kernel = _log_softmax_vjps.get(y.dtype)
    if kernel is None or g.dtype != y.dtype or g.shape != y.shape:
        return reference.log_softmax_vjp(y, g, dim)
    return _run(kernel, 0.8, dim, y, g)


def masked_softmax(x: Array, mask: Array, dim: int, scale: float = 1.0) -> Array:
    """See `reference.masked_softmax`."""
    kernel = _masked_softmaxes.get(x.dtype)
    if kernel is None or x.size == 0 or x.ndim == 0:
        return reference.masked_softmax(x, mask, dim, scale)
    mask = mask.astype(bool, copy=False)[(None,) * (x.ndim - mask.ndim)]
    shape = x.shape
    if not _is_last(dim, x.ndim):
        mask, shape = np.moveaxis(mask, dim, -1), np.moveaxis(x, dim, -1).shape
    if mask.shape[-1] != shape[-1]:
        mask = np.broadcast_to(mask, (*mask.shape[:-1], shape[-1]))
    # Rows may share a mask (all queries, all heads): the kernel gets each mask once, and for each row which one it is.
    masks = np.ascontiguousarray(mask).reshape(-1, shape[-1])
    mask_of = np.arange(len(masks))
    if mask.shape != shape:
        mask_of = np.broadcast_to(mask_of.reshape(mask.shape[:-1]), shape[:-1]).ravel()
    return _run(kernel, 1, dim, x, extra=(masks, mask_of, scale))


def _is_last(dim: int, ndim: int) -> bool:
    return dim == -1 or ndim == 0 or normalize_axis_index(dim, ndim) == ndim - 1


def _run(kernel: threads.Kernel, nanoseconds: float, dim: int, *inputs: Array, extra: tuple[Any, ...] = ()) -> Array:
    """Run a kernel that takes `nanoseconds` per element over the rows along `dim`."""
    last = _is_last(dim, inputs[0].ndim)
    if not last:
        inputs = tuple([np.moveaxis(x, dim, -1) for x in inputs])
    out = empty(inputs[0].shape, inputs[0].dtype)
    if out.size:
        (*_, n) = out.shape or (1,)
        rows = out.size // n
        lines = [np.ascontiguousarray(x).reshape(rows, n) for x in inputs]
        kernel(nanoseconds * out.size + 5 * rows, rows, *lines, *extra, out.reshape(rows, n))
    return out if last else np.ascontiguousarray(np.moveaxis(out, -1, dim))
