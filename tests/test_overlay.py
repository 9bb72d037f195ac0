"""What is written on boxes and arrows, and what their colours and widths say."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.draw.mermaid import mermaid
from minigrad.draw.overlay import BLUE, GREY, ORANGE, log_scale, saturation
from minigrad.draw.text import tree
from tests.recordings import Blocks, arrow, box, every_case, every_level, record_blocks, recorded, regress, titles


# ----------------------------------------------------------------------------------------------------- numbers on boxes
def test_data_and_grad_of_a_step():
    recording = recorded("blocks")
    graph = mg.graph(recording, level="op")
    step = recording["blocks.0.first.linear"]
    assert box(graph, "blocks.0.first.linear").lines == [
        "(2, 5)",
        f"data {step.value.rms:.3g} | grad {step.gradient.norm:.3g}",
    ]


def test_a_single_number_is_shown_itself():
    graph = mg.graph(recorded("no model"), level="op")
    assert [b.lines[1] for b in graph.picture.boxes if b.kind == "input"] == ["data 2 | grad -3", "data -3 | grad 2"]


def test_what_a_box_gets_and_sends_on():
    """Of a closed block: the gradient of its result, and that of its only argument, which nobody else uses."""
    recording = recorded("blocks")
    into, out = (recording[f"blocks.{i}.add"].gradient.norm for i in (1, 0))
    lines = box(mg.graph(recording, level="layer"), "blocks.1").lines
    assert lines[:2] == ["Block (2, 4)", f"|g| {into:.3g} -> {out:.3g} (gain {out / into:.3g})"]
    parameters = [
        recording[f"blocks.1.{name}"] for name in ("first.weight", "first.bias", "second.weight", "second.bias")
    ]
    joint = np.sqrt(sum(step.gradient.squares for step in parameters))
    assert lines[2] == f"{5 * 4 + 5 + 4 * 5 + 4} parameters |g| {joint:.3g}"


def test_what_goes_to_parameters_is_not_sent_on():
    """The weight of the generator stands in a box of its own, because it is that of the embedding, too."""
    recording = recorded("tied")
    sent = recording["decoder.layers.5.add_norm3.add_layer_norm"].gradient.norm
    assert f"-> {sent:.3g} (gain" in box(mg.graph(recording), "generator").lines[1]


def test_a_sum_of_which_only_the_parts_are_known_is_a_bound():
    """The norm reads x three times, the addition once: what it sends to x is a sum of three."""
    key = "encoder.layers.0.add_norm1 part 1"
    text = box(mg.graph(recorded("pre-norm", "definition")), key).lines[1]
    bound = float(re.search(r"-> <=([\d.e-]+)", text)[1])
    exact = box(mg.graph(recorded("pre-norm", "definition", keep="values")), key).lines[1]
    assert float(re.search(r"-> ([\d.e-]+)", exact)[1]) < bound


class Careless(nn.Module):
    """It uses one of its three parts in a way that stops the gradient, and another one not for the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.stopped, self.idle = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        self.idle(x)
        return self.used(x) + self.stopped(x) * 0.0


def test_what_is_not_there_is_said_in_words():
    recording = record_blocks(Careless())
    graph = mg.graph(recording, level="model")
    assert {key: box(graph, key).status for key in ("used", "stopped", "idle")} == {
        "used": "",
        "stopped": "zero",
        "idle": "not reached",
    }
    assert "grad zero" in box(graph, "stopped").lines
    assert "grad not reached" in box(graph, "idle").lines
    fine = mg.graph(recording, level="op")
    assert box(fine, "stopped.linear").lines[1].endswith("grad zero")
    assert box(fine, "idle.weight").lines[1].endswith("grad not reached")
    assert arrow(fine, "idle.weight", "idle.linear").style == "dashed"
    assert arrow(fine, "stopped.linear", "mul").style == "dotted"
    assert arrow(fine, "used.linear", "add").style == "solid"


