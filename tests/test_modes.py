"""What a thread is doing: listening to the graph, running definitions, building no graph at all."""

import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import core
from minigrad.op import registry
from tests.graphs import Recorder, leaf


# ----------------------------------------------------------------------------------------------------------- observers
def test_observers_hear_everything_in_order(rng):
    x, w, b = (leaf(rng.standard_normal(s)) for s in [(3, 4), (2, 4), (2,)])
    recorder = Recorder()
    with core.observe(recorder):
        y = mg.ops.linear(x, w, b)
        z = y * y + y[0]
        z.backward(rng.standard_normal(z.shape))
    made = [node for node, _, _ in recorder.nodes]
    assert [node.op.name for node in made] == ["linear", "mul", "index", "add"]
    assert [inputs for _, inputs, _ in recorder.nodes][:2] == [(x, w, b), (y, y)] or recorder.nodes[0][1][0] is x
    assert recorder.nodes[0][2] is y
    assert [node for node, _ in recorder.gradients] == [*made[::-1], b.node, w.node, x.node]
    positions = [(node.op.name, position) for node, position, _, _ in recorder.edges]
    assert positions == [
        ("add", 0),
        ("add", 1),
        ("index", 0),
        ("mul", 0),
        ("mul", 1),
        ("linear", 0),
        ("linear", 1),
        ("linear", 2),
    ]
    for node, gradient in recorder.gradients[1:]:
        sent = [d for _, _, parent, d in recorder.edges if parent is node]
        assert all(d.shape == node.shape for d in sent)
        np.testing.assert_allclose(sum(sent), gradient, rtol=1e-12)
    for tensor in (x, w, b):
        np.testing.assert_array_equal(
            tensor.grad.data, next(g for node, g in recorder.gradients if node is tensor.node)
        )


def test_listening_changes_no_number(rng):
    data = rng.standard_normal((3, 3)).astype(np.float32)

    def train():
        x = leaf(data, np.float32)
        y = (x @ x).softmax(-1) * x
        y.backward(np.ones_like(data) * data)
        return y.data, x.grad.data

    quiet = train()
    with core.observe(Recorder()), core.observe(Recorder()):
        heard = train()
    np.testing.assert_array_equal(quiet, heard)


def test_listening_ends_with_the_block():
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="enough"), core.observe(recorder):
        raise RuntimeError("enough")
    leaf(1.0) * 2.0
    assert (recorder.nodes, core.state.observers) == ([], ())


def test_listeners_nest():
    outer, inner = Recorder(), Recorder()
    x = leaf(1.0)
    with core.observe(outer):
        x * 2.0
        with core.observe(inner) as same:
            assert same is inner
            x * 3.0
        x * 4.0
    assert (len(outer.nodes), len(inner.nodes)) == (3, 1)


def test_observers_hear_their_own_thread_only():
    recorder = Recorder()
    with core.observe(recorder):
        thread = threading.Thread(target=lambda: (leaf(1.0) * 2.0).backward())
        thread.start()
        thread.join()
    assert not recorder.nodes


def test_without_grad_there_is_no_node_to_hear_of():
    recorder = Recorder()
    with core.observe(recorder), mg.no_grad():
        leaf(1.0) * 2.0
    assert recorder.nodes == []


def test_a_node_knows_the_module_it_was_made_in():
    module = object()
    core.state.module = module
    try:
        x = leaf(1.0)
        y = x * 2.0
    finally:
        core.state.module = None
    assert y.node.module is module
    assert (x.node.module, (y * 2.0).node.module) == (None, None)


# --------------------------------------------------------------------------------------------------------- definitions
def ops_used(function, *tensors):
    recorder = Recorder()
    with core.observe(recorder):
        function(*tensors)
    return [node.op.name for node, _, _ in recorder.nodes]


def test_definitions_open_every_op_down_to_the_primitives():
    x = leaf(np.ones((2, 3)))
    assert ops_used(mg.ops.log_softmax, x) == ["log_softmax"]
    with core.definitions():
        assert ops_used(mg.ops.softmax, x) == ["amax", "sub", "exp", "sum", "div"]
        assert ops_used(mg.ops.log_softmax, x) == ["amax", "sub", "exp", "sum", "log", "add", "sub"]
        assert ops_used(mg.ops.mean, x) == ["sum", "div"]
    assert ops_used(mg.ops.mean, x) == ["mean"]


def test_definitions_nest_and_end_with_the_block():
    with core.definitions():
        with pytest.raises(KeyError), core.definitions():
            raise KeyError
        assert core.state.definitions
    assert not core.state.definitions


def test_no_definition_contains_an_op_that_has_one():
    with core.definitions():
        x, mask = leaf(np.ones((1, 1, 3, 3))), np.tri(3, dtype=bool)
        used = ops_used(lambda q: mg.ops.scaled_dot_product_attention(q, q, q, mask, dropout_p=0.1, seed=1), x)
    assert "softmax" not in used
    assert [name for name in used if registry[name].definition] == []


# ----------------------------------------------------------------------------------------------------- no_grad and back
def modes():
    return mg.is_grad_enabled()


def test_no_grad_and_enable_grad_nest():
    seen = [modes()]
    with mg.no_grad():
        seen.append(modes())
        with mg.enable_grad():
            seen.append(modes())
            with mg.no_grad():
                seen.append(modes())
            seen.append(modes())
        seen.append(modes())
    assert [*seen, modes()] == [True, False, True, False, True, False, True]


def test_one_object_can_be_entered_twice():
    quiet = mg.no_grad()
    with quiet, mg.enable_grad():
        with quiet:
            assert not modes()
        assert modes()
    assert modes()


def test_modes_are_restored_after_an_exception():
    with pytest.raises(ZeroDivisionError), mg.no_grad():
        _ = 1 / 0
    assert modes()


def test_modes_decorate_functions():
    @mg.no_grad()
    def outer(depth):
        """A docstring."""
        assert not modes()
        return outer(depth - 1) if depth else inner()

    @mg.enable_grad()
    def inner():
        return modes()

    assert outer(3) is True
    assert (outer.__name__, outer.__doc__, modes()) == ("outer", "A docstring.", True)


def test_no_grad_builds_no_nodes():
    x = leaf([1.0, 2.0])
    with mg.no_grad():
        y = x * 2.0
        made_inside = leaf([1.0])
    assert (y.node, y.requires_grad, y.is_leaf) == (None, False, True)
    assert made_inside.requires_grad
    with mg.no_grad(), mg.enable_grad():
        assert (x * 2.0).requires_grad


def test_modes_belong_to_their_thread():
    seen = []
    with mg.no_grad():
        thread = threading.Thread(target=lambda: seen.append((modes(), (leaf(1.0) * 2.0).requires_grad)))
        thread.start()
        thread.join()
        assert not modes()
    assert seen == [(True, True)]


def test_four_threads_lose_no_update():
    n = 100_000  # large enough for NumPy to let the other threads run while it adds
    x = leaf(np.zeros(n))

    def work():
        for _ in range(50):
            (x * 2.0).backward(np.ones(n))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(x.grad.data, np.full(n, 400.0))


def test_a_generator_cannot_be_decorated_in_vain():
    with pytest.raises(TypeError, match=r"no_grad\(\): steps is a generator; put the `with` inside of it"):

        @mg.no_grad()
        def steps():
            yield 1
