"""What q02 must hold: scores are those of the two matrices, and one matrix makes symmetric ones."""

import numpy as np

from tutorials.check import close, expect

HINTS = (
    "Write q_i . k_j as (w_q x_i)^T (w_k x_j), and move the brackets. For the share: S = (M + M^T) / 2.",
    "M = w_q^T w_k / sqrt(K), where K is the number of rows. A is what is left of M without S.",
    "A = (M - M^T) / 2, and then np.square(A).sum() / np.square(M).sum(), but for M = 0.",
)


def _matrices(rng):
    K, D = (int(n) for n in rng.choice(np.arange(2, 9), 2, replace=False))
    return rng.standard_normal((K, D)), rng.standard_normal((K, D))


def scores_are_those_of_queries_and_keys(answer, rng):
    """x M x^T, for a whole text."""
    w_q, w_k = _matrices(rng)
    x = rng.standard_normal((5, w_q.shape[1]))
    m = answer.bilinear(w_q, w_k)
    expect(np.shape(m) == (w_q.shape[1],) * 2, f"M has shape {np.shape(m)}, expected {(w_q.shape[1],) * 2}")
    close(x @ m @ x.T, (x @ w_q.T) @ (x @ w_k.T).T / np.sqrt(len(w_q)), "the score")


def one_matrix_is_symmetric_and_not_negative(answer, rng):
    """Who looks is looked at, and nobody has a negative score with themselves."""
    w, _ = _matrices(rng)
    m = answer.bilinear(w, w)
    close(answer.antisymmetric_share(m), 0.0, "the antisymmetric share with one matrix")
    least = np.linalg.eigvalsh(m)[0]
    expect(least > -1e-9, f"an eigenvalue is {least:.3g}, expected none below 0")


def the_share_is_that_of_the_parts(answer, rng):
    """Made of parts whose sizes are known."""
    b = rng.standard_normal((int(rng.integers(2, 8)),) * 2)
    s, a = b + b.T, rng.uniform(0.1, 3) * (b - b.T)
    expected = np.square(a).sum() / (np.square(a).sum() + np.square(s).sum())
    close(answer.antisymmetric_share(s + a), expected, "the share")
    close(answer.antisymmetric_share(a), 1.0, "the share of an antisymmetric matrix")


def the_share_of_nothing_is_0(answer, rng):
    """No NaN."""
    close(answer.antisymmetric_share(np.zeros((3, 3))), 0.0, "the share of a matrix of zeros")
