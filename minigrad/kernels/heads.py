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
    dv = p g,  dq = scale ds^T k,  dk = ds scale q

Heads are short, 16 queries of 16 numbers for example, and what is done once per head counts. So a head is first copied,
row by row, into matrices that are padded to whole vectors and whole blocks of rows (`_fetch`), and results are copied
out (`_deliver`): in between no load and no store has a mask, and no loop a remainder. What the padding holds stays in
its own rows and lanes. It is also faster where heads are long, as their rows are far apart in memory: read more than
once from there, they would compete for the same few places in the cache.

Memory beside the results: two numbers per query, and for each thread a few blocks. Dropout multiplies e, and dp; its
bits are computed again. What lies behind the last key that anybody in a block may attend to costs nothing, and where
all may attend to all that comes before, which a mask for padding says, nobody is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from . import bits, reference, threads
from .pieces import empty, get, put
from .simd import (
    VECTOR,
    borrowed,
    exp_down,
    kept_apart,
    lanes,
    load,
    load_flags,
    maximum,
    spread,
    store,
    total,
    where,
)
from .tile import SHORT, product, turn

Array = np.ndarray

QUERIES, KEYS = 64, 128  # in a block: 32 KB of scores in float32
_OPTIONS: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


# ------------------------------------------------------------------------------------------------------ padded matrices
@njit(**_OPTIONS)
def _padded(n, like):
    """`n` rows or columns, and as many more as make whole vectors and whole blocks of rows."""
    unit = max(lanes(like), SHORT)
    return (n + unit - 1) // unit * unit


