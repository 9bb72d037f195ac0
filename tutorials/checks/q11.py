"""What q11 must hold: the spread of tokens, and a gradient that is split by the number of branches on its way."""

import itertools

import numpy as np

from tutorials.check import close, expect
from tutorials.checks import locked

HINTS = (
    "Keep one vector for every count. Walk from the top to the bottom, one residual connection after the other.",
    "A gradient g at x + f(x) becomes g (count stays) plus J^T g (count grows by one) at x. Not J g.",
    "new[k] = old[k] + J.T @ old[k - 1], for the branches in reversed order, starting from [g, 0, ..., 0].",
)


def _stack(rng):
    """Random branches, and a gradient at the top."""
    D, M = rng.integers(2, 5), rng.integers(2, 6)
    return locked(*rng.normal(size=(M, D, D))), *locked(rng.normal(size=D))


def equal_tokens_have_no_spread(answer, rng):
    """Texts may differ from each other."""
    B, T, D = rng.integers(2, 5, size=3)
    (x,) = locked(np.repeat(rng.normal(size=(B, 1, D)), T, axis=1))
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


class _Counted(np.ndarray):
    """A matrix that counts how often it, or its transpose, is multiplied by a vector."""

    products = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **settings):
        """Count, and go on with plain arrays."""
        _Counted.products += ufunc is np.matmul
        return getattr(ufunc, method)(*map(np.asarray, inputs), **settings)


def ways_are_not_walked_one_by_one(answer, rng):
    """M branches have 2^M ways, and need fewer than M^2 products with J^T if ways of one count are walked together."""
    M = int(rng.integers(7, 10))
    _Counted.products = 0
    answer.crossings([J.view(_Counted) for J in rng.normal(size=(M, 2, 2))], rng.normal(size=2))
    expect(_Counted.products <= 2**M, f"{_Counted.products} matrix products for {M} branches, which have {2**M} ways")
