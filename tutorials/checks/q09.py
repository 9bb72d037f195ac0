"""What q09 must hold: the formula, and a shift that is the same rotation at every place."""

import math

import numpy as np

from tutorials.check import close

HINTS = (
    "One clock is two neighbouring entries, sine first. Start with D = 2: one angle, and a matrix of four numbers.",
    "sin(a + b) = sin a cos b + cos a sin b and cos(a + b) = cos a cos b - sin a sin b, with a = p w and b = k w.",
    "The block of clock i, rows and columns 2i and 2i + 1, is [[cos b, sin b], [-sin b, cos b]], b = k / 10000^(2i/D).",
)


def _size(rng):
    """An even size."""
    return 2 * int(rng.integers(1, 9))


def it_is_the_formula(answer, rng):
    """Entry by entry."""
    D, places = _size(rng), rng.integers(0, 500, size=int(rng.integers(1, 6)))
    expected = np.empty((len(places), D))
    for (t, n), _ in np.ndenumerate(expected):
        angle = places[t] / 10000 ** ((n - n % 2) / D)
        expected[t, n] = math.cos(angle) if n % 2 else math.sin(angle)
    close(answer.positions(places, D), expected, f"with D = {D} and places {places.tolist()}, the position")


def a_shift_is_the_rotation(answer, rng):
    """To the right and to the left, at any place."""
    D, places, k = _size(rng), rng.integers(50, 500, size=4), int(rng.integers(-40, 40))
    turned = answer.positions(places, D) @ np.asarray(answer.rotation(k, D)).T
    close(turned, answer.positions(places + k, D), f"with D = {D} and k = {k}, R_k PE(p)")


def two_shifts_are_one(answer, rng):
    """R_a R_b = R_(a + b), and the transpose turns back."""
    D, a, b = _size(rng), int(rng.integers(-40, 40)), int(rng.integers(-40, 40))
    close(answer.rotation(a, D) @ answer.rotation(b, D), answer.rotation(a + b, D), f"R_{a} R_{b}")
    close(np.transpose(answer.rotation(a, D)), answer.rotation(-a, D), f"the transpose of R_{a}")
