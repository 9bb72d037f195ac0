"""The computations that take the time: plain arrays in, plain arrays out.

Each exists twice, in NumPy (`reference`, the page to read) and in Numba (the other modules), with the same results up
to rounding. Numba's are used unless `use("numpy")` or the environment variable MINIGRAD_KERNELS=numpy says otherwise.
They are compiled when they are first called, and the compiled code is kept on disk for the next process.

Inputs are never written, but by `adam`, `rescale` and `matmul_add`, which work in place, and where an input is given as
the place for the result, `out`. Results are newly allocated,
C-contiguous, in the dtype of the input, and do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import heard, reference, twins
from .reference import with_causal
from .threads import get_num_threads, set_num_threads

Array = np.ndarray


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array with nothing in it yet, at a place in memory that suits the kernels."""
    return _functions.empty(shape, dtype)


def add(x: Array, y: Array, out: Array | None = None) -> Array:
    """x + y, for gradients that arrive at one place; `out`, which may be x, is written if given, and returned."""
    return _functions.add(x, y, out)


def matmul(a: Array, b: Array) -> Array:
    """c[..., i, j] = sum_k a[..., i, k] b[..., k, j]; a (..., M, K), b (..., K, N), leading dimensions broadcast."""
    return _functions.matmul(a, b)


def matmul_add(c: Array, a: Array, b: Array) -> None:
    """c <- c + a b, in place; a (M, K), b (K, N), c (M, N)."""
    _functions.matmul_add(c, a, b)


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """y = x W^T + b; x (R, I), weight (O, I), bias (O) or None."""
    return _functions.linear(x, weight, bias)


def linear_vjp(
    g: Array, x: Array, weight: Array, with_bias: bool, start: Array | None = None
) -> tuple[Array, Array, Array | None]:
    """dL/dx, dL/dW and, if there is a bias, dL/db of `linear`, given g = dL/dy; g (R, O), x (R, I), weight (O, I).

    To dL/dx is added `start` (R, I), if given: what else has arrived at x.
    """
    return _functions.linear_vjp(g, x, weight, with_bias, start)


def column_sums(x: Array) -> Array:
    """s_j = sum_i x_ij; x (R, N)."""
    return _functions.column_sums(x)


def softmax(x: Array, dim: int) -> Array:
    """y_i = e^(x_i) / sum_j e^(x_j)"""
    return _functions.softmax(x, dim)


def softmax_vjp(y: Array, g: Array, dim: int, scale: float = 1.0) -> Array:
    """dL/dx_i = scale y_i (g_i - sum_j g_j y_j), for y = softmax(scale x), masked or not."""
    return _functions.softmax_vjp(y, g, dim, scale)


def log_softmax(x: Array, dim: int) -> Array:
    """y_i = x_i - log sum_j e^(x_j)"""
    return _functions.log_softmax(x, dim)


def log_softmax_vjp(y: Array, g: Array, dim: int) -> Array:
    """dL/dx_i = g_i - e^(y_i) sum_j g_j, for log-softmax with the result y."""
    return _functions.log_softmax_vjp(y, g, dim)


def masked_softmax(x: Array, mask: Array, dim: int, scale: float = 1.0) -> Array:
    """Softmax of scale x over the places that the mask allows; it broadcasts to x, and a row of False gives 0."""
    return _functions.masked_softmax(x, mask, dim, scale)


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    causal: bool,
    scale: float,
    p: float,
    seed: int,
    *,
    out: Array | None = None,
) -> tuple[Array, Callable[..., tuple[Array, Array, Array]]]:
    """z = dropout(softmax(scale q k^T, over what the mask allows)) v, and the function from dL/dz to dL/dq, dk, dv.

    z goes into `out`, if given, and `vjp(g, into)` writes into the arrays (dq, dk, dv); all of any strides, but for
    adjacent numbers in the last dimension.
    """
    return _functions.attention(q, k, v, mask, causal, scale, p, seed, out=out)


def dropout(x: Array, p: float, seed: int) -> Array:
    """y_i = x_i keep_i / (1 - p) with keep a function of (seed, i), see `bits.keep`; its own vjp."""
    return _functions.dropout(x, p, seed)


