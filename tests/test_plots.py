"""Figures of recordings: what is drawn is what was recorded, and what cannot be drawn is said in words."""

import math
import re
import sys

import matplotlib as mpl
import numpy as np
import pytest

import minigrad as mg
from minigrad import draw, nn
from minigrad.trace import crossing_shares, record
from tests.models import sentences, small_model


def recorded(model, *inputs, seed=0):
    """A recording of a pass through the model, with a random cotangent."""
    with record(model) as rec:
        output = model(*inputs)
        output.backward(mg.from_numpy(np.random.default_rng(seed).standard_normal(output.shape)).type_as(output))
    return rec


def transformer(rng, **changes):
    return recorded(small_model(**changes), sentences(rng, [5, 3]), sentences(rng, [4, 6], bos=True))


class Block(nn.Module):
    """x + factor x, and perhaps another use of x."""

    is_residual = True

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x + x * self.factor


class Twice(Block):
    def forward(self, x):
        return super().forward(x).exp() * x.sin()


def blocks(*factors, kind=Block):
    x = mg.tensor([[1.0, -2.0, 0.5]], dtype=mg.float64, requires_grad=True)
    return recorded(nn.Sequential(*[kind(factor) for factor in factors]), x)


def crossed(*factors):
    """Shares of the gradient of x, by branches."""
    x = mg.tensor([[1.0, -2.0, 0.5]], dtype=mg.float64, requires_grad=True)
    return crossing_shares(nn.Sequential(*map(Block, factors))(x), x, [[1.0, 2.0, 3.0]])


