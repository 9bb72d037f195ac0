"""The same elements in another arrangement. The way back is the inverse arrangement; what was copied is summed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import axes, axis, require
from ..core import Array, ShapeError
from ..dtypes import promote
from ..op import op


@op(view=True)
def reshape(x: Array, *, shape: tuple[int, ...]) -> Any:
    """y has the elements of x in C order, in another shape; one size may be -1.   dL/dx = g in the shape of x.

    Shares memory with x where the strides allow it, else copies.
    """
    before = x.shape  # a closure over x itself would keep its memory alive
    return _reshaped("reshape", x, shape, None), lambda g: g.reshape(before)


@op(view=True)
def view(x: Array, *, shape: tuple[int, ...]) -> Any:
    """`reshape` that never copies: an error where the elements are not in the right order.   dL/dx = g in x's shape"""
    before = x.shape
    return _reshaped("view", x, shape, False), lambda g: g.reshape(before)


def _reshaped(name: str, x: Array, shape: tuple[int, ...], copy: bool | None) -> Array:
    try:
        return np.reshape(x, shape, copy=copy)
    except ValueError:
        pass
    try:
        np.empty(x.shape, bool).reshape(shape)
    except ValueError:
        raise ShapeError(f"{name}(): a has shape {x.shape}, {x.size} elements; they do not fit into {shape}.") from None
    raise ShapeError(f"{name}(): a has shape {x.shape}, not contiguous; as {shape} it must be copied. Use reshape().")


@op(view=True)
def permute(x: Array, *, dims: tuple[int, ...]) -> Any:
    """y[i_dims[0], i_dims[1], ...] = x[i_0, i_1, ...].   dL/dx = g permuted back"""
    order = axes("permute", x, dims) if dims else ()
    require(len(order) == x.ndim, f"permute(): a has shape {{}}; dims {tuple(dims)} must name every dimension once", x)
    return x.transpose(order), lambda g: g.transpose(np.argsort(order))


@op(view=True)
def transpose(x: Array, *, dim0: int, dim1: int) -> Any:
    """Two dimensions swapped.   dL/dx = g with the same two swapped back"""
    i, j = axis("transpose", x, dim0), axis("transpose", x, dim1)
    return (x.swapaxes(i, j) if x.ndim else x.view()), lambda g: g.swapaxes(i, j) if g.ndim else g


@op(view=True)
def expand(x: Array, *, shape: tuple[int, ...]) -> Any:
    """x repeated to `shape` without copying (stride 0); -1 keeps a size.   dL/dx = g summed over the repetitions"""
    new = len(shape) - x.ndim
    require(
        new >= 0 and -1 not in shape[:new], f"expand(): a has shape {{}}; it cannot be expanded to {tuple(shape)}", x
    )
    full = tuple(x.shape[i - new] if n == -1 else n for i, n in enumerate(shape))
    try:
        return np.broadcast_to(x, full), lambda g: g
    except ValueError:
        raise ShapeError(
            f"expand(): a has shape {x.shape}; only dimensions of size 1 can be expanded, to {full} it cannot."
        ) from None


@op(view=True)
def squeeze(x: Array, *, dim: int | tuple[int, ...] | None = None) -> Any:
    """x without those dimensions of `dim` (all, if None) that have size 1.   dL/dx = g in the shape of x"""
    dims = tuple(i for i in axes("squeeze", x, dim) if x.shape[i] == 1)
    before = x.shape
    return x.squeeze(dims), lambda g: g.reshape(before)


@op(view=True)
def unsqueeze(x: Array, *, dim: int) -> Any:
    """x with a new dimension of size 1 at `dim`.   dL/dx = g in the shape of x"""
    if not -x.ndim - 1 <= dim <= x.ndim:
        raise IndexError(f"unsqueeze(): a has shape {x.shape}; dim {dim} is outside [{-x.ndim - 1}, {x.ndim}]")
    before = x.shape
    return np.expand_dims(x, dim), lambda g: g.reshape(before)


@op
def cat(*xs: Array, dim: int = 0) -> Any:
    """The arrays one behind the other along `dim`.   dL/dx_k = its own stretch of g"""
    xs = tuple(promote(*_some("cat", xs)))
    i = axis("cat", xs[0], dim)
    for x in xs[1:]:
        fits = x.ndim == xs[0].ndim and x.shape[:i] + x.shape[i + 1 :] == xs[0].shape[:i] + xs[0].shape[i + 1 :]
        require(fits, f"cat(): a has shape {{}}, b has shape {{}}; they may differ in dimension {i} only", xs[0], x)
    require(xs[0].ndim > 0, "cat(): a has shape {}; 0-d tensors have no dimension to join along. Use stack().", xs[0])
    ends = np.cumsum([x.shape[i] for x in xs])

    def stretch(k: int) -> Any:
        where = (*[slice(None)] * i, slice(ends[k - 1] if k else 0, ends[k]))
        return lambda g: g[where]

    return np.concatenate(xs, axis=i), tuple(stretch(k) for k in range(len(xs)))


