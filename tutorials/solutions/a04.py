"""Engine 4: a product in blocks, for matrices of any size, and the intensity of a tile."""

from collections.abc import Callable

import numpy as np


def in_blocks(a: np.ndarray, b: np.ndarray, size: int, multiply: Callable) -> np.ndarray:
    """A slice ends where its array ends, so the last blocks are smaller by themselves."""
    c = np.zeros((len(a), b.shape[1]), a.dtype)
    for i in range(0, len(a), size):
        for k in range(0, len(b), size):
            for j in range(0, b.shape[1], size):
                c[i : i + size, j : j + size] += multiply(a[i : i + size, k : k + size], b[k : k + size, j : j + size])
    return c


def intensity(rows: int, columns: int, size: int) -> float:
    """An FMA for each number of the tile; a column of A and a row of B."""
    return 2 * rows * columns / (size * (rows + columns))
