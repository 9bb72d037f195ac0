"""The recorder: an observer that writes down what the engine does."""

from __future__ import annotations

import math
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import numpy as np

from .. import kernels
from ..core import Array, Node, Observer, Value, definitions, observe
from ..nn import Module
from ..op import Op
from ..writes import closed_over, owner
from .kernel_flops import operations
from .recording import Recording
from .residuals import splits
from .steps import Argument, Call, Edge, KernelCall, Nonfinite, Source, Statistics, Step, WayBack

PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
DETAILS = ("op", "definition")
KEEPS = ("stats", "values")


@contextmanager
def record(
    model: Module | None = None, *, detail: str = "op", keep: str = "stats", limit: int = 2**30
) -> Iterator[Recording]:
    """Write down everything that happens inside: every step, every edge, every gradient.

    model: whose paths are the names of the steps; None: names are those of ops and classes. detail: "op", what runs
    when nobody looks, or "definition", every op as its definition, down to the primitives. keep: "stats", a few numbers
    per array, or "values", copies of the arrays as well, up to `limit` bytes (`Recording.dropped` counts the rest).

    The numbers are those of the same code without `record`, bit for bit: with detail="definition", of the same code in
    `core.definitions()`. A gradient that an op has added to what had arrived before it is known to rounding.
    The gradient of a step is what arrived, before hooks (`step.hooked` says that there were some): what they make of it
    goes on to its arguments, and from a leaf into `.grad`.
    Of several backward passes, a step has the numbers of the last one that came to it, and so have the edges to it.
    Only this thread is recorded. Raises ValueError for an unknown detail, keep or limit, TypeError if `model` is no
    module.

    >>> import minigrad as mg
    >>> model = mg.nn.Linear(3, 2)
    >>> x = mg.ones(4, 3)
    >>> with record(model) as rec:
    ...     (model(x) ** 2).mean().backward()
    >>> [rec.name(step) for step in rec.steps]
    ['weight', 'bias', 'linear', 'pow', 'mean']
    >>> rec.edge("linear", "weight").share
    1.0
    """
    if model is not None and not isinstance(model, Module):
        raise TypeError(f"record(): the model is a {type(model).__name__}; give a Module, or nothing.")
    if not isinstance(limit, int | float) or not limit >= 0:
        raise ValueError(f"record(): limit is {limit!r}; it must be a number of bytes. Try limit=2**30.")
    for name, value, legal in (("detail", detail, DETAILS), ("keep", keep, KEEPS)):
        if value not in legal:
            raise ValueError(f"record(): {name} is {value!r}; it must be {' or '.join(map(repr, legal))}.")
    recorder = Recorder(Recording(model, detail, keep), limit)
    with ExitStack() as stack:
        if detail == "definition":
            stack.enter_context(definitions())
        stack.enter_context(observe(recorder))
        stack.enter_context(kernels.listen(recorder.kernel))
        stack.callback(recorder.end)
        yield recorder.recording


def measured(x: Array) -> Statistics:
    """The statistics of an array."""
    if x.dtype.kind != "f":
        x = x.astype(np.float64)
    least, most, total, squares, zeros, nonfinite = kernels.statistics(x)
    first, kinds = None, ()
    if nonfinite:
        first = _first(~np.isfinite(x))
        where = {"nan": np.isnan(x), "inf": x == math.inf, "-inf": x == -math.inf}
        kinds = tuple([Nonfinite(kind, int(on.sum()), _first(on)) for kind, on in where.items() if on.any()])
    return Statistics(x.size, least, most, total, squares, zeros, nonfinite, first, kinds)


def _first(on: Array) -> tuple[int, ...]:
    """The index of the first element that is true."""
    return tuple(map(int, np.unravel_index(np.argmax(on), on.shape)))


