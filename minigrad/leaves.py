"""Where gradients end: in the `.grad` of leaves, and of results that `retain_grad()` was called for."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np

from .writes import writes

if TYPE_CHECKING:
    from .core import Array, Value

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
    with _lock:
        if not writes.has_room(value) or value.home.shape != g.shape or value.home.dtype != g.dtype:
            return None
        place = value.home  # from now on there is no room
    np.copyto(place, g)
    return place


def accumulate(value: Value | None, g: Array) -> None:
    """`value.grad += g`; what has not been settled is copied, so that no two `.grad`s share memory."""
    if value is None:
        return
    with _lock:
        if value.grad is None:
            settled = g is getattr(value, "home", None)
            value.grad = value._result(g if settled else np.array(g, order="C"), None)
        else:
            value.grad.data = np.asarray(value.grad.data + g)  # not in place: a graph may have saved the old one