def erf(x: Array) -> Array:
    """The error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    return _functions.erf(x)


def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y = w n + b with n = r (x - mean x), r = 1 / sqrt(variance + eps) for each row; returns y, n and r."""
    return _functions.layer_norm(x, weight, bias, eps)


def layer_norm_vjp(n: Array, r: Array, weight: Array | None, g: Array) -> tuple[Array, Array, Array]:
    """dL/dx, dL/dw and dL/db of `layer_norm` with the results n and r."""
    return _functions.layer_norm_vjp(n, r, weight, g)


def add_layer_norm(
    x: Array, branch: Array, weight: Array | None, bias: Array | None, eps: float, p: float, seed: int
) -> tuple[Array, Array, Array]:
    """`layer_norm` of x + dropout(branch)."""
    return _functions.add_layer_norm(x, branch, weight, bias, eps, p, seed)


def add_layer_norm_vjp(
    n: Array, r: Array, weight: Array | None, g: Array, p: float, seed: int
) -> tuple[Array, Array, Array, Array]:
    """dL/dx, dL/dbranch, dL/dw and dL/db of `add_layer_norm` with the results n and r."""
    return _functions.add_layer_norm_vjp(n, r, weight, g, p, seed)


def bias_activation(
    x: Array, bias: Array | None, activation: str, p: float, seed: int, with_saved: bool, out: Array | None = None
) -> tuple[Array, Array | None]:
    """y = dropout(a(x + bias)), a one of "none", "relu", "gelu", "gelu_tanh"; and what the way back wants to have.

    y goes into `out`, which may be x, if that is given: C-contiguous, like x.
    """
    return _functions.bias_activation(x, bias, activation, p, seed, with_saved, out)


def bias_activation_vjp(
    saved: Array | None, bias: Array | None, activation: str, p: float, seed: int, g: Array, out: Array | None = None
) -> tuple[Array, Array | None]:
    """dL/dx and dL/dbias, if there is a bias, of `bias_activation`, which gave `saved`.

    dL/dx goes into `out`, which may be g, if that is given: C-contiguous, like g.
    """
    return _functions.bias_activation_vjp(saved, bias, activation, p, seed, g, out)


def cross_entropy(
    x: Array, target: Array, ignore_index: int, label_smoothing: float, scale: float, with_gradient: bool
) -> tuple[Array, Array | None]:
    """L_r = -sum_v t_rv log p_rv with p = softmax(x), and scale (p - t); 0 where the target is `ignore_index`."""
    return _functions.cross_entropy(x, target, ignore_index, label_smoothing, scale, with_gradient)


def count_indices(ids: Array, n: int, ignored: int | None = None) -> tuple[int, int]:
    """How many indices are not `ignored`, and how many of those are not in 0..n-1."""
    return _functions.count_indices(ids, n, ignored)


def embed_tokens(
    ids: Array, weight: Array, positions: Array | None, scale: float, p: float = 0.0, seed: int = 0
) -> Array:
    """y[..., t, :] = dropout(scale W[ids[..., t]] + positions[t])"""
    return _functions.embed_tokens(ids, weight, positions, scale, p, seed)


def embed_tokens_vjp(
    ids: Array, g: Array, rows: int, padding_idx: int | None, scale: float, p: float = 0.0, seed: int = 0
) -> Array:
    """dL/dW[v] = scale sum over r with ids[r] = v of dropout(g)[r], and 0 for v = padding_idx; W has `rows` rows."""
    return _functions.embed_tokens_vjp(ids, g, rows, padding_idx, scale, p, seed)


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    step: int,
) -> None:
    """One step of Adam: p, m and v change in place."""
    _functions.adam(p, g, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, step)


def sum_of_squares(x: Array) -> float:
    """sum_i x_i^2 over all elements, added up in float64."""
    return _functions.sum_of_squares(x)


def rescale(x: Array, factor: float) -> None:
    """x <- factor x, in place."""
    _functions.rescale(x, factor)


def statistics(x: Array) -> tuple[float, float, float, float, int, int]:
    """Of the finite elements the smallest, the largest, the sum, the sum of squares, how many are 0; how many others.

    Sums are added up in float64. Of no finite element the smallest is inf and the largest -inf.
    """
    return _functions.statistics(x)