@pytest.mark.parametrize("edges", ["share", "norm"])
def test_arrows_without_a_gradient_and_with_a_zero_one_say_so_in_words(edges):
    """A terminal has no dashes and dots."""
    recording = record_blocks(Careless())
    graph = mg.graph(recording, level="op", edges=edges)
    assert arrow(graph, "idle.weight", "idle.linear").label.endswith("\nno gradient")
    assert arrow(graph, "stopped.linear", "mul").label.endswith("\nzero")
    said = {"dashed": "no gradient", "dotted": "zero"}
    for a in graph.picture.arrows:
        words = a.label.split("\n")[1:]
        assert (words == [said[a.style]]) if a.style in said else not {*words} & {*said.values()}
    text, chart = tree(graph.picture), mermaid(graph.picture)
    assert "(weight (4, 4) no gradient)" in text
    assert "(a (2, 4) zero)" in text
    assert chart.count('no gradient"|') == sum(a.style == "dashed" for a in graph.picture.arrows) > 0
    assert chart.count('zero"|') == sum(a.style == "dotted" for a in graph.picture.arrows) > 0
    none = mg.graph(recording, level="op", edges="none").picture.arrows
    assert not any(word in a.label for a in none for word in said.values())


@every_case
@every_level
def test_before_backward_nothing_is_zero(name, level):
    graph = mg.graph(recorded(name, backward=False), level=level)
    assert {b.status for b in graph.picture.boxes} == {"not computed"}
    assert not any(re.search(r"(grad|\|g\|) -?[\d.]", line) for b in graph.picture.boxes for line in b.lines)
    assert {a.style for a in graph.picture.arrows} == {"solid"}
    assert all(b.fill is None for b in graph.picture.boxes)


def test_a_live_tensor_can_be_drawn():
    x = mg.ones(3, requires_grad=True)
    graph = mg.graph((x * x).sum())
    assert titles(graph) == ["leaf", "mul", "sum"]
    assert box(graph, "mul").lines == ["(3,)", "data not recorded | grad not computed"]
    assert "a live graph keeps no gradients and values; use mg.record to see them" in graph.picture.legend
    model = Blocks(5, 5).double()
    assert titles(mg.graph(regress(model), model=model, level="layer"))[1:3] == ["blocks.0", "blocks.1"]


@pytest.mark.parametrize("nodes", ["grad", "value", "time", "memory"])
def test_colours_follow_the_numbers(nodes):
    recording = record_blocks(Blocks(5, 5))
    for number, step in enumerate(recording.steps):
        step.forward_seconds, step.backward_seconds = 1e-3 * (number + 1), 2e-3
    graph = mg.graph(recording, level="op", nodes=nodes)

    def number(step):
        if nodes == "time":
            return step.forward_seconds + step.backward_seconds
        return {"grad": step.gradient.norm, "value": step.value.rms, "memory": step.saved}[nodes]

    pairs = [(number(recording[b.key]), int(b.fill[1:3], 16)) for b in graph.picture.boxes if b.kind == "op"]
    reds = [red for _, red in sorted(pairs)]
    assert reds == sorted(reds, reverse=True)  # white is ff, blue has less red
    assert len(set(reds)) > 2


def test_one_tiny_number_does_not_make_all_others_look_the_same():
    scale, words = log_scale([1.0, 0.1, 1e-12, 0.0, None, float("nan")])
    places = [scale(x) for x in (1.0, 0.1, 1e-12, 0.0, None, float("nan"))]
    assert places[1:] == [pytest.approx(0.75), 0, 0, None, None]
    assert places[0] == pytest.approx(1)
    assert words == "0.0001 and less to 1, logarithmic"
    assert [log_scale([2.0, 2.0])[0](x) for x in (2.0, 0.0)] == [0.5, 0]
    assert log_scale([0.0, None])[1] == "which nothing here has"


