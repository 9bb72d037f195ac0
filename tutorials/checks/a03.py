"""What a03 must hold: logarithms of probabilities, for scores of any size, and their derivative."""

import numpy as np

from tutorials.check import close
from tutorials.checks import locked

HINTS = (
    "ln(e^x / Z) = x - ln Z. The logarithm of a softmax that has become 0 is -inf: do not take the way through it.",
    "Subtract the largest score first; it cancels. For the way back: d(ln Z)/dx_j = e^(x_j) / Z = y_j.",
    "dz_i/dx_j is (1 if i == j else 0) - y_j. Multiply by g_i and sum over i; y = np.exp(z).",
)


def _random(rng):
    """Scores and a cotangent, of a random shape."""
    shape = tuple(rng.integers(2, 6, size=rng.integers(1, 4)))
    return locked(2 * rng.normal(size=shape), rng.normal(size=shape))


def it_is_the_logarithm_of_the_softmax(answer, rng):
    """By the definition, for scores of moderate size."""
    x, _ = _random(rng)
    y = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
    close(answer.log_softmax(x), np.log(y), f"for scores of shape {x.shape}, log_softmax")


def large_scores_are_no_problem(answer, rng):
    """A shift cancels, and a score far below the others has a logarithm all the same."""
    x, _ = _random(rng)
    found, expected = answer.log_softmax(np.stack([x, x + 1000.0])), answer.log_softmax(x)
    close(found, [expected, expected], "for rows of scores and the same ones 1,000 higher, log_softmax", 1e-8)
    far = np.array([0.0, -1000.0 - rng.integers(100)])
    close(answer.log_softmax(far), far, f"for the scores {far.tolist()}, log_softmax")


def the_way_back_is_the_derivative(answer, rng):
    """With a random cotangent, against differences of its own values."""
    x, g = _random(rng)
    expected = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-5
        expected[place] = np.sum(g * (answer.log_softmax(x + step) - answer.log_softmax(x - step))) / 2e-5
    found = answer.log_softmax_way_back(*locked(answer.log_softmax(x)), g)
    close(found, expected, f"for scores of shape {x.shape}, the gradient", 1e-6)
