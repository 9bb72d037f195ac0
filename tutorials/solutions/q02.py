"""Question 2: what the two matrices make together, and how much of it one matrix could not."""

import numpy as np


def bilinear(w_q: np.ndarray, w_k: np.ndarray) -> np.ndarray:
    """(w_q x_i)^T (w_k x_j) = x_i^T (w_q^T w_k) x_j."""
    return w_q.T @ w_k / np.sqrt(len(w_q))


def antisymmetric_share(m: np.ndarray) -> float:
    """A = (M - M^T) / 2."""
    total = np.square(m).sum()
    return float(np.square((m - m.T) / 2).sum() / total) if total > 0 else 0.0
