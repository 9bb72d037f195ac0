"""What q14 must hold: the formula at every place, and a network that knows any table."""

import numpy as np

from tutorials.check import close
from tutorials.checks import locked

HINTS = (
    "A hidden unit that is on exactly if a = 3 AND b = 5 can be made of one entry of W1 for each, and a bias.",
    "With both weights 1 the sum is 2, 1 or 0. Which bias makes max(0, sum + bias) 1, 0 and 0?",
    "F = V * V: one unit for each pair, W1 is 1 at rows a and V + b, the bias is -1, and W2 is 1 at table[a, b].",
)


def _random(rng):
    """x (..., T, D), and four parameters."""
    D, F, E = rng.integers(2, 7, size=3)
    shapes = ((*rng.integers(2, 5, size=rng.integers(1, 4)), D), (D, F), F, (F, E), E)
    return locked(*(rng.normal(size=shape) for shape in shapes))


def it_is_the_formula(answer, rng):
    """Number by number."""
    x, W1, b1, W2, b2 = _random(rng)
    expected = np.empty((*x.shape[:-1], len(b2)))
    for place in np.ndindex(x.shape[:-1]):
        hidden = [max(0.0, sum(x[place] * W1[:, f]) + b1[f]) for f in range(len(b1))]
        expected[place] = [sum(hidden * W2[:, e]) + b2[e] for e in range(len(b2))]
    close(answer.feed_forward(x, W1, b1, W2, b2), expected, f"for x of shape {x.shape}, FFN(x)")


def places_do_not_matter(answer, rng):
    """Shuffled places, shuffled results."""
    x, *parameters = _random(rng)
    order = rng.permutation(x.shape[-2])
    y = answer.feed_forward(x, *parameters)
    close(answer.feed_forward(x[..., order, :], *parameters), y[..., order, :], "of shuffled places, FFN(x)")


def it_knows_the_table(answer, rng):
    """All V x V pairs of words, as places of one text."""
    V = int(rng.integers(2, 7))
    table = rng.integers(0, V, (V, V))
    a, b = np.divmod(np.arange(V * V), V)
    x = np.concatenate([np.eye(V)[a], np.eye(V)[b]], axis=1)  # (T, 2V)
    W1, b1, W2, b2 = answer.weights(table)
    found = np.maximum(0, x @ W1 + b1) @ W2 + b2
    close(found, np.eye(V)[table[a, b]], f"with V = {V}, FFN at place V a + b, answer")
