"""What users may write as data, index or shape, as plain NumPy things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .core import Array, DTypeError, Value
from .dtypes import default_dtype


def as_array(data: Any, dtype: Any = None) -> Array:
    """`data` as an array: Python numbers become float32, int64 or bool, arrays and tensors keep their dtype."""
    array = np.asarray(data.data if isinstance(data, Value) else plain(data), dtype)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"tensor(): data of dtype {array.dtype} is not supported; use floats, integers or booleans.")
    given = dtype is not None or isinstance(data, Value | np.ndarray | np.generic)
    return array if given or array.dtype.kind != "f" else array.astype(default_dtype)


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
    return tuple(int(n) for n in given)


def flattened(x: Array, start: int, end: int) -> tuple[int, ...]:
    """The shape of `x` with the dimensions start..end as one."""
    if x.ndim == 0:
        return (1,)
    start, end = start % x.ndim, end % x.ndim
    return (*x.shape[:start], int(np.prod(x.shape[start : end + 1])), *x.shape[end + 1 :])


def no_number(x: Any) -> bool:
    """Whether nothing is equal to `x`: a comparison with None is False, not an array of False."""
    return x is None or isinstance(x, str)


def unwrap(x: Any) -> Any:
    """The array of a tensor; anything else as it is."""
    return x.data if isinstance(x, Value) else x
