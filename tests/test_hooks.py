"""Hooks on gradients: they see the whole of it, once, and may replace it; as in PyTorch."""

import gc
import weakref

import numpy as np
import pytest

import minigrad as mg
from tests import oracle
from tests.graphs import leaf


def test_a_hook_sees_the_whole_gradient_once_and_may_replace_it():
    x = leaf([1.0, 2.0])
    h = x * 1.0
    seen = []
    h.register_hook(lambda g: seen.append(g.tolist()))
    h.register_hook(lambda g: 10 * g)
    h.register_hook(lambda g: seen.append(g.tolist()))
    (h * 2 + h * h).backward([1.0, 1.0])
    assert seen == [[4.0, 6.0], [40.0, 60.0]]
    assert x.grad.tolist() == [40.0, 60.0]


def test_hooks_of_leaves_and_of_retained_gradients():
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: -g)
    y = x * 3.0
    y.retain_grad()
    y.register_hook(lambda g: np.array([5.0, 0.0]))
    y.backward([1.0, 1.0])
    assert (y.grad.tolist(), x.grad.tolist()) == ([5.0, 0.0], [-15.0, 0.0])
    (x * 1.0).backward([1.0, 1.0])
    assert x.grad.tolist() == [-16.0, -1.0]


def test_the_order_and_the_numbers_are_those_of_torch(rng):
    torch = oracle.torch()
    data, g = rng.standard_normal((2, 2, 3))

    def run(x, cotangent):
        seen = []
        h = x * 2
        h.register_hook(lambda g: seen.append(("a", g.tolist())))
        handle = h.register_hook(lambda g: g * 3)
        h.register_hook(lambda g: seen.append(("b", g.tolist())))
        gone = h.register_hook(lambda g: g * 100)
        gone.remove()
        gone.remove()
        x.register_hook(lambda g: seen.append(("x", g.tolist())))
        (h.exp() + h).backward(cotangent, retain_graph=True)
        handle.remove()
        (h.exp() + h).backward(cotangent)
        return seen, x.grad.tolist()

    ours, grad = run(leaf(data), mg.from_numpy(g))
    theirs, torch_grad = run(torch.tensor(data, requires_grad=True), torch.tensor(g))
    assert [name for name, _ in ours] == [name for name, _ in theirs]
    for (_, a), (_, b) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_allclose(grad, torch_grad, rtol=1e-12)


def test_a_recording_sees_what_arrived_and_what_the_hook_sends_on():
    x = leaf([1.0])
    with mg.record() as rec:
        h = x * 1.0
        h.register_hook(lambda g: 10 * g)
        (h * 2).backward([1.0])
    assert (rec["mul"].gradient.norm, rec["leaf"].gradient.norm) == (2.0, 20.0)


def test_a_hook_cannot_spoil_a_gradient_from_inside():
    x = leaf([1.0, 2.0])

    def spoil(g):
        g.data[:] = 0

    x.register_hook(spoil)
    (x * 2).backward([1.0, 1.0])
    assert x.grad.tolist() == [2.0, 2.0]


def test_a_hook_keeps_no_graph_alive():
    gc.disable()
    try:
        h = leaf([1.0]) * 2.0
        node = weakref.ref(h.node)
        handle = h.register_hook(lambda g: None)
        del h
        assert node() is None
        handle.remove()
    finally:
        gc.enable()


def test_what_is_recorded_is_what_arrived_before_hooks():
    x, w = leaf([3.0, 4.0]), leaf([1.0, 1.0])
    with mg.record() as rec:
        y = x * w
        y.register_hook(lambda g: 10 * g)
        x.register_hook(lambda g: -2 * g)
        y.backward([3.0, 4.0])
    assert (rec["mul"].gradient.norm, rec["mul"].hooked) == (5.0, True)
    leaves = {edge.argument: (edge.norm, edge.parent.gradient.norm, edge.parent.hooked) for edge in rec.edges}
    assert leaves == {"a": (50.0, 50.0, True), "b": (pytest.approx(10 * np.hypot(9, 16)),) * 2 + (False,)}
    assert x.grad.tolist() == [-60.0, -80.0]


def test_mistakes_of_hooks():
    with pytest.raises(mg.GradError, match=r"register_hook\(\): this tensor does not require a gradient"):
        mg.ones(1).register_hook(lambda g: g)
    x = leaf([1.0, 2.0])
    x.register_hook(lambda g: g[:1])
    with pytest.raises(
        mg.ShapeError, match=r"register_hook\(\): the gradient has shape \(2,\), the hook returned \(1,\)"
    ):
        (x * 2).backward([1.0, 1.0])
