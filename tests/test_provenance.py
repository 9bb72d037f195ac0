"""Where NaN, infinities and zeros come from: each is planted somewhere, and has to be found there."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import core, nn
from minigrad.trace.record import measured
from minitransformer import Transformer
from tests import anomalies
from tests.anomalies import PATH, answers, caught, dead, leaf, line_of, planted, probed, train
from tests.models import VARIANTS, sentences, small_config

inf, nan = math.inf, math.nan
QUESTIONS = "first_nonfinite", "first_nonfinite_gradient", "first_zero_gradient"


@pytest.fixture
def model(rng):
    return Transformer(small_config())


# --------------------------------------------------------------------------------------- planted in a whole Transformer
FORWARD = {
    "log": ("log", -inf, "the logarithm of 0"),
    "div": ("div", inf, "division by 0"),
    "exp": ("exp", inf, "x = 88.7 on"),
    "neg": ("sqrt", nan, "the square root of a negative number"),
}
LINES = {"log": "mg.log(", "div": "x / (", "exp": "mg.exp(", "neg": "- 1.0 * mark", "sqrt": "+ 1.0 * ~mark)  # of 0"}


@pytest.mark.parametrize("kind", FORWARD)
@pytest.mark.parametrize("detail", ["op", "definition"])
def test_a_planted_value_is_found_at_its_op_element_module_and_line(kind, detail, model):
    op, value, reason = FORWARD[kind]
    with nn.patch(model, {f"{PATH}.post": lambda x: planted(x, kind)}):
        origin = answers(lambda: train(model), model, detail=detail).first_nonfinite()
        error = caught(lambda: train(model), model)
    for found in (origin, error):
        assert found.step.partition("#")[0] == f"{PATH}.{op}"
        assert (found.what, found.argument, found.index, found.path) == ("value", None, (1, 2, 3), PATH)
        np.testing.assert_equal(found.value, value)
        assert found.source.file == anomalies.__file__
        assert found.source.line == line_of(planted, LINES[kind])
        assert reason in found.reason
        text = str(found)
        line = f"{anomalies.__file__}:{found.source.line}: "
        for part in ("at [1, 2, 3] of (3, 6, 12)", PATH, line, LINES[kind], "> AddNorm > FeedForward\n"):
            assert part in text


def test_an_infinite_slope_is_found_where_it_is_made_on_the_way_back(model):
    """The value is finite, and so is the loss; PyTorch would name the op behind it, if anything."""
    with nn.patch(model, {f"{PATH}.post": lambda x: planted(x, "sqrt")}):
        rec = answers(lambda: train(model), model)
        error = caught(lambda: train(model), model)
    assert rec.first_nonfinite() is None
    for found in (rec.first_nonfinite_gradient(), error):
        assert found.step == f"{PATH}.sqrt"
        assert (found.what, found.argument, found.index) == ("gradient", "x", (1, 2, 3))
        assert math.isinf(found.value)
        assert found.source.line == line_of(planted, LINES["sqrt"])
        assert "sqrt has an infinite slope at 0" in found.reason
        assert found.received.nonfinite == 0
        assert found.received.makers == (f"{PATH}.linear2.linear",)
        (x,) = found.arguments
        assert x.name == "x"
        assert x.least == 0.0
        assert x.makers == (f"{PATH}.add",)


def test_an_infinite_slope_times_a_zero_gradient_is_nan():
    x = leaf([0.0, 4.0])

    def loss():
        return mg.where(np.array([False, True]), mg.sqrt(x), 1.0).sum().backward()

    for found in (answers(loss).first_nonfinite_gradient(), caught(loss)):
        assert (found.step, found.argument, found.index) == ("sqrt", "x", (0,))
        assert math.isnan(found.value)
        assert "where() does not help" in found.reason


def test_an_infinite_parameter_is_named(model):
    model.encoder.layers[1].ffn.linear1.weight.data[3, 7] = inf
    for found in (answers(lambda: train(model), model).first_nonfinite(), caught(lambda: train(model), model)):
        assert found.step == f"{PATH}.linear1.weight"
        assert (found.value, found.index, found.shape) == (inf, (3, 7), (12, 8))
        assert f"it was there already, and {PATH}.feed_forward is the first to use it" in found.reason
        assert found.source.file.endswith("layers.py")


@pytest.mark.parametrize("bad", [nan, inf])
def test_a_constant_argument_is_named(bad, rng):
    linear = nn.Linear(3, 2)
    x = np.ones((4, 3), np.float32)
    x[2, 1] = bad
    for wrap in (np.asarray, mg.tensor):
        given = wrap(x)
        for found in (answers(lambda x=given: linear(x), linear).first_nonfinite(), caught(lambda x=given: linear(x))):
            assert found.step in ("linear", "Linear.linear")
            assert (found.argument, found.index, found.shape) == ("x", (2, 1), (4, 3))
            np.testing.assert_equal(found.value, bad)
            assert "it was there already" in found.reason
            assert "x, an argument of" in str(found)


def test_what_was_made_before_anybody_looked_is_named():
    before = mg.log(leaf([1.0, -1.0]))
    for found in (answers(lambda: before * 2).first_nonfinite(), caught(lambda: before * 2)):
        assert (found.step, found.index) == ("log", (1,))
        assert "mul is the first to use it" in found.reason


# ---------------------------------------------------------------------------------------------------------------- masks
def closed(scores):
    """Row (1, 0, 2) without a legal key, by plain softmax."""
    shut = np.zeros(scores.shape, bool)
    shut[1, 0, 2], shut[0, 1, :, 0] = True, True
    return scores.masked_fill(shut, -inf).softmax(-1)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("detail", "op"), [("op", "softmax"), ("definition", "sub")])
def test_a_row_without_a_legal_key_is_told_and_a_mask_is_no_anomaly(detail, op, constant, rng):
    scores = leaf(rng.normal(size=(2, 2, 4, 5)))
    added = np.zeros(scores.shape)
    added[1, 0, 2], added[0, 1, :, 0] = -inf, -inf

    def run():
        return (scores + added).softmax(-1) if constant else closed(scores)

    found = answers(run, detail=detail).first_nonfinite()
    assert (found.step.partition("#")[0], found.index) == (op, (1, 0, 2, 0))
    assert math.isnan(found.value)
    assert "no key is allowed" in found.reason
    assert "softmax" in found.calls or op == "softmax"
    assert found.arguments[0].values.kinds[0].count == 9
    error = caught(run)
    assert (error.step, error.index, error.reason) == ("softmax", (1, 0, 2, 0), found.reason)


@pytest.mark.parametrize("detail", ["op", "definition"])
def test_legal_masks_are_no_anomaly(detail, rng):
    scores, shut = leaf(rng.normal(size=(2, 5))), np.eye(2, 5, dtype=bool)
    g = rng.normal(size=(2, 5))

    def run():
        p = mg.ops.masked_softmax(scores * 1.0, ~shut)
        q = (scores.masked_fill(shut, -inf) * 2.0).softmax(-1)
        r = (scores + np.where(shut, -inf, 0.0)).softmax(-1)
        ((p + q + r) * g).sum().backward()

    rec = answers(run, detail=detail)
    assert [getattr(rec, question)() for question in QUESTIONS] == [None, None, None]
    with mg.detect_anomaly(zeros=True):
        run()


@pytest.mark.parametrize("detail", ["op", "definition"])
@pytest.mark.parametrize("variant", [*VARIANTS, {"norm": "batch"}, {"positions": "alibi", "attention": "additive"}])
def test_a_sound_model_has_no_anomaly_not_even_with_an_empty_sentence(variant, detail, rng):
    model = Transformer(small_config(**variant))
    rec = answers(lambda: train(model, sentences(rng, [6, 0, 5])), model, detail=detail)
    assert [getattr(rec, question)() for question in QUESTIONS] == [None, None, None]


def test_a_mask_from_before_anybody_looked_is_no_anomaly():
    masked = leaf([1.0, 2.0]).masked_fill(np.array([True, False]), -inf)
    assert answers(lambda: masked * 2).first_nonfinite() is None
    with mg.detect_anomaly():
        assert (masked * 2).exp().tolist()[0] == 0.0


def test_overflow_beside_a_mask_is_an_anomaly():
    x = leaf([1.0, 100.0, 2.0])
    found = answers(lambda: x.masked_fill(np.array([True, False, False]), -inf).exp()).first_nonfinite()
    assert (found.step, found.value, found.index) == ("exp", inf, (1,))


def test_what_a_mask_is_set_to_is_told():
    found = caught(lambda: leaf([1.0, 2.0]).masked_fill(np.array([False, True]), nan))
    assert (found.step, found.index, found.reason) == ("masked_fill", (1,), "what is masked was set to it")


# -------------------------------------------------------------------------------------------------------- the first one
def test_parts_that_are_finite_with_a_sum_that_is_not():
    x = leaf([1.0])

    def run():
        y = x * 1.0
        (y * 2e38 + y * 2e38).backward(np.array([1.0], np.float32))

    for found in (answers(run).first_nonfinite_gradient(), caught(run)):
        if found.what == "gradient":
            assert (found.step, found.argument, found.value) == ("mul", None, inf)
            assert "a sum of parts that are not; their norms: 2e+38 from mul#3 (its a)" in found.reason


def test_backward_may_begin_with_it():
    x = leaf([1.0, 2.0])
    g = np.array([1.0, nan], np.float32)
    for found in (
        answers(lambda: (x * 2).backward(g)).first_nonfinite_gradient(),
        caught(lambda: (x * 2).backward(g)),
    ):
        assert (found.step, found.argument, found.index, found.reason) == (
            "mul",
            None,
            (1,),
            "backward() began with it",
        )


def test_the_first_one_in_time_is_told_also_if_it_goes_to_a_leaf():
    """On the way back the square root of the leaf comes first; x * 1 is made earlier."""
    x, w = leaf([0.0]), leaf([0.0])

    def run():
        (mg.sqrt(x * 1.0) + mg.sqrt(w)).backward(np.array([1.0], np.float32))

    for found in (answers(run).first_nonfinite_gradient(), caught(run)):
        assert (found.step, found.received.makers) == ("sqrt#2", ("add",))


# ---------------------------------------------------------------------------------------------------------------- zeros
X, M = leaf([[1.0, -2.0, 3.0]]), np.array([[True, False, True]])


def test_a_dead_layer_is_told(model):
    dead(model)
    rec = answers(lambda: train(model), model, detail="definition")
    found = rec.first_zero_gradient()  # nothing comes out of it, so that the weights behind it feel nothing
    assert (found.step, found.argument, found.value, found.index) == (f"{PATH}.linear2.matmul", "b", 0.0, None)
    assert found.reason == "multiplied by a, which is 0 everywhere"
    assert found.arguments[0].makers == (f"{PATH}.activation.relu",)
    assert "0 in the gradient that" in str(found)
    assert "everywhere of (12, 8)" in str(found)
    model.encoder.layers[1].ffn.linear2.requires_grad_(False)
    with core.definitions():
        error = caught(lambda: train(model), model, zeros=True)
        with mg.detect_anomaly(model):
            train(model)  # zeros are not looked at
    for found in (answers(lambda: train(model), model, detail="definition").first_zero_gradient(), error):
        assert (found.step, found.argument) == (f"{PATH}.activation.relu", "x")
        assert found.reason == "every unit is dead: no input is above 0"
        assert found.arguments[0].most < 0


def test_a_dead_layer_in_a_fused_op_is_told_as_far_as_it_goes(model):
    dead(model)
    run = lambda: train(model)  # noqa: E731
    for found in (answers(run, model).first_zero_gradient(), caught(run, model, zeros=True)):
        assert found.step == f"{PATH}.feed_forward"
        assert 'record(model, detail="definition") tells which' in found.reason


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_parts_that_cancel_are_told_from_zeros(kernels):
    x = leaf([1.0, 2.0])

    def run():
        y = x.exp()
        (y * 3 - y * 3).backward(np.array([0.5, 1.5], np.float32))

    with mg.kernels.use(kernels):
        for found in (answers(run).first_zero_gradient(), caught(run, zeros=True)):
            assert (found.step, found.argument) == ("exp", None)
            norm = 3 * math.hypot(0.5, 1.5)
            assert f"a sum of parts that are not; their norms: {norm:.4g} from mul#2 (its a)" in found.reason


def test_what_inherits_its_zeros_is_not_the_first():
    found = answers(probed(lambda: ((X * 2).exp() * 0.0).tanh())).first_zero_gradient()
    assert (found.step, found.argument) == ("mul#2", "a")


def test_only_the_last_backward_pass_counts():
    w = leaf([-1.0, -2.0])

    def run():
        (w * 3.0).backward(np.array([0.5, 1.5], np.float32))
        w.relu().backward(np.array([0.5, 1.5], np.float32))

    for found in (answers(run).first_zero_gradient(), caught(run, zeros=True)):
        assert (found.step, found.argument) == ("relu", "x")


@pytest.mark.parametrize(("factor", "question"), [(nan, QUESTIONS[1]), (0.0, QUESTIONS[2])])
def test_a_hook_that_may_have_made_it_is_told(factor, question):
    """What a hook makes of a gradient looks as if the op had made it."""

    def run():
        x = leaf([1.0, 2.0])
        y = x * 2.0
        y.register_hook(lambda g: g * factor)
        (y * 3.0).backward(np.ones(2, np.float32))

    for found in (getattr(answers(run), question)(), caught(run, zeros=True)):
        assert (found.step, found.argument) == ("mul", "a")
        assert found.reason.endswith("a hook saw the gradient of its result, and may have made it")


def test_backward_may_begin_with_zeros():
    found = answers(lambda: (X * 2).backward(np.zeros((1, 3), np.float32))).first_zero_gradient()
    assert found.reason == "backward() began with it"


def test_what_wants_no_gradient_is_no_anomaly(model):
    model.encoder.layers[0].requires_grad_(False)
    model.src_embed.requires_grad_(False)
    rec = answers(lambda: train(model), model)
    assert [getattr(rec, question)() for question in QUESTIONS] == [None, None, None]
    with mg.detect_anomaly(model, zeros=True):
        train(model)


# ----------------------------------------------------------------------------------------------------------- statistics
def test_kinds_are_counted_and_placed(either):
    found = measured(np.array([[1.0, nan, inf], [-inf, nan, 0.0]])).kinds
    assert [tuple(kind) for kind in found] == [("nan", 2, (0, 1)), ("inf", 1, (0, 2)), ("-inf", 1, (1, 0))]
    assert measured(np.array(nan)).kinds == (("nan", 1, ()),)
    assert measured(np.ones(3)).kinds == ()
