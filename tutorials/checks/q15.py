"""What q15 must hold: cross-attention, and a gradient that comes into the memory in two ways."""

import numpy as np

import minigrad as mg
from tutorials.check import close, expect
from tutorials.checks import locked

HINTS = (
    "T and S differ, so shapes tell you what belongs where: weights are (T, S), the memory and its gradient (S, D).",
    "For the values hold the weights still: weights^T g is their gradient, and V = memory w_v is linear.",
    "For the keys: h = g V^T, then p * (h - sum of p * h over the row), transposed, times Q / sqrt(K), times w_k^T.",
)


def _sizes(rng):
    """Random arguments: x, memory, w_q, w_k, w_v."""
    T, S, D, K = rng.integers(2, 6, size=4)
    return locked(*(rng.normal(size=shape) for shape in ((T, D), (S, D), (D, K), (D, K), (D, K))))


def _by_machine(x, keys_of, values_of, w_q, w_k, w_v):
    """Cross-attention on tensors, where keys and values may be made of two different memories."""
    scores = (mg.tensor(x @ w_q) @ (keys_of @ mg.tensor(w_k)).transpose(0, 1)) * w_q.shape[1] ** -0.5
    return scores.softmax(dim=-1) @ (values_of @ mg.tensor(w_v))


def it_has_one_row_for_each_target_place(answer, rng):
    """Not for each source place."""
    arguments = _sizes(rng)
    shape = np.shape(answer.cross_attention(*arguments))
    expected = len(arguments[0]), arguments[4].shape[1]
    expect(shape == expected, f"what is fetched has shape {shape}, expected (T, K) = {expected}")


def it_is_the_formula(answer, rng):
    """Against the library's operations."""
    x, memory, *weights = _sizes(rng)
    expected = _by_machine(x, mg.tensor(memory), mg.tensor(memory), *weights).data
    close(answer.cross_attention(x, memory, *weights), expected, "what is fetched")


def large_scores_are_no_problem(answer, rng):
    """One target place asks 10,000 times louder, and gets scores of thousands, among others as usual."""
    x, memory, *weights = _sizes(rng)
    x = np.where(np.arange(len(x))[:, None] == 0, 1e4 * x, x)
    expected = _by_machine(x, mg.tensor(memory), mg.tensor(memory), *weights).data
    close(answer.cross_attention(x, memory, *weights), expected, "with x of 10,000 at place 0, what is fetched", 1e-6)


def the_order_of_the_source_does_not_matter(answer, rng):
    """Weights go with their tokens."""
    x, memory, *weights = _sizes(rng)
    shuffled = answer.cross_attention(x, rng.permutation(memory), *weights)
    close(shuffled, answer.cross_attention(x, memory, *weights), "after shuffling the source, what is fetched")


def each_way_is_its_gradient(answer, rng):
    """Keys and values of two memories with the same numbers: each gets its own gradient."""
    x, memory, *weights = _sizes(rng)
    ways = [mg.tensor(memory, requires_grad=True) for _ in range(2)]
    z = _by_machine(x, *ways, *weights)
    (g,) = locked(rng.normal(size=z.shape))
    z.backward(g)
    for name, part, way in zip(("keys", "values"), answer.ways_into_memory(x, memory, *weights, g), ways, strict=True):
        close(part, way.grad.data, f"the gradient through the {name}")


def equal_source_tokens_send_nothing_through_the_keys(answer, rng):
    """It does not matter which of them is found."""
    x, memory, *weights = _sizes(rng)
    memory = np.repeat(memory[:1], len(memory), axis=0)
    g = rng.normal(size=(len(x), weights[0].shape[1]))
    close(answer.ways_into_memory(x, memory, *weights, g)[0], 0 * memory, "for equal tokens, the part of the keys")
