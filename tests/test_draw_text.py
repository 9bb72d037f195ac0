"""Pictures as text: the tree, Mermaid and JSON."""

import html
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.draw.as_json import as_json, from_json
from minigrad.draw.mermaid import mermaid, plain
from minigrad.draw.outline import DrawError, outline, printable
from minigrad.draw.picture import Arrow, Box, Frame, Picture
from minigrad.draw.text import tree
from tests import pictures


# ---------------------------------------------------------------------------------------------------------------- tree
def test_a_tree_reads_as_the_data_flows():
    picture = Picture(
        "two layers",
        [
            Box("loss", "loss", "output", ["0.7 | 1"], highlighted=True),
            Box("a.w", "weight", "parameter", inside="a", status="not reached"),
            Box("a.m", "matmul", inside="a"),
            Box("x", "x", "input"),
            Box("b.w", "weight", "parameter", ["1 | 0"], inside="b", status="zero"),
            Box("b.m", "matmul", inside="b", lines=["2 | 3"]),
        ],
        [
            Arrow("a.w", "a.m"),
            Arrow("x", "a.m", "0.73"),
            Arrow("a.m", "b.m"),
            Arrow("b.w", "b.m", "w"),
            Arrow("b.m", "loss", highlighted=True),
        ],
        [Frame("a", "first"), Frame("b", "second", highlighted=True), Frame("empty", "empty")],
        ["data | grad"],
    )
    assert tree(picture) == (
        "two layers\n"
        "data | grad\n"
        "├─ first\n"
        "│  ├─ weight  parameter  [not reached]\n"
        "│  └─ matmul  <- a.w, x (0.73)\n"
        "├─ x  input\n"
        "├─ second *\n"
        "│  ├─ weight  parameter  1 | 0  [zero]\n"
        "│  └─ matmul  2 | 3  <- a.m, b.w (w)\n"
        "└─ loss *  output  0.7 | 1  <- b.m *\n"
    )


def test_what_is_too_long_for_a_line_goes_below():
    tails = [Box(f"tail{i}", f"tail{i}", "input") for i in range(3)]
    picture = Picture("", [*tails, Box("sum", "sum")], [Arrow(box.key, "sum", "0.333") for box in tails])
    assert tree(picture, 30).splitlines()[3:] == [
        "└─ sum  <- tail0 (0.333),",
        "        tail1 (0.333),",
        "        tail2 (0.333)",
    ]


def test_numbers_that_are_too_long_for_a_line_go_below():
    box = Box("a", "a", lines=["|g| 0.19 -> 0.18 (gain 0.97)", "320 parameters", "1.5 ms forward"], status="zero")
    picture = Picture("", [box], legend=["boxes: time, 0.1 s to 2 s, by its logarithm"])
    assert tree(picture, 40).splitlines() == [
        "boxes: time, 0.1 s to 2 s, by its",
        "logarithm",
        "└─ a  |g| 0.19 -> 0.18 (gain 0.97)",
        "     320 parameters  1.5 ms forward",
        "     [zero]",
    ]


@given(pictures.any_picture(st.text(max_size=20)), st.integers(20, 120))
def test_a_tree_is_plain_lines_of_limited_width(picture, width):
    lines = tree(picture, width).split("\n")
    assert lines.pop() == ""
    assert all(len(line) <= width for line in lines)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", "".join(lines))


@given(pictures.any_picture(st.just("x")))
def test_a_tree_names_every_box_and_every_arrow(picture):
    for box in picture.boxes:
        box.title = f"<{box.key}>"
    text = tree(picture, 1000)
    tails = re.findall(r"(?:<- |, )<(b\d+)>", text)
    assert sorted(tails) == sorted(arrow.tail for arrow in picture.arrows)
    assert sorted(re.findall(r"─ <(b\d+)>", text)) == sorted(box.key for box in picture.boxes)


def test_sixty_boxes_are_two_screens():
    picture = pictures.encoder_decoder(10)
    assert len(picture.boxes) == 59
    assert len(tree(picture).splitlines()) <= 100


