"""Scaled dot-product attention (Vaswani et al. 2017, equation 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import kernels
from ..arguments import unwrap
from ..checks import require, require_whole
from ..core import Array, DTypeError, ShapeError
from ..dtypes import promote
from ..op import op
from .arithmetic import add, mul
from .matmul import matmul
from .norm import check_dropout, dropout
from .shape import reshape, transpose
from .softmax import masked_softmax, softmax


def split_heads_definition(x: Any, *, heads: int) -> Any:
    """(..., T, H K) as (..., T, H, K), with T and H swapped"""
    return transpose(reshape(x, shape=(*x.shape[:-1], heads, x.shape[-1] // heads)), dim0=-3, dim1=-2)


@op(definition=split_heads_definition, view=True)
def split_heads(x: Array, *, heads: int) -> Any:
    """y[..., h, t, k] = x[..., t, h K + k]: the vectors of all tokens, cut into heads.   dL/dx = g, put together again

    Shapes: x (..., T, H K), y (..., H, T, K).
    """
    require_whole("split_heads", "heads", heads)
    if x.ndim < 2 or heads < 1 or x.shape[-1] % heads:
        raise ShapeError(f"split_heads(): a has shape {x.shape}; its last size must be a multiple of heads = {heads}")
    shape = x.shape
    y = x.reshape(*shape[:-1], heads, shape[-1] // heads).swapaxes(-3, -2)
    return y, lambda g: g.swapaxes(-3, -2).reshape(shape)


def join_heads_definition(z: Any) -> Any:
    """(..., H, T, K) with H and T swapped, as (..., T, H K)"""
    z = transpose(z, dim0=-3, dim1=-2)
    return reshape(z, shape=(*z.shape[:-2], z.shape[-2] * z.shape[-1]))


@op(definition=join_heads_definition, view=True)
def join_heads(z: Array) -> Any:
    """y[..., t, h K + k] = z[..., h, t, k]: the heads side by side again.   dL/dz = g, cut again

    Shapes: z (..., H, T, K), y (..., T, H K).
    """
    require(z.ndim >= 3, "join_heads(): a has shape {}; it must be (..., heads, tokens, size)", z)
    y = z.swapaxes(-3, -2)
    shape = y.shape
    return y.reshape(*shape[:-2], shape[-2] * shape[-1]), lambda g: g.reshape(shape).swapaxes(-3, -2)


def attend(
    scores: Any,
    v: Any,
    mask: Any = None,
    bias: Any = None,
    *,
    dropout_p: float = 0.0,
    seed: int | None = None,
    tap: Callable[[str, Any], Any] | None = None,
    mix: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """z = dropout(P) v with P = softmax(scores + bias) over the keys that the mask allows.

    `tap(name, value)` is shown the scores and the pattern P and may replace them; an attention module passes its own.
    `mix(z, weights)` may add to z what else the weights, dropout(P), choose. Shapes as in
    `scaled_dot_product_attention`; scores (B, H, T, S).
    """
    scores = scores if bias is None else add(scores, bias)
    scores = scores if tap is None else tap("scores", scores)
    pattern = softmax(scores) if mask is None else masked_softmax(scores, mask)
    pattern = pattern if tap is None else tap("pattern", pattern)
    weights = dropout(pattern, p=dropout_p, seed=seed) if dropout_p > 0 else pattern
    z = matmul(weights, v)  # (B, H, T, K)
    return z if mix is None else mix(z, weights)


def attention_definition(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    bias: Any = None,
    *,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    causal: bool = False,
) -> Any:
    """dropout(softmax(scale q k^T + bias, over the keys that the mask allows)) v"""
    scale = _usual_scale(q) if scale is None else scale
    scores = mul(matmul(q, transpose(k, dim0=-2, dim1=-1)), scale)  # (B, H, T, S)
    mask = kernels.with_causal(unwrap(mask), causal, scores.shape)
    return attend(scores, v, mask, bias, dropout_p=dropout_p, seed=seed)


@op(definition=attention_definition)
def scaled_dot_product_attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    bias: Array | None = None,
    *,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    causal: bool = False,
) -> Any:
    """z = dropout(P) v with P = softmax(s q k^T + bias) over the keys that the mask allows; s = 1/sqrt(K) by default.

    With G = dL/dz and S the scores:  dL/dv = dropout(P)^T G,  dL/dP = dropout(G v^T),
    dL/dS = P (dL/dP - sum(dL/dP P)),  dL/dq = s dL/dS k,  dL/dk = s dL/dS^T q,  dL/dbias = dL/dS.

    Shapes: q (B, H, T, K), k (B, H, S, K), v (B, H, S, K); mask boolean, True = may attend, and bias broadcast to
    (B, H, T, S). `causal` lets query t see the keys 0..t. A query with no legal key (S = 0 too) gets z = 0 and
    gradient 0.
    """
    require(
        min(q.ndim, k.ndim, v.ndim) >= 2 and q.shape[-1] == k.shape[-1],
        "scaled_dot_product_attention(): q has shape {}, k has shape {}; the last sizes must be equal",
        q,
        k,
    )
    require(
        k.shape[-2] == v.shape[-2],
        "scaled_dot_product_attention(): k has shape {}, v has shape {}; one value per key",
        k,
        v,
    )
    require(
        _fits(k.shape[:-2], q.shape[:-2]) and _fits(v.shape[:-2], q.shape[:-2]),
        "scaled_dot_product_attention(): q has shape {}, k {}, v {}; the leading sizes must be those of q, or 1",
        q,
        k,
        v,
    )
    seed = check_dropout("scaled_dot_product_attention", dropout_p, seed)
    scale = _usual_scale(q) if scale is None else scale
    q, k, v = promote(q, k, v, floating=True)
    shape = (*q.shape[:-1], k.shape[-2])  # of the scores
    check_scores("scaled_dot_product_attention", shape, mask, bias)
    if bias is None:
        z, vjp = kernels.attention(q, k, v, mask, causal, scale, dropout_p, seed)
        return z, lambda g: (*vjp(g), None, None)
    return _with_bias(q, k, v, kernels.with_causal(mask, causal, shape), bias, scale, dropout_p, seed)


def _with_bias(
    q: Array, k: Array, v: Array, mask: Array | None, bias: Array, scale: float, dropout_p: float, seed: int | None
) -> Any:
    """The bias is as large as the scores, and so may be its gradient: here the scores are made and kept."""
    s = q.dtype.type(scale)
    scores = kernels.matmul(q, k.mT)  # (B, H, T, S)
    scores *= s
    scores = scores + bias
    p = kernels.softmax(scores, -1) if mask is None else kernels.masked_softmax(scores, mask, -1)

    def dropped(x: Array) -> Array:
        return x if seed is None or dropout_p == 0 else kernels.dropout(x, dropout_p, seed)

    def products(g: Array) -> tuple[Array | None, ...]:
        dv = kernels.matmul(dropped(p).mT, g)
        ds = kernels.softmax_vjp(p, dropped(kernels.matmul(g, v.mT)), -1)
        return kernels.matmul(ds, k) * s, kernels.matmul(ds.mT, q) * s, dv, None, ds

    return kernels.matmul(dropped(p), v), products


def check_scores(name: str, shape: tuple[int, ...], mask: Array | None, bias: Array | None = None) -> None:
    """Raise unless the mask is boolean, and mask and bias broadcast to scores of `shape`."""
    if mask is not None and mask.dtype != bool:
        raise DTypeError(f"{name}(): the mask has dtype {mask.dtype}; boolean, True = may attend")
    for what, x in (("mask", mask), ("bias", bias)):
        if x is not None and not _fits(x.shape, shape):
            raise ShapeError(f"{name}(): the {what} has shape {x.shape}; it must broadcast to the scores {shape}")


def _usual_scale(q: Any) -> float:
    """1/sqrt(K), with which the scores of vectors of size K are about as large for any K."""
    size = q.shape[-1]
    require(size > 0, "scaled_dot_product_attention(): q has shape {}; for heads of size 0 give the scale", q)
    return 1 / math.sqrt(size)


def _fits(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    """Whether an array of `shape` broadcasts to the shape `into`."""
    return len(shape) <= len(into) and all(m in (1, n) for m, n in zip(shape[::-1], into[::-1], strict=False))
