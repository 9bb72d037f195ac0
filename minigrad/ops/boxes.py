"""The two large boxes of the Transformer's figure as one op each: multi-head attention, and feed-forward.

Their definitions are the steps that the figure shows. As one op they leave one node behind instead of nine or three,
and what lies between two steps is written once, where the next one wants it: queries, keys and values side by side in
one array, whose columns are the heads. The weights of those three are copied side by side for that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import kernels
from ..checks import require, require_whole
from ..core import Array, ShapeError, is_grad_enabled
from ..dtypes import promote
from ..op import op
from .activation import bias_activation, check_activation
from .attention import check_scores, join_heads, scaled_dot_product_attention, split_heads
from .matmul import linear
from .norm import check_dropout


# ----------------------------------------------------------------------------------------------------------- attention
def multi_head_attention_definition(
    x: Any,
    w_q: Any,
    w_k: Any,
    w_v: Any,
    w_o: Any,
    b_q: Any = None,
    b_k: Any = None,
    b_v: Any = None,
    b_o: Any = None,
    memory: Any = None,
    mask: Any = None,
    *,
    heads: int,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
) -> Any:
    """linear(join_heads(attention(q, k, v))) with q, k, v linear in x or the memory, and split into heads"""
    memory = x if memory is None else memory
    q = split_heads(linear(x, w_q, b_q), heads=heads)  # (B, H, T, K)
    k = split_heads(linear(memory, w_k, b_k), heads=heads)  # (B, H, S, K)
    v = split_heads(linear(memory, w_v, b_v), heads=heads)  # (B, H, S, K)
    z = scaled_dot_product_attention(q, k, v, mask, scale=scale, dropout_p=dropout_p, seed=seed)
    return linear(join_heads(z), w_o, b_o)  # (B, T, O)


@op(definition=multi_head_attention_definition, accumulates=True)
def multi_head_attention(
    x: Array,
    w_q: Array,
    w_k: Array,
    w_v: Array,
    w_o: Array,
    b_q: Array | None = None,
    b_k: Array | None = None,
    b_v: Array | None = None,
    b_o: Array | None = None,
    memory: Array | None = None,
    mask: Array | None = None,
    *,
    heads: int,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
) -> Any:
    """y = concat(z_1, ..., z_H) Wo^T + bo,  z_h = dropout(softmax(s q_h k_h^T)) v_h   (Vaswani et al. 2017, 3.2.2).

    q = x Wq^T + bq, k = m Wk^T + bk and v = m Wv^T + bv are cut into heads; m is the memory, or x if there is none;
    s = 1/sqrt(K) by default. The way back is that of three ops: `linear`, dL/dz = g Wo, dL/dWo = g^T z, dL/dbo = g;
    `scaled_dot_product_attention`, from dL/dz to dL/dq, dL/dk, dL/dv; and `linear` again, dL/dx = dL/dq Wq, dL/dWq =
    dL/dq^T x, dL/dbq = dL/dq, and so for k and v. What has several uses gets the sum.

    Shapes: x (B, T, D), memory (B, S, M), Wq (H K, D), Wk and Wv (H K, M), Wo (O, H K), a bias per row of its weight or
    None, mask boolean, True = may attend, broadcasting to (B, H, T, S); y (B, T, O). Kept: x, the memory, q, k, v, z,
    two numbers per query, and a copy of the weights.
    """
    require_whole("multi_head_attention", "heads", heads)
    m = x if memory is None else memory
    require(
        x.ndim == m.ndim == 3 and len(x) == len(m),
        "multi_head_attention(): x has shape {}, the memory {}; they must be (B, T, D) and (B, S, M)",
        x,
        m,
    )
    inner = len(w_q)
    for name, w, b, size in (
        ("q", w_q, b_q, (inner, x.shape[2])),
        ("k", w_k, b_k, (inner, m.shape[2])),
        ("v", w_v, b_v, (inner, m.shape[2])),
        ("the output", w_o, b_o, (len(w_o), inner)),
    ):
        if w.shape != size or (b is not None and b.shape != size[:1]):
            raise ShapeError(
                f"multi_head_attention(): x has shape {x.shape}, the memory {m.shape}; the weight of {name} has shape "
                f"{w.shape}, its bias {None if b is None else b.shape}; they must be {size} and {size[:1]}"
            )
    if heads <= 0 or inner % heads:
        raise ShapeError(
            f"multi_head_attention(): the weight of q has shape {w_q.shape}; its rows must be a multiple of "
            f"heads = {heads}"
        )
    check_scores("multi_head_attention", (len(x), heads, x.shape[1], m.shape[1]), mask)
    seed = check_dropout("multi_head_attention", dropout_p, seed)
    scale = 1 / math.sqrt(inner // heads) if scale is None else scale
    x, w_q, w_k, w_v, w_o, b_q, b_k, b_v, b_o, m = promote(x, w_q, w_k, w_v, w_o, b_q, b_k, b_v, b_o, m, floating=True)

    if memory is None:
        uses = [_project(x, (w_q, w_k, w_v), (b_q, b_k, b_v), heads)]
    else:
        uses = [_project(x, (w_q,), (b_q,), heads), _project(m, (w_k, w_v), (b_k, b_v), heads)]
    q, k, v = [part for y, split, _ in uses for part in split(y)]  # (B, H, T, K) and (B, H, S, K)
    z = kernels.empty((*x.shape[:2], heads, inner // heads), x.dtype)  # (B, T, H, K)
    _, vjp = kernels.attention(q, k, v, mask, False, scale, dropout_p, seed, out=z.swapaxes(1, 2))
    joined, with_bias = z.reshape(x.shape[0] * x.shape[1], inner), b_o is not None
    y = kernels.linear(joined, w_o, b_o).reshape(*x.shape[:2], len(w_o))

    def products(g: Array, so_far: Array | None = None) -> tuple[Array | None, ...]:
        dz, dw_o, db_o = kernels.linear_vjp(g.reshape(len(joined), len(w_o)), joined, w_o, with_bias)
        dy = [kernels.empty(y.shape, y.dtype) for y, _, _ in uses]
        vjp(
            dz.reshape(z.shape).swapaxes(1, 2),
            tuple([part for d, use in zip(dy, uses, strict=True) for part in use[1](d)]),
        )
        starts = so_far, None
        dx, dw, db = zip(*[back(d, s) for d, s, (_, _, back) in zip(dy, starts, uses, strict=False)], strict=True)
        return dx[0], *itertools.chain(*dw), dw_o, *itertools.chain(*db), db_o, dx[1] if len(dx) > 1 else None, None

    return y, products


def _project(x: Array, weights: Sequence[Array], biases: Sequence[Array | None], heads: int) -> tuple[Array, Any, Any]:
    """Linear layers, W (O, I) each, that read the same x (B, T, I), as one: n results side by side, y (B T, n O).

    Their weights are copied into one, which takes little time beside the product. Returns y, a function that cuts y, or
    dL/dy, into the heads of each layer, (n, B, H, T, K), and one from dL/dy to dL/dx, each dL/dW, and each dL/db.
    """
    (batch, length, inputs), outputs, n = x.shape, len(weights[0]), len(weights)
    rows, with_bias = x.reshape(batch * length, inputs), any(b is not None for b in biases)
    weight = np.concatenate(weights) if n > 1 else weights[0]  # (n O, I)
    bias = np.concatenate([np.zeros(outputs, x.dtype) if b is None else b for b in biases]) if with_bias else None

    def split(y: Array) -> Array:
        return y.reshape(batch, length, n, heads, outputs // heads).transpose(2, 0, 3, 1, 4)

    def vjp(g: Array, so_far: Array | None) -> tuple[Array, Any, Any]:
        so_far = None if so_far is None else so_far.reshape(rows.shape)
        dx, dw, db = kernels.linear_vjp(g, rows, weight, with_bias, so_far)
        db = [None] * n if db is None else db.reshape(n, outputs)
        return dx.reshape(batch, length, inputs), dw.reshape(n, outputs, inputs), db

    return kernels.linear(rows, weight, bias), split, vjp


# -------------------------------------------------------------------------------------------------------- feed-forward
def feed_forward_definition(
    x: Any,
    w_1: Any,
    w_2: Any,
    b_1: Any = None,
    b_2: Any = None,
    *,
    activation: str = "relu",
    p: float = 0.0,
    seed: int | None = None,
) -> Any:
    """linear(dropout(activation(linear(x))))"""
    return linear(bias_activation(linear(x, w_1), b_1, activation=activation, p=p, seed=seed), w_2, b_2)


@op(definition=feed_forward_definition, accumulates=True)
def feed_forward(
    x: Array,
    w_1: Array,
    w_2: Array,
    b_1: Array | None = None,
    b_2: Array | None = None,
    *,
    activation: str = "relu",
    p: float = 0.0,
    seed: int | None = None,
) -> Any:
    """y = dropout(a(x W1^T + b1)) W2^T + b2, the same for every position (Vaswani et al. 2017, equation 2).

    With h = dropout(a(u)) and u = x W1^T + b1:   dL/dW2 = g^T h,  dL/db2 = g,  dL/dh = g W2,  dL/du as in
    `bias_activation`,  dL/dW1 = dL/du^T x,  dL/db1 = dL/du,  dL/dx = dL/du W1. The activations are those of
    `bias_activation`. Shapes: x (..., D), W1 (F, D), W2 (O, F), b1 (F) and b2 (O) or None, y (..., O).
    Kept: x, h, and for GELU a'(u).
    """
    require(
        w_1.ndim == w_2.ndim == 2 and x.shape[-1:] == w_1.shape[1:] and w_2.shape[1] == len(w_1),
        "feed_forward(): x has shape {}, the weights {} and {}; they must be (..., D), (F, D) and (O, F)",
        x,
        w_1,
        w_2,
    )
    require(
        (b_1 is None or b_1.shape == w_1.shape[:1]) and (b_2 is None or b_2.shape == w_2.shape[:1]),
        "feed_forward(): the weights have shapes {} and {}, their biases {} and {}; a bias is as long as its weight",
        w_1,
        w_2,
        b_1,
        b_2,
    )
    check_activation("feed_forward", activation)
    seed = check_dropout("feed_forward", p, seed)
    x, w_1, w_2, b_1, b_2 = promote(x, w_1, w_2, b_1, b_2, floating=True)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # (R, D)
    u = kernels.linear(rows, w_1, None)  # (R, F)
    h, saved = kernels.bias_activation(u, b_1, activation, p, seed, is_grad_enabled(), out=u)
    y = kernels.linear(h, w_2, b_2)  # (R, O)
    shape, size, with_bias = x.shape, y.shape, b_2 is not None

    def products(g: Array, so_far: Array | None = None) -> tuple[Array | None, ...]:
        so_far = None if so_far is None else so_far.reshape(rows.shape)
        dh, dw_2, db_2 = kernels.linear_vjp(g.reshape(size), h, w_2, with_bias)
        du, db_1 = kernels.bias_activation_vjp(saved, b_1, activation, p, seed, dh, out=dh)
        dx, dw_1, _ = kernels.linear_vjp(du, rows, w_1, False, so_far)
        return dx.reshape(shape), dw_1, dw_2, db_1, db_2

    return y.reshape(*shape[:-1], size[1]), products
