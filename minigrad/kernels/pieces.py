"""What the kernels that go over rows have in common: reading, writing and dropping a vector; declaring a kernel.

A row is passed vector by vector. All but the last of them are whole, and a load or a store without a mask is cheaper.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from . import bits, threads
from .simd import kept, lanes, load, load_some, spread, store, store_some, where

Array = np.ndarray

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}
DTYPES = np.dtype(np.float32), np.dtype(np.float64)
MOST_PARTS, ROWS_OF_A_PART = 64, 64


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


@njit(**_OPTIONS)
def dropped(x, i, like, dropout):
    """Dropout of the elements i, i + 1, ... of an array such as `like`; what `dropout` is, `dropping` says."""
    _, first_key, second_key, threshold, scale = dropout
    return x * where(kept(x, i, first_key, second_key, threshold), spread(like, scale), 0.0)


# -------------------------------------------------------------------------------------------------------- around them
def kernels(serial: Any, arguments: str) -> dict[Any, threads.Kernel]:
    """A kernel for each dtype. `arguments` says what they are: array to Read or Write, Number, Flag, Size, Dropout."""
    made = {}
    for dtype in DTYPES:
        number, flag, word = from_dtype(dtype), types.boolean, types.uint32
        kinds = {"R": types.Array(number, 1, "C", readonly=True), "W": types.Array(number, 1, "C")}
        kinds |= {"N": number, "F": flag, "S": types.intp, "D": types.Tuple((flag, word, word, word, number))}
        made[dtype] = threads.Kernel(serial, tuple([kinds[letter] for letter in arguments]))
    return made


def alike(x: Array, *others: Array | None) -> bool:
    """Whether there is something to do, in one dtype, for which there is a kernel."""
    return x.size > 0 and x.dtype in DTYPES and {a.dtype for a in others if a is not None} <= {x.dtype}


def line(x: Array) -> Array:
    """The elements in the order of reading, next to each other."""
    return (x if x.flags.aligned else x.copy()).ravel()


def parts_of(rows: int) -> int:
    """Into how many parts to cut rows over which is summed: a function of their number, not of the threads."""
    return min(MOST_PARTS, max(1, rows // ROWS_OF_A_PART))


def dropping(p: float, seed: int) -> tuple[bool, int, int, int, float]:
    """What a kernel wants to know about dropout: whether there is any, two keys, the threshold, the scale."""
    if p == 0:
        return False, 0, 0, 0, 1.0
    return True, *bits.keys(seed), bits.threshold(p), bits.scale(p)