def test_time_and_memory_are_sums():
    recording = recorded("blocks")
    names = re.compile(r"blocks\.0\.")
    steps = [step for step in recording.steps if names.match(recording.name(step))]  # with the parameters
    assert box(mg.graph(recording, level="layer", nodes="memory"), "blocks.0").lines[-1] == (
        f"{sum(s.saved for s in steps):,} B kept"
    )
    there, back = (sum(getattr(s, f"{way}_seconds") for s in steps) for way in ("forward", "backward"))
    assert box(mg.graph(recording, level="layer", nodes="time"), "blocks.0").lines[-1] == (
        f"{1e3 * there:.3g} ms forward, {1e3 * back:.3g} ms backward"
    )


def test_saturation_is_the_part_of_rows_that_have_decided():
    scores = mg.tensor([[9.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 9.0, 0.0], [1.0, 1.0, 0.0]], requires_grad=True)
    for detail in "op", "definition":
        with mg.record(detail=detail, keep="values") as recording:
            (scores.softmax(-1) * mg.randn(4, 3)).sum().backward()
        graph = mg.graph(recording, level="op", nodes="saturation")
        (saturated,) = [b for b in graph.picture.boxes if b.title == "softmax"]
        assert saturated.lines[-1] == "saturated: 50.0%"
        assert saturated.fill == "#aadaf4"  # half of the way from white to blue
        assert {b.fill for b in graph.picture.boxes if b is not saturated} == {None}


def test_saturation_that_was_not_recorded_is_no_number():
    graph = mg.graph(recorded("post-norm"), nodes="saturation")
    attention = box(graph, "encoder.layers.0.self_attn")
    assert attention.lines[-1] == "saturated: not recorded"
    assert attention.fill is None
    hint = 'none was recorded: record(model, detail="definition", keep="values")'
    assert any(hint in line for line in graph.picture.legend)
    watched = recorded("post-norm", "definition", keep="values")
    assert not any(hint in line for line in mg.graph(watched, nodes="saturation").picture.legend)
    assert re.fullmatch(r"saturated: \d+\.\d%", box(mg.graph(watched, nodes="saturation"), attention.key).lines[-1])
    columns = mg.randn(3, 4, requires_grad=True)
    with mg.record(keep="values") as recording:
        columns.softmax(0)
    assert saturation(recording.steps) == "not recorded"  # its rows are columns, which a recording does not know


# --------------------------------------------------------------------------------------------------------------- arrows
def test_a_plus_a_is_two_arrows():
    a = mg.tensor([2.0, 3.0], requires_grad=True)
    with mg.record() as recording:
        (a + a).sum().backward()
    graph = mg.graph(recording)
    assert [(x.tail, x.head, x.label) for x in graph.picture.arrows] == [
        ("leaf", "add", "a (2,)\n50%"),
        ("leaf", "add", "b (2,)\n50%"),
        ("add", "sum", "x (2,)"),
    ]


def test_arrows_tell_shares_by_colour_and_number():
    """g = (2, 0) + (-1, 0) + (0.001, 0): shares 200, -100 and 0.1 %."""
    x = mg.tensor([1.0, 1.0], requires_grad=True)
    with mg.record() as recording:
        parts = [(x * mg.tensor([factor, 0.0])).sum() for factor in (2.0, -1.0, 0.001)]
        (parts[0] + parts[1] + parts[2]).backward()

    def arrows(edges):
        return [a for a in mg.graph(recording, edges=edges).picture.arrows if a.tail == "leaf"]

    first, second, third = arrows("share")
    assert [first.label, second.label, third.label] == ["a (2,)\n200%", "a (2,)\n-100%", "a (2,)\n< 1%"]
    assert [first.colour, second.colour, third.colour] == [BLUE, ORANGE, GREY]
    assert first.width > second.width > third.width
    assert third.width == min(a.width for a in mg.graph(recording).picture.arrows)
    assert [a.label.split("\n")[1] for a in arrows("norm")] == ["|g| 2", "|g| 1", "|g| 0.001"]
    plain = arrows("none")[0]
    assert (plain.label, plain.width) == ("a (2,)", 1.0)


