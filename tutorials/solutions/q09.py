"""Solution of exercise q09."""

import numpy as np


def positions(places, D):
    """Angles (T, D/2); their sines at the even places, their cosines at the odd ones."""
    angles = np.asarray(places)[:, None] / 10000 ** (np.arange(0, D, 2) / D)
    result = np.empty((len(angles), D))
    result[:, 0::2], result[:, 1::2] = np.sin(angles), np.cos(angles)
    return result


def rotation(k, D):
    """On the diagonal one block [[cos, sin], [-sin, cos]] for each clock."""
    angles = k / 10000 ** (np.arange(0, D, 2) / D)
    even, odd = np.arange(0, D, 2), np.arange(1, D, 2)
    R = np.zeros((D, D))
    R[even, even] = R[odd, odd] = np.cos(angles)
    R[even, odd], R[odd, even] = np.sin(angles), -np.sin(angles)
    return R
