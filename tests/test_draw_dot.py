"""What is inside what, what stands where, and DOT."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.draw.dot import BORDERS, SHAPES, dot, ink_on
from minigrad.draw.layout import layout, untangled
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


def rows(made):
    """The rows with more than one box."""
    found = {}
    for key, (row, number) in sorted(made.place.items(), key=lambda item: item[1][1]):
        found.setdefault(row, []).append(key)
        assert found[row][number] == key
    return [row for row in found.values() if len(row) > 1]


def test_chains_stand_in_rows_and_the_memory_comes_by_bus():
    made = plan(pictures.encoder_decoder(3))
    parts = {"encoder": ("self_attn", "ffn"), "decoder": ("self_attn", "cross_attn", "ffn")}
    layers = [[f"{stack}.layers.{i}.{part}" for part in parts[stack]] for stack in parts for i in range(3)]
    assert rows(made) == [*layers, ["loss", "out"]]
    (bus,) = made.buses
    assert bus.tail == "encoder.layers.2.ffn"
    assert list(bus.stops) == [f"decoder.layers.{i}.self_attn" for i in range(3)]
    assert [[a.head for a in arrows] for arrows in bus.stops.values()] == [
        [f"decoder.layers.{i}.cross_attn"] for i in range(3)
    ]


def residual(layers):
    """A stream x, with x + f(x) twice in every layer."""
    picture = Picture("", [Box("x", "x")], frames=[Frame("stack", "stack")])
    x = "x"
    for i in range(layers):
        picture.frames.append(Frame(f"{i}", "layer", "stack"))
        for f in ("attn", "ffn"):
            branch, add = f"{i}.{f}", f"{i}.add_{f}"
            picture.boxes += [Box(branch, f, "module", inside=f"{i}"), Box(add, "add", "module", inside=f"{i}")]
            picture.arrows += [Arrow(x, branch), Arrow(branch, add), Arrow(x, add)]
            x = add
    picture.boxes.append(Box("loss", "loss"))
    picture.arrows.append(Arrow(x, "loss"))
    return picture


def test_each_branch_of_a_residual_stream_is_a_row_and_the_stream_is_straight():
    made = plan(residual(3))
    assert rows(made) == [[f"{i}.{f}", f"{i}.add_{f}"] for i in range(3) for f in ("attn", "ffn")]
    stream = ["x", *(f"{i}.add_{f}" for i in range(3) for f in ("attn", "ffn")), "loss"]
    assert list(made.straight) == list(pairwise(stream))
    assert made.buses == made.beside == []


def test_what_has_many_rows_is_set_in_columns_of_whole_layers():
    made = plan(residual(12))  # 24 rows: three columns of four layers
    assert made.beside == [("0.attn", "4.attn"), ("4.attn", "8.attn")]
    assert [bus.tail for bus in made.buses] == ["3.add_ffn", "7.add_ffn"]
    for bus, first in zip(made.buses, (4, 8), strict=True):
        heads = [[arrow.head for arrow in arrows] for arrows in bus.stops.values()]
        assert heads[0] == [f"{first}.attn", f"{first}.add_attn"]
        assert list(bus.stops)[:2] == [f"{first}.attn", f"{first}.ffn"]
        assert not any(heads[1:])  # it only passes by


def test_what_is_needed_in_many_places_is_not_cut():
    picture = residual(12)
    picture.arrows += [Arrow("0.attn", f"{i}.attn") for i in range(1, 12)]
    assert plan(picture).beside == []


def test_layers_stand_in_two_columns():
    made = plan(pictures.layers(6))
    assert not any("coder" in key for row in rows(made) for key in row)
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
    for ends in [("b3", "b5"), ("b5", "b3")]:  # a row of b3 and b5 would be above and below b4
        place, _ = untangled(Picture("", boxes, arrows), [list(ends), ["b7", "b8"]], arrows)
        assert {key for key, (row, number) in place.items() if number or row in ("b3", "b5", "b7")} >= {"b7", "b8"}
        assert place["b3"] == ("b3", 0)
        assert place["b5"] == ("b5", 0)
        assert place["b8"] == ("b7", 1)


def test_what_is_too_large_for_a_page_has_no_rows():
    assert plan(pictures.encoder_decoder(18)).place
    assert not plan(pictures.encoder_decoder(19)).place


def test_a_shallow_picture_needs_no_rows():
    picture = Picture("", [Box("a", "a", inside="f"), Box("b", "b", inside="f")], [Arrow("a", "b")], [Frame("f", "f")])
    assert not plan(picture).place


def test_parameters_are_no_way_into_a_frame():
    """A layer that is used twice, with its parameters in a box of their own: one use follows the other."""
    picture = residual(4)
    for box in picture.boxes:
        box.inside = box.inside and ("first" if box.inside < "2" else "second")
    picture.frames = [Frame("first", "first"), Frame("second", "second")]
    assert plan(picture).buses == []
    picture.boxes.append(Box("shared", "shared", "parameter"))
    picture.arrows += [Arrow("shared", "0.attn"), Arrow("shared", "2.attn")]
    assert plan(picture).buses == []
    picture.boxes[-1].kind = "input"
    assert {bus.tail for bus in plan(picture).buses} == {"1.add_ffn"}


def test_a_legend_has_few_lines():
    words = [f"colour number {i} of what is drawn means one thing, and no other" for i in range(6)]
    (heading,) = [line for line in dot(Picture("p", [Box("x", "x")], legend=words)).splitlines() if "labeljust" in line]
    assert heading.count("<BR ALIGN") == 4  # and the title
    wide = dot(Picture("p", [Box(str(i), "x") for i in range(30)], legend=words))
    assert wide.splitlines()[1].count("<BR ALIGN") == 3


def test_the_words_for_a_status_are_said_once():
    line = line_of(dot(Picture("", [Box("x", "x", lines=["data 1 | grad zero"], status="zero")])), "b0")
    assert line.count("zero") == 1


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
