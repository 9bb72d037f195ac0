"""Engine 4: a product in blocks, for matrices of any size, and the intensity of a tile.

`multiply(x, y)` is the product of small matrices, as a machine might have it: it takes at most `size` rows, columns and
steps of the sum at a time. Put the product of large ones together from such, also where `size` does not divide them.
"""

from collections.abc import Callable

import numpy as np


def in_blocks(a: np.ndarray, b: np.ndarray, size: int, multiply: Callable) -> np.ndarray:
    """C = A B in the dtype of A, (M, N), by `multiply` alone; a is (M, K), b (K, N); any of the sizes may be 0."""
    raise NotImplementedError


def intensity(rows: int, columns: int, size: int) -> float:
    """FLOP per byte of a tile of C, (rows, columns), in registers: what one step of k does, and what it fetches.

    size: bytes in a number. An FMA is 2 FLOP.
    """
    raise NotImplementedError
