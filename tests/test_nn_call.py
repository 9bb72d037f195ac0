"""What happens when a module is called: its scope in the graph, the note on an exception, and nothing left behind."""

import gc
import threading
import weakref

import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core import state
from minigrad.nn import Module
from tests.networks import Net


def test_forward_must_be_defined():
    class Nothing(Module):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing has no forward\(\)"):
        Nothing()(1)


def test_arguments_are_passed_on():
    class Sub(Module):
        def forward(self, a, *, b=2):
            return a - b

    assert Sub()(5) == 3
    assert Sub()(5, b=1) == 4


def test_nodes_know_the_innermost_module(rng):
    model = Net()
    seen = []

    class Recorder(mg.core.Observer):
        def node(self, node, inputs, output):
            seen.append((node.op.name, node.module))

    with mg.core.observe(Recorder()):
        y = model(mg.randn(2, 3)) * 2
    assert seen == [("linear", model.a), ("relu", model.b[0]), ("linear", model.b[1]), ("mul", None)]
    assert y.shape == (2, 2)


def notes_of(model, *inputs):
    with pytest.raises(mg.ShapeError) as error:
        model(*inputs)
    assert state.module is None
    return error.value.__notes__


def test_exception_says_where_it_was_raised():
    model = Net()
    model.b[1] = nn.Linear(5, 2)
    assert notes_of(model, mg.zeros(1, 3)) == ["in b.1 (Linear)"]
    assert notes_of(model.b, mg.zeros(1, 4)) == ["in 1 (Linear)"]
    assert notes_of(model.b[1], mg.zeros(1, 4)) == ["in Linear"]


def test_exception_in_the_forward_of_a_parent_is_the_parents():
    class Parent(Net):
        def forward(self, x):
            return self.a(x) @ mg.zeros(7)

    assert notes_of(nn.Sequential(Parent()), mg.zeros(1, 3)) == ["in 0 (Parent)"]


def test_exception_in_a_module_that_is_not_registered_has_no_path():
    hidden = [nn.Linear(5, 2)]

    class Parent(Net):
        def forward(self, x):
            return hidden[0](x)

    assert notes_of(nn.Sequential(Parent()), mg.zeros(1, 3)) == ["in Linear"]


def test_exception_that_is_handled_inside_leaves_no_trace():
    class Careful(Net):
        def forward(self, x):
            try:
                return self.a(x)
            except mg.ShapeError:
                return state.module

    model = nn.Sequential(Careful())
    assert model(mg.zeros(1, 4)) is model[0]
    assert state.module is None


def test_module_scope_is_private_to_the_thread():
    seen = []

    class Parent(Net):
        def forward(self, x):
            thread = threading.Thread(target=lambda: seen.append(state.module))
            thread.start()
            thread.join()
            return super().forward(x)

    Parent()(mg.zeros(1, 3))
    assert seen == [None]


def test_model_is_freed_without_the_garbage_collector(rng):
    gc.disable()
    try:
        model = Net()
        model(mg.randn(2, 3)).backward(rng.standard_normal((2, 2)))
        gone = weakref.ref(model)
        del model
        assert gone() is None
    finally:
        gc.enable()
