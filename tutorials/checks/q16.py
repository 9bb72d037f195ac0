"""What q16 must hold: weights that know nothing of later scores, and labels one place ahead."""

import numpy as np

from tutorials.check import close, expect

HINTS = (
    "np.tri(T) is 1 where s <= t. A weight of 0 is e to the power of minus infinity.",
    "Hide scores before the softmax, and before the largest of each row is taken: np.where(mask, scores, -np.inf).",
    "The decoder reads begin, w1, w2, ..., wT and says w1, w2, ..., wT, end: two concatenations along axis 1.",
)


def _scores(rng):
    """Scores (..., T, T)."""
    T = int(rng.integers(2, 7))
    return 3 * rng.normal(size=(*rng.integers(1, 4, size=int(rng.integers(0, 3))), T, T))


def it_is_a_softmax_of_what_may_be_seen(answer, rng):
    """Row t is the softmax of its first t + 1 scores."""
    scores = _scores(rng)
    found = answer.weights(scores)
    for t in range(scores.shape[-1]):
        e = np.exp(scores[..., t, : t + 1])
        close(found[..., t, : t + 1], e / e.sum(axis=-1, keepdims=True), f"weights[..., {t}, :{t + 1}]")


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
    text = rng.integers(3, 20, (B, T))
    inputs, labels = answer.inputs_and_labels(text, 1, 2)
    close(inputs, [[1, *row] for row in text.tolist()], "what the decoder reads")
    close(labels, [[*row, 2] for row in text.tolist()], "what it must say")
