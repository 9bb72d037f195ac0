"""Softmax and its relatives, row by row.

(Not named softmax.py: loading a module makes it an attribute of its package, in the place of the function softmax.)

A row passes by three times: for its maximum, for the exponentials and their sum, and for the division. Only the first
time it comes from far. A row of one vector or less stays in a register, and while it waits for its sum over the lanes
the processor begins the next one. All is arithmetic on vectors, the exponential too: a call of the C library would be
one number at a time. Beyond its end a row goes on with -inf, which is no maximum and adds e^-inf = 0 to the sum.

On the way back of softmax there is little to do but to add up a row, so short rows are added up together (`several`).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import from_dtype, njit, types
from numpy.lib.array_utils import normalize_axis_index

from . import reference, threads
from .pieces import DTYPES, empty, get, kernels, line, put
from .several import REGISTERS, SHORT, several
from .simd import (
    VECTOR,
    exp_down,
    first,
    fma,
    greatest,
    lanes,
    load,
    load_flags,
    load_some,
    maximum,
    spread,
    store,
    store_some,
    total,
    where,
)

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


# ------------------------------------------------------------------------------------------------------------ kernels
@njit(**_OPTIONS)
def scores(x, i, n):
    """x[i], x[i + 1], ..., and -inf beyond the n that there are."""
    if n >= lanes(x):
        return load(x, i)
    v = load_some(x, i, n)
    return where(first(v, n), v, -math.inf)


@njit(**_OPTIONS)
def peak(x, row, end):
    """The maximum of a row; any number if one of them is NaN, for then x - m is NaN whatever m is."""
    most = spread(x, -math.inf)
    for j in range(row, end, lanes(x)):
        most = maximum(scores(x, j, end - j), most)
    return greatest(most)


@njit(**_OPTIONS)
def _softmax(x, n, out, top, bottom):
    for row in range(top * n, bottom * n, n):
        if n <= lanes(x):
            v = scores(x, row, n)
            e = exp_down(v - greatest(v))
            put(out, row, n, e * (1 / total(e)))
            continue
        end = row + n
        m, s = peak(x, row, end), spread(x, 0)
        for j in range(row, end, lanes(x)):
            e = exp_down(scores(x, j, end - j) - m)
            put(out, j, end - j, e)
            s = s + e
        scale = 1 / total(s)
        for j in range(row, end, lanes(x)):
            put(out, j, end - j, get(out, j, end - j) * scale)


@njit(**_OPTIONS)
def _masked_softmax(x, n, mask, mask_of, scale, out, top, bottom):
    for i in range(top, bottom):
        row, end = i * n, (i + 1) * n
        ahead = (mask_of[i] if mask_of.size else i) * n - row  # from a score to its flag
        if n <= lanes(x):
            v = get(x, row, n)
            legal = load_flags(v, mask, row + ahead, n)
            m = greatest(where(legal, v, -math.inf))
            e = where(legal, exp_down((v - m) * scale), 0)
            put(out, row, n, where(legal, e * (1 / total(e)), 0))
            continue
        most, s = spread(x, -math.inf), spread(x, 0)
        for j in range(row, end, lanes(x)):
            v = get(x, j, end - j)
            most = maximum(where(load_flags(v, mask, j + ahead, end - j), v, -math.inf), most)
        m = greatest(most)
        for j in range(row, end, lanes(x)):
            v = (get(x, j, end - j) - m) * scale
            e = where(load_flags(v, mask, j + ahead, end - j), exp_down(v), 0)
            put(out, j, end - j, e)
            s = s + e
        factor = 1 / total(s)
        for j in range(row, end, lanes(x)):  # where nothing is legal all are 0, and 0 times 1 / 0 is none
            e = get(out, j, end - j) * factor
            put(out, j, end - j, where(load_flags(e, mask, j + ahead, end - j), e, 0))


@njit(**_OPTIONS)
def _log_softmax(x, n, out, top, bottom):
    for row in range(top * n, bottom * n, n):
        if n <= lanes(x):
            v = scores(x, row, n)
            v = v - greatest(v)
            put(out, row, n, v - math.log(total(exp_down(v))))
            continue
        end = row + n
        m, s = peak(x, row, end), spread(x, 0)
        for j in range(row, end, lanes(x)):
            s = s + exp_down(scores(x, j, end - j) - m)
        log_sum = math.log(total(s))
        for j in range(row, end, lanes(x)):
            put(out, j, end - j, get(x, j, end - j) - m - log_sum)


@njit(**_OPTIONS)
def _softmax_vjp(y, g, n, scale, out, top, bottom):
    for row in range(top * n, bottom * n, n):
        end, s = row + n, spread(y, 0)
        whole = end - n % lanes(y)
        for j in range(row, whole, lanes(y)):
            s = fma(load(y, j), load(g, j), s)
        if whole < end:
            s = fma(load_some(y, whole, end - whole), load_some(g, whole, end - whole), s)
        along = total(s)
        for j in range(row, whole, lanes(y)):
            store(out, j, load(y, j) * (load(g, j) - along) * scale)
        if whole < end:
            d = load_some(y, whole, end - whole) * (load_some(g, whole, end - whole) - along) * scale
            store_some(out, whole, end - whole, d)


def _short_softmax_vjp(width: int, rows: int) -> Any:
    load, store, sums, each = several(width, rows)

    @njit(**_OPTIONS)
    def softmax_vjp(y, g, n, scale, out, top, bottom):
        end = bottom * width
        for i in range(top * width, end, rows * width):
            p, d = load(y, i, end - i), load(g, i, end - i)
            store(out, i, end - i, p * (d - each(d, sums(p * d))) * scale)

    return softmax_vjp


@njit(**_OPTIONS)
def _log_softmax_vjp(y, g, n, out, top, bottom):
    for row in range(top * n, bottom * n, n):
        end, s = row + n, spread(g, 0)
        for j in range(row, end, lanes(g)):
            s = s + get(g, j, end - j)
        sum_g = total(s)
        for j in range(row, end, lanes(g)):
            put(out, j, end - j, get(g, j, end - j) - exp_down(get(y, j, end - j)) * sum_g)


# -------------------------------------------------------------------------------------------------------- from Python
def _masked_kernel(dtype: Any) -> threads.Kernel:
    number, size = from_dtype(dtype), types.intp
    x, mask, mask_of = (types.Array(kind, 1, "C", readonly=True) for kind in (number, types.boolean, size))
    return threads.Kernel(_masked_softmax, (x, size, mask, mask_of, number, types.Array(number, 1, "C"), size, size))


_softmaxes = kernels(_softmax, "RSWSS")
_masked_softmaxes = {dtype: _masked_kernel(dtype) for dtype in DTYPES}
_log_softmaxes = kernels(_log_softmax, "RSWSS")
_softmax_vjps = kernels(_softmax_vjp, "RRSNWSS")
_short_softmax_vjps = functools.cache(lambda width, rows: kernels(_short_softmax_vjp(width, rows), "RRSNWSS"))
_log_softmax_vjps = kernels(_log_softmax_vjp, "RRSWSS")
NOTHING = np.empty(0, np.intp)


def softmax(x: Array, dim: int) -> Array:
    """See `reference.softmax`."""
    kernel = _softmaxes.get(x.dtype)
    return reference.softmax(x, dim) if kernel is None else _run(kernel, 0.35, dim, (x,))


def log_softmax(x: Array, dim: int) -> Array:
    """See `reference.log_softmax`."""
    kernel = _log_softmaxes.get(x.dtype)
    return reference.log_softmax(x, dim) if kernel is None else _run(kernel, 0.35, dim, (x,))


def softmax_vjp(y: Array, g: Array, dim: int, scale: float = 1.0) -> Array:
    """See `reference.softmax_vjp`."""
    kernel = _softmax_vjps.get(y.dtype)
    if kernel is None or g.dtype != y.dtype or g.shape != y.shape:
        return reference.softmax_vjp(y, g, dim, scale)
    size = y.shape[dim] * y.itemsize if y.ndim else 0
    if size in SHORT:
        kernel = _short_softmax_vjps(y.shape[dim], REGISTERS * VECTOR // size)[y.dtype]
    return _run(kernel, 0.17, dim, (y, g), scale)


def log_softmax_vjp(y: Array, g: Array, dim: int) -> Array:
    """See `reference.log_softmax_vjp`."""
    kernel = _log_softmax_vjps.get(y.dtype)
    if kernel is None or g.dtype != y.dtype or g.shape != y.shape:
        return reference.log_softmax_vjp(y, g, dim)
    return _run(kernel, 0.35, dim, (y, g))


def masked_softmax(x: Array, mask: Array, dim: int, scale: float = 1.0) -> Array:
    """See `reference.masked_softmax`."""
    kernel = _masked_softmaxes.get(x.dtype)
    if kernel is None or x.size == 0 or x.ndim == 0:
        return reference.masked_softmax(x, mask, dim, scale)
    if scale < 0:  # the greatest score is that of the greatest x only for a positive one
        return masked_softmax(-x, mask, dim, -scale)
    mask = mask.astype(bool, copy=False)
    mask_of, shape = NOTHING, x.shape
    if mask.shape != shape:
        mask = mask[(None,) * (x.ndim - mask.ndim)]
    if not _is_last(dim, x.ndim):
        mask, shape = np.moveaxis(mask, dim, -1), np.moveaxis(x, dim, -1).shape
    if mask.shape != shape:
        # Rows share a mask (all queries, all heads): the kernel gets each mask once, and for each row which one it is.
        mask = np.broadcast_to(mask, (*mask.shape[:-1], shape[-1]))
        mask_of = np.arange(mask.size // shape[-1]).reshape(mask.shape[:-1])
        mask_of = np.broadcast_to(mask_of, shape[:-1]).ravel()
    return _run(kernel, 0.5, dim, (x,), line(mask), mask_of, scale)


def _is_last(dim: int, ndim: int) -> bool:
    return dim == -1 or ndim == 0 or normalize_axis_index(dim, ndim) == ndim - 1


def _run(kernel: threads.Kernel, nanoseconds: float, dim: int, inputs: tuple[Array, ...], *settings: Any) -> Array:
    """Run a kernel that takes `nanoseconds` per element over the rows along `dim`."""
    last = _is_last(dim, inputs[0].ndim)
    if not last:
        inputs = tuple([np.moveaxis(x, dim, -1) for x in inputs])
    x = inputs[0]
    out = empty(x.shape, x.dtype)
    if size := x.size:
        n = x.shape[-1] if x.ndim else 1
        rows = size // n
        kernel(nanoseconds * size + 3 * rows, rows, *[line(x) for x in inputs], n, *settings, out.reshape(-1))
    return out if last else np.ascontiguousarray(np.moveaxis(out, -1, dim))
