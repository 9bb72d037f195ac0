"""The graph and the loop that walks it backwards."""

import gc
import random
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import core
from minigrad.core import GradError, ShapeError, unbroadcast
from minigrad.op import Op, registry
from minigrad.testing import gradcheck
from tests.graphs import Recorder, forward_only, leaf


# ---------------------------------------------------------------------------------------------------------- the graph
def test_a_node_knows_its_op_and_its_parents_in_order():
    a, b = leaf(2.0), leaf(3.0)
    c = a - b
    assert (c.node.op.name, c.node.parents, c.node.shape, c.node.dtype) == ("sub", (a.node, b.node), (), np.float64)
    assert a.node.op is None
    assert (a.node.parents, c.node.module) == ((), None)
    assert repr(c.node) == f"<Node {c.node.serial} sub ()>"
    assert repr(a.node) == f"<Node {a.node.serial} leaf ()>"


def test_duplicates_are_kept():
    a = leaf([1.0, 2.0])
    b = a + a
    assert b.node.parents == (a.node, a.node)
    c = mg.ops.cat(a, b, a)
    assert c.node.parents == (a.node, b.node, a.node)
    g = np.arange(1.0, 7.0)
    c.backward(g)
    np.testing.assert_array_equal(a.grad.data, g[:2] + 2 * g[2:4] + g[4:])


def test_inputs_without_gradient_are_no_parents():
    a, constant = leaf([1.0]), mg.tensor([2.0])
    assert (a * constant).node.parents == (a.node, None)
    assert (a * 2.0).node.parents == (a.node, None)
    assert (constant * 2.0).node is None


def random_graph(seed, width=6, steps=30):
    """A random DAG of tensors: the last uses some of the others, each made of one or two earlier ones."""
    choose = random.Random(seed)
    tensors = [leaf(choose.uniform(-1, 1)) for _ in range(width)]
    for _ in range(steps):
        a, b = choose.choice(tensors), choose.choice(tensors[-width:])
        step = choose.choice([mg.ops.add, mg.ops.mul, mg.ops.sub, lambda a, b: b.tanh(), lambda a, b: a.sin()])
        tensors.append(step(a, b))
    return tensors[:width], sum(tensors[-width:], start=tensors[-1])


def depth_first(root):
    """Post-order by recursion, reversed: the way of micrograd."""
    order, seen = [], set()

    def visit(node):
        if node not in seen:
            seen.add(node)
            for parent in node.parents:
                if parent is not None:
                    visit(parent)
            order.append(node)

    visit(root)
    return order[::-1]


def kahn(root):
    """A node comes when all of its users have come: the way of HIPS autograd."""
    users, stack = {root: 0}, [root]
    while stack:
        for parent in stack.pop().parents:
            if parent is not None:
                if parent not in users:
                    users[parent] = 0
                    stack.append(parent)
                users[parent] += 1
    order, ready = [], [root]
    while ready:
        order.append(ready.pop())
        for parent in order[-1].parents:
            if parent is not None:
                users[parent] -= 1
                if users[parent] == 0:
                    ready.append(parent)
    return order


def by_order(order, gradient):
    """Gradients of all nodes, passed on in the given order."""
    gradients = {order[0]: gradient}
    for node in order:
        results = (
            node.products(gradients[node])
            if callable(node.products)
            else (p and p(gradients[node]) for p in node.products)
        )
        for parent, d in zip(node.parents, results, strict=True):
            if parent is not None:
                gradients[parent] = gradients.get(parent, 0) + d
    return gradients


@pytest.mark.parametrize("seed", range(20))
def test_serial_numbers_are_a_topological_order(seed):
    leaves, loss = random_graph(seed)
    orders = [depth_first(loss.node), kahn(loss.node), sorted(depth_first(loss.node), key=lambda node: -node.serial)]
    for order in orders:
        place = {node: i for i, node in enumerate(order)}
        assert all(place[node] < place[parent] for node in order for parent in node.parents if parent is not None)
    expected = [by_order(order, np.ones(())) for order in orders]
    recorder = Recorder()
    with core.observe(recorder):
        loss.backward()
    assert [node for node, _ in recorder.gradients] == orders[2]
    for node, gradient in recorder.gradients:
        for gradients in expected:
            np.testing.assert_allclose(gradient, gradients[node], rtol=1e-12)
    for x in leaves:
        assert (x.grad is None) == (x.node not in orders[0])


