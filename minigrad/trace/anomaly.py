"""An error at once where a value or a gradient is not finite."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..core import Array, Node, Observer, Value, observe
from ..nn import Module
from . import provenance
from .provenance import Origin
from .record import argument_name, arguments, measured, source_line
from .recording import Recording
from .steps import Call, Edge, Step


class AnomalyError(ArithmeticError):
    """A value or a gradient that is not finite, or 0 everywhere; `origin` says where it came from."""

    def __init__(self, origin: Origin) -> None:
        super().__init__(f"detect_anomaly(): {origin}")
        self.origin = origin


@contextmanager
def detect_anomaly(model: Module | None = None, *, zeros: bool = False) -> Iterator[None]:
    """Raise `AnomalyError` at the first value or gradient that is NaN or infinite: on the way forward as well as back.

    model: whose paths are the names of the steps; None: names are those of ops and classes. zeros: raise as well where
    an op makes a gradient that is 0 everywhere of one that is not, or where parts of a gradient cancel.

    As `torch.autograd.detect_anomaly`, which looks at gradients only; here the error is raised by the line that made
    the value, and its text is that of the `Origin`. The numbers are the same, bit for bit. -inf of a mask is no
    anomaly, see `Recording.first_nonfinite`. Only this thread is watched, and only what gradients go through: under
    `no_grad` there are no steps, and nothing is seen. Every array is read once; that is all it costs.
    Raises TypeError if `model` is no module.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 0.0], requires_grad=True)
    >>> with detect_anomaly():
    ...     loss = (x.log() * 2).sum()
    Traceback (most recent call last):
    minigrad.trace.anomaly.AnomalyError: detect_anomaly(): -inf in the value of log, at [1] of (2,)
      why       the logarithm of 0
      ...
    """
    if model is not None and not isinstance(model, Module):
        raise TypeError(f"detect_anomaly(): the model is a {type(model).__name__}; give a Module, or nothing.")
    with observe(Detector(model, zeros)):
        yield


class Detector(Observer):
    """Keeps a few numbers on each node for as long as the node lives, and looks at every value and gradient."""

    def __init__(self, model: Module | None, zeros: bool) -> None:
        self.model, self.zeros = model, zeros
        self.steps: weakref.WeakKeyDictionary[Node, Step] = weakref.WeakKeyDictionary()
        self.calls: list[Call] = []
        self.arrived: dict[int, list[Edge]] = {}  # by the serial number of the node that waits for the others
        self.latest: list[Edge] = []  # that brought the gradient which is being passed on
        self.graph: list[Step] = []  # through which the latest backward pass goes; it frees the nodes

    # -------------------------------------------------------------------------------------------------------- forward
    def enter(self, thing: Any, settings: dict[str, Any]) -> None:
        """Begin a call."""
        self.calls.append(Call(thing, 0, self.calls[-1] if self.calls else None))

    def leave(self, thing: Any) -> None:
        """End a call."""
        self.calls.pop()

    def node(self, node: Node, inputs: tuple[Any, ...], output: Value) -> None:
        """Look at a value."""
        call = self.calls[-1]
        step = Step(node.serial, node.op, node.shape, node.dtype, node.module)
        step.call = call.parent if call.thing is node.op else call
        step.source = source_line()
        step.value = measured(output.data)
        step.arguments = arguments(node, inputs, step.value)
        self.steps[node] = step
        if step.value.nonfinite:
            self._judge(step, node, inputs)

    def _judge(self, step: Step, node: Node, inputs: tuple[Any, ...]) -> None:
        """Raise if a value is an anomaly, or one that went into it."""
        self._connect(step, node, inputs)
        met = [edge for edge in step.inputs if edge.parent.is_leaf or edge.parent.outside]  # here for the first time
        for edge in met:
            edge.parent.uses = [edge]
        for suspect in [*[edge.parent for edge in met], step]:
            origin = provenance.of_value(self._recording(self.steps.values()), suspect)
            if origin is not None:
                raise AnomalyError(origin)
        for edge in met:
            edge.parent.uses = []
        step.inputs = []

    # ------------------------------------------------------------------------------------------------------- backward
    def gradient(self, node: Node, gradient: Array) -> None:
        """Look at the sum of what has arrived."""
        step, self.latest = self._known(node), self.arrived.pop(node.serial, [])
        if not self.latest:
            self.arrived.clear()  # a backward pass begins
            self.graph = [*self.steps.values()]
        if len(self.latest) != 1:  # else it has been measured on its way
            step.gradient, step.run = measured(gradient), 1
        step.uses, step.hooked = self.latest, bool(node.hooks)
        suspect = provenance.nonfinite_gradient(step) or (provenance.zero_gradient(step) if self.zeros else None)
        if suspect is not None:
            raise self._error(suspect)
        step.uses = []

    def edge(self, node: Node, position: int, parent: Node, gradient: Array) -> None:
        """Look at a gradient on its way."""
        child, step = self._known(node), self._known(parent)
        step.gradient, step.run = measured(gradient), 1
        edge = Edge(child, step, position, argument_name(node.op, position), step.gradient.norm, run=1)
        self.arrived.setdefault(parent.serial, []).append(edge)
        if step.gradient.nonfinite:
            self._connect(child, node)
            child.uses, step.uses = self.latest, [edge]
            raise self._error(provenance.Suspect(step, edge))

    # -------------------------------------------------------------------------------------------------------- helpers
    def _known(self, node: Node) -> Step:
        """The step of a node; a leaf, and what was made before, is met here for the first time."""
        step = self.steps.get(node)
        if step is None:
            step = Step(node.serial, node.op, node.shape, node.dtype, node.module, holder=node.holder)
            step.outside = node.op is not None
            self.steps[node] = step
        return step

    def _connect(self, step: Step, node: Node, inputs: tuple[Any, ...] = ()) -> None:
        """Draw the edges to the arguments, which nobody needs as long as all is well."""
        for position, parent in enumerate(node.parents):
            if parent is not None:
                before = self._known(parent)
                if before.is_leaf or before.outside:
                    tensor = inputs[position] if inputs else parent.holder and parent.holder()
                    before.value = None if tensor is None else measured(tensor.data)
                step.inputs.append(Edge(step, before, position, argument_name(node.op, position)))

    def _error(self, suspect: provenance.Suspect) -> AnomalyError:
        """For a gradient; the nodes of some of its steps are gone by now."""
        return AnomalyError(provenance.of_gradient(self._recording({*self.graph, *self.steps.values()}), suspect))

    def _recording(self, steps: Iterable[Step]) -> Recording:
        """What names are made from."""
        recording = Recording(self.model, "op", "stats")
        recording.steps = sorted(steps, key=lambda step: step.serial)
        return recording
