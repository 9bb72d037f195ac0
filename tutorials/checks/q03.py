"""Question 3: what the answers are held to."""

import tracemalloc

import numpy as np

from tutorials.check import close, expect
from tutorials.checks import locked

HINTS = (
    "The sum over the A hidden numbers is what makes the array large. A sum may also be made term by term.",
    "W q and U k are small, (T, A) and (S, A): compute them once. For the bound: between what numbers is a tanh?",
    "For each a: scores += v[a] * tanh((W q)[:, a, None] + (U k)[:, a]). The bound sums what each term can reach.",
)


def _inputs(rng, T, S, K, A):
    shapes = (T, K), (S, K), (A, K), (A, K), (A,)
    return locked(*(rng.standard_normal(shape) for shape in shapes))


def _sizes(rng):
    return rng.integers(1, 7, 4)


def each_score_is_the_formula(answer, rng):
    """Pair by pair."""
    q, k, w, u, v = _inputs(rng, *_sizes(rng))
    expected = [[v @ np.tanh(w @ query + u @ key) for key in k] for query in q]
    close(answer.additive_scores(q, k, w, u, v), expected, "the score of (query, key)")


def the_large_array_is_never_there(answer, rng):
    """The peak of memory, for A = 64, is below a quarter of T x S x A numbers."""
    T, S, A = *(int(n) for n in rng.integers(40, 60, 2)), 64
    inputs = _inputs(rng, T, S, 8, A)
    answer.additive_scores(*inputs)  # what is only made at the first call does not count
    tracemalloc.start()
    answer.additive_scores(*inputs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    large = 8 * T * S * A
    expect(peak < large / 4, f"{peak:,} bytes at the peak; T x S x A = {T} x {S} x {A} numbers are {large:,}")


def no_score_exceeds_the_bound(answer, rng):
    """Also for huge queries and keys."""
    q, k, w, u, v = _inputs(rng, *_sizes(rng))
    scores, most = [v @ np.tanh(100 * (w @ query + u @ key)) for key in k for query in q], answer.bound(v)
    expect(
        max(scores) <= most + 1e-9, f"for v = {v.round(2)} there is a score {max(scores):.4g}; the bound is {most:.4g}"
    )


def the_bound_is_reached(answer, rng):
    """By a query that drives each tanh to the sign of its weight."""
    v = rng.standard_normal(int(rng.integers(1, 7)))
    reached, most = float(v @ np.tanh(100 * np.sign(v))), answer.bound(v)
    expect(abs(most - reached) < 1e-6, f"for v = {v.round(2)} the bound is {most:.6g}; expected {reached:.6g}")
