"""Dropout, the error function and sums: one element of the result from one element of each input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from . import reference
from .pieces import dropped, dropping, empty, get, kernels, put, rule_of
from .simd import lanes

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def _add(x, y, out, first, last):
    for i in range(first, last, lanes(x)):
        n = last - i
        put(out, i, n, get(x, i, n) + get(y, i, n))


@njit(**_OPTIONS)
def _dropout(x, dropout, out, first, last):
    rule = rule_of(dropout)
    for i in range(first, last, lanes(x)):
        n = last - i
        put(out, i, n, dropped(get(x, i, n), i, rule))


@njit(**_OPTIONS)
def _erf(x, out, first, last):
    for i in range(first, last):
        out[i] = math.erf(x[i])


_adds = kernels(_add, "RRWSS")
_dropouts = kernels(_dropout, "RDWSS")
_erfs = kernels(_erf, "RWSS")
FEW = 8192  # elements, for which NumPy is called faster


def add(x: Array, y: Array, out: Array | None = None) -> Array:
    """See `reference.add`."""
    contiguous = all(a.flags.c_contiguous for a in (x, y, out) if a is not None)
    if x.size < FEW or x.shape != y.shape or not contiguous:
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
    out = empty(x.shape, x.dtype)
    kernel(0.25 * x.size, x.size, np.ravel(x), dropping(p, seed), np.ravel(out))
    return out


def erf(x: Array) -> Array:
    """See `reference.erf`."""
    kernel = _erfs.get(x.dtype)
    if kernel is None:
        return reference.erf(x)
    out = empty(x.shape, x.dtype)
    kernel(6 * x.size, x.size, np.ravel(x), np.ravel(out))
    return out
