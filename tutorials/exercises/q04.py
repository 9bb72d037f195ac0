"""Question 4: the gradient of a softmax, and how much to scale scores.

`softmax_gradient` must not build the Jacobian, an S x S matrix for every row: it is never needed.
`scale` generalises 1/sqrt(d_k): which number makes the scores of variance 1, if queries and keys are not of variance 1?
"""

import numpy as np


def softmax_gradient(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """From weights p = softmax(s) and g = dL/dp to dL/ds, row by row; all are (..., S)."""
    raise NotImplementedError


def scale(d_k: int, std_q: float, std_k: float) -> float:
    """The c > 0 with which c q.k has variance 1: q and k of size d_k, independent, of mean 0 and these deviations."""
    raise NotImplementedError
