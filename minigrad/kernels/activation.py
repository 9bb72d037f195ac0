"""What comes after a linear layer, in one pass: y = dropout(activation(x + bias)), and its way back with the bias's.

GELU is x Phi(x), and Phi(-t) for t >= 0, the tail of the normal distribution, is e^(-t^2/2) times a function that
falls slowly: in float32 a ratio of two polynomials. It is as exact far out as it is near 0, and its exponential is the
one that the derivative needs as well. In float64 the C library is asked for it, one number at a time.

The sums over rows for dL/dbias are as those of `norm`: rows are cut into parts whose number depends on theirs only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import overload

from . import reference
from .pieces import alike, dropped, dropping, get, kernels, line, parts_of, put
from .simd import Lanes, _elementwise, absolute, exp, fma, ir, lanes, maximum, minimum, spread, where

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
LINE = 4096  # elements of what counts as a row where there is no bias
NONE, RELU, GELU, GELU_TANH = range(4)
KINDS = {"none": NONE, "relu": RELU, "gelu": GELU, "gelu_tanh": GELU_TANH}


# -------------------------------------------------------------------------------------------- the normal distribution
@_elementwise
def erfc(x: Lanes) -> Lanes:
    """1 - erf(x) in float64: the C library's, lane by lane."""
    number, builder = x.value.type.element, x.builder
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(number, [number]), "erfc")
    y = x.value
    for lane in range(x.count):
        place = ir.IntType(32)(lane)
        y = builder.insert_element(y, builder.call(function, [builder.extract_element(x.value, place)]), place)
    return Lanes(builder, y)


def _tail(t: Any, bell: Any) -> Any:
    """Phi(-t) for t >= 0, given bell = e^(-t^2/2)."""


@overload(_tail)
def _tail_of(t, bell):
    def float32(t, bell):
        # Fitted to Phi(-t) e^(t^2/2) on [0, 13.5], where e^(-t^2/2) ends, so that the greatest relative error is least:
        # 5e-9. All coefficients are positive, so nothing cancels.
        t = minimum(13.5, t)
        p = fma(t, 4.036974786e-3, 4.009790755e-2)
        p = fma(p, t, 1.816453863e-1)
        p = fma(p, t, 4.361456591e-1)
        p = fma(p, t, 0.5)
        q = fma(t, 1.011905630e-2, 1.005177588e-1)
        q = fma(q, t, 4.652740484e-1)
        q = fma(q, t, 1.195894369)
        q = fma(q, t, 1.670176248)
        q = fma(q, t, 1.0)
        return bell * (p / q)

    half = 1 / math.sqrt(2)
    return float32 if t.number == types.float32 else lambda t, bell: erfc(t * half) * 0.5


@njit(**_OPTIONS)
def _phi(x, bell):
    """The normal distribution function Phi(x), given bell = e^(-x^2/2)."""
    tail = _tail(absolute(x), bell)
    return where(x > 0.0, 1.0 - tail, tail)


# --------------------------------------------------------------------------------------------------------- activations
ROOT, CUBE = math.sqrt(2 / math.pi), 0.044715  # of the estimate of GELU
DENSITY = 1 / math.sqrt(2 * math.pi)


@njit(**_OPTIONS)
def _activated(x, kind):
    if kind == RELU:
        x = maximum(0.0, x)  # NaN stays
    elif kind == GELU:
        x = x * _phi(x, exp(x * x * -0.5))
    elif kind == GELU_TANH:  # 1/2 (1 + tanh z) = 1 / (1 + e^(-2 z))
        x = x / (exp(x * fma(x * x, -2 * ROOT * CUBE, -2 * ROOT)) + 1.0)
    return x


