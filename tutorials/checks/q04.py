"""Question 4: what the answers are held to."""

import tracemalloc

import numpy as np

from tutorials.check import close, expect
from tutorials.checks import locked

HINTS = (
    "Write J g for J = diag(p) - p p^T as a sum over the keys. One part of it is the same number for the whole row.",
    "That number is the mean of g under the weights: p.g. What is left for key i? For the scale: c^2 Var(q.k) = 1.",
    "dL/ds_i = p_i (g_i - p.g), with keepdims=True in the sum. Var(q_i k_i) = std_q^2 std_k^2, d_k of them.",
)


def _softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _rows(rng):
    shape = (*rng.integers(1, 4, size=rng.integers(0, 3)), int(rng.integers(2, 7)))
    return locked(2 * rng.standard_normal(shape), rng.standard_normal(shape))


def the_shape_is_that_of_the_weights(answer, rng):
    """From (..., S) to (..., S)."""
    s, g = _rows(rng)
    found = np.asarray(answer.softmax_gradient(*locked(_softmax(s)), g)).shape
    expect(found == s.shape, f"from p of shape {s.shape} came a gradient of shape {found}")


def each_row_of_the_gradient_sums_to_0(answer, rng):
    """A constant added to all scores changes nothing."""
    s, g = _rows(rng)
    sums = np.asarray(answer.softmax_gradient(*locked(_softmax(s)), g)).sum(axis=-1)
    close(sums, np.zeros(s.shape[:-1]), "the sum of dL/ds over the keys")


def it_is_the_slope_of_the_loss(answer, rng):
    """Central differences say the same."""
    s, g = _rows(rng)
    step, slopes = 1e-5, np.zeros(s.shape)
    for place in np.ndindex(s.shape):
        moved = np.zeros(s.shape)
        moved[place] = step
        slopes[place] = ((_softmax(s + moved) - _softmax(s - moved)) * g).sum() / (2 * step)
    close(answer.softmax_gradient(*locked(_softmax(s)), g), slopes, "dL/ds", tolerance=1e-6)


def there_is_no_jacobian(answer, rng):
    """The peak of memory, for a row of S scores, is below a quarter of S x S numbers."""
    S = int(rng.integers(300, 400))
    p, g = _softmax(rng.standard_normal((1, S))), rng.standard_normal((1, S))
    answer.softmax_gradient(p, g)  # what is only made at the first call does not count
    tracemalloc.start()
    answer.softmax_gradient(p, g)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expect(peak < 8 * S * S / 4, f"{peak:,} bytes at the peak; S x S = {S} x {S} numbers are {8 * S * S:,}")


def scores_have_variance_1(answer, rng):
    """Measured on 20,000 pairs, short ones and long ones."""
    for d_k in (2, int(rng.integers(3, 200))):
        std_q, std_k = rng.uniform(0.2, 4.0, 2)
        q, k = std_q * rng.standard_normal((20_000, d_k)), std_k * rng.standard_normal((20_000, d_k))
        c = answer.scale(d_k, std_q, std_k)
        variance, case = (
            float(np.var(c * (q * k).sum(axis=1))),
            f"d_k = {d_k}, std_q = {std_q:.2f}, std_k = {std_k:.2f}",
        )
        expect(abs(variance - 1) < 0.25, f"for {case} the variance is {variance:.3g}, expected about 1")
        expect(c > 0, f"for {case} the scale is {c:.3g}, expected a positive number")
