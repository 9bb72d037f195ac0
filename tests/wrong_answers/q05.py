"""Mistakes in exercise q05."""

import numpy as np

from tutorials.solutions import q05


def softmax(scores):
    with np.errstate(invalid="ignore"):
        e = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)


def masks_after_the_softmax(scores, mask):
    return softmax(scores) * mask


def without_the_largest(scores, mask):
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(scores) * mask
    return e / np.maximum(e.sum(axis=-1, keepdims=True), 1e-30)


def mean_over_all_places(log_p, labels, pad_id):
    chosen = -np.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
    return float((chosen * (labels != pad_id)).mean())


def mean_of_means(log_p, labels, pad_id):
    chosen, real = -np.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0], labels != pad_id
    return float(((chosen * real).sum(axis=1) / np.maximum(real.sum(axis=1), 1)).mean())


def shifted(scores, mask, largest):
    """Without a loss for rows that have no key, but with some other number taken off."""
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.where(mask, np.exp(np.where(mask, scores, -np.inf) - largest), 0)
        total = e.sum(axis=-1, keepdims=True)
        return (e / np.where(total > 0, total, 1)).astype(scores.dtype)


def largest_of_all(scores, mask):
    """The largest legal score of all rows."""
    return np.where(mask, scores, -np.inf).max()


WRONG = {
    "adds -1e9": {
        "masked_softmax": lambda scores, mask: softmax(scores + np.where(mask, 0, -1e9).astype(scores.dtype))
    },
    "fills with -inf": {"masked_softmax": lambda scores, mask: softmax(np.where(mask, scores, -np.inf))},
    "masks after the softmax": {"masked_softmax": masks_after_the_softmax},
    "does not take off the largest score": {"masked_softmax": without_the_largest},
    "divides by all places": {"masked_loss": mean_over_all_places},
    "takes the mean of the sentences' means": {"masked_loss": mean_of_means},
    "takes off nothing": {"masked_softmax": lambda scores, mask: shifted(scores, mask, 0)},
    "one largest score for all rows": {"masked_softmax": lambda s, mask: shifted(s, mask, largest_of_all(s, mask))},
    "always float64": {"masked_softmax": lambda s, mask: q05.masked_softmax(s, mask).astype(float)},
    "padding is always 0": {"masked_loss": lambda log_p, labels, pad_id: q05.masked_loss(log_p, labels, 0)},
}
