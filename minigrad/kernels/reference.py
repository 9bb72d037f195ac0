"""What the kernels compute, in NumPy: the page to read, and the code that runs with MINIGRAD_KERNELS=numpy.

Plain arrays in, plain arrays out. Inputs are never written; the result is newly allocated, C-contiguous, and has the
dtype of the input. Vector-Jacobian products (`_vjp`) take the result y of the forward function and g = dL/dy, and
return dL/dx. NaN and infinity come out as the equations say, without a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

Array = np.ndarray


def _kernel(function: Callable[..., Any]) -> Callable[..., Array]:
    """Hold the promises about warnings and layout."""

    @wraps(function)
    def wrapper(*arguments: Any) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(*arguments), order="C")

    return wrapper


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
def softmax_vjp(y: Array, g: Array, dim: int) -> Array:
    """dL/dx of softmax, and of masked softmax.

        dy_i/dx_j = y_i (d_ij - y_j),   hence   dL/dx_i = y_i (g_i - sum_j g_j y_j)

    The sum takes from g what would move all of x alike: that part changes no probability.

    >>> softmax_vjp(np.array([0.25, 0.75]), np.array([1.0, 1.0]), 0)
    array([0., 0.])
    """
    return y * (g - (g * y).sum(dim, keepdims=True))


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
def masked_softmax(x: Array, mask: Array, dim: int) -> Array:
    """Softmax over the scores that the mask allows; the others get 0.

        y_i = mask_i e^(x_i - m) / sum_j mask_j e^(x_j - m),   m = max of the allowed x_j

    The mask (boolean, True = allowed, broadcast to x) chooses, it is not added to the scores: what it shuts out is 0
    whatever its score, NaN and infinity included, and a row with nothing allowed is 0.

    >>> masked_softmax(np.array([[1.0, 1.0, np.nan], [1.0, 1.0, 1.0]]), np.array([[True, True, False], [False] * 3]), 1)
    array([[0.5, 0.5, 0. ],
           [0. , 0. , 0. ]])
    """
    legal = np.broadcast_to(mask, x.shape)
    return np.where(legal, softmax(np.where(legal, x, x.dtype.type(-np.inf)), dim), x.dtype.type(0))


def _max(x: Array, dim: int) -> Array:
    """The greatest along `dim`, which is kept; -inf where there is nothing."""
    return np.max(x, axis=dim, keepdims=True, initial=-np.inf)


# ------------------------------------------------------------------------------------------------------------- dropout
@_kernel
def dropout(x: Array, p: float, seed: int) -> Array:
    """Drop each element with probability p and scale up what is kept (Srivastava et al. 2014); its own vjp.

        y_i = x_i keep_i / (1 - p),   and 0 for p = 1

    >>> dropout(np.ones(6, np.float32), 0.5, 2)
    array([0., 2., 0., 2., 0., 0.], dtype=float32)
    """
    return x * (keep(x.shape, p, seed) * x.dtype.type(scale(p)))


def keep(shape: tuple[int, ...], p: float, seed: int) -> Array:
    """Which elements dropout keeps: each with probability 1 - p, as a function of (seed, position) and nothing else.

    The position i, counted in C order, goes through a hash that makes close numbers unrelated, once for each half of
    the seed. An element is kept if its 32 bits, as a number, are not below p 2^32. So the way back, or another thread,
    gets the same answer without anything being stored. The hash is Chris Wellons' lowbias32.

    >>> int(keep((1000, 1000), 0.1, seed=1).sum())
    900024
    """
    x = np.arange(math.prod(shape), dtype=np.uint32)
    for key in keys(seed):
        x ^= np.uint32(key)
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x7FEB352D)  # modulo 2^32
        x ^= x >> np.uint32(15)
        x *= np.uint32(0x846CA68B)
        x ^= x >> np.uint32(16)
    return ((x >= np.uint32(threshold(p))) & (p < 1)).reshape(shape)


def keys(seed: int) -> tuple[int, int]:
    """Two 32-bit numbers, both of which depend on every bit of the 64-bit seed."""
    mixed = mix(seed)
    return mixed & 0xFFFFFFFF, mixed >> 32


def mix(seed: int) -> int:
    """A 64-bit number as unlike as possible for seeds however alike: the last step of SplitMix64 (Steele et al. 2014).

    >>> hex(mix(1)), hex(mix(2))
    ('0x5692161d100b05e5', '0xdbd238973a2b148a')
    """
    z = int(seed) & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return z ^ z >> 31


def threshold(p: float) -> int:
    """Below this number, 32 random bits mean "drop"."""
    return min(round(p * 2**32), 2**32 - 1)


def scale(p: float) -> float:
    """What dropout multiplies the elements by that it keeps."""
    return 1 / (1 - p) if p < 1 else 0.0


# ----------------------------------------------------------------------------------------------------------------- erf
@_kernel
def erf(x: Array) -> Array:
    """The error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x; the twin asks the C library.

    >>> erf(np.array([0.0, np.inf]))
    array([0., 1.])
    """
    return np.vectorize(math.erf, otypes=[x.dtype])(x)
