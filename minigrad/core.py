"""The engine: a graph of nodes, and one loop that walks it backwards.

Every operation on tensors leaves a `Node` behind: which operation it was, which nodes its inputs came from, and, for
each input, a function that turns "gradient of the loss with respect to my output" into "gradient of the loss with
respect to that input" (a vector-Jacobian product). `backward` hands the gradient from node to node.

In which order?  A node must have received *all* of its gradient before it passes anything on. In `b = a + a; c = b + b`
the node of `b` is reached by two edges; passing on after the first would give half the answer, passing on after each
would walk 2^depth paths. What is needed is an order in which every node comes after all nodes that use it. We get it
for nothing: a node can only use nodes that already exist, so the order of creation *is* a topological order, and a
serial number on each node is all the sorting there is.
"""

from __future__ import annotations

import weakref
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np

from . import kernels
from .hooks import Hooks, hooked
from .leaves import accumulate, settle
from .modes import Observer as Observer
from .modes import definitions as definitions
from .modes import enable_grad as enable_grad
from .modes import is_grad_enabled as is_grad_enabled
from .modes import no_grad as no_grad
from .modes import observe as observe
from .modes import state
from .modes import within as within
from .writes import GradError, clock, writes

if TYPE_CHECKING:
    from .op import Op

Array = np.ndarray


class ShapeError(ValueError):
    """Shapes that do not fit together."""


class DTypeError(TypeError):
    """A dtype that an operation cannot work with."""


# --------------------------------------------------------------------------------------------------------- the graph
class Node:
    """One step of the computation, and how to go back through it.

    `op` is None for a leaf. `parents` are the nodes of the inputs in the order of the arguments, duplicates kept
    (`a + a` has two edges), None where no gradient is wanted. `products` is a tuple with one product per parent, or
    one function that returns all gradients at once; None once it has been used and freed.

    A node never points at the tensor it made: the tensor points at it, and a cycle would keep every activation alive
    until the garbage collector happens to run. `holder` is a weak reference, for leaves and `retain_grad()`: there is
    no use in a gradient for a tensor that nobody holds any more. `hooks` see the whole gradient, and may replace it.
    `module` is the one that ran, and `part_of` the op that ran as its definition, to which this step belongs, if any.
    """

    __slots__ = ("__weakref__", "dtype", "holder", "hooks", "module", "op", "parents", "part_of",
                 "products", "serial", "shape")  # fmt: skip

    def __init__(self, op: Op | None, parents: tuple[Node | None, ...], products: Any, value: Array) -> None:
        self.op, self.parents, self.products = op, parents, products
        self.shape, self.dtype = value.shape, value.dtype
        self.module, self.part_of = state.module, state.part_of
        self.holder: Any = None
        self.hooks: Hooks | None = None
        self.serial = next(clock)

    def __repr__(self) -> str:
        return f"<Node {self.serial} {self.op.name if self.op else 'leaf'} {self.shape}>"


class Value:
    """An array and, if its gradient is wanted, the node that made it. `Tensor` adds the operators.

    `home`, if set, is memory for the gradient: an optimiser keeps those of all its parameters side by side.
    """

    __slots__ = ("__weakref__", "data", "grad", "home", "node")
    data: Array
    grad: Any
    home: Array
    node: Node | None

    def _result(self, data: Array, node: Node | None) -> Value:
        """A new value of the plain kind (a Tensor also where `self` is a Parameter)."""
        raise TypeError(f"{type(self).__name__} does not say how results are made")


def leaf(value: Value) -> Node:
    """The node of a tensor at which the backward pass ends: it has no parents and keeps what arrives in `.grad`."""
    node = Node(None, (), (), value.data)
    node.module, node.holder = None, weakref.ref(value)
    return node


