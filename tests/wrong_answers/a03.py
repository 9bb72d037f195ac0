"""Wrong answers to a03."""

import numpy as np


def naive(x):
    """The formula as it stands."""
    return np.log(np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True))


def logarithm_of_zero(x):
    """A stable softmax, and then its logarithm."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.log(np.maximum(e / e.sum(axis=-1, keepdims=True), 1e-300))


def over_everything(x):
    """Sums over all dimensions."""
    return x - np.log(np.exp(x - x.max()).sum()) - x.max()


def of_the_softmax(z, g):
    """The way back of the softmax itself."""
    y = np.exp(z)
    return y * (g - (g * y).sum(axis=-1, keepdims=True))


def weighted(z, g):
    """The weighted mean in place of the sum: right for g = 1 only."""
    y = np.exp(z)
    return g - y * (g * y).sum(axis=-1, keepdims=True) * g.shape[-1]


def largest_of_all(x):
    """One number subtracted from all rows: rows far below it have the sum 0."""
    with np.errstate(divide="ignore"):
        return x - x.max() - np.log(np.exp(x - x.max()).sum(axis=-1, keepdims=True))


def in_place(x):
    """The scores are gone."""
    x -= x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


WRONG = {
    "the formula as it stands": {"log_softmax": np.errstate(all="ignore")(naive)},
    "leaves the logarithm": {"log_softmax": logarithm_of_zero},
    "sums over everything": {"log_softmax": over_everything},
    "the way back of the softmax": {"log_softmax_way_back": of_the_softmax},
    "a weighted mean": {"log_softmax_way_back": weighted},
    "the largest score of all rows": {"log_softmax": largest_of_all},
    "in place": {"log_softmax": in_place},
}
