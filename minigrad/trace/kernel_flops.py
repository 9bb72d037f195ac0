"""Floating-point operations of every kernel, from what it is given: the operations of the equation in its docstring.

They count as those of ops do, see `flops`; but a kernel returns all of its gradients, wanted or not. What it gives for
the way back beside its result, such as the slope of GELU, does not count, and neither does what is only added to a
gradient that has come before, or what Numba's kernels compute a second time. What a mask leaves out is counted as if
it were there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import Array
from .flops import ACTIVATIONS

Count = Callable[..., int]  # of the arguments of the kernel; for what it returns to be called, of those of both


def _matmul(a: Array, b: Array) -> int:
    batches = math.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
    return 2 * batches * math.prod(a.shape[-2:]) * b.shape[-1]


def _lines(x: Array, dim: int = -1) -> int:
    """How many lines of elements there are along a dimension; one number is a line."""
    return x.size // (x.shape[dim] if x.ndim else 1) if x.size else 0


def _layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> int:
    return x.size * (5 + (weight is not None) + (bias is not None)) + 4 * _lines(x)


def _layer_norm_vjp(n: Array, r: Array, weight: Array | None, g: Array) -> int:
    """7 for dL/dx, with h = g w one more; 2 for dL/dw and 1 for dL/db."""
    return g.size * (7 + (weight is not None) + 3) + 2 * _lines(g)


def _attention(q: Array, k: Array, v: Array, mask: Any, causal: bool, scale: float, p: float, seed: int) -> int:
    """q k^T, its scale, softmax, dropout, and the product with v."""
    return _scores(q, k) * (2 * q.shape[-1] + 1 + 5 + (p > 0) + 2 * v.shape[-1])


def _attention_vjp(
    q: Array, k: Array, v: Array, mask: Any, causal: bool, scale: float, p: float, seed: int, g: Array, into: Any = None
) -> int:
    """dL/dv and g v^T, both with dropout; the way back of softmax and of the scale; dL/dq and dL/dk."""
    return _scores(q, k) * (2 * (2 * v.shape[-1] + (p > 0)) + 4 + 1 + 2 * 2 * q.shape[-1])


def _scores(q: Array, k: Array) -> int:
    return math.prod(q.shape[:-1]) * k.shape[-2]


def _bias_activation(x: Array, bias: Array | None, activation: str, p: float, *_: Any) -> int:
    return x.size * ((bias is not None) + ACTIVATIONS[activation] + (p > 0))


def _bias_activation_vjp(
    saved: Any, bias: Array | None, activation: str, p: float, seed: int, g: Array, *_: Any
) -> int:
    return g.size * ((activation != "none") + (p > 0) + (bias is not None))


def _cross_entropy(x: Array, target: Array, ignored: int, smoothing: float, scale: float, with_gradient: bool) -> int:
    """log_softmax, neg; with label smoothing a mean, three products and a sum; exp, sub and mul for the gradient."""
    smoothed = smoothing > 0
    return x.size * (5 + smoothed + 3 * with_gradient) + target.size * (3 + 5 * smoothed)


def _adam(p: Array, g: Array, m: Array, v: Array, *settings: Any) -> int:
    """3 for m, 4 for v, 6 for p; weight decay is one product, and a sum if it is a part of the gradient."""
    *_, weight_decay, decoupled, _ = settings
    return p.size * (3 + 4 + 6 + (weight_decay != 0) * (1 if decoupled else 2))


KERNELS: dict[str, Count | None] = {
    "empty": None,  # computes nothing
    "add": lambda x, *_: x.size,
    "matmul": _matmul,
    "matmul_add": lambda c, a, b: _matmul(a, b),
    "linear": lambda x, weight, bias: len(x) * len(weight) * (2 * x.shape[1] + (bias is not None)),
    "linear_vjp": lambda g, x, weight, with_bias, *_: g.size * (2 * 2 * x.shape[1] + with_bias),
    "column_sums": lambda x: x.size,
    "softmax": lambda x, dim: 5 * x.size,
    "softmax_vjp": lambda y, g, dim, scale=1.0: y.size * (4 + (scale != 1)),
    "log_softmax": lambda x, dim: 5 * x.size + 2 * _lines(x, dim),
    "log_softmax_vjp": lambda y, g, dim: 4 * y.size,
    "masked_softmax": lambda x, mask, dim, scale=1.0: x.size * (5 + (scale != 1)),
    "attention": _attention,
    "attention_vjp": _attention_vjp,
    "dropout": lambda x, p, seed: x.size,
    "erf": lambda x: x.size,
    "layer_norm": _layer_norm,
    "layer_norm_vjp": _layer_norm_vjp,
    "add_layer_norm": lambda x, branch, w, b, eps, p, seed: x.size * (1 + (p > 0)) + _layer_norm(x, w, b, eps),
    "add_layer_norm_vjp": lambda n, r, weight, g, p, seed: _layer_norm_vjp(n, r, weight, g) + g.size * (p > 0),
    "bias_activation": _bias_activation,
    "bias_activation_vjp": _bias_activation_vjp,
    "cross_entropy": _cross_entropy,
    "count_indices": lambda ids, n, ignored=None: ids.size * (4 + (ignored is not None)),
    "embed_tokens": lambda ids, weight, positions, scale, p=0.0, seed=0: (
        ids.size * weight.shape[1] * ((scale != 1) + (positions is not None) + (p > 0))
    ),
    "embed_tokens_vjp": lambda ids, g, rows, padding, scale, p=0.0, seed=0: g.size * (1 + (scale != 1) + (p > 0)),
    "adam": _adam,
    "sum_of_squares": lambda x: 2 * x.size,
    "rescale": lambda x, factor: x.size,
    "statistics": lambda x: 9 * x.size,  # isfinite, two extrema, a sum, a square and its sum, eq, two numbers of them
    "products": lambda x, y: 4 * x.size,
}


def operations(name: str, arguments: tuple[Any, ...]) -> int | None:
    """The operations of one call of a kernel; None for one that is not in the table, or computes nothing.

    >>> operations("matmul", (np.ones((3, 4)), np.ones((4, 5))))
    120
    """
    count = KERNELS.get(name)
    return None if count is None else int(count(*arguments))
