"""What q11 must hold: the spread of tokens, and a gradient that is split by the number of branches on its way."""

import itertools

import numpy as np

from tutorials.check import close, expect

HINTS = (
    "Keep one vector for every count. Walk from the top to the bottom, one residual connection after the other.",
    "A gradient g at x + f(x) becomes g (count stays) plus J^T g (count grows by one) at x. Not J g.",
    "new[k] = old[k] + J.T @ old[k - 1], for the branches in reversed order, starting from [g, 0, ..., 0].",
)


def _stack(rng):
    """Random branches, and a gradient at the top."""
    D, M = rng.integers(2, 5), rng.integers(2, 6)
    return list(rng.normal(size=(M, D, D))), rng.normal(size=D)


def equal_tokens_have_no_spread(answer, rng):
    """Texts may differ from each other."""
    B, T, D = rng.integers(2, 5, size=3)
    x = np.repeat(rng.normal(size=(B, 1, D)), T, axis=1)
    close(answer.spread(x), 0.0, "for texts of equal tokens, spread")


def the_spread_is_relative(answer, rng):
    """Tokens that sum to 0 have spread 1, whatever their size; a mean on top of them makes it smaller."""
    B, D = rng.integers(1, 4), rng.integers(2, 6)
    half = rng.normal(size=(B, 3, D))
    x = 10.0 ** rng.integers(-3, 4) * np.concatenate([half, -half], axis=1)
    close(answer.spread(x), 1.0, "for tokens with mean 0, spread")
    size = np.linalg.norm(x) / np.sqrt(x.size)
    close(answer.spread(x + size), 0.5**0.5, "with a mean as large as the differences, spread")


def there_is_one_part_for_each_count(answer, rng):
    """From none to all branches."""
    jacobians, g = _stack(rng)
    found = len(answer.crossings(jacobians, g))
    expect(found == len(jacobians) + 1, f"{len(jacobians)} branches give {found} parts, expected {len(jacobians) + 1}")


def the_parts_sum_to_the_gradient(answer, rng):
    """By the chain rule."""
    jacobians, g = _stack(rng)
    whole = g
    for J in reversed(jacobians):
        whole = whole + J.T @ whole
    close(sum(answer.crossings(jacobians, g)), whole, "the sum of the parts")


def each_part_is_the_sum_over_its_ways(answer, rng):
    """Way by way."""
    jacobians, g = _stack(rng)
    for k, part in enumerate(answer.crossings(jacobians, g)):
        expected = np.zeros_like(g)
        for chosen in itertools.combinations(jacobians, k):
            way = g
            for J in reversed(chosen):
                way = J.T @ way
            expected = expected + way
        close(part, expected, f"the part that crosses {k} branches")
