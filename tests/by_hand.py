"""Attention written out number by number in NumPy, for comparison with anything that is faster."""

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def attention(
    score: Callable[[int, int, int, int], float],
    v: Array,
    mask: Array,
    value: Callable[[int, int, int, int], Array] | None = None,
) -> Array:
    """z[b, h, t] = sum over s of alpha value(b, h, t, s); alpha is the softmax of score(b, h, t, s) over legal keys.

    v (B, H, S, K) holds the values where no function gives them; the mask broadcasts to (B, H, T, S).
    """
    B, H, S, K = v.shape
    T = mask.shape[2]
    mask = np.broadcast_to(mask, (B, H, T, S))
    z = np.zeros((B, H, T, K))
    for b, h, t in np.ndindex(B, H, T):
        legal = [s for s in range(S) if mask[b, h, t, s]]
        weights = np.exp([score(b, h, t, s) for s in legal])
        for s, weight in zip(legal, weights, strict=True):
            z[b, h, t] += weight / weights.sum() * (v[b, h, s] if value is None else value(b, h, t, s))
    return z
