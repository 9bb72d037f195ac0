"""What a05 must hold: accounts that sum to 1, and agree with those of the engine."""

from itertools import product
from math import prod

import numpy as np

import minigrad as mg
from tutorials.check import close, expect
from tutorials.checks import locked

HINTS = (
    "np.sum(part * total) is <part, total>, for arrays of any shape. Sum the parts first; look whether that is 0.",
    "A connection turns a list p into two: past it, times the first share; through it, times the second, one place on.",
    "new[k] = past * p[k] + through * p[k - 1], where what is outside of the list is 0. Begin with [1.0].",
)


def _parts(rng):
    """A few arrays of one random shape."""
    shape = tuple(rng.integers(1, 5, size=rng.integers(1, 4)))
    return locked(*(rng.normal(size=shape) for _ in range(rng.integers(2, 6))))


def shares_sum_to_one(answer, rng):
    """They are an account, of small gradients, too."""
    parts = _parts(rng)
    found = answer.shares(parts)
    expect(isinstance(found, list), f"shares() returned a {type(found).__name__}, expected a list")
    close(sum(found), 1.0, f"the sum of the shares of {len(parts)} parts", 1e-6)
    close(answer.shares([1e-9 * part for part in parts]), found, "the shares of parts a billion times smaller", 1e-6)


def what_goes_across_has_no_share(answer, rng):
    """And what goes against the sum has a negative one."""
    g = rng.normal(size=2)
    across = np.array([-g[1], g[0]])
    close(answer.shares([g - across, across]), [1.0, 0.0], "the shares of g - a and a, a perpendicular to g,")
    for total in (g, np.array([1.0, -1.0, 0.0])):  # the entries of the second sum to 0, and one is 0
        found = answer.shares([3 * total, -2 * total])
        close(found, [3.0, -2.0], f"for g = {total.round(2)}, the shares of 3g and -2g")


def of_a_sum_that_is_zero_there_are_none(answer, rng):
    """0 / 0 is not a number."""
    g = rng.integers(1, 9, size=3).astype(float)
    found = answer.shares([g, -g])
    expect(np.isnan(found).all(), f"the parts g and -g have the shares {list(found)}, expected NaN")


def they_are_those_of_the_engine(answer, rng):
    """x is used by several products, each of which sends back what it is multiplied by."""
    parts = _parts(rng)
    x = mg.tensor(rng.normal(size=parts[0].shape), requires_grad=True)
    with mg.record() as rec:
        sum(x * part for part in parts).backward(np.ones(x.shape))
    expected = [edge.share for edge in rec["leaf"].uses]
    close(answer.shares(parts), expected, "the shares")


def routes_are_counted_by_their_branches(answer, rng):
    """Against all 2^n routes, one by one."""
    close(answer.by_branches([]), [1.0], "without connections, the share by branches")
    splits = [(1 - share, share) for share in rng.normal(size=rng.integers(1, 8))]
    expected = np.zeros(len(splits) + 1)
    for route in product((0, 1), repeat=len(splits)):
        expected[sum(route)] += prod(split[choice] for split, choice in zip(splits, route, strict=True))
    close(answer.by_branches(splits), expected, f"for {len(splits)} connections, the share by branches")


def a_deep_stack_is_no_problem(answer, rng):
    """200 connections have 2^200 routes. With equal shares everywhere the account is that of tossed coins."""
    depth, through = 200, rng.uniform(0.2, 0.8)
    found = np.asarray(answer.by_branches([(1 - through, through)] * depth))
    close(found.sum(), 1.0, "of 200 connections, the sum of all shares")
    close(found @ np.arange(depth + 1), depth * through, "of 200 connections, the mean number of branches", 1e-6)
