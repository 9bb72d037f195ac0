"""Wrong answers to q20."""

import numpy as np


def forgets_the_skip(masks, residual=True):
    """Masks multiplied, and nothing else."""
    seen = np.eye(len(masks[0]), dtype=bool)
    for mask in masks:
        seen = mask @ seen
    return seen


def wrong_way_round(masks, residual=True):
    """The later layer on the right."""
    seen = np.eye(len(masks[0]), dtype=bool)
    for mask in masks:
        seen = seen @ (mask | np.eye(len(mask), dtype=bool) if residual else mask)
    return seen


def any_layer(masks, residual=True):
    """What any single layer lets through: nothing goes by way of a third place."""
    return np.any(masks, axis=0) | (np.eye(len(masks[0]), dtype=bool) & residual)


def tolerant(function, x, rng):
    """Differences below a tolerance do not count."""
    before, found = function(x), []
    for s in range(len(x)):
        other = x.copy()
        other[s] = rng.normal(size=x.shape[1])
        found.append((np.abs(function(other) - before) > 1e-6).any(axis=1))
    return np.array(found).T


def transposed(function, x, rng):
    """Rows and columns exchanged."""
    before, found = function(x), []
    for s in range(len(x)):
        other = x.copy()
        other[s] = rng.normal(size=x.shape[1])
        found.append((function(other) != before).any(axis=1))
    return np.array(found)


WRONG = {
    "forgets the skip": {"reach": forgets_the_skip},
    "layers the wrong way round": {"reach": wrong_way_round},
    "one layer at most": {"reach": any_layer},
    "a tolerance": {"depends": tolerant},
    "transposed": {"depends": transposed},
}
