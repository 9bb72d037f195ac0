"""The computations that take the time: plain arrays in, plain arrays out.

Each exists twice, in NumPy (`reference`, the page to read) and in Numba (`gemm`, `rows`, `elementwise`), with the same
results up to rounding. Numba's are used unless `use("numpy")` or the environment variable MINIGRAD_KERNELS=numpy says
otherwise. They are compiled when they are first called, and the compiled code is kept on disk for the next process.

Inputs are never written. Results are newly allocated, C-contiguous, in the dtype of the input, and do not depend on the
number of threads.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import reference
from .threads import get_num_threads, set_num_threads

Array = np.ndarray


def matmul(a: Array, b: Array) -> Array:
    """c[..., i, j] = sum_k a[..., i, k] b[..., k, j]; a (..., M, K), b (..., K, N), leading dimensions broadcast."""
    return _functions.matmul(a, b)


def softmax(x: Array, dim: int) -> Array:
    """y_i = e^(x_i) / sum_j e^(x_j)"""
    return _functions.softmax(x, dim)


def softmax_vjp(y: Array, g: Array, dim: int) -> Array:
    """dL/dx_i = y_i (g_i - sum_j g_j y_j), for softmax and masked softmax with the result y."""
    return _functions.softmax_vjp(y, g, dim)


def log_softmax(x: Array, dim: int) -> Array:
    """y_i = x_i - log sum_j e^(x_j)"""
    return _functions.log_softmax(x, dim)


def log_softmax_vjp(y: Array, g: Array, dim: int) -> Array:
    """dL/dx_i = g_i - e^(y_i) sum_j g_j, for log-softmax with the result y."""
    return _functions.log_softmax_vjp(y, g, dim)


def masked_softmax(x: Array, mask: Array, dim: int) -> Array:
    """y_i = mask_i e^(x_i) / sum_j mask_j e^(x_j); the mask (True = allowed) broadcasts to x; a row of False is 0."""
    return _functions.masked_softmax(x, mask, dim)


def dropout(x: Array, p: float, seed: int) -> Array:
    """y_i = x_i keep_i / (1 - p) with keep a function of (seed, i), see `reference.keep`; its own vjp."""
    return _functions.dropout(x, p, seed)


def erf(x: Array) -> Array:
    """The error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    return _functions.erf(x)


class _AtFirstCall:
    """Stands for the Numba kernels until one of them is called, because importing Numba takes a third of a second."""

    def __getattr__(self, name: str) -> Any:
        global _functions, _numba
        if name.startswith("_"):
            raise AttributeError(name)  # not a kernel: somebody looks at the object
        try:
            from . import elementwise, gemm, rows
        except ImportError as error:
            raise ImportError(
                f"minigrad.kernels: Numba cannot be imported ({error}). "
                "Install it, or do without: set the environment variable MINIGRAD_KERNELS=numpy."
            ) from error
        loaded = SimpleNamespace(
            matmul=gemm.matmul,
            softmax=rows.softmax,
            softmax_vjp=rows.softmax_vjp,
            log_softmax=rows.log_softmax,
            log_softmax_vjp=rows.log_softmax_vjp,
            masked_softmax=rows.masked_softmax,
            dropout=elementwise.dropout,
            erf=elementwise.erf,
        )
        if _functions is _numba:
            _functions = loaded
        _numba = loaded
        return getattr(loaded, name)


_numba: Any = _AtFirstCall()
_functions: Any = reference


def current() -> str:
    """The kernels in use, "numpy" or "numba".

    >>> with use("numpy"):
    ...     current()
    'numpy'
    """
    return "numpy" if _functions is reference else "numba"


def use(name: str) -> _Use:
    """Switch to the "numpy" or the "numba" kernels, for the whole process; in a `with`, only until it ends.

    Raises ValueError if it is neither.

    >>> before = current()
    >>> with use("numpy"):
    ...     y = softmax(np.zeros((2, 4)), -1)
    >>> current() == before
    True
    """
    before = current()
    _choose(name, "use()")
    return _Use(before)


class _Use:
    """What `use` returns: leaving it brings back what was there before."""

    def __init__(self, before: str) -> None:
        self.before = before

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        use(self.before)


def _choose(name: str, who: str) -> None:
    global _functions
    if name not in ("numpy", "numba"):
        raise ValueError(f'{who}: there are no kernels named {name!r}; the names are "numpy" and "numba".')
    _functions = reference if name == "numpy" else _numba


_choose(os.environ.get("MINIGRAD_KERNELS", "numba"), "MINIGRAD_KERNELS")