@op
def stack(*xs: Array, dim: int = 0) -> Any:
    """The arrays side by side along a new dimension.   dL/dx_k = g at position k"""
    xs = tuple(promote(*_some("stack", xs)))
    for x in xs[1:]:
        require(x.shape == xs[0].shape, "stack(): a has shape {}, b has shape {}; the shapes must be equal", xs[0], x)
    y = np.stack(xs, axis=dim) if -xs[0].ndim - 1 <= dim <= xs[0].ndim else None
    if y is None:
        raise IndexError(f"stack(): a has shape {xs[0].shape}; dim {dim} is outside [{-xs[0].ndim - 1}, {xs[0].ndim}]")

    def slot(k: int) -> Any:
        return lambda g: np.take(g, k, axis=dim)

    return y, tuple(slot(k) for k in range(len(xs)))


def _some(name: str, xs: tuple[Array, ...]) -> tuple[Array, ...]:
    require(len(xs) > 0, f"{name}(): the list of tensors is empty; give at least one", error=ValueError)
    return xs


@op
def flip(x: Array, *, dims: tuple[int, ...]) -> Any:
    """x read backwards along `dims`.   dL/dx = g read backwards"""
    order = axes("flip", x, dims) if dims else ()
    return np.flip(x, order).copy(), lambda g: np.flip(g, order)


@op
def roll(x: Array, *, shifts: int, dim: int) -> Any:
    """x moved by `shifts` along `dim`; what falls out at the end comes in at the start.   dL/dx = g moved back"""
    i = axis("roll", x, dim)
    return np.roll(x, shifts, axis=i), lambda g: np.roll(g, -shifts, axis=i)


@op
def pad(x: Array, *, pad: tuple[int, ...], value: float = 0.0) -> Any:
    """x with a border of `value`; `pad` = (left, right) of the last dimension, then of the one before, as in PyTorch.

    Negative widths crop.   dL/dx = g without the border.
    """
    require(
        len(pad) % 2 == 0 and len(pad) <= 2 * x.ndim,
        f"pad(): a has shape {{}}; pad {tuple(pad)} must be pairs (left, right), from the last dimension backwards",
        x,
    )
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[-2::-2], pad[-1::-2], strict=True))
    crop = tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, pairs, strict=True))
    border = [(max(a, 0), max(b, 0)) for a, b in pairs]
    y = np.pad(x[crop], border, constant_values=value)
    inner = tuple(slice(a, n - b) for n, (a, b) in zip(y.shape, border, strict=True))

    before = x.shape

    def product(g: Array) -> Array:
        d = np.zeros(before, g.dtype)
        d[crop] = g[inner]
        return d

    return y, product


@op
def tril(x: Array, *, diagonal: int = 0) -> Any:
    """x with zeros above the diagonal of its last two dimensions.   dL/dx = g with the same zeros"""
    require(x.ndim >= 2, "tril(): a has shape {}; it needs at least two dimensions", x)
    return np.tril(x, diagonal), lambda g: np.tril(g, diagonal)


@op
def triu(x: Array, *, diagonal: int = 0) -> Any:
    """x with zeros below the diagonal of its last two dimensions.   dL/dx = g with the same zeros"""
    require(x.ndim >= 2, "triu(): a has shape {}; it needs at least two dimensions", x)
    return np.triu(x, diagonal), lambda g: np.triu(g, diagonal)


@op(view=True)
def contiguous(x: Array) -> Any:
    """x laid out in C order, copied only if it is not already.   dL/dx = g"""
    return np.ascontiguousarray(x).reshape(x.shape), lambda g: g


@op
def clone(x: Array) -> Any:
    """A copy.   dL/dx = g"""
    return np.array(x, order="C"), lambda g: g


@op(view=True)
def alias(x: Array) -> Any:
    """x itself, under a new node: what an in-place write leaves in the graph.   dL/dx = g"""
    return x.view(), lambda g: g


@op
def cast(x: Array, *, dtype: Any) -> Any:
    """x in another dtype.   dL/dx = g in the dtype of x; no gradient through whole numbers"""
    y = x.astype(dtype)
    return y, (lambda g: g) if y.dtype.kind == "f" else None
