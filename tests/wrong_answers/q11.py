"""Wrong answers to q11."""

import itertools

import numpy as np

from tutorials.solutions import q11


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


def way_by_way(jacobians, g):
    """Right, but 2^M ways are walked."""
    parts = [np.zeros_like(g) for _ in range(len(jacobians) + 1)]
    for chosen in itertools.product((False, True), repeat=len(jacobians)):
        way = g
        for J in itertools.compress(reversed(jacobians), chosen):
            way = J.T @ way
        parts[sum(chosen)] += way
    return parts


def in_place(x):
    """The mean is taken from x itself."""
    size = np.linalg.norm(x)
    x -= x.mean(axis=1, keepdims=True)
    return np.linalg.norm(x) / size


WRONG = {
    "a mean over all texts": {"spread": over_everything},
    "not relative": {"spread": absolute},
    "not transposed": {"crossings": forwards},
    "the wrong order": {"crossings": bottom_first},
    "only through all branches": {"crossings": no_skips},
    "way by way": {"crossings": way_by_way},
    "in place": {"spread": in_place},
    "a mean over the texts of their spreads": {"spread": lambda x: np.mean([q11.spread(text[None]) for text in x])},
}
