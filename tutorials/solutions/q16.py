"""Solution of exercise q16."""

import numpy as np


def weights(scores):
    """First the mask, then everything else: e^(-inf) is 0, in the sum as well."""
    hidden = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)
    e = np.exp(hidden - hidden.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def inputs_and_labels(text, begin, end):
    """The label of each place is the input of the next one."""
    column = np.ones((len(text), 1), int)
    return np.concatenate([begin * column, text], axis=1), np.concatenate([text, end * column], axis=1)
