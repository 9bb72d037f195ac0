"""Question 2: the one matrix that comes nearest to what two make together.

With two matrices the scores are x_i^T M x_j, M = W_Q^T W_K; with one they are x_i^T W^T W x_j. Symmetric tables have
real eigenvalues and perpendicular eigenvectors: `np.linalg.eigh`.
"""

import numpy as np


def nearest(m: np.ndarray, head_dim: int) -> np.ndarray:
    """The W (head_dim, D) for which the squares of m - W^T W have the smallest sum; m is (D, D), head_dim <= D."""
    raise NotImplementedError


def out_of_reach(w_q: np.ndarray, w_k: np.ndarray) -> float:
    """Which share of the squares of M = w_q^T w_k no single matrix can make, not even one of D rows.

    w_q, w_k: (K, D), not 0.
    """
    raise NotImplementedError
