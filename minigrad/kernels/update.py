"""The step of the optimiser: Adam in one pass over parameters, gradients and averages; lengths of gradients.

All of it is bound by memory: a parameter of 4 bytes costs 28 bytes of traffic and less than 10 operations. So what
counts is that every array is read once and written once, by all threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from . import reference, threads
from .pieces import DTYPES, get, kernels, put
from .simd import VECTOR, fma, lanes, spread, sqrt

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
_SUMMING: Any = _OPTIONS | {"fastmath": {"contract", "reassoc"}}
BLOCK = 4096  # elements that one thread squares and adds up, however many threads there are


@njit(**_OPTIONS)
def _adam(p, g, m, v, rate, keep1, new1, keep2, new2, unbias, eps, shrink, decay, first, last):
    width, scale, least = lanes(p), spread(p, unbias), spread(p, eps)
    for i in range(first * width, last * width, width):  # items are vectors, so that all but the last are whole
        n = p.size - i
        theta, gradient = get(p, i, n), get(g, i, n)
        if decay != 0:
            gradient = fma(theta, spread(p, decay), gradient)
        mean = fma(get(m, i, n), spread(p, keep1), gradient * new1)
        square = fma(get(v, i, n), spread(p, keep2), gradient * gradient * new2)
        put(m, i, n, mean)
        put(v, i, n, square)
        step = mean / fma(sqrt(square), scale, least)
        put(p, i, n, theta * shrink - step * rate)


@njit(**_SUMMING)
def _squares(x, sums, first, last):
    for block in range(first, last):
        part, total = x[block * BLOCK : (block + 1) * BLOCK], 0.0
        for i in range(part.size):
            number = np.float64(part[i])
            total += number * number
        sums[block] = total


@njit(**_OPTIONS)
def _rescale(x, factor, first, last):
    width = lanes(x)
    for i in range(first * width, last * width, width):
        n = x.size - i
        put(x, i, n, get(x, i, n) * factor)


# -------------------------------------------------------------------------------------------------------- from Python
def _squaring(dtype: Any) -> threads.Kernel:
    read, sums = types.Array(from_dtype(dtype), 1, "C", readonly=True), types.Array(types.float64, 1, "C")
    return threads.Kernel(_squares, (read, sums, types.intp, types.intp))


_adams = kernels(_adam, "WRWW" + 9 * "N" + "SS")
_squarings = {dtype: _squaring(dtype) for dtype in DTYPES}
_rescales = kernels(_rescale, "WNSS")


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    step: int,
) -> None:
    """See `reference.adam`."""
    arrays = p, g, m, v
    if p.dtype not in DTYPES or any(x.dtype != p.dtype or not x.flags.c_contiguous for x in arrays):
        reference.adam(p, g, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, step)
        return
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    rate, unbias = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    settings = rate, beta1, 1 - beta1, beta2, 1 - beta2, unbias, eps, shrink, decay
    _adams[p.dtype](0.3 * p.size, _vectors(p), *[x.reshape(-1) for x in arrays], *settings)


def sum_of_squares(x: Array) -> float:
    """See `reference.sum_of_squares`."""
    if x.dtype not in DTYPES:
        return reference.sum_of_squares(x)
    sums = np.zeros(-(-x.size // BLOCK))
    if x.size:
        _squarings[x.dtype](0.1 * x.size, len(sums), np.ascontiguousarray(x).reshape(-1), sums)
    return float(sums.sum())


def rescale(x: Array, factor: float) -> None:
    """See `reference.rescale`."""
    if x.dtype in DTYPES and x.flags.c_contiguous:
        _rescales[x.dtype](0.06 * x.size, _vectors(x), x.reshape(-1), factor)
    else:
        reference.rescale(x, factor)


def _vectors(x: Array) -> int:
    """How many vectors it takes to read `x`."""
    return -(-x.nbytes // VECTOR)
