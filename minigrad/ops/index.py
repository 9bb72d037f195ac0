"""Choosing elements. An element chosen twice gets both gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..arguments import unwrap
from ..checks import axis, require
from ..core import Array, DTypeError, ShapeError
from ..dtypes import promote
from ..op import op
from .arithmetic import add, mul, where
from .norm import check_dropout, dropout


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
    padding = _check_table("embedding", indices, weight, padding_idx)
    size = len(weight)
    y = kernels.embed_tokens(indices, weight, None, 1.0)
    return y, (None, lambda g: kernels.embed_tokens_vjp(indices, g, size, padding, 1.0))


def embed_tokens_definition(
    ids: Any,
    weight: Any,
    positions: Any = None,
    *,
    scale: float = 1.0,
    padding_idx: int | None = None,
    p: float = 0.0,
    seed: int | None = None,
) -> Any:
    """dropout(scale embedding(ids) + positions)"""
    y = mul(embedding(ids, weight, padding_idx=padding_idx), scale)
    if positions is not None:
        y = add(y, positions)
    return y if seed is None else dropout(y, p=p, seed=seed)


@op(definition=embed_tokens_definition)
def embed_tokens(
    ids: Array,
    weight: Array,
    positions: Array | None = None,
    *,
    scale: float = 1.0,
    padding_idx: int | None = None,
    p: float = 0.0,
    seed: int | None = None,
) -> Any:
    """y[..., t, :] = dropout(scale W[ids[..., t]] + positions[t]): how a Transformer begins (Vaswani et al. 2017, 3.4).

    With h = g keep / (1 - p):   dL/dW[v] = scale (sum of h over all places where token v stands), and none for the row
    `padding_idx`;   dL/dpositions[t] = sum of h over the batch. Dropout as in `dropout`; p > 0 needs a seed.
    Shapes: ids (..., T) integer, W (V, D), positions (T, D) or None, y (..., T, D). Kept for the way back: ids.
    """
    padding = _check_table("embed_tokens", ids, weight, padding_idx)
    size, bits = len(weight), (p, check_dropout("embed_tokens", p, seed))
    if positions is None:
        y = kernels.embed_tokens(ids, weight, None, scale, *bits)
        return y, (None, lambda g: kernels.embed_tokens_vjp(ids, g, size, padding, scale, *bits), None)
    require(
        positions.shape == (*ids.shape[-1:], weight.shape[1]),
        "embed_tokens(): the ids have shape {}, the table {}, the positions {}; they must be (..., T), (V, D), (T, D)",
        ids,
        weight,
        positions,
    )
    weight, positions = promote(weight, positions)
    y = kernels.embed_tokens(ids, weight, positions, scale, *bits)
    places = np.arange(ids.shape[-1])
    return y, (
        None,
        lambda g: kernels.embed_tokens_vjp(ids, g, size, padding, scale, *bits),
        lambda g: kernels.embed_tokens_vjp(places, g, len(places), None, 1.0, *bits),
    )


def _check_table(name: str, ids: Array, weight: Array, padding_idx: int | None) -> int | None:
    """Raise unless `ids` are rows of the table `weight`; return `padding_idx` counted from the start."""
    if ids.dtype.kind not in "iu":
        raise DTypeError(f"{name}(): the indices have dtype {ids.dtype}; use integers")
    if weight.ndim != 2:
        raise ShapeError(f"{name}(): the table has shape {weight.shape}; it must be (V, D)")
    rows = len(weight)
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise IndexError(f"{name}(): padding_idx = {padding_idx} is not one of the {rows} rows of the table")
    if kernels.count_indices(ids, rows)[1]:
        wrong = ids[(ids < 0) | (ids >= rows)].flat[0]
        raise IndexError(
            f"{name}(): index {wrong} is not one of the {rows} rows 0..{rows - 1}. "
            "Check that the vocabulary is the one the model was built for."
        )
    return None if padding_idx is None else padding_idx % rows
