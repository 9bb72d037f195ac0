"""Pictures of whole models are pages: as wide and high as a screen, and what is on them does not overlap."""

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree as ET

import pytest

import minigrad as mg
from minigrad.draw import render
from minigrad.draw.dot import heading
from minigrad.draw.layout import layout
from minigrad.draw.outline import outline
from tests.recordings import every_case, recorded
from tests.test_draw_render import SVG, groups

pytestmark = pytest.mark.skipif(render.renderer() is None, reason="neither dot nor graphviz-pure is installed")
both_norms = pytest.mark.parametrize("norm", ["post-norm", "pre-norm"])
six_layers = pytest.mark.parametrize("name", ["post-norm", "pre-norm", "tied", "one projection"])
folded_and_not = pytest.mark.parametrize("fold", [True, False], ids=["folded", "unfolded"])


def page(norm, fold):
    """An encoder-decoder with N = 6 at the level of sublayers, how it is drawn, and where its boxes stand."""
    picture = mg.graph(recorded(norm), level="sublayer", fold=fold).picture
    return picture, render.svg(picture), extents(picture)


def extents(picture):
    """Left, top, right and bottom of each box, and of stops of buses by their names in DOT; in points."""
    names = {f"b{i}": box.key for i, box in enumerate(picture.boxes)}
    found = {}
    for line in render.render(picture, "plain").decode().splitlines():
        if line.startswith("node "):
            name, *numbers = line.split()[1:6]
            x, y, width, height = (72 * float(number) for number in numbers)
            found[names.get(name, name)] = x - width / 2, -y - height / 2, x + width / 2, -y + height / 2
    return found


@both_norms
@folded_and_not
def test_six_layers_are_a_page(norm, fold):
    _, source, _ = page(norm, fold)
    width, height = map(float, (ET.fromstring(source).get("viewBox") or "").split()[2:])  # points
    assert (1 if fold else 1.2) < width / height < 2.2
    assert height < (1000 if fold else 1300)
    assert width < (1400 if fold else 2800)


@six_layers
@folded_and_not
def test_rows_run_from_left_to_right_and_buses_on_their_left(name, fold):
    picture, _, where = page(name, fold)
    plan = layout(picture, outline(picture))
    in_rows = sorted(plan.place.items(), key=lambda item: item[1])
    pairs = [(a, b) for (a, (row, _)), (b, (same, _)) in pairwise(in_rows) if row == same]
    assert pairs
    for left, right in pairs:
        assert where[left][2] < where[right][0]
        assert where[left][1] < where[right][3]
        assert where[right][1] < where[left][3]
    names = {box.key: f"b{i}" for i, box in enumerate(picture.boxes)}
    assert plan.buses
    for bus in plan.buses:
        for row in bus.stops:
            stop, first = where[f"{names[bus.tail]}_{names[row]}"], where[row]
            assert stop[2] < first[0]
            assert first[1] < stop[1] < first[3]


@both_norms
@folded_and_not
def test_the_residual_stream_is_straight(norm, fold):
    picture, _, where = page(norm, fold)
    stream = layout(picture, outline(picture)).straight
    assert len(stream) > 10
    for above, below in stream:
        assert sum(where[above][::2]) / 2 == pytest.approx(sum(where[below][::2]) / 2, abs=20)


@both_norms
@folded_and_not
def test_nothing_covers_a_box(norm, fold):
    picture, source, where = page(norm, fold)
    where = {box.key: where[box.key] for box in picture.boxes}
    for (left, top, right, bottom), (x0, y0, x1, y1) in combinations(where.values(), 2):
        assert right <= x0 or x1 <= left or bottom <= y0 or y1 <= top
    for group in [*groups(source, "edge"), *groups(source, "cluster")]:
        for text in group.iter(f"{SVG}text"):
            x, y = float(text.get("x", "")), float(text.get("y", "")) - 3  # the middle of small letters
            assert not any(left < x < right and top < y < bottom for left, top, right, bottom in where.values())


@every_case
@pytest.mark.parametrize("level", [None, "model", "layer"])
def test_the_legend_has_at_most_three_lines(name, level):
    if name == "no model" and level:
        return  # it says that there are no such levels
    picture = mg.graph(recorded(name), level=level, title="title").picture
    lines = re.findall(r"<FONT[^>]*>(.*?)</FONT>", heading(picture))
    assert len(lines) <= 1 + 3
    said = " ".join(lines[1:]).casefold()
    for part in ("colour of boxes", "width of arrows", "&lt;g_e, g&gt; / &lt;g, g&gt;", "negative", "root mean square"):
        assert part in said


def test_ops_stand_below_their_parameters_and_these_below_what_comes_in():
    """Else the parameters of one op stand beside the op before, and many ops make a staircase."""
    picture = mg.graph(recorded("post-norm"), level="op").picture
    where = extents(picture)
    kinds = {box.key: box.kind for box in picture.boxes}
    used = {}
    for arrow in picture.arrows:
        if kinds[arrow.tail] == "parameter":
            used.setdefault(arrow.head, []).append(arrow.tail)
    others = [a for a in picture.arrows if a.head in used and kinds[a.tail] != "parameter"]
    assert len(others) > 20
    for arrow in others:
        assert all(where[arrow.tail][3] < where[key][1] < where[arrow.head][1] for key in used[arrow.head])
