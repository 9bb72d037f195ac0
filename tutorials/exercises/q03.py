"""Question 3: additive scores without the large array, and how large they can become.

The formula, written down in NumPy, makes an array of T x S x A numbers, only to sum it up at once. Do not: at no time
may there be more than a few arrays of T x S numbers, and the sizes of the inputs.
"""

import numpy as np


def additive_scores(q: np.ndarray, k: np.ndarray, w: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Scores v . tanh(W q + U k) of all pairs, (T, S); q is (T, K), k (S, K), w and u (A, K), v (A)."""
    raise NotImplementedError


def bound(v: np.ndarray) -> float:
    """The smallest number that no score v . tanh(...) exceeds, whatever the queries and keys are; v is (A)."""
    raise NotImplementedError
