"""Layer normalisation and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..checks import require, require_float
from ..core import Array
from ..op import op
from ..random import keep
from .arithmetic import add, div, mul, sqrt, sub
from .reduce import mean


def layer_norm_definition(x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> Any:
    """w (x - mean x) / sqrt(mean (x - mean x)^2 + eps) + b"""
    centred = sub(x, mean(x, dim=-1, keepdim=True))
    y = div(centred, sqrt(add(mean(mul(centred, centred), dim=-1, keepdim=True), eps)))
    y = y if weight is None else mul(y, weight)
    return y if bias is None else add(y, bias)


@op(definition=layer_norm_definition)
def layer_norm(x: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float = 1e-5) -> Any:
    """y = w n + b with n = (x - m) / s, m the mean and s = sqrt(variance + eps) of each row (Ba et al. 2016).

    dL/dx = (h - mean(h) - n mean(h n)) / s  with h = g w,   dL/dw = g n,   dL/db = g.
    The two means take away what a row cannot feel: a shift and a stretch of x leave n as it was.
    Shapes: x (..., D); w and b (D) or None.
    """
    require_float("layer_norm", x)
    require(x.ndim > 0, "layer_norm(): a has shape {}; it needs a last dimension to normalise", x)
    for p in (weight, bias):
        require(
            p is None or p.shape == x.shape[-1:], "layer_norm(): a has shape {}, a parameter {}; it must be (D,)", x, p
        )
    n = x - x.mean(-1, keepdims=True)
    s = np.sqrt((n * n).mean(-1, keepdims=True) + x.dtype.type(eps))
    n /= s

    def dx(g: Array) -> Array:
        h = g if weight is None else g * weight
        return (h - h.mean(-1, keepdims=True) - n * (h * n).mean(-1, keepdims=True)) / s

    y = n if weight is None else n * weight
    return (y if bias is None else y + bias), (dx, lambda g: g * n, lambda g: g)


def dropout_definition(x: Any, *, p: float, seed: int) -> Any:
    """x keep / (1 - p), keep a random 0 or 1 for every element"""
    scale = 1 / (1 - p) if p < 1 else 0.0
    return mul(x, keep(x.shape, p, seed).astype(x.dtype) * x.dtype.type(scale))


@op(definition=dropout_definition)
def dropout(x: Array, *, p: float, seed: int) -> Any:
    """y = x keep / (1 - p): each element is kept with probability 1 - p (Srivastava et al. 2014).

    dL/dx = g keep / (1 - p). `keep` is a function of (seed, position of the element): the way back computes the same
    bits again, nothing is stored.
    """
    require_float("dropout", x)
    require(0 <= p <= 1, f"dropout(): p = {p}; a probability lies in [0, 1]", error=ValueError)
    return kernels.dropout(x, p, seed), lambda g: kernels.dropout(g, p, seed)
