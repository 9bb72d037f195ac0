"""What q19 must hold: the course of the learning rate, and what dropout does in training and at test time."""

import numpy as np

from tutorials.check import close, expect

HINTS = (
    "The line and the root meet at step = warmup. For dropout, throw one coin for every number, not one for a row.",
    "min() of line and root gives the right one on both sides. A mean of (1 - p) x must be made x again.",
    "d_model**-0.5 * min(step**-0.5, step * warmup**-1.5); x * (rng.random(x.shape) >= p) / (1 - p), in training only.",
)


def _sizes(rng):
    """A size of the model and a warm-up."""
    return int(rng.integers(8, 1024)), int(rng.integers(5, 4000))


def the_peak_is_at_the_end_of_the_warm_up(answer, rng):
    """Its height, and less on both sides."""
    D, w = _sizes(rng)
    close(answer.rate(w, D, w), (D * w) ** -0.5, f"rate({w}, {D}, {w})", tolerance=1e-12)
    for step in (w - 1, w + 1):
        expect(answer.rate(step, D, w) < answer.rate(w, D, w), f"rate({step}, {D}, {w}) is not below that at step {w}")


def before_it_is_a_straight_line(answer, rng):
    """From 0."""
    D, w = _sizes(rng)
    step = int(rng.integers(1, w + 1))
    close(answer.rate(step, D, w) / answer.rate(w, D, w), step / w, f"step {step} of {w}, rate / peak")


def after_it_a_root(answer, rng):
    """Four times the steps, half the rate."""
    D, w = _sizes(rng)
    step = w + int(rng.integers(0, 5000))
    close(answer.rate(4 * step, D, w) / answer.rate(step, D, w), 0.5, f"rate({4 * step}) / rate({step})")


def off_in_use_it_changes_nothing(answer, rng):
    """Bit for bit."""
    x = rng.normal(size=rng.integers(1, 6, size=3))
    found = answer.dropout(x, 0.4, rng, training=False)
    expect(np.array_equal(found, x), "with training=False the result is not x, expected exactly x")


def each_number_is_gone_or_grown(answer, rng):
    """Nothing in between; and what was given is still there."""
    x, p = rng.normal(size=(20, 30)), rng.uniform(0.1, 0.6)
    before = x.copy()
    y = answer.dropout(x, p, rng, training=True)
    expect(np.array_equal(x, before), "x itself was changed, expected a new array")
    close(y[y != 0], (x / (1 - p))[y != 0], f"with p = {p:.2f}, what is left")
    expect((y == 0).any(), "nothing was dropped")


def the_share_that_is_gone_is_p(answer, rng):
    """Up to five standard deviations."""
    p, n = rng.uniform(0.1, 0.4), 40_000
    gone = (answer.dropout(np.ones(n), p, rng, training=True) == 0).mean()
    bound = 5 * (p * (1 - p) / n) ** 0.5
    expect(abs(gone - p) < bound, f"{gone:.3f} of the numbers are gone, expected {p:.3f} +- {bound:.3f}")


def every_number_has_its_own_coin(answer, rng):
    """Of two neighbours, in a row or in a column, both are gone with probability p^2."""
    p, n = rng.uniform(0.2, 0.4), 200
    gone = answer.dropout(np.ones((n, n)), p, rng, training=True) == 0
    for name, both in (("a row", gone[:, 1:] & gone[:, :-1]), ("a column", gone[1:] & gone[:-1])):
        share = both.mean()
        expect(abs(share - p**2) < 0.03, f"neighbours in {name} are gone together in {share:.3f}, expected {p**2:.3f}")
