"""What a recording wants to know of an array: extrema, sums, zeros, and whether all is finite, at the speed of memory.

Blocks are summed one by one, always the same ones: the result does not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from . import reference, threads
from .pieces import DTYPES, get, line
from .simd import greatest, lanes, maximum, spread

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
_SUMMING: Any = _OPTIONS | {"fastmath": {"contract", "reassoc"}}
BLOCK = 4096  # elements, which stay in the cache while they are looked at three times
SUM, SQUARES, ZEROS, LEAST, MOST = range(5)


@njit(**_SUMMING)
def _sums(part):
    total, squares, zeros = 0.0, 0.0, 0
    for i in range(part.size):
        number = np.float64(part[i])
        total += number
        squares += number * number
        zeros += part[i] == 0
    return total, squares, zeros


@njit(**_OPTIONS)
def _measure(x, found, first, last):
    width = lanes(x)
    for block in range(first, last):
        part = x[block * BLOCK : (block + 1) * BLOCK]
        found[block, SUM], found[block, SQUARES], found[block, ZEROS] = _sums(part)
        low, high = spread(x, -part[0]), spread(x, part[0])  # the largest of -x and of x
        for i in range(0, part.size - width + 1, width):
            vector = get(part, i, width)
            low, high = maximum(low, -vector), maximum(high, vector)
        least, most = -greatest(low), greatest(high)
        for i in range(part.size // width * width, part.size):
            least, most = min(least, part[i]), max(most, part[i])
        found[block, LEAST], found[block, MOST] = least, most


@njit(**_SUMMING)
def _products(x, y, found, first, last):
    for block in range(first, last):
        here, there = x[block * BLOCK : (block + 1) * BLOCK], y[block * BLOCK : (block + 1) * BLOCK]
        squares, total = 0.0, 0.0
        for i in range(here.size):
            number = np.float64(here[i])
            squares += number * number
            total += number * np.float64(there[i])
        found[block, 0], found[block, 1] = squares, total


def _kernels(serial: Any, arrays: int) -> dict[Any, threads.Kernel]:
    made = {}
    for dtype in DTYPES:
        read, found = types.Array(from_dtype(dtype), 1, "C", readonly=True), types.Array(types.float64, 2, "C")
        made[dtype] = threads.Kernel(serial, (*[read] * arrays, found, types.intp, types.intp))
    return made


_statistics_of = _kernels(_measure, 1)
_products_of = _kernels(_products, 2)


def statistics(x: Array) -> tuple[float, float, float, float, int, int]:
    """See `reference.statistics`."""
    if x.dtype not in DTYPES or x.size == 0:
        return reference.statistics(x)
    found = np.empty((-(-x.size // BLOCK), 5))
    _statistics_of[x.dtype](0.25 * x.size, len(found), line(x), found)
    if len(found) > 1:
        total, squares, zeros = found[:, :LEAST].sum(axis=0).tolist()
        least, most = found[:, LEAST].min().item(), found[:, MOST].max().item()
    else:  # as for most parameters: NumPy's sums would take longer than the kernel
        total, squares, zeros, least, most = found[0].tolist()
    if not math.isfinite(squares):  # rare, and worth a second look
        return reference.statistics(x)
    return least, most, total, squares, int(zeros), 0


def products(x: Array, y: Array) -> tuple[float, float]:
    """See `reference.products`."""
    if x.dtype not in DTYPES or x.dtype != y.dtype or x.size == 0:
        return reference.products(x, y)
    found = np.empty((-(-x.size // BLOCK), 2))
    _products_of[x.dtype](0.2 * x.size, len(found), line(x), line(y), found)
    squares, total = (found[0] if len(found) == 1 else found.sum(axis=0)).tolist()
    return squares, total
