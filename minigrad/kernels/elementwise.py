"""Dropout and the error function: one element of the result from one element of the input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import from_dtype, njit, prange, types

from . import reference, threads

Array = np.ndarray

_OPTIONS: Any = {"cache": True, "nogil": True, "error_model": "numpy"}
_u4 = np.uint32


@njit(**_OPTIONS)
def _lowbias32(x):
    """As in `reference.keep`. Numba computes in 64 bits unless every step says that it has 32."""
    x = _u4(x ^ (x >> _u4(16)))
    x = _u4(x * _u4(0x7FEB352D))
    x = _u4(x ^ (x >> _u4(15)))
    x = _u4(x * _u4(0x846CA68B))
    return _u4(x ^ (x >> _u4(16)))


@njit(**_OPTIONS)
def _dropout(x, first_key, second_key, threshold, scale, out, first, last):
    zero = out.dtype.type(0)
    for i in range(first, last):
        bits = _lowbias32(_u4(_lowbias32(_u4(_u4(i) ^ first_key)) ^ second_key))
        factor = scale if bits >= threshold else zero
        out[i] = x[i] * factor


@njit(parallel=True, **_OPTIONS)
def _dropout_shared(x, first_key, second_key, threshold, scale, out, items, chunks):
    for c in prange(chunks):
        _dropout(x, first_key, second_key, threshold, scale, out, items * c // chunks, items * (c + 1) // chunks)


@njit(**_OPTIONS)
def _erf(x, out, first, last):
    for i in range(first, last):
        out[i] = math.erf(x[i])


@njit(parallel=True, **_OPTIONS)
def _erf_shared(x, out, items, chunks):
    for c in prange(chunks):
        _erf(x, out, items * c // chunks, items * (c + 1) // chunks)


def _kernel(serial: Any, parallel: Any, dtype: Any, *settings: Any) -> threads.Kernel:
    number = from_dtype(dtype)
    read, write = types.Array(number, 1, "C", readonly=True), types.Array(number, 1, "C")
    return threads.Kernel(serial, parallel, (read, *settings, write, types.intp, types.intp))


_dtypes = (np.dtype(np.float32), np.dtype(np.float64))
_bits = (types.uint32,) * 3
_dropouts = {d: _kernel(_dropout, _dropout_shared, d, *_bits, from_dtype(d)) for d in _dtypes}
_erfs = {d: _kernel(_erf, _erf_shared, d) for d in _dtypes}


def dropout(x: Array, p: float, seed: int) -> Array:
    """See `reference.dropout`."""
    kernel = _dropouts.get(x.dtype)
    if kernel is None:
        return reference.dropout(x, p, seed)
    out = np.empty(x.shape, x.dtype)
    first, second = reference.keys(seed)
    settings = first, second, reference.threshold(p), reference.scale(p)
    kernel(0.6 * x.size, x.size, np.ravel(x), *settings, np.ravel(out))
    return out


def erf(x: Array) -> Array:
    """See `reference.erf`."""
    kernel = _erfs.get(x.dtype)
    if kernel is None:
        return reference.erf(x)
    out = np.empty(x.shape, x.dtype)
    kernel(6 * x.size, x.size, np.ravel(x), np.ravel(out))
    return out
