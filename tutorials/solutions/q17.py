"""Solution of exercise q17."""

import numpy as np


def critical_path(needs):
    """One longer than the longest chain of those that an operation waits for."""
    length = []
    for parents in needs:
        length.append(1 + max((length[parent] for parent in parents), default=0))
    return max(length, default=0)


def jacobi(f, guess):
    """Each call makes at least one more word right, so that n are enough."""
    y, calls, settled = np.asarray(guess), 0, False
    while not settled and calls < len(y):
        before, y, calls = y, f(y), calls + 1
        settled = np.array_equal(before, y)
    return y, calls
