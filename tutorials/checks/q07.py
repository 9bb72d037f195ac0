"""What q07 must hold: the order of the parts of a layer, and the reach of a stack."""

import numpy as np

from tutorials.check import close
from tutorials.checks import locked

HINTS = (
    "The FFN reads what the first norm gave, not x; and its skip starts there, too.",
    "No layer: each place sees itself. One more layer: it sees all that those see whom it may attend to.",
    "seen = eye; then, for each layer, seen = seen | (mask @ seen > 0), with integers in the product.",
)


def _linear(rng, T, D):
    """A random linear map on each token, with a bias."""
    w, b = rng.normal(size=(D, D)), rng.normal(size=D)
    return lambda x: x @ w + b


def it_is_the_formula(answer, rng):
    """With random maps as parts."""
    T, D = rng.integers(2, 6, size=2)
    (x,) = locked(rng.normal(size=(T, D)))
    attention, ffn, norm = (_linear(rng, T, D) for _ in range(3))
    y = norm(x + attention(x))
    close(answer.encoder_layer(x, attention, ffn, norm), norm(y + ffn(y)), "the layer")


def no_layer_reaches_only_itself(answer, rng):
    """Whatever the mask."""
    T = rng.integers(2, 7)
    close(answer.reach(rng.random((T, T)) < 0.5, 0), np.eye(T), "the reach of no layer")


def neighbours_reach_one_place_more_by_each_layer(answer, rng):
    """A band grows."""
    T, N = rng.integers(3, 9), rng.integers(1, 5)
    distance = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
    close(answer.reach(*locked(distance <= 1), N), distance <= N, f"the reach of {N} layers of neighbours")


def rows_are_places_and_columns_tokens(answer, rng):
    """Each place looks at the one before only; by the skip it also keeps itself."""
    T, N = rng.integers(3, 9), rng.integers(1, 5)
    back = np.subtract.outer(np.arange(T), np.arange(T))
    close(answer.reach(back == 1, N), (back >= 0) & (back <= N), f"the reach of {N} layers that look one place back")
