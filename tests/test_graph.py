"""From a recording to a picture: boxes, arrows, folds, and what is written on them."""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core import GradError
from minigrad.draw import Graph
from minigrad.draw.arrows import bundles
from minigrad.draw.levels import LEVELS
from minigrad.draw.overlay import BLUE, GREY, ORANGE, saturation
from minigrad.nn import functional as F
from minitransformer import LanguageModel, Transformer, TransformerConfig
from minitransformer.recurrent import GRUConfig, GRUSeq2Seq

MODULE = import_module("minigrad.draw.graph")  # `minigrad.draw.graph` is the function

SIX = {
    "src_vocab_size": 13,
    "tgt_vocab_size": 11,
    "d_model": 8,
    "nhead": 2,
    "num_encoder_layers": 6,
    "num_decoder_layers": 6,
    "dim_feedforward": 12,
    "dropout": 0.1,
}
SRC, TGT = [[3, 4, 5, 2], [6, 7, 2, 0]], [[1, 3, 4], [1, 5, 0]]


class Block(nn.Module):
    """x + W2 relu(W1 x), with any size between."""

    def __init__(self, hidden: int = 5) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, hidden), nn.Linear(hidden, 4)

    def forward(self, x):
        return x + self.second(self.first(x).relu())


class Blocks(nn.Module):
    def __init__(self, *hidden: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(size) for size in hidden)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Skipping(Blocks):
    """The input of block 3 is not the output of block 2 alone."""

    def forward(self, x):
        outputs = [x]
        for number, block in enumerate(self.blocks):
            outputs.append(block(outputs[-1] * 1.0 if number != 3 else outputs[-2] * 1.0))
        return outputs[-1] + outputs[3]


class Watched(Blocks):
    """A second loss looks at the middle of block 3."""

    def forward(self, x):
        extra = 0.0
        for number, block in enumerate(self.blocks):
            hidden = block.first(x).relu()
            extra = hidden.mean() if number == 3 else extra
            x = x + block.second(hidden)
        return x + extra