def products(x: Array, y: Array) -> tuple[float, float]:
    """sum_i x_i^2 and sum_i x_i y_i over all elements of two arrays of one shape, added up in float64."""
    return _functions.products(x, y)


class _AtFirstCall:
    """Stands for the Numba kernels until one of them is called, because importing Numba takes a third of a second."""

    def __getattr__(self, name: str) -> Any:
        global _chosen, _numba
        if name.startswith("_"):
            raise AttributeError(name)  # not a kernel: somebody looks at the object
        try:
            from . import activation, elementwise, gemm, heads, loss, measure, norm, pieces, rows, table, update
        except ImportError as error:
            raise ImportError(
                f"minigrad.kernels: Numba cannot be imported ({error}). "
                "Install it, or do without: set the environment variable MINIGRAD_KERNELS=numpy."
            ) from error
        loaded = SimpleNamespace(
            empty=pieces.empty,
            add=elementwise.add,
            matmul=gemm.matmul,
            matmul_add=gemm.matmul_add,
            linear=gemm.linear,
            linear_vjp=gemm.linear_vjp,
            column_sums=gemm.column_sums,
            softmax=rows.softmax,
            softmax_vjp=rows.softmax_vjp,
            log_softmax=rows.log_softmax,
            log_softmax_vjp=rows.log_softmax_vjp,
            masked_softmax=rows.masked_softmax,
            attention=heads.attention,
            dropout=elementwise.dropout,
            erf=elementwise.erf,
            layer_norm=norm.layer_norm,
            layer_norm_vjp=norm.layer_norm_vjp,
            add_layer_norm=norm.add_layer_norm,
            add_layer_norm_vjp=norm.add_layer_norm_vjp,
            bias_activation=activation.bias_activation,
            bias_activation_vjp=activation.bias_activation_vjp,
            cross_entropy=loss.cross_entropy,
            count_indices=table.count_indices,
            embed_tokens=table.embed_tokens,
            embed_tokens_vjp=table.embed_tokens_vjp,
            adam=update.adam,
            sum_of_squares=update.sum_of_squares,
            rescale=update.rescale,
            statistics=measure.statistics,
            products=measure.products,
        )
        if _chosen is _numba:
            _chosen = loaded
            _renew()
        _numba = loaded
        return getattr(loaded, name)


_numba: Any = _AtFirstCall()
_chosen: Any = reference
_functions: Any = reference  # what is called: the chosen kernels, or those as they are heard


def current() -> str:
    """The kernels in use, "numpy" or "numba".

    >>> with use("numpy"):
    ...     current()
    'numpy'
    """
    return "numpy" if _chosen is reference else "numba"


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
    global _chosen
    if name not in ("numpy", "numba"):
        raise ValueError(f'{who}: there are no kernels named {name!r}; the names are "numpy" and "numba".')
    _chosen = reference if name == "numpy" else _numba
    _renew()


def _renew() -> None:
    global _functions
    _functions = heard.Heard(_chosen) if heard.anybody() else _chosen


@contextmanager
def listen(listener: heard.Listener) -> Iterator[None]:
    """Inside, tell `listener` after each kernel that this thread calls: name, seconds, arguments, results.

    What kernels return to be called on the way back goes by their name and "_vjp", and is given their arguments, then
    its own.

    >>> names = []
    >>> with listen(lambda name, seconds, arguments, results: names.append(name)):
    ...     y = softmax(np.zeros((2, 4)), -1)
    >>> names
    ['softmax']
    """
    with heard.listening(listener, _renew):
        yield


@contextmanager
def compare(report: twins.Report) -> Iterator[None]:
    """Inside, every kernel's work is also done by its NumPy twin, on copies: report(name, pairs of arrays).

    The pairs are what both have in their arguments afterwards, written or not, and in their results; the process goes
    on with those of the kernels in use.

    >>> with use("numpy"), compare(lambda name, pairs: print(name, len(pairs))):
    ...     y = add(np.ones(2), np.ones(2))
    add 3
    """
    global _chosen
    before, _chosen = _chosen, twins.Twins(_chosen, reference, report)
    _renew()
    try:
        yield
    finally:
        _chosen = before
        _renew()


_choose(os.environ.get("MINIGRAD_KERNELS", "numba"), "MINIGRAD_KERNELS")
