"""Wrong answers to q13."""

import numpy as np

from tutorials.solutions import q13


def counts_padding(x, w, b, mean, variance, momentum=0.1, eps=1e-5, real=None):
    """All rows are examples."""
    return q13.in_training(x, w, b, mean, variance, momentum, eps)


def remembers_the_plain_variance(x, w, b, mean, variance, momentum=0.1, eps=1e-5, real=None):
    """Divided by n."""
    y, new_mean, _ = q13.in_training(x, w, b, mean, variance, momentum, eps, real)
    rows = x if real is None else x[real]
    return y, new_mean, variance + momentum * (rows.var(axis=0) - variance)


def momentum_of_the_old(x, w, b, mean, variance, momentum=0.1, eps=1e-5, real=None):
    """The share of what was, as in optimizers."""
    return q13.in_training(x, w, b, mean, variance, 1 - momentum, eps, real)


def over_the_features(x, w, b, mean, variance, momentum=0.1, eps=1e-5, real=None):
    """Layer normalisation."""
    _, *remembered = q13.in_training(x, w, b, mean, variance, momentum, eps, real)
    return w * (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + eps) + b, *remembered


def by_the_batch(x, w, b, mean, variance, eps=1e-5):
    """In use as in training."""
    return q13.in_training(x, w, b, mean, variance, eps=eps)[0]


def clears_padding(x, w, b, mean, variance, momentum=0.1, eps=1e-5, real=None):
    """Padding becomes 0, in x itself."""
    found = q13.in_training(x, w, b, mean, variance, momentum, eps, real)
    if real is not None:
        x[~real] = 0
    return found


def by_what_is_remembered(x, w, b, mean, variance, momentum=0.1, eps=1e-5, real=None):
    """In training as in use."""
    _, *remembered = q13.in_training(x, w, b, mean, variance, momentum, eps, real)
    return q13.in_use(x, w, b, *remembered, eps), *remembered


def always_a_tenth(x, w, b, mean, variance, momentum=0.1, eps=1e-5, real=None):
    """Momentum ignored."""
    return q13.in_training(x, w, b, mean, variance, 0.1, eps, real)


WRONG = {
    "padding counts": {"in_training": counts_padding},
    "remembers the plain variance": {"in_training": remembers_the_plain_variance},
    "momentum of the old": {"in_training": momentum_of_the_old},
    "over the features": {"in_training": over_the_features},
    "in use by the batch": {"in_use": np.errstate(all="ignore")(by_the_batch)},
    "changes the padding": {"in_training": clears_padding},
    "y by what is remembered": {"in_training": by_what_is_remembered},
    "momentum ignored": {"in_training": always_a_tenth},
}
