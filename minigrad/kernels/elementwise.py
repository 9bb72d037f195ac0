"""Dropout, the error function and sums: one element of the result from one element of each input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from . import bits, reference, threads
from .pieces import empty
from .simd import kept, lanes, load_some, spread, store_some, where

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def _add(x, y, out, first, last):
    for i in range(first, last, lanes(x)):
        n = last - i
        store_some(out, i, n, load_some(x, i, n) + load_some(y, i, n))


@njit(**_OPTIONS)
def _dropout(x, first_key, second_key, threshold, scale, out, first, last):
    for i in range(first, last, lanes(x)):
        n = last - i
        factor = where(kept(spread(x, 0), i, first_key, second_key, threshold), spread(x, scale), 0)
        store_some(out, i, n, load_some(x, i, n) * factor)


@njit(**_OPTIONS)
def _erf(x, out, first, last):
    for i in range(first, last):
        out[i] = math.erf(x[i])


def _kernels(serial: Any, *more: Any, inputs: int = 1) -> dict[Any, threads.Kernel]:
    """A kernel for each dtype."""
    kernels = {}
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        number = from_dtype(dtype)
        read, write = types.Array(number, 1, "C", readonly=True), types.Array(number, 1, "C")
        settings = [number if x is None else x for x in more]
        kernels[dtype] = threads.Kernel(serial, (*[read] * inputs, *settings, write, types.intp, types.intp))
    return kernels


_adds = _kernels(_add, inputs=2)
_dropouts = _kernels(_dropout, *[types.uint32] * 3, None)
_erfs = _kernels(_erf)
FEW = 8192  # elements, for which NumPy is called faster


def add(x: Array, y: Array, out: Array | None = None) -> Array:
    """See `reference.add`."""
    if x.size < FEW or x.shape != y.shape or not (x.flags.c_contiguous and y.flags.c_contiguous):
        return reference.add(x, y, out)
    kernel = _adds.get(x.dtype)
    if kernel is None or x.dtype != y.dtype:
        return reference.add(x, y, out)
    out = empty(x.shape, x.dtype) if out is None else out
    kernel(0.15 * x.size, x.size, x.reshape(-1), y.reshape(-1), out.reshape(-1))
    return out


def dropout(x: Array, p: float, seed: int) -> Array:
    """See `reference.dropout`."""
    kernel = _dropouts.get(x.dtype)
    if kernel is None:
        return reference.dropout(x, p, seed)
    out = np.empty(x.shape, x.dtype)
    first, second = bits.keys(seed)
    settings = first, second, bits.threshold(p), bits.scale(p)
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