def texts(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def row_of(table, layer):
    return next(row for row in table if row.layer == layer)


def bars(axes, label):
    """(start, length) of the bars of a container, up or to the right."""
    (container,) = [c for c in axes.containers if c.get_label() == label]
    level = container.orientation == "horizontal"
    return [(p.get_x(), p.get_width()) if level else (p.get_x() + p.get_width() / 2, p.get_height()) for p in container]


# ------------------------------------------------------------------------------------------------------ gradient flow
def test_flow_is_the_norms_of_the_gradients_that_the_parameters_have(rng):
    rec = transformer(rng)
    plot = draw.gradient_flow({"post": rec})
    table = plot.numbers["post"]
    norms = {}
    for name, parameter in rec.model.named_parameters():
        layer = re.match(r"(\w+\.layers\.\d+|\w+)", name)[1]
        norms.setdefault(layer, []).append(np.linalg.norm(parameter.grad.numpy()))
    assert table.column("layer") == [
        "src_embed",
        "encoder.layers.0",
        "encoder.layers.1",
        "tgt_embed",
        "decoder.layers.0",
        "decoder.layers.1",
        "generator",
    ]
    for row in table:
        drawn = np.array([norm for norm in norms[row.layer] if norm > 0])
        assert row.parameters == len(norms[row.layer])
        expected = drawn.min(), np.median(drawn), drawn.max()
        np.testing.assert_allclose((row.least, row.median, row.most), expected, rtol=1e-9)
    last = max((step for step in rec.steps if step.kind == "linear"), key=lambda step: step.serial)
    assert table[-1].activation == last.gradient.norm
    returned = rec["encoder.layers.1.add_norm2.add_layer_norm"]
    assert row_of(table, "encoder.layers.1").activation == returned.gradient.norm
    axes = plot.figure.axes[0]
    assert tick_labels(axes.xaxis) == table.column("layer")
    medians, activations, _ = axes.lines
    np.testing.assert_array_equal(medians.get_ydata(), table.column("median"))
    np.testing.assert_array_equal(activations.get_ydata(), table.column("activation"))
    ranges = np.array([path.vertices[:, 1] for path in axes.collections[0].get_paths()])
    np.testing.assert_array_equal(ranges, list(zip(table.column("least"), table.column("most"), strict=True)))


def test_flow_by_sublayers(rng):
    layers = draw.gradient_flow(transformer(rng, norm_first=True), "sublayer").numbers["Transformer"].column("layer")
    assert layers[:4] == [
        "src_embed",
        "encoder.layers.0.add_norm1",
        "encoder.layers.0.self_attn",
        "encoder.layers.0.add_norm2",
    ]
    assert layers[-2:] == ["decoder.norm", "generator"]


def test_two_recordings_share_one_axis_of_layers(rng):
    recs = {"pre-norm": transformer(rng, norm_first=True), "post-norm": transformer(rng)}
    plot = draw.gradient_flow(recs)
    axes = plot.figure.axes[0]
    pre, post = (plot.numbers[name].column("layer") for name in recs)
    assert tick_labels(axes.xaxis) == pre
    assert set(pre) - set(post) == {"encoder.norm", "decoder.norm"}
    markers = {line.get_label(): line for line in axes.lines}
    x = markers["post-norm: activations"].get_xdata()
    np.testing.assert_allclose(x, [pre.index(layer) + 0.1 for layer in post])
    assert markers["pre-norm: activations"].get_marker() != markers["post-norm: activations"].get_marker()
    other_way = draw.gradient_flow(dict(reversed(recs.items())))
    assert tick_labels(other_way.figure.axes[0].xaxis) == pre


class Odd(nn.Module):
    """Layers of which one gets a gradient of 0, one NaN, one none, and one is frozen."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(5))
        self.layers[4].requires_grad_(False)

    def forward(self, x):
        well, zero, lost, _, frozen = self.layers
        y = well(x) + zero(x) * 0.0 + frozen(x)
        return y if self.training else y + lost(x) * math.nan


def test_what_a_logarithmic_axis_cannot_show_is_said(rng):
    model, x = Odd(), mg.from_numpy(rng.standard_normal((3, 2)).astype(np.float32))
    plot = draw.gradient_flow(recorded(model.eval(), x))
    rows = {row.layer: row for row in plot.numbers["Odd"]}
    assert list(rows) == ["layers.0", "layers.1", "layers.2", "layers.3"]
    assert (rows["layers.0"].parameter_note, rows["layers.0"].activation_note) == ("", "")
    assert (rows["layers.1"].parameter_note, rows["layers.1"].activation_note) == ("zero", "zero")
    assert rows["layers.1"].median is None
    assert (rows["layers.2"].parameter_note, rows["layers.2"].activation_note) == ("not finite", "not finite")
    assert rows["layers.3"].parameter_note == "not reached"
    assert texts(plot.figure.axes[0]) == [
        "par. zero; act. zero",
        "par. not finite; act. not finite",
        "par. not reached; act. not reached",
    ]
    activations = plot.figure.axes[0].lines[1].get_ydata()
    np.testing.assert_array_equal(np.isnan(activations), [False, True, True, True])


def test_some_parameters_of_a_layer_may_get_nothing(rng):
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    with record(model) as rec:
        (mg.ones(3, 2) @ model[0].weight).sin().mean().backward()
    (row,) = draw.gradient_flow(rec).numbers["Sequential"]
    assert (row.parameters, row.parameter_note) == (2, "1 of 2 not reached")
    assert row.least == row.median == row.most


def test_where_nothing_can_be_drawn_there_are_words():
    model = nn.Linear(2, 1)  # a model that is one layer itself
    with record(model) as rec:
        (model(mg.ones(3, 2)) * 0.0).mean().backward()
    plot = draw.gradient_flow(rec)
    assert texts(plot.figure.axes[0]) == ["par. zero; act. zero"]
    assert tick_labels(plot.figure.axes[0].xaxis) == ["(the model)"]
    plot._repr_svg_()


def test_one_tiny_gradient_does_not_press_the_rest_together(rng):
    rec = transformer(rng)  # the bias of the keys has a gradient of 0 but for rounding
    plot = draw.gradient_flow(rec)
    (table,), axes = plot.numbers.values(), plot.figure.axes[0]
    least = min(row.median for row in table)
    assert min(row.least for row in table) < 1e-6 * least < axes.get_ylim()[0] < least
    below = {round(x) for x in axes.lines[2].get_xdata()}
    assert below == {i for i, row in enumerate(table) if row.least < axes.get_ylim()[0]}


# ---------------------------------------------------------------------------------------------------- residual ledger
def test_bars_and_points_of_the_ledger_are_the_residuals(rng):
    recs = {"pre-norm": transformer(rng, norm_first=True), "post-norm": transformer(rng)}
    plot = draw.residual_ledger(recs)
    for (name, rec), shares, norms in zip(recs.items(), plot.figure.axes[::2], plot.figure.axes[1::2], strict=True):
        table = rec.residuals()
        assert plot.numbers[name].rows == table.rows
        assert shares.get_title(loc="left").startswith(name)
        identity, branch = bars(shares, "past f (identity)"), bars(shares, "through f (branch)")
        np.testing.assert_allclose(identity, [(0, share) for share in table.column("identity_share")])
        np.testing.assert_allclose([length for _, length in branch], table.column("branch_share"))
        for line, part in zip(norms.lines, ("identity", "branch"), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), table.column(part))
    labels = tick_labels(plot.figure.axes[0].yaxis)
    assert labels[:2] == ["encoder.layers.0.add_norm1", "encoder.layers.0.add_norm2"]
    assert len(labels) == 2 * 2 + 2 * 3
    limits = {axes.get_xlim() for axes in plot.figure.axes[::2]}, {axes.get_xlim() for axes in plot.figure.axes[1::2]}
    assert [len(both) for both in limits] == [1, 1]


@pytest.mark.parametrize(("factor", "identity", "branch"), [(-0.5, 2.0, -1.0), (-3.0, -0.5, 1.5), (1.0, 0.5, 0.5)])
def test_a_part_that_works_against_the_others_goes_to_the_left(factor, identity, branch):
    """dL/dx = g + f g, so the parts are 1 / (1 + f) and f / (1 + f) of it."""
    axes = draw.residual_ledger(blocks(factor)).figure.axes[0]
    assert bars(axes, "past f (identity)") == [pytest.approx((0.0, identity))]
    start = identity if identity > 0 and branch > 0 else 0.0
    assert bars(axes, "through f (branch)") == [pytest.approx((start, branch))]


def test_other_uses_are_drawn_where_there_are_some():
    plot = draw.residual_ledger({"one": blocks(0.5), "two": blocks(0.5, kind=Twice)})
    one, two = plot.figure.axes[::2]
    assert len(one.containers) == 2
    (row,) = plot.numbers["two"]
    assert bars(two, "other uses of x")[0][1] == row.other_share != 0
    legend = [text.get_text() for text in plot.figure.legends[0].get_texts()]
    assert legend == ["past f (identity)", "through f (branch)", "other uses of x"]


def test_shares_of_nothing_are_said_to_be_so():
    plot = draw.residual_ledger({"cancels": blocks(-1.0), "no branch": blocks(0.0)})
    shares, norms, _, dead = plot.figure.axes
    assert texts(shares) == ["the gradient is 0, or not finite"]
    assert texts(norms) == []
    assert texts(dead) == ["branch 0"]
    plot._repr_svg_()


# -------------------------------------------------------------------------------------------------------------- paths
def test_path_shares_are_the_terms_of_the_product():
    """dL/dx = g (1 + a)(1 + b), of which 1 crosses no branch, a + b one, and a b both."""
    a, b = 0.5, -0.25
    plot = draw.path_shares({"two blocks": crossed(a, b)}, "x")
    expected = np.array([1, a + b, a * b]) / ((1 + a) * (1 + b))
    assert list(plot.numbers["two blocks"]) == [0, 1, 2]
    np.testing.assert_allclose(list(plot.numbers["two blocks"].values()), expected)
    drawn = bars(plot.figure.axes[0], "two blocks")
    np.testing.assert_allclose(drawn, list(enumerate(expected)))
    assert plot.figure.axes[0].get_title(loc="left") == "share of the gradient of x"


def test_bars_of_several_stand_beside_each_other():
    shares = {"one": crossed(0.5), "three": crossed(0.5, 0.5, 0.5)}
    plot = draw.path_shares(shares, "x")
    assert plot.numbers == shares
    for number, name in enumerate(shares):
        places, heights = zip(*bars(plot.figure.axes[0], name), strict=True)
        np.testing.assert_allclose(places, [count - 0.2 + 0.4 * number for count in shares[name]])
        np.testing.assert_array_equal(heights, list(shares[name].values()))
    assert [text.get_text() for text in plot.figure.axes[0].get_legend().get_texts()] == list(shares)


def test_bars_that_nobody_can_see_are_not_shown():
    plot = draw.path_shares({"six": crossed(*[1e-3] * 6)}, "x")
    assert len(plot.numbers["six"]) == 7
    assert plot.figure.axes[0].get_xlim() == pytest.approx((-0.7, 1.7))


# ------------------------------------------------------------------------------------------------------------- errors
def unseen():
    with record(nn.Linear(2, 2)) as rec:
        pass
    return rec


def nameless():
    x = mg.ones(2, requires_grad=True)
    with record() as rec:
        (x * 2).backward(mg.ones(2))
    return rec


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: draw.gradient_flow({}), r"gradient_flow\(\): there is no recording\. Give one, or several"),
        (lambda: draw.residual_ledger({"x": unseen()}), r"residual_ledger\(\): 'x' has seen no backward pass\. Call"),
        (lambda: draw.gradient_flow(nameless()), r"knows of no model, so of no layers\. Record with record\(model\)"),
        (lambda: draw.gradient_flow(blocks(1.0), "op"), r"level is 'op'; it must be 'layer' or 'sublayer'\."),
        (
            lambda: draw.gradient_flow(blocks(1.0)),
            r"gradient_flow\(\): Sequential has no parameters that are trained\. Draw",
        ),
        (lambda: draw.residual_ledger(nameless()), r"'recording' has no residual connection that a gradient passed\."),
        (lambda: draw.path_shares({"a": crossed(-1.0)}, "x"), r"'a' has no shares of the gradient of x, which is 0 or"),
        (lambda: draw.path_shares({}, "x"), r"path_shares\(\): there are no shares\. Give those of one gradient"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(function, message):
    with pytest.raises(ValueError, match=message):
        function()


# --------------------------------------------------------------------------------------------------------------- Plot
def ledger():
    return draw.residual_ledger({"a": blocks(0.5, 0.25), "b": blocks(-0.5, 2.0)})


@pytest.mark.parametrize("end", ["svg", "png"])
def test_the_same_figure_is_the_same_file(tmp_path, end):
    plot = ledger()
    files = [plot.save(tmp_path / f"1.{end}"), plot.save(tmp_path / f"2.{end}")]
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": None}):
        again = ledger()
        files.append(again.save(tmp_path / f"3.{end}"))
    first, *others = [path.read_bytes() for path in files]
    assert all(other == first for other in others)
    assert b"dc:date" not in first


def test_nothing_of_matplotlib_is_changed_or_left_open(tmp_path):
    before = mpl.rcParams.copy()
    ledger().save(tmp_path / "x.svg")
    assert mpl.rcParams == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_a_plot_is_a_figure_and_numbers_and_shows_itself():
    figure, numbers = plot = ledger()
    assert numbers is plot.numbers
    bundle = plot._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<?xml")
    assert "past f (identity)" in bundle["image/svg+xml"]
    width, height = figure.get_size_inches()
    assert bundle["text/plain"] == repr(plot)
    assert repr(plot).startswith(f"<Plot {width:.1f} x {height:.1f} in; its numbers:\n{{'a': gradients of x")


def test_other_files_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"save\(\): the name is 'x\.gif'; it must end in \.svg or \.png\. Try x\.svg"):
        ledger().save(tmp_path / "x.gif")


def test_tokens_of_any_script_are_labels(tmp_path):
    tokens = ["数", "سلام", "$x$", "\t", "", "a" * 30, "\u200b"]
    with draw.figure(3, 3) as figure:
        axes = figure.subplots()
        draw.label_tokens(axes, tokens, tokens)
    svg = draw.Plot(figure, None).save(tmp_path / "x.svg").read_text(encoding="utf-8")
    draw.Plot(figure, None).save(tmp_path / "x.png")
    labels = ["数", "سلام", "$x$", "\\t", "␣", "a" * 15 + "…", "\\u200b"]
    assert tick_labels(axes.xaxis) == tick_labels(axes.yaxis) == labels
    assert all(f">{label}<" in svg for label in labels)


def test_where_cells_are_small_some_tokens_are_named():
    with draw.figure(3, 3) as figure:
        axes = figure.subplots()
        draw.label_tokens(axes, range(10), None, cell=0.04)
    assert tick_labels(axes.yaxis) == ["0", "2", "4", "6", "8"]
    assert tick_labels(axes.xaxis) == []