class Again(nn.Module):
    """One block, several times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.block, self.times = Block(), times

    def forward(self, x):
        for _ in range(self.times):
            x = self.block(x)
        return x


class Case(NamedTuple):
    make: Callable[[], Any]
    run: Callable[[Any], mg.Tensor]


def token_loss(logits: mg.Tensor) -> mg.Tensor:
    return F.cross_entropy(logits.flatten(0, 1), mg.tensor(np.arange(logits.shape[0] * logits.shape[1]) % 7))


def translate(model: Any) -> mg.Tensor:
    return token_loss(model(SRC, TGT))


def regress(model: Any) -> mg.Tensor:
    x = mg.tensor(np.random.default_rng(3).standard_normal((2, 4)), requires_grad=True)
    return (model(x) ** 2).mean()


def bare(_: None) -> mg.Tensor:
    a, b = (mg.tensor([value], requires_grad=True) for value in (2.0, -3.0))
    return (a * b + (a + a).tanh()).sum()


CASES = {
    "post-norm": Case(lambda: Transformer(TransformerConfig(**SIX)), translate),
    "pre-norm": Case(lambda: Transformer(TransformerConfig(**SIX, norm_first=True)), translate),
    "tied": Case(lambda: Transformer(TransformerConfig(**SIX, tie_weights=True)), translate),
    "one projection": Case(lambda: Transformer(TransformerConfig(**SIX, share_qk=True, residual=False)), translate),
    "language model": Case(lambda: LanguageModel(TransformerConfig(**SIX)), lambda m: token_loss(m(SRC))),
    "recurrent": Case(lambda: GRUSeq2Seq(GRUConfig(src_vocab_size=13, d_model=8, hidden_size=6)), translate),
    "shared layer": Case(lambda: Again(6).double(), regress),
    "blocks": Case(lambda: Blocks(*[5] * 6).double(), regress),
    "sequential": Case(
        lambda: nn.Sequential(*(m for _ in range(9) for m in (nn.Linear(4, 4), nn.Tanh()))).double(), regress
    ),
    "one layer": Case(lambda: nn.Linear(4, 3).double(), regress),
    "no model": Case(lambda: None, bare),
}


@cache
def recorded(name: str, detail: str = "op", backward: bool = True, keep: str = "stats") -> Any:
    mg.manual_seed(0)
    make, run = CASES[name]
    model = make()
    with mg.record(model, detail=detail, keep=keep) as recording:
        loss = run(model)
        if backward:
            loss.backward()
    recording.still_alive = model  # its parameters, too
    return recording


def record_blocks(model: nn.Module, backward: bool = True) -> Any:
    with mg.record(model.double()) as recording:
        loss = regress(model)
        if backward:
            loss.backward()
    return recording


def titles(graph: Graph, kind: str | None = None) -> list[str]:
    return [box.title for box in graph.picture.boxes if kind in (None, box.kind)]


def box(graph: Graph, key: str) -> Any:
    return next(box for box in graph.picture.boxes if box.key == key)


def arrow(graph: Graph, tail: str, head: str) -> Any:
    (found,) = [a for a in graph.picture.arrows if (a.tail, a.head) == (tail, head)]
    return found


every_case = pytest.mark.parametrize("name", CASES)
every_detail = pytest.mark.parametrize("detail", ["op", "definition"])
every_level = pytest.mark.parametrize("level", [None, *LEVELS])


# --------------------------------------------------------------------------------------------- what holds for any picture
@every_case
@every_detail
@every_level
def test_every_step_is_in_one_box_and_every_edge_in_one_arrow(name, detail, level):
    recording = recorded(name, detail)
    graph = mg.graph(recording, level=level)
    steps = [step for group in graph.order for step in group.steps]
    assert Counter(steps) == Counter(recording.steps)
    assert [group.key for group in graph.order] == [b.key for b in graph.picture.boxes]
    assert len({b.key for b in graph.picture.boxes} | {f.key for f in graph.picture.frames}) == len(
        graph.picture.boxes
    ) + len(graph.picture.frames)

    key = {step: group.key for group in graph.order for step in group.steps}
    between = Counter((key[e.parent], key[e.child]) for e in recording.edges if key[e.parent] != key[e.child])
    drawn = Counter()
    for tail, head, edges in bundles(recording, graph.placed):
        drawn[tail.key, head.key] += len(edges)
    assert drawn == between
    assert {(a.tail, a.head) for a in graph.picture.arrows} == set(between)


@every_case
@every_detail
@every_level
def test_there_is_no_cycle_and_boxes_come_after_their_arguments(name, detail, level):
    picture = mg.graph(recorded(name, detail), level=level).picture
    number = {b.key: i for i, b in enumerate(picture.boxes)}
    assert all(number[a.tail] < number[a.head] for a in picture.arrows)


@every_case
@every_detail
def test_frames_are_a_tree(name, detail):
    picture = mg.graph(recorded(name, detail), level="primitive").picture
    seen = {None}
    for frame in picture.frames:  # those around others come first
        assert frame.inside in seen
        seen.add(frame.key)
    assert {b.inside for b in picture.boxes} <= seen


@every_case
@every_detail
def test_by_default_there_are_at_most_60_boxes(name, detail):
    graph = mg.graph(recorded(name, detail))
    assert len(graph.picture.boxes) <= 60
    assert graph.level in ("op" if name == "no model" else "sublayer", "layer")


@every_case
def test_the_same_recording_gives_the_same_picture(name):
    assert mg.graph(recorded(name), level="op").picture == mg.graph(recorded(name), level="op").picture


# ---------------------------------------------------------------------------------------------------------------- levels
def test_levels_of_a_transformer():
    """model: the parts; layer: the layers; sublayer: what the figure shows. Only names of modules were used for that."""
    recording = recorded("post-norm")
    boxes = {level: [b.key for b in mg.graph(recording, level=level, fold=False).picture.boxes] for level in LEVELS}
    assert boxes["model"] == ["src_embed", "encoder", "tgt_embed", "decoder", "generator", "reshape", "cross_entropy"]
    assert boxes["layer"][1:7] == [f"encoder.layers.{i}" for i in range(6)]
    assert [key for key in boxes["sublayer"] if key.startswith("decoder.layers.3.")] == [
        f"decoder.layers.3.{name}" for name in ("self_attn", "add_norm1", "cross_attn", "add_norm2", "ffn", "add_norm3")
    ]
    assert sorted(boxes["op"]) == sorted(map(recording.name, recording.steps))


def test_an_op_is_a_box_unless_another_one_is_inside():
    graph = mg.graph(recorded("post-norm", "definition"), level="op", fold=False)
    attention = "encoder.layers.0.self_attn"
    frames = [f.key for f in graph.picture.frames if f.key.startswith(f"{attention}.score")]
    assert frames == [f"{attention}.score", f"{attention}.score.scaled_dot_product_attention()"]
    inside = [b.title for b in graph.picture.boxes if b.inside == frames[-1]]
    assert inside == ["transpose", "matmul", "mul", "masked_softmax", "dropout", "matmul"]
    assert box(graph, f"{attention}.q_proj.linear()").lines[0] == "(2, 4, 8)"


def test_primitives_are_steps():
    recording = recorded("post-norm", "definition")
    graph = mg.graph(recording, level="primitive", fold=False)
    assert [b.key for b in graph.picture.boxes if b.kind == "op"] == [
        recording.name(s) for s in recording.steps if not s.is_leaf and s.uses
    ]


def test_a_module_that_works_before_and_after_another_is_two_boxes():
    graph = mg.graph(recorded("pre-norm"))
    parts = [b.title for b in graph.picture.boxes if b.key.startswith("encoder.layers.0.add_norm1 part")]
    assert parts == ["add_norm1 (norm)", "add_norm1 (dropout, add)"]


def test_tied_weights_are_a_box_with_an_arrow_to_each_use():
    graph = mg.graph(recorded("tied"))
    assert box(graph, "tgt_embed.weight").kind == "parameter"
    assert [a.head for a in graph.picture.arrows if a.tail == "tgt_embed.weight"] == ["tgt_embed", "generator"]
    embed, generator = recorded("tied").steps, recorded("tied")["tgt_embed.weight"].uses
    assert [f"{edge.share:.0%}" for edge in generator] == [
        a.label.split("\n")[1] for a in graph.picture.arrows if a.tail == "tgt_embed.weight"
    ]
    assert embed


def test_each_use_of_a_module_is_a_box():
    graph = mg.graph(recorded("shared layer"), level="model", fold=False)
    assert titles(graph)[1:4] == ["4 shared parameters", "block, use 1 of 6", "block, use 2 of 6"]


def test_parts_can_be_opened_at_any_level():
    recording = recorded("post-norm", "definition")
    graph = mg.graph(recording, level="model", open=["decoder.layers.1.cross_attn"])
    names = {b.key for b in graph.picture.boxes}
    assert {"encoder", "generator", "decoder.layers.1.self_attn", "decoder.layers.1.cross_attn.k_proj.weight"} <= names
    assert "decoder.layers.1.cross_attn" in {f.key for f in graph.picture.frames}
    assert graph.level == "model"


def test_paths_may_be_patterns():
    graph = mg.graph(recorded("post-norm"), open="encoder.layers.[05].ffn")
    opened = [b.key for b in graph.picture.boxes if b.key.endswith("ffn.linear1.weight")]
    assert opened == ["encoder.layers.0.ffn.linear1.weight", "encoder.layers.5.ffn.linear1.weight"]


def test_without_a_model_there_are_ops_only():
    graph = mg.graph(recorded("no model"), level="layer")
    assert graph.level == "op"
    assert "there is no model to take the level 'layer' from: this is the level 'op'" in graph.picture.legend


# ----------------------------------------------------------------------------------------------------------------- folds
def more(graph: Graph) -> list[str]:
    return titles(graph, "more")


def test_identical_layers_are_folded_with_their_range():
    recording = recorded("blocks")
    graph = mg.graph(recording)
    fold = box(graph, "blocks.1.first ... blocks.4.first")
    assert fold.title == "+4 more Block\nblocks.1 to blocks.4"
    norms = [recording[f"blocks.{i}.add"].gradient.norm for i in range(1, 5)]
    assert fold.lines[:2] == ["own weights", f"|g| {min(norms):.3g} to {max(norms):.3g}"]


def test_a_fold_of_uses_says_that_the_weights_are_the_same():
    graph = mg.graph(recorded("shared layer"))
    assert more(graph) == ["+4 more uses of block"]
    assert next(b for b in graph.picture.boxes if b.kind == "more").lines[0] == "same parameters"


def test_a_fold_says_that_some_weights_are_shared():
    model = Blocks(*[5] * 6)
    for block in model.blocks:
        block.second.weight = model.blocks[0].second.weight
    graph = mg.graph(record_blocks(model))
    assert next(b for b in graph.picture.boxes if b.kind == "more").lines[0] == "some weights shared"


def test_a_loop_over_time_is_folded():
    mg.manual_seed(0)
    model = CASES["recurrent"].make()
    with mg.record(model) as recording:
        token_loss(model(SRC, np.ones((2, 30), int))).backward()
    graph = mg.graph(recording)
    assert len(graph.picture.boxes) <= 60
    assert any(title.startswith("+2") for title in more(graph))


@pytest.mark.parametrize(
    ("model", "folds"),
    [
        (Blocks(5, 5, 5, 5, 5, 5, 5, 5), ["+6 more Block\nblocks.1 to blocks.6"]),
        (
            Blocks(5, 5, 5, 5, 6, 5, 5, 5, 5),
            ["+2 more Block\nblocks.1 to blocks.2", "+2 more Block\nblocks.6 to blocks.7"],
        ),
        (Blocks(5, 6, 5, 6), []),
        (Blocks(5, 5), []),
    ],
    ids=["all the same", "one has another size", "they alternate", "two"],
)
def test_only_layers_of_the_same_shapes_are_folded(model, folds):
    assert more(mg.graph(record_blocks(model))) == folds


@pytest.mark.parametrize("kind", [Skipping, Watched])
def test_a_layer_that_is_wired_in_another_way_is_not_folded(kind):
    graph = mg.graph(record_blocks(kind(*[5] * 8)), level="op")
    plain = mg.graph(record_blocks(Blocks(*[5] * 8)), level="op")
    hidden = {step.module for group in graph.order if group.folded for step in group.steps}
    assert not hidden & set(graph.recording.model.blocks[3].modules())
    hidden = {step.module for group in plain.order if group.folded for step in group.steps}
    assert plain.recording.model.blocks[3] in hidden


def test_what_is_opened_is_not_folded():
    graph = mg.graph(recorded("blocks"), open=["blocks.2"])
    assert "blocks.2.first.weight" in {b.key for b in graph.picture.boxes}
    assert more(graph) == ["+2 more Block\nblocks.3 to blocks.4"]
    graph = mg.graph(recorded("post-norm"), open=["encoder.layers.3.ffn"])
    assert more(graph)[0] == "+2 more EncoderLayer\nlayers.1 to layers.2"


def test_folding_can_be_turned_off():
    assert more(mg.graph(recorded("post-norm"), level="sublayer", fold=False)) == []


# --------------------------------------------------------------------------------------------------- numbers on boxes
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
    assert lines[:3] == ["Block", "(2, 4)", f"|g| {into:.3g} -> {out:.3g} (gain {out / into:.3g})"]
    parameters = [
        recording[f"blocks.1.{name}"] for name in ("first.weight", "first.bias", "second.weight", "second.bias")
    ]
    joint = np.sqrt(sum(step.gradient.squares for step in parameters))
    assert lines[3] == f"{5 * 4 + 5 + 4 * 5 + 4} parameters |g| {joint:.3g}"


def test_a_sum_of_which_only_the_parts_are_known_is_a_bound():
    """The norm reads x three times, the addition once: what it sends to x is a sum of three."""
    key = "encoder.layers.0.add_norm1 part 1"
    text = box(mg.graph(recorded("pre-norm", "definition")), key).lines[2]
    bound = float(re.search(r"-> <=([\d.e-]+)", text)[1])
    exact = box(mg.graph(recorded("pre-norm", "definition", keep="values")), key).lines[2]
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
    recording = recorded("blocks")
    graph = mg.graph(recording, level="op", nodes=nodes)

    def number(step):
        if nodes == "time":
            return step.forward_seconds + step.backward_seconds
        return {"grad": step.gradient.norm, "value": step.value.rms, "memory": step.saved}[nodes]

    pairs = [(number(recording[b.key]), int(b.fill[1:3], 16)) for b in graph.picture.boxes if b.kind == "op"]
    reds = [red for _, red in sorted(pairs)]
    assert reds == sorted(reds, reverse=True)  # white is ff, blue has less red
    assert len(set(reds)) > 2


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
    watched = recorded("post-norm", "definition", keep="values")
    assert re.fullmatch(r"saturated: \d+\.\d%", box(mg.graph(watched, nodes="saturation"), attention.key).lines[-1])
    columns = mg.randn(3, 4, requires_grad=True)
    with mg.record(keep="values") as recording:
        columns.softmax(0)
    assert saturation(recording.steps) == "not recorded"  # its rows are columns, which a recording does not know


# ------------------------------------------------------------------------------------------------------------- arrows
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
    assert merged.label == f"(2, 4, 8) 3 uses\n{sum(e.share for e in inside):.0%}"
    assert merged.note.count("share") == 3


def test_different_arrays_have_no_common_share():
    graph = mg.graph(recorded("shared layer"), level="model", fold=False)
    assert arrow(graph, "block.first.weight", "block use 3").label == "4 arrays"


# ---------------------------------------------------------------------------------------------------------- highlighting
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
    assert "highlighted: the strongest path to leaf, 75.00% of it" in graph.picture.legend


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


# ---------------------------------------------------------------------------------------------------------- large graphs
def tangle(nodes: int) -> mg.Tensor:
    """A graph in which nothing repeats itself."""
    rng = np.random.default_rng(0)
    made = [mg.tensor([1.0], requires_grad=True)]
    for _ in range(nodes):
        a, b = made[-1], made[rng.integers(max(0, len(made) - 50), len(made))]
        made.append([lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a.tanh()][rng.integers(3)](a, b))
    return made[-1]


@pytest.mark.parametrize(("level", "nodes"), [(None, 20_000), ("op", 6_000), ("primitive", 6_000)])
def test_a_very_large_graph_is_shortened_and_says_what_to_do(level, nodes):
    graph = mg.graph(tangle(nodes), level=level)
    assert len(graph.picture.boxes) <= 60
    (rest,) = [b for b in graph.picture.boxes if b.kind == "more"]
    assert re.fullmatch(r"(19|5),9\d\d more steps", rest.title)
    assert {line.split()[1] for line in rest.lines} == {"add", "mul", "tanh"}
    assert any("record with a model, whose parts can be opened" in line for line in graph.picture.legend)
    steps = [step for group in graph.order for step in group.steps]
    assert len(steps) == len(set(steps)) == len(graph.recording.steps)


def test_a_level_with_too_many_boxes_falls_back_to_one_that_can_be_drawn(monkeypatch):
    monkeypatch.setattr(MODULE, "TOO_LARGE", 100)
    graph = mg.graph(recorded("post-norm", "definition"), level="primitive")
    assert graph.level == "sublayer"
    legend = " ".join(graph.picture.legend)
    assert re.search(r"the level 'primitive', asked for, has \d+ boxes", legend)
    assert "this is the level 'sublayer'; open a part of it, as open=['encoder" in legend


def test_a_large_picture_has_a_warning(monkeypatch):
    monkeypatch.setattr(MODULE, "LARGE", 100)
    graph = mg.graph(recorded("post-norm"), level="op")
    assert any(re.match(r"\d+ boxes take long to lay out", line) for line in graph.picture.legend)


def test_what_repeats_itself_is_folded_however_long_it_is():
    x = mg.ones(1, requires_grad=True)
    for _ in range(5_000):
        x = (x * 0.5).tanh()
    assert more(mg.graph(x)) == ["+4,998 more (mul, tanh)"]


# ---------------------------------------------------------------------------------------------------- the object, errors
def test_edge_is_that_of_the_recording():
    graph = mg.graph(recorded("blocks"))
    assert graph.edge("blocks.0.first.linear", "blocks.0.first.weight").share == 1.0


def test_files_are_written_by_suffix(tmp_path):
    graph = mg.graph(recorded("blocks"), title="six blocks")
    assert graph.save(tmp_path / "g.dot").read_text(encoding="utf-8") == graph.to_dot()
    assert "six blocks" in graph.to_dot()
    assert graph.save(str(tmp_path / "g.txt")).read_text(encoding="utf-8") == str(graph)
    with pytest.raises(ValueError, match=r"the suffix of g.pdf is '.pdf'; it must be one of .dot .gv .svg .png .json"):
        graph.save(tmp_path / "g.pdf")
    assert repr(graph).endswith(f"level sublayer: {len(graph.order)} boxes>")


def test_notebooks_get_a_picture_or_at_least_text(monkeypatch):
    graph = mg.graph(recorded("no model"))
    monkeypatch.setattr(MODULE, "svg", lambda picture: f"<svg>{picture.title}</svg>")
    assert graph._repr_mimebundle_() == {"image/svg+xml": "<svg>graph, level op</svg>", "text/plain": str(graph)}

    def nothing_installed(picture):
        raise mg.draw.DrawError("nothing draws here")

    monkeypatch.setattr(MODULE, "svg", nothing_installed)
    assert graph._repr_mimebundle_() == {"text/plain": f"{graph}\nnothing draws here"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "layers"}, "level is 'layers'; it must be one of 'model', 'layer', 'sublayer', 'op', 'primitive'"),
        ({"edges": "width"}, "edges is 'width'; it must be one of 'share', 'norm', 'none'"),
        ({"nodes": "flops"}, "nodes is 'flops'; it must be one of 'grad', 'value', 'time', 'memory', 'saturation'"),
        ({"open": ["blocks.9"]}, r"open='blocks.9' is the path of no module. Near: blocks.5, "),
        (
            {"to": "blocks.0.first.wait"},
            r"to='blocks.0.first.wait' is the name of no step or parameter. Near: blocks.0.",
        ),
        ({"model": nn.ReLU()}, r"a recording knows its model. Leave out model=, or use record\(model\)"),
    ],
)
def test_mistakes_are_explained(settings, message):
    with pytest.raises(ValueError, match=message):
        mg.graph(recorded("blocks"), **settings)


def test_more_mistakes_are_explained():
    with pytest.raises(TypeError, match="the subject is a ndarray; give a recording, or a tensor"):
        mg.graph(np.ones(3))
    with pytest.raises(ValueError, match="open='x' is the path of no module. There is no model: record"):
        mg.graph(recorded("no model"), open=["x"])
    loss = mg.ones(1, requires_grad=True).sum()
    loss.backward()
    with pytest.raises(GradError, match=r"was freed by backward\(\): draw before it, or use mg.record"):
        mg.graph(loss)
