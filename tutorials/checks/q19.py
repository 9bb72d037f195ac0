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
    """Up to five standard deviations, of many numbers at a time, and of one number many times."""
    for calls, n in ((1, 40_000), (2000, 1)):
        p = rng.uniform(0.1, 0.4)
        gone = np.mean([answer.dropout(np.ones(n), p, rng, training=True) == 0 for _ in range(calls)])
        bound, who = 5 * (p * (1 - p) / (n * calls)) ** 0.5, f"of {n} numbers, in {calls} calls, {gone:.3f} are gone"
        expect(abs(gone - p) < bound, f"{who}, expected {p:.3f} +- {bound:.3f}")
    ones = np.ones(5)
    close(answer.dropout(ones, 0.0, rng, training=True), ones, "with p = 0, what is left")


def every_number_has_its_own_coin(answer, rng):
    """Of two neighbours, along any axis, both are gone with probability p^2."""
    p = rng.uniform(0.2, 0.4)
    for shape in ((200, 200), (40, 30, 30)):
        gone = answer.dropout(np.ones(shape), p, rng, training=True) == 0
        for axis in range(len(shape)):
            line = np.moveaxis(gone, axis, 0)
            share, where = (line[1:] & line[:-1]).mean(), f"neighbours along axis {axis} of {len(shape)}"
            expect(abs(share - p**2) < 0.03, f"{where} are gone together in {share:.3f}, expected {p**2:.3f}")


def coins_come_from_rng(answer, rng):
    """An equal generator throws equal coins, and the next call throws new ones."""
    x, seed = np.ones(100), int(rng.integers(1000))
    ours = np.random.default_rng(seed)
    first, second = (answer.dropout(x, 0.5, ours, training=True) for _ in range(2))
    again = answer.dropout(x, 0.5, np.random.default_rng(seed), training=True)
    expect(np.array_equal(first, again), "two equal generators gave different coins; expected coins from rng alone")
    expect(not np.array_equal(first, second), "two calls with one generator gave the same coins, expected new ones")
