"""What q01 must hold: heads are attentions of their own, side by side."""

import numpy as np

import minigrad as mg
import minitransformer as mt
from tutorials.check import close, expect
from tutorials.checks import locked

HINTS = (
    "Write it for one head first. Then make the heads one more dimension: matmul goes over all leading ones by itself.",
    "y.reshape(B, T, H, K) cuts the columns; swapaxes(1, 2) brings the heads before the places, so that places meet.",
    "Before you put the heads together again, the places must come before them: swapaxes(1, 2).reshape(B, T, D).",
)


def _given(rng, least=1):
    """An x, four matrices, and a number of heads."""
    heads = int(rng.integers(least, 5))
    D = heads * int(rng.integers(1, 5))
    x = rng.standard_normal((int(rng.integers(1, 4)), int(rng.integers(2, 7)), D))
    return *locked(x), [rng.standard_normal((D, D)) / np.sqrt(D) for _ in range(4)], heads


def _by_the_library(x, weights, heads):
    """The same attention of minitransformer."""
    attention = mt.MultiHeadAttention(x.shape[-1], heads, bias=False).double()
    parts = (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
    for part, w in zip(parts, weights, strict=True):
        part.weight.data[...] = w.T
    return attention(*[mg.tensor(x)] * 3).detach().numpy()


def the_shape_is_that_of_x(answer, rng):
    """From (B, T, D) to (B, T, D)."""
    x, weights, heads = _given(rng)
    found = np.shape(answer.multi_head_attention(x, *weights, heads))
    expect(found == x.shape, f"from x of shape {x.shape}, {heads} heads, came shape {found}")


def one_head_is_attention(answer, rng):
    """softmax(q k^T / sqrt(D)) v w_o."""
    x, (w_q, w_k, w_v, w_o), _ = _given(rng)
    scores = np.einsum("btd,bsd->bts", x @ w_q, x @ w_k) / np.sqrt(x.shape[-1])
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    close(answer.multi_head_attention(x, w_q, w_k, w_v, w_o, 1), weights @ (x @ w_v) @ w_o, "the output of one head")


def heads_do_not_mix_before_the_end(answer, rng):
    """If w_o takes nothing from a head, its queries may be anything."""
    x, (w_q, w_k, w_v, w_o), heads = _given(rng, least=2)
    K = x.shape[-1] // heads
    columns = slice(K * (heads - 1), None)
    w_o[columns] = 0
    other = w_q.copy()
    other[:, columns] = rng.standard_normal((len(other), K))
    before, after = (answer.multi_head_attention(x, w, w_k, w_v, w_o, heads) for w in (w_q, other))
    close(after, before, f"the output without the last of {heads} heads")


def it_is_the_attention_of_the_library(answer, rng):
    """Number by number."""
    x, weights, heads = _given(rng)
    found = answer.multi_head_attention(x, *locked(*weights), heads)
    close(found, _by_the_library(x, weights, heads), f"the output of {heads} heads")


def large_scores_are_no_problem(answer, rng):
    """One place asks 10,000 times louder, and gets scores of thousands, among others as usual."""
    x, weights, heads = _given(rng)
    x = np.where(np.arange(x.shape[1])[:, None] == 0, 1e4 * x, x)
    found = answer.multi_head_attention(x, *weights, heads)
    close(found, _by_the_library(x, weights, heads), "with x of 10,000 at the first place, the output", 1e-6)
