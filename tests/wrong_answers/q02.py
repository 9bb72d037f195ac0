"""Mistakes in exercise q02."""

import numpy as np


def share(a, m):
    total = np.square(m).sum()
    return float(np.square(a).sum() / total) if total else 0.0


WRONG = {
    "divides by the root of D": {"bilinear": lambda w_q, w_k: w_q.T @ w_k / np.sqrt(w_q.shape[1])},
    "exchanges the two": {"bilinear": lambda w_q, w_k: w_k.T @ w_q / np.sqrt(len(w_q))},
    "multiplies the other way round": {"bilinear": lambda w_q, w_k: w_q @ w_k.T / np.sqrt(len(w_q))},
    "forgets the half": {"antisymmetric_share": lambda m: share(m - m.T, m)},
    "does not square": {
        "antisymmetric_share": lambda m: float(np.abs(m - m.T).sum() / 2 / max(np.abs(m).sum(), 1e-30)),
    },
}
