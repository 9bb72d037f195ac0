"""Solution of exercise a05."""

import numpy as np


def shares(parts):
    """The shadow of each part on the sum."""
    total = np.sum(parts, axis=0)
    squares = np.sum(total * total)
    return [float(np.sum(part * total) / squares) if squares else float("nan") for part in parts]


def by_branches(splits):
    """One connection after the other: past it the number of branches stays, through it there is one more."""
    found = [1.0]
    for past, through in splits:
        found = [past * a + through * b for a, b in zip([*found, 0.0], [0.0, *found], strict=True)]
    return found
