"""Wrong answers to q16."""

import numpy as np

from tutorials.solutions import q16


def softmax(x):
    """Of the last dimension."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def after_softmax(scores):
    """The future stands in the denominator."""
    return softmax(scores) * np.tri(scores.shape[-1])


def renormalised(scores):
    """Masked afterwards and divided again: right but for rounding, and for huge scores."""
    masked = softmax(scores) * np.tri(scores.shape[-1])
    return masked / np.maximum(masked.sum(axis=-1, keepdims=True), 1e-300)


def masked(scores):
    """-inf for later keys."""
    return np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)


def plain_softmax(s):
    """As it is written down."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.exp(s) / np.exp(s).sum(axis=-1, keepdims=True)


def floats(text, begin, end):
    """Tokens with a decimal point."""
    column = np.ones((len(text), 1))
    return np.hstack([begin * column, text]), np.hstack([text, end * column])


WRONG = {
    "mask after softmax": {"weights": after_softmax},
    "divided again": {"weights": renormalised},
    "off by one": {"weights": lambda s: softmax(np.where(np.tri(s.shape[-1], k=1, dtype=bool), s, -np.inf))},
    "transposed": {"weights": lambda s: softmax(np.where(np.tri(s.shape[-1], dtype=bool).T, s, -np.inf))},
    "no shift": {
        "inputs_and_labels": lambda text, begin, end: (np.pad(text, ((0, 0), (1, 0)), constant_values=begin),) * 2
    },
    "subtracts nothing": {"weights": lambda s: plain_softmax(masked(s))},
    "subtracts the largest score of all": {"weights": lambda s: plain_softmax(masked(s) - masked(s).max())},
    "begin and end are always 1 and 2": {
        "inputs_and_labels": lambda text, begin, end: q16.inputs_and_labels(text, 1, 2)
    },
    "floats": {"inputs_and_labels": floats},
}
