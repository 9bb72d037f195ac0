"""What is inside what, what stands where, and DOT."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.draw.dot import BORDERS, SHAPES, dot, ink_on
from minigrad.draw.layout import layout
from minigrad.draw.outline import DrawError, in_order, outline, printable
from minigrad.draw.picture import KINDS, Arrow, Box, Frame, Picture
from tests import pictures


# ------------------------------------------------------------------------------------------------------------ outlines
@given(pictures.any_picture(st.just("x")))
def test_an_outline_has_every_box_once_and_every_frame_that_is_not_empty(picture):
    items = outline(picture)
    listed = [item.key for children in items.values() for item in children]
    assert len(set(listed)) == len(listed)
    assert {box.key for box in picture.boxes} <= set(listed)
    assert {f.key for f in picture.frames if items[f.key]} == {f.key for f in picture.frames if f.key in listed}
    assert all(item.inside == key for key, children in items.items() for item in children)


@given(st.data())
def test_tails_come_before_heads(data):
    boxes = [Box(str(i), "x") for i in data.draw(st.permutations(range(12)))]
    pairs = data.draw(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30))
    arrows = [Arrow(str(min(pair)), str(max(pair))) for pair in pairs if pair[0] != pair[1]]
    order = [box.key for box in in_order(boxes, arrows)]
    assert sorted(order) == sorted(box.key for box in boxes)
    assert all(order.index(arrow.tail) < order.index(arrow.head) for arrow in arrows)


def test_boxes_on_a_circle_stay_as_given():
    boxes = [Box(key, key) for key in "abc"]
    arrows = [Arrow("a", "b"), Arrow("b", "a"), Arrow("b", "c"), Arrow("c", "c")]
    assert [box.key for box in in_order(boxes, arrows)] == ["a", "b", "c"]
    boxes = [Box(key, key) for key in "abdx"]
    arrows = [Arrow("a", "b"), Arrow("b", "a"), Arrow("d", "d"), Arrow("a", "x"), Arrow("d", "x")]
    assert [box.key for box in in_order(boxes, arrows)] == ["a", "b", "d", "x"]


def test_what_is_no_text_is_replaced():
    assert printable("a\0b\x1b[0m\x85\ud800\uffff") == "a\ufffdb\ufffd[0m\ufffd\ufffd\ufffd"
    assert printable("é\xa0日\t\n☃😀") == "é\xa0日\t\n☃😀"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [Box("a", "a"), Box("a", "b")]}, r"two things have the key 'a'.*Give one of them another"),
        ({"boxes": [Box("a", "a")], "frames": [Frame("a", "a")]}, "two things have the key 'a'"),
        ({"boxes": [Box("a", "a", inside="f")]}, r"'a' is inside 'f', which is no frame.*inside=None"),
        ({"frames": [Frame("g", "g", inside="f")]}, "'g' is inside 'f', which is no frame"),
        ({"boxes": [Box("a", "a")], "arrows": [Arrow("a", "b")]}, r"from 'a' to 'b', but 'b' is no box.*Add the box"),
        ({"frames": [Frame("f", "f")], "boxes": [Box("a", "a")], "arrows": [Arrow("f", "a")]}, "'f' is no box"),
        ({"frames": [Frame("f", "f", "g"), Frame("g", "g", "f")]}, r"the frame '[fg]' is inside itself"),
        ({"boxes": [Box("a", "a", "cloud")]}, r"the kind 'cloud'; kinds are op, module"),
        ({"boxes": [Box("a", "a", fill="#abc")]}, r"the colour '#abc'.*six digits"),
        ({"boxes": [Box("a", "a")], "arrows": [Arrow("a", "a", colour="red")]}, "the colour 'red'"),
        ({"boxes": [Box("a", "a")], "arrows": [Arrow("a", "a", width=float("nan"))]}, r"the width nan.*Try 1\.0"),
        ({"boxes": [Box("a", "a")], "arrows": [Arrow("a", "a", width=-1)]}, "the width -1"),
    ],
)
def test_a_picture_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(DrawError, match=message):
        dot(Picture("wrong", **change))


# ------------------------------------------------------------------------------------------------------------- layouts
def plan(picture):
    return layout(picture, outline(picture))


def test_sublayers_stand_in_rows_and_the_memory_comes_by_bus():
    picture = pictures.encoder_decoder(6)
    made = plan(picture)
    assert made.rows == {f"{stack}.layers.{i}" for stack in ("encoder", "decoder") for i in range(6)}
    (bus,) = made.buses
    assert bus.tail == "encoder.layers.5.ffn"
    assert list(bus.stops) == [f"decoder.layers.{i}" for i in range(6)]
    assert [[a.head for a in arrows] for arrows in bus.stops.values()] == [[f"{s}.cross_attn"] for s in bus.stops]


def test_layers_stand_in_two_columns():
    made = plan(pictures.layers(6))
    assert made.rows == set()
    assert [(bus.tail, list(bus.stops)) for bus in made.buses] == [("encoder.5", [f"decoder.{i}" for i in range(6)])]


def test_a_frame_around_everything_changes_nothing():
    picture, framed = pictures.encoder_decoder(4), pictures.encoder_decoder(4)
    for item in [*framed.frames, *framed.boxes]:
        item.inside = item.inside or "all"
    framed.frames.append(Frame("all", "Transformer"))
    assert plan(framed) == plan(picture)


def test_a_row_holds_nothing_that_other_boxes_are_between():
    boxes = [Box(f"b{i}", "x", inside="f" if i in (3, 5) else "g" if i in (7, 8) else None) for i in range(10)]
    arrows = [Arrow(f"b{i}", f"b{i + 1}") for i in range(9)]
    assert plan(Picture("", boxes, arrows, [Frame("f", "f"), Frame("g", "g")])).rows == {"g"}


def test_what_is_too_large_for_a_page_has_no_rows():
    assert plan(pictures.encoder_decoder(18)).rows
    assert plan(pictures.encoder_decoder(19)).rows == set()


def test_labels_of_arrows_that_leap_in_a_row_take_no_space():
    picture = pictures.encoder_decoder(4)
    picture.arrows.append(Arrow("decoder.layers.1.self_attn", "decoder.layers.1.ffn", "leap"))
    lines = [line for line in dot(picture).splitlines() if "leap" in line]
    assert ["xlabel=< leap >" in line for line in lines] == [True]
    assert dot(picture).count("xlabel=") == 1


def test_a_shallow_picture_needs_no_rows():
    picture = Picture("", [Box("a", "a", inside="f"), Box("b", "b", inside="f")], [Arrow("a", "b")], [Frame("f", "f")])
    assert plan(picture).rows == set()


def test_frames_that_follow_each_other_are_not_put_side_by_side():
    assert plan(pictures.tape(5)).buses == []
    without_target = pictures.layers(6)
    without_target.arrows = [arrow for arrow in without_target.arrows if arrow.tail != "tgt"]
    assert plan(without_target).buses == []


def test_a_short_frame_does_not_stand_beside_a_deep_one():
    picture = pictures.layers(8)
    picture.boxes = [b for b in picture.boxes if b.inside != "decoder" or b.key < "decoder.2"]
    picture.arrows = [a for a in picture.arrows if a.head < "decoder.2" or a.head.startswith("encoder")]
    assert plan(picture).buses == []


# ----------------------------------------------------------------------------------------------------------------- DOT
def line_of(source, name):
    return next(line for line in source.splitlines() if line.strip().startswith(f"{name} ["))


def test_each_kind_has_a_look_of_its_own():
    assert set(SHAPES) == set(KINDS)
    looks = [
        tuple(value for key, value in shape.items() if key not in ("fillcolor", "margin")) for shape in SHAPES.values()
    ]
    assert len(set(looks)) == len(KINDS)


def test_statuses_are_drawn_apart_and_said():
    source = dot(Picture("", [Box(status, "t", status=status, fill="#0072b2") for status in BORDERS]))
    lines = [line_of(source, f"b{i}") for i in range(len(BORDERS))]
    for status, line in zip(BORDERS, lines, strict=True):
        assert f">{status}</FONT>" in line
        assert 'fillcolor="#ffffff"' in line  # a colour would say that there is a number
    assert ["dashed" in line for line in lines] == [False, True, False, False]
    assert ["dotted" in line for line in lines] == [False, False, True, True]


def test_what_is_highlighted_has_a_heavy_line():
    boxes = [Box("a", "a", highlighted=True), Box("b", "b", inside="f")]
    picture = Picture("", boxes, [Arrow("a", "b", highlighted=True, width=1)], [Frame("f", "f", highlighted=True)])
    assert dot(picture).count('color="#000000"') == dot(picture).count("penwidth=3") == 3


def test_a_highlighted_path_is_lit_along_the_bus():
    picture = pictures.encoder_decoder(4)
    arrow = next(a for a in picture.arrows if a.head == "decoder.layers.2.cross_attn" and a.tail.startswith("encoder"))
    arrow.highlighted = True
    lit = [line.split("[")[0].split() for line in dot(picture).splitlines() if "->" in line and "#000000" in line]
    names = {box.key: f"b{i}" for i, box in enumerate(picture.boxes)}
    ends = [(tail, head) for tail, _, head in lit]
    (first,) = [head for tail, head in ends if tail == names[arrow.tail]]  # to the lowest stop, that of layer 3,
    (second,) = [
        tail for tail, head in ends if head == first and tail != names[arrow.tail]
    ]  # up to the stop of layer 2,
    assert (second, names[arrow.head]) in ends  # and out
    assert len(ends) == 3


def test_stops_are_kept_in_place_by_arrows_that_nobody_sees():
    source = dot(pictures.layers(6))
    hidden = re.findall(r"(b7_b\d+) -> (b\d+) \[style=invis\]", source)
    seen = re.findall(r"(b7_b\d+) -> (b\d+) \[(?!style=invis)", source)
    assert sorted(hidden) == sorted(seen)
    assert len(hidden) == 6


def test_what_older_renderers_stumble_over_is_an_entity():
    label = line_of(dot(Picture("", [Box("x", "]", lines=["\t"])])), "b0")
    assert "<B>&#93;</B>" in label
    assert "\t" not in label.strip()


def test_dot_says_nothing_that_clips_or_shrinks():
    source = dot(pictures.everything())
    assert not re.search(r"\b(size|ratio|page|viewport)=", source)


def test_text_on_a_colour_can_be_read():
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    palette = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000", "#ffffff"]
    for colour in palette:
        light, dark = sorted([luminance(colour), luminance(ink_on(colour))], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3.9  # WCAG asks for 3 where text is large or bold
    assert all(ink_on(shape["fillcolor"]) == "#222222" for shape in SHAPES.values())