def test_arrows_of_a_box_are_one_and_their_shares_add_up():
    """q, k and v read x: the three shares of one gradient are one share of the box; their norms are not added."""
    recording = recorded("post-norm", "definition")
    graph = mg.graph(recording)
    x = recording["encoder.dropout.mul"]
    inside = [e for e in x.uses if "self_attn" in recording.name(e.child)]
    assert len(inside) == 3
    merged = arrow(graph, "encoder.dropout", "encoder.layers.0.self_attn")
    assert merged.label == f"3 uses\n{sum(e.share for e in inside):.0%}"
    assert merged.note.count("share") == 3


@pytest.mark.parametrize("level", ["model", "layer", "sublayer"])
def test_arrows_do_not_repeat_what_their_tail_says(level):
    """Of what a part of the model returns, they say the shape only where it is one of several."""
    graph = mg.graph(recorded("recurrent"), level=level)
    shapes = {b.key: set(re.findall(r"\([\d, ]*\)", " ".join(b.lines))) for b in graph.picture.boxes}
    kinds = {b.key: b.kind for b in graph.picture.boxes}
    shown = [(a.tail, shape) for a in graph.picture.arrows for shape in re.findall(r"^(\([\d, ]*\))", a.label)]
    assert shown
    assert all(kinds[tail] == "more" or len(shapes[tail]) > 1 for tail, _ in shown)
    arrows = mg.graph(recorded("post-norm"), level=level).picture.arrows
    assert not any("(" in a.label for a in arrows if a.head.startswith(("encoder", "decoder")))


def test_different_arrays_have_no_common_share():
    graph = mg.graph(recorded("shared layer"), level="model", fold=False)
    assert arrow(graph, "block.first.weight", "block use 3").label == "4 arrays"


# --------------------------------------------------------------------------------------------------------- highlighting
def test_the_path_to_a_parameter_is_the_strongest_one():
    """x has two ways to the loss, with the factors 3 and 1: shares 75 and 25 %."""
    x = mg.tensor([1.0], requires_grad=True)
    with mg.record() as recording:
        (x * 3.0 + x.reshape(1)).sum().backward()
    graph = mg.graph(recording, to="leaf")
    assert [(a.tail, a.head) for a in graph.picture.arrows if a.highlighted] == [
        ("leaf", "mul"),
        ("mul", "add"),
        ("add", "sum"),
    ]
    assert [b.key for b in graph.picture.boxes if b.highlighted] == ["leaf", "mul", "add", "sum"]
    assert "highlighted: the strongest path to leaf; its shares multiply to 75.00%" in graph.picture.legend


@every_level
def test_the_path_leads_through_closed_boxes(level):
    recording = recorded("post-norm")
    graph = mg.graph(recording, level=level, to="encoder.layers.3.ffn.linear1.weight")
    key = {step: group.key for group in graph.order for step in group.steps}
    lit = {b.key for b in graph.picture.boxes if b.highlighted}
    assert {key[recording.root], key[recording["encoder.layers.3.ffn.linear1.weight"]]} <= lit
    ends = {end for a in graph.picture.arrows if a.highlighted for end in (a.tail, a.head)}
    assert ends == lit


def test_a_path_without_gradient():
    graph = mg.graph(recorded("blocks", backward=False), to="blocks.0.first.weight")
    assert any(a.highlighted for a in graph.picture.arrows)
    assert "highlighted: the shortest path to blocks.0.first.weight; there are no gradients yet" in graph.picture.legend
    graph = mg.graph(record_blocks(Careless()), to="idle.weight")
    assert "no gradient came to idle.weight" in graph.picture.legend
    assert not any(a.highlighted for a in graph.picture.arrows)