# ---------------------------------------------------------------------------------------------------------- backward
def backward(root: Node, gradient: Array, retain_graph: bool = False) -> None:
    """Add to the `.grad` of every leaf below `root` its part of dL/dleaf, given `gradient` = dL/droot.

    A node waits in the queue until it is the youngest left; by then everything that used it has spoken. Its gradient
    lives in `gradients` from the first arrival until it is passed on, or, that of a leaf, until the end.
    """
    gradients: dict[Node, Array] = {root: gradient}
    ours: set[Node] = set()  # whose sum this loop allocated, and may therefore add to in place
    queue = [(-root.serial, root)] if root.op else []
    observers = state.observers
    while queue:
        node = heappop(queue)[1]
        g = gradients.pop(node)
        products = node.products
        if products is None:
            raise GradError(
                f"backward(): the graph below {node} has been freed by an earlier backward(). "
                "Call the first one with retain_graph=True, or run the forward pass again."
            )
        if node.serial < writes.latest:
            writes.check(node)
        for observer in observers:
            observer.gradient(node, g)
        if node.hooks:
            g = hooked(node.hooks, g)
        if node.holder is not None:
            accumulate(node.holder(), g)
        first: Any = node.parents[0]
        so_far = gradients.get(first) if node.op and node.op.accumulates else None
        if callable(products):
            results: Any = products(g) if so_far is None else products(g, so_far)
        else:
            so_far, results = None, [product and product(g) for product in products]
        for position, (parent, d) in enumerate(zip(node.parents, results, strict=True)):
            if parent is None or d is None:
                continue
            if type(d) is not np.ndarray or d.shape != parent.shape or d.dtype != parent.dtype:
                d = fit(d, parent, node)
            for observer in observers:
                observer.edge(node, position, parent, d if position or so_far is None else d - so_far)
            if parent not in gradients:
                if parent.op is not None:
                    heappush(queue, (-parent.serial, parent))
                elif (place := settle(parent.holder(), d)) is not None:
                    d = place
                    ours.add(parent)
            elif position or so_far is None:  # else it has been added already
                into = gradients[parent] if parent in ours else None  # not into the first arrival: others may hold it
                d = kernels.add(gradients[parent], d, out=into)
                ours.add(parent)
            gradients[parent] = d
        if not retain_graph:
            node.products, node.parents = None, ()
    g = d = so_far = results = products = None  # let go of the last ones: a leaf may keep what nobody else holds
    for node in sorted(gradients, key=lambda node: -node.serial) if observers else [*gradients]:  # only leaves are left
        for observer in observers:
            observer.gradient(node, gradients[node])
        accumulate(node.holder(), hooked(node.hooks, gradients.pop(node)) if node.hooks else gradients.pop(node))


def fit(d: Any, parent: Node, node: Node) -> Array:
    """`d` in the shape and dtype of the parent that it belongs to."""
    d = np.asarray(d)
    if d.shape != parent.shape:
        try:
            d = unbroadcast(d, parent.shape)
        except ShapeError as error:
            raise GradError(f"{node.op and node.op.name}(): {error}") from None
    return d.astype(parent.dtype, copy=False)


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting, here and nowhere else: sum `g` over the dimensions along which `shape` was repeated.

    Broadcasting copies: in `x + b` with x of shape (3, 4) and b of shape (4,), each b_j is used three times, once per
    row. L depends on b_j through all three copies, and by the chain rule their gradients add up:

        b        = [ b0  b1  b2  b3 ]                 dL/db = [ s0  s1  s2  s3 ]
                      |   |   |   |   copied                     ^   ^   ^   ^   summed
        x + b:   row 0  row 0 ...                     dL/d(x+b): g00 g01 g02 g03
                 row 1                                           g10 g11 g12 g13      s_j = g0j + g1j + g2j
                 row 2                                           g20 g21 g22 g23

    >>> unbroadcast(np.ones((3, 4)), (1, 4))
    array([[3., 3., 3., 3.]])
    """
    new = g.ndim - len(shape)
    if new < 0 or any(n != m != 1 for n, m in zip(g.shape[new:], shape, strict=True)):
        raise ShapeError(f"a gradient of shape {g.shape} does not fit an input of shape {shape}")
    repeated = tuple(i + new for i, (n, m) in enumerate(zip(g.shape[new:], shape, strict=True)) if n != m)
    return g.sum(axis=(*range(new), *repeated), keepdims=True).reshape(shape)
