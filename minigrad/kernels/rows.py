"""Softmax and its relatives, row by row.

(Not named softmax.py: loading a module makes it an attribute of its package, in the place of the function softmax.)

A row passes through the cache three times (maximum, exponentials and their sum, division), and each pass is a loop
that the compiler can do in vectors:

- a sum must be allowed to be regrouped ("reassoc"), which changes no NaN and no infinity. That licence is given to the
  functions that sum, and not to the exponential, which lives on the order of its operations;
- a maximum of floats is not vectorised, because of NaN; a maximum of integers is, and the bits of floats, read as
  integers, are in the same order but for the sign;
- the exponential is a polynomial, since a call of the C library is one number at a time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import from_dtype, njit, prange, types
from numba.extending import overload
from numpy.lib.array_utils import normalize_axis_index

from . import reference, threads

Array = np.ndarray

_OPTIONS: Any = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
_SUMMING: Any = _OPTIONS | {"fastmath": {"contract", "reassoc"}}
SWEEP = 1024  # elements to exponentiate in one go
_f4, _i4 = np.float32, np.int32  # Numba computes in 64 bits unless every step says that it has 32


# -------------------------------------------------------------------------------------------------------- exponential
@njit(**_OPTIONS)
def _exp32(x):
    """e^x for x <= 0 or NaN, to 1.1 units in the last place; down to the smallest subnormal, then 0.

    e^x = 2^n e^r with n the whole number next to x / log 2, |r| <= log(2) / 2. Coefficients are those of Cephes (expf).
    """
    vanishes = x < _f4(-104)
    x = _f4(0) if vanishes else x  # arithmetic that underflows takes 100 times as long
    shifted = x * _f4(1.44269504) + _f4(1.5 * 2**23)  # so large that what is behind the point is rounded away
    n = shifted - _f4(1.5 * 2**23)
    r = x - n * _f4(0.693359375) + n * _f4(2.12194440e-4)  # log 2 in two parts; n times the first is exact
    y = _f4(1.9875691500e-4)
    y = y * r + _f4(1.3981999507e-3)
    y = y * r + _f4(8.3334519073e-3)
    y = y * r + _f4(4.1665795894e-2)
    y = y * r + _f4(1.6666665459e-1)
    y = y * r + _f4(5.0000001201e-1)
    y = y * r * r + r + _f4(1)
    n = _i4(np.float32(shifted).view(np.int32) - _i4(0x4B400000))
    half = _i4(n >> _i4(1))  # 2^n may be subnormal: multiply by 2^(n/2) twice
    y *= np.int32(_i4(half + _i4(127)) << _i4(23)).view(np.float32)
    y *= np.int32(_i4(_i4(n - half) + _i4(127)) << _i4(23)).view(np.float32)
    return _f4(0) if vanishes else y


def _exp(x: Any) -> Any:
    """`_exp32` for float32, the C library for float64."""


@overload(_exp)
def _exp_of(x):
    return (lambda x: _exp32(x)) if x == types.float32 else (lambda x: math.exp(x))


# ------------------------------------------------------------------------------------------------------ pieces of rows
def _comparable(x: Any) -> Any:
    """The array in the form in which `_max` wants its rows: the bits of float32, float64 as it is."""


@overload(_comparable)
def _comparable_of(x):
    return (lambda x: x.view(np.int32)) if x.dtype == types.float32 else (lambda x: x)


def _max(row: Any) -> Any:
    """The greatest number of a row. What it says about NaN does not matter: x - m is NaN there whatever m is."""


@overload(_max)
def _max_of(row):
    def float32(row):
        greatest = _i4(-(2**31))
        for j in range(row.size):
            greatest = max(greatest, _i4(row[j] ^ (_i4(row[j] >> _i4(31)) & _i4(0x7FFFFFFF))))
        return np.int32(greatest ^ (_i4(greatest >> _i4(31)) & _i4(0x7FFFFFFF))).view(np.float32)

    def float64(row):
        greatest = -np.inf
        for j in range(row.size):
            greatest = max(greatest, row[j])
        return greatest

    return float32 if row.dtype == types.int32 else float64


@njit(**_OPTIONS)
def _normalise(rows):
    """rows = e^rows / sum(e^rows). The exponentials in one go: a row may be too short for a loop in vectors."""
    line = rows.reshape(rows.size)
    for j in range(line.size):
        line[j] = _exp(line[j])
    for i in range(len(rows)):
        row = rows[i]
        scale = row.dtype.type(1) / _sum(row)
        for j in range(row.size):
            row[j] *= scale


@njit(**_SUMMING)
def _sum_of_exponentials(row):
    total = row.dtype.type(0)
    for j in range(row.size):
        total += _exp(row[j])
    return total


@njit(**_SUMMING)
def _sum(row):
    total = row.dtype.type(0)
    for j in range(row.size):
        total += row[j]
    return total


@njit(**_SUMMING)
def _dot(a, b):
    total = a.dtype.type(0)
    for j in range(a.size):
        total += a[j] * b[j]
    return total


# ------------------------------------------------------------------------------------------------------------ kernels
@njit(**_OPTIONS)
def _softmax(x, out, first, last):
    comparable = _comparable(x)
    together = max(1, SWEEP // x.shape[1])
    for top in range(first, last, together):
        bottom = min(top + together, last)
        for i in range(top, bottom):
            row, y, greatest = x[i], out[i], _max(comparable[i])
            for j in range(y.size):
                y[j] = row[j] - greatest
        _normalise(out[top:bottom])


@njit(**_OPTIONS)
def _masked_softmax(x, masks, mask_of, out, first, last):
    nothing, zero = out.dtype.type(-np.inf), out.dtype.type(0)
    comparable = _comparable(out)
    together = max(1, SWEEP // x.shape[1])
    for top in range(first, last, together):
        bottom = min(top + together, last)
        for i in range(top, bottom):
            row, legal, y = x[i], masks[mask_of[i]], out[i]
            for j in range(y.size):
                value = row[j]
                y[j] = value if legal[j] else nothing
            greatest = _max(comparable[i])
            for j in range(y.size):
                y[j] -= greatest
        _normalise(out[top:bottom])
        for i in range(top, bottom):  # a row can be NaN all over: one in which nothing is legal always is
            legal, y = masks[mask_of[i]], out[i]
            for j in range(y.size):
                value = y[j]
                y[j] = value if legal[j] else zero


@njit(**_OPTIONS)
def _log_softmax(x, out, first, last):
    comparable = _comparable(x)
    for i in range(first, last):
        row, y, greatest = x[i], out[i], _max(comparable[i])
        for j in range(y.size):
            y[j] = row[j] - greatest
        log_total = y.dtype.type(math.log(_sum_of_exponentials(y)))
        for j in range(y.size):
            y[j] -= log_total


@njit(**_OPTIONS)
def _softmax_vjp(y, g, out, first, last):
    for i in range(first, last):
        p, h, d = y[i], g[i], out[i]
        total = _dot(p, h)
        for j in range(d.size):
            d[j] = p[j] * (h[j] - total)


@njit(**_OPTIONS)
def _log_softmax_vjp(y, g, out, first, last):
    for i in range(first, last):
        log_p, h, d = y[i], g[i], out[i]
        total = _sum(h)
        for j in range(d.size):
            d[j] = h[j] - _exp(log_p[j]) * total


@njit(parallel=True, **_OPTIONS)
def _softmax_shared(x, out, items, chunks):
    for c in prange(chunks):
        _softmax(x, out, items * c // chunks, items * (c + 1) // chunks)


@njit(parallel=True, **_OPTIONS)
def _masked_softmax_shared(x, masks, mask_of, out, items, chunks):
    for c in prange(chunks):
        _masked_softmax(x, masks, mask_of, out, items * c // chunks, items * (c + 1) // chunks)


@njit(parallel=True, **_OPTIONS)
def _log_softmax_shared(x, out, items, chunks):
    for c in prange(chunks):
        _log_softmax(x, out, items * c // chunks, items * (c + 1) // chunks)


@njit(parallel=True, **_OPTIONS)
def _softmax_vjp_shared(y, g, out, items, chunks):
    for c in prange(chunks):
        _softmax_vjp(y, g, out, items * c // chunks, items * (c + 1) // chunks)


@njit(parallel=True, **_OPTIONS)
def _log_softmax_vjp_shared(y, g, out, items, chunks):
    for c in prange(chunks):
        _log_softmax_vjp(y, g, out, items * c // chunks, items * (c + 1) // chunks)


# -------------------------------------------------------------------------------------------------------- from Python
def _kernels(serial: Any, parallel: Any, *inputs: str) -> dict[Any, threads.Kernel]:
    """A kernel for each dtype."""
    kernels = {}
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        number = from_dtype(dtype)
        kinds = {"rows": (number, 2), "masks": (types.boolean, 2), "index": (types.intp, 1)}
        read = [types.Array(*kinds[name], "C", readonly=True) for name in inputs]
        signature = (*read, types.Array(number, 2, "C"), types.intp, types.intp)
        kernels[dtype] = threads.Kernel(serial, parallel, signature)
    return kernels


_softmaxes = _kernels(_softmax, _softmax_shared, "rows")
_masked_softmaxes = _kernels(_masked_softmax, _masked_softmax_shared, "rows", "masks", "index")
_log_softmaxes = _kernels(_log_softmax, _log_softmax_shared, "rows")
_softmax_vjps = _kernels(_softmax_vjp, _softmax_vjp_shared, "rows", "rows")
_log_softmax_vjps = _kernels(_log_softmax_vjp, _log_softmax_vjp_shared, "rows", "rows")


def softmax(x: Array, dim: int) -> Array:
    """See `reference.softmax`."""
    kernel = _softmaxes.get(x.dtype)
    return reference.softmax(x, dim) if kernel is None else _run(kernel, 0.8, dim, x)


def log_softmax(x: Array, dim: int) -> Array:
    """See `reference.log_softmax`."""
    kernel = _log_softmaxes.get(x.dtype)
    return reference.log_softmax(x, dim) if kernel is None else _run(kernel, 0.8, dim, x)


def softmax_vjp(y: Array, g: Array, dim: int) -> Array:
    """See `reference.softmax_vjp`."""
    kernel = _softmax_vjps.get(y.dtype)
    alike = y.dtype == g.dtype and y.shape == g.shape
    return _run(kernel, 0.4, dim, y, g) if kernel and alike else reference.softmax_vjp(y, g, dim)


def log_softmax_vjp(y: Array, g: Array, dim: int) -> Array:
    """See `reference.log_softmax_vjp`."""
    kernel = _log_softmax_vjps.get(y.dtype)
    alike = y.dtype == g.dtype and y.shape == g.shape
    return _run(kernel, 0.8, dim, y, g) if kernel and alike else reference.log_softmax_vjp(y, g, dim)


def masked_softmax(x: Array, mask: Array, dim: int) -> Array:
    """See `reference.masked_softmax`."""
    kernel = _masked_softmaxes.get(x.dtype)
    if kernel is None or x.size == 0 or x.ndim == 0:
        return reference.masked_softmax(x, mask, dim)
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
    return _run(kernel, 1, dim, x, extra=(masks, mask_of))


def _is_last(dim: int, ndim: int) -> bool:
    return ndim == 0 or normalize_axis_index(dim, ndim) == ndim - 1


def _run(kernel: threads.Kernel, nanoseconds: float, dim: int, *inputs: Array, extra: tuple[Array, ...] = ()) -> Array:
    """Run a kernel that takes `nanoseconds` per element over the rows along `dim`."""
    last = _is_last(dim, inputs[0].ndim)
    if not last:
        inputs = tuple([np.moveaxis(x, dim, -1) for x in inputs])
    out = np.empty(inputs[0].shape, inputs[0].dtype)
    if out.size:
        (*_, n) = out.shape or (1,)
        rows = out.size // n
        lines = [np.ascontiguousarray(x).reshape(rows, n) for x in inputs]
        kernel(nanoseconds * out.size, rows, *lines, *extra, out.reshape(rows, n))
    return out if last else np.ascontiguousarray(np.moveaxis(out, -1, dim))
