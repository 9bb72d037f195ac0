"""The layers as functions: names and arguments of torch.nn.functional, the mathematics in `minigrad.ops`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops, random
from ..arguments import unwrap
from ..checks import require_float
from ..core import DTypeError, ShapeError
from ..tensor import Tensor


def softmax(input: Any, dim: int) -> Tensor:
    """y_i = e^(x_i) / sum_j e^(x_j) along `dim`, which must be given.

    >>> from minigrad import tensor
    >>> softmax(tensor([0.0, 0.0, -float("inf")]), dim=-1)
    tensor([0.5, 0.5, 0. ])
    """
    return ops.softmax(input, dim=dim)


def log_softmax(input: Any, dim: int) -> Tensor:
    """y_i = x_i - ln sum_j e^(x_j) along `dim`, which must be given."""
    return ops.log_softmax(input, dim=dim)


def masked_softmax(input: Any, mask: Any, dim: int = -1) -> Tensor:
    """Softmax over the places where the boolean `mask` is True; a row without any is 0, with gradient 0.

    >>> from minigrad import tensor
    >>> masked_softmax(tensor([[1.0, 1.0], [1.0, 1.0]]), tensor([[True, False], [False, False]]))
    tensor([[1., 0.],
            [0., 0.]])
    """
    return ops.masked_softmax(input, mask, dim=dim)


def relu(input: Any) -> Tensor:
    """y = max(x, 0)."""
    return ops.relu(input)


def silu(input: Any) -> Tensor:
    """y = x / (1 + e^-x): x times its own sigmoid, also called swish (Elfwing et al. 2018)."""
    return ops.mul(input, ops.sigmoid(input))


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """y = x Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016).

    With approximate="tanh" their estimate, x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), which GPT-2 was trained with.
    """
    if approximate == "none":
        return ops.gelu(input)
    if approximate != "tanh":
        raise ValueError(f"gelu(): approximate = {approximate!r}; it must be 'none' or 'tanh'")
    return ops.bias_activation(input, activation="gelu_tanh")


def tanh(input: Any) -> Tensor:
    """y = tanh x."""
    return ops.tanh(input)


def sigmoid(input: Any) -> Tensor:
    """y = 1 / (1 + e^-x)."""
    return ops.sigmoid(input)


def dropout(input: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """y = x keep / (1 - p): while training, each element becomes 0 with probability p (Srivastava et al. 2014).

    Every call draws a new seed from `minigrad.random`.

    >>> from minigrad import ones
    >>> sorted(set(dropout(ones(1000), p=0.5).tolist()))
    [0.0, 2.0]
    """
    return ops.dropout(input, p=p, seed=random.next_seed()) if training and p != 0 else input


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """y = x W^T + b. Shapes: input (..., I), weight (O, I), bias (O) or None, result (..., O)."""
    return ops.linear(input, weight, bias)


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """y[..., :] = W[input[...], :], the rows of a table. The row `padding_idx` gets no gradient.

    Shapes: input (...) integer, weight (V, D), result (..., D).
    """
    return ops.embedding(input, weight, padding_idx=padding_idx)


def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """y = w (x - mean) / sqrt(variance + eps) + b over the last dimension (Ba et al. 2016).

    `normalized_shape` is the size of that dimension. Raises ShapeError if the input is of another one.

    >>> from minigrad import tensor
    >>> layer_norm(tensor([2.0, 4.0]), 2, eps=0)
    tensor([-1.,  1.])
    """
    size = one_size(normalized_shape)
    if input.shape[-1:] != (size,):
        raise ShapeError(f"layer_norm(): a has shape {input.shape}; its last size must be normalized_shape = {size}.")
    return ops.layer_norm(input, weight, bias, eps=eps)


def add_layer_norm(
    input: Any,
    branch: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    p: float = 0.0,
    training: bool = True,
) -> Tensor:
    """y = layer_norm(x + dropout(branch)), the end of a residual connection (Vaswani et al. 2017, section 3.1).

    One op where `dropout`, + and `layer_norm` would be three; with p = 0 or outside training without dropout. Every
    call with dropout draws a new seed from `minigrad.random`. Shapes: input and branch (..., D), weight and bias (D).
    Raises ShapeError if input and branch differ, or are not of the `normalized_shape`.

    >>> from minigrad import tensor
    >>> add_layer_norm(tensor([2.0, 0.0]), tensor([0.0, 4.0]), 2, eps=0)
    tensor([-1.,  1.])
    """
    size = one_size(normalized_shape)
    if input.shape[-1:] != (size,):
        raise ShapeError(
            f"add_layer_norm(): a has shape {input.shape}; its last size must be normalized_shape = {size}."
        )
    p, seed = (p, random.next_seed()) if training and p != 0 else (0.0, None)
    return ops.add_layer_norm(input, branch, weight, bias, eps=eps, p=p, seed=seed)


def bias_activation(
    input: Any, bias: Any = None, activation: str = "relu", p: float = 0.0, training: bool = True
) -> Tensor:
    """y = dropout(a(x + bias)) with a one of "relu", "gelu", "gelu_tanh" and "none": what follows a linear layer.

    One op where there would be three; with p = 0 or outside training without dropout. Every call with dropout draws a
    new seed from `minigrad.random`. Shapes: input (..., D), bias (D). Raises ShapeError if they do not fit.

    >>> from minigrad import tensor
    >>> bias_activation(tensor([-3.0, 1.0]), tensor([1.0, 1.0]))
    tensor([0., 2.])
    """
    p, seed = (p, random.next_seed()) if training and p != 0 else (0.0, None)
    return ops.bias_activation(input, bias, activation=activation, p=p, seed=seed)


def rms_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    """y = w x / sqrt(mean(x^2) + eps) over the last dimensions (Zhang and Sennrich 2019).

    `normalized_shape` are their sizes, and the shape of the weight; eps = None is the distance from 1 to the next
    number of the input's dtype. Raises ShapeError if the input is of other sizes, DTypeError if it is not of floats.

    >>> from minigrad import tensor
    >>> rms_norm(tensor([3.0, 3.0, -3.0]), 3)
    tensor([ 1.,  1., -1.])
    """
    require_float("rms_norm", input)
    sizes = last_sizes(normalized_shape)
    if input.shape[-len(sizes) :] != sizes:
        raise ShapeError(f"rms_norm(): a has shape {input.shape}; its last sizes must be normalized_shape = {sizes}.")
    eps = float(np.finfo(input.dtype).eps) if eps is None else eps
    square = ops.mean(ops.mul(input, input), dim=tuple(range(-len(sizes), 0)), keepdim=True)
    y = ops.div(input, ops.sqrt(ops.add(square, eps)))
    return y if weight is None else ops.mul(y, weight)


def last_sizes(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """`normalized_shape` as the sizes of the last dimensions."""
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    mask: Any = None,
) -> Tensor:
    """y = w (x - mean) / sqrt(variance + eps) + b for each channel, dimension 1 (Ioffe and Szegedy 2015).

    In training, mean and variance are those of the batch, and get gradients; `running_mean` and `running_var`, unless
    None, are then moved towards them in place, r <- (1 - momentum) r + momentum m, the variance unbiased. Otherwise
    they take the place of the batch's.

    Ours: only where the boolean `mask` is True does a position count for the statistics; all are normalised. If it is
    True nowhere, as for a batch of padding, there is nothing to learn from: the running statistics stay as they are and
    are used (0 and 1 if there are none).

    Shapes: input (N, C) or (N, C, L), mask (N) or (N, L), all else (C), result as the input. Raises ShapeError for
    others; ValueError in training on one value per channel, which has no variance, and outside of it without running
    statistics; DTypeError unless the input is of floats and the mask boolean.

    >>> from minigrad import tensor
    >>> batch_norm(tensor([[2.0, 0.0], [4.0, 6.0]]), None, None, training=True, eps=0)
    tensor([[-1., -1.],
            [ 1.,  1.]])
    """
    require_float("batch_norm", input)
    shape = input.shape
    if len(shape) not in (2, 3):
        raise ShapeError(f"batch_norm(): a has shape {shape}; it must be (N, C) or (N, C, L). Try view().")
    vectors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, vector in vectors.items():
        if vector is not None and vector.shape != shape[1:2]:
            raise ShapeError(
                f"batch_norm(): a has shape {shape}, {name} {vector.shape}; it must have a number per channel, which "
                "are dimension 1. If the channels come last, use input.transpose(1, 2)."
            )
    if not training and (running_mean is None or running_var is None):
        raise ValueError("batch_norm(): there are no running statistics. Give both, or training=True.")
    dims, each = (0, 2)[: len(shape) - 1], (1, -1, 1)[: len(shape)]
    hidden, count = None, math.prod(shape) // max(shape[1], 1)
    if mask is not None:
        if mask.dtype != bool:
            raise DTypeError(f"batch_norm(): the mask has dtype {mask.dtype}; it must be boolean, True = counts.")
        if mask.shape != (shape[0], *shape[2:]):
            raise ShapeError(f"batch_norm(): a has shape {shape}, the mask {mask.shape}; it must be (N) or (N, L).")
        hidden, count = ~unwrap(mask)[:, None], int(unwrap(mask).sum())
    if training and count == 1:
        raise ValueError(
            f"batch_norm(): a has shape {shape}, but there is only 1 value per channel to learn from, and that has no "
            "variance. Give a larger batch, or use eval()."
        )
    if training and count > 0:
        mean = ops.div(ops.sum(_shown(input, hidden), dim=dims, keepdim=True), count)
        centred = _shown(ops.sub(input, mean), hidden)
        variance = ops.div(ops.sum(ops.mul(centred, centred), dim=dims, keepdim=True), count)
        unbiased = unwrap(variance) * (count / (count - 1))
        for running, new in ((running_mean, unwrap(mean)), (running_var, unbiased)):
            if running is not None:
                running[...] = (1 - momentum) * unwrap(running) + momentum * new.reshape(-1)
    else:
        start = np.zeros(shape[1], input.dtype), np.ones(shape[1], input.dtype)
        mean, variance = start if running_mean is None else (running_mean, running_var)
        mean, variance = ops.reshape(mean, shape=each), ops.reshape(variance, shape=each)
    y = ops.div(ops.sub(input, mean), ops.sqrt(ops.add(variance, eps)))
    y = y if weight is None else ops.mul(y, ops.reshape(weight, shape=each))
    return y if bias is None else ops.add(y, ops.reshape(bias, shape=each))


def _shown(x: Any, hidden: Any) -> Any:
    """`x` with 0 where it is hidden."""
    return x if hidden is None else ops.masked_fill(x, hidden, value=0.0)


def one_size(normalized_shape: int | Sequence[int]) -> int:
    """`normalized_shape` as the one number that it must be."""
    sizes = last_sizes(normalized_shape)
    if len(sizes) != 1:
        raise ValueError(
            f"layer_norm(): normalized_shape = {sizes}; only the last dimension can be normalised. "
            "Flatten the dimensions to be normalised into one."
        )
    return sizes[0]


def cross_entropy(
    input: Any, target: Any, *, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
) -> Tensor:
    """L = -sum_c t_c ln p_c with p = softmax(input), t = (1 - e) onehot(target) + e / C, e the label smoothing.

    Shapes: input (C), (N, C) or (N, C, ...): the classes are dimension 1, target () or (N, ...) integer. The result is
    a number or, with reduction="none", as the target. "mean" is over the targets that are not `ignore_index`.
    `ops.cross_entropy` is the same with the classes last.

    >>> from minigrad import tensor
    >>> cross_entropy(tensor([[0.0, 0.0], [9.0, 5.0]]), tensor([1, -1]), ignore_index=-1)  # ln 2
    tensor(0.6931472)
    """
    if len(input.shape) > 2:
        if (*input.shape[:1], *input.shape[2:]) != target.shape:
            raise ShapeError(
                f"cross_entropy(): the input has shape {input.shape}, the target {target.shape}; they must be "
                "(N, C, ...) and (N, ...). If the classes come last, use input.flatten(0, -2) and target.flatten()."
            )
        input = ops.permute(input, dims=(0, *range(2, len(input.shape)), 1))  # (N, ..., C)
    return ops.cross_entropy(
        input, target, ignore_index=ignore_index, reduction=reduction, label_smoothing=label_smoothing
    )


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """dropout(softmax(scale q k^T + bias)) v, scale = 1/sqrt(K) by default (Vaswani et al. 2017, equation 1).

    `attn_mask` broadcasts to (..., T, S): a boolean one says where a query may attend (True = may), one of floats is
    added to the scores. `is_causal` hides the keys after position t from query t. A query that may attend nowhere gets
    0, with gradient 0. As in PyTorch, `dropout_p` applies always: give 0 in evaluation.

    Shapes: query (..., T, K), key (..., S, K), value (..., S, K), result (..., T, K).
    """
    mask, bias = attn_mask, None
    if attn_mask is not None and attn_mask.dtype != bool:
        if attn_mask.dtype.kind != "f":
            raise DTypeError(
                f"scaled_dot_product_attention(): attn_mask has dtype {attn_mask.dtype}; it must be boolean "
                "(True = may attend) or of floats (added to the scores). Compare first: mask != 0."
            )
        shut = unwrap(attn_mask) == -math.inf  # where nothing is left to attend to, softmax alone would be NaN
        mask, bias = ~shut if shut.any() else None, attn_mask
    seed = random.next_seed() if dropout_p > 0 else None
    return ops.scaled_dot_product_attention(
        query, key, value, mask, bias, scale=scale, dropout_p=dropout_p, seed=seed, causal=is_causal
    )


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """The input with a border of `value` (0 by default); `pad` is (left, right) of the last dimension, then the others.

    >>> from minigrad import tensor
    >>> pad(tensor([1, 2]), (0, 2))
    tensor([1, 2, 0, 0])
    """
    if mode != "constant":
        raise ValueError(f"pad(): mode = {mode!r}; only 'constant' is there")
    return ops.pad(input, pad=tuple(pad), value=value or 0)
