"""Layer normalisation, also of a sum: y = LN(x + dropout(branch)), the residual connection of a Transformer.

A short row is one value: it is read once, stays in registers until it is normalised, and is written once. For that its
width has to be known when the kernel is compiled, so there is a kernel for each width.

A long row is passed three times: the sum for its mean; the sum of squares for its variance, about the mean, so that
nothing cancels; and the result. Some rows take each pass together, as many as the nearest cache holds: while one of
them waits for its sum, the next ones are under way.

The way back needs sums within a row (two, before dL/dx) and over the rows (dL/dw and dL/db). For these the rows are cut
into parts, whose number depends on theirs and not on that of the threads. A part is added up by one thread, row after
row, in registers or into a line that stays in the nearest cache; then the parts are added in order.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import njit

from . import reference
from .pieces import alike, dropped, dropping, empty, get, kernels, line, parts_of, put, rule_of, same
from .simd import VECTOR, fma, lanes, spread, total, where, whole
from .simd import first as these

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
BLOCK = 2048  # elements of a block of long rows
SHORT = [VECTOR * n for n in (1, 2, 4, 8)]  # bytes in a short row: the way back has three or four such values at a time


# ---------------------------------------------------------------------------------------------------------- short rows
def _short_forward(width: int) -> Any:
    load, store = whole(width)

    @njit(**_OPTIONS)
    def forward(x, branch, weight, bias, eps, adding, dropout, y, n, r, first, last):
        rule, w, b = rule_of(dropout), load(weight, 0), load(bias, 0)
        one, count = x.dtype.type(1), x.dtype.type(width)
        for i in range(first, last):
            start = i * width
            v = load(x, start)
            if adding:
                u = load(branch, start)
                if rule[0]:
                    u = dropped(u, start, rule)
                v = v + u
            v = v - total(v) / count
            r[i] = one / x.dtype.type(math.sqrt(total(v * v) / count + eps))
            v = v * r[i]
            store(n, start, v)
            store(y, start, fma(v, w, b))

    return forward


def _short_backward(width: int) -> Any:
    load, store = whole(width)

    @njit(**_OPTIONS)
    def backward(n, r, weight, g, dropout, dx, dbranch, sums, parts, first, last):
        rule, w, count = rule_of(dropout), load(weight, 0), n.dtype.type(width)
        for part in range(first, last):
            dweight, dbias = same(w, 0.0), same(w, 0.0)
            for i in range(part * r.size // parts, (part + 1) * r.size // parts):
                start = i * width
                e, v = load(g, start), load(n, start)
                h = e * w
                d = (h - total(h) / count - v * (total(h * v) / count)) * r[i]
                store(dx, start, d)
                if rule[0]:
                    store(dbranch, start, dropped(d, start, rule))
                dweight, dbias = fma(e, v, dweight), dbias + e
            store(sums, 2 * part * width, dweight)
            store(sums, (2 * part + 1) * width, dbias)

    return backward


# ----------------------------------------------------------------------------------------------------------- long rows
@njit(**_OPTIONS)
def _long_forward(x, branch, weight, bias, eps, adding, dropout, y, n, r, first, last):
    rule, width, step = rule_of(dropout), weight.size, lanes(x)
    one, count = x.dtype.type(1), x.dtype.type(weight.size)
    together = max(1, BLOCK // width)
    for top in range(first, last, together):
        rows = range(top, min(top + together, last))
        for i in rows:
            start = i * width
            s = spread(x, 0.0)
            for j in range(0, width, step):
                v = get(x, start + j, width - j)
                if adding:
                    u = get(branch, start + j, width - j)
                    if rule[0]:
                        u = dropped(u, start + j, rule)
                    v = v + u
                put(n, start + j, width - j, v)
                s = s + v
            r[i] = total(s) / count  # the mean, for the moment
        for i in rows:
            start, mean = i * width, r[i]
            s = spread(x, 0.0)
            for j in range(0, width, step):
                v = get(n, start + j, width - j) - mean
                put(n, start + j, width - j, v)
                if width - j < step:
                    v = where(these(v, width - j), v, 0.0)
                s = fma(v, v, s)
            r[i] = one / x.dtype.type(math.sqrt(total(s) / count + eps))
        for i in rows:
            start, inverse = i * width, r[i]
            for j in range(0, width, step):
                v = get(n, start + j, width - j) * inverse
                put(n, start + j, width - j, v)
                put(y, start + j, width - j, fma(v, get(weight, j, width - j), get(bias, j, width - j)))


@njit(**_OPTIONS)
def _long_backward(n, r, weight, g, dropout, dx, dbranch, sums, parts, first, last):
    rule, width, step, count = rule_of(dropout), weight.size, lanes(n), n.dtype.type(weight.size)
    for part in range(first, last):
        dweight = 2 * part * width
        dbias = dweight + width
        for i in range(part * r.size // parts, (part + 1) * r.size // parts):
            start = i * width
            s, t = spread(n, 0.0), spread(n, 0.0)
            for j in range(0, width, step):
                h = get(g, start + j, width - j) * get(weight, j, width - j)
                s = s + h
                t = fma(h, get(n, start + j, width - j), t)
            shift, stretch, inverse = total(s) / count, total(t) / count, r[i]
            for j in range(0, width, step):
                e, v = get(g, start + j, width - j), get(n, start + j, width - j)
                d = (e * get(weight, j, width - j) - shift - v * stretch) * inverse
                put(dx, start + j, width - j, d)
                if rule[0]:
                    d = dropped(d, start + j, rule)
                    put(dbranch, start + j, width - j, d)
                put(sums, dweight + j, width - j, fma(e, v, get(sums, dweight + j, width - j)))
                put(sums, dbias + j, width - j, get(sums, dbias + j, width - j) + e)


# --------------------------------------------------------------------------------------------------------- from Python
_long = kernels(_long_forward, "RRRRNFDWWWSS"), kernels(_long_backward, "RRRRDWWWSSS")


@functools.cache
def _short(width: int) -> tuple[Any, Any]:
    """Those for short rows of this width."""
    return kernels(_short_forward(width), "RRRRNFDWWWSS"), kernels(_short_backward(width), "RRRRDWWWSSS")


def _kernels(width: int, dtype: Any) -> tuple[Any, Any]:
    """The way forward and the way back, for each dtype, for rows of this width."""
    return _short(width) if width * dtype.itemsize in SHORT else _long


def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """See `reference.layer_norm`."""
    if not alike(x, weight, bias):
        return reference.layer_norm(x, weight, bias, eps)
    return _run_forward(x, None, weight, bias, eps, 0.0, 0)


def layer_norm_vjp(n: Array, r: Array, weight: Array | None, g: Array) -> tuple[Array, Array, Array]:
    """See `reference.layer_norm_vjp`."""
    if not alike(n, weight, g):
        return reference.layer_norm_vjp(n, r, weight, g)
    dx, _, dweight, dbias = _run_backward(n, r, weight, g, 0.0, 0)
    return dx, dweight, dbias


def add_layer_norm(
    x: Array, branch: Array, weight: Array | None, bias: Array | None, eps: float, p: float, seed: int
) -> tuple[Array, Array, Array]:
    """See `reference.add_layer_norm`."""
    if not alike(x, branch, weight, bias):
        return reference.add_layer_norm(x, branch, weight, bias, eps, p, seed)
    return _run_forward(x, branch, weight, bias, eps, p, seed)


def add_layer_norm_vjp(
    n: Array, r: Array, weight: Array | None, g: Array, p: float, seed: int
) -> tuple[Array, Array, Array, Array]:
    """See `reference.add_layer_norm_vjp`."""
    if not alike(n, weight, g):
        return reference.add_layer_norm_vjp(n, r, weight, g, p, seed)
    return _run_backward(n, r, weight, g, p, seed)


def _run_forward(
    x: Array, branch: Array | None, weight: Array | None, bias: Array | None, eps: float, p: float, seed: int
) -> tuple[Array, Array, Array]:
    shape, width = x.shape, x.shape[-1]
    y, n, r = empty(shape, x.dtype), empty(shape, x.dtype), empty((*shape[:-1], 1), x.dtype)
    weight = np.ones(width, x.dtype) if weight is None else line(weight)
    bias = np.zeros(width, x.dtype) if bias is None else line(bias)
    x = line(x)
    _kernels(width, x.dtype)[0][x.dtype](
        _nanoseconds(x, p),
        r.size,
        x,
        x if branch is None else line(branch),
        weight,
        bias,
        eps,
        branch is not None,
        dropping(p, seed),
        y.reshape(-1),
        n.reshape(-1),
        r.reshape(-1),
    )
    return y, n, r


def _run_backward(
    n: Array, r: Array, weight: Array | None, g: Array, p: float, seed: int
) -> tuple[Array, Array, Array, Array]:
    shape, width = n.shape, n.shape[-1]
    dx = empty(shape, n.dtype)
    dbranch = empty(shape, n.dtype) if p else dx
    parts = parts_of(r.size)
    sums = np.zeros((parts, 2, width), n.dtype)
    weight = np.ones(width, n.dtype) if weight is None else line(weight)
    _kernels(width, n.dtype)[1][n.dtype](
        _nanoseconds(n, p),
        parts,
        line(n),
        line(r),
        weight,
        line(g),
        dropping(p, seed),
        dx.reshape(-1),
        dbranch.reshape(-1),
        sums.reshape(-1),
        parts,
    )
    both = sums.sum(0) if parts > 1 else sums[0]
    return dx, dbranch, both[0], both[1]


def _nanoseconds(x: Array, p: float) -> float:
    """About how long one thread takes, either way."""
    return (0.5 if p else 0.3) * x.size