def test_a_tree_needs_some_width():
    with pytest.raises(ValueError, match=r"tree\(\): width is 5.*Try width=80"):
        tree(pictures.everything(), 5)


# ------------------------------------------------------------------------------------------------------------- Mermaid
def decoded(text):
    """What Mermaid shows for text between double quotes."""
    return html.unescape(re.sub(r"#(\d+);", r"&#\1;", text.replace("<br/>", "\n")))


@given(st.text() | st.text('"#;&<>`*_-.()[]{}\\\t\n1a '))
def test_entity_codes_bring_back_the_text(text):
    coded = plain(text)
    assert not re.search(r'["<>`\[\]{}&]', coded.replace("<br/>", ""))
    assert not re.search(r"#(?!\d+;)", coded)
    assert decoded(coded) == printable(text)


@pytest.mark.parametrize(
    "text", ["- item", "* item", "+ item", "1. item", "1) item", "# title", "`code`", "**b**", "_i_"]
)
def test_no_text_is_taken_for_markdown(text):
    assert re.search(r"#\d+;", plain(text))


def test_common_names_stay_readable():
    assert plain("encoder.layers.0 (self_attn): 1.2e-05 | 0.3") == "encoder.layers.0 (self_attn): 1.2e-05 | 0.3"


@given(pictures.any_picture(st.text(max_size=5)))
def test_a_flowchart_has_every_box_arrow_and_frame(picture):
    lines = mermaid(picture).split("\n")
    start = lines.index("flowchart TB")
    body = [line.strip() for line in lines[start + 1 :]]
    nodes = [line for line in body if re.match(r'b\d+[(\[{>/]+"', line)]
    assert sorted(re.findall(r"^b\d+", "\n".join(nodes), re.M)) == sorted(f"b{i}" for i in range(len(picture.boxes)))
    names = {box.key: f"b{i}" for i, box in enumerate(picture.boxes)}
    arrows = [tuple(re.findall(r"^(b\d+) -->(?:\|.*\|)? (b\d+)$", line)[0]) for line in body if " -->" in line]
    assert arrows == [(names[arrow.tail], names[arrow.head]) for arrow in picture.arrows]
    frames = sum(bool(outline(picture)[frame.key]) for frame in picture.frames)
    assert sum(line.startswith("subgraph ") for line in body) == body.count("end") == frames
    assert sum(line.startswith("linkStyle ") for line in body) == len(arrows)
    for line in body:
        assert line.count('"') % 2 == 0
    if picture.title:
        assert json.loads(lines[1].removeprefix("title: ")) == printable(picture.title)


def test_kinds_and_statuses_are_seen_in_a_flowchart():
    text = mermaid(pictures.everything())
    opened = re.findall(r'^ *b\d+([(\[{>/]+)"', text, re.M)
    assert len(set(opened)) == 7
    assert "<br/>not reached" in text
    assert "stroke-dasharray:6 4" in next(line for line in text.splitlines() if line.startswith("  style b8 "))
    assert "linkStyle 3 stroke:#000000,stroke-width:3px" in text
    assert "style f1 fill:none,stroke:#000000,stroke-width:3px" in text


# ---------------------------------------------------------------------------------------------------------------- JSON
@given(pictures.any_picture(st.text(max_size=10)))
def test_json_brings_back_the_picture(picture):
    text = as_json(picture)
    assert from_json(text) == picture
    assert set(json.loads(text)) == {"format", "title", "boxes", "arrows", "frames", "legend"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"format": "minigrad.picture/2", "title": ""}',
        '{"format": "minigrad.picture/1"}',
        as_json(Picture("x", [Box("a", "a")])).replace('"kind"', '"king"'),
        as_json(Picture("x")).replace('"legend"', '"legends"'),
    ],
)
def test_what_is_no_picture_is_refused(text):
    with pytest.raises(DrawError, match=r"from_json\(\): this is not a picture in the format 'minigrad.picture/1'"):
        from_json(text)
