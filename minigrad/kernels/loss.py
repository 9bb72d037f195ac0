"""Cross-entropy, row by row: the loss and its gradient in one visit.

A row passes through the cache three times: its maximum; the exponentials, with their sum; and, where a gradient is
wanted, the exponentials made into p - t. Neither p nor log p is kept: of a row of V logits there remain one loss and
the V numbers that the way back will send on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from . import reference, threads
from .pieces import empty, get, line, put
from .rows import peak, scores
from .simd import exp_down, fma, lanes, spread, total, where
from .simd import first as these

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def _cross_entropy(x, target, ignored, classes, smoothing, scale, losses, d, first, last):
    width, with_gradient, zero = lanes(x), d.size > 0, spread(x, 0)
    for i in range(first, last):
        row, end = i * classes, (i + 1) * classes
        if target[i] == ignored:
            losses[i] = 0
            for j in range(row, end if with_gradient else row, width):
                put(d, j, end - j, zero)
            continue
        m = peak(x, row, end)
        sum_x, sum_e = zero, zero  # of x - m and of e^(x - m)
        for j in range(row, end, width):
            n = end - j
            shifted = scores(x, j, n) - m
            e = exp_down(shifted)
            sum_x = sum_x + (shifted if n >= width else where(these(shifted, n), shifted, zero))
            sum_e = sum_e + e
            if with_gradient:
                put(d, j, n, e)
        sum_of_e = total(sum_e)
        log_of_sum = math.log(sum_of_e)
        log_p = x[row + target[i]] - m - log_of_sum
        loss = (smoothing - 1) * log_p
        if smoothing > 0:  # else the sum does not count, not even where some x is -inf
            loss -= smoothing * (total(sum_x) / classes - log_of_sum)
        losses[i] = loss
        if with_gradient:
            factor, shift = spread(x, scale / sum_of_e), spread(x, -scale * smoothing / classes)
            for j in range(row, end, width):
                put(d, j, end - j, fma(get(d, j, end - j), factor, shift))
            d[row + target[i]] -= scale * (1 - smoothing)


def _kernel(dtype: Any) -> threads.Kernel:
    number, whole = from_dtype(np.dtype(dtype)), types.intp
    x, target = types.Array(number, 1, "C", readonly=True), types.Array(types.int64, 1, "C", readonly=True)
    out = types.Array(number, 1, "C")
    signature = (x, target, types.int64, whole, number, number, out, out, whole, whole)
    return threads.Kernel(_cross_entropy, signature)


_kernels = {np.dtype(dtype): _kernel(dtype) for dtype in (np.float32, np.float64)}


def cross_entropy(
    x: Array, target: Array, ignore_index: int, label_smoothing: float, scale: float, with_gradient: bool
) -> tuple[Array, Array | None]:
    """See `reference.cross_entropy`."""
    kernel = _kernels.get(x.dtype)
    if kernel is None:
        return reference.cross_entropy(x, target, ignore_index, label_smoothing, scale, with_gradient)
    rows, classes = x.shape
    losses = np.empty(rows, x.dtype)
    d = empty((rows, classes) if with_gradient else (0, 0), x.dtype)
    if rows:
        x, target = line(x), np.ascontiguousarray(target, np.int64)
        settings = ignore_index, classes, label_smoothing, scale
        kernel(0.35 * x.size + 20 * rows, rows, x, target, *settings, losses, d.reshape(-1))
    return losses, d if with_gradient else None
