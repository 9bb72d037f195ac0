"""What comes after a linear layer, in one pass: y = dropout(activation(x + bias)), and its way back with the bias's.

GELU is x Phi(x), and Phi(-t) for t >= 0, the tail of the normal distribution, is e^(-t^2/2) times a function that
falls slowly: in float32 a ratio of two polynomials. It is as exact far out as it is near 0. In float64 the C library is
asked for it, one number at a time. The derivative needs the same exponential, so it is computed on the way forward and
kept instead of x, with dropout: all that is left to the way back is a product.

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
from .pieces import DTYPES, alike, dropped, dropping, empty, get, kernels, line, parts_of, put, rule_of, same
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
    return x, same(x, 1.0)


@njit(**_OPTIONS)
def _relu(x):
    return maximum(0.0, x), where(x > 0.0, same(x, 1.0), 0.0)  # NaN stays


@njit(**_OPTIONS)
def _gelu(x):
    bell = exp(x * x * -0.5)
    phi = _phi(x, bell)
    return x * phi, fma(x * bell, DENSITY, phi)


@njit(**_OPTIONS)
def _gelu_tanh(x):
    """1/2 (1 + tanh z) = 1 / (1 + e^(-2 z))"""
    s = 1.0 / (exp(x * fma(x * x, -2 * ROOT * CUBE, -2 * ROOT)) + 1.0)
    return x * s, fma(x * s * (1.0 - s), fma(x * x, 6 * ROOT * CUBE, 2 * ROOT), s)


ACTIVATIONS = {"none": _identity, "relu": _relu, "gelu": _gelu, "gelu_tanh": _gelu_tanh}  # and their derivatives


# ------------------------------------------------------------------------------------------------------------- kernels
def _forward_of(activation: Any) -> Any:
    @njit(**_OPTIONS)
    def one(x, bias, i, j, n, rule, y, slopes):
        """The vector at i, of the columns j, j + 1, ..., of which n are left."""
        u, slope = activation(get(x, i, n) + get(bias, j, n))
        if rule[0]:
            u, slope = dropped(u, i, rule), dropped(slope, i, rule)
        put(y, i, n, u)
        if slopes.size:
            put(slopes, i, n, slope)

    @njit(**_OPTIONS)
    def forward(x, bias, dropout, y, slopes, first, last):
        rule, width, step = rule_of(dropout), bias.size, lanes(x)
        for i in range(first, last):
            start = i * width
            n = min(width, x.size - start)
            for j in range(0, n - step + 1, step):
                one(x, bias, start + j, j, step, rule, y, slopes)
            if n % step:
                j = n - n % step
                one(x, bias, start + j, j, n - j, rule, y, slopes)

    return forward


def _backward_of(name: str) -> Any:
    @njit(**_OPTIONS)
    def one(saved, g, i, n, rule, dx, summing, sums, place):
        """The vector at i, of which n elements are left in the row."""
        d = get(g, i, n)
        if name == "none":
            if rule[0]:
                d = dropped(d, i, rule)
        elif name == "relu":  # the result is positive where the input was and dropout kept it
            d = d * where(get(saved, i, n) > 0.0, same(d, rule[-1]), 0.0)
        else:
            d = d * get(saved, i, n)
        put(dx, i, n, d)
        if summing:
            put(sums, place, n, get(sums, place, n) + d)

    @njit(**_OPTIONS)
    def backward(saved, g, width, dropout, dx, summing, sums, rows, parts, first, last):
        rule, step = rule_of(dropout), lanes(saved)
        for part in range(first, last):
            for i in range(part * rows // parts, (part + 1) * rows // parts):
                start = i * width
                n = min(width, g.size - start)
                for j in range(0, n - step + 1, step):
                    one(saved, g, start + j, step, rule, dx, summing, sums, part * width + j)
                if n % step:
                    j = n - n % step
                    one(saved, g, start + j, n - j, rule, dx, summing, sums, part * width + j)

    return backward


# --------------------------------------------------------------------------------------------------------- from Python
@functools.cache
def _kernels(activation: str) -> tuple[Any, Any]:
    """The way forward and the way back, for each dtype."""
    return kernels(_forward_of(ACTIVATIONS[activation]), "RRDWWSS"), kernels(_backward_of(activation), "RRSDWFWSSSS")


_nothing = {dtype: np.zeros(LINE, dtype) for dtype in DTYPES}


def bias_activation(
    x: Array, bias: Array | None, activation: str, p: float, seed: int, with_saved: bool, out: Array | None = None
) -> tuple[Array, Array | None]:
    """See `reference.bias_activation`."""
    if not alike(x, bias):
        return reference.bias_activation(x, bias, activation, p, seed, with_saved, out)
    y = empty(x.shape, x.dtype) if out is None else out
    slopes = empty(x.shape if with_saved and activation.startswith("gelu") else (0,), x.dtype)
    row = _nothing[x.dtype] if bias is None else line(bias)
    rows = -(-x.size // row.size)
    arguments = line(x), row, dropping(p, seed), y.reshape(-1), slopes.reshape(-1)
    _kernels(activation)[0][x.dtype](_forward_nanoseconds(x, activation, p), rows, *arguments)
    return y, slopes if slopes.size else y if activation == "relu" and with_saved else None


def bias_activation_vjp(
    saved: Array | None, bias: Array | None, activation: str, p: float, seed: int, g: Array, out: Array | None = None
) -> tuple[Array, Array | None]:
    """See `reference.bias_activation_vjp`."""
    if not alike(g, bias, saved):
        return reference.bias_activation_vjp(saved, bias, activation, p, seed, g, out)
    dx = empty(g.shape, g.dtype) if out is None else out
    summing = bias is not None
    width = bias.size if summing else LINE
    rows = -(-g.size // width)
    parts = parts_of(rows) if summing else rows
    sums = np.zeros((parts, width) if summing else (0, 0), g.dtype)
    flat = line(g)
    arguments = flat if saved is None else line(saved), flat, width, dropping(p, seed), dx.reshape(-1), summing
    _kernels(activation)[1][g.dtype](0.15 * g.size, parts, *arguments, sums.reshape(-1), rows, parts)
    if not summing:
        return dx, None
    return dx, sums.sum(0) if parts > 1 else sums[0]


def _forward_nanoseconds(x: Array, activation: str, p: float) -> float:
    """About how long one thread takes."""
    each = 0.35 if p else 0.15
    if activation.startswith("gelu"):
        each += 0.5 if x.itemsize == 4 else 5
    return each * x.size
