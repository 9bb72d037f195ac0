"""Single operations of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import kernels, ops

from .cases import ADAM, PAD, SMOOTHING, allowed, ids, normal, positions

Thunk = Callable[[], Any]
SEED = 1


def leaf(array: np.ndarray) -> mg.Tensor:
    return mg.from_numpy(array).requires_grad_()


def both_ways(function: Callable[..., mg.Tensor], *inputs: mg.Tensor, gradient: Any = None) -> Thunk:
    """Forward and backward, and the gradients forgotten."""

    def run() -> None:
        function(*inputs).backward(gradient)
        for x in inputs:
            x.grad = None

    return run


# ------------------------------------------------------------------------------------------------------------- kernels
def product(a: Sequence[int], b: Sequence[int], transposed: str = "") -> Thunk:
    """x y; `a` and `b` are the shapes in memory, `transposed` names those of them that are read as transposes."""
    x, y = normal(*a), normal(*b)
    x, y = x.mT if "a" in transposed else x, y.mT if "b" in transposed else y
    return lambda: kernels.matmul(x, y)


def softmax(kind: str, rows: int, width: int) -> Thunk:
    x, g = normal(rows, width), normal(width, rows).T.copy()
    if kind == "softmax":
        return lambda: kernels.softmax(x, -1)
    if kind == "log-softmax":
        return lambda: kernels.log_softmax(x, -1)
    if kind == "softmax backward":
        y = kernels.softmax(x, -1)
        return lambda: kernels.softmax_vjp(y, g, -1)
    if kind == "log-softmax backward":
        y = kernels.log_softmax(x, -1)
        return lambda: kernels.log_softmax_vjp(y, g, -1)
    assert kind == "scaled, masked"
    mask = g > -0.5
    return lambda: kernels.masked_softmax(x, mask, -1, 0.125)


# ----------------------------------------------------------------------------------------------------------- fused ops
def attention(batch: int, heads: int, length: int, size: int, p: float, padded: bool) -> Thunk:
    def split(seed: int) -> np.ndarray:  # heads as a model has them: cut from rows of all heads
        return normal(batch, length, heads, size + seed)[..., :size].copy().transpose(0, 2, 1, 3)

    q, k, v = (leaf(split(i)) for i in range(3))
    mask = allowed(batch, length) if padded else None

    def attend(q: mg.Tensor, k: mg.Tensor, v: mg.Tensor) -> mg.Tensor:
        return ops.scaled_dot_product_attention(q, k, v, mask, dropout_p=p, seed=SEED if p else None)

    return both_ways(attend, q, k, v, gradient=mg.from_numpy(split(3)))


def add_norm(rows: int, width: int, p: float) -> Thunk:
    x, branch = leaf(normal(rows, width)), leaf(normal(rows, width + 1)[:, :width].copy())
    weight, bias = leaf(normal(width)), leaf(normal(width))

    def run(*inputs: mg.Tensor) -> mg.Tensor:
        return ops.add_layer_norm(*inputs, p=p, seed=SEED if p else None)

    return both_ways(run, x, branch, weight, bias, gradient=mg.from_numpy(normal(rows, width)))


def activation(rows: int, width: int, p: float, kind: str) -> Thunk:
    def run(x: mg.Tensor, bias: mg.Tensor) -> mg.Tensor:
        return ops.bias_activation(x, bias, activation=kind, p=p, seed=SEED if p else None)

    return both_ways(run, leaf(normal(rows, width)), leaf(normal(width)), gradient=mg.from_numpy(normal(rows, width)))


def cross_entropy(rows: int, vocabulary: int) -> Thunk:
    target = ids(rows, vocabulary)

    def run(logits: mg.Tensor) -> mg.Tensor:
        return ops.cross_entropy(logits, target, ignore_index=PAD, label_smoothing=SMOOTHING)

    return both_ways(run, leaf(normal(rows, vocabulary)))


def embedding(batch: int, length: int, vocabulary: int, width: int, p: float) -> Thunk:
    tokens = ids(batch * length, vocabulary).reshape(batch, length)
    where, scale = positions(length, width), width**0.5

    def run(weight: mg.Tensor) -> mg.Tensor:
        return ops.embed_tokens(tokens, weight, where, scale=scale, padding_idx=PAD, p=p, seed=SEED if p else None)

    return both_ways(run, leaf(normal(vocabulary, width)), gradient=mg.from_numpy(normal(batch, length, width)))


def parameters(numbers: int, tensors: int = 64) -> tuple[list[mg.nn.Parameter], mg.optim.Adam]:
    """So many numbers in so many parameters of an optimiser, with a gradient each, at its place as in training."""
    made = [mg.nn.Parameter(normal(numbers // tensors)) for _ in range(tensors)]
    optimizer = mg.optim.Adam(made, **ADAM)
    for p in made:
        (p * 1).backward(normal(numbers // tensors))
    return made, optimizer


def adam(numbers: int) -> Thunk:
    return parameters(numbers)[1].step


def gradient_norm(numbers: int) -> Thunk:
    made, _ = parameters(numbers)
    return lambda: mg.nn.utils.clip_grad_norm_(made, max_norm=1e9)


# ------------------------------------------------------------------------------------------------------------ overhead
def tiny(kind: str, backward: bool) -> Thunk:
    """One operation on arrays of 8 x 8 that wants gradients."""
    inputs = [leaf(normal(8, 8)) for _ in range(3)]
    if kind == "layer_norm":
        inputs[1:] = [leaf(normal(8)), leaf(normal(8))]
    function = {
        "add": lambda a, b: a + b,
        "mul": lambda a, b: a * b,
        "matmul": lambda a, b: a @ b,
        "softmax": lambda a: mg.nn.functional.softmax(a, dim=-1),
        "layer_norm": lambda a, w, b: mg.nn.functional.layer_norm(a, 8, w, b),
    }[kind]
    inputs = inputs[: function.__code__.co_argcount]
    return both_ways(function, *inputs, gradient=mg.from_numpy(normal(8, 8))) if backward else lambda: function(*inputs)


def job(op: str, **case: Any) -> Thunk:
    return globals()[op](**case)
