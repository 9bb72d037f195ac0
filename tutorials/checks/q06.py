"""What q06 must hold: the number of operations, and that every query finds its key."""

import numpy as np

import minigrad as mg
import minitransformer as mt
from tutorials.check import expect

HINTS = (
    "A product of (M, K) and (K, N) costs 2 M K N. Six products are needed, four of them with a matrix of parameters.",
    "In each of B H heads: scores are (T, K) times (K, T), and the sums of values (T, T) times (T, K).",
    "circle: vectors of length 1 at n different angles. The cosine of the angle between two is 1 only if it is 0.",
)


def it_counts_what_the_library_does(answer, rng):
    """A recording of the library's attention."""
    B, T, D, H, K = map(int, rng.integers(1, 7, size=5))
    attention, x = mt.MultiHeadAttention(D, H, head_dim=K), mg.randn(B, T, D)
    with mg.record(attention, detail="definition") as rec:
        attention(x, x, x)
    expected = sum(step.flops for step in rec.steps if step.kind == "matmul")
    found = answer.products(B, T, D, H, K)
    expect(found == expected, f"B={B}, T={T}, D={D}, H={H}, K={K}: {found} operations, expected {expected}")


def every_query_finds_its_key(answer, rng):
    """The largest product of query i is that with key i, and no other is as large."""
    n = int(rng.integers(2, 40))
    q, k = (np.asarray(x, float) for x in answer.circle(n))
    expect(q.shape == k.shape == (n, 2), f"queries and keys have shapes {q.shape} and {k.shape}, expected ({n}, 2)")
    scores = q @ k.T
    rivals = np.where(np.eye(n, dtype=bool), -np.inf, scores)
    for i in range(n):
        j = int(rivals[i].argmax())
        message = f"n = {n}: query {i} scores {scores[i, i]:.4f} with its key, and {scores[i, j]:.4f} with key {j}"
        expect(scores[i, i] > rivals[i, j] + 1e-9, message)
