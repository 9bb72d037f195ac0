"""Mistakes in exercise q02."""

import numpy as np

from tutorials.solutions.q02 import nearest


def from_parts(roots, vectors):
    return np.sqrt(roots)[:, None] * vectors.T


def without_symmetric_part(m, head_dim):
    """eigh looks at the lower triangle only."""
    roots, vectors = np.linalg.eigh(m)
    return from_parts(roots[-head_dim:].clip(0), vectors[:, -head_dim:])


def smallest_first(m, head_dim):
    roots, vectors = np.linalg.eigh((m + m.T) / 2)
    return from_parts(roots[:head_dim].clip(0), vectors[:, :head_dim])


def turns_signs(m, head_dim):
    roots, vectors = np.linalg.eigh((m + m.T) / 2)
    return from_parts(abs(roots[-head_dim:]), vectors[:, -head_dim:])


def forgets_the_root(m, head_dim):
    roots, vectors = np.linalg.eigh((m + m.T) / 2)
    return roots[-head_dim:].clip(0)[:, None] * vectors[:, -head_dim:].T


def antisymmetric_only(w_q, w_k):
    m = w_q.T @ w_k
    return float(np.square(m - m.T).sum() / 4 / np.square(m).sum())


def lengths_not_squares(w_q, w_k):
    m = w_q.T @ w_k
    w = nearest(m, len(m))
    return float(np.linalg.norm(m - w.T @ w) / np.linalg.norm(m))


def largest_of_either_sign(m, head_dim):
    """Makes room for eigenvalues that it cannot have."""
    roots, vectors = np.linalg.eigh((m + m.T) / 2)
    kept = np.argsort(np.abs(roots))[-head_dim:]
    return np.sqrt(roots[kept].clip(0))[:, None] * vectors[:, kept].T


def rows_for_columns(m, head_dim):
    """Eigenvectors taken from the rows."""
    roots, vectors = np.linalg.eigh((m + m.T) / 2)
    return np.sqrt(roots[-head_dim:].clip(0))[:, None] * vectors[-head_dim:]


WRONG = {
    "forgets the symmetric part": {"nearest": without_symmetric_part},
    "keeps the smallest": {"nearest": smallest_first},
    "turns signs": {"nearest": turns_signs},
    "forgets the root": {"nearest": forgets_the_root},
    "antisymmetric part only": {"out_of_reach": antisymmetric_only},
    "lengths instead of squares": {"out_of_reach": lengths_not_squares},
    "the largest of either sign": {"nearest": largest_of_either_sign},
    "eigenvectors in rows": {"nearest": rows_for_columns},
}
