"""Wrong answers to q15."""

import numpy as np

from tutorials.solutions import q15


def queries_from_memory(x, memory, w_q, w_k, w_v):
    """Queries of the encoder, keys and values of the decoder."""
    return q15.cross_attention(memory, x, w_q, w_k, w_v)


def unscaled(x, memory, w_q, w_k, w_v):
    """Scale forgotten."""
    return q15.cross_attention(x * np.sqrt(w_q.shape[1]), memory, w_q, w_k, w_v)


def swapped(*arguments):
    """Values first."""
    return q15.ways_into_memory(*arguments)[::-1]


def no_softmax(x, memory, w_q, w_k, w_v, g):
    """The keys get the gradient at the weights, as if there were no softmax."""
    h = g @ (memory @ w_v).T
    keys = h.T @ (x @ w_q) / np.sqrt(w_q.shape[1])
    return keys @ w_k.T, q15.ways_into_memory(x, memory, w_q, w_k, w_v, g)[1]


def plain_softmax(s):
    """As it is written down."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.exp(s) / np.exp(s).sum(axis=-1, keepdims=True)


def with_softmax(softmax):
    """Cross-attention, with a softmax of one's own."""
    return {
        "cross_attention": lambda x, memory, w_q, w_k, w_v: (
            softmax((x @ w_q) @ (memory @ w_k).T / np.sqrt(w_q.shape[1])) @ (memory @ w_v)
        )
    }


WRONG = {
    "the wrong way round": {"cross_attention": queries_from_memory},
    "forgets the scale": {"cross_attention": unscaled},
    "keys and values swapped": {"ways_into_memory": swapped},
    "forgets the softmax": {"ways_into_memory": no_softmax},
    "subtracts nothing": with_softmax(plain_softmax),
    "subtracts the largest score of all": with_softmax(lambda s: plain_softmax(s - s.max())),
    "a softmax over the queries": with_softmax(lambda s: plain_softmax(s.T).T),
}
