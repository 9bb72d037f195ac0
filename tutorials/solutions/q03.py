"""Question 3: additive scores without the large array, and how large they can become."""

import numpy as np


def additive_scores(q: np.ndarray, k: np.ndarray, w: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """One of the A hidden numbers after the other, for all pairs at a time."""
    asked, offered = q @ w.T, k @ u.T  # (T, A) and (S, A)
    scores = np.zeros((len(q), len(k)))
    for a, weight in enumerate(v):
        scores += weight * np.tanh(asked[:, a, None] + offered[:, a])
    return scores


def bound(v: np.ndarray) -> float:
    """Each tanh is between -1 and 1; the largest score has the sign of v_a in each."""
    return float(np.abs(v).sum())
