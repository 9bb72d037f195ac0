"""Where gradients end: in the `.grad` of leaves, and of results that `retain_grad()` was called for."""

from __future__ import annotations

import os
import threading
from sys import getrefcount
from typing import TYPE_CHECKING

import numpy as np

from .writes import owner, writes

if TYPE_CHECKING:
    from .core import Array, Value

SPARE = 4096  # bytes more than a gradient needs, which may stay with it: what `kernels.empty` adds to place an array
SMALL = 2048  # bytes that are copied before it is found out whether they have to be
_lock = threading.Lock()


def _in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it, and it is not here to let go


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def settle(value: Value | None, g: Array) -> Array | None:
    """Move the first gradient that arrives at `value` to its `home`, so that the memory of `g` is free again.

    None if it has no home, has a gradient already, or if somebody has kept what is there.
    """
    if value is None or value.grad is not None:
        return None
    place = getattr(value, "home", None)  # held before it is counted: of several threads, one at most finds it free
    if place is None or not writes.has_room(value, held=1) or place.shape != g.shape or place.dtype != g.dtype:
        return None
    place[...] = g
    return place


def accumulate(value: Value | None, g: Array) -> None:
    """`value.grad += g`; an array that somebody else may hold is copied, so that no two `.grad`s share memory.

    A gradient lies in memory as its leaf does, or else row by row.
    """
    if value is None:
        return
    with _lock:
        if value.grad is None:
            ours = g is getattr(value, "home", None) or (g.nbytes > SMALL and _is_last(g) and _fits(g, value.data))
            value.grad = value._result(g if ours else np.array(g, order="C"), None)
        else:
            value.grad.data = np.asarray(value.grad.data + g)  # not in place: a graph may have saved the old one


def _is_last(g: Array) -> bool:
    """Whether `g`, an argument of the caller, is the last array that looks into its memory, and no small part of it."""
    memory = owner(g)
    counts = _counts_of_last(np.empty(0)) if memory is g else _counts_of_last(np.empty(0)[:])
    return _counts(g) == counts and memory.flags.owndata and 0 <= memory.nbytes - g.nbytes <= SPARE


def _fits(g: Array, x: Array) -> bool:
    """Whether `g` may stay as it is: to be written to, in the order of `x` or row by row."""
    return g.flags.behaved and (g.flags.c_contiguous or g.strides == x.strides)


def _counts(g: Array) -> tuple[int, int]:
    """How many references there are to `g`, and to the owner of its memory."""
    return getrefcount(g), getrefcount(owner(g))


def _counts_of_last(g: Array) -> tuple[int, int]:
    """What `_counts` says of an array that nobody else holds, when it is called as in `_is_last`.

    Not a number, since calls count as well: how, depends on the version of Python, and on who watches it at work.
    """

    def as_in_is_last(g: Array) -> tuple[int, int]:
        memory = owner(g)
        return _counts(g) if memory.flags.owndata else (0, 0)

    return as_in_is_last(g)
