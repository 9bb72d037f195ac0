"""What the kernels of `measure` compute, in NumPy."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def statistics(x: Array) -> tuple[float, float, float, float, int, int]:
    """Of the finite elements the smallest, the largest, the sum, the sum of squares and the zeros; the others' number.

    >>> statistics(np.array([3.0, 0.0, -4.0, np.nan]))
    (-4.0, 3.0, -1.0, 25.0, 1, 1)
    """
    finite = np.isfinite(x)
    inside = np.where(finite, x, 0).astype(np.float64)
    with np.errstate(over="ignore"):
        squares = float(np.vdot(inside, inside))
    least, most = np.min(x, where=finite, initial=np.inf), np.max(x, where=finite, initial=-np.inf)
    zeros, others = np.count_nonzero(x == 0), x.size - np.count_nonzero(finite)
    return float(least), float(most), float(inside.sum()), squares, int(zeros), int(others)


def products(x: Array, y: Array) -> tuple[float, float]:
    """sum_i x_i^2 and sum_i x_i y_i

    >>> products(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    (5.0, 11.0)
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    with np.errstate(all="ignore"):
        return float(np.vdot(x, x)), float(np.vdot(x, y))
