"""Recordings: everything that happened, under its name, and not a number changed."""

import gc
import inspect
import math
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import core, kernels, nn
from minigrad.nn import functional as F
from minigrad.trace.record import measured
from minitransformer import Transformer
from tests.graphs import Recorder, leaf
from tests.models import VARIANTS, sentences, small_config, small_model

TOKENS = np.random.default_rng(5)
SOURCE = sentences(TOKENS, [6, 4, 5])
TARGET = sentences(TOKENS, [5, 5, 3], bos=True)


def train(model, seed=3):
    """One forward and one backward pass: the loss, and the gradients of all parameters."""
    mg.manual_seed(seed)
    model.zero_grad()
    logits = model(SOURCE, TARGET)
    loss = F.cross_entropy(logits.flatten(0, 1), TARGET.reshape(-1), ignore_index=0)
    loss.backward()
    return [loss.data, *[p.grad.data.copy() for p in model.parameters() if p.grad is not None]]


def assert_identical(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------------------- no number is changed
@pytest.mark.parametrize("variant", [*VARIANTS, {"norm": "batch"}, {"positions": "rotary", "attention": "additive"}])
@pytest.mark.parametrize("keep", ["stats", "values"])
def test_recorded_and_unrecorded_runs_are_bit_identical(variant, keep, either):
    mg.manual_seed(0)
    model = Transformer(small_config(**variant, dropout=0.2))
    plain = train(model)
    with mg.record(model, keep=keep) as rec:
        recorded = train(model)
    assert_identical(plain, recorded)
    assert rec.runs == 1
    with core.definitions():
        plain = train(model)
    with mg.record(model, detail="definition", keep=keep):
        recorded = train(model)
    assert_identical(plain, recorded)


@given(st.integers(0, 10**6))
def test_recorded_random_programs_are_bit_identical_and_their_shares_sum_to_one(seed):
    plain = program(seed)
    with mg.record() as rec:
        recorded = program(seed)
    assert_identical(plain, recorded)
    for step in rec.steps:
        if not step.uses:
            continue
        arrived = [e for e in step.uses if e.run]
        assert (step.run == 1) == bool(arrived)
        if arrived and step.gradient.squares:
            lost = 1e-12 * sum(e.norm for e in arrived) / step.gradient.norm  # by cancellation
            assert sum(e.share for e in arrived) == pytest.approx(1, abs=max(lost, 1e-12))


def program(seed):
    """A random graph over a few tensors, with views, broadcasting, repeated arguments and cancellation."""
    rng = np.random.default_rng(seed)
    leaves = [leaf(rng.standard_normal(shape)) for shape in [(3, 4), (4,), (1, 4), (3, 1), ()]]
    values = list(leaves)
    for _ in range(rng.integers(3, 12)):
        x, y = (values[i] for i in rng.integers(0, len(values), 2))
        choice = rng.integers(0, 7)
        if choice == 0:
            values.append(x + y)
        elif choice == 1:
            values.append(x * y)
        elif choice == 2:
            values.append(x - x * (1 - 1e-9))
        elif choice == 3:
            values.append(x.tanh())
        elif choice == 4:
            values.append(x.reshape(-1)[: max(1, x.numel() // 2)].sum() + y)
        elif choice == 5:
            values.append(x + x)
        else:
            values.append(y.softmax(-1) if y.ndim else y.exp())
    total = sum((v * mg.from_numpy(rng.standard_normal(v.shape)) for v in values[-3:]), leaf(0.0))
    total.backward(rng.standard_normal(total.shape))
    return [total.data, *[x.grad.data for x in leaves if x.grad is not None]]


@pytest.mark.parametrize("detail", ["op", "definition"])
def test_what_is_on_the_edges_is_what_an_observer_hears(detail, rng):
    model = small_model()
    with mg.record(model, detail=detail) as rec, core.observe(Recorder()) as heard:
        train(model)
    steps = {step.serial: step for step in rec.steps}
    assert len(rec.edges) == len(heard.edges)
    for node, position, parent, gradient in heard.edges:
        [edge] = [e for e in steps[node.serial].inputs if e.position == position]
        assert edge.parent is steps[parent.serial]
        assert edge.norm == pytest.approx(np.linalg.norm(gradient), rel=1e-9)
    for node, gradient in heard.gradients:
        assert steps[node.serial].gradient.norm == pytest.approx(np.linalg.norm(gradient), rel=1e-9)
    for node, _, output in heard.nodes:
        if np.isfinite(output.data).all():  # masked scores are -inf
            assert steps[node.serial].value.norm == pytest.approx(np.linalg.norm(output.data), rel=1e-9)


def test_the_two_details_agree_where_both_see_an_edge(rng):
    model = small_model()
    recordings = []
    for detail in ("op", "definition"):
        with mg.record(model, detail=detail) as rec:
            train(model)
        recordings.append(rec)
    for name, _ in model.named_parameters():
        fine, coarse = (rec[name].gradient for rec in recordings)
        assert fine.norm == pytest.approx(coarse.norm, rel=1e-9)


# -------------------------------------------------------------------------------------------------------------- shares
def test_an_edge_that_works_against_the_others_has_a_negative_share():
    x = leaf([3.0, 4.0])
    with mg.record() as rec:
        y = 3 * x - 2 * x
        y.backward([1.0, 2.0])
    assert [e.share for e in rec["leaf"].uses] == [3.0, -2.0]
    assert [e.norm for e in rec["leaf"].uses] == pytest.approx([3 * math.sqrt(5), 2 * math.sqrt(5)])


def test_an_argument_given_twice_is_two_edges():
    x = leaf(3.0)
    with mg.record() as rec:
        (x * x).backward()
    assert [(e.argument, e.share) for e in rec.edges] == [("a", 0.5), ("b", 0.5)]
    with pytest.raises(KeyError, match=r"there are 2 edges from mul to leaf.*argument"):
        rec.edge("mul", "leaf")
    assert rec.edge("mul", "leaf", "b") is rec.edges[1]
    with pytest.raises(KeyError, match=r"there are 0 edges from leaf to mul"):
        rec.edge("leaf", "mul")


def test_of_a_gradient_that_is_cancelled_there_are_no_shares():
    x = leaf([1.0, 2.0])
    with mg.record() as rec:
        (x - x).backward([1.0, 1.0])
    assert rec.status(rec["leaf"]) == "zero"
    assert all(math.isnan(e.share) for e in rec["leaf"].uses)


def test_the_ledger_sorts_and_filters(rng):
    model = small_model()
    with mg.record(model) as rec:
        train(model)
    ledger = rec.ledger()
    assert len(ledger) == len(rec.edges)
    cross = rec.ledger("decoder.layers.1.cross_attn.*")
    assert cross.columns == ("child", "parent", "argument", "norm", "share")
    assert 0 < len(cross) < len(ledger)
    assert all("decoder.layers.1.cross_attn." in row.child + row.parent for row in cross)
    norms = ledger.sort("norm").column("norm")
    assert norms == sorted(norms, reverse=True)
    share = rec.edge("decoder.layers.1.add_norm1.add_layer_norm", "decoder.layers.0.add_norm3.add_layer_norm").share
    name = "decoder.layers.1.add_norm1.add_layer_norm"
    [row] = [r for r in rec.ledger(name).where(name, "child") if r.argument == "x"]
    assert row.share == share


# ------------------------------------------------------------------------------------------------------ what it can say
def test_steps_know_what_they_were_given_and_where(rng):
    x, w = leaf(rng.standard_normal((2, 3))), leaf(rng.standard_normal((4, 3)))
    with mg.record() as rec:
        here = inspect.currentframe().f_lineno + 1
        y = mg.ops.linear(x, w, np.zeros(4))
        y.backward(rng.standard_normal((2, 4)))
    step = rec["linear"]
    assert [(a.name, a.shape, a.dtype, a.wanted) for a in step.arguments] == [
        ("x", (2, 3), np.float64, True),
        ("weight", (4, 3), np.float64, True),
        ("bias", (4,), np.float64, False),
    ]
    assert (step.source.file, step.source.line, step.source.function) == (
        __file__,
        here,
        inspect.currentframe().f_code.co_name,
    )
    assert step.source.text == "y = mg.ops.linear(x, w, np.zeros(4))"
    assert (step.shape, step.dtype, step.kind, rec["leaf"].kind) == ((2, 4), np.float64, "linear", "leaf")
    assert step.forward_seconds > 0
    assert step.backward_seconds > 0
    assert step.saved == 0  # both factors are leaves, and would be there anyway


def test_names_are_unique_and_those_of_the_model(rng):
    model = small_model(tie_weights=True)
    with mg.record(model, detail="definition") as rec:
        train(model)
    names = [rec.name(step) for step in rec.steps]
    assert len(set(names)) == len(names)
    assert all(rec[name] is step for name, step in zip(names, rec.steps, strict=True))
    assert {name for name, _ in model.named_parameters()} <= set(names)
    assert [rec.name(s) for s in rec.find("encoder.layers.0.add_norm1.add*")] == ["encoder.layers.0.add_norm1.add"]
    with pytest.raises(KeyError, match=r"no step 'encoder.layers.0.add'.*Near: .*add_norm"):
        rec["encoder.layers.0.add"]
    assert rec.path(nn.Linear(1, 1)) == "Linear"


def test_without_a_model_names_are_those_of_ops_and_classes(rng):
    layer = nn.Linear(3, 2)
    with mg.record() as rec:
        layer(mg.ones(1, 3))
    assert [rec.name(step) for step in rec.steps] == ["leaf", "leaf#2", "Linear.linear"]


def test_ops_that_ran_as_their_definition_are_known_as_calls():
    x = leaf(np.ones((2, 3)))
    with mg.record(detail="definition") as rec:
        mg.ops.log_softmax(mg.ops.softmax(x))
    inside = [[getattr(call.thing, "name", "?") for call in step.call or ()] for step in rec.steps[1:]]
    assert inside[:5] == [["softmax"]] * 5
    assert inside[5:] == [["logsumexp", "log_softmax"]] * (len(inside) - 6) + [["log_softmax"]]


def test_calls_of_one_module_are_counted(rng):
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    with mg.record(model) as rec:
        model(mg.ones(1, 3))
    calls = [(rec.name(s), s.call.number, s.call.parent.thing is model) for s in rec.steps if not s.is_leaf]
    assert calls == [("0.linear", 0, True), ("1.relu", 0, True), ("0.linear#2", 1, True)]


def test_bytes_that_are_kept_for_the_way_back_are_counted_once():
    x, w = leaf(np.ones((5, 4))), leaf(np.ones((4, 6)))
    with mg.record() as rec:
        y = (x @ w).exp()
        z = y * y
        z.backward(np.ones((5, 6)))
    kept = {step.kind: step.saved for step in rec.steps}
    assert kept == {"leaf": 0, "matmul": 0, "exp": 5 * 6 * 8, "mul": 0}  # y, by two steps


def test_memory_that_is_used_again_is_counted_again():
    """An array that is gone has an id that the next one may get."""
    x = leaf(np.ones(100))
    with mg.record() as rec:
        for _ in range(20):
            x.exp()
    assert [step.saved for step in rec.find("exp*")] == [800] * 20


def test_the_kernels_of_a_step_are_heard(either, rng):
    x = leaf(rng.standard_normal((3, 4)))
    with mg.record() as rec:
        (x.softmax(-1) @ leaf(np.ones((4, 2)))).backward(np.ones((3, 2)))
    assert rec["softmax"].kernels == ("softmax",)
    assert rec["softmax"].backward_kernels == ("softmax_vjp",)
    assert rec["matmul"].kernels == ("matmul",)
    assert rec["matmul"].backward_kernels == ("matmul", "matmul")


def test_what_became_of_a_gradient_is_told_apart():
    x, w, unused = leaf([1.0, -1.0]), leaf([1.0, 1.0]), leaf([1.0, 1.0])
    with mg.record() as rec:
        hidden = (x * w).exp()
        dead = mg.relu(-hidden)
        aside = unused * 2.0
        assert rec.status(rec["exp"]) == "not computed"
        (dead + 0 * aside.detach()).backward([1.0, 1.0])
    assert [rec.status(rec[name]) for name in ("relu", "exp", "leaf", "mul#2")] == [
        "reached",
        "zero",
        "zero",
        "not reached",
    ]


def test_a_graph_from_before_the_recording_is_known_but_not_recorded(rng):
    x = leaf([1.0, 2.0])
    before = x.exp()
    with mg.record() as rec:
        (before * 3.0).backward([1.0, 1.0])
    assert [(s.kind, s.outside) for s in rec.steps] == [("exp", True), ("mul", False), ("leaf", False)]
    assert rec["exp"].value.norm == pytest.approx(np.linalg.norm(np.exp([1, 2])))
    assert rec.edge("exp", "leaf").norm == pytest.approx(np.linalg.norm(3 * np.exp([1, 2])))


def test_of_several_backward_passes_the_last_one_counts():
    x = leaf([1.0, 2.0])
    with mg.record() as rec:
        y = x * 2.0
        y.backward([1.0, 0.0], retain_graph=True)
        first = rec.edge("mul", "leaf").norm
        (y * 3.0).backward([0.0, 5.0])
    assert (first, rec.edge("mul", "leaf").norm, rec.runs) == (2.0, 30.0, 2)
    assert rec.edge("mul#2", "mul").run == 2
    assert rec.root is rec["mul#2"]


def test_after_each_backward_pass_the_shares_sum_to_one():
    """Gradients are summed up over two sentences; a parameter has been used by both."""
    w = leaf([1.0, 2.0])
    with mg.record(keep="values") as rec:
        for factor in (2.0, 3.0):
            (w * factor + w).backward([1.0, 1.0])
    assert [(rec.name(e.child), e.run, e.share) for e in rec["leaf"].uses] == [
        ("mul", 1, None),
        ("add", 1, None),
        ("mul#2", 2, 0.75),
        ("add#2", 2, 0.25),
    ]
    assert rec.edge("mul", "leaf").norm is rec.edge("mul", "leaf").gradient is None
    assert rec.edge("add", "mul").share == 1.0  # the first pass was the last one that came to it


# -------------------------------------------------------------------------------------------------- what it holds on to
def test_a_recording_keeps_no_node_and_no_activation():
    gc.disable()
    try:
        x = leaf(np.ones(1000))
        with mg.record() as rec:
            y = x.exp()
            node, data = weakref.ref(y.node), weakref.ref(y.data)
            (y * 2).backward(np.ones(1000))
            del y
        assert node() is None
        assert data() is None
        assert rec["exp"].value.size == 1000
    finally:
        gc.enable()


def test_what_is_gone_is_not_taken_for_what_comes_after_it():
    """The id of a node that is gone may be that of a later one."""
    sizes = range(1, 21)
    with mg.record() as rec:
        for size in sizes:
            leaf(np.ones(size)).exp()
    assert [(e.parent.kind, e.parent.shape) for e in rec.edges] == [("leaf", (size,)) for size in sizes]


def test_values_are_kept_when_asked_for_as_copies_and_within_a_bound(rng):
    x = leaf(rng.standard_normal((10, 10)))
    with mg.record(keep="values", limit=5 * 800) as rec:
        y = x.exp() + x
        y.backward(np.ones((10, 10)))
    np.testing.assert_array_equal(rec["exp"].array, np.exp(x.data))
    assert rec["add"].gradient_array.shape == (10, 10)
    assert (rec["exp"].array is not y.data, rec.dropped) == (True, 3)  # six arrays, and two on the edges to x
    with mg.record() as rec:
        x.exp().backward(np.ones((10, 10)))
    assert (rec["exp"].array, rec["exp"].gradient_array, rec.dropped) == (None, None, 0)


def test_recording_ends_with_the_block_also_by_an_error():
    with pytest.raises(RuntimeError, match="enough"), mg.record(detail="definition") as rec:
        raise RuntimeError("enough")
    leaf(1.0).exp()
    assert rec.steps == []
    assert (core.state.observers, core.state.definitions) == ((), False)
    assert repr(rec).startswith("<Recording: 0 steps, 0 edges, 0 backward")


def test_recordings_nest_and_hear_their_own_thread_only():
    x = leaf(2.0)
    with mg.record() as outer:
        x.exp()
        with mg.record() as inner:
            x.sin()
        thread = threading.Thread(target=lambda: leaf(1.0).cos())
        thread.start()
        thread.join()
    assert [s.kind for s in outer.steps] == ["leaf", "exp", "sin"]
    assert [s.kind for s in inner.steps] == ["leaf", "sin"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"detail": "ops"}, r"record\(\): detail is 'ops'; it must be 'op' or 'definition'"),
        ({"keep": "all"}, r"record\(\): keep is 'all'; it must be 'stats' or 'values'"),
    ],
)
def test_settings_that_do_not_exist(arguments, message):
    with pytest.raises(ValueError, match=message), mg.record(**arguments):
        pass


def test_a_model_is_a_module():
    with pytest.raises(TypeError, match=r"record\(\): the model is a dict; give a Module"), mg.record({}):
        pass


# ----------------------------------------------------------------------------------------------------------- statistics
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (4097,), (2, 4096), (3, 1, 70)])
def test_statistics_of_arrays(shape, dtype, either, rng):
    x = np.asarray(rng.standard_normal(shape), dtype)
    x = np.where(rng.random(shape) < 0.2, dtype(0), x)
    for view in (x, x.T, x[..., ::2] if x.ndim else x):
        found = measured(view)
        wide = view.astype(np.float64)
        assert found.size == view.size
        assert (found.least, found.most) == (view.min(), view.max())
        assert found.zeros == (view == 0).sum()
        assert found.norm == pytest.approx(np.linalg.norm(wide.ravel()), rel=1e-12)
        assert found.mean == pytest.approx(wide.mean(), rel=1e-9, abs=1e-12)
        assert found.std == pytest.approx(wide.std(), rel=1e-9, abs=1e-9)
        assert found.rms == pytest.approx(np.sqrt((wide**2).mean()), rel=1e-12)
        assert found.all_zero == bool((view == 0).all())
        squares, product = kernels.products(view, 2 * view)
        assert (squares, product) == pytest.approx((found.squares, 2 * found.squares), rel=1e-12)


