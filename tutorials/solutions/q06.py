"""Solution of exercise q06."""

import numpy as np


def products(B, T, D, H, K):
    """Four matrices, then scores (T, K) (K, T) and sums (T, T) (T, K) in every head of every text."""
    return 4 * 2 * B * T * D * H * K + 2 * 2 * B * H * T * T * K


def circle(n):
    """Vectors of length 1: the product is the cosine of the angle between them, 1 only with itself."""
    angle = 2 * np.pi * np.arange(n) / n
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points, points
