"""Solution of exercise q14."""

import numpy as np


def feed_forward(x, W1, b1, W2, b2):
    """The formula; numpy does the same at every place by itself."""
    return np.maximum(0, x @ W1 + b1) @ W2 + b2


def weights(table):
    """A hidden unit for every pair (a, b): 1 + 1 - 1 = 1 if both are there, 0 if one is, and then max(0, -1) = 0."""
    V = len(table)
    a, b = np.divmod(np.arange(V * V), V)  # the pair of each unit
    W1 = np.concatenate([np.eye(V)[:, a], np.eye(V)[:, b]])  # (2V, V^2)
    W2 = np.eye(V)[np.asarray(table)[a, b]]  # (V^2, V)
    return W1, -np.ones(V * V), W2, np.zeros(V)
