"""What the kernels that go over rows have in common: reading, writing and dropping a vector; declaring a kernel.

A row is passed vector by vector. All but the last of them are whole, and a load or a store without a mask is cheaper.
"""

from __future__ import annotations

import math
from ctypes import addressof, c_char
from itertools import count
from typing import Any

import numpy as np
from numba import from_dtype, njit, types
from numba.extending import register_jitable

from . import bits, threads
from .simd import intrinsic, kept, lanes, load, load_some, store, store_some, where

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
DTYPES = np.dtype(np.float32), np.dtype(np.float64)
MOST_PARTS, ROWS_OF_A_PART = 64, 64
PAGE, STEP, LARGE = 4096, 512, 1 << 14  # bytes: see `empty`

_made = count()
_first_byte = c_char.from_buffer


# ------------------------------------------------------------------------------------------------------ inside kernels
@njit(**_OPTIONS)
def get(x, i, n):
    """load_some(x, i, n), without the mask where all lanes are there: nearly always."""
    return load(x, i) if n >= lanes(x) else load_some(x, i, n)


@njit(**_OPTIONS)
def put(x, i, n, vector):
    """store_some(x, i, n, vector), without the mask where all lanes are there."""
    if n >= lanes(x):
        store(x, i, vector)
    else:
        store_some(x, i, n, vector)


@intrinsic
def same(typing: Any, like: Any, x: Any) -> Any:
    """The number x in all lanes of a vector such as `like`."""
    return like(like, like), lambda context, builder, signature, arguments: arguments[1]


for _function in (bits.mix, bits.keys, bits.threshold, bits.scale):
    register_jitable(error_model="numpy")(_function)


@njit(**_OPTIONS)
def rule_of(dropout):
    """What `dropped` wants to know: whether anything is dropped, two keys, the threshold, the scale."""
    p, seed = dropout
    first_key, second_key = bits.keys(seed)
    return p > 0, np.uint32(first_key), np.uint32(second_key), np.uint32(bits.threshold(p)), bits.scale(p)


@njit(**_OPTIONS)
def dropped(x, i, rule):
    """Dropout of a vector, the elements i, i + 1, ... of an array."""
    _, first_key, second_key, threshold, scale = rule
    return x * where(kept(x, i, first_key, second_key, threshold), same(x, scale), 0.0)


# -------------------------------------------------------------------------------------------------------- around them
def kernels(serial: Any, arguments: str) -> dict[Any, threads.Kernel]:
    """A kernel for each dtype. `arguments` says what they are: array to Read or Write, Number, Flag, Size, Dropout."""
    made = {}
    for dtype in DTYPES:
        number, flag = from_dtype(dtype), types.boolean
        kinds = {"R": types.Array(number, 1, "C", readonly=True), "W": types.Array(number, 1, "C")}
        kinds |= {"N": number, "F": flag, "S": types.intp, "D": types.Tuple((types.float64, types.uint64))}
        made[dtype] = threads.Kernel(serial, tuple([kinds[letter] for letter in arguments]))
    return made


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """np.empty, at a place in memory that suits the kernels; small arrays lie anywhere.

    NumPy's arrays begin at any multiple of 16 bytes. Here they begin at a line of the cache, else every vector lies
    across two of them; and each a step before the last one, within a page. Processors tell by the place in the page
    whether a load has to wait for a store that is under way, and for arrays one after the other most wait in vain.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    memory: Any = np.empty(size + PAGE, np.uint8)
    place = -next(_made) * STEP
    return np.ndarray(shape, dtype, memory, (place - addressof(_first_byte(memory))) % PAGE)


def alike(x: Array, *others: Array | None) -> bool:
    """Whether there is something to do, in one dtype, for which there is a kernel."""
    fit = x.size > 0 and x.dtype in DTYPES
    for a in others:
        fit = fit and (a is None or a.dtype == x.dtype)
    return fit


def line(x: Array) -> Array:
    """The elements in the order of reading, next to each other."""
    return (x if x.flags.aligned else x.copy()).ravel()


def parts_of(rows: int) -> int:
    """Into how many parts to cut rows over which is summed: a function of their number, not of the threads."""
    return min(MOST_PARTS, max(1, rows // ROWS_OF_A_PART))


def dropping(p: float, seed: int) -> tuple[float, int]:
    """What a kernel wants to know about dropout; there is none if p is 0."""
    return float(p), int(seed) & 0xFFFFFFFFFFFFFFFF
