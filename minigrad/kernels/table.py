"""Rows of a table: chosen by index on the way forward, added up by index on the way back.

On the way back several places of a sentence may add to one row, so threads cannot share the places. They share the rows
of the table. First the places are sorted by row (a counting sort, which keeps their order); then each row is set to
zero and, while it is in the cache, the gradients of its places are added. A sum is the same, bit for bit, however many
threads there are; no two of them write to one row; and the result, often far larger than all gradients, is written from
its beginning to its end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from . import reference, threads
from .pieces import DTYPES, dropped, dropping, empty, get, line, put, rule_of
from .simd import fma, lanes, spread

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def _embed(ids, weight, positions, d, scale, dropout, out, first, last):
    scales, rule = spread(out, scale), rule_of(dropout)
    shift = spread(out, -0.0)  # x + -0.0 is x, and if x is -0.0
    for r in range(first, last):
        row, source = r * d, ids[r] * d
        position = row % max(1, positions.size)  # after the last position, the next sentence begins
        for j in range(0, d, lanes(out)):
            n = d - j
            if positions.size:
                shift = get(positions, position + j, n)
            y = fma(get(weight, source + j, n), scales, shift)
            if rule[0]:
                y = dropped(y, row + j, rule)
            put(out, row + j, n, y)


@njit(**_OPTIONS)
def _sort(ids, padding, starts, order, first, last):
    """Counting sort: in the end order[starts[v]], ... order[starts[v + 1] - 1] are the places of row v, in order."""
    rows, times = starts.size - 2, order.size // ids.size
    for i in range(ids.size):  # starts, zero until now, has at v + 2 how many places row v has; padding has none,
        starts[ids[i] + 2] += times * (ids[i] != padding)
    for v in range(rows):  # now at v + 1 where its places begin,
        starts[v + 2] += starts[v + 1]
    for place in range(0, order.size, ids.size):
        for i in range(ids.size):
            if ids[i] != padding:
                order[starts[ids[i] + 1]] = place + i
                starts[ids[i] + 1] += 1  # and in the end, there, where they end: where those of v + 1 begin


@njit(**_OPTIONS)
def _add_up(starts, order, g, d, scale, dropout, out, first, last):
    scales, zero, rule = spread(out, scale), spread(out, 0), rule_of(dropout)
    for v in range(out.size // d):
        if not first <= v + starts[v] < last:  # items are rows and places; another thread has those of this row
            continue
        row = v * d
        for j in range(0, d, lanes(out)):
            put(out, row + j, d - j, zero)
        for k in range(starts[v], starts[v + 1]):
            place = order[k] * d
            for j in range(0, d, lanes(out)):
                n = d - j
                x = get(g, place + j, n)
                if rule[0]:
                    x = dropped(x, place + j, rule)
                put(out, row + j, n, fma(x, scales, get(out, row + j, n)))


@njit(**_OPTIONS)
def _count(ids, n, ignoring, ignored, report, first, last):
    counted = wrong = 0
    ids = ids[first:last]
    for j in range(ids.size):
        i = ids[j]
        counts = (i != ignored) | (not ignoring)
        counted += counts
        wrong += counts & ((i < 0) | (i >= n))
    report[0], report[1] = counted, wrong


# -------------------------------------------------------------------------------------------------------- from Python
_whole = types.intp
_ids, _counts = types.Array(types.int64, 1, "C", readonly=True), types.Array(types.int64, 1, "C")
_counting = threads.Kernel(_count, (_ids, types.int64, types.boolean, types.int64, _counts, _whole, _whole))
_sorting = threads.Kernel(_sort, (_ids, _whole, _counts, _counts, _whole, _whole))


def _kernels(dtype: Any) -> tuple[threads.Kernel, threads.Kernel]:
    number = from_dtype(dtype)
    read, write = types.Array(number, 1, "C", readonly=True), types.Array(number, 1, "C")
    dropout = types.Tuple((types.float64, types.uint64))
    rest = read, _whole, number, dropout, write, _whole, _whole
    return threads.Kernel(_embed, (_ids, read, *rest)), threads.Kernel(_add_up, (_counts, _counts, *rest))


_of = {dtype: _kernels(dtype) for dtype in DTYPES}


def count_indices(ids: Array, n: int, ignored: int | None = None) -> tuple[int, int]:
    """See `reference.count_indices`."""
    report = np.zeros(2, np.int64)
    if ids.size:  # never shared: there is one pair of numbers to report
        _counting(-1, ids.size, _whole_numbers(ids), n, ignored is not None, ignored or 0, report)
    return report.item(0), report.item(1)


def embed_tokens(
    ids: Array, weight: Array, positions: Array | None, scale: float, p: float = 0.0, seed: int = 0
) -> Array:
    """See `reference.embed_tokens`."""
    if weight.dtype not in _of or (positions is not None and positions.dtype != weight.dtype):
        return reference.embed_tokens(ids, weight, positions, scale, p, seed)
    d = weight.shape[1]
    out = empty((*ids.shape, d), weight.dtype)
    if out.size:
        added = out[:0] if positions is None else positions
        arrays = _whole_numbers(ids), line(weight), line(added)
        time = (0.3 if p else 0.1) * out.size
        _of[weight.dtype][0](time, ids.size, *arrays, d, scale, dropping(p, seed), line(out))
    return out


def embed_tokens_vjp(
    ids: Array, g: Array, rows: int, padding_idx: int | None, scale: float, p: float = 0.0, seed: int = 0
) -> Array:
    """See `reference.embed_tokens_vjp`."""
    if g.dtype not in _of:
        return reference.embed_tokens_vjp(ids, g, rows, padding_idx, scale, p, seed)
    d = g.shape[-1]
    if g.size == 0 or rows == 0:
        return np.zeros((rows, d), g.dtype)
    out = empty((rows, d), g.dtype)
    places = g.size // d
    starts, order = np.zeros(rows + 2, np.int64), np.empty(places, np.int64)
    _sorting(-1, places, _whole_numbers(ids), -1 if padding_idx is None else padding_idx, starts, order)
    time = (0.3 if p else 0.1) * g.size + 0.06 * out.size
    _of[g.dtype][1](time, rows + starts.item(rows), starts, order, line(g), d, scale, dropping(p, seed), line(out))
    return out


def _whole_numbers(ids: Array) -> Array:
    return np.ascontiguousarray(ids, np.int64).reshape(-1)
