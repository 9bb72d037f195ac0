"""Solution of exercise q10."""

import numpy as np


def rows(T, c):
    """The distance, clipped, and counted from -c on."""
    distance = np.arange(T)[None, :] - np.arange(T)[:, None]  # j - i
    return np.clip(distance, -c, c) + c


def turn(x, places):
    """(a, b) becomes (a cos - b sin, a sin + b cos)."""
    x, places = np.asarray(x, float), np.asarray(places)
    K = x.shape[1]
    angles = places[:, None] * 10000.0 ** (-np.arange(0, K, 2) / K)  # (T, K/2)
    a, b = x[:, 0::2], x[:, 1::2]
    result = np.empty_like(x)
    result[:, 0::2] = a * np.cos(angles) - b * np.sin(angles)
    result[:, 1::2] = a * np.sin(angles) + b * np.cos(angles)
    return result
