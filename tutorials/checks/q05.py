"""What q05 must hold: padding has no weight and no say, in either precision, and nothing is NaN."""

import numpy as np

from tutorials.check import close, expect
from tutorials.checks import locked

HINTS = (
    "No number that you add to a score hides it when all scores of the row get it. Choose with np.where instead.",
    "Take off the largest *legal* score before np.exp, else a huge masked score makes all the others 0.",
    "e = np.where(mask, np.exp(...), 0), and divide by the sum where it is above 0, by 1 elsewhere. For the loss, pick "
    "the places with labels != pad_id before you take the mean.",
)


def _rows(rng):
    """Scores in one of two precisions, and a mask in which every row has a legal key."""
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 5)), int(rng.integers(2, 8)))
    mask = rng.random(shape) < 0.5
    mask[..., int(rng.integers(shape[-1]))] = True
    scores = 3 * rng.standard_normal(shape) + 1000 * (np.arange(shape[1])[:, None] % 2)  # every other row is high
    return locked(scores.astype(rng.choice(["float32", "float64"])), mask)


def it_is_the_softmax_of_the_keys_that_are_left(answer, rng):
    """The same as if the others were not there."""
    scores, mask = _rows(rng)
    found = answer.masked_softmax(scores, mask)
    expect(found.dtype == scores.dtype, f"from scores in {scores.dtype} came weights in {found.dtype}")
    for place in np.ndindex(scores.shape[:-1]):
        legal = scores[place][mask[place]].astype(float)
        e = np.exp(legal - legal.max())
        close(found[place][mask[place]], e / e.sum(), f"the weights of the legal keys of row {place}", tolerance=1e-5)


def masked_weights_are_exactly_0(answer, rng):
    """Not merely small."""
    scores, mask = _rows(rng)
    worst = np.abs(np.where(mask, 0, answer.masked_softmax(scores, mask))).max()
    expect(worst == 0, f"a masked key has weight {worst:.3g}, expected exactly 0")


def a_row_without_keys_is_0(answer, rng):
    """No NaN, no equal weights, no weights as if there were no mask."""
    scores, mask = _rows(rng)
    mask = mask & (np.arange(mask.shape[1])[:, None] > 0)
    row = answer.masked_softmax(scores, mask)[0, 0]
    expect(np.all(row == 0), f"the weights of a row without legal keys are {row}, expected exactly 0 ({scores.dtype})")


def masked_scores_change_nothing(answer, rng):
    """However large they are."""
    scores, mask = _rows(rng)
    other = np.where(mask, scores, rng.choice([-1e4, 1e4, 1e30])).astype(scores.dtype)
    same = np.array_equal(answer.masked_softmax(scores, mask), answer.masked_softmax(other, mask))
    expect(same, f"weights changed with a score that is masked, {other[~mask][:1]}; expected the same bits")


def a_loss_is_that_of_the_sentences_alone(answer, rng):
    """More padding changes nothing, nor does what the model says there."""
    T, V, pad_id = int(rng.integers(2, 6)), int(rng.integers(3, 8)), int(rng.integers(0, 3))
    labels = np.full((3, T + 2), pad_id)
    log_p = np.log(rng.dirichlet(np.ones(V), size=labels.shape))
    chosen = []
    for b in range(3):
        for t in range(int(rng.integers(1, T + 1))):
            labels[b, t] = (pad_id + rng.integers(1, V)) % V
            chosen.append(-log_p[b, t, labels[b, t]])
    close(answer.masked_loss(*locked(log_p, labels), pad_id), np.mean(chosen), f"the loss ({len(chosen)} real labels)")


def a_loss_of_nothing_is_0(answer, rng):
    """A batch of padding."""
    log_p = np.log(rng.dirichlet(np.ones(4), size=(2, 3)))
    close(answer.masked_loss(log_p, np.zeros((2, 3), int), 0), 0.0, "the loss of padding only")
