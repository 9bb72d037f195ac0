"""Wrong answers to q14."""

import numpy as np

from tutorials.solutions.q14 import weights


def without_activation(x, W1, b1, W2, b2):
    """Two linear maps, which are one."""
    return (x @ W1 + b1) @ W2 + b2


def activation_at_the_end(x, W1, b1, W2, b2):
    """The ReLU once more where there is none."""
    return np.maximum(0, np.maximum(0, x @ W1 + b1) @ W2 + b2)


def without_bias(table):
    """A unit is on as soon as one of its two words is there."""
    W1, b1, W2, b2 = weights(table)
    return W1, 0 * b1, W2, b2


def batches_only(x, W1, b1, W2, b2):
    """Counts on three dimensions."""
    B, T, D = x.shape
    return (np.maximum(0, x.reshape(B * T, D) @ W1 + b1) @ W2 + b2).reshape(B, T, -1)


def leaks(x, W1, b1, W2, b2):
    """A hundredth of what is below 0 is left."""
    hidden = x @ W1 + b1
    return np.where(hidden > 0, hidden, 0.01 * hidden) @ W2 + b2


WRONG = {
    "no activation": {"feed_forward": without_activation},
    "an activation too many": {"feed_forward": activation_at_the_end},
    "OR in place of AND": {"weights": without_bias},
    "batches only": {"feed_forward": batches_only},
    "leaks": {"feed_forward": leaks},
    "the table transposed": {"weights": lambda table: weights(table.T)},
}
