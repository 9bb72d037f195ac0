"""Many arrays side by side in one piece of memory, so that one call of a kernel can work on all of them.

A model has a hundred parameters, most of them small. An optimiser moves them into a `Flat`: each parameter's `.data`
is then a view of its stretch, and so is its `.grad`. Nobody else notices: every view counts as the owner of its own
stretch, and writing to one parameter is not writing to its neighbour.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .core import Array, ShapeError, Value
from .writes import owner, writes

ALIGNMENT = 64  # bytes: a stretch begins where a line of the cache does

# By its id, every view of a Flat: itself, held weakly, the memory, and where in it the view begins.
_views: dict[int, tuple[weakref.ref[Array], Array, int]] = {}


class Flat:
    """Room for the data and the gradients of tensors of one dtype, which are moved here.

    `data` and `grad` are the 1-d arrays of all of them; between two stretches there may be a few zeros. A single
    contiguous tensor stays where it is.
    """

    def __init__(self, tensors: Sequence[Value]) -> None:
        self.tensors: list[Any] = list(tensors)
        self.dtype = tensors[0].data.dtype
        self.shapes = [x.data.shape for x in tensors]
        step = ALIGNMENT // self.dtype.itemsize
        self.starts = [0, *np.cumsum([-(-x.data.size // step) * step for x in tensors]).tolist()]
        alone = len(tensors) == 1 and tensors[0].data.flags.c_contiguous
        self.data = tensors[0].data.reshape(-1) if alone else self.new()
        if not alone:
            for i, x in enumerate(tensors):
                place = self.view(self.data, i)
                place[...] = x.data
                x.data = place
        # Only the tensors hold on to their places, so that one can see whether others do.
        self.places = [weakref.ref(x.data) for x in tensors]
        self.memories = [weakref.ref(owner(x.data)) for x in tensors]
        self.stamps = [writes.of(x.data) for x in tensors]
        self.extras: dict[str, Any] = {}  # what an optimiser wants to keep in the same order
        self.give_homes()

    def new(self) -> Array:
        """Zeros, laid out like `data`."""
        step = ALIGNMENT // self.dtype.itemsize
        memory = np.zeros(self.starts[-1] + step, self.dtype)
        start = -memory.ctypes.data % ALIGNMENT // self.dtype.itemsize
        return memory[start : start + self.starts[-1]]

    def view(self, flat: Array, i: int) -> Array:
        """The stretch of tensor i in `flat`, in its shape. To NumPy the memoryview's part is memory of its own."""
        shape, start = self.shapes[i], self.starts[i]
        stretch: Any = flat[start : start + math.prod(shape)]
        view = np.frombuffer(memoryview(stretch).cast("B"), self.dtype).reshape(shape)
        key, forget = id(view), _views.pop
        _views[key] = weakref.ref(view, lambda _: forget(key, None)), flat, start
        return view

    def give_homes(self) -> None:
        """Make room for the gradients, which only the tensors hold on to, too."""
        self.grad = self.new()
        for i, x in enumerate(self.tensors):
            x.home = self.view(self.grad, i)
        self.homes = [weakref.ref(x.home) for x in self.tensors]

    def fits(self) -> bool:
        """Whether all tensors are where they were put, or may come back: as they were, to a place that nobody holds."""
        return all(
            x.data is place() or (x.data.shape == shape and x.data.dtype == self.dtype and memory() is None)
            for x, shape, place, memory in zip(self.tensors, self.shapes, self.places, self.memories, strict=True)
        )

    def gather(self) -> None:
        """Take in what lies elsewhere: `x.data = ...` and `x.grad = ...` are free to everybody."""
        elsewhere = []
        for i, (x, place, home) in enumerate(zip(self.tensors, self.places, self.homes, strict=True)):
            if x.data is not place():
                new = self.view(self.data, i)
                new[...] = x.data
                x.data = new
                self.places[i], self.memories[i] = weakref.ref(new), weakref.ref(owner(new))
                self.stamps[i] = writes.of(new)
            if x.grad is not None and x.grad.data is not home():
                if x.grad.data.shape != self.shapes[i]:
                    raise ShapeError(f"a parameter has shape {self.shapes[i]}, its gradient {x.grad.data.shape}.")
                elsewhere.append(i)
        if any(self.is_held(i) for i in elsewhere):  # somebody has kept an earlier gradient: leave them the memory
            elsewhere = [i for i, x in enumerate(self.tensors) if x.grad is not None]
            self.give_homes()
        for i in elsewhere:
            self.view(self.grad, i)[...] = self.tensors[i].grad.data

    def is_held(self, i: int) -> bool:
        """Whether anybody but tensor i holds on to the stretch for its gradient."""
        x = self.tensors[i]
        return not writes.has_room(x) if self.homes[i]() is x.home else self.homes[i]() is not None

    def stretches(self, keys: Sequence[object]) -> Iterator[tuple[slice, slice]]:
        """Runs of neighbours with equal keys that are not None: which tensors, and which part of `data`."""
        first = 0
        for i in range(len(keys) + 1):
            if i == len(keys) or keys[i] != keys[first]:
                if i > first and keys[first] is not None:
                    end = min(self.starts[i], self.data.size)  # a tensor that stayed where it is has no zeros behind it
                    yield slice(first, i), slice(self.starts[first], end)
                first = i


def joined(arrays: Sequence[Array]) -> list[Array]:
    """The same memory as fewer arrays: neighbours in a Flat become one, 1-d, with the zeros that are between them."""
    runs: list[list[Any]] = []  # [memory, start, end]; for an array that lies in no Flat [array, None, None]
    memory, end = None, 0  # of the last run
    for x in arrays:
        view, flat, start = _views.get(id(x), (None, x, None))
        if view is None or view() is not x:
            flat, start = x, None
        if start is None:
            runs.append([x, None, None])
        elif flat is memory and 0 <= start - end < ALIGNMENT // x.itemsize:
            runs[-1][2] = start + x.size
        else:
            runs.append([flat, start, start + x.size])
        memory, end = flat, runs[-1][2]
    return [memory if start is None else memory[start:end] for memory, start, end in runs]
