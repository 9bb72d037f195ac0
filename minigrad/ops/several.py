"""Functions with several results, made of ops with one result each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import axis
from ..core import ShapeError
from .index import gather, index
from .reduce import amax, amin, argmax, argmin
from .shape import squeeze


class Extremum(NamedTuple):
    """What `max(dim)` and `min(dim)` return."""

    values: Any
    indices: Any


def maximum_along(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """All: the largest value, its gradient shared among ties. Along `dim`: (values, indices), one index takes all."""
    return amax(x) if dim is None else _along(x, argmax(x, dim=dim, keepdim=True), dim, keepdim)


def minimum_along(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """All: the smallest value, its gradient shared among ties. Along `dim`: (values, indices), one index takes all."""
    return amin(x) if dim is None else _along(x, argmin(x, dim=dim, keepdim=True), dim, keepdim)


def _along(x: Any, indices: Any, dim: int, keepdim: bool) -> Extremum:
    values = gather(x, indices, dim=dim) if x.ndim else x
    return Extremum(values, indices) if keepdim else Extremum(squeeze(values, dim=dim), squeeze(indices, dim=dim))


def split(x: Any, size: int | Sequence[int], dim: int = 0) -> tuple[Any, ...]:
    """Views of `x`: pieces of `size` along `dim` (the last may be smaller), or of the sizes given."""
    i = axis("split", x, dim)
    n = x.shape[i]
    lengths = [min(size, n - start) for start in range(0, n, size)] if isinstance(size, int) else list(size)
    if sum(lengths) != n:
        raise ShapeError(f"split(): a has shape {x.shape}; the sizes {lengths} must add up to {n}")
    ends = np.cumsum(lengths).tolist()
    return tuple(
        index(x, index=(*[slice(None)] * i, slice(end - length, end)))
        for end, length in zip(ends, lengths, strict=True)
    )
