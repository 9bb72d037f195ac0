"""Small things that the tests of the engine share."""

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import core
from minigrad.op import Op, registry


def leaf(data: Any, dtype: Any = np.float64) -> mg.Tensor:
    """A tensor that wants a gradient, with memory of its own."""
    return mg.tensor(np.asarray(data, dtype), requires_grad=True)


def forward_only(name: str, products: Any) -> Op:
    """An op that adds two arrays, with any products; it does not stay in the registry."""
    op = Op(type(name, (), {"__name__": name, "__doc__": "", "__call__": lambda self, a, b: (a + b, products)})())
    del registry[name]
    return op


class Recorder(core.Observer):
    """Writes down all that it hears."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.edges: list[Any] = []
        self.gradients: list[Any] = []

    def node(self, node, inputs, output):
        self.nodes.append((node, inputs, output))

    def edge(self, node, position, parent, gradient):
        self.edges.append((node, position, parent, gradient.copy()))

    def gradient(self, node, gradient):
        self.gradients.append((node, gradient.copy()))


def assert_same_as_torch(ours: Any, theirs: Any, message: str = "") -> None:
    """Assert that a tensor of ours and one of torch's have one shape, one dtype and the same elements."""
    ours = ours.detach() if isinstance(ours, mg.Tensor) else ours
    array = np.asarray(theirs.detach().numpy())
    assert (tuple(ours.shape), ours.dtype) == (array.shape, array.dtype), message
    np.testing.assert_allclose(ours.data, array, rtol=1e-6, err_msg=message)
