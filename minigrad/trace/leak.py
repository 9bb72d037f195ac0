"""The way of a piece of information through a computation: from a value that was changed to a result that feels it.

Two facts say where something leaks. Change an input and run again: the elements that differ are those that *know* of
it. Send a gradient back from a result: the elements where it is not zero are those that the result *listens* to. What
knows and is listened to carries the leak, and the shortest chain of such elements is the way to look at.

>>> from minigrad import tensor
>>> x = tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> with following() as trail:
...     y = (x.flip(0) * 2).exp()
...     y.backward(tensor([0.0, 0.0, 1.0]), retain_graph=True)  # a result that depends on x[0]
>>> with following() as other:
...     z = (tensor([9.0, 2.0, 3.0], requires_grad=True).flip(0) * 2).exp()
>>> knows = {number_of(x): np.array([True, False, False])} | changes(trail, other)
>>> groups = {number: {"knows": elements} for number, elements in knows.items()}
>>> [trail.operations[number].op for number, _ in trail.way(number_of(x), number_of(y), groups)[1:]]
['flip', 'mul', 'exp']
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..core import Array, Node, Observer, Value, observe, unbroadcast

OURS = __name__.partition(".")[0]
Spot = tuple[int, Any]  # the serial number of a node, and a label of some of its elements
Groups = Mapping[int, Mapping[Any, Array]]


class Line(NamedTuple):
    """A line of source that was being executed."""

    file: str
    line: int
    function: str
    package: str  # the first part of the name of its module


@dataclass(frozen=True)
class Operation:
    """One operation: its name, the innermost module it ran in, the lines that led to it, and what it computed.

    lines: the lines outside of minigrad, innermost first, up to the call of the outermost module; constants: by name,
    the arrays it was given that are not part of the graph, such as a mask.
    """

    op: str
    module: Any
    lines: tuple[Line, ...]
    value: Array
    constants: dict[str, Array]


class Trail(Observer):
    """All operations of a computation that leave a node, and the gradients that they received.

    operations: by serial number of the node, in the order in which they happened; gradients: of the nodes that a
    backward pass has reached. Values, gradients and graph are kept, so it is for small computations, and for what goes
    back once more the backward pass must be one with retain_graph=True.
    """

    def __init__(self) -> None:
        self.operations: dict[int, Operation] = {}
        self.gradients: dict[int, Array] = {}
        self._nodes: dict[int, Node] = {}

    def node(self, node: Node, inputs: tuple[Any, ...], output: Value) -> None:
        """Write down an operation."""
        op: Any = node.op
        named = zip(op.names, inputs, strict=False)
        outside = {name: x for name, x in named if x is not None and not (isinstance(x, Value) and x.node)}
        constants = {name: np.array(x.data if isinstance(x, Value) else x) for name, x in outside.items()}
        self.operations[node.serial] = Operation(op.name, node.module, lines(), output.data.copy(), constants)
        self._nodes[node.serial] = node

    def gradient(self, node: Node, gradient: Array) -> None:
        """Keep a gradient."""
        self.gradients[node.serial] = gradient.copy()

    def parents(self, number: int) -> tuple[int, ...]:
        """The numbers of the inputs of an operation that are in the graph, in the order of the arguments."""
        nodes = self._nodes[number].parents if number in self._nodes else ()
        return tuple(parent.serial for parent in nodes if parent is not None)

    def back(self, number: int, gradient: Array) -> dict[int, Array]:
        """What one operation makes of a gradient: by number of the input, boolean, where it is not zero."""
        if number not in self._nodes:
            return {}  # a leaf
        node = self._nodes[number]
        products: Any = node.products
        with np.errstate(all="ignore"):
            results: Any = (
                products(gradient) if callable(products) else [product and product(gradient) for product in products]
            )
        found: dict[int, Array] = {}
        for parent, d in zip(node.parents, results, strict=True):
            if parent is not None and d is not None:
                arrived = unbroadcast(np.asarray(d), parent.shape) != 0
                found[parent.serial] = arrived | found.get(parent.serial, False)
        return found

    def way(self, start: int, end: int, groups: Groups) -> list[Spot]:
        """The shortest way on which a change travels from a node to another, as spots; empty if there is none.

        A spot is a node and the label of some of its elements, such as the token they belong to. groups: for every
        node, label -> boolean, those elements that know of the change and are listened to. Each spot hands some of the
        gradient of its elements to elements of the spot before.
        """
        after: dict[Spot, Spot | None] = {(end, label): None for label in groups.get(end, {})}
        queue = deque(after)
        while queue:
            spot = number, label = queue.popleft()
            if number == start:
                way = [spot]
                while (onward := after[way[-1]]) is not None:
                    way.append(onward)
                return way
            own = np.where(groups[number][label], self.gradients.get(number, 0), 0)
            for parent, arrived in self.back(number, own).items():
                for other, elements in groups.get(parent, {}).items():
                    if (parent, other) not in after and (arrived & elements).any():
                        after[parent, other] = spot
                        queue.append((parent, other))
        return []


@contextmanager
def following() -> Iterator[Trail]:
    """Inside, everything that this thread computes is written down, and every gradient."""
    trail = Trail()
    with observe(trail):
        yield trail


def number_of(value: Value) -> int:
    """The serial number of the node that made a tensor, or of the leaf that it is; -1 if it is in no graph."""
    return value.node.serial if value.node else -1


def changes(trail: Trail, other: Trail) -> dict[int, Array]:
    """Which elements of each operation of `trail` are not, bit for bit, those of the same operation of `other`.

    Raises ValueError if the two did not do the same operations.
    """
    pairs = list(zip(trail.operations.items(), other.operations.values(), strict=False))
    same = len(trail.operations) == len(other.operations)
    if not same or any(a.op != b.op or a.value.shape != b.value.shape for (_, a), b in pairs):
        raise ValueError("changes(): the two runs did not take the same steps. Compare runs on inputs of one shape.")
    return {number: differ(a.value, b.value) for (number, a), b in pairs}


def differ(a: Array, b: Array) -> Array:
    """Where two arrays of one shape and dtype are not the same, bit for bit; NaN is the same as itself.

    >>> differ(np.array([1.0, np.nan, 0.0]), np.array([1.0, np.nan, -0.0]))
    array([False, False,  True])
    """
    bits = f"u{a.dtype.itemsize}"
    return a.view(bits) != b.view(bits)


def lines() -> tuple[Line, ...]:
    """The lines outside of minigrad that led here, innermost first, as far as the outermost call into minigrad."""
    found: list[Line] = []
    inside = 0  # how many of them minigrad has called
    frame: Any = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package == OURS:
            inside = len(found)
        else:
            code = frame.f_code
            found.append(Line(code.co_filename, frame.f_lineno, code.co_name, package))
        frame = frame.f_back
    return tuple(found[: max(inside, 1)])
