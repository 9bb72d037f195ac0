"""Where the time of a recording went, and the timelines that are made of it. No test looks at how long something took:
a clock that only the test moves tells what belongs where."""

import json
from collections import Counter
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.op import op, registry
from minigrad.trace import KernelCall

from .models import sentences, small_model

recorder = import_module("minigrad.trace.record")  # the module; the name belongs to its function

LAYERS, D, FF, V = 2, 8, 12, 11
DETAILS = pytest.mark.parametrize("detail", ["op", "definition"])


def leaf(*shape):
    return mg.tensor(np.ones(shape, np.float32), requires_grad=True)


def recorded(rng, detail="op", passes=1):
    """One step of a Transformer, with as many backward passes."""
    model = small_model()
    src, tgt = sentences(rng, [5, 3]), sentences(rng, [4, 4], bos=True)
    with mg.record(model, detail=detail) as rec:
        loss = F.cross_entropy(model(src, tgt).flatten(0, -2), mg.tensor(tgt).flatten())
        for _ in range(passes):
            loss.backward(retain_graph=True)
    return rec


@pytest.fixture
def rec(rng):
    return recorded(rng)


class Clock:
    """Time that stands still unless somebody moves it on."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def move(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(recorder, "perf_counter", clock)
    monkeypatch.setattr("minigrad.kernels.heard.perf_counter", clock)
    before = recorder.measured
    monkeypatch.setattr(recorder, "measured", lambda x: clock.move(1000) or before(x))  # recording takes its time
    heard = recorder.KernelCall
    monkeypatch.setattr(recorder, "KernelCall", lambda *facts: clock.move(1000) or heard(*facts))
    return clock


@pytest.fixture
def slow(clock):
    """An op that takes 3 seconds forwards and 5 backwards."""

    @op
    def slow(x):
        """y = x"""

        def product(g):
            clock.move(5)
            return g

        clock.move(3)
        return x + 0, product

    yield slow
    del registry["slow"]


def row(table, name):
    return next(row for row in table if row.name == name)


# ------------------------------------------------------------------------------------------------------- what time is
def test_times_are_those_of_the_ops_and_not_of_the_recording(clock, slow):
    with mg.record() as rec:
        clock.move(7)
        y = slow(slow(leaf(2)))
        clock.move(11)
        y.backward(np.ones(2, np.float32))
        clock.move(13)
    assert rec.seconds == 7 + 3 + 3 + 11 + 5 + 5 + 13
    table = rec.profile()
    assert table[0][:6] == ("slow", 2, 16_000, 6_000, 10_000, 16 / 47)
    assert table[-1][:6] == ("(between steps)", None, 31_000, None, None, 31 / 47)
    assert [(x.name, x.calls, x.ms) for x in rec.profile("step")][:-1] == [("slow", 1, 8_000), ("slow#2", 1, 8_000)]


def test_the_times_of_all_backward_passes_are_summed_up(clock, slow):
    with mg.record() as rec:
        y = slow(leaf(2))
        y.backward(np.ones(2, np.float32), retain_graph=True)
        y.backward(np.ones(2, np.float32))
    assert rec.profile()[0][:5] == ("slow", 1, 13_000, 3_000, 10_000)
    assert rec["slow"].backward_seconds == 10


def test_what_happens_after_a_backward_pass_is_no_part_of_it(clock, slow):
    model = nn.Linear(2, 2)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    with mg.record(model) as rec:
        for _ in range(2):
            slow(model(mg.ones(1, 2))).sum().backward()
            optimizer.step()
            clock.move(100)
    assert sum(step.backward_seconds for step in rec.steps) == 2 * 5
    assert rec.profile()[-1].ms == 200_000


class Slowly(nn.Module):
    """2 seconds of its own, an op, and what is inside."""

    def __init__(self, clock, slow, inside=None):
        super().__init__()
        self.clock, self.slow, self.inside = clock, slow, inside

    def forward(self, x):
        self.clock.move(2)
        return self.slow(x if self.inside is None else self.inside(x))


def test_a_module_has_its_own_time_and_that_of_what_is_inside(clock, slow):
    model = Slowly(clock, slow, Slowly(clock, slow, Slowly(clock, slow)))
    with mg.record(model) as rec:
        model(leaf(2)).backward(np.ones(2, np.float32))
        clock.move(6)
    rows = [(r.name, r.calls, r.own_ms, r.ms, r.forward_ms, r.backward_ms) for r in rec.profile("module")]
    assert rows == [
        ("Slowly", 1, 10_000, 30_000, 15_000, 15_000),
        ("inside", 1, 10_000, 20_000, 10_000, 10_000),
        ("inside.inside", 1, 10_000, 10_000, 5_000, 5_000),
        ("(between)", None, 6_000, 6_000, None, None),
    ]
    assert [(r.name, r.calls, r.own_ms, r.ms) for r in rec.profile("module", depth=1)] == [
        ("Slowly", 1, 10_000, 30_000),
        ("inside", 1, 20_000, 20_000),
        ("(between)", None, 6_000, 6_000),
    ]


def test_a_module_that_calls_itself_is_there_once(clock, slow):
    class Again(Slowly):
        def forward(self, x, times=3):
            x = super().forward(x)
            return self(x, times - 1) if times > 1 else x

    with mg.record() as rec:
        Again(clock, slow)(leaf(2))
    assert rec.profile("module")[0][:4] == ("Again", 1, 15_000, 15_000)


def test_ops_of_which_no_gradient_is_wanted_take_time_too(clock, slow):
    with mg.record() as rec, mg.no_grad():
        slow(leaf(2))
    assert rec.profile()[0] == ("slow", 1, 3_000, 3_000, 0, 1, None, None, None, None)
    assert [x.name for x in rec.profile("step")] == ["(between steps)"]


def test_an_op_that_ran_as_its_definition_is_what_happened_between_its_steps():
    with mg.record(detail="definition") as rec:
        leaf(2, 3).softmax(-1)
    assert set(rec.profile().column("name")) == {"amax", "sub", "exp", "sum", "div", "(between steps)"}


def test_steps_from_before_the_recording_pass_gradients_back_in_it(clock, slow):
    y = slow(leaf(2))
    with mg.record() as rec:
        y.backward(np.ones(2, np.float32))
    assert rec.profile()[0][:5] == ("slow", 0, 5_000, 0, 5_000)


def test_kernels_have_their_share(clock, monkeypatch):
    def slow_softmax(x, dim):
        clock.move(4)
        return x

    with mg.kernels.use("numpy"):
        monkeypatch.setattr(mg.kernels.reference, "softmax", slow_softmax)
        with mg.record() as rec:
            leaf(5, 6).softmax(-1)
            leaf(5).softmax(-1)
            clock.move(2)
    assert [(call.start, call.seconds) for call in rec.kernel_calls] == [(0, 4), (4, 4)]
    softmax, rest = rec.profile("kernel")
    assert softmax[:6] == ("softmax", 2, 8_000, 0.8, 4e6, 4e6)
    assert softmax[6:] == (4 * 35, 4 * 35 / 8e9, 5 * 35, 5 * 35 / 8e9)  # x is the result: its bytes are counted once
    assert rest == ("(outside of kernels)", None, 2_000, 0.2, *[None] * 6)


# ---------------------------------------------------------------------------------------------------- what adds up
@DETAILS
@pytest.mark.parametrize("by", ["op", "step", "kernel"])
def test_shares_add_up_to_one(rng, detail, by):
    table = recorded(rng, detail).profile(by)
    assert sum(table.column("share")) == pytest.approx(1)
    assert min(table.column("ms")) >= 0


@DETAILS
def test_the_own_times_of_modules_add_up_and_what_is_inside_is_never_longer(rng, detail):
    rec = recorded(rng, detail)
    table = rec.profile("module")
    assert sum(table.column("own_ms")) == pytest.approx(1e3 * rec.seconds)
    assert all(r.ms >= r.own_ms - 1e-9 >= -1e-9 for r in table)
    for r in table:
        inside = [x.ms for x in table if x.name.startswith(f"{r.name}.") and "." not in x.name[len(r.name) + 1 :]]
        assert r.ms >= max(inside, default=0) - 1e-9
    ends = [r for r in table if r.name in ("Transformer", "(outside of modules)", "(between)")]
    assert sum(r.ms for r in ends) == pytest.approx(1e3 * rec.seconds)
    cut = rec.profile("module", depth=1)
    assert sum(cut.column("own_ms")) == pytest.approx(1e3 * rec.seconds)
    assert {r.name for r in cut} == {r.name.split(".")[0] for r in table}
    assert row(cut, "encoder").ms >= row(table, "encoder").ms - 1e-9


def test_calls_are_counted(rec):
    ops = {r.name: r.calls for r in rec.profile()}
    boxes = [ops[name] for name in ("multi_head_attention", "feed_forward", "add_layer_norm", "cross_entropy")]
    assert boxes == [3 * LAYERS, 2 * LAYERS, 5 * LAYERS, 1]
    assert len(rec.profile("step")) - 1 == sum(not step.is_leaf for step in rec.steps)
    modules = {r.name: r.calls for r in rec.profile("module")}
    assert modules["Transformer"] == modules["decoder.layers.1.cross_attn"] == 1
    heard = Counter(name for step in rec.steps for name in (*step.kernels, *step.backward_kernels))
    assert {r.name: r.calls for r in rec.profile("kernel")[:-1]} == heard


def test_a_module_that_is_called_twice_counts_twice():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    with mg.record(model) as rec:
        model(mg.ones(1, 3))
    assert [(r.name, r.calls) for r in rec.profile("module")] == [
        ("Sequential", 1),
        ("0", 2),
        ("1", 1),
        ("(between)", None),
    ]


# ------------------------------------------------------------------------------------------------ bytes and operations
def test_sizes_and_operations_are_exact():
    a, b = leaf(3, 4), leaf(4, 5)
    with mg.record() as rec:
        (a @ b).exp().backward(np.ones((3, 5), np.float32))
    matmul, exp = row(rec.profile(), "matmul"), row(rec.profile(), "exp")
    assert (matmul.nbytes, matmul.kept, matmul.flops) == (4 * (12 + 20 + 15), 0, 3 * 2 * 60)
    assert (exp.nbytes, exp.kept, exp.flops) == (4 * 30, 4 * 15, 2 * 15)
    assert matmul.gflops_per_s == pytest.approx(360 / (matmul.ms * 1e6))


def test_every_way_back_counts(rng):
    once, twice = recorded(rng), recorded(rng, passes=2)
    forward = sum(step.flops for step in once.steps)
    total = row(once.profile("module"), "Transformer").flops + row(once.profile(), "cross_entropy").flops
    assert sum(r.flops or 0 for r in once.profile("step")) == pytest.approx(total, abs=total / 100)
    flops = [sum(r.flops or 0 for r in rec.profile()) for rec in (once, twice)]
    assert flops[1] - flops[0] == flops[0] - forward


def test_matrix_products_of_a_transformer(rng):
    """2 M K N for each product; the way back has two for each one forwards."""
    B, S, T = 2, 5, 4
    source, target = B * S, B * T
    encoder = source * (4 * D * D + 2 * D * FF) + 2 * B * S * S * D
    decoder = (
        target * (4 * D * D + 2 * D * FF)
        + 2 * B * T * T * D
        + (2 * target + 2 * source) * D * D  # cross-attention
        + 2 * B * T * S * D
    )
    products = 2 * (LAYERS * (encoder + decoder) + target * D * V)
    assert row(recorded(rng, "definition").profile(), "matmul").flops == 3 * products


def test_modules_have_the_operations_of_their_steps(rec):
    table = rec.profile("module")
    steps = [step for step in rec.steps if rec.name(step).startswith("encoder.layers.1.")]
    expected = sum(s.flops + s.backward_flops for s in steps)
    assert row(table, "encoder.layers.1").flops == expected
    assert row(table, "encoder.layers.1").kept == sum(s.saved for s in steps)
    assert row(table, "encoder").flops == row(table, "encoder.layers.0").flops + expected


def test_an_op_that_nobody_counted_has_no_operations_but_its_module_has_those_of_others(slow):
    with mg.record() as rec:
        slow(leaf(2)).exp()
    assert row(rec.profile(), "slow").flops is None
    assert row(rec.profile("module"), "(outside of modules)").flops == 2


# ------------------------------------------------------------------------------------------------------------ mistakes
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "line"}, r"profile\(\): by is 'line'; it must be 'op', 'module', 'kernel', 'step'. Try by='op'."),
        ({"by": "op", "depth": 1}, r"profile\(\): depth is 1, by is 'op'; it cuts paths. Try by='module', depth=1."),
        ({"by": "module", "depth": 0}, r"profile\(\): depth is 0, by is 'module'"),
    ],
)
def test_what_cannot_be_asked_for(rec, settings, message):
    with pytest.raises(ValueError, match=message):
        rec.profile(**settings)


@pytest.mark.parametrize("who", ["profile", "save_trace", "save_speedscope"])
def test_a_recording_must_have_ended(tmp_path, who):
    with (
        mg.record() as rec,
        pytest.raises(RuntimeError, match=rf"{who}\(\): no time has been recorded yet. Ask after the `with record"),
    ):
        getattr(rec, who)(*([] if who == "profile" else [tmp_path / "file"]))


def test_nothing_was_recorded(tmp_path):
    with mg.record() as rec:
        pass
    assert [[r.name for r in rec.profile(by)] for by in ("op", "module", "kernel")] == [
        ["(between steps)"],
        ["(between)"],
        ["(outside of kernels)"],
    ]
    assert checked_trace(rec.save_trace(tmp_path / "trace.json")) == [[], []]
    assert checked_speedscope(rec.save_speedscope(tmp_path / "speedscope.json")) == [[], []]


# ----------------------------------------------------------------------------------------------------------- timelines
def checked_trace(path):
    """The events of each track as (path of names, event), by the rules of the format and those of nesting."""
    content = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    tracks = [[], []]
    for event in content["traceEvents"]:
        assert event["ph"] in "XM"
        assert {"name", "ph", "pid", "tid", "args"} <= set(event)
        if event["ph"] == "X":
            assert min(event["ts"], event["dur"]) >= 0
            tracks[event["tid"] - 1].append(event)
    names = [e["args"]["name"] for e in content["traceEvents"] if e["name"] == "thread_name"]
    assert names == ["forward", "backward"]
    result = []
    for events in tracks:
        assert all(a["ts"] <= b["ts"] for a, b in pairwise(events))
        result.append([])
        around = []
        for event in events:
            while around and around[-1]["ts"] + around[-1]["dur"] < event["ts"] + 5e-4:  # half of the last digit
                around.pop()
            if around:
                assert event["ts"] + event["dur"] <= around[-1]["ts"] + around[-1]["dur"] + 5e-4
            result[-1].append(([e["name"] for e in around] + [event["name"]], event))
            around.append(event)
    return result


def checked_speedscope(path):
    """The frames that each profile opens, as paths of names, by the rules of the schema."""
    content = json.loads(path.read_text())
    assert content["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames = content["shared"]["frames"]
    assert len({json.dumps(frame) for frame in frames}) == len(frames)
    assert all(set(frame) <= {"name", "file", "line", "col"} and isinstance(frame["name"], str) for frame in frames)
    assert 0 <= content["activeProfileIndex"] < len(content["profiles"])
    result = []
    for profile in content["profiles"]:
        assert set(profile) == {"type", "name", "unit", "startValue", "endValue", "events"}
        assert (profile["type"], profile["unit"]) == ("evented", "microseconds")
        at, around, paths = profile["startValue"], [], []
        for event in profile["events"]:
            assert set(event) == {"type", "at", "frame"}
            assert event["at"] >= at
            at = event["at"]
            if event["type"] == "O":
                around.append(event["frame"])
                paths.append([frames[frame]["name"] for frame in around])
            else:
                assert event["type"] == "C"
                assert around.pop() == event["frame"]
        assert not around
        assert profile["endValue"] >= at
        result.append(paths)
    return result


@DETAILS
def test_timelines_keep_the_rules_of_their_formats(rng, tmp_path, either, detail):
    rec = recorded(rng, detail, passes=2)
    trace = checked_trace(rec.save_trace(tmp_path / "trace.json"))
    frames = checked_speedscope(rec.save_speedscope(tmp_path / "speedscope.json"))
    kernels = [event for track in trace for _, event in track if event["cat"] == "kernel"]
    assert len(kernels) == len(rec.kernel_calls)
    ops = [event for _, event in trace[1] if event["cat"] == "op" and event["args"]]
    assert len(ops) == len(rec.ways_back)
    assert [event["name"] for _, event in trace[1] if event["cat"] == "pass"] == ["backward 1", "backward 2"]
    assert [len(track) for track in frames] == [len(track) for track in trace]


def test_modules_hold_ops_and_ops_hold_kernels(rec, tmp_path, either):
    forward, backward = checked_trace(rec.save_trace(tmp_path / "trace.json"))
    around = ["Transformer", "decoder (Decoder)", "decoder.layers.1 (DecoderLayer)"]
    around += ["decoder.layers.1.add_norm3 (AddNorm)", "decoder.layers.1.ffn (FeedForward)"]
    assert [*around, "feed_forward", "bias_activation"] in [path for path, _ in forward]
    assert ["backward 1", *around, "feed_forward vjp", "bias_activation_vjp"] in [path for path, _ in backward]
    speedscope = checked_speedscope(rec.save_speedscope(tmp_path / "speedscope.json"))
    assert speedscope == [[path for path, _ in track] for track in (forward, backward)]


def test_a_timeline_tells_the_times_and_the_facts(clock, slow, tmp_path):
    x = leaf(2, 3)
    with mg.record() as rec:
        clock.move(1)
        y = slow(x).softmax(dim=-1)
        clock.move(2)
        y.backward(np.ones((2, 3), np.float32))
    forward, backward = checked_trace(rec.save_trace(tmp_path / "trace.json"))
    _, event = forward[0]
    assert (event["name"], event["ts"], event["dur"]) == ("slow", 1e6, 3e6)
    assert event["args"]["x"] == event["args"]["result"] == "(2, 3) float32"
    assert event["args"]["flops"] is None
    assert event["args"]["source"].startswith(__file__)
    _, event = forward[1]
    assert (event["name"], event["args"]["dim"], event["args"]["flops"]) == ("softmax", "-1", 5 * 6)
    assert event["args"]["bytes"] == 2 * 6 * 4
    ways = {e["name"]: (e["ts"], e["dur"], e["args"]["flops"]) for _, e in backward if e["cat"] == "op"}
    assert ways == {"softmax vjp": (6e6, 0, 4 * 6), "slow vjp": (6e6, 5e6, None)}


def test_a_pass_ends_the_modules_of_the_one_before(clock, slow, tmp_path):
    model = Slowly(clock, slow, Slowly(clock, slow))
    with mg.record(model) as rec:
        y = model(leaf(2))
        for _ in range(2):
            y.backward(np.ones(2, np.float32), retain_graph=True)
            clock.move(1)
    _, backward = checked_trace(rec.save_trace(tmp_path / "trace.json"))
    once = [("Slowly", 10), ("slow vjp", 5), ("inside (Slowly)", 5), ("slow vjp", 5)]
    assert [(e["name"], e["dur"] / 1e6) for _, e in backward] == [("backward 1", 10), *once, ("backward 2", 10), *once]


def test_what_lies_within_a_call_ends_with_it_whatever_the_clock_says(clock, slow, tmp_path):
    with mg.record() as rec:
        slow(leaf(2))
        clock.move(1)
    rec.kernel_calls.append(KernelCall("late", 1.0, 2.5, 0, None))
    forward, _ = checked_trace(rec.save_trace(tmp_path / "trace.json"))
    assert [(path, event["dur"]) for path, event in forward] == [(["slow"], 3e6), (["slow", "late"], 2e6)]


def test_a_file_is_the_same_each_time(rec, tmp_path):
    for save in (rec.save_trace, rec.save_speedscope):
        a, b = save(tmp_path / "a.json"), save(str(tmp_path / "b.json"))
        assert a.read_bytes() == b.read_bytes()