@njit(**_OPTIONS)
def _slope(x, kind):
    """The derivative of the activation at x; that of ReLU is found from its result."""
    if kind == GELU:
        bell = exp(x * x * -0.5)
        return fma(x * bell, DENSITY, _phi(x, bell))
    if kind == GELU_TANH:
        s = 1.0 / (exp(x * fma(x * x, -2 * ROOT * CUBE, -2 * ROOT)) + 1.0)
        return fma(x * s * (1.0 - s), fma(x * x, 6 * ROOT * CUBE, 2 * ROOT), s)
    return x * 0.0 + 1.0


# ------------------------------------------------------------------------------------------------------------- kernels
@njit(**_OPTIONS)
def _forward(x, bias, kind, dropout, y, first, last):
    width, step = bias.size, lanes(x)
    for i in range(first, last):
        start = i * width
        n = min(width, x.size - start)
        for j in range(0, n, step):
            u = _activated(get(x, start + j, n - j) + get(bias, j, n - j), kind)
            if dropout[0]:
                u = dropped(u, start + j, x, dropout)
            put(y, start + j, n - j, u)


@njit(**_OPTIONS)
def _backward(saved, bias, g, kind, dropout, dx, summing, sums, rows, parts, first, last):
    width, step = bias.size, lanes(saved)
    for part in range(first, last):
        dbias = part * width
        for i in range(part * rows // parts, (part + 1) * rows // parts):
            start = i * width
            n = min(width, g.size - start)
            for j in range(0, n, step):
                d, u = get(g, start + j, n - j), get(saved, start + j, n - j)
                if kind == RELU:  # u is the result: positive where the input was and dropout kept it
                    d = d * where(u > 0.0, spread(saved, dropout[-1]), 0.0)
                else:
                    if dropout[0]:
                        d = dropped(d, start + j, saved, dropout)
                    if kind != NONE:
                        d = d * _slope(u + get(bias, j, n - j), kind)
                put(dx, start + j, n - j, d)
                if summing:
                    put(sums, dbias + j, n - j, get(sums, dbias + j, n - j) + d)


# --------------------------------------------------------------------------------------------------------- from Python
_forwards = kernels(_forward, "RRSDWSS")
_backwards = kernels(_backward, "RRRSDWFWSSSS")
_nothing = {dtype: np.zeros(LINE, dtype) for dtype in _forwards}


def bias_activation(x: Array, bias: Array | None, activation: str, p: float, seed: int) -> Array:
    """See `reference.bias_activation`."""
    if not alike(x, bias):
        return reference.bias_activation(x, bias, activation, p, seed)
    y = np.empty(x.shape, x.dtype)
    row = _nothing[x.dtype] if bias is None else line(bias)
    rows = -(-x.size // row.size)
    arguments = line(x), row, KINDS[activation], dropping(p, seed), y.reshape(-1)
    _forwards[x.dtype](_nanoseconds(x, activation, p), rows, *arguments)
    return y


def bias_activation_vjp(
    saved: Array, bias: Array | None, activation: str, p: float, seed: int, g: Array
) -> tuple[Array, Array | None]:
    """See `reference.bias_activation_vjp`."""
    if not alike(saved, bias, g):
        return reference.bias_activation_vjp(saved, bias, activation, p, seed, g)
    dx = np.empty(g.shape, g.dtype)
    summing = bias is not None
    row = line(bias) if summing else _nothing[g.dtype]
    rows = -(-g.size // row.size)
    parts = parts_of(rows) if summing else rows
    sums = np.zeros((parts, row.size) if summing else (0, 0), g.dtype)
    arguments = line(saved), row, line(g), KINDS[activation], dropping(p, seed), dx.reshape(-1), summing
    _backwards[g.dtype](_nanoseconds(g, activation, p), parts, *arguments, sums.reshape(-1), rows, parts)
    if not summing:
        return dx, None
    return dx, sums.sum(0) if parts > 1 else sums[0]


def _nanoseconds(x: Array, activation: str, p: float) -> float:
    """About how long one thread takes."""
    each = 0.35 if p else 0.15
    if activation.startswith("gelu"):
        each += 0.5 if x.itemsize == 4 else 5
    return each * x.size
