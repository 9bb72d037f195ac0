"""What comes after a linear layer, in one pass: y = dropout(activation(x + bias)), and its way back with the bias's.

GELU is x Phi(x), and Phi(-t) for t >= 0, the tail of the normal distribution, is e^(-t^2/2) times a function that
falls slowly: in float32 a ratio of two polynomials. It is as exact far out as it is near 0, and its exponential is the
one that the derivative needs as well. In float64 the C library is asked for it, one number at a time.

There is a kernel for each activation, and in it the step from a vector to the next stands twice: for whole vectors, in
a loop without a question, and for what is left of a row. The sums over rows for dL/dbias are as those of `norm`: rows
are cut into parts whose number depends on theirs only.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import overload

from . import reference
from .pieces import DTYPES, alike, dropped, dropping, get, kernels, line, parts_of, put, rule_of, same
from .simd import Lanes, _elementwise, absolute, exp, fma, ir, lanes, maximum, minimum, where

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
LINE = 4096  # elements of what counts as a row where there is no bias


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
def _identity(x):
    return x


@njit(**_OPTIONS)
def _identity_slope(x):
    return same(x, 1.0)


@njit(**_OPTIONS)
def _relu(x):
    return maximum(0.0, x)  # NaN stays


@njit(**_OPTIONS)
def _relu_slope(y):
    """From the result: it is positive where the input was and dropout kept it."""
    return where(y > 0.0, same(y, 1.0), 0.0)


@njit(**_OPTIONS)
def _gelu(x):
    return x * _phi(x, exp(x * x * -0.5))


@njit(**_OPTIONS)
def _gelu_slope(x):
    bell = exp(x * x * -0.5)
    return fma(x * bell, DENSITY, _phi(x, bell))


@njit(**_OPTIONS)
def _sigmoid(x):
    """The estimate of Phi(x), 1/2 (1 + tanh z) = 1 / (1 + e^(-2 z))."""
    return 1.0 / (exp(x * fma(x * x, -2 * ROOT * CUBE, -2 * ROOT)) + 1.0)


@njit(**_OPTIONS)
def _gelu_tanh(x):
    return x * _sigmoid(x)


@njit(**_OPTIONS)
def _gelu_tanh_slope(x):
    s = _sigmoid(x)
    return fma(x * s * (1.0 - s), fma(x * x, 6 * ROOT * CUBE, 2 * ROOT), s)


ACTIVATIONS = {
    "none": (_identity, _identity_slope),
    "relu": (_relu, _relu_slope),
    "gelu": (_gelu, _gelu_slope),
    "gelu_tanh": (_gelu_tanh, _gelu_tanh_slope),
}


# ------------------------------------------------------------------------------------------------------------- kernels
def _forward_of(activation: Any) -> Any:
    @njit(**_OPTIONS)
    def one(x, bias, i, j, n, rule, y):
        """The vector at i, of the columns j, j + 1, ..., of which n are left."""
        u = activation(get(x, i, n) + get(bias, j, n))
        if rule[0]:
            u = dropped(u, i, rule)
        put(y, i, n, u)

    @njit(**_OPTIONS)
    def forward(x, bias, dropout, y, first, last):
        rule, width, step = rule_of(dropout), bias.size, lanes(x)
        for i in range(first, last):
            start = i * width
            n = min(width, x.size - start)
            for j in range(0, n - step + 1, step):
                one(x, bias, start + j, j, step, rule, y)
            if n % step:
                j = n - n % step
                one(x, bias, start + j, j, n - j, rule, y)

    return forward


def _backward_of(slope: Any, from_result: bool) -> Any:
    @njit(**_OPTIONS)
    def one(saved, bias, g, i, j, n, rule, dx, summing, sums, dbias):
        """The vector at i, of the columns j, j + 1, ..., of which n are left."""
        d, u = get(g, i, n), get(saved, i, n)
        if from_result:
            d = d * (slope(u) * rule[-1])
        else:
            if rule[0]:
                d = dropped(d, i, rule)
            d = d * slope(u + get(bias, j, n))
        put(dx, i, n, d)
        if summing:
            put(sums, dbias + j, n, get(sums, dbias + j, n) + d)

    @njit(**_OPTIONS)
    def backward(saved, bias, g, dropout, dx, summing, sums, rows, parts, first, last):
        rule, width, step = rule_of(dropout), bias.size, lanes(saved)
        for part in range(first, last):
            for i in range(part * rows // parts, (part + 1) * rows // parts):
                start = i * width
                n = min(width, g.size - start)
                for j in range(0, n - step + 1, step):
                    one(saved, bias, g, start + j, j, step, rule, dx, summing, sums, part * width)
                if n % step:
                    j = n - n % step
                    one(saved, bias, g, start + j, j, n - j, rule, dx, summing, sums, part * width)

    return backward


# --------------------------------------------------------------------------------------------------------- from Python
@functools.cache
def _kernels(activation: str) -> tuple[Any, Any]:
    """The way forward and the way back, for each dtype."""
    function, slope = ACTIVATIONS[activation]
    return (
        kernels(_forward_of(function), "RRDWSS"),
        kernels(_backward_of(slope, from_result=activation == "relu"), "RRRDWFWSSSS"),
    )


_nothing = {dtype: np.zeros(LINE, dtype) for dtype in DTYPES}


def bias_activation(x: Array, bias: Array | None, activation: str, p: float, seed: int) -> Array:
    """See `reference.bias_activation`."""
    if not alike(x, bias):
        return reference.bias_activation(x, bias, activation, p, seed)
    y = np.empty(x.shape, x.dtype)
    row = _nothing[x.dtype] if bias is None else line(bias)
    rows = -(-x.size // row.size)
    arguments = line(x), row, dropping(p, seed), y.reshape(-1)
    _kernels(activation)[0][x.dtype](_nanoseconds(x, activation, p), rows, *arguments)
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
    arguments = line(saved), row, line(g), dropping(p, seed), dx.reshape(-1), summing
    _kernels(activation)[1][g.dtype](_nanoseconds(g, activation, p), parts, *arguments, sums.reshape(-1), rows, parts)
    if not summing:
        return dx, None
    return dx, sums.sum(0) if parts > 1 else sums[0]


def _nanoseconds(x: Array, activation: str, p: float) -> float:
    """About how long one thread takes."""
    each = 0.35 if p else 0.15
    if activation.startswith("gelu"):
        each += 0.5 if x.itemsize == 4 else 5
    return each * x.size
