"""A recording of a graph that is still there: what can be known of it without having watched."""

from __future__ import annotations

from ..core import GradError, Node
from ..nn import Module
from ..tensor import Tensor
from .record import argument_name, measured
from .recording import Recording
from .steps import Argument, Edge, Step


def of_tape(tensor: Tensor, model: Module | None = None) -> Recording:
    """The graph behind `tensor` as a recording: its ops, shapes, modules and edges, and the values of its leaves.

    The graph does not keep values, times or gradients, and does not know whether it was walked back already: a
    gradient is "not computed", or, if a leaf has a `.grad` (perhaps of another loss), "not recorded". `model` gives the
    names, as in `record`. Raises GradError if there is no graph, or if `backward()` has freed it.

    >>> import minigrad as mg
    >>> a = mg.ones(2, requires_grad=True)
    >>> rec = of_tape((a + a).sum())
    >>> [(rec.name(edge.child), edge.argument, rec.name(edge.parent)) for edge in rec.edges]
    [('add', 'a', 'leaf'), ('add', 'b', 'leaf'), ('sum', 'x', 'add')]
    """
    if tensor.node is None:
        raise GradError(
            "graph(): there is no graph: no leaf has requires_grad=True, or no_grad() was on. Switch it on."
        )
    recording = Recording(model, "tape", "stats")
    nodes = _below(tensor.node)
    steps = {}
    for node in nodes:  # parents first: they were made first
        step = Step(node.serial, node.op, node.shape, node.dtype, node.module, None, node.part_of, holder=node.holder)
        steps[node.serial] = step
        recording.steps.append(step)
        for position, parent in enumerate(node.parents):
            if parent is not None:
                edge = Edge(step, steps[parent.serial], position, argument_name(node.op, position))
                step.inputs.append(edge)
                edge.parent.uses.append(edge)
                recording.edges.append(edge)
        step.arguments = tuple(Argument(e.argument, e.parent.shape, e.parent.dtype, True) for e in step.inputs)
        value = node.holder() if node.holder is not None else None
        if value is not None:
            step.value = measured(value.data)
            recording.runs = max(recording.runs, int(value.grad is not None))
    for step in recording.steps:
        step.outside = recording.runs > 0
    return recording


def _below(root: Node) -> list[Node]:
    """The nodes that `root` was made from, and itself, in the order in which they were made."""
    found, waiting = {root.serial: root}, [root]
    while waiting:
        node = waiting.pop()
        if node.products is None:
            raise GradError(
                f"graph(): the graph below {node} was freed by backward(): draw before it, or use mg.record. "
                "With backward(retain_graph=True) it stays."
            )
        for parent in node.parents:
            if parent is not None and parent.serial not in found:
                found[parent.serial] = parent
                waiting.append(parent)
    return [found[serial] for serial in sorted(found)]
