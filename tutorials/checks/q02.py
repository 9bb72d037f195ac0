"""What q02 must hold: one matrix makes what it can, and what it cannot is antisymmetric or has eigenvalues below 0."""

import numpy as np

from tutorials.check import close, expect
from tutorials.checks import locked

HINTS = (
    "W^T W is symmetric, so only the symmetric part of m can be met. Which of its eigenvalues can W^T W have?",
    "Take the eigenvalues and eigenvectors of (m + m.T) / 2. Keep the head_dim largest eigenvalues; replace those < 0.",
    "The rows of W are the eigenvectors that were kept, times the roots of their eigenvalues, 0 for those below 0.",
)


def _random(rng, D):
    return locked(rng.standard_normal((D, D)))[0]


def what_one_matrix_made_is_met(answer, rng):
    """Exactly, if there are enough rows."""
    K, D = sorted(int(n) for n in rng.integers(2, 9, 2))
    made = rng.standard_normal((K, D))
    w = np.asarray(answer.nearest(made.T @ made, K))
    expect(w.shape == (K, D), f"W has shape {w.shape}, expected {(K, D)}")
    close(w.T @ w, made.T @ made, "W^T W")


def nothing_near_it_is_nearer(answer, rng):
    """Moved a little in any direction, W is worse, or at least no better."""
    D = int(rng.integers(3, 8))
    m, K = _random(rng, D), int(rng.integers(1, D + 1))
    w = np.asarray(answer.nearest(m, K))
    expect(w.shape == (K, D), f"W has shape {w.shape}, expected {(K, D)}")
    far = np.square(m - w.T @ w).sum()
    for _ in range(20):
        other = w + 10 ** rng.uniform(-3, 0) * rng.standard_normal(w.shape)
        distance = np.square(m - other.T @ other).sum()
        expect(distance > far - 1e-9, f"the squares of m - W^T W sum to {far:.6g}; with another W to {distance:.6g}")


def few_rows_keep_what_is_largest(answer, rng):
    """Of a symmetric table with known eigenvalues, K rows leave the smallest ones over, and a large one below 0."""
    D = int(rng.integers(3, 8))
    vectors, roots = np.linalg.qr(_random(rng, D))[0], np.array([-4, *np.sort(rng.uniform(0.5, 3, D - 1))])
    K = int(rng.integers(1, D))
    m = vectors * roots @ vectors.T
    w = np.asarray(answer.nearest(m, K))
    close(np.square(m - w.T @ w).sum(), np.square(roots[: D - K]).sum(), "the sum of the squares of m - W^T W")


def what_it_cannot_make_is_left_over(answer, rng):
    """Tables with three parts of known size: eigenvalues above 0 and below 0, and an antisymmetric one."""
    D = int(rng.integers(3, 8))
    vectors, roots = np.linalg.qr(_random(rng, D))[0], rng.normal(size=D)
    b = _random(rng, D)
    m = vectors * roots @ vectors.T + (b - b.T) * rng.uniform(0, 1)
    expected = 1 - np.square(roots.clip(0)).sum() / np.square(m).sum()
    close(answer.out_of_reach(np.eye(D), m), expected, "the share out of reach")
    w = rng.standard_normal((int(rng.integers(1, D)), D))
    close(answer.out_of_reach(w, w), 0.0, "the share out of reach of what one matrix made")
    close(answer.out_of_reach(w, -w), 1.0, "the share out of reach of -W^T W")
