"""Wrong answers to q11."""

import numpy as np


def over_everything(x):
    """The mean over all texts."""
    return np.linalg.norm(x - x.mean(axis=(0, 1))) / np.linalg.norm(x)


def absolute(x):
    """Not divided by the size."""
    return np.linalg.norm(x - x.mean(axis=1, keepdims=True))


def forwards(jacobians, g):
    """J in place of its transpose."""
    parts = [g] + [np.zeros_like(g)] * len(jacobians)
    for J in reversed(jacobians):
        through = [0 * g] + [J @ part for part in parts[:-1]]
        parts = [past + crossed for past, crossed in zip(parts, through, strict=True)]
    return parts


def bottom_first(jacobians, g):
    """The branches in the wrong order."""
    parts = [g] + [np.zeros_like(g)] * len(jacobians)
    for J in jacobians:
        through = [0 * g] + [J.T @ part for part in parts[:-1]]
        parts = [past + crossed for past, crossed in zip(parts, through, strict=True)]
    return parts


def no_skips(jacobians, g):
    """Only the way through everything."""
    way = g
    for J in reversed(jacobians):
        way = J.T @ way
    return [0 * g] * len(jacobians) + [way]


WRONG = {
    "a mean over all texts": {"spread": over_everything},
    "not relative": {"spread": absolute},
    "not transposed": {"crossings": forwards},
    "the wrong order": {"crossings": bottom_first},
    "only through all branches": {"crossings": no_skips},
}
