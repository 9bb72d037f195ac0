"""Gradients at the leaves: which arrays become theirs, and which are copied."""

import weakref

import numpy as np

import minigrad as mg
from minigrad import kernels
from minigrad.leaves import SPARE
from tests.graphs import forward_only, leaf


def made(*results):
    """Two leaves after the way back through an op, each with what the product made for it by calling `results`."""
    seen = []

    def product(g):
        gradients = tuple(result() for result in results)
        seen.extend(weakref.ref(d) for d in gradients)
        return gradients

    a, b = leaf(np.ones(3)), leaf(np.ones(3))
    forward_only("made", product)(a, b).backward(np.ones(3))
    return (a, seen[0]()), (b, seen[1]())


def test_a_gradient_that_nobody_else_holds_becomes_the_leafs_own():
    for x, d in made(lambda: np.full(3, 2.0), lambda: np.full(6, 3.0)[3:]):
        assert d is not None
        assert x.grad.data is d


def test_a_gradient_that_somebody_else_may_hold_is_copied():
    kept, large, foreign = np.ones(3), lambda: np.ones(10_000)[:3], bytearray(24)
    for others in (lambda: kept, lambda: kept[:], large, lambda: np.frombuffer(foreign), lambda: np.ones(6)[::2]):
        (_, a), (x, _) = made(lambda: np.ones(3), others)
        assert a is not None
        assert not np.shares_memory(x.grad.data, kept)
        assert x.grad.data.base is None
    one = [np.ones(3)]
    (a, _), (b, _) = made(lambda: one[0], one.pop)  # one array for both
    assert not np.shares_memory(a.grad.data, b.grad.data)


def test_a_gradient_that_a_graph_keeps_for_a_second_time_is_copied():
    d = np.ones(3)
    op = forward_only("keeper", (lambda g, d=d: d, None))
    del d
    a = leaf(np.ones(3))
    y = op(a, mg.ones(3))
    y.backward(np.ones(3), retain_graph=True)
    a.grad.mul_(5.0)
    a.grad = None
    y.backward(np.ones(3))
    assert a.grad.tolist() == [1, 1, 1]


def test_the_gradient_that_a_kernel_has_made_is_not_copied(rng):
    x, w = (leaf(rng.standard_normal((200, 200)), np.float32) for _ in range(2))
    with kernels.use("numba"):
        (x @ w).backward(rng.standard_normal((200, 200)))
    for a in (x, w):
        memory = a.grad.data.base
        assert memory is not None  # its place in a page is chosen, see `pieces.empty`; a copy would own its memory
        assert memory.nbytes - a.grad.data.nbytes <= SPARE
