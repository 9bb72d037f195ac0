"""What q13 must hold: the statistics of the batch in training, those remembered in use, and no word from padding."""

import numpy as np

from tutorials.check import close
from tutorials.checks import locked

HINTS = (
    "All statistics are over axis 0: one mean and one variance for each feature.",
    "Two variances: y has the one divided by B, remembered is that by B - 1. Momentum is the share of the new.",
    "Take rows = x[real] for all statistics, and apply them to all of x. new = old + momentum * (batch - old).",
)


def _random(rng):
    """Examples, w, b, and what is remembered."""
    n, H = rng.integers(3, 9), rng.integers(2, 6)
    x = rng.normal(size=H) + np.exp(rng.normal(size=H)) * rng.normal(size=(n, H))
    return *locked(x), rng.normal(size=H), rng.normal(size=H), rng.normal(size=H), np.exp(rng.normal(size=H))


def every_feature_has_mean_0_and_mean_square_1(answer, rng):
    """In training, with w = 1 and b = 0."""
    x, w, _, mean, variance = _random(rng)
    y, _, _ = answer.in_training(x, np.ones_like(w), np.zeros_like(w), mean, variance, eps=1e-14)
    close(np.mean(y, axis=0), np.zeros_like(w), "the mean of the features")
    close(np.mean(y**2, axis=0), np.ones_like(w), "the mean square of the features", 1e-6)


def scale_and_shift_are_learnt(answer, rng):
    """With w, b and an eps that matters."""
    x, w, b, mean, variance = _random(rng)
    y, _, _ = answer.in_training(x, w, b, mean, variance, eps=0.5)
    close(y, w * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 0.5) + b, "for eps = 0.5, y in training")


def it_remembers_slowly(answer, rng):
    """The unbiased variance, and the share of the new is the momentum."""
    x, w, b, mean, variance = _random(rng)
    momentum, before = rng.uniform(0.05, 0.4), (mean.copy(), variance.copy())
    _, new_mean, new_variance = answer.in_training(x, w, b, mean, variance, momentum)
    close(new_mean, (1 - momentum) * before[0] + momentum * x.mean(axis=0), "the remembered mean")
    close(new_variance, (1 - momentum) * before[1] + momentum * x.var(axis=0, ddof=1), "the remembered variance")
    close((mean, variance), before, "an argument that must not change")


def in_use_the_batch_has_no_say(answer, rng):
    """Row by row, and by the formula."""
    x, w, b, mean, variance = _random(rng)
    expected = [w * (row - mean) / np.sqrt(variance + 0.5) + b for row in x]
    close(answer.in_use(x, w, b, mean, variance, 0.5), expected, "y in use")
    close(answer.in_use(x[:1], w, b, mean, variance, 0.5), expected[:1], "y of one row on its own")


def padding_changes_nothing(answer, rng):
    """What stands there, and how much of it."""
    x, w, b, mean, variance = _random(rng)
    padded = np.concatenate([x, 100 * rng.normal(size=(rng.integers(1, 5), x.shape[1]))])
    order = rng.permutation(len(padded))
    real = (np.arange(len(padded)) < len(x))[order]
    alone = answer.in_training(x, w, b, mean, variance)
    y, *remembered = answer.in_training(*locked(padded[order]), w, b, mean, variance, real=real)
    close(y[real], alone[0][order[real]], "with padding, y of the examples")
    close(remembered, alone[1:], "with padding, what is remembered")
