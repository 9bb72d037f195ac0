"""Rows of a table: chosen by index on the way forward, added up by index on the way back.

On the way back two places of a sentence may add to one row, so threads must not share the places. They share the
columns: each walks over all places and adds its own columns, in the order of the places. A sum is the same, bit for
bit, however many threads there are, nothing has to be sorted, and no two of them write to one place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from . import bits, reference, threads
from .pieces import empty
from .simd import VECTOR, fma, kept, lanes, load_some, spread, store_some, where

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
EVERYTHING = 0, 0, 0, 1.0  # keys, threshold and scale with which dropout keeps all


@njit(**_OPTIONS)
def _embed(ids, weight, positions, d, scale, key, second_key, threshold, factor, out, first, last):
    width, zero = lanes(out), spread(out, 0)
    shift = spread(out, -0.0)  # x + -0.0 is x, and if x is -0.0
    for r in range(first, last):
        row, source = r * d, ids[r] * d
        position = row % max(1, positions.size)  # after the last position, the next sentence begins
        for j in range(0, d, width):
            n = d - j
            if positions.size:
                shift = load_some(positions, position + j, n)
            y = fma(load_some(weight, source + j, n), spread(out, scale), shift)
            if threshold:
                y = y * where(kept(y, row + j, key, second_key, threshold), spread(out, factor), zero)
            store_some(out, row + j, n, y)


@njit(**_OPTIONS)
def _add_up(ids, g, d, padding, scale, key, second_key, threshold, factor, out, first, last):
    width = lanes(out)
    first, last = first * width, min(last * width, d)  # items are vectors of columns
    zero, factors = spread(out, 0), spread(out, scale)
    for row in range(0, out.size, d):
        for j in range(row + first, row + last, width):
            store_some(out, j, row + last - j, zero)
    for r in range(g.size // d):
        v = ids[r % ids.size]
        if v == padding:
            continue
        for j in range(first, last, width):
            n, source, place = last - j, r * d + j, v * d + j
            if threshold:
                factors = where(kept(zero, source, key, second_key, threshold), spread(out, scale * factor), zero)
            store_some(out, place, n, fma(load_some(g, source, n), factors, load_some(out, place, n)))


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
_ids = types.Array(types.int64, 1, "C", readonly=True)
_counting = threads.Kernel(
    _count, (_ids, types.int64, types.boolean, types.int64, types.Array(types.int64, 1, "C"), _whole, _whole)
)


def _kernels(dtype: Any) -> tuple[threads.Kernel, threads.Kernel]:
    number = from_dtype(np.dtype(dtype))
    read, write = types.Array(number, 1, "C", readonly=True), types.Array(number, 1, "C")
    rest = (number, types.uint32, types.uint32, types.uint32, number, write, _whole, _whole)
    return (
        threads.Kernel(_embed, (_ids, read, read, _whole, *rest)),
        threads.Kernel(_add_up, (_ids, read, _whole, _whole, *rest)),
    )


_of = {np.dtype(dtype): _kernels(dtype) for dtype in (np.float32, np.float64)}


def count_indices(ids: Array, n: int, ignored: int | None = None) -> tuple[int, int]:
    """See `reference.count_indices`."""
    report = np.zeros(2, np.int64)
    if ids.size:
        _counting(
            -1,  # never shared: there is one pair of numbers to report
            ids.size,
            _flat(ids, np.int64),
            n,
            ignored is not None,
            ignored or 0,
            report,
        )
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
        kernel = _of[weight.dtype][0]
        arrays = _flat(ids, np.int64), _flat(weight), _flat(added)
        kernel((0.4 if p else 0.15) * out.size, ids.size, *arrays, d, scale, *_dropout(p, seed), out.reshape(-1))
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
    out = np.empty((rows, d), g.dtype)
    kernel = _of[g.dtype][1]
    columns = -(-d * g.itemsize // VECTOR)  # in vectors
    padding = -1 if padding_idx is None else padding_idx
    arguments = _flat(ids, np.int64), _flat(g), d, padding, scale, *_dropout(p, seed), out.reshape(-1)
    kernel((0.4 if p else 0.15) * g.size + 0.05 * out.size, columns, *arguments)
    return out


def _flat(x: Array, dtype: Any = None) -> Array:
    return np.ascontiguousarray(x, dtype).reshape(-1)


def _dropout(p: float, seed: int) -> tuple[int, int, int, float]:
    return (*bits.keys(seed), bits.threshold(p), bits.scale(p)) if p else EVERYTHING
