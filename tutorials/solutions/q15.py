"""Solution of exercise q15."""

import numpy as np


def cross_attention(x, memory, w_q, w_k, w_v):
    """Only the queries are made of x."""
    return _weights(x, memory, w_q, w_k) @ (memory @ w_v)


def ways_into_memory(x, memory, w_q, w_k, w_v, g):
    """Values: weights^T g. Keys: through the softmax, whose rows send back p * (h - sum p h)."""
    p = _weights(x, memory, w_q, w_k)  # (T, S)
    h = g @ (memory @ w_v).T  # at the weights, (T, S)
    scores = p * (h - (p * h).sum(axis=1, keepdims=True))
    keys = scores.T @ (x @ w_q) / np.sqrt(w_q.shape[1])  # (S, K)
    return keys @ w_k.T, p.T @ g @ w_v.T


def _weights(x, memory, w_q, w_k):
    """How much each target place takes of each source place, (T, S)."""
    scores = (x @ w_q) @ (memory @ w_k).T / np.sqrt(w_q.shape[1])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
