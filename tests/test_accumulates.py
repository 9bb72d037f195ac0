"""Ops whose way back goes on from what has arrived at their first input, in place of an addition."""

import numpy as np
import pytest

from minigrad import core
from minigrad.op import Op, registry
from tests.graphs import leaf


def blend_of(arrived):
    """An op 2 a + 3 b that notes what has `arrived` before."""

    def blend(a, b):
        def products(g, so_far=None):
            arrived.append(so_far)
            return 2 * g if so_far is None else so_far + 2 * g, 3 * g

        return 2 * a + 3 * b, products

    op = Op(blend, accumulates=True)
    del registry["blend"]
    return op


@pytest.mark.parametrize("middle", [lambda x: x, lambda x: x * 1.0])
def test_an_op_that_accumulates_goes_on_from_what_has_arrived_at_its_first_input(middle):
    arrived = []
    x, g = leaf([1.0, 2.0]), np.array([10.0, 20.0])
    h = middle(x)
    (blend_of(arrived)(h, h) + h).backward(g)
    assert x.grad.tolist() == [60, 120]
    assert [so_far.tolist() for so_far in arrived] == [[10, 20]]
    assert g.tolist() == [10, 20]


def test_an_op_that_accumulates_is_alone_where_nothing_has_arrived():
    arrived = []
    x, y, g = leaf([1.0, 2.0]), leaf([0.0, 0.0]), np.array([10.0, 20.0])
    blend = blend_of(arrived)
    blend(x, y).backward(g)
    blend(np.ones(2), y * 1.0).backward(g)
    assert (x.grad.tolist(), y.grad.tolist()) == ([20, 40], [60, 120])
    assert arrived == [None] * 2


def test_who_watches_an_op_that_accumulates_sees_what_the_edge_adds_and_changes_nothing():
    arrived, edges = [], []

    class Watcher(core.Observer):
        def edge(self, node, position, parent, gradient):
            edges.append(gradient.tolist())

    x, y, g = leaf([1.0, 2.0]), leaf([0.0, 0.0]), np.array([10.0, 20.0])
    with core.observe(Watcher()):
        (blend_of(arrived)(x, y) + x).backward(g)
    assert (x.grad.tolist(), y.grad.tolist()) == ([30, 60], [30, 60])
    assert edges[-2:] == [[20, 40], [30, 60]]
    assert [so_far.tolist() for so_far in arrived] == [[10, 20]]
