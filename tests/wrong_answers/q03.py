"""Question 3: mistakes that people make."""

import numpy as np

from tutorials.solutions import q03

WRONG = {
    "makes the large array": {
        "additive_scores": lambda q, k, w, u, v: np.tanh((q @ w.T)[:, None] + k @ u.T) @ v,
    },
    "one matrix for both": {
        "additive_scores": lambda q, k, w, u, v: sum(
            v[a] * np.tanh((q @ w[a])[:, None] + k @ w[a]) for a in range(len(v))
        ),
    },
    "the weight inside the tanh": {
        "additive_scores": lambda q, k, w, u, v: sum(
            np.tanh(v[a] * ((q @ w[a])[:, None] + k @ u[a])) for a in range(len(v))
        ),
    },
    "lets negative weights cancel": {"bound": lambda v: float(np.abs(v.sum()))},
    "the length of v": {"bound": lambda v: float(np.linalg.norm(v))},
    "a bound that is too large": {"bound": lambda v: float(len(v) * np.abs(v).max()) + 1},
    "the mean of the hidden numbers": {
        "additive_scores": lambda q, k, w, u, v: q03.additive_scores(q, k, w, u, v) / len(v)
    },
    "in place": {"additive_scores": lambda q, k, w, u, v: q03.additive_scores(np.multiply(q, 1, out=q), k, w, u, v)},
    "positive weights only": {"bound": lambda v: float(v.clip(0).sum())},
}
