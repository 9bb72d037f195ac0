"""What the kernels compute, in NumPy: the page to read, and the code that runs with MINIGRAD_KERNELS=numpy.

Plain arrays in, plain arrays out. Inputs are never written, but for `adam` and `rescale`, which work in place; the
result is newly allocated, C-contiguous, and has the dtype of the input. Vector-Jacobian products (`_vjp`) of softmax
take the result y of the forward function and g = dL/dy, and return dL/dx. NaN and infinity come out as the equations
say, without a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .bits import keep, scale
from .reference_measure import products as products
from .reference_measure import statistics as statistics
from .reference_update import adam as adam
from .reference_update import rescale as rescale
from .reference_update import sum_of_squares as sum_of_squares

Array = np.ndarray


def _kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hold the promises about warnings and layout."""

    @wraps(function)
    def wrapper(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            y = function(*arguments)
        if isinstance(y, tuple):
            return tuple([None if a is None else np.asarray(a, order="C") for a in y])
        return np.asarray(y, order="C")

    return wrapper


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array with nothing in it yet."""
    return np.empty(shape, dtype)


# ----------------------------------------------------------------------------------------------------------------- sum
@_kernel
def add(x: Array, y: Array, out: Array | None = None) -> Array:
    """Add two arrays; the result goes into `out`, if given, which may be one of them.

    >>> add(np.array([1.0, 2.0]), np.array([10.0, 20.0]))
    array([11., 22.])
    """
    return np.add(x, y, out=out)


# -------------------------------------------------------------------------------------------------------------- matmul
@_kernel
def matmul(a: Array, b: Array) -> Array:
    """Matrix product over the last two dimensions; leading dimensions broadcast.

        c[..., i, j] = sum_k a[..., i, k] b[..., k, j]

    Shapes: a (..., M, K), b (..., K, N), result (..., M, N). A sum over nothing (K = 0) is 0.
    Raises ValueError if the sizes do not fit.

    >>> matmul(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    array([[11.]])
    """
    return np.matmul(a, b)


def matmul_add(c: Array, a: Array, b: Array) -> None:
    """c <- c + a b, in place: a gradient that is added to what has come before.

    Shapes: a (M, K), b (K, N), c (M, N). Raises ValueError if the sizes do not fit.

    >>> c = np.array([[100.0]])
    >>> matmul_add(c, np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]))
    >>> c
    array([[111.]])
    """
    with np.errstate(all="ignore"):
        c += np.matmul(a, b)


@_kernel
def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """An affine map of every row.

        y = x W^T + b

    Shapes: x (R, I), W (O, I), b (O) or None, y (R, O). Raises ValueError if the sizes do not fit.

    >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([0.5]))
    array([[11.5]])
    """
    y = np.matmul(x, weight.T)
    return y if bias is None else y + bias


@_kernel
def linear_vjp(
    g: Array, x: Array, weight: Array, with_bias: bool, start: Array | None = None
) -> tuple[Array, Array, Array | None]:
    """The way back of `linear`, given g = dL/dy; without a bias, the last result is None.

        dL/dx = g W,   dL/dW = g^T x,   dL/db_j = sum_i g_ij

    What else has arrived at x, `start`, is added to dL/dx. Shapes: g (R, O), x and start (R, I), W (O, I).

    >>> linear_vjp(np.array([[2.0], [1.0]]), np.array([[1.0, 3.0], [0.0, 1.0]]), np.array([[3.0, 4.0]]), True)
    (array([[6., 8.],
           [3., 4.]]), array([[2., 7.]]), array([3.]))
    """
    dx = matmul(g, weight)
    return dx if start is None else start + dx, matmul(g.T, x), column_sums(g) if with_bias else None


@_kernel
def column_sums(x: Array) -> Array:
    """s_j = sum_i x_ij, in groups of rows: the rounding errors of a long sum do not pile up.

    Shapes: x (R, N), s (N).

    >>> column_sums(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([4., 6.])
    """
    while len(x) > 64:
        x = np.stack([x[i : i + 64].sum(0) for i in range(0, len(x), 64)])
    return x.sum(0)


# ------------------------------------------------------------------------------------------------------------- softmax
@_kernel
def softmax(x: Array, dim: int) -> Array:
    """Scores into probabilities along one dimension.

        y_i = e^(x_i - m) / sum_j e^(x_j - m),   m = max_j x_j

    Any m gives the same y; the maximum is the one with which nothing overflows. A row that holds NaN or +inf, or
    nothing but -inf, is NaN.

    >>> softmax(np.array([0.0, np.log(3.0), -np.inf]), 0)
    array([0.25, 0.75, 0.  ])
    """
    e = np.exp(x - _max(x, dim))
    return e / e.sum(dim, keepdims=True)


@_kernel
def softmax_vjp(y: Array, g: Array, dim: int, scale: float = 1.0) -> Array:
    """dL/dx of y = softmax(scale x), and of masked softmax.

        dy_i/dx_j = scale y_i (d_ij - y_j),   hence   dL/dx_i = scale y_i (g_i - sum_j g_j y_j)

    The sum takes from g what would move all of x alike: that part changes no probability.

    >>> softmax_vjp(np.array([0.25, 0.75]), np.array([1.0, 1.0]), 0)
    array([0., 0.])
    """
    return y * (g - (g * y).sum(dim, keepdims=True)) * y.dtype.type(scale)


@_kernel
def log_softmax(x: Array, dim: int) -> Array:
    """The logarithm of softmax, without the detour through probabilities so small that they round to 0.

        y_i = (x_i - m) - log sum_j e^(x_j - m),   m = max_j x_j

    >>> log_softmax(np.array([0.0, 1000.0]), 0)
    array([-1000.,     0.])
    """
    shifted = x - _max(x, dim)
    return shifted - np.log(np.exp(shifted).sum(dim, keepdims=True))


@_kernel
def log_softmax_vjp(y: Array, g: Array, dim: int) -> Array:
    """dL/dx of log-softmax; e^y are the probabilities.

        dy_i/dx_j = d_ij - e^(y_j),   hence   dL/dx_i = g_i - e^(y_i) sum_j g_j

    >>> log_softmax_vjp(np.log(np.array([0.25, 0.75])), np.array([0.0, 1.0]), 0)
    array([-0.25,  0.25])
    """
    return g - np.exp(y) * g.sum(dim, keepdims=True)


@_kernel
def masked_softmax(x: Array, mask: Array, dim: int, scale: float = 1.0) -> Array:
    """Softmax over the scaled scores that the mask allows; the others get 0.

        y_i = mask_i e^(s x_i - m) / sum_j mask_j e^(s x_j - m),   m = max of the allowed s x_j

    The mask (boolean, True = allowed, broadcast to x) chooses, it is not added to the scores: what it shuts out is 0
    whatever its score, NaN and infinity included, and a row with nothing allowed is 0.

    >>> masked_softmax(np.array([[1.0, 1.0, np.nan], [1.0, 1.0, 1.0]]), np.array([[True, True, False], [False] * 3]), 1)
    array([[0.5, 0.5, 0. ],
           [0. , 0. , 0. ]])
    """
    legal = np.broadcast_to(mask, x.shape)
    scores = np.where(legal, x * x.dtype.type(scale), x.dtype.type(-np.inf))
    return np.where(legal, softmax(scores, dim), x.dtype.type(0))


def _max(x: Array, dim: int) -> Array:
    """The greatest along `dim`, which is kept; -inf where there is nothing."""
    return np.max(x, axis=dim, keepdims=True, initial=-np.inf)


# ------------------------------------------------------------------------------------------------------------- dropout
@_kernel
def dropout(x: Array, p: float, seed: int) -> Array:
    """Drop each element with probability p and scale up what is kept (Srivastava et al. 2014); its own vjp.

        y_i = x_i keep_i / (1 - p),   and 0 for p = 1

    >>> dropout(np.ones(6, np.float32), 0.5, 2)
    array([2., 2., 0., 0., 0., 2.], dtype=float32)
    """
    return x * (keep(x.shape, p, seed) * x.dtype.type(scale(p)))


# ----------------------------------------------------------------------------------------------------------------- erf
@_kernel
def erf(x: Array) -> Array:
    """The error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x; the twin asks the C library.

    >>> erf(np.array([0.0, np.inf]))
    array([0., 1.])
    """
    return np.vectorize(math.erf, otypes=[x.dtype])(x)


# ------------------------------------------------------------------------------------------------------- cross-entropy
def cross_entropy(
    x: Array, target: Array, ignore_index: int, label_smoothing: float, scale: float, with_gradient: bool
) -> tuple[Array, Array | None]:
    """Cross-entropy of each row of logits, and its gradient.

        L_r = -sum_v t_rv log p_rv,   p = softmax(x),   t = (1 - e) onehot(target) + e / V
        dL_r/dx_rv = p_rv - t_rv

    Returns the losses (R,) and, if `with_gradient`, scale (p - t) (R, V), else None; both 0 where the target is
    `ignore_index`. Shapes: x (R, V), target (R,). The other targets must be in 0..V-1: ask `count_indices` first.

    >>> losses, d = cross_entropy(np.zeros((2, 2)), np.array([1, -100]), -100, 0.0, 1.0, True)
    >>> losses / np.log(2), d
    (array([1., 0.]), array([[ 0.5, -0.5],
           [ 0. ,  0. ]]))
    """
    counts, number = target != ignore_index, x.dtype.type
    with np.errstate(all="ignore"):
        log_p = log_softmax(x, -1)
        chosen = np.arange(len(x)), np.where(counts, target, 0)
        losses = (number(label_smoothing) - 1) * log_p[chosen]
        if label_smoothing > 0:  # else the sum does not count, not even where some log p is -inf
            losses -= number(label_smoothing) * log_p.mean(-1)
        losses[~counts] = 0
        if not with_gradient:
            return losses, None
        d = np.exp(log_p) - number(label_smoothing / x.shape[-1])
        d[chosen] -= number(1 - label_smoothing)
        d *= number(scale)
        d[~counts] = 0
    return losses, d


# ----------------------------------------------------------------------------------------------------------- embedding
def count_indices(ids: Array, n: int, ignored: int | None = None) -> tuple[int, int]:
    """How many indices are not `ignored`, and how many of those are not in 0..n-1.

    >>> count_indices(np.array([2, 3, -1, 0]), 3, ignored=-1)
    (3, 1)
    """
    counts = np.ones(ids.shape, bool) if ignored is None else ids != ignored
    return int(counts.sum()), int((counts & ((ids < 0) | (ids >= n))).sum())


def embed_tokens(
    ids: Array, weight: Array, positions: Array | None, scale: float, p: float = 0.0, seed: int = 0
) -> Array:
    """Rows of a table, scaled, with positions added, and with dropout.

        y[..., t, :] = dropout(scale W[ids[..., t]] + positions[t])

    Shapes: ids (..., T) in 0..V-1, W (V, D), positions (T, D) or None, y (..., T, D).

    >>> embed_tokens(np.array([1, 1]), np.array([[0.0], [4.0]]), np.array([[0.5], [0.25]]), 2.0)
    array([[8.5 ],
           [8.25]])
    """
    with np.errstate(all="ignore"):
        y = weight[ids] * weight.dtype.type(scale)
        y = y if positions is None else y + positions
    return dropout(y, p, seed) if p else y


def embed_tokens_vjp(
    ids: Array, g: Array, rows: int, padding_idx: int | None, scale: float, p: float = 0.0, seed: int = 0
) -> Array:
    """dL/dW of `embed_tokens`: every place adds to the row that it took.

        dL/dW[v] = scale sum over r with ids[r] = v of dropout(g)[r],   and 0 for v = padding_idx

    `ids` may be shorter than g, and is then repeated: with ids = 0..T-1 this is dL/dpositions. padding_idx, if there is
    one, counts from 0.
    Shapes: g (..., D), ids with as many elements as g has rows, or a part of them; the result (rows, D).

    >>> embed_tokens_vjp(np.array([0, 1]), np.array([[1.0], [2.0], [4.0], [8.0]]), 3, None, 1.0)
    array([[ 5.],
           [10.],
           [ 0.]])
    """
    d = np.zeros((rows, g.shape[-1]), g.dtype)
    with np.errstate(all="ignore"):
        g = (dropout(g, p, seed) if p else g) * g.dtype.type(scale)
        if g.size:
            np.add.at(d, np.tile(ids.reshape(-1), math.prod(g.shape[:-1]) // ids.size), g.reshape(-1, g.shape[-1]))
    if padding_idx is not None:
        d[padding_idx] = 0
    return d


# ----------------------------------------------------------------------------------------------------------- attention
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
    """z = dropout(P) v with P = softmax(scale q k^T) over the keys that the mask allows; and its vjp.

    With g = dL/dz:  dL/dv = dropout(P)^T g,  dP = dropout(g v^T),  dS = P (dP - sum(dP P)),  dL/dq = scale dS k,
    dL/dk = scale dS^T q.

    Shapes: q (..., T, K), k (..., S, K), v (..., S, V), z (..., T, V); the mask (boolean, True = may attend) broadcasts
    to (..., T, S), `causal` shuts out the keys after each query, and a query that may attend to nothing gets 0. The
    bits of dropout are those of `keep` for the whole pattern P. z goes into `out`, if given, and vjp(g, into) writes
    into the arrays (dq, dk, dv); their strides are free, but for adjacent numbers in the last dimension.
    """
    scores = matmul(q, k.mT) * q.dtype.type(scale)  # (..., T, S)
    mask = with_causal(mask, causal, scores.shape)
    pattern = softmax(scores, -1) if mask is None else masked_softmax(scores, mask, -1)
    dropped = dropout(pattern, p, seed) if p > 0 else pattern

    def vjp(g: Array, into: tuple[Array, Array, Array] | None = None) -> tuple[Array, Array, Array]:
        d_pattern = matmul(g, v.mT)
        d_pattern = dropout(d_pattern, p, seed) if p > 0 else d_pattern
        d_scores = softmax_vjp(pattern, d_pattern, -1) * q.dtype.type(scale)
        dq, dk, dv = into or (None, None, None)
        return _put(matmul(d_scores, k), dq), _put(matmul(d_scores.mT, q), dk), _put(matmul(dropped.mT, g), dv)

    return _put(matmul(dropped, v), out), vjp


def _put(x: Array, out: Array | None) -> Array:
    """`x`, or `out` with it inside."""
    if out is None:
        return x
    out[...] = x
    return out


def with_causal(mask: Array | None, causal: bool, shape: tuple[int, ...]) -> Array | None:
    """The mask for scores of `shape` (..., T, S), with the keys after each query shut out if `causal`."""
    if not causal:
        return mask
    past = np.tri(*shape[-2:], dtype=bool)  # (T, S), True on and below the diagonal
    return past if mask is None else mask & past


# ------------------------------------------------------------------------------------------------- layer normalisation
@_kernel
def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """Rows with mean 0 and variance 1, then scaled and shifted.

        y = w n + b,   n = r (x - m),   m = mean x,   r = 1 / sqrt(mean (x - m)^2 + eps)

    Returns y, n and r. Shapes: x, y, n (..., D), w and b (D) or None, r (..., 1).

    >>> layer_norm(np.array([2.0, 4.0]), None, np.array([0.0, 5.0]), 0.0)
    (array([-1.,  6.]), array([-1.,  1.]), array([1.]))
    """
    centred = x - _mean(x)
    r = 1 / np.sqrt(_mean(centred * centred) + x.dtype.type(eps))
    n = centred * r
    y = n.copy() if weight is None else n * weight
    return (y if bias is None else y + bias), n, r


@_kernel
def layer_norm_vjp(n: Array, r: Array, weight: Array | None, g: Array) -> tuple[Array, Array, Array]:
    """dL/dx, dL/dw and dL/db of `layer_norm`, which gave n and r.

        dL/dx = r (h - mean h - n mean(h n))  with h = g w,   dL/dw = sum over rows of g n,   dL/db = of g

    The two means take from h what a row cannot feel: a shift and a stretch of x leave n as it was.
    """
    h = g if weight is None else g * weight
    over_rows = tuple(range(g.ndim - 1))
    return (h - _mean(h) - n * _mean(h * n)) * r, (g * n).sum(over_rows), g.sum(over_rows)


def _mean(x: Array) -> Array:
    return x.sum(-1, keepdims=True) / x.dtype.type(x.shape[-1])


@_kernel
def add_layer_norm(
    x: Array, branch: Array, weight: Array | None, bias: Array | None, eps: float, p: float, seed: int
) -> tuple[Array, Array, Array]:
    """y = layer_norm(x + dropout(branch)), with the n and r of `layer_norm`. The branch has the shape of x."""
    return layer_norm(x + (dropout(branch, p, seed) if p else branch), weight, bias, eps)


@_kernel
def add_layer_norm_vjp(
    n: Array, r: Array, weight: Array | None, g: Array, p: float, seed: int
) -> tuple[Array, Array, Array, Array]:
    """dL/dx, dL/dbranch = dropout(dL/dx), the same array for p = 0, dL/dw and dL/db."""
    dx, dweight, dbias = layer_norm_vjp(n, r, weight, g)
    return dx, (dropout(dx, p, seed) if p else dx), dweight, dbias


# -------------------------------------------------------------------------------------------- bias, activation, dropout
@_kernel
def bias_activation(
    x: Array, bias: Array | None, activation: str, p: float, seed: int, with_saved: bool, out: Array | None = None
) -> tuple[Array, Array | None]:
    """y = dropout(a(x + bias)), a one of "none", "relu", "gelu" (x Phi(x)) and "gelu_tanh" (its estimate).

    Also what the way back needs, if that is wanted: for ReLU y, for the GELUs their derivative, with dropout.

    >>> bias_activation(np.array([[-3.0, 1.0]]), np.array([1.0, 1.0]), "relu", 0.0, 0, False)
    (array([[0., 2.]]), None)
    """
    y, slope = _activated(x if bias is None else x + bias, activation)
    y = _put(dropout(y, p, seed) if p else y, out)
    if not with_saved or activation == "none":
        return y, None
    return y, y if activation == "relu" else dropout(slope, p, seed) if p else slope


@_kernel
def bias_activation_vjp(
    saved: Array | None, bias: Array | None, activation: str, p: float, seed: int, g: Array, out: Array | None = None
) -> tuple[Array, Array | None]:
    """dL/dx = dropout(g) a'(x + bias), and dL/dbias, its sum over rows, None if there is no bias.

    `saved` is what `bias_activation` gave: the result of ReLU is positive where x + bias was and dropout kept it.
    """
    if saved is None:
        dx = dropout(g, p, seed) if p else g.copy()
    else:
        dx = g * ((saved > 0) * g.dtype.type(scale(p)) if activation == "relu" else saved)
    return _put(dx, out), None if bias is None else dx.sum(tuple(range(dx.ndim - 1)))


def _activated(x: Array, activation: str) -> tuple[Array, Array]:
    """a(x) and its derivative."""
    if activation == "gelu":
        cdf = (erf(x * (1 / math.sqrt(2))) + 1) * 0.5
        return x * cdf, cdf + x * np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    if activation == "gelu_tanh":
        z = x * (math.sqrt(8 / math.pi) * (1 + 0.044715 * x * x))
        s = 1 / (1 + np.exp(-z))  # 1/2 (1 + tanh(z / 2))
        return x * s, s + x * s * (1 - s) * (math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * x * x))
    if activation == "relu":
        return np.maximum(x, 0), (x > 0).astype(x.dtype)
    return x.copy(), np.ones_like(x)
