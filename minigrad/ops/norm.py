"""Layer normalisation, alone and at the end of a residual connection, and dropout."""

from __future__ import annotations

from typing import Any

from .. import kernels
from ..checks import require, require_float, require_number
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
    _check("layer_norm", x, weight, bias, eps)
    y, n, r = kernels.layer_norm(x, weight, bias, eps)
    return y, lambda g: kernels.layer_norm_vjp(n, r, weight, g)


def _check(name: str, x: Array, weight: Array | None, bias: Array | None, eps: float) -> None:
    require_float(name, x)
    require_number(name, "eps", eps)
    require(x.ndim > 0, f"{name}(): a has shape {{}}; it needs a last dimension to normalise", x)
    for p in (weight, bias):
        if p is not None and p.shape != x.shape[-1:]:
            require(False, f"{name}(): a has shape {{}}, a parameter {{}}; it must be (D,)", x, p)


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
    check_dropout("dropout", p, seed)
    return kernels.dropout(x, p, seed), lambda g: kernels.dropout(g, p, seed)


def add_layer_norm_definition(
    x: Any,
    branch: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    eps: float = 1e-5,
    p: float = 0.0,
    seed: int | None = None,
) -> Any:
    """layer_norm(x + dropout(branch))"""
    branch = branch if p == 0 else dropout(branch, p=p, seed=seed)
    return layer_norm(add(x, branch), weight, bias, eps=eps)


@op(definition=add_layer_norm_definition)
def add_layer_norm(
    x: Array,
    branch: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    p: float = 0.0,
    seed: int | None = None,
) -> Any:
    """y = layer_norm(x + dropout(branch)): the end of a residual connection (Vaswani et al. 2017, section 3.1).

    dL/dx, dL/dw and dL/db are those of `layer_norm`;   dL/dbranch = dL/dx keep / (1 - p).
    Without dropout (p = 0) no seed is needed. Shapes: x and branch (..., D); w and b (D) or None.
    """
    _check("add_layer_norm", x, weight, bias, eps)
    require_float("add_layer_norm", branch)
    if branch.shape != x.shape:
        require(
            False,
            "add_layer_norm(): a has shape {}, the branch has shape {}; they must be equal. Try expand().",
            x,
            branch,
        )
    seed = check_dropout("add_layer_norm", p, seed)
    y, n, r = kernels.add_layer_norm(x, branch, weight, bias, eps, p, seed)
    return y, lambda g: kernels.add_layer_norm_vjp(n, r, weight, g, p, seed)


def check_dropout(name: str, p: float, seed: int | None) -> int:
    """The seed, if there is one where it is needed and p is a probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name}(): p = {p}; a probability lies in [0, 1]")
    if p > 0 and seed is None:
        raise ValueError(f"{name}(): dropout needs a seed; try seed=random.next_seed()")
    return seed or 0
