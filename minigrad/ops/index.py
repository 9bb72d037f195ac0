"""Choosing elements. An element chosen twice gets both gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import unwrap
from ..checks import axis, require
from ..core import Array, DTypeError, ShapeError
from ..dtypes import promote
from ..op import op
from .arithmetic import where


@op(view=True)
def index(x: Array, *, index: Any) -> Any:
    """y = x[index], index as in NumPy: integers, slices, None, ..., integer arrays, boolean masks.

    dL/dx = g put back into zeros at `index`; an element that was chosen several times gets the sum.
    """
    _check_order(index)
    try:
        y = x[index]
        if not isinstance(y, np.ndarray):  # a number: take the view of the one element instead
            y = x[(*index, ...) if isinstance(index, tuple) else (index, ...)]
    except IndexError as error:
        raise IndexError(f"index(): a has shape {x.shape}; {error}") from None
    shape, repeats = x.shape, _may_repeat(index)

    def product(g: Array) -> Array:
        d = np.zeros(shape, g.dtype)
        if repeats:
            np.add.at(d, index, g)
        else:
            d[index] = g
        return d

    return y, product


def _may_repeat(index: Any) -> bool:
    """Whether an index holds integer arrays: slices and masks choose an element at most once."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(p, list | tuple) or (isinstance(p, np.ndarray) and p.dtype != bool) for p in parts)


def _check_order(index: Any) -> None:
    """An error where NumPy would put the dimensions in another order than PyTorch."""
    parts = index if isinstance(index, tuple) else ()
    chosen = [i for i, p in enumerate(parts) if not (p is None or p is ... or isinstance(p, slice))]
    numbers = [i for i in chosen if isinstance(parts[i], int | np.integer)]
    if 0 < len(numbers) < len(chosen) != chosen[-1] - chosen[0] + 1:
        raise IndexError(
            "index(): a number and an array with a slice between them. Index twice: x[0][:, i], not x[0, :, i]."
        )


@op
def index_put(x: Array, value: Array, *, index: Any) -> Any:
    """y = x, but y[index] = value.   dL/dx = g with zeros at index,  dL/dvalue = g[index]

    An index must not name an element twice where a gradient is wanted: which value stays is not defined, as in PyTorch.
    """
    y, before = x.copy(), value.shape
    _check_order(index)
    while value.ndim and len(value) == 1:  # as in PyTorch, it may have more dimensions of size 1 in front than y[index]
        value = value[0]
    try:
        y[index] = value
    except (IndexError, ValueError) as error:
        kind = IndexError if isinstance(error, IndexError) else ShapeError
        raise kind(f"index_put(): a has shape {x.shape}, value has shape {before}; {error}") from None

    def product(g: Array) -> Array:
        d = g.copy()
        d[index] = 0
        return d

    return y, (product, lambda g: np.array(g[index], ndmin=len(before)))


@op
def gather(x: Array, index: Array, *, dim: int) -> Any:
    """y[i, j, k] = x[i, index[i, j, k], k] for dim = 1, and so on.   dL/dx: g added at the places it was taken from"""
    where, shape = _places("gather", x, index, dim), x.shape

    def product(g: Array) -> Array:
        d = np.zeros(shape, g.dtype)
        np.add.at(d, where, g)
        return d

    return x[where], (product, None)


@op
def scatter(x: Array, index: Array, value: Array, *, dim: int) -> Any:
    """y = x, but y[i, index[i, j, k], k] = value[i, j, k] for dim = 1.

    dL/dx = g, but 0 where something was written,  dL/dvalue = g at those places. As in PyTorch, which value stays is
    not defined where the index names a place twice.
    """
    where = _places("scatter", x, index, dim)
    x, value = promote(x, value)
    y = x.copy()
    y[where] = value

    def product(g: Array) -> Array:
        d = g.copy()
        d[where] = 0
        return d

    return y, (product, None, lambda g: g[where])


def _places(name: str, x: Array, index: Array, dim: int) -> tuple[Any, ...]:
    require(
        index.dtype.kind in "iu",
        f"{name}(): the index has dtype {index.dtype}; it must be an integer dtype",
        error=DTypeError,
    )
    if x.ndim == index.ndim == 0:
        return ()  # the one place there is
    i = axis(name, x, dim)
    fits = index.ndim == x.ndim and all(
        m <= n or d == i for d, (m, n) in enumerate(zip(index.shape, x.shape, strict=True))
    )
    require(
        fits, f"{name}(): a has shape {{}}, the index has shape {{}}; it may exceed a in dimension {i} only", x, index
    )
    if index.size and not (index.min() >= 0 and index.max() < x.shape[i]):
        raise IndexError(
            f"{name}(): a has shape {x.shape}; the index runs from {index.min()} to {index.max()} in dimension {i}"
        )
    where: list[Any] = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    where[i] = index
    return tuple(where)


def embedding_definition(indices: Any, weight: Any, *, padding_idx: int | None = None) -> Any:
    """W[indices]; the rows of padding as constants, which get no gradient"""
    rows = index(weight, index=unwrap(indices))
    if padding_idx is None:
        return rows
    padding = unwrap(indices) == padding_idx % len(weight)
    return where(padding[..., None], unwrap(rows), rows)


@op(definition=embedding_definition)
def embedding(indices: Array, weight: Array, *, padding_idx: int | None = None) -> Any:
    """y[..., :] = W[indices[...], :]: one row of the table for every token.

    dL/dW[v] = sum of g over all places where token v stands; the row `padding_idx` gets none.
    Shapes: indices (...) integer, W (V, D), y (..., D).
    """
    require(
        indices.dtype.kind in "iu",
        f"embedding(): the indices have dtype {indices.dtype}; use integers",
        error=DTypeError,
    )
    require(weight.ndim == 2, "embedding(): the table has shape {}; it must be (V, D)", weight)
    if indices.size and not (indices.min() >= 0 and indices.max() < len(weight)):
        wrong = indices[(indices < 0) | (indices >= len(weight))].flat[0]
        raise IndexError(
            f"embedding(): index {wrong} is not one of the {len(weight)} rows 0..{len(weight) - 1}. "
            "Check that the vocabulary is the one the model was built for."
        )

    shape = weight.shape

    def product(g: Array) -> Array:
        d = np.zeros(shape, g.dtype)
        np.add.at(d, indices, g)
        if padding_idx is not None:
            d[padding_idx] = 0
        return d

    return weight[indices], (None, product)
