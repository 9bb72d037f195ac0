"""`detect_anomaly` raises at once, names the same origin as a recording, and changes nothing."""

import gc
import math
import weakref
from contextlib import contextmanager

import numpy as np
import pytest

import minigrad as mg
from minigrad import core, nn
from minigrad.nn import functional as F
from minigrad.trace import AnomalyError, Step
from minitransformer import Transformer
from tests.anomalies import PATH, caught, leaf, planted, train
from tests.models import small_config

inf, nan = math.inf, math.nan


@pytest.fixture
def model(rng):
    return Transformer(small_config())


@pytest.mark.parametrize("zeros", [False, True])
def test_watching_changes_no_number(zeros, either):
    def plain(model):
        return core.enable_grad()

    def watched(model):
        return mg.detect_anomaly(model, zeros=zeros)

    @contextmanager
    def recorded_as_well(model):
        with mg.record(model), mg.detect_anomaly(model, zeros=zeros), mg.record(model, keep="values"):
            yield

    results = []
    for how in (plain, watched, recorded_as_well):
        mg.manual_seed(0)
        model = Transformer(small_config(dropout=0.2))
        with how(model):
            train(model)
        results.append([parameter.grad.data for parameter in model.parameters()])
    for same in zip(*results, strict=True):
        np.testing.assert_array_equal(same[0], same[1])
        np.testing.assert_array_equal(same[0], same[2])


def test_nothing_is_left_behind_by_an_error(model):
    assert core.state.observers == ()
    model.generator.weight.data[0, 0] = nan
    with (
        pytest.raises(AnomalyError, match="generator") as raised,
        mg.record(model) as rec,
        mg.detect_anomaly(model),
    ):
        train(model)
    assert core.state.observers == ()
    assert "in generator (Linear)" in raised.value.__notes__
    assert rec.first_nonfinite().step == "generator.weight"
    model.generator.weight.data[0, 0] = 0.0
    train(model)


def test_what_an_error_left_behind_is_not_taken_for_a_part_of_the_next_gradient():
    w, x = leaf([-1.0]), leaf([0.0])
    with mg.detect_anomaly(zeros=True):
        y = mg.sqrt(x)
        with pytest.raises(AnomalyError, match="infinite slope"):
            (w * 3.0 + y).backward(np.array([1.0], np.float32))
        with pytest.raises(AnomalyError) as error:
            w.relu().backward(np.array([1.0], np.float32))
    assert (error.value.origin.step, error.value.origin.argument) == ("relu", "x")


def test_within_a_recording_of_definitions_the_primitive_is_told():
    x = leaf([[2.0, 2.0]])
    with mg.record(detail="definition") as rec:
        found = caught(lambda: F.layer_norm(x, (2,), eps=0.0))
    assert (found.step, found.reason) == ("div#3", "0 / 0")  # the other ones are in the means
    assert found.calls == ("layer_norm",)
    assert rec.first_nonfinite().step == "div#3"


def test_without_a_model_classes_and_calls_are_named(model):
    with nn.patch(model, {f"{PATH}.post": lambda x: planted(x, "log")}):
        found = caught(lambda: train(model))
    assert found.step == "FeedForward.log"
    assert found.calls[:2] == ("Transformer", "Encoder")
    assert found.calls[-1] == "FeedForward"


def test_the_loss_itself_is_looked_at():
    x = leaf([1.0, nan])
    message = r"detect_anomaly\(\): nan in the value of leaf, at \[1\] of \(2,\)"
    with pytest.raises(ArithmeticError, match=message), mg.detect_anomaly():
        x.sum()


def test_a_parameter_that_becomes_bad_later_is_seen():
    w = leaf([1.0, 1.0])
    with mg.detect_anomaly():
        (w.masked_fill(np.array([True, False]), -inf).exp() * 2).backward([0.5, -1.5])
        w.data[1] = nan
        with pytest.raises(AnomalyError, match="nan in the value of leaf"):
            w * 2


def test_nothing_is_kept_of_a_graph_that_is_gone():
    """And it goes without the garbage collector: nothing in it points back."""

    def steps():
        return sum(type(thing) is Step for thing in gc.get_objects())

    w = leaf([1.0, 2.0])
    gc.collect()
    gc.disable()
    try:
        before = steps()
        with mg.detect_anomaly():
            leaf([3.0]).masked_fill(np.array([True]), -inf)
            y = w.masked_fill(np.array([True, False]), -inf).exp() * 2
            node = weakref.ref(y.node)
            detector = core.state.observers[-1]
            y.backward([0.5, -1.5])
            assert len(detector.steps) == 2  # of the leaf, and of y
            del y
            assert node() is None
            assert len(detector.steps) == 1
            assert detector.arrived == {}
            assert steps() > before
        del detector
        assert steps() == before
    finally:
        gc.enable()


def test_without_gradients_nothing_is_seen():
    with mg.detect_anomaly(), mg.no_grad():
        assert math.isinf(leaf([0.0]).log().item())


def test_a_model_must_be_one():
    message = r"detect_anomaly\(\): the model is a int; give a Module, or nothing"
    with pytest.raises(TypeError, match=message), mg.detect_anomaly(3):
        pass
