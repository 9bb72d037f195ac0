"""What users may write as data, index or shape, as plain NumPy things."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .core import Array, DTypeError, ShapeError, Value
from .dtypes import from_python


def as_array(data: Any, dtype: Any = None) -> Array:
    """`data` as an array: Python numbers become float32, int64 or bool, arrays and tensors keep their dtype."""
    array = np.asarray(data.data, dtype) if isinstance(data, Value) else from_python("tensor", plain(data), dtype)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"tensor(): data of dtype {array.dtype} is not supported; use floats, integers or booleans.")
    return array


def plain(x: Any) -> Any:
    """`x` with every Tensor in it, in tuples and lists too, replaced by its array (a 0-d integer by a number)."""
    if isinstance(x, Value):
        return int(x.data) if x.data.ndim == 0 and x.data.dtype.kind in "iu" else x.data
    if isinstance(x, tuple | list):
        return type(x)(plain(item) for item in x)
    return x


def sizes(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes given as view(2, 3), view((2, 3)) or view([2, 3])."""
    given = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], Sequence) else arguments
    try:
        return tuple(operator.index(n) for n in given)
    except TypeError:
        raise TypeError(f"sizes are whole numbers, as in (2, 3); got {', '.join(map(repr, arguments))}") from None


def only_one(name: str, x: Array, remedy: str) -> Any:
    """The single element of `x` as a Python number."""
    if x.size != 1:
        raise ShapeError(f"{name}(): a has shape {x.shape}, {x.size} elements; there must be exactly one. {remedy}")
    return x.item()


def sequence(name: str, tensors: Any) -> Sequence[Any]:
    """The one list or tuple that cat() and stack() take."""
    if not isinstance(tensors, list | tuple):
        raise TypeError(f"{name}(): expected a list of tensors, got a {type(tensors).__name__}; write {name}([a, b])")
    return tensors


def flattened(x: Array, start: int, end: int) -> tuple[int, ...]:
    """The shape of `x` with the dimensions start..end as one."""
    if x.ndim == 0:
        return (1,)
    start, end = start % x.ndim, end % x.ndim
    return (*x.shape[:start], int(np.prod(x.shape[start : end + 1])), *x.shape[end + 1 :])


def pickled(x: Any) -> tuple[Any, ...]:
    """What pickle stores of a leaf: its data and whether it wants a gradient."""
    if not x.is_leaf:
        raise TypeError("pickle: only leaves can be pickled; this tensor is the result of an operation. Use .detach().")
    return partial(type(x), requires_grad=x.requires_grad), (x.data,)


def no_number(x: Any) -> bool:
    """Whether nothing is equal to `x`: a comparison with None is False, not an array of False."""
    return x is None or isinstance(x, str)


def unwrap(x: Any) -> Any:
    """The array of a tensor; anything else as it is."""
    return x.data if isinstance(x, Value) else x
