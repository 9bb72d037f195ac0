"""What q08 must hold: the factor on the way in only, and a gradient that is the sum of all uses."""

import numpy as np

from tutorials.check import close
from tutorials.checks import locked

HINTS = (
    "E[ids] gives rows for a whole array of tokens. Whatever scales values going in scales gradients going back.",
    "The output's part is a matrix product over all places. The input's part goes to the rows of the words.",
    "A word may occur several times: np.add.at(g, ids, ...) adds every time, g[ids] += ... only once.",
)


def _random(rng):
    """Tokens (B, T), x (B, T, D), E (V, D)."""
    B, T, D, V = map(int, rng.integers(2, 6, size=4))
    return rng.integers(0, V, (B, T)), *locked(rng.normal(size=(B, T, D)), rng.normal(size=(V, D)))


def words_are_scaled_going_in(answer, rng):
    """By sqrt(D)."""
    ids, _, E = _random(rng)
    expected = [[[value * E.shape[1] ** 0.5 for value in E[word]] for word in row] for row in ids]
    close(answer.embed(ids, E), expected, f"with D = {E.shape[1]}, embed(ids, E)")


def logits_are_not_scaled(answer, rng):
    """Products of x with the rows."""
    _, x, E = _random(rng)
    close(answer.logits(x, E), np.einsum("btd,vd->btv", x, E), f"with D = {E.shape[1]}, logits(x, E)")


def the_gradient_is_that_of_both_uses(answer, rng):
    """Against differences of the values."""
    ids, x, E = _random(rng)
    ids[:, 0] = ids[:, 1]  # a word that occurs twice
    g_embed, g_logits = locked(*(rng.normal(size=(*ids.shape, n)) for n in E.shape[::-1]))

    def loss(E):
        return np.sum(g_embed * answer.embed(ids, E)) + np.sum(g_logits * answer.logits(x, E))

    expected = np.zeros_like(E)
    for place in np.ndindex(E.shape):
        step = np.zeros_like(E)
        step[place] = 1e-4
        expected[place] = (loss(E + step) - loss(E - step)) / 2e-4
    close(answer.gradient(ids, g_embed, x, g_logits, E), expected, f"with tokens {ids.tolist()}, the gradient", 1e-6)
