"""Solution of exercise q13."""

import numpy as np


def in_training(x, w, b, mean, variance, momentum=0.1, eps=1e-5, real=None):
    """Statistics of the real rows, for all rows."""
    rows = x if real is None else x[real]
    mu, sigma2, n = rows.mean(axis=0), rows.var(axis=0), len(rows)
    y = in_use(x, w, b, mu, sigma2, eps)
    return y, mean + momentum * (mu - mean), variance + momentum * (sigma2 * n / (n - 1) - variance)


def in_use(x, w, b, mean, variance, eps=1e-5):
    """The formula, with given statistics."""
    return w * (x - mean) / np.sqrt(variance + eps) + b