@njit(**_OPTIONS)
def _memory(like, count):
    """Zeros for matrices that are whole vectors wide; none of these vectors crosses a cache line."""
    x = np.zeros(count + lanes(like), like.dtype)
    return x[-x.ctypes.data % VECTOR // x.itemsize :]


@njit(**_OPTIONS)
def _cut(memory, rows, columns):
    """A matrix in `memory`, and the memory behind it."""
    memory, size = borrowed(memory), rows * columns
    return memory[:size].reshape(rows, columns), memory[size:]


@njit(**_OPTIONS)
def _keep(memory):
    """Numba frees an array after the last line that names it; this is the line after the last use of its matrices."""


@njit(**_OPTIONS)
def _fetch(x, factor, rows):
    """rows = factor * x, with zeros up to whole vectors."""
    size = x.shape[1]  # often of one vector, for which a loop of its own would take longer than the copy
    for i in range(x.shape[0]):
        store(rows[i], 0, get(x[i], 0, size) * factor)
        for c in range(lanes(rows), rows.shape[1], lanes(rows)):
            store(rows[i], c, get(x[i], c, size - c) * factor)


@njit(**_OPTIONS)
def _at(x):
    """Where a matrix is: its address, and the strides down and right."""
    return x.ctypes.data, x.strides[0], x.strides[1]


@njit(**_OPTIONS)
def _turn(x, panel, rows, columns, size, zero):
    """panel = x^T, square by square; both are places, as `_at` says them."""
    for i in range(0, rows * size, VECTOR):
        for c in range(0, columns * size, VECTOR):
            turn(zero, x[0] + i // size * x[1] + c, x[1], panel[0] + c // size * panel[1] + i, panel[1])


@njit(**_OPTIONS)
def _deliver(rows, factor, add, x):
    """x = factor * rows, or that added to it if `add`; where there are fewer rows than in x, 0."""
    size = x.shape[1]
    for i in range(rows.shape[0]):
        now = load(rows[i], 0) * factor
        put(x[i], 0, size, get(x[i], 0, size) + now if add else now)
        for c in range(lanes(rows), size, lanes(rows)):
            now = load(rows[i], c) * factor
            put(x[i], c, size - c, get(x[i], c, size - c) + now if add else now)
    if not add:
        for i in range(rows.shape[0], x.shape[0]):
            for c in range(0, size, lanes(rows)):
                put(x[i], c, size - c, spread(rows, 0))


@njit(**_OPTIONS)
def _rescale(rows, factors):
    for i in range(rows.shape[0]):
        for c in range(0, rows.shape[1], lanes(rows)):
            store(rows[i], c, load(rows[i], c) * factors[i])


@njit(**_OPTIONS)
def _dot(a, b):
    """sum_c a_c b_c; `a` has zeros up to whole vectors."""
    sums = spread(a, 0)
    for c in range(0, b.size, lanes(a)):
        sums = sums + load(a, c) * get(b, c, b.size - c)
    return total(sums)


# ---------------------------------------------------------------------------------------------------------------- masks
@njit(**_OPTIONS)
def _look_up(mask, causal, top, queries, left, keys, legal, wide):
    """legal[j * wide + i] = whether query top + i may attend to key left + j.

    Returns how many of the keys are needed, and whether those are legal for all queries; then `legal` is not written.
    """
    down, right = int(mask.shape[0] > 1), int(mask.shape[1] > 1)  # a dimension of size 1 stands for any
    one_for_all = down == 0 or mask.strides[0] == 0
    needed = count = 0
    if one_for_all and not (causal and left + keys - 1 > top):
        for j in range(keys):
            if mask[0, right * (left + j)]:
                needed = j + 1
                count += 1
        if count == needed:
            return needed, True
    needed = count = 0
    for j in range(keys):
        column, row, some = mask[:, right * (left + j)], borrowed(legal)[j * wide : j * wide + queries], 0
        before = min(max(left + j - top, 0), queries) if causal else 0  # so many queries come before this key
        row[:before] = False
        for i in range(before, queries):
            may = column[down * (top + i)]
            row[i] = may
            some += may
        count += some
        if some > 0:
            needed = j + 1
    return needed, count == needed * queries


@njit(**_OPTIONS)
def _is_shut_out(mask, causal, i):
    """Whether query i may attend to nothing at all."""
    row = mask[i if mask.shape[0] > 1 else 0]
    return not row[: i + 1 if causal and row.size > 1 else row.size].any()


# ------------------------------------------------------------------------------------------------------------- kernels
@njit(**_OPTIONS)
def _forward(q, k, v, mask, some_shut, causal, scale, keys, threshold, kept_scale, z, greatest, inverse, first, last):
    """Items first..last-1; an item is a block of queries of one head."""
    q, k, v, mask, z = borrowed(q), borrowed(k), borrowed(v), borrowed(mask), borrowed(z)
    greatest, inverse = borrowed(greatest), borrowed(inverse)
    heads, length, size, size_v, reach = q.shape[1], q.shape[2], q.shape[3], v.shape[3], k.shape[2]
    wide, high = _padded(min(length, QUERIES), q), _padded(min(reach, KEYS), q)
    across, across_v = _padded(size, q), _padded(size_v, q)
    memory = _memory(q, wide * (2 * across + across_v + high + 2) + high * (across + across_v))
    query, rest = _cut(memory, wide, across)
    panel, rest = _cut(rest, across, wide)
    scores, rest = _cut(rest, high, wide)
    some_keys, rest = _cut(rest, high, across)
    some_values, rest = _cut(rest, high, across_v)
    out, rest = _cut(rest, wide, across_v)
    sums, factors = rest[:wide], rest[wide:]
    legal = np.zeros(high * wide, np.bool_)
    lowest, zero, one, each = np.finfo(q.dtype).min, q.dtype.type(0), q.dtype.type(1), q.itemsize
    no = np.bool_(0)  # Numba compiles a function anew for every constant that it is called with
    blocks = (length + QUERIES - 1) // QUERIES
    looked_up, needed, whole = (0, 0, 0), 0, True  # where in the mask what `legal` shows begins
    for item in range(first, last):
        head, block = divmod(item, blocks)
        b, h = divmod(head, heads)
        top = block * QUERIES
        n = min(QUERIES, length - top)
        columns = _padded(n, q)
        key = k[min(b, k.shape[0] - 1), min(h, k.shape[1] - 1)]  # a dimension of size 1 stands for any
        value = v[min(b, v.shape[0] - 1), min(h, v.shape[1] - 1)]
        shut = mask[min(b, mask.shape[0] - 1), min(h, mask.shape[1] - 1)]
        most, norms = greatest[head], inverse[head]
        _fetch(q[b, h, top : top + n], scale, query)
        _turn(_at(query), _at(panel), columns, across, each, zero)
        begun = no
        end = min(reach, top + n) if causal else reach
        for left in range(0, end, KEYS):
            m, free = min(KEYS, end - left), True
            if some_shut:
                if looked_up != (shut.ctypes.data, top, left):
                    looked_up = shut.ctypes.data, top, left
                    needed, whole = _look_up(shut, causal, top, n, left, m, legal, wide)
                m, free = needed, whole
                if m == 0:
                    continue
            _fetch(key[left : left + m], one, some_keys)
            product(zero, _at(some_keys), _at(panel), _at(scores), no, (m, size, columns), each)
            for i in range(0, n, lanes(q)):
                before = load(most, top + i) if begun else spread(sums, lowest)
                now = before
                for j in range(m):
                    x = load(scores[j], i)
                    legal_x = x if free else where(load_flags(x, legal, j * wide + i, lanes(q)), x, lowest)
                    now = maximum(now, legal_x)
                total_e = spread(sums, 0)
                if begun:
                    factor = exp_down(before - now)
                    total_e = load(sums, i) * factor
                    store(factors, i, factor)
                element = (head * length + top + i) * reach + left  # of query i and the first key, for dropout
                for j in range(m):
                    e = exp_down(load(scores[j], i) - now)
                    if not free:
                        e = where(load_flags(e, legal, j * wide + i, lanes(q)), e, 0)
                    total_e = total_e + e
                    if threshold > 0:
                        e = where(kept_apart(e, element + j, reach, keys[0], keys[1], threshold), e * kept_scale, 0)
                    store(scores[j], i, e)
                store(most, top + i, now)
                store(sums, i, total_e)
            if begun:
                _rescale(out[:n], factors)
            _fetch(value[left : left + m], one, some_values)
            product(zero, _at(scores.T), _at(some_values), _at(out), begun, (n, m, across_v), each)
            begun = True
        if not begun:
            out[:] = 0
            sums[:] = 0
        for i in range(0, n, lanes(q)):
            store(norms, top + i, 1 / load(sums, i))
        if some_shut:
            for i in range(n):
                if sums[i] == 0 and _is_shut_out(shut, causal, top + i):
                    norms[top + i] = 0
        _rescale(out[:n], norms[top:])
        _deliver(out[:n], one, no, z[b, h, top : top + n])
    _keep(memory)


@njit(**_OPTIONS)
def _backward(
    q, k, v, mask, some_shut, causal, scale, keys, threshold, kept_scale, z, greatest, inverse, g, dq, dk, dv,
    first, last,
):  # fmt: skip
    """Items first..last-1; an item is a head."""
    q, k, v, mask, z, g = borrowed(q), borrowed(k), borrowed(v), borrowed(mask), borrowed(z), borrowed(g)
    dq, dk, dv, greatest, inverse = borrowed(dq), borrowed(dk), borrowed(dv), borrowed(greatest), borrowed(inverse)
    heads, length, size, size_v, reach = q.shape[1], q.shape[2], q.shape[3], v.shape[3], k.shape[2]
    wide, high = _padded(min(length, QUERIES), q), _padded(min(reach, KEYS), q)
    across, across_v = _padded(size, q), _padded(size_v, q)
    memory = _memory(q, 2 * (wide + high) * (across + across_v) + wide * (2 * high + across + 1))
    query, rest = _cut(memory, wide, across)
    panel, rest = _cut(rest, across, wide)
    g_out, rest = _cut(rest, wide, across_v)
    g_panel, rest = _cut(rest, across_v, wide)
    some_keys, rest = _cut(rest, high, across)
    some_values, rest = _cut(rest, high, across_v)
    p, rest = _cut(rest, high, wide)
    d, rest = _cut(rest, high, wide)
    d_query, rest = _cut(rest, wide, across)
    d_keys, rest = _cut(rest, high, across)
    d_values, rest = _cut(rest, high, across_v)
    along = rest[:wide]
    legal = np.zeros(high * wide, np.bool_)
    zero, one, no, each = q.dtype.type(0), q.dtype.type(1), np.bool_(0), q.itemsize
    looked_up, needed, whole = (0, 0, 0), 0, True
    for head in range(first, last):
        b, h = divmod(head, heads)
        key = k[min(b, k.shape[0] - 1), min(h, k.shape[1] - 1)]  # a dimension of size 1 stands for any
        value = v[min(b, v.shape[0] - 1), min(h, v.shape[1] - 1)]
        shut = mask[min(b, mask.shape[0] - 1), min(h, mask.shape[1] - 1)]
        most, norms = greatest[head], inverse[head]
        for top in range(0, length, QUERIES):
            n = min(QUERIES, length - top)
            columns = _padded(n, q)
            _fetch(q[b, h, top : top + n], scale, query)
            _fetch(g[b, h, top : top + n], one, g_out)
            _turn(_at(query), _at(panel), columns, across, each, zero)
            _turn(_at(g_out), _at(g_panel), columns, across_v, each, zero)
            for i in range(n):
                along[i] = _dot(g_out[i], z[b, h, top + i])
            begun = no
            for left in range(0, reach, KEYS):
                end = min(left + KEYS, reach)
                m, free = max(min(end, top + n) - left, 0) if causal else end - left, True
                if some_shut:
                    if looked_up != (shut.ctypes.data, top, left):
                        looked_up = shut.ctypes.data, top, left
                        needed, whole = _look_up(shut, causal, top, n, left, m, legal, wide)
                    m, free = needed, whole
                if m > 0:
                    _fetch(key[left : left + m], one, some_keys)
                    _fetch(value[left : left + m], one, some_values)
                    product(zero, _at(some_keys), _at(panel), _at(p), no, (m, size, columns), each)
                    product(zero, _at(some_values), _at(g_panel), _at(d), no, (m, size_v, columns), each)
                    for i in range(0, n, lanes(q)):
                        now, norm, sum_dp_p = load(most, top + i), load(norms, top + i), load(along, i)
                        element = (head * length + top + i) * reach + left
                        for j in range(m):
                            x, dx = exp_down(load(p[j], i) - now) * norm, load(d[j], i)
                            if not free:
                                x = where(load_flags(x, legal, j * wide + i, lanes(q)), x, 0)
                            dropped = x
                            if threshold > 0:
                                kept = kept_apart(x, element + j, reach, keys[0], keys[1], threshold)
                                dropped, dx = where(kept, x * kept_scale, 0), where(kept, dx * kept_scale, 0)
                            store(p[j], i, dropped)
                            store(d[j], i, x * (dx - sum_dp_p))
                    product(zero, _at(p), _at(g_out), _at(d_values), no, (m, n, across_v), each)
                    product(zero, _at(d), _at(query), _at(d_keys), no, (m, n, across), each)
                    product(zero, _at(d.T), _at(some_keys), _at(d_query), begun, (n, m, across), each)
                    begun = True
                _deliver(d_keys[:m], one, top > 0, dk[b, h, left:end])
                _deliver(d_values[:m], one, top > 0, dv[b, h, left:end])
            _deliver(d_query[: n if begun else 0], scale, no, dq[b, h, top : top + n])
    _keep(memory)


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
    (batch, heads, length, size), reach, size_v = q4.shape, k4.shape[2], v.shape[-1]
    shut = _ALL if mask is None else mask[(None,) * (4 - mask.ndim)]
    if not all(m in (1, n) for m, n in zip(shut.shape, (batch, heads, length, reach), strict=True)):
        raise ValueError(f"attention(): the mask has shape {shut.shape}; it must broadcast to the scores")
    inputs = (q4, k4, v4, shut, causal or mask is not None, causal, scale)
    inputs = (*inputs, bits.keys(seed), bits.threshold(p), bits.scale(p)) if p > 0 else (*inputs, (0, 0), 0, 1.0)
    z = _to_write(out, batch, heads, length, size_v, q.dtype)
    per_query = batch * heads, length + VECTOR // q.itemsize  # with room for whole vectors
    greatest, inverse = np.empty(per_query, q.dtype), np.empty(per_query, q.dtype)
    nanoseconds = batch * heads * length * reach * (0.04 * size + 1)
    kernel(nanoseconds, batch * heads * -(-length // QUERIES), *inputs, z, greatest, inverse)

    def vjp(g: Array, into: tuple[Array, Array, Array] | None = None) -> tuple[Array, Array, Array]:
        dq, dk, dv = into or (None, None, None)
        dq = _to_write(dq, batch, heads, length, size, q.dtype)
        dk = _to_write(dk, batch, heads, reach, size, q.dtype)
        dv = _to_write(dv, batch, heads, reach, size_v, q.dtype)
        kernel = _backwards[q.dtype]
        kernel(3 * nanoseconds, batch * heads, *inputs, z, greatest, inverse, _four(g), dq, dk, dv)
        return _like(dq, q), _like(dk, q), _like(dv, q)

    return _like(z, q), vjp


_ALL = np.ones((1, 1, 1, 1), np.bool_)  # the mask that shuts out nobody


def _four(x: Array) -> Array:
    """`x` in four dimensions, with the numbers of a row side by side."""
    x = x if x.ndim == 4 else x[(None,) * (4 - x.ndim)]
    return x if x.strides[3] == x.itemsize else np.ascontiguousarray(x)


def _like(x: Array, q: Array) -> Array:
    """`x` in as many dimensions as q has."""
    return x if q.ndim == 4 else x[(0,) * (4 - q.ndim)]


def _to_write(x: Array | None, batch: int, heads: int, length: int, size: int, dtype: Any) -> Array:
    """`x` in four dimensions, or a new array (B, H, T, K) in memory (B, T, H, K), which is what joining heads wants."""
    if x is None:
        return empty((batch, length, heads, size), dtype).swapaxes(1, 2)
    x = x[(None,) * (4 - x.ndim)]
    if x.shape != (batch, heads, length, size) or x.dtype != dtype or x.strides[3] != x.itemsize:
        raise ValueError(
            f"attention(): the array to write into has shape {x.shape}, dtype {x.dtype} and strides {x.strides}; "
            f"it must be {(batch, heads, length, size)} in {dtype}, with adjacent numbers in the last dimension"
        )
    return x
