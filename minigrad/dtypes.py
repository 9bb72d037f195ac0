"""Which dtype a result has: PyTorch's rules, with float32 as the dtype of Python numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .core import Array, DTypeError, ShapeError, Value

default_dtype = np.dtype(np.float32)


def as_operand(op: Any, x: Any, inputs: tuple[Any, ...]) -> Array | None:
    """An argument that is not a tensor, as an array. None stays None where the op has an optional input."""
    if type(x) is np.ndarray:
        return x
    if x is None:
        required = inputs[: len(inputs) - op.optional]
        for position, y in enumerate(required, 1):
            if y is None:
                raise DTypeError(f"{op.name}(): argument {position} is None; give a tensor, an array or a number.")
        return None
    if isinstance(x, bool | int | float) and not isinstance(x, np.generic):
        return np.asarray(x, _scalar_dtype(x, inputs))
    return from_python(op.name, x)


def from_python(name: str, x: Any, dtype: Any = None) -> Array:
    """`x` as an array; Python floats, in lists too, become float32 unless a dtype is given."""
    try:
        array = np.asarray(x, dtype)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ShapeError(f"{name}(): the lists have different lengths. Pad them to one length first.") from None
    python = dtype is None and array.dtype.kind == "f" and not isinstance(x, np.ndarray | np.generic)
    return array.astype(default_dtype) if python else array


def _scalar_dtype(x: Any, inputs: tuple[Any, ...]) -> np.dtype:
    """The dtype for a Python number: it takes that of the arrays beside it, and only its *kind* can move them up."""
    dtypes = {y.data.dtype if isinstance(y, Value) else y.dtype for y in inputs if isinstance(y, Value | np.ndarray)}
    beside = dtypes.pop() if len(dtypes) == 1 else _promoted(dtypes)
    if beside.kind == "f" or isinstance(x, bool):
        return beside if beside.kind == "f" else np.dtype(bool)
    if isinstance(x, float):
        return default_dtype
    return beside if beside.kind in "iu" else np.dtype(np.int64)


def _promoted(dtypes: Any) -> np.dtype:
    """PyTorch's rule: a higher kind (bool < integer < float) wins, within a kind the wider dtype."""
    floating = [d for d in dtypes if d.kind == "f"]
    return np.result_type(*(floating or dtypes)) if dtypes else np.dtype(bool)


def promote(*arrays: Any, floating: bool = False) -> tuple[Any, ...]:
    """The arrays in a common dtype, as PyTorch chooses it; after the first, None stays None.

    Floats win over integers, whatever their width, and a 0-d array does not widen the others of its kind. With
    `floating`, integers become float32.
    """
    first = arrays[0].dtype
    for a in arrays:
        if a is not None and a.dtype is not first:
            break
    else:
        if not floating or first.kind == "f":
            return arrays
    given = [a for a in arrays if a is not None]
    rank = {"b": 0, "u": 1, "i": 1, "f": 2}
    for a in given:
        if a.dtype.kind not in rank:
            raise DTypeError(f"arrays of dtype {a.dtype} are not supported; use bool, an integer or a float dtype")
    by_shape = [a for a in given if a.ndim > 0]
    highest = max([rank[a.dtype.kind] for a in given])
    if not by_shape or max([rank[a.dtype.kind] for a in by_shape]) < highest:
        by_shape = given  # only 0-d arrays have the highest kind, so they decide
    dtype = _promoted([a.dtype for a in by_shape if rank[a.dtype.kind] == highest])
    if floating and dtype.kind != "f":
        dtype = default_dtype
    return tuple([a if a is None else a.astype(dtype, copy=False) for a in arrays])


def floating(x: Array) -> Array:
    """`x` itself if it is of a float dtype, else as float32: for functions whose results are not whole numbers."""
    return x if x.dtype.kind == "f" else x.astype(default_dtype)
