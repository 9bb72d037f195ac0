"""From a recording to a picture: boxes and arrows, levels, large graphs, and the object that is returned."""

import re
from collections import Counter
from importlib import import_module

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core import GradError
from minigrad.draw.arrows import bundles
from minigrad.draw.levels import LEVELS
from tests.recordings import box, drawn, every_case, every_detail, every_level, more, recorded, titles

MODULE = import_module("minigrad.draw.graph")  # `minigrad.draw.graph` is the function


# ------------------------------------------------------------------------------------------- what holds for any picture
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
    picture = drawn(name, detail, level).picture
    number = {b.key: i for i, b in enumerate(picture.boxes)}
    assert all(number[a.tail] < number[a.head] for a in picture.arrows)


@every_case
@every_detail
def test_frames_are_a_tree(name, detail):
    picture = drawn(name, detail, "primitive").picture
    seen = {None}
    for frame in picture.frames:  # those around others come first
        assert frame.inside in seen
        seen.add(frame.key)
    assert {b.inside for b in picture.boxes} <= seen


@every_case
@every_detail
def test_by_default_there_are_at_most_60_boxes(name, detail):
    graph = drawn(name, detail)
    assert len(graph.picture.boxes) <= 60
    assert graph.level in ("op" if name == "no model" else "sublayer", "layer")


@every_case
def test_the_same_recording_gives_the_same_picture(name):
    assert mg.graph(recorded(name, "op"), level="op").picture == drawn(name, "op", "op").picture


# --------------------------------------------------------------------------------------------------------------- levels
def test_levels_of_a_transformer():
    """model: the parts; layer: the layers; sublayer: what the figure shows. Read off the modules."""
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
        a.label for a in graph.picture.arrows if a.tail == "tgt_embed.weight"
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
    frames = {f.key for f in graph.picture.frames}
    assert {"decoder.layers.1.cross_attn", "decoder.layers.1.cross_attn.score.scaled_dot_product_attention()"} <= frames
    assert graph.level == "model"


def test_layers_are_the_members_of_the_first_list():
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.ModuleDict({"net": nn.Sequential(nn.Linear(4, 4), nn.Tanh())}) for _ in "ab")
            self.nets = nn.ModuleList(nn.Sequential(nn.Sequential(nn.Tanh())) for _ in "ab")

        def forward(self, x):
            for layer, net in zip(self.layers, self.nets, strict=True):
                x = net(layer["net"](x))
            return x

    with mg.record(Deep()) as recording:
        recording.model(mg.ones(2, 4, requires_grad=True))
    keys = [[b.key for b in mg.graph(recording, level=level).picture.boxes[1:]] for level in ("layer", "sublayer")]
    assert keys[0] == ["layers.0.net", "nets.0", "layers.1.net", "nets.1"]
    assert keys[1][:3] == ["layers.0.net.0", "layers.0.net.1", "nets.0.0"]


def test_a_module_that_waits_for_those_that_wait_for_it_is_two_boxes():
    """a -> b, c -> a, b -> c: a live graph does not know that modules were called twice."""

    class Crossing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Tanh(), nn.Tanh(), nn.Tanh()

        def forward(self, x):
            b = self.b(self.a(x))
            a = self.a(self.c(x))
            return self.c(b) + a

    model = Crossing()
    picture = mg.graph(model(mg.ones(2, requires_grad=True)), model=model, level="model").picture
    assert [b.key for b in picture.boxes] == ["leaf", "c part 1", "a", "b", "c part 2", "add"]


def test_an_op_may_be_called_like_a_module():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tanh = nn.Tanh()

        def forward(self, x):
            return self.tanh(x.tanh())

    x = mg.ones(2, requires_grad=True)
    with mg.record(Both()) as recording:
        recording.model(x)
    assert [b.key for b in mg.graph(recording, level="model").picture.boxes] == ["leaf", "tanh step", "tanh"]


def test_paths_may_be_patterns():
    graph = mg.graph(recorded("post-norm"), open="encoder.layers.[05].ffn")
    opened = [b.key for b in graph.picture.boxes if b.key.endswith("ffn.linear1.weight")]
    assert opened == ["encoder.layers.0.ffn.linear1.weight", "encoder.layers.5.ffn.linear1.weight"]


def test_without_a_model_there_are_ops_only():
    graph = mg.graph(recorded("no model"), level="layer")
    assert graph.level == "op"
    assert "there is no model to take the level 'layer' from: this is the level 'op'" in graph.picture.legend


# --------------------------------------------------------------------------------------------------------- large graphs
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


# --------------------------------------------------------------------------------------------------- the object, errors
def test_edge_is_that_of_the_recording():
    graph = mg.graph(recorded("blocks"))
    assert graph.edge("blocks.0.first.linear", "blocks.0.first.weight").share == 1.0


def test_files_are_written_by_suffix(tmp_path):
    graph = mg.graph(recorded("blocks"), title="six blocks")
    assert graph.save(tmp_path / "g.dot").read_text(encoding="utf-8") == graph.to_dot()
    assert "six blocks" in graph.to_dot()
    assert graph.save(str(tmp_path / "g.txt")).read_text(encoding="utf-8") == str(graph)
    with pytest.raises(ValueError, match=r"a picture is written as \.dot"):
        graph.save(tmp_path / "g.pdf")
    assert repr(graph).endswith(f"level sublayer: {len(graph.order)} boxes>")


def test_notebooks_get_text_at_least():
    graph = mg.graph(recorded("no model"))
    assert graph._repr_mimebundle_()["text/plain"].startswith(str(graph).rstrip())


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
    with pytest.raises(ValueError, match=r"open='x' is the path of no module\. There is no model: record"):
        mg.graph(recorded("no model"), open=["x"])
    loss = mg.ones(1, requires_grad=True).sum()
    loss.backward()
    with pytest.raises(GradError, match=r"was freed by backward\(\): draw before it, or use mg.record"):
        mg.graph(loss)
