"""What q10 must hold: distances that are clipped, and a turn after which only the distance counts."""

import math

import numpy as np

from tutorials.check import close, expect
from tutorials.checks import locked

HINTS = (
    "Subtract two arrays of places, one as a column and one as a row. For the turn, start with K = 2: one angle.",
    "Clip the distance j - i first, then add c. A turn by b takes (x_0, x_1) to (x_0 cos b - x_1 sin b, ...).",
    "rows: np.clip(j - i, -c, c) + c. turn: even entries are a cos b - b' sin b, odd ones a sin b + b' cos b, where a "
    "are the even entries of x, b' the odd ones, and b = place * 10000^(-2n / K).",
)


def rows_are_clipped_distances(answer, rng):
    """Cell by cell, for texts longer and shorter than the table."""
    few, many = int(rng.integers(1, 4)), int(rng.integers(4, 12))
    for T, c in ((many, few), (few, many)):
        found = np.asarray(answer.rows(T, c))
        expect(found.shape == (T, T), f"rows({T}, {c}) has shape {found.shape}, expected {(T, T)}")
        expect(found.dtype.kind == "i", f"rows({T}, {c}) is {found.dtype}, expected integers: numbers of rows")
        for (i, j), row in np.ndenumerate(found):
            expected = max(-c, min(c, j - i)) + c
            expect(row == expected, f"rows({T}, {c}): query {i} and key {j} take row {row}, expected {expected}")


def a_turn_is_the_formula(answer, rng):
    """Pair by pair."""
    T, K = int(rng.integers(1, 5)), 2 * int(rng.integers(1, 6))
    x, places = locked(rng.normal(size=(T, K)), rng.integers(0, 100, size=T))
    expected = np.empty((T, K))
    for t, n in np.ndindex(T, K // 2):
        pair, angle = complex(*x[t, 2 * n : 2 * n + 2]), places[t] * 10000 ** (-2 * n / K)
        turned = pair * complex(math.cos(angle), math.sin(angle))
        expected[t, 2 * n : 2 * n + 2] = turned.real, turned.imag
    close(answer.turn(x, places), expected, f"turn() with K = {K} and places {places.tolist()}")


def only_the_distance_counts(answer, rng):
    """Query and key moved together have the same product."""
    K, shift = 2 * int(rng.integers(2, 6)), int(rng.integers(1, 500))
    q, k, places = rng.normal(size=(3, K)), rng.normal(size=(3, K)), rng.integers(0, 100, size=3)
    before = np.asarray(answer.turn(q, places)) @ np.asarray(answer.turn(k, places)).T
    after = np.asarray(answer.turn(q, places + shift)) @ np.asarray(answer.turn(k, places + shift)).T
    close(after, before, f"with K = {K}, and all {shift} places later, q . k")
