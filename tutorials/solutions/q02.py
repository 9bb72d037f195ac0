"""Question 2: the one matrix that comes nearest to what two make together."""

import numpy as np


def nearest(m: np.ndarray, head_dim: int) -> np.ndarray:
    """W^T W has eigenvalues >= 0, at most head_dim of them above 0: take the largest of the symmetric part."""
    roots, vectors = np.linalg.eigh((m + m.T) / 2)  # smallest first; vectors in columns
    return np.sqrt(roots[-head_dim:].clip(0))[:, None] * vectors[:, -head_dim:].T


def out_of_reach(w_q: np.ndarray, w_k: np.ndarray) -> float:
    """What is left of M without the nearest."""
    m = w_q.T @ w_k
    w = nearest(m, len(m))
    return float(np.square(m - w.T @ w).sum() / np.square(m).sum())
