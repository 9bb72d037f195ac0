"""Question 2: what the two matrices make together, and how much of it one matrix could not."""

import numpy as np


def bilinear(w_q: np.ndarray, w_k: np.ndarray) -> np.ndarray:
    """The matrix M (D, D) with x_i^T M x_j = q_i . k_j / sqrt(K) for all x_i, x_j (D,).

    w_q, w_k: (K, D), with q_i = w_q x_i and k_j = w_k x_j.
    """
    raise NotImplementedError


def antisymmetric_share(m: np.ndarray) -> float:
    """|A|^2 / |M|^2, where M = S + A is a sum of a symmetric S and an antisymmetric A = -A^T, and |M|^2 = sum M_ij^2.

    0 for M = 0.
    """
    raise NotImplementedError