def test_passing_on_after_the_first_arrival_would_be_wrong():
    """The smallest graph for which it matters that b waits for both of its gradients."""
    a = leaf(1.0)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad.item() == 4


def test_hips_autograd_bug_of_writing_into_a_gradient_that_is_shared():
    """The gradient that `a` gets by one edge is the very array that another edge still needs."""
    a = leaf([2.0, 2.0, 2.0])
    b = a + 1
    c = b[0] + 1.5
    d = a + b
    e = d + c
    e.backward(np.ones(3))
    assert a.grad.tolist() == [5, 2, 2]


# --------------------------------------------------------------------------------------------------- large and small
def test_a_chain_of_100_000_nodes_goes_backward_and_away():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y * 1.0
    y.backward()
    assert x.grad.item() == 1
    y = x
    for _ in range(100_000):
        y = y + 1.0
    last = weakref.ref(y.node)
    del y  # never used backward: the chain is taken down by its destructors
    assert last() is None


def test_fan_in_and_fan_out_of_5_000():
    x = leaf(2.0)
    copies = [x * float(i) for i in range(5000)]
    mg.ops.stack(*copies).backward(np.ones(5000))
    assert x.grad.item() == sum(range(5000))
    total = leaf(0.0)
    x.grad = None
    for _ in range(5000):
        total = total + x
    total.backward()
    assert x.grad.item() == 5000


def test_sixty_residual_connections_take_sixty_steps():
    """A walk over paths instead of nodes would take 2^60."""
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_everything_goes_when_the_loss_goes():
    """There is no reference cycle: counting references is enough."""
    x = leaf(np.ones((3, 3)))
    hidden = mg.ops.layer_norm((x @ x).tanh(), x[0], None)
    loss = mg.ops.cross_entropy(hidden, np.array([0, 1, 2]))
    watched = [weakref.ref(thing) for thing in (hidden, hidden.node, hidden.data, loss.node)]
    del hidden
    assert watched[0]() is None, "a node holds on to its result"
    loss.backward()
    assert watched[2]() is None, "backward() did not free the graph"
    del loss
    assert [reference() for reference in watched] == [None] * 4
    assert x.grad is not None


@pytest.mark.usefixtures("no_collector")
def test_everything_goes_without_backward_and_with_in_place_writes():
    x = leaf(np.ones(3))
    y = x * 2
    y.add_(1.0)
    y[0] = x[1]
    y.retain_grad()
    watched = [weakref.ref(y), weakref.ref(y.node), weakref.ref(y.data)]
    del y
    assert [reference() for reference in watched] == [None] * 3


@pytest.mark.usefixtures("no_collector")
def test_a_leaf_goes_although_its_graph_is_alive():
    x = leaf(np.ones(3))
    watched = weakref.ref(x)
    y = x + 1.0
    del x
    assert watched() is None
    y.backward(np.ones(3))


@pytest.mark.usefixtures("no_collector")
def test_what_only_unwanted_products_need_is_not_kept():
    """d(ab)/da = b is not wanted here, so b is not kept; d(ab)/db = a is."""
    a, b = np.ones(3), np.ones(3)
    watched = weakref.ref(a), weakref.ref(b)
    right = mg.Tensor(b, requires_grad=True)
    c = mg.Tensor(a) * right
    del a, b, right
    assert watched[0]() is not None
    assert watched[1]() is None
    assert c.node.products[0] is None
    c.backward(np.ones(3))
    assert watched[0]() is None


@pytest.mark.usefixtures("no_collector")
def test_gradients_do_not_outlive_their_use():
    """How many are alive at a time does not depend on the length of the graph."""
    seen, most = [], []

    class Watcher(core.Observer):
        def edge(self, node, position, parent, gradient):
            seen.append(weakref.ref(gradient))
            most.append(sum(reference() is not None for reference in seen))

    y = leaf(np.ones(5))
    for _ in range(50):
        y = y * 1.5
    with core.observe(Watcher()):
        y.backward(np.ones(5))
    assert (len(most), max(most)) == (50, 2)


