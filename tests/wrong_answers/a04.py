"""Engine 4: mistakes that people make."""

import numpy as np

from tutorials.solutions import a04


def whole_blocks_only(a, b, size, multiply):
    """Leaves out what does not fill a block."""
    c = np.zeros((len(a), b.shape[1]), a.dtype)
    for i in range(0, len(a) - size + 1, size):
        for k in range(0, len(b) - size + 1, size):
            for j in range(0, b.shape[1] - size + 1, size):
                c[i : i + size, j : j + size] += multiply(a[i : i + size, k : k + size], b[k : k + size, j : j + size])
    return c


def only_the_last(a, b, size, multiply):
    """Writes where it should add."""
    c = np.zeros((len(a), b.shape[1]), a.dtype)
    for i in range(0, len(a), size):
        for k in range(0, len(b), size):
            for j in range(0, b.shape[1], size):
                c[i : i + size, j : j + size] = multiply(a[i : i + size, k : k + size], b[k : k + size, j : j + size])
    return c


def not_begun(a, b, size, multiply):
    """Begins with the first block, and so with nothing where there is none."""
    rows = []
    for i in range(0, len(a), size):
        for k in range(0, len(b), size):
            part = [multiply(a[i : i + size, k : k + size], b[k : k + size, j : j + size]) for j in _steps(b, size)]
            rows.append(np.hstack(part)) if k == 0 else np.add(rows[-1], np.hstack(part), out=rows[-1])
    return np.vstack(rows)


def _steps(b, size):
    return range(0, b.shape[1], size)


def float64(a, b, size, multiply):
    """Adds up in NumPy's usual dtype."""
    c = np.zeros((len(a), b.shape[1]))
    for i in range(0, len(a), size):
        for k in range(0, len(b), size):
            for j in _steps(b, size):
                c[i : i + size, j : j + size] += multiply(a[i : i + size, k : k + size], b[k : k + size, j : j + size])
    return c


WRONG = {
    "whole blocks only": {"in_blocks": whole_blocks_only},
    "writes where it should add": {"in_blocks": only_the_last},
    "nothing to begin with": {"in_blocks": not_begun},
    "another dtype": {"in_blocks": float64},
    "one large block": {"in_blocks": lambda a, b, size, multiply: multiply(a, b)},
    "multiplies itself": {"in_blocks": lambda a, b, size, multiply: a @ b},
    "counts an FMA as one": {"intensity": lambda rows, columns, size: rows * columns / (size * (rows + columns))},
    "fetches the tile": {"intensity": lambda rows, columns, size: 2 / size},
    "the dtype of B": {"in_blocks": lambda a, b, *rest: a04.in_blocks(a, b, *rest).astype(b.dtype)},
    "always 4 bytes": {"intensity": lambda rows, columns, size: a04.intensity(rows, columns, 4)},
}
