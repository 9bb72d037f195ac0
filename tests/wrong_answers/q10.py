"""Wrong answers to q10."""

import numpy as np

from tutorials.solutions.q10 import rows, turn


def in_halves(x, places):
    """Entry n is paired with n + K/2, not with its neighbour: many libraries have it so, but not this exercise."""
    K = x.shape[1]
    order = np.arange(K).reshape(2, K // 2).T.ravel()
    result = np.empty_like(x)
    result[:, order] = turn(x[:, order], places)
    return result


def added(x, places):
    """The sines are added to the vectors, as the first Transformer does."""
    K = x.shape[1]
    angles = places[:, None] * 10000.0 ** (-np.arange(0, K, 2) / K)
    return x + np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(x.shape)


def cut_from_a_band(T, c):
    """Only if the band fits in."""
    band = np.concatenate([np.zeros(T - c, int), np.arange(2 * c + 1), np.full(T - c, 2 * c)])
    return np.stack([band[T - i : 2 * T - i] for i in range(T)])


WRONG = {
    "query minus key": {"rows": lambda T, c: rows(T, c).T},
    "not clipped": {"rows": lambda T, c: np.arange(T)[None, :] - np.arange(T)[:, None] + c},
    "far keys have no row": {"rows": lambda T, c: (np.arange(T)[None, :] - np.arange(T)[:, None] + c) % (2 * c + 1)},
    "in halves": {"turn": in_halves},
    "added, not turned": {"turn": added},
    "turns the wrong way": {"turn": lambda x, places: turn(x, -places)},
    "far keys only": {"rows": cut_from_a_band},
    "floats": {"rows": lambda T, c: rows(T, c).astype(float)},
    "always from place 0": {"turn": lambda x, places: turn(x, np.arange(len(x)))},
}
