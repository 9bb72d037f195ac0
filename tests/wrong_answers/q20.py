"""Wrong answers to q20."""

import numpy as np

from tutorials.solutions import q20


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


def measured(change=None, differ=lambda a, b: (a != b).any(axis=1)):
    """The measurement, with a change and a comparison of one's own."""

    def depends(function, x, rng):
        before, found = function(x), []
        for s in range(len(x)):
            other = x.copy()
            other[s] = change(x[s], rng) if change else rng.normal(size=x.shape[1])
            found.append(differ(function(other), before))
        return np.array(found).T

    return {"depends": depends}


def in_place(masks, residual=True):
    """The skip is written into the masks."""
    for mask in masks if residual else ():
        mask |= np.eye(len(mask), dtype=bool)
    return q20.reach(masks, residual)


WRONG = {
    "forgets the skip": {"reach": forgets_the_skip},
    "layers the wrong way round": {"reach": wrong_way_round},
    "one layer at most": {"reach": any_layer},
    "a tolerance": {"depends": tolerant},
    "transposed": {"depends": transposed},
    "changes entry 0 only": measured(lambda row, rng: [rng.normal(), *row[1:]]),
    "changes the last entry only": measured(lambda row, rng: [*row[:-1], rng.normal()]),
    "shifts the row": measured(lambda row, rng: row + rng.normal()),
    "doubles the row": measured(lambda row, rng: 2 * row),
    "compares column 0": measured(differ=lambda a, b: a[:, 0] != b[:, 0]),
    "compares sums": measured(differ=lambda a, b: a.sum(axis=1) != b.sum(axis=1)),
    "all columns must differ": measured(differ=lambda a, b: (a != b).all(axis=1)),
    "in place": {"reach": in_place},
}
