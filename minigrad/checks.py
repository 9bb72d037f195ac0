"""What the ops ask of their arguments, and the errors that say so."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from .core import Array, DTypeError, ShapeError


def require(condition: bool, message: str, *arrays: Array | None, error: type[Exception] = ShapeError) -> None:
    """Raise `error` unless `condition`; each {} of the message is filled with the shape of one of `arrays`."""
    if not condition:
        raise error(message.format(*[None if a is None else a.shape for a in arrays]))


def require_float(name: str, x: Array) -> None:
    """Raise a DTypeError unless `x` is of a float dtype."""
    if x.dtype.kind != "f":
        raise DTypeError(f"{name}(): a has dtype {x.dtype}; it must be a float dtype. Convert it with .float() first.")


def require_number(name: str, setting: str, x: Any) -> None:
    """Raise a TypeError unless the setting is a number."""
    if type(x) is not float and not isinstance(x, Real):
        raise TypeError(f"{name}(): {setting} = {x!r}; it must be a number")


def require_whole(name: str, setting: str, x: Any) -> None:
    """Raise a TypeError unless the setting is a whole number."""
    if type(x) is not int and (isinstance(x, bool) or not isinstance(x, Integral)):
        raise TypeError(f"{name}(): {setting} = {x!r}; it must be a whole number")


def mismatch(name: str, arrays: list[Array | None]) -> ShapeError:
    """The error for arrays that NumPy could not broadcast."""
    shapes = " and ".join([str(a.shape) for a in arrays if a is not None])
    return ShapeError(
        f"{name}(): the arguments have shapes {shapes}; sizes must be equal or 1, counted from the last dimension. "
        "Try unsqueeze() or view() to line them up."
    )


def axes(name: str, a: Array, dim: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """`dim` as non-negative axis numbers of `a`, in the order given; None and () mean all of them, as in PyTorch."""
    dims = (dim,) if isinstance(dim, int | np.integer) else tuple(dim or ())
    if not dims:
        return tuple(range(a.ndim))
    span = max(a.ndim, 1)
    for d in dims:
        if not -span <= d < span:
            raise IndexError(f"{name}(): a has shape {a.shape}; dim {d} is outside [{-span}, {span - 1}]")
    result = tuple(int(d % span) for d in dims) if a.ndim else ()
    require(len(set(result)) == len(result), f"{name}(): a has shape {{}}; dim {dim} names one dimension twice", a)
    return result


def axis(name: str, a: Array, dim: int) -> int:
    """One dimension of `a`, non-negative; 0 for a 0-d array."""
    if type(dim) is int and dim == -1 and a.ndim:  # nearly always
        return a.ndim - 1
    return (*axes(name, a, dim), 0)[0]