# ------------------------------------------------------------------------------------------------ twice, and too often
def test_the_graph_is_freed_by_backward():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    middle = y.node.parents[0]
    y.backward()
    assert (middle.products, middle.parents) == (None, ())
    with pytest.raises(GradError, match=r"the graph below <Node \d+ sum \(\)> has been freed .* retain_graph=True"):
        y.backward()


def test_a_graph_that_shares_freed_nodes_is_an_error_too():
    x = leaf([1.0, 2.0])
    middle = x * x
    first, second = middle.sum(), (middle * 3.0).sum()
    first.backward()
    with pytest.raises(GradError, match="has been freed by an earlier"):
        second.backward()


def test_retain_graph_keeps_it():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    assert x.grad.tolist() == [4, 8]
    y.backward()
    assert x.grad.tolist() == [6, 12]
    with pytest.raises(GradError, match="has been freed"):
        y.backward()


def test_gradients_add_up_until_they_are_cleared():
    x = leaf([3.0])
    (x * x).backward()
    (x * 2.0).backward()
    assert x.grad.item() == 8
    before = x.grad
    x.grad = None
    (x * x).backward()
    assert (x.grad.item(), before.item()) == (6, 8)


def test_backward_from_a_leaf():
    x = leaf(3.0)
    x.backward()
    x.backward(np.array(2.0))
    assert (x.grad.item(), type(x.grad.data)) == (3, np.ndarray)


# ------------------------------------------------------------------------------------------------- products, strictly
def test_a_missing_product_is_an_error_not_a_truncation():
    a, b = leaf(1.0), leaf(2.0)
    with pytest.raises(GradError, match=r"one_short\(\): 2 inputs, but 1 vector-Jacobian products"):
        forward_only("one_short", (lambda g: g,))(a, b)
    with pytest.raises(GradError, match=r"absent\(\): input 1 requires a gradient, but this op has none for it"):
        forward_only("absent", (lambda g: g, None))(a, b)
    with pytest.raises(ValueError, match="zip"):
        forward_only("tuple_short", lambda g: (g,))(a, b).backward()
    with pytest.raises(ValueError, match="zip"):
        forward_only("tuple_long", lambda g: (g, g, g))(a, b).backward()


def test_a_gradient_of_the_wrong_shape_is_an_error():
    op = forward_only("misshapen", (lambda g: np.ones(3), lambda g: g))
    with pytest.raises(
        GradError, match=r"misshapen\(\): a gradient of shape \(3,\) does not fit an input of shape \(2,\)"
    ):
        op(leaf([1.0, 2.0]), leaf([1.0, 2.0])).backward(np.ones(2))


def test_products_that_nobody_needs_are_not_called():
    def refuse(g):
        raise AssertionError("called in vain")

    op = forward_only("picky", (lambda g: g, refuse))
    a = leaf(1.0)
    op(a, mg.tensor(2.0)).backward()
    assert a.grad.item() == 1


def test_none_from_a_shared_product_is_no_gradient():
    a, b = leaf(1.0), leaf(2.0)
    forward_only("shared", lambda g: (g, None))(a, b).backward()
    assert (a.grad.item(), b.grad) == (1, None)


# --------------------------------------------------------------------------------------------------------- unbroadcast
@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0), data=st.data())
def test_unbroadcast_sums_over_the_copies(shapes, data):
    """Against the statement with indices: d[i] = sum of g over all places to which broadcasting copies element i."""
    shape, result = shapes.input_shapes[0], shapes.result_shape
    g = data.draw(hnp.arrays(np.float64, result, elements=st.integers(-5, 5).map(float)))
    expected = np.zeros(shape)
    source = np.broadcast_to(np.arange(expected.size).reshape(shape), result)
    for place in np.ndindex(result):
        expected.flat[source[place]] += g[place]
    d = unbroadcast(g, shape)
    assert d.shape == shape
    np.testing.assert_array_equal(d, expected)


@pytest.mark.parametrize(("g", "shape"), [((3,), (2,)), ((3,), (1, 3)), ((2, 3), (3, 3)), ((), (1,)), ((2,), (0,))])
def test_unbroadcast_refuses_what_broadcasting_cannot_have_made(g, shape):
    with pytest.raises(ShapeError, match="does not fit an input of shape"):
        unbroadcast(np.ones(g), shape)


