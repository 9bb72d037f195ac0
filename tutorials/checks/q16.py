"""What q16 must hold: weights that know nothing of later scores, and labels one place ahead."""

import numpy as np

from tutorials.check import close, expect
from tutorials.checks import locked

HINTS = (
    "np.tri(T) is 1 where s <= t. A weight of 0 is e to the power of minus infinity.",
    "Hide scores before the softmax, and before the largest of each row is taken: np.where(mask, scores, -np.inf).",
    "The decoder reads begin, w1, w2, ..., wT and says w1, w2, ..., wT, end: two concatenations along axis 1.",
)


def _scores(rng):
    """Scores (..., T, T)."""
    T = int(rng.integers(2, 7))
    return locked(3 * rng.normal(size=(*rng.integers(1, 4, size=int(rng.integers(0, 3))), T, T)))[0]


def it_is_a_softmax_of_what_may_be_seen(answer, rng):
    """Row t is the softmax of its first t + 1 scores."""
    scores = _scores(rng)
    found = answer.weights(scores)
    for t in range(scores.shape[-1]):
        e = np.exp(scores[..., t, : t + 1])
        close(found[..., t, : t + 1], e / e.sum(axis=-1, keepdims=True), f"weights[..., {t}, :{t + 1}]")


def large_scores_are_no_problem(answer, rng):
    """Every other row is higher by 1,000, which cancels in the softmax."""
    scores = _scores(rng)
    raised = scores + 1000 * (np.arange(scores.shape[-1])[:, None] % 2)
    close(answer.weights(raised), answer.weights(scores), "with every other row 1,000 higher, weights")


def the_future_has_weight_zero(answer, rng):
    """Exactly."""
    found = answer.weights(_scores(rng))
    for t, s in zip(*np.triu_indices(found.shape[-1], k=1), strict=True):
        largest = np.abs(found[..., t, s]).max()
        expect(largest == 0, f"future cell ({t}, {s}) is {largest:.2g}, expected exactly 0")


def later_scores_change_nothing(answer, rng):
    """Bit for bit, also if they are huge."""
    scores = _scores(rng)
    other = scores + np.triu(1000 * rng.random(scores.shape), k=1)
    before, after = answer.weights(scores), answer.weights(other)
    largest = np.abs(after - before).max()
    expect(
        largest == 0, f"with other scores of later keys a weight changes by {largest:.2g}, expected no change at all"
    )


def the_label_is_the_next_input(answer, rng):
    """And the ends are right."""
    B, T = map(int, rng.integers(1, 6, size=2))
    begin, end = map(int, rng.choice(20, 2, replace=False))
    (text,) = locked(rng.integers(0, 20, (B, T)))
    for found, rows, what in zip(
        answer.inputs_and_labels(text, begin, end),
        ([[begin, *row] for row in text.tolist()], [[*row, end] for row in text.tolist()]),
        ("what the decoder reads", "what it must say"),
        strict=True,
    ):
        close(found, rows, f"with begin = {begin}, end = {end}, {what}")
        expect(np.asarray(found).dtype.kind == "i", f"{what} is {np.asarray(found).dtype}, expected integers: tokens")
