"""Identical layers are folded, and no others."""

import numpy as np
import pytest

import minigrad as mg
from tests.recordings import (
    CASES,
    SRC,
    Blocks,
    Remembering,
    Skipping,
    Watched,
    box,
    more,
    record_blocks,
    recorded,
    token_loss,
)


def test_identical_layers_are_folded_with_their_range():
    recording = recorded("blocks")
    graph = mg.graph(recording)
    fold = box(graph, "blocks.1.first ... blocks.4.first")
    assert fold.title == "+4 more Block\nblocks.1 to blocks.4"
    norms = [recording[f"blocks.{i}.add"].gradient.norm for i in range(1, 5)]
    before = [recording[f"blocks.{i}.add"].gradient.norm for i in range(4)]
    gains = [out / into for out, into in zip(before, norms, strict=True)]
    assert fold.lines == [
        "own weights",
        f"|g| {min(norms):.3g} to {max(norms):.3g}",
        f"gain {min(gains):.3g} to {max(gains):.3g}",
    ]


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


@pytest.mark.parametrize("kind", [Skipping, Watched, Remembering])
def test_a_layer_that_is_wired_in_another_way_is_not_folded(kind):
    graph = mg.graph(record_blocks(kind(*[5] * 8)), level="op")
    plain = mg.graph(record_blocks(Blocks(*[5] * 8)), level="op")
    hidden = {step.module for group in graph.order if group.folded for step in group.steps}
    assert not hidden & set(graph.recording.model.blocks[3].modules())
    hidden = {step.module for group in plain.order if group.folded for step in group.steps}
    assert plain.recording.model.blocks[3] in hidden


def test_a_layer_of_another_class_is_not_folded():
    """It does the same, but it is called something else."""
    model = Blocks(*[5] * 8)
    model.blocks[3].__class__ = type("Other", (type(model.blocks[3]),), {})
    assert more(mg.graph(record_blocks(model))) == ["+2 more Block\nblocks.5 to blocks.6"]


def test_what_would_depend_on_itself_is_not_folded():
    """All layers are the same, but the mean needs each of them, and each needs the mean."""
    graph = mg.graph(recorded("compared"), level="op")
    assert len([frame for frame in graph.picture.frames if frame.title.startswith("layers.")]) == 6
    assert not any("Sequential" in title for title in more(graph))


def test_what_is_opened_is_not_folded():
    graph = mg.graph(recorded("blocks"), open=["blocks.2"])
    assert "blocks.2.first.weight" in {b.key for b in graph.picture.boxes}
    assert more(graph) == ["+2 more Block\nblocks.3 to blocks.4"]
    graph = mg.graph(recorded("post-norm"), open=["encoder.layers.3.ffn"])
    assert more(graph)[0] == "+2 more EncoderLayer\nlayers.1 to layers.2"


def test_folding_can_be_turned_off():
    assert more(mg.graph(recorded("post-norm"), level="sublayer", fold=False)) == []
