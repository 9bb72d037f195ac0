"""Wrong answers to q12."""

import numpy as np

from tutorials.solutions import q12


def over_the_batch(x, w, b, eps=1e-5):
    """Batch normalisation."""
    tokens = tuple(range(x.ndim - 1))
    return w * (x - x.mean(axis=tokens)) / np.sqrt(x.var(axis=tokens) + eps) + b


def unbiased(x, w, b, eps=1e-5):
    """Divided by D - 1."""
    return w * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, ddof=1, keepdims=True) + eps) + b


def eps_outside(x, w, b, eps=1e-5):
    """The constant added to the root."""
    return w * (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + eps) + b


def constants(x, w, gradient, eps=1e-5):
    """Mean and variance taken as constants."""
    _, of_w, of_b = q12.layer_norm_way_back(x, w, gradient, eps)
    return gradient * w / np.sqrt(x.var(-1, keepdims=True) + eps), of_w, of_b


def w_left_out(x, w, gradient, eps=1e-5):
    """The gradient of y taken for that of x_hat."""
    _, of_w, of_b = q12.layer_norm_way_back(x, w, gradient, eps)
    return q12.layer_norm_way_back(x, np.ones_like(w), gradient, eps)[0], of_w, of_b


def mean_over_tokens(x, w, gradient, eps=1e-5):
    """The mean for w and b in place of the sum."""
    of_x, of_w, of_b = q12.layer_norm_way_back(x, w, gradient, eps)
    n = x.size / x.shape[-1]
    return of_x, of_w / n, of_b / n


def sums_over_the_first(x, w, gradient, eps=1e-5):
    """Right for (T, D) only."""
    of_x, hat = q12.layer_norm_way_back(x, w, gradient, eps)[0], q12.layer_norm(x, 1, 0, eps)
    return of_x, (gradient * hat).sum(axis=0), gradient.sum(axis=0)


WRONG = {
    "over the batch": {"layer_norm": over_the_batch},
    "divided by D - 1": {"layer_norm": unbiased},
    "eps outside of the root": {"layer_norm": eps_outside},
    "mean and variance as constants": {"layer_norm_way_back": constants},
    "w left out": {"layer_norm_way_back": w_left_out},
    "means for w and b": {"layer_norm_way_back": mean_over_tokens},
    "sums over axis 0": {"layer_norm_way_back": sums_over_the_first},
    "forgets eps": {"layer_norm_way_back": lambda x, w, gradient, eps=1e-5: q12.layer_norm_way_back(x, w, gradient)},
}
