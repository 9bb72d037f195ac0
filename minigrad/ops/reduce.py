"""Many elements to one. `dim` is None (all), a dimension or a tuple of them; `keepdim` leaves them in with size 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import axes, axis, require, require_float
from ..core import Array
from ..dtypes import floating
from ..op import op
from .arithmetic import add, div, exp, log, mul, sqrt, sub
from .shape import reshape

Dim = int | tuple[int, ...] | None


def _kept(x: Array, dims: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of `x` with size 1 in the reduced dimensions: what broadcasts back to x."""
    return tuple(1 if i in dims else n for i, n in enumerate(x.shape))


def _count(x: Array, dims: tuple[int, ...]) -> int:
    return int(np.prod([x.shape[i] for i in dims], dtype=np.int64))


@op
def sum(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Any:
    """y = sum_i x_i.   dL/dx_i = g: every element counts once.   Booleans and integers sum to int64."""
    dims = axes("sum", x, dim)
    shape, kept = x.shape, _kept(x, dims)
    whole = np.int64 if x.dtype.kind in "biu" else None
    return x.sum(axis=dims, keepdims=keepdim, dtype=whole), lambda g: np.broadcast_to(g.reshape(kept), shape)


def mean_definition(x: Any, *, dim: Dim = None, keepdim: bool = False) -> Any:
    """sum(x) / n"""
    return div(sum(x, dim=dim, keepdim=keepdim), _count(x, axes("mean", x, dim)))


@op(definition=mean_definition)
def mean(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Any:
    """y = 1/n sum_i x_i.   dL/dx_i = g / n.   The mean of nothing is NaN."""
    require_float("mean", x)
    dims = axes("mean", x, dim)
    shape, kept, n = x.shape, _kept(x, dims), x.dtype.type(_count(x, dims))
    y = x.sum(axis=dims, keepdims=keepdim) / n
    return y, lambda g: np.broadcast_to(g.reshape(kept) / n, shape)


def var_definition(x: Any, *, dim: Dim = None, keepdim: bool = False, correction: int = 1) -> Any:
    """sum((x - mean x)^2) / (n - correction)"""
    centred = sub(x, mean(x, dim=dim, keepdim=True))
    n = _count(x, axes("var", x, dim)) - correction
    return div(sum(mul(centred, centred), dim=dim, keepdim=keepdim), max(n, 0))


@op(definition=var_definition)
def var(x: Array, *, dim: Dim = None, keepdim: bool = False, correction: int = 1) -> Any:
    """y = 1/(n - c) sum_i (x_i - m)^2, m the mean; c = 1 makes it unbiased (Bessel), c = 0 is the plain mean square.

    dL/dx_i = g 2/(n - c) (x_i - m): the path through m adds nothing, since sum_i (x_i - m) = 0.
    """
    require_float("var", x)
    dims, centred, n = _centred("var", x, dim, correction)
    y = (centred * centred).sum(axis=dims, keepdims=keepdim) / x.dtype.type(n)
    kept, slope = _kept(x, dims), x.dtype.type(2 / n if n else np.nan)
    return y, lambda g: g.reshape(kept) * centred * slope


def std_definition(x: Any, *, dim: Dim = None, keepdim: bool = False, correction: int = 1) -> Any:
    """sqrt(var(x))"""
    return sqrt(var(x, dim=dim, keepdim=keepdim, correction=correction))


@op(definition=std_definition)
def std(x: Array, *, dim: Dim = None, keepdim: bool = False, correction: int = 1) -> Any:
    """y = sqrt(var(x)).   dL/dx_i = g (x_i - m) / ((n - c) y), and 0 where y = 0, as in PyTorch (by definition NaN)."""
    require_float("std", x)
    dims, centred, n = _centred("std", x, dim, correction)
    y = np.sqrt((centred * centred).sum(axis=dims, keepdims=True) / x.dtype.type(n))

    def product(g: Array) -> Array:
        slope = np.divide(centred, n * y, out=np.zeros_like(centred), where=y != 0)
        return g.reshape(y.shape) * slope

    return (y if keepdim else y.reshape([m for i, m in enumerate(y.shape) if i not in dims])), product


def _centred(name: str, x: Array, dim: Dim, correction: int) -> tuple[tuple[int, ...], Array, int]:
    dims = axes(name, x, dim)
    centred = x - x.sum(axis=dims, keepdims=True) / x.dtype.type(_count(x, dims))
    return dims, centred, max(_count(x, dims) - correction, 0)


@op
def amax(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Any:
    """y = max_i x_i.   The largest element gets g; equal ones share it evenly."""
    return _extremum("amax", np.max, x, dim, keepdim)


@op
def amin(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Any:
    """y = min_i x_i.   The smallest element gets g; equal ones share it evenly."""
    return _extremum("amin", np.min, x, dim, keepdim)


def _extremum(name: str, reduce: Any, x: Array, dim: Dim, keepdim: bool) -> Any:
    dims = axes(name, x, dim)
    require(_count(x, dims) > 0, f"{name}(): a has shape {{}}; nothing to choose from along dim {dim}", x)
    best = np.asarray(reduce(x, axis=dims, keepdims=True))

    def product(g: Array) -> Array:
        hit = x == best
        return g.reshape(best.shape) * hit / hit.sum(axis=dims, keepdims=True, dtype=x.dtype)

    return (best if keepdim else best.reshape([n for i, n in enumerate(best.shape) if i not in dims])), product


@op
def argmax(x: Array, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The index of the first largest element, int64; without `dim`, in the flattened array. No gradient."""
    return _arg("argmax", np.argmax, x, dim, keepdim), None


@op
def argmin(x: Array, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The index of the first smallest element, int64; without `dim`, in the flattened array. No gradient."""
    return _arg("argmin", np.argmin, x, dim, keepdim), None


def _arg(name: str, reduce: Any, x: Array, dim: int | None, keepdim: bool) -> Array:
    i = None if dim is None else axis(name, x, dim)
    require(
        x.shape[i] > 0 if i is not None and x.ndim else x.size > 0,
        f"{name}(): a has shape {{}}; nothing to choose from",
        x,
    )
    return np.asarray(reduce(x, axis=i if x.ndim else None, keepdims=keepdim), np.int64)


@op
def all(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Any:
    """Whether every element is true (not zero); no gradient"""
    return np.all(x, axis=axes("all", x, dim), keepdims=keepdim), None


@op
def any(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Any:
    """Whether some element is true (not zero); no gradient"""
    return np.any(x, axis=axes("any", x, dim), keepdims=keepdim), None


def logsumexp_definition(x: Any, *, dim: Dim = None, keepdim: bool = False) -> Any:
    """m + log(sum(exp(x - m))), m = max(x): exp never sees a positive number"""
    m = amax(x, dim=dim, keepdim=True)
    y = add(log(sum(exp(sub(x, m)), dim=dim, keepdim=True)), m)
    dims = axes("logsumexp", x, dim)
    return y if keepdim else reshape(y, shape=tuple(n for i, n in enumerate(x.shape) if i not in dims))


@op(definition=logsumexp_definition)
def logsumexp(x: Array, *, dim: Dim = None, keepdim: bool = False) -> Any:
    """y = ln sum_i e^(x_i).   dL/dx_i = g e^(x_i - y) = g softmax(x)_i"""
    x = floating(x)
    dims = axes("logsumexp", x, dim)
    m = x.max(axis=dims, keepdims=True, initial=-np.inf)
    m = np.where(np.isfinite(m), m, 0).astype(x.dtype)  # a row of -inf is ln 0 = -inf, not NaN
    y = np.log(np.exp(x - m).sum(axis=dims, keepdims=True)) + m

    def product(g: Array) -> Array:
        return g.reshape(y.shape) * np.where(np.isneginf(x), 0, np.exp(x - y))

    return (y if keepdim else y.reshape([n for i, n in enumerate(y.shape) if i not in dims])), product
