"""Question 1: multi-head attention of a text with itself."""

import numpy as np


def multi_head_attention(
    x: np.ndarray, w_q: np.ndarray, w_k: np.ndarray, w_v: np.ndarray, w_o: np.ndarray, heads: int
) -> np.ndarray:
    """Heads are one more dimension, which matmul goes over by itself."""
    B, T, D = x.shape

    def split(y: np.ndarray) -> np.ndarray:
        return y.reshape(B, T, heads, D // heads).swapaxes(1, 2)  # (B, H, T, K)

    q, k, v = split(x @ w_q), split(x @ w_k), split(x @ w_v)
    scores = q @ k.swapaxes(2, 3) / np.sqrt(D // heads)  # (B, H, T, T)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    z = (weights @ v).swapaxes(1, 2).reshape(B, T, D)
    return z @ w_o
