"""Question 4: the gradient of a softmax, and how much to scale scores."""

import math

import numpy as np


def softmax_gradient(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """J g with J = diag(p) - p p^T: p_i g_i - p_i (p.g)."""
    return p * (g - (p * g).sum(axis=-1, keepdims=True))


def scale(d_k: int, std_q: float, std_k: float) -> float:
    """Var(q.k) = d_k std_q^2 std_k^2."""
    return 1 / (math.sqrt(d_k) * std_q * std_k)
