"""Writing in place, and never getting a wrong gradient from it.

A product may need an array as it was in the forward pass. If that memory is overwritten before the backward pass, the
gradient would be wrong, so it has to be an error. What a product needs is what its function closes over, and a write
is stamped by the clock that numbers the nodes; hence the rule:

    *a node may not use memory that was written after the node was made*

Nothing is counted per tensor, and nothing is looked at until some write is younger than a node.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from itertools import count
from sys import getrefcount
from types import CellType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .core import Node, Value

Array = np.ndarray
clock = count(1)  # one clock for nodes and writes, so that "after" has a meaning between them


class GradError(RuntimeError):
    """A gradient that cannot be computed, or that would be wrong."""


class Stamp:
    """When some memory was last written; `memory` is held weakly, and takes the stamp along when it goes."""

    __slots__ = ("memory", "when")

    def __init__(self, memory: weakref.ref[Array]) -> None:
        self.memory, self.when = memory, 0


class _Writes:
    """Remembers which memory was written in place, and when."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a collection inside may end in another write
        self.latest = 0
        self.stamps: dict[int, Stamp] = {}

    def of(self, array: Array) -> Stamp:
        """The stamp of the memory of `array`; it may be kept for as long as the memory."""
        memory = owner(array)
        key = id(memory)
        if key not in self.stamps:
            self.stamps.setdefault(key, Stamp(weakref.ref(memory, lambda _: self.stamps.pop(key, None))))
        return self.stamps[key]

    def stamp(self, *arrays: Array) -> None:
        """These arrays have just been written in place."""
        self.renew([self.of(array) for array in arrays])

    def renew(self, stamps: list[Stamp]) -> None:
        """What has these stamps has just been written in place."""
        with self.lock:  # another thread's later stamp must not be taken back
            self.latest = next(clock)
            for stamp in stamps:
                stamp.when = self.latest

    def since(self, array: Array, serial: int) -> bool:
        """Whether the memory of `array` was written after `serial`."""
        stamp = self.stamps.get(id(owner(array)))
        return stamp is not None and stamp.when > serial

    def check(self, node: Node) -> None:
        """Raise if a product of `node` needs memory that was written after the node was made."""
        for array in closed_over(node.products):
            if self.since(array, node.serial):
                raise GradError(
                    f"backward(): {node.op and node.op.name}() needs an array of shape {array.shape} as it was in the "
                    "forward pass, but it was modified in place since. Use the out-of-place form (y = y + 1 instead "
                    "of y += 1), or modify a clone()."
                )

    def shared(self, value: Value) -> bool:
        """Whether some other array looks into the memory of `value`: each one counts as a reference to the owner."""
        return max(getrefcount(value.data), getrefcount(owner(value.data))) > 2  # one by `value`, one by the call

    def has_room(self, value: Value, held: int = 0) -> bool:
        """Whether nobody has kept what is in `home`, the place for the gradient: besides `value`, it is `held` by us.

        It is a view of memory of its own, which other views of it look into.
        """
        return getrefcount(value.home) <= 2 + held and getrefcount(value.home.base) <= 2

    def check_fresh(self, value: Value) -> None:
        """Raise if `value` was changed through another tensor that shares its memory: its node tells the old story."""
        node = value.node
        if node is not None and node.op is not None and self.since(value.data, node.serial):
            raise GradError(
                f"{node.op.name}(): its result, of shape {node.shape}, was modified in place through another tensor "
                "that shares its memory (a view, or the tensor it is a view of). Take the view after the modification."
            )


writes = _Writes()


def owner(array: Array) -> Array:
    """The array that owns the memory which `array` looks into."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


_HOLDS_NOTHING = (int, float, str, type(None), type, np.generic, np.dtype)
_KEEPS = ("__closure__", "__defaults__", "__kwdefaults__", "__self__", "func", "args", "keywords")  # partial's, too


def closed_over(something: Any, depth: int = 10) -> Iterator[Array]:
    """All arrays that a function, or a tuple of functions, keeps: in its closure, its defaults, its bound arguments."""
    if isinstance(something, np.ndarray):
        yield something
    elif depth and not isinstance(something, _HOLDS_NOTHING):
        if isinstance(something, CellType):
            inside: Any = [something.cell_contents]
        elif isinstance(something, dict):
            inside = something.values()
        elif isinstance(something, tuple | list):
            inside = something
        else:
            inside = [kept for name in _KEEPS if (kept := getattr(something, name, None)) is not None]
        for item in inside:
            yield from closed_over(item, depth - 1)