class Recorder(Observer):
    """Writes into a `Recording`. Its own time is no part of the times that it takes: its clock stands still here."""

    def __init__(self, recording: Recording, limit: int) -> None:
        self.recording, self.room = recording, limit
        self.steps: dict[int, Step] = {}  # by serial number; an id would be used again
        self.calls: list[tuple[Call, dict[str, Any], int]] = []  # under way; how many kernels had been heard before
        self.counts: dict[Any, int] = {}
        self.memory: dict[int, Any] = {}  # that is kept already, for parameters or for the way back
        self.arrived: dict[int, list[tuple[Edge, Any]]] = {}
        self.current: tuple[Step, float, int] | None = None  # whose way back is under way, since when, and kernels
        self.origin = perf_counter()  # plus the time spent in here

    # -------------------------------------------------------------------------------------------------------- forward
    def kernel(self, name: str, seconds: float, arguments: tuple[Any, ...], results: tuple[Any, ...]) -> None:
        """A kernel was called."""
        now = perf_counter()
        nbytes = sum({id(x): x.nbytes for x in (*arguments, *results) if isinstance(x, np.ndarray)}.values())
        call = KernelCall(name, now - self.origin - seconds, seconds, nbytes, operations(name, arguments))
        self.recording.kernel_calls.append(call)
        self.origin += perf_counter() - now

    def enter(self, thing: Any, settings: dict[str, Any]) -> None:
        """Begin a call."""
        now = perf_counter()
        self._end_of_step(now)
        number = self.counts.get(thing, 0)
        self.counts[thing] = number + 1
        call = Call(thing, number, self.calls[-1][0] if self.calls else None, now - self.origin)
        self.recording.calls.append(call)
        self.calls.append((call, settings, len(self.recording.kernel_calls)))
        self.origin += perf_counter() - now

    def leave(self, thing: Any) -> None:
        """End a call."""
        now = perf_counter()
        call = self.calls.pop()[0]
        call.seconds = now - self.origin - call.start
        self.origin += perf_counter() - now

    def end(self) -> None:
        """End the recording."""
        now = perf_counter()
        self._end_of_step(now)
        self.recording.seconds = now - self.origin

    def node(self, node: Node, inputs: tuple[Any, ...], output: Value) -> None:
        """Write down a step."""
        now = perf_counter()
        op, value = node.op, output.data
        assert op is not None
        call, settings, heard = self.calls[-1]
        own = call.thing is op
        around = call.parent if own else call
        step = Step(node.serial, op, node.shape, node.dtype, node.module, around, node.part_of)
        if own:
            call.step = step
            step.forward_seconds = now - self.origin - call.start
            step.kernels = self._kernels(heard)
            step.settings = {name: x for name, x in settings.items() if isinstance(x, int | float | str)}
        step.source = source_line()
        for position, (parent, x) in enumerate(zip(node.parents, inputs, strict=True)):
            if parent is not None:
                self._connect(Edge(step, self._known(parent, x), position, argument_name(op, position)))
        step.saved = sum(map(self._keep, closed_over(node.products)))
        step.value, step.array = measured(value), self._copy(value)
        step.arguments = arguments(node, inputs, step.value)
        self._add(step)
        self.origin += perf_counter() - now

    # ------------------------------------------------------------------------------------------------------- backward
    def edge(self, node: Node, position: int, parent: Node, gradient: Array) -> None:
        """Keep a gradient until all for `parent` are there."""
        now = perf_counter()
        child = self._known(node)
        edge = next((e for e in child.inputs if e.position == position), None)
        if edge is None:  # of a step from before the recording
            edge = Edge(child, self._known(parent), position, argument_name(node.op, position))
            self._connect(edge)
        self.arrived.setdefault(parent.serial, []).append((edge, gradient))
        self.origin += perf_counter() - now

    def gradient(self, node: Node, gradient: Array) -> None:
        """Write down the gradient of a step, and what each edge gave to it."""
        now = perf_counter()
        self._end_of_step(now)
        step, recording = self._known(node), self.recording
        arrived = self.arrived.pop(node.serial, [])
        if not arrived:  # a backward pass begins
            recording.runs, recording.root = recording.runs + 1, step
            self.arrived.clear()  # of one that an exception has ended
        step.run, step.gradient = recording.runs, measured(gradient)
        step.gradient_array, step.hooked = self._copy(gradient), bool(node.hooks)
        norm, squares = step.gradient.norm, step.gradient.squares
        for edge in step.uses:  # what an earlier pass sent is no part of this gradient
            edge.norm = edge.share = edge.gradient = None
        for edge, part in arrived:
            edge.run = recording.runs
            if len(arrived) == 1:
                edge.norm, edge.share = norm, 1.0 if squares else math.nan
            else:
                own, shared = kernels.products(part, gradient)
                edge.norm, edge.share = math.sqrt(own), shared / squares if squares else math.nan
                edge.gradient = self._copy(part)
        step.splits = splits(step, arrived, gradient, squares)
        if not step.is_leaf:
            self.current = step, now - self.origin, len(recording.kernel_calls)
        self.origin += perf_counter() - now

    def _end_of_step(self, now: float) -> None:
        if self.current is not None:
            step, start, heard = self.current
            way = WayBack(step, self.recording.runs, start, now - self.origin - start)
            self.recording.ways_back.append(way)
            step.backward_seconds += way.seconds
            step.backward_kernels += self._kernels(heard)
            self.current = None

    # -------------------------------------------------------------------------------------------------------- helpers
    def _kernels(self, heard: int) -> tuple[str, ...]:
        return tuple([call.name for call in self.recording.kernel_calls[heard:]])

    def _known(self, node: Node, value: Any = None) -> Step:
        """The step of a node; a leaf, and what was made before the recording began, is met here for the first time."""
        step = self.steps.get(node.serial)
        if step is None:
            step = Step(node.serial, node.op, node.shape, node.dtype, node.module, None, node.part_of)
            step.holder, step.outside = node.holder, node.op is not None
            value = node.holder() if value is None and node.holder is not None else value
            if value is not None:
                step.value, step.array = measured(value.data), self._copy(value.data)
                self._keep(value.data)
            self._add(step)
        return step

    def _add(self, step: Step) -> None:
        self.steps[step.serial] = step
        self.recording.steps.append(step)

    def _connect(self, edge: Edge) -> None:
        edge.child.inputs.append(edge)
        edge.parent.uses.append(edge)
        self.recording.edges.append(edge)

    def _keep(self, array: Array) -> int:
        """The bytes of the memory of `array`, 0 if it is kept already."""
        memory = owner(array)
        key = id(memory)
        known = self.memory.get(key)
        if known is not None and known() is memory:
            return 0
        self.memory[key] = weakref.ref(memory)
        return memory.nbytes

    def _copy(self, array: Array) -> Array | None:
        if self.recording.keep == "stats":
            return None
        if array.nbytes > self.room:
            self.recording.dropped += 1
            return None
        self.room -= array.nbytes
        return array.copy()


def argument_name(op: Op | None, position: int) -> str:
    """What an op calls the argument at a position; the arguments of `cat` are numbered."""
    return op.names[position] if op is not None and position < len(op.names) else f"x{position}"


def arguments(node: Node, inputs: tuple[Any, ...], result: Statistics) -> tuple[Argument, ...]:
    """What the op of a node was given."""
    measure, found = result.nonfinite > 0 or result.all_zero, []
    for position, (x, parent) in enumerate(zip(inputs, node.parents, strict=True)):
        if x is not None:
            array = x.data if isinstance(x, Value) else np.asarray(x)
            value = measured(array) if measure else None
            name = argument_name(node.op, position)
            found.append(Argument(name, array.shape, array.dtype, parent is not None, value))
    return tuple(found)


def source_line() -> Source | None:
    """The innermost line outside of this package."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame and Source(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
