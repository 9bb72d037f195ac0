"""Many arrays side by side in one piece of memory, so that one call of a kernel can work on all of them.

A model has a hundred parameters, most of them small. An optimiser moves them into a `Flat`: each parameter's `.data`
is then a view of its stretch, and so is its `.grad`. Nobody else notices: every view counts as the owner of its own
stretch, and writing to one parameter is not writing to its neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .core import Array, ShapeError, Value
from .writes import owner

ALIGNMENT = 64  # bytes: a stretch begins where a line of the cache does


class Flat:
    """Room for the data and the gradients of tensors of one dtype, which are moved here.

    `data` and `grad` are the 1-d arrays of all of them; between two stretches there may be a few zeros.
    """

    def __init__(self, tensors: Sequence[Value]) -> None:
        self.tensors: list[Any] = list(tensors)
        self.dtype = tensors[0].data.dtype
        step = ALIGNMENT // self.dtype.itemsize
        sizes = [-(-x.data.size // step) * step for x in tensors]
        self.starts = [0, *np.cumsum(sizes).tolist()]
        alone = len(tensors) == 1 and tensors[0].data.flags.c_contiguous
        self.data = tensors[0].data.reshape(-1) if alone else self.new()  # a single tensor may stay where it is
        self.grad = self.new()
        self.places = [tensors[0].data] if alone else [self.view(self.data, i) for i in range(len(tensors))]
        for i, (x, place) in enumerate(zip(tensors, self.places, strict=True)):
            place[...] = x.data
            x.data, x.home = place, self.view(self.grad, i)

    def new(self) -> Array:
        """Zeros, laid out like `data`."""
        step = ALIGNMENT // self.dtype.itemsize
        memory = np.zeros(self.starts[-1] + step, self.dtype)
        start = -memory.ctypes.data % ALIGNMENT // self.dtype.itemsize
        return memory[start : start + self.starts[-1]]

    def view(self, flat: Array, i: int) -> Array:
        """The stretch of tensor i in `flat`, in its shape. To NumPy the memoryview's part is memory of its own."""
        shape, start = self.tensors[i].data.shape, self.starts[i]
        stretch: Any = flat[start : start + math.prod(shape)]
        return np.frombuffer(memoryview(stretch).cast("B"), self.dtype).reshape(shape)

    def gather(self) -> None:
        """Take in again what has been put elsewhere: `x.data = ...` and `x.grad = ...` are free to everybody."""
        for i, (x, place) in enumerate(zip(self.tensors, self.places, strict=True)):
            if x.data is not place:
                place[...] = x.data
                x.data = place
            if x.grad is not None and x.grad.data is not getattr(x, "home", None):
                if x.grad.data.shape != place.shape:
                    raise ShapeError(f"a parameter has shape {place.shape}, its gradient {x.grad.data.shape}.")
                self.view(self.grad, i)[...] = x.grad.data

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
    for x in arrays:
        memory = _memory(x)
        if memory is None:
            runs.append([x, None, None])
            continue
        start = (x.ctypes.data - memory.ctypes.data) // x.itemsize
        if runs and runs[-1][0] is memory and 0 <= start - runs[-1][2] < ALIGNMENT // x.itemsize:
            runs[-1][2] = start + x.size
        else:
            runs.append([memory, start, start + x.size])
    return [memory if start is None else memory[start:end] for memory, start, end in runs]


def _memory(x: Array) -> Array | None:
    """All the memory of the Flat in which `x` lies, None if it lies in none."""
    view = owner(x).base
    return owner(view.obj) if isinstance(view, memoryview) and isinstance(view.obj, Array) else None