@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3))
def test_broadcast_arguments_get_gradients_of_their_own_shape(shapes):
    rng = np.random.default_rng(0)
    gradcheck(
        lambda a, b, c: a * b + c * b, [rng.standard_normal(shape) for shape in shapes.input_shapes], jacobian=False
    )


# ----------------------------------------------------------------------------------------------------- sharing memory
def test_gradients_never_share_memory():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    c = a + b
    c.retain_grad()
    g = np.array([1.0, 10.0])
    c.backward(g)
    arrays = [a.grad.data, b.grad.data, c.grad.data, g]
    assert not any(np.shares_memory(x, y) for i, x in enumerate(arrays) for y in arrays[:i])
    a.grad.mul_(5.0)
    assert (b.grad.tolist(), c.grad.tolist(), g.tolist()) == ([1, 10], [1, 10], [1, 10])


def test_a_gradient_that_is_a_view_is_copied_into_an_array_of_its_own():
    x = leaf(np.ones((2, 3)))
    x.sum().backward(mg.tensor(3.0, dtype=x.dtype))
    x.grad.add_(1.0)  # the gradient of a sum arrives as a read-only view of one number
    assert x.grad.tolist() == [[4, 4, 4], [4, 4, 4]]
    assert x.grad.is_contiguous()


def test_the_incoming_gradient_is_not_written_into():
    x = leaf(np.ones(3))
    y = x + x + x * 2.0
    g = np.array([1.0, 2.0, 3.0])
    g.flags.writeable = False
    y.backward(g)
    assert x.grad.tolist() == [4, 8, 12]


def test_accumulated_gradients_do_not_change_what_was_computed_from_them():
    """A gradient used in a new graph is not written into by a later backward()."""
    x, w = leaf([1.0]), leaf([1.0])
    (x * 3.0).backward()
    z = x.grad * w
    (x * 5.0).backward()
    z.backward()
    assert (w.grad.item(), x.grad.item()) == (3, 8)


# -------------------------------------------------------------------------------------------------------------- dtypes
@pytest.mark.parametrize(("ours", "other"), [(np.float32, np.float64), (np.float64, np.float32)])
def test_gradients_have_the_dtype_of_their_leaf(ours, other):
    x, y = leaf([1.0, 2.0], ours), leaf([[3.0], [4.0]], other)
    z = (x * y).exp() * y
    z.backward(np.ones((2, 2)))
    assert (x.grad.dtype, y.grad.dtype) == (ours, other)
    assert (x.grad.shape, y.grad.shape) == ((2,), (2, 1))


def test_a_float32_leaf_in_a_float64_graph_sums_in_float32_only_at_the_end():
    x = leaf([1.0], np.float32)
    y = x.double() * 3.0
    assert y.dtype == np.float64
    y.backward(np.array([2.0]))
    assert (x.grad.dtype, x.grad.item()) == (np.float32, 6)


def test_whole_numbers_get_no_gradient():
    x, i = leaf([1.0, 2.0]), mg.tensor([2, 3])
    y = x * i
    assert y.node.parents == (x.node, None)
    y.backward(np.ones(2))
    assert (x.grad.tolist(), i.grad) == ([2, 3], None)


def test_a_value_says_so_if_it_cannot_make_results():
    class Bare(core.Value):
        __slots__ = ()

    bare = Bare()
    bare.data, bare.node = np.ones(2), None
    with pytest.raises(TypeError, match="Bare does not say how results are made"):
        mg.ops.exp(bare)


def test_an_op_may_call_another_op_inside():
    def twice_the_exponential(x):
        y = mg.ops.exp(x)  # of an array, hence an array
        return 2 * y, lambda g: g * 2 * y

    try:
        op = Op(twice_the_exponential)
        x = mg.tensor([1.0, 800.0], requires_grad=True)
        y = op(x)
        y.backward(np.array([3.0, 0.0]))
        np.testing.assert_allclose(x.grad.data[0], 6 * np.e, rtol=1e-6)
        assert y.data[1] == np.inf  # without a warning, inside too
    finally:
        registry.pop("twice_the_exponential", None)
