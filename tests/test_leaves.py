"""Gradients at the leaves: which arrays become theirs, and which are copied."""

import weakref

import numpy as np

import minigrad as mg
from minigrad import kernels
from minigrad.leaves import SMALL, SPARE
from tests.graphs import forward_only, leaf

N = SMALL // 8 + 1  # float64


def made(*results, n=3):
    """Two leaves after the way back through an op, each with what the product made for it by calling `results`."""
    seen = []

    def product(g):
        gradients = tuple(result() for result in results)
        seen.extend(weakref.ref(d) for d in gradients)
        return gradients

    a, b = leaf(np.ones(n)), leaf(np.ones(n))
    forward_only("made", product)(a, b).backward(np.ones(n))
    return (a, seen[0]()), (b, seen[1]())


def test_a_gradient_that_nobody_else_holds_becomes_the_leafs_own():
    for x, d in made(lambda: np.full(N, 2.0), lambda: np.full(N + 3, 3.0)[3:], n=N):
        assert d is not None
        assert x.grad.data is d


def test_a_small_gradient_is_copied_without_asking():
    for x, d in made(lambda: np.full(3, 2.0), lambda: np.full(6, 3.0)[3:]):
        assert d is None
        assert x.grad.tolist() in ([2, 2, 2], [3, 3, 3])


def test_a_gradient_lies_in_memory_as_its_leaf_or_row_by_row():
    a, b = leaf(np.ones((N, 2)).T), leaf(np.ones((2, N)))
    forward_only("turned", lambda g: (np.ones((N, 2)).T, np.ones((N, 2)).T))(a, b).backward(np.ones((2, N)))
    assert a.grad.data.strides == a.data.strides
    assert b.grad.is_contiguous()


def test_a_gradient_that_somebody_else_may_hold_is_copied():
    kept, large, foreign = np.ones(N), lambda: np.ones(10_000)[:N], bytearray(8 * N)
    for others in (lambda: kept, lambda: kept[:], large, lambda: np.frombuffer(foreign), lambda: np.ones(2 * N)[::2]):
        (_, a), (x, _) = made(lambda: np.ones(N), others, n=N)
        assert a is not None
        assert not np.shares_memory(x.grad.data, kept)
        assert x.grad.data.base is None
    one = [np.ones(N)]
    (a, _), (b, _) = made(lambda: one[0], one.pop, n=N)  # one array for both
    assert not np.shares_memory(a.grad.data, b.grad.data)


def test_a_gradient_that_a_graph_keeps_for_a_second_time_is_copied():
    d = np.ones(N)
    op = forward_only("keeper", (lambda g, d=d: d, None))
    del d
    a = leaf(np.ones(N))
    y = op(a, mg.ones(N))
    y.backward(np.ones(N), retain_graph=True)
    a.grad.mul_(5.0)
    a.grad = None
    y.backward(np.ones(N))
    assert a.grad.tolist() == [1] * N


def test_the_gradient_that_a_kernel_has_made_is_not_copied(rng):
    x, w = (leaf(rng.standard_normal((200, 200)), np.float32) for _ in range(2))
    with kernels.use("numba"):
        (x @ w).backward(rng.standard_normal((200, 200)))
    for a in (x, w):
        memory = a.grad.data.base
        assert memory is not None  # its place in a page is chosen, see `pieces.empty`; a copy would own its memory
        assert memory.nbytes - a.grad.data.nbytes <= SPARE
