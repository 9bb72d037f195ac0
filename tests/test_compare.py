"""Two recordings side by side: what differs is told, and nothing else."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minitransformer import Transformer
from tests.models import sentences, small_config

TOKENS = np.random.default_rng(5)
SOURCE = sentences(TOKENS, [6, 4, 5])
TARGET = sentences(TOKENS, [5, 5, 3], bos=True)


def recorded(detail="op", factor=1.0, backward=True, **changes):
    """A training step of a small model in float64 that starts from the same place."""
    mg.manual_seed(0)
    model = Transformer(small_config(**changes)).double()
    with mg.record(model, detail=detail) as rec:
        loss = F.cross_entropy(model(SOURCE, TARGET).flatten(0, 1), TARGET.reshape(-1), ignore_index=0)
        if backward:
            loss.backward(np.array(factor))
    return rec


def run(function, *shapes, g=None):
    """function(*leaves) without a model, from a random cotangent."""
    rng = np.random.default_rng(3)
    leaves = [mg.tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes]
    with mg.record() as rec:
        y = function(*leaves)
        y.backward(rng.normal(size=y.shape) if g is None else g)
    return rec


def statuses(comparison):
    return [(row.name, row.status) for row in comparison.table()]


def changed_edges(comparison):
    return {(row.change, row.child, row.parent, row.argument) for row in comparison.edges()}


# ------------------------------------------------------------------------------------------------------ nothing differs
@pytest.mark.parametrize("detail", ["op", "definition"])
def test_the_same_run_twice_differs_in_nothing(detail, either):
    a, b = recorded(detail), recorded(detail)
    for comparison in (mg.compare(a, b), mg.compare(a, a)):
        table = comparison.table()
        assert len(table) == len(a.steps)
        assert table.column("name") == [a.name(step) for step in a.steps]
        assert set(table.column("status")) == {"both"}
        assert set(table.column("change")) == {0.0}
        assert set(table.column("value_change")) <= {0.0, None}
        assert len(comparison.edges()) == 0
        modules = comparison.modules()
        assert {0.0, None} >= {*modules.column("parameters_change"), *modules.column("output_change")}
        assert repr(comparison) == f"<Comparison: nothing differs in {len(a.steps)} steps and {len(a.edges)} edges>"


def test_without_a_backward_pass_values_are_compared():
    comparison = mg.compare(recorded(backward=False), recorded(backward=False))
    assert set(comparison.table().column("change")) == {None}
    assert set(comparison.table().column("value_change")) == {0.0}
    assert "nothing differs" in repr(comparison)
    assert "nothing differs" not in repr(mg.compare(recorded(), recorded(backward=False)))


# ------------------------------------------------------------------------------------------------------------ gradients
@pytest.mark.parametrize("factor", [10.0, 0.001])
def test_the_factor_of_the_loss_is_the_change_of_every_gradient(factor):
    comparison = mg.compare(recorded(), recorded(factor=factor))
    table = comparison.table()
    noise = [row for row in table if row.name.endswith("k_proj.bias")]  # a softmax does not feel it: its gradient is 0
    assert max(row.norm_a for row in noise) < 1e-15 * max(table.column("norm_a"))
    felt = [row.change for row in table if row not in noise]
    assert len(felt) == len(table) - 6
    np.testing.assert_allclose(felt, math.log10(factor), rtol=1e-9)
    assert set(table.column("value_change")) == {0.0}
    modules = comparison.modules()
    for column in ("parameters_change", "output_change"):
        np.testing.assert_allclose([c for c in modules.column(column) if c is not None], math.log10(factor), rtol=1e-9)
    assert f"{len(table)} of them differ" in repr(comparison)
    assert repr(comparison).count(f"\n  {math.log10(factor):+.3f}  ") == 5


def test_a_change_is_that_of_norms(rng):
    x = rng.normal(size=(4, 3))
    g = rng.normal(size=(4, 2))
    results = []
    for size in (1.0, 3.0):
        mg.manual_seed(1)
        model = nn.Linear(3, 2).double()
        with mg.record(model) as rec:
            (model(mg.tensor(x * size)) * g).sum().backward()
        results.append((rec, model))
    comparison = mg.compare(*[rec for rec, _ in results])
    (row,) = comparison.table("weight")
    norms = [np.linalg.norm(model.weight.grad.data) for _, model in results]
    np.testing.assert_allclose([row.norm_a, row.norm_b], norms, rtol=1e-12)
    assert row.change == pytest.approx(math.log10(3))
    assert comparison.table("bias")[0].change == 0.0
    (row,) = comparison.table("linear")
    values = [
        x * size @ model.weight.data.T + model.bias.data for size, (_, model) in zip((1, 3), results, strict=True)
    ]
    assert row.value_change == pytest.approx(math.log10(np.linalg.norm(values[1]) / np.linalg.norm(values[0])))
    assert comparison.table().sort("change")[0].name == "weight"


def test_values_alone_may_differ():
    comparison = mg.compare(run(lambda x: x + 1.0, (3,)), run(lambda x: x + 2.0, (3,)))
    assert set(comparison.table().column("change")) == {0.0}
    assert repr(comparison).startswith("<Comparison: 2 steps in both, 1 of them differ;")


def test_the_largest_changes_come_first():
    a = run(lambda x: (x.exp() * x.tanh()).sum(0).sin(), (4, 3))
    b = run(lambda x: (x.exp() * x.tanh() * x.tanh()).sum(0).sin(), (4, 3))
    comparison = mg.compare(a, b)
    largest = sorted([row for row in comparison.table() if row.change], key=lambda row: -abs(row.change))[:5]
    assert len(largest) == 5
    assert repr(comparison).rstrip(">").split("\n")[1:] == [f"  {row.change:+.3f}  {row.name}" for row in largest]


@pytest.mark.parametrize(
    ("a", "b", "change"),
    [
        (0.0, 0.0, 0.0),
        (0.0, 2.0, math.inf),
        (2.0, 0.0, -math.inf),
        (math.nan, 2.0, math.nan),
        (0.0, math.nan, math.nan),
    ],
)
def test_zero_and_nan(a, b, change):
    a, b = [run(lambda x: x * 1.0, (3,), g=np.full(3, g)) for g in (a, b)]
    table = mg.compare(a, b).table()
    np.testing.assert_equal(table.column("change"), [change, change])
    text = repr(mg.compare(a, b))
    assert ("nothing differs" in text) == (change == 0)
    assert (f"\n  {change:+.3f}  leaf" in text) == (change != 0)


def test_norms_of_any_size():
    a, b = [run(lambda x: x * 1.0, (1,), g=np.array([g])) for g in (1e150, 1e-150)]
    assert mg.compare(a, b).table()[0].change == pytest.approx(-300)


# ----------------------------------------------------------------------------------------------------------- alignment
def test_what_was_put_in_between_is_all_that_is_new():
    a = run(lambda x: (x + 1).exp() + 2, (3,))
    b = run(lambda x: (x + 1).tanh().exp() + 2, (3,))
    comparison = mg.compare(a, b)
    assert statuses(comparison) == [
        ("leaf", "both"),
        ("add", "both"),
        ("tanh", "only b"),
        ("exp", "both"),
        ("add#2", "both"),
    ]
    assert changed_edges(comparison) == {
        ("removed", "exp", "add", "x"),
        ("added", "exp", "tanh", "x"),
        ("added", "tanh", "add", "x"),
    }
    swapped = mg.compare(b, a)
    assert ("tanh", "only a") in statuses(swapped)
    assert {(row.change, row.child) for row in swapped.edges()} == {
        ("added", "exp"),
        ("removed", "exp"),
        ("removed", "tanh"),
    }
    tanh = comparison.table("tanh")[0]
    assert (tanh.norm_a, tanh.change) == (None, None)
    assert tanh.norm_b > 0


def test_later_numbers_move_up_without_being_new():
    a = run(lambda x: (x * 2).exp() * 3, (3,))
    b = run(lambda x: x.exp() * 3, (3,))
    comparison = mg.compare(a, b)
    assert statuses(comparison) == [("leaf", "both"), ("mul", "only a"), ("exp", "both"), ("mul#2", "both")]
    assert comparison.table("mul#2")[0].change == 0.0


def test_an_edge_is_told_by_its_argument():
    a = run(lambda x, y: x.exp() - y.tanh(), (3,), (3,))
    b = run(lambda x, y: (lambda e, t: t - e)(x.exp(), y.tanh()), (3,), (3,))
    assert changed_edges(mg.compare(a, b)) == {
        ("removed", "sub", "exp", "a"),
        ("removed", "sub", "tanh", "b"),
        ("added", "sub", "exp", "b"),
        ("added", "sub", "tanh", "a"),
    }
    twice = run(lambda x: (lambda e: e + e)(x.exp()), (3,))
    once = run(lambda x: x.exp() + 1.0, (3,))
    assert changed_edges(mg.compare(twice, once)) == {("removed", "add", "exp", "b")}


def test_the_order_in_which_parameters_are_made_or_used_does_not_matter(rng):
    x, weights = rng.normal(size=(4, 3)), rng.normal(size=(2, 3, 3))

    class Both(nn.Module):
        def __init__(self, order):
            super().__init__()
            for name in order:
                setattr(self, name, nn.Parameter(mg.tensor(weights["ab".index(name)])))
            self.order = order

        def forward(self, x):
            products = {name: x @ getattr(self, name) for name in self.order}
            return products["a"].exp() + products["b"]

    recordings = []
    for order in ("ab", "ba"):
        model = Both(order)
        with mg.record(model) as rec:
            y = model(mg.tensor(x))
            y.backward(np.ones_like(x) + x**2)
        recordings.append(rec)
    table = mg.compare(*recordings).table()
    changes = {row.name: row.change for row in table}
    assert changes["a"] == changes["b"] == 0.0
    assert set(table.column("status")) == {"both"}


# -------------------------------------------------------------------------------------------- variants of a Transformer
def test_without_residuals_the_edges_of_the_additions_are_gone():
    a, b = recorded("definition"), recorded("definition", residual=False)
    comparison = mg.compare(a, b)
    additions = {row.step for row in a.residuals()}
    assert len(additions) == 2 * 2 + 2 * 3
    only = [row.name for row in comparison.table() if row.status != "both"]
    assert set(only) == additions
    assert {row.status for row in comparison.table() if row.name in additions} == {"only a"}
    removed = comparison.edges().where("removed")
    expected = {
        (a.name(e.child), a.name(e.parent), e.argument)
        for e in a.edges
        if {a.name(e.child), a.name(e.parent)} & additions
    }
    assert {row[1:4] for row in removed} == expected
    identities = removed.where("a", "argument").where("*.add", "child")
    assert {row.child for row in identities} == additions
    # what used the sum uses the branch instead
    branches = {a.name(e.parent) for e in a.edges if a.name(e.child) in additions and e.argument == "b"}
    added = comparison.edges().where("added")
    assert {row.parent for row in added} == branches
    text = repr(comparison)
    assert f"{len(additions)} only in a, 0 only in b; {len(removed)} edges removed, {len(added)} added" in text


def test_without_the_scale_the_scores_are_larger_by_it():
    """Of the heads of size 4 by sqrt(4); with another scale nothing is added to the graph nor taken from it."""
    comparison = mg.compare(recorded("definition"), recorded("definition", attention_scale="none"))
    assert set(comparison.table().column("status")) == {"both"}
    assert len(comparison.edges()) == 0
    first = "encoder.layers.0.self_attn"
    values = {row.name: row.value_change for row in comparison.table(f"{first}.*")}
    assert values[f"{first}.q_proj.add"] == values[f"{first}.score.matmul"] == 0.0
    assert values[f"{first}.score.mul"] == pytest.approx(math.log10(2))
    assert all(row.change > 0 for row in comparison.table(f"{first}.q_proj.*"))
    assert "k_proj.bias" not in repr(comparison)
    assert repr(comparison).count("\n") == 5


def test_pre_and_post_norm_are_compared_by_module():
    a, b = recorded(), recorded(norm_first=True)
    comparison = mg.compare(a, b)
    modules = {row.module: row for row in comparison.modules()}
    assert {row.status for row in comparison.table("*.add_layer_norm")} == {"only a"}
    assert {row.status for row in comparison.table("*.weight") if "layers" in row.name} == {"both"}
    for side, rec, column in ((a, a, "parameters_a"), (b, b, "parameters_b")):
        assert side is rec
        for path in ("", "encoder.layers.1", "decoder.layers.0.self_attn", "generator"):
            module = rec.model if path == "" else dict(rec.model.named_modules())[path]
            norm = math.sqrt(sum(float((p.grad.data**2).sum()) for p in module.parameters()))
            assert getattr(modules[path], column) == pytest.approx(norm, rel=1e-9)
    row = modules["encoder.layers.0"]
    assert row.parameters_change == pytest.approx(math.log10(row.parameters_b / row.parameters_a))
    assert row.output_a == pytest.approx(a["encoder.layers.0.add_norm2.add_layer_norm"].gradient.norm)
    assert row.output_b == pytest.approx(b["encoder.layers.0.add_norm2.add"].gradient.norm)
    assert row.output_change == pytest.approx(math.log10(row.output_b / row.output_a))
    norm = modules["encoder.norm"]
    assert (norm.parameters_a, norm.parameters_change, norm.output_a) == (None, None, None)
    assert norm.parameters_b > 0


def test_depth_says_how_far_down(rng):
    comparison = mg.compare(recorded(), recorded(factor=2.0))
    for depth in (0, 1, 2, 3):
        paths = comparison.modules(depth).column("module")
        assert max(len(path.split(".")) if path else 0 for path in paths) == depth
    assert comparison.modules(0).column("module") == [""]
    assert len(comparison.modules()) > len(comparison.modules(3))


# -------------------------------------------------------------------------------------------------------------- errors
def test_recordings_of_different_detail_are_refused():
    with pytest.raises(ValueError, match=r"compare\(\): a has detail 'op', b has 'definition'; .*Record both"):
        mg.compare(recorded(), recorded("definition"))


@pytest.mark.parametrize(("position", "name"), [(0, "a"), (1, "b")])
def test_something_else_is_refused(position, name):
    given = [run(lambda x: x * 2, (2,))] * 2
    given[position] = 3
    with pytest.raises(TypeError, match=rf"compare\(\): {name} is a int; give what `with record\(\) as` gave"):
        mg.compare(*given)


def test_modules_need_a_model():
    a = run(lambda x: x * 2, (2,))
    with pytest.raises(ValueError, match=r"modules\(\): a was recorded without a model; use record\(model\)"):
        mg.compare(a, a).modules()
