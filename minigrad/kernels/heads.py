"""Attention, forward and backward, without ever holding all the scores.

(Not named attention.py: loading a module makes it an attribute of its package, in the place of the function.)

The scores of one head are T x S numbers, and nobody needs them but the softmax on their way to the result. So they are
made block by block, QUERIES by KEYS, and used while they are in the cache:

    for each block of queries:                          z = 0, and for each query: maximum m = lowest, sum l = 0
        for each block of keys:
            s = k q^T                                   keys down, queries across: one query per lane of a vector
            m' = max(m, s);  e = exp(s - m')            what came before is rescaled by exp(m - m')
            l = l exp(m - m') + sum e
            z = z exp(m - m') + e^T v
        z = z / l                                       m and 1 / l are all that the way back needs of the softmax

With queries across, the maximum and the sum over the keys are plain arithmetic on vectors, never across their lanes.
(Rescaling: Milakov and Gimelshein 2018; with the products around it: Rabe and Staats 2021, Dao et al. 2022.)

The way back makes the scores again, and with them the probabilities p = exp(s - m) / l. With g = dL/dz:

    dp = v g^T,  ds = p (dp - sum over keys of dp p)    and that sum is sum_c g_c z_c, known before any key is looked at
    dv = p g,  dq = scale ds^T k,  dk = scale ds q

Memory beside the results: two numbers per query, and for each thread a few blocks. Dropout multiplies e, and dp; its
bits are computed again. What lies behind the last key that anybody in a block may attend to costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from . import bits, reference, threads
from .pieces import empty
from .simd import borrowed, exp, kept_apart, lanes, load_flags, load_some, maximum, spread, store_some, where
from .tile import product

Array = np.ndarray

QUERIES, KEYS = 64, 128  # in a block: 32 KB of scores in float32
_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


# ---------------------------------------------------------------------------------------------------- pieces of a block
@njit(**_OPTIONS)
def _across(x, factor, panel):
    """panel[c, i] = factor * x[i, c]: queries across."""
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            panel[c, i] = factor * x[i, c]


@njit(**_OPTIONS)
def _look_up(mask, causal, top, left, legal, wide):
    """legal[j * wide + i] = whether query top + i may attend to key left + j; returns how many keys are needed."""
    needed = 0
    queries, keys = mask.shape
    one_for_all = mask.strides[0] == 0
    for j in range(keys):
        row, some = legal[j * wide : j * wide + queries], False
        if one_for_all:
            some = mask[0, j]
            for i in range(queries):
                row[i] = some
        else:
            for i in range(queries):
                row[i] = mask[i, j]
                some |= mask[i, j]
        if causal:
            for i in range(min(queries, left + j - top)):
                row[i] = False
        if some:
            needed = j + 1
    return needed


@njit(**_OPTIONS)
def _rescale(rows, factors):
    for i in range(rows.shape[0]):
        row, factor = rows[i], factors[i]
        for c in range(row.size):
            row[c] *= factor


@njit(**_OPTIONS)
def _is_shut_out(mask, causal, i):
    """Whether query i may attend to nothing at all."""
    return not mask[i, : i + 1 if causal else mask.shape[1]].any()


# ------------------------------------------------------------------------------------------------------------- kernels
@njit(**_OPTIONS)
def _forward(q, k, v, mask, some_shut, causal, scale, keys, threshold, kept_scale, z, greatest, inverse, first, last):
    """Items first..last-1; an item is a block of queries of one head."""
    q, k, v, mask, z = borrowed(q), borrowed(k), borrowed(v), borrowed(mask), borrowed(z)
    greatest, inverse = borrowed(greatest), borrowed(inverse)
    heads, length, size, reach = q.shape[1], q.shape[2], q.shape[3], k.shape[2]
    wide, high = min(length, QUERIES), min(reach, KEYS)
    panel = np.empty((size, wide), q.dtype)
    scores, legal = np.empty(high * wide, q.dtype), np.empty(high * wide, np.bool_)
    rows = scores.reshape(high, wide)
    sums, factors = np.empty(wide, q.dtype), np.empty(wide, q.dtype)
    lowest = np.finfo(q.dtype).min
    blocks = (length + QUERIES - 1) // QUERIES
    looked_up, needed = -1, 0  # the sentence whose mask `legal` still shows: all its heads may share it
    for item in range(first, last):
        head, block = divmod(item, blocks)
        b, h = divmod(head, heads)
        top = block * QUERIES
        n = min(QUERIES, length - top)
        key = k[min(b, k.shape[0] - 1), min(h, k.shape[1] - 1)]  # a dimension of size 1 stands for any
        value = v[min(b, v.shape[0] - 1), min(h, v.shape[1] - 1)]
        out, most = z[b, h, top : top + n], greatest[head, top : top + n]
        _across(q[b, h, top : top + n], scale, panel)
        most[:] = lowest
        sums[:] = 0
        begun = False
        end = min(reach, top + n) if causal else reach
        for left in range(0, end, KEYS):
            m = min(KEYS, end - left)
            if some_shut:
                if looked_up != b or mask.strides[1] != 0 or blocks > 1 or reach > KEYS:
                    needed = _look_up(mask[b, h, top : top + n, left : left + m], causal, top, left, legal, wide)
                    looked_up = b
                m = needed
                if m == 0:
                    continue
            product(key[left : left + m], panel[:, :n], rows[:m, :n], False)
            for i in range(0, n, lanes(sums)):
                before = load_some(most, i, n - i)
                now = before
                for j in range(m):
                    at = j * wide + i
                    x = load_some(scores, at, n - i)
                    now = maximum(now, where(load_flags(x, legal, at, n - i), x, lowest) if some_shut else x)
                factor = exp(before - now)
                total = load_some(sums, i, n - i) * factor
                element = (head * length + top + i) * reach + left  # of query i and the first key, for dropout
                for j in range(m):
                    at = j * wide + i
                    e = exp(load_some(scores, at, n - i) - now)
                    if some_shut:
                        e = where(load_flags(e, legal, at, n - i), e, 0)
                    total = total + e
                    if threshold > 0:
                        kept = kept_apart(e, element + j, reach, keys[0], keys[1], threshold)
                        e = e * where(kept, spread(sums, kept_scale), 0)
                    store_some(scores, at, n - i, e)
                store_some(most, i, n - i, now)
                store_some(sums, i, n - i, total)
                store_some(factors, i, n - i, factor)
            if begun:
                _rescale(out, factors)
            product(rows[:m, :n].T, value[left : left + m], out, begun)
            begun = True
        for i in range(n):
            shut_out = sums[i] == 0 and _is_shut_out(mask[b, h], causal, top + i)
            factors[i] = 0 if shut_out else 1 / sums[i]
            inverse[head, top + i] = factors[i]
        if begun:
            _rescale(out, factors)
        else:
            out[:] = 0


@njit(**_OPTIONS)
def _backward(
    q, k, v, mask, some_shut, causal, scale, keys, threshold, kept_scale, z, greatest, inverse, g, dq, dk, dv,
    first, last,
):  # fmt: skip
    """Items first..last-1; an item is a head."""
    q, k, v, mask, z, g = borrowed(q), borrowed(k), borrowed(v), borrowed(mask), borrowed(z), borrowed(g)
    dq, dk, dv, greatest, inverse = borrowed(dq), borrowed(dk), borrowed(dv), borrowed(greatest), borrowed(inverse)
    heads, length, size, reach = q.shape[1], q.shape[2], q.shape[3], k.shape[2]
    wide, high = min(length, QUERIES), min(reach, KEYS)
    panel, g_panel = np.empty((size, wide), q.dtype), np.empty((v.shape[3], wide), q.dtype)
    scores, gradients = np.empty(high * wide, q.dtype), np.empty(high * wide, q.dtype)
    p_rows, d_rows = scores.reshape(high, wide), gradients.reshape(high, wide)
    legal = np.empty(high * wide, np.bool_)
    along = np.empty(wide, q.dtype)
    looked_up, needed = -1, 0
    for head in range(first, last):
        b, h = divmod(head, heads)
        key = k[min(b, k.shape[0] - 1), min(h, k.shape[1] - 1)]  # a dimension of size 1 stands for any
        value = v[min(b, v.shape[0] - 1), min(h, v.shape[1] - 1)]
        d_query, d_key, d_value = dq[b, h], dk[b, h], dv[b, h]
        d_query[:] = 0
        d_key[:] = 0
        d_value[:] = 0
        for top in range(0, length, QUERIES):
            n = min(QUERIES, length - top)
            query, g_out, out = q[b, h, top : top + n], g[b, h, top : top + n], z[b, h, top : top + n]
            _across(query, scale, panel)
            _across(g_out, q.dtype.type(1), g_panel)
            for i in range(n):
                along[i] = _dot(g_out[i], out[i])
            end = min(reach, top + n) if causal else reach
            for left in range(0, end, KEYS):
                m = min(KEYS, end - left)
                if some_shut:
                    if looked_up != b or mask.strides[1] != 0 or length > QUERIES or reach > KEYS:
                        needed = _look_up(mask[b, h, top : top + n, left : left + m], causal, top, left, legal, wide)
                        looked_up = b
                    m = needed
                    if m == 0:
                        continue
                some_keys, some_values = key[left : left + m], value[left : left + m]
                p, d = p_rows[:m, :n], d_rows[:m, :n]
                product(some_keys, panel[:, :n], p, False)
                product(some_values, g_panel[:, :n], d, False)
                for i in range(0, n, lanes(along)):
                    most = load_some(greatest[head], top + i, n - i)
                    norm = load_some(inverse[head], top + i, n - i)
                    sum_dp_p = load_some(along, i, n - i)
                    element = (head * length + top + i) * reach + left
                    for j in range(m):
                        at = j * wide + i
                        x = exp(load_some(scores, at, n - i) - most) * norm
                        if some_shut:
                            x = where(load_flags(x, legal, at, n - i), x, 0)
                        dx = load_some(gradients, at, n - i)
                        dropped = x
                        if threshold > 0:
                            kept = kept_apart(x, element + j, reach, keys[0], keys[1], threshold)
                            factor = where(kept, spread(along, kept_scale), 0)
                            dropped = x * factor
                            dx = dx * factor
                        store_some(scores, at, n - i, dropped)
                        store_some(gradients, at, n - i, x * (dx - sum_dp_p) * scale)
                product(p, g_out, d_value[left : left + m], True)
                product(d, query, d_key[left : left + m], True)
                product(d.T, some_keys, d_query[top : top + n], True)


@njit(**_OPTIONS | {"fastmath": {"contract", "reassoc"}})
def _dot(a, b):
    total = a.dtype.type(0)
    for c in range(a.size):
        total += a[c] * b[c]
    return total


# -------------------------------------------------------------------------------------------------------- from Python
def _kernels(serial: Any, *outputs: str) -> dict[Any, threads.Kernel]:
    """A kernel for each dtype."""
    kernels = {}
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        number = from_dtype(dtype)
        kinds = {
            "read": types.Array(number, 4, "A", readonly=True),
            "write": types.Array(number, 4, "A"),
            "per query": types.Array(number, 2, "C"),
        }
        mask = types.Array(types.boolean, 4, "A", readonly=True), types.boolean, types.boolean
        dropout = types.UniTuple(types.uint32, 2), types.uint32, number
        inputs = (*[kinds["read"]] * 3, *mask, number, *dropout)
        kernels[dtype] = threads.Kernel(serial, (*inputs, *[kinds[x] for x in outputs], types.intp, types.intp))
    return kernels


_forwards = _kernels(_forward, "write", "per query", "per query")
_backwards = _kernels(_backward, "read", "per query", "per query", "read", "write", "write", "write")


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
    """See `reference.attention`."""
    kernel = _forwards.get(q.dtype)
    if kernel is None or not q.dtype == k.dtype == v.dtype or q.ndim > 4 or 0 in (*q.shape, *k.shape, v.shape[-1]):
        return reference.attention(q, k, v, mask, causal, scale, p, seed, out=out)
    q4, k4, v4 = _four(q), _four(k), _four(v)
    (batch, heads, length, size), reach = q4.shape, k4.shape[2]
    shut = np.broadcast_to(np.True_ if mask is None else mask, (batch, heads, length, reach))
    dropped = bits.threshold(p) if p > 0 else 0
    inputs = (q4, k4, v4, shut, causal or mask is not None, causal, scale)
    inputs = (*inputs, bits.keys(seed), dropped, bits.scale(p))
    z = _with_heads_inside(batch, heads, length, v.shape[-1], q.dtype) if out is None else _four(out)
    greatest, inverse = np.empty((batch * heads, length), q.dtype), np.empty((batch * heads, length), q.dtype)
    nanoseconds = batch * heads * length * reach * (0.04 * size + 1)
    kernel(nanoseconds, batch * heads * -(-length // QUERIES), *inputs, z, greatest, inverse)

    def vjp(g: Array, into: tuple[Array, Array, Array] | None = None) -> tuple[Array, Array, Array]:
        if into is None:
            dq = _with_heads_inside(batch, heads, length, size, q.dtype)
            dk = _with_heads_inside(batch, heads, reach, size, q.dtype)
            dv = _with_heads_inside(batch, heads, reach, v.shape[-1], q.dtype)
        else:
            dq, dk, dv = map(_four, into)
        kernel = _backwards[q.dtype]
        kernel(3 * nanoseconds, batch * heads, *inputs, z, greatest, inverse, _four(g), dq, dk, dv)
        return _like(dq, q), _like(dk, q), _like(dv, q)

    return _like(z, q), vjp


def _four(x: Array) -> Array:
    """`x` in four dimensions, with the numbers of a row side by side."""
    x = x if x.ndim == 4 else x[(None,) * (4 - x.ndim)]
    return x if x.strides[3] == x.itemsize else np.ascontiguousarray(x)


def _like(x: Array, q: Array) -> Array:
    """`x` in as many dimensions as q has."""
    return x if q.ndim == 4 else x[(0,) * (4 - q.ndim)]


def _with_heads_inside(batch: int, heads: int, length: int, size: int, dtype: Any) -> Array:
    """An array (B, H, T, K) in the memory of (B, T, H, K), which is what joining the heads wants."""
    return empty((batch, length, heads, size), dtype).swapaxes(1, 2)
