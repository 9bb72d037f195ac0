"""Mistakes in exercise q01."""

import numpy as np


def attention(x, w_q, w_k, w_v, w_o, heads, cut, join, size):
    """With a way to cut into heads, one to join them, and the size under the root."""
    q, k, v = (cut(x @ w, heads) for w in (w_q, w_k, w_v))
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(size)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return join(weights @ v, x.shape) @ w_o


def cut(y, heads):
    return y.reshape(*y.shape[:2], heads, -1).swapaxes(1, 2)


def cut_without_swapping(y, heads):
    return y.reshape(len(y), heads, y.shape[1], -1)


def join(z, shape):
    return z.swapaxes(1, 2).reshape(shape)


def join_without_swapping(z, shape):
    return z.reshape(shape)


def plain_softmax(s):
    """As it is written down."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.exp(s) / np.exp(s).sum(axis=-1, keepdims=True)


def with_softmax(softmax):
    """The attention, with a softmax of one's own."""

    def multi_head_attention(x, w_q, w_k, w_v, w_o, heads):
        q, k, v = (cut(x @ w, heads) for w in (w_q, w_k, w_v))
        return join(softmax(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])) @ v, x.shape) @ w_o

    return {"multi_head_attention": multi_head_attention}


WRONG = {
    "divides by the root of D": {
        "multi_head_attention": lambda x, *w: attention(x, *w, cut, join, x.shape[-1]),
    },
    "joins heads without swapping": {
        "multi_head_attention": lambda x, *w: attention(x, *w, cut, join_without_swapping, x.shape[-1] / w[-1]),
    },
    "cuts places instead of columns": {
        "multi_head_attention": lambda x, *w: attention(
            x, *w, cut_without_swapping, join_without_swapping, x.shape[-1] / w[-1]
        ),
    },
    "one head whatever is asked": {
        "multi_head_attention": lambda x, *w: attention(x, *w[:-1], 1, cut, join, x.shape[-1]),
    },
    "subtracts nothing": with_softmax(plain_softmax),
    "subtracts the largest score of all": with_softmax(lambda s: plain_softmax(s - s.max())),
    "a softmax over the queries": with_softmax(lambda s: plain_softmax(s.swapaxes(-1, -2)).swapaxes(-1, -2)),
}
