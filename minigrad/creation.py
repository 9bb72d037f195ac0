"""New tensors: filled, counted, random, joined. Sizes may be given as zeros(2, 3) or zeros((2, 3))."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import ops, random
from .arguments import sequence, sizes
from .core import Array
from .dtypes import default_dtype
from .tensor import Tensor


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data`: a number, nested lists, an array or a tensor.

    >>> tensor([[1, 2], [3, 4]]).dtype
    dtype('int64')
    """
    copy = Tensor(data, dtype=dtype)
    copy.data = copy.data.copy()
    return copy.requires_grad_() if requires_grad else copy


def from_numpy(array: Array) -> Tensor:
    """A tensor that shares memory with `array`."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy(): expected a NumPy array, got {type(array).__name__}; use tensor() to convert")
    return Tensor(array)


def _new(array: Array, requires_grad: bool) -> Tensor:
    return Tensor(array, requires_grad=requires_grad)


def empty(*size: Any, dtype: Any = default_dtype, requires_grad: bool = False) -> Tensor:
    """Whatever was in memory."""
    return _new(np.empty(sizes(size), dtype), requires_grad)


def zeros(*size: Any, dtype: Any = default_dtype, requires_grad: bool = False) -> Tensor:
    """All zeros."""
    return _new(np.zeros(sizes(size), dtype), requires_grad)


def ones(*size: Any, dtype: Any = default_dtype, requires_grad: bool = False) -> Tensor:
    """All ones."""
    return _new(np.ones(sizes(size), dtype), requires_grad)


def full(size: Any, value: float, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """The same value everywhere; the dtype is that of the value unless given."""
    return _new(np.full(size, Tensor(value, dtype=dtype).data), requires_grad)


def zeros_like(x: Tensor) -> Tensor:
    """Zeros in the shape and dtype of `x`."""
    return Tensor(np.zeros_like(x.data, order="C"))


def ones_like(x: Tensor) -> Tensor:
    """Ones in the shape and dtype of `x`."""
    return Tensor(np.ones_like(x.data, order="C"))


def arange(start: float, end: float | None = None, step: float = 1, dtype: Any = None) -> Tensor:
    """start, start + step, ... below `end`; arange(end) starts at 0. int64 for whole numbers, else float32.

    >>> arange(3)
    tensor([0, 1, 2])
    """
    array = np.arange(start, end, step) if end is not None else np.arange(start)
    return Tensor(array, dtype=dtype or (default_dtype if array.dtype.kind == "f" else None))


def eye(n: int, m: int | None = None, dtype: Any = default_dtype) -> Tensor:
    """Ones on the diagonal of an n x m matrix."""
    return Tensor(np.eye(n, m, dtype=dtype))


def rand(*size: Any, dtype: Any = default_dtype, requires_grad: bool = False) -> Tensor:
    """Uniform in [0, 1)."""
    return _new(random.generator().random(sizes(size)).astype(dtype), requires_grad)


def randn(*size: Any, dtype: Any = default_dtype, requires_grad: bool = False) -> Tensor:
    """Normal with mean 0 and variance 1."""
    return _new(random.generator().standard_normal(sizes(size)).astype(dtype), requires_grad)


def randint(low: int, high: int | None = None, size: Any = (), dtype: Any = np.int64) -> Tensor:
    """Whole numbers from low to high - 1; randint(high, size=...) starts at 0."""
    low, high = (0, low) if high is None else (low, high)
    return Tensor(random.generator().integers(low, high, size).astype(dtype))


def randperm(n: int) -> Tensor:
    """0..n-1 in random order."""
    return Tensor(random.generator().permutation(n))


def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """The tensors one behind the other along `dim`.

    >>> cat([zeros(1), ones(2)])
    tensor([0., 1., 1.])
    """
    return ops.cat(*sequence("cat", tensors), dim=dim)


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """The tensors side by side along a new dimension.

    >>> stack([zeros(2), ones(2)], 1)
    tensor([[0., 1.],
            [0., 1.]])
    """
    return ops.stack(*sequence("stack", tensors), dim=dim)


def tril(x: Any, diagonal: int = 0) -> Tensor:
    """`x` with zeros above the diagonal of its last two dimensions."""
    return ops.tril(x, diagonal=diagonal)


def triu(x: Any, diagonal: int = 0) -> Tensor:
    """`x` with zeros below the diagonal of its last two dimensions."""
    return ops.triu(x, diagonal=diagonal)


def flip(x: Any, dims: Sequence[int]) -> Tensor:
    """`x` read backwards along `dims`."""
    return ops.flip(x, dims=sizes((dims,)))


def roll(x: Any, shifts: int, dims: int) -> Tensor:
    """`x` moved by `shifts` along `dims`; what falls out at the end comes in at the start."""
    return ops.roll(x, shifts=shifts, dim=dims)


def softmax(x: Any, dim: int) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`."""
    return ops.softmax(x, dim=dim)
