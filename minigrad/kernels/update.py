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
from .simd import fma, lanes, load_some, spread, sqrt, store_some

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
_SUMMING: Any = _OPTIONS | {"fastmath": {"contract", "reassoc"}}
BLOCK = 4096  # elements that one thread squares and adds up, however many threads there are


@njit(**_OPTIONS)
def _adam(p, g, m, v, rate, keep1, new1, keep2, new2, unbias, eps, shrink, decay, first, last):
    width = lanes(p)
    old1, old2, scale, least = spread(p, keep1), spread(p, keep2), spread(p, unbias), spread(p, eps)
    for i in range(first, last, width):
        n = last - i
        theta, gradient = load_some(p, i, n), load_some(g, i, n)
        if decay != 0:
            gradient = fma(theta, spread(p, decay), gradient)
        mean = fma(load_some(m, i, n), old1, gradient * new1)
        square = fma(load_some(v, i, n), old2, gradient * gradient * new2)
        store_some(m, i, n, mean)
        store_some(v, i, n, square)
        step = mean / fma(sqrt(square), scale, least)
        store_some(p, i, n, theta * shrink - step * rate)


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
    for i in range(first, last, lanes(x)):
        store_some(x, i, last - i, load_some(x, i, last - i) * factor)


# -------------------------------------------------------------------------------------------------------- from Python
def _kernels(dtype: Any) -> tuple[threads.Kernel, threads.Kernel, threads.Kernel]:
    number, bounds = from_dtype(np.dtype(dtype)), (types.intp, types.intp)
    read, write = types.Array(number, 1, "C", readonly=True), types.Array(number, 1, "C")
    sums = types.Array(types.float64, 1, "C")
    return (
        threads.Kernel(_adam, (write, read, write, write, *[number] * 9, *bounds)),
        threads.Kernel(_squares, (read, sums, *bounds)),
        threads.Kernel(_rescale, (write, number, *bounds)),
    )


_of = {np.dtype(dtype): _kernels(dtype) for dtype in (np.float32, np.float64)}


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
    if p.dtype not in _of or any(x.dtype != p.dtype or not x.flags.c_contiguous for x in arrays):
        reference.adam(p, g, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, step)
        return
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    rate, unbias = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    settings = rate, beta1, 1 - beta1, beta2, 1 - beta2, unbias, eps, shrink, decay
    _of[p.dtype][0](0.3 * p.size, p.size, *[x.reshape(-1) for x in arrays], *settings)


def sum_of_squares(x: Array) -> float:
    """See `reference.sum_of_squares`."""
    if x.dtype not in _of:
        return reference.sum_of_squares(x)
    sums = np.zeros(-(-x.size // BLOCK))
    if x.size:
        _of[x.dtype][1](0.1 * x.size, len(sums), np.ascontiguousarray(x).reshape(-1), sums)
    return float(sums.sum())


def rescale(x: Array, factor: float) -> None:
    """See `reference.rescale`."""
    if x.dtype in _of and x.flags.c_contiguous:
        _of[x.dtype][2](0.1 * x.size, x.size, x.reshape(-1), factor)
    else:
        reference.rescale(x, factor)