def test_statistics_tell_what_is_not_finite(either):
    x = np.array([[1.0, 2.0, np.nan], [-np.inf, 0.0, 5.0]], np.float32)
    found = measured(x)
    assert (found.nonfinite, found.first_nonfinite) == (2, (0, 2))
    assert (found.least, found.most, found.mean, found.zeros) == (0.0, 5.0, 2.0, 1)
    assert math.isnan(found.norm)
    assert all(math.isnan(value) for value in (measured(x[:0]).mean, measured(x[:0]).rms, measured(x[:0]).std))
    assert not measured(x[:0]).all_zero


def test_statistics_of_numbers_too_large_to_square(either):
    found = measured(np.array([1e200, -1e200]))
    assert (found.nonfinite, found.most) == (0, 1e200)


def test_sums_of_products_across_blocks_are_exact_for_whole_numbers(either, rng):
    x, y = (rng.integers(-9, 9, 10_001).astype(np.float32) for _ in range(2))
    whole = x.astype(int), y.astype(int)
    assert kernels.products(x, y) == ((whole[0] ** 2).sum(), (whole[0] * whole[1]).sum())
    assert kernels.products(x[:0], y[:0]) == (0, 0)


@pytest.mark.parametrize("threads", [1, 2])
def test_statistics_do_not_depend_on_threads(threads, several_threads, rng):
    x = rng.standard_normal(50_000).astype(np.float32)
    with kernels.use("numba"):
        kernels.set_num_threads(1)
        alone = kernels.statistics(x), kernels.products(x, x)
        kernels.set_num_threads(threads)
        assert (kernels.statistics(x), kernels.products(x, x)) == alone


