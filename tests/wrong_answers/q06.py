"""Wrong answers to q06."""

import numpy as np


def on_a_line(n):
    """The last key wins every time."""
    points = np.stack([np.arange(n) + 1.0, np.ones(n)], axis=1)
    return points, points


def half_a_circle_twice(n):
    """Goes round twice, so that two keys stand at one place."""
    angle = 4 * np.pi * (np.arange(n) // 2) / n
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points, points


WRONG = {
    "quadratic in the size of a head": {
        "products": lambda B, T, D, H, K: 8 * B * T * D * H * K + 4 * B * H * T * T * K * K,
    },
    "forgets the sums of values": {"products": lambda B, T, D, H, K: 8 * B * T * D * H * K + 2 * B * H * T * T * K},
    "keys on a line": {"circle": on_a_line},
    "two keys at one place": {"circle": half_a_circle_twice},
    "a batch counts once in the scores": {"products": lambda B, T, D, H, K: 8 * B * T * D * H * K + 4 * H * T * T * K},
    "D / H for K": {"products": lambda B, T, D, H, K: 8 * B * T * D * D + 4 * B * T * T * D},
}
