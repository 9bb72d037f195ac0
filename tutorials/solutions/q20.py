"""Solution of exercise q20."""

import numpy as np


def reach(masks, residual=True):
    """One layer after the other: t sees s if t sees some u, and u saw s before."""
    T = len(masks[0])
    seen = np.eye(T, dtype=bool)
    for mask in masks:
        step = mask | np.eye(T, dtype=bool) if residual else mask
        seen = step @ seen
    return seen


def depends(function, x, rng):
    """Change one row at a time, and compare bit by bit."""
    before, found = function(x), []
    for s in range(len(x)):
        other = x.copy()
        other[s] = rng.normal(size=x.shape[1])
        found.append((function(other) != before).any(axis=1))
    return np.array(found).T