# ------------------------------------------------------------------------------------------------- listening to kernels
def test_kernels_are_heard_in_their_thread_with_their_arrays(either):
    heard = []
    x = np.ones((2, 3))
    with kernels.listen(lambda name, seconds, *arrays: heard.append((name, seconds >= 0, arrays))):
        kernels.softmax(x, -1)
        thread = threading.Thread(target=lambda: kernels.softmax(x, 0))
        thread.start()
        thread.join()
    kernels.softmax(x, -1)
    assert [(name, timed) for name, timed, _ in heard] == [("softmax", True)]
    ((given, dim), (y,)) = heard[0][2]
    assert given is x
    assert (dim, y.shape) == (-1, x.shape)


def test_what_a_kernel_returns_for_the_way_back_is_heard_too(either, rng):
    q = rng.standard_normal((1, 1, 3, 4))
    heard = []
    with kernels.listen(lambda name, seconds, arguments, results: heard.append((name, arguments, len(results)))):
        _, vjp = kernels.attention(q, q, q, None, False, 1.0, 0.0, 0)
        vjp(q)
    vjp(q)
    given = (q, q, q, None, False, 1.0, 0.0, 0)
    assert heard == [("attention", given, 2), ("attention_vjp", (*given, q), 3)]


def test_the_choice_of_kernels_holds_while_somebody_listens():
    before = kernels.current()
    with kernels.listen(lambda *heard: None):
        with kernels.use("numpy"):
            assert kernels.current() == "numpy"
        with kernels.use("numba"):
            assert kernels.current() == "numba"
            assert kernels.softmax(np.zeros((1, 2)), -1).tolist() == [[0.5, 0.5]]
        assert kernels.current() == before
    assert kernels.current() == before
