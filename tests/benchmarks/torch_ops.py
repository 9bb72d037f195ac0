"""The same single operations in PyTorch. Where there is more than one way to write it, `way` says which."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cases import ADAM, PAD, SMOOTHING, allowed, ids, normal, positions

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))

Thunk = Callable[[], Any]


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)


def leaf(array: np.ndarray) -> Tensor:
    return tensor(array).requires_grad_()


def both_ways(function: Callable[..., Tensor], *inputs: Tensor, gradient: Any = None, way: str = "grad") -> Thunk:
    """Forward and backward; the gradients are returned, or put into `.grad` and forgotten."""
    if way == "grad":
        return lambda: torch.autograd.grad(function(*inputs), inputs, gradient)

    def run() -> None:
        function(*inputs).backward(gradient)
        for x in inputs:
            x.grad = None

    return run


# ------------------------------------------------------------------------------------------------------------- kernels
def product(a: Sequence[int], b: Sequence[int], transposed: str = "") -> Thunk:
    """See `ours_ops.product`."""
    x, y = tensor(normal(*a)), tensor(normal(*b))
    x, y = x.mT if "a" in transposed else x, y.mT if "b" in transposed else y
    out = torch.empty(*x.shape[:-1], y.shape[-1])
    return lambda: torch.matmul(x, y, out=out)


def softmax(kind: str, rows: int, width: int, way: str) -> Thunk:
    x, g = tensor(normal(rows, width)), tensor(normal(width, rows).T.copy())
    private: Any = torch  # what softmax itself calls on the way back
    out = torch.empty_like(x)
    if kind == "softmax":
        return (lambda: torch.softmax(x, -1)) if way == "fresh" else (lambda: torch.softmax(x, -1, out=out))
    if kind == "log-softmax":
        return (lambda: torch.log_softmax(x, -1)) if way == "fresh" else (lambda: torch.log_softmax(x, -1, out=out))
    if kind == "softmax backward":
        y = torch.softmax(x, -1)
        return lambda: private._softmax_backward_data(g, y, -1, torch.float32)
    if kind == "log-softmax backward":
        y = torch.log_softmax(x, -1)
        return lambda: private._log_softmax_backward_data(g, y, -1, torch.float32)
    assert kind == "scaled, masked"
    mask, bound = g > -0.5, torch.tensor(-1e9)
    if way == "fill":
        forbidden = ~mask
        return lambda: torch.softmax((x * 0.125).masked_fill_(forbidden, -1e9), -1)
    if way == "where":
        return lambda: torch.softmax(torch.where(mask, x * 0.125, bound), -1)
    added = torch.zeros_like(x).masked_fill_(~mask, -1e9)
    return lambda: torch.softmax(torch.add(added, x, alpha=0.125), -1)


# ----------------------------------------------------------------------------------------------------------- fused ops
def attention(batch: int, heads: int, length: int, size: int, p: float, padded: bool, way: str) -> Thunk:
    def split(seed: int) -> Tensor:
        return tensor(normal(batch, length, heads, size + seed)[..., :size].copy()).transpose(1, 2)

    q, k, v = (split(i).requires_grad_() for i in range(3))
    boolean = tensor(allowed(batch, length)) if padded else None
    added = torch.zeros(batch, 1, 1, length).masked_fill_(~boolean, -torch.inf) if boolean is not None else None
    mask = boolean if way == "sdpa" else added

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if way != "manual":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
        scores = torch.matmul(q * (1 / math.sqrt(size)), k.transpose(-2, -1))
        scores = scores if mask is None else scores + mask
        return torch.matmul(F.dropout(scores.softmax(-1), p), v)

    return both_ways(attend, q, k, v, gradient=split(3))


def add_norm(rows: int, width: int, p: float) -> Thunk:
    x, branch = leaf(normal(rows, width)), leaf(normal(rows, width + 1)[:, :width].copy())
    weight, bias = leaf(normal(width)), leaf(normal(width))

    def run(x: Tensor, branch: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.layer_norm(x + F.dropout(branch, p), (width,), weight, bias)

    return both_ways(run, x, branch, weight, bias, gradient=tensor(normal(rows, width)))


def activation(rows: int, width: int, p: float, kind: str) -> Thunk:
    function = {"relu": F.relu, "gelu": F.gelu}[kind]

    def run(x: Tensor, bias: Tensor) -> Tensor:
        return F.dropout(function(x + bias), p)

    return both_ways(run, leaf(normal(rows, width)), leaf(normal(width)), gradient=tensor(normal(rows, width)))


def cross_entropy(rows: int, vocabulary: int) -> Thunk:
    target = tensor(ids(rows, vocabulary))

    def run(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, ignore_index=PAD, label_smoothing=SMOOTHING)

    return both_ways(run, leaf(normal(rows, vocabulary)))


def embedding(batch: int, length: int, vocabulary: int, width: int, p: float) -> Thunk:
    tokens = tensor(ids(batch * length, vocabulary).reshape(batch, length))
    where, scale = tensor(positions(length, width)), width**0.5

    def run(weight: Tensor) -> Tensor:
        return F.dropout(torch.add(where, F.embedding(tokens, weight, padding_idx=PAD), alpha=scale), p)

    return both_ways(run, leaf(normal(vocabulary, width)), gradient=tensor(normal(batch, length, width)))


def parameters(numbers: int, tensors: int) -> list[nn.Parameter]:
    """So many numbers in so many parameters, with a gradient each."""
    made = [nn.Parameter(tensor(normal(numbers // tensors))) for _ in range(tensors)]
    for p in made:
        p.grad = 2 * p.detach()
    return made


def adam(numbers: int, way: str) -> Thunk:
    kind: dict[str, Any] = {"foreach": {"foreach": True}, "fused": {"fused": True}, "fused, flat": {"fused": True}}[way]
    step = torch.optim.Adam(parameters(numbers, 1 if "flat" in way else 64), **ADAM, **kind).step
    return lambda: step()


def gradient_norm(numbers: int, way: str) -> Thunk:
    made = parameters(numbers, 1 if way == "flat" else 64)
    return lambda: nn.utils.clip_grad_norm_(made, max_norm=1e9, foreach=way == "foreach")


# ------------------------------------------------------------------------------------------------------------ overhead
def tiny(kind: str, backward: bool, way: str) -> Thunk:
    """One operation on arrays of 8 x 8 that wants gradients."""
    inputs = [leaf(normal(8, 8)) for _ in range(3)]
    if kind == "layer_norm":
        inputs[1:] = [leaf(normal(8)), leaf(normal(8))]
    function = {
        "add": lambda a, b: a + b,
        "mul": lambda a, b: a * b,
        "matmul": lambda a, b: a @ b,
        "softmax": lambda a: F.softmax(a, dim=-1),
        "layer_norm": lambda a, w, b: F.layer_norm(a, (8,), w, b),
    }[kind]
    inputs = inputs[: function.__code__.co_argcount]
    gradient = tensor(normal(8, 8))
    return both_ways(function, *inputs, gradient=gradient, way=way) if backward else lambda: function(*inputs)


def job(op: str, **case: Any) -> Thunk:
    return globals()[op](**case)
