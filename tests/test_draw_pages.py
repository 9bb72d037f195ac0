"""Pictures of whole models are pages: as wide and high as a screen, and what is on them does not overlap."""

import re
from itertools import combinations
from xml.etree import ElementTree as ET

import pytest

import minigrad as mg
from minigrad.draw import render
from minigrad.draw.dot import heading
from minigrad.draw.layout import layout
from minigrad.draw.outline import outline
from tests.recordings import every_case, recorded
from tests.test_draw_render import SVG, extent, groups, words

pytestmark = pytest.mark.skipif(render.renderer() is None, reason="neither dot nor graphviz-pure is installed")
both_norms = pytest.mark.parametrize("norm", ["post-norm", "pre-norm"])
folded_and_not = pytest.mark.parametrize("fold", [True, False], ids=["folded", "unfolded"])


def page(norm, fold):
    """A picture of an encoder-decoder with N = 6 at the level of sublayers, how it is drawn, and where boxes stand."""
    picture = mg.graph(recorded(norm), level="sublayer", fold=fold).picture
    source = render.svg(picture)
    drawn = [group for group in groups(source, "node") if words(group)]
    assert len(drawn) == len(picture.boxes)
    called = {"".join((box.title + "".join(box.lines)).split()): box.key for box in picture.boxes}
    return picture, source, {called[words(group)]: extent(group) for group in drawn if words(group) in called}


@both_norms
@folded_and_not
def test_six_layers_are_a_page(norm, fold):
    _, source, _ = page(norm, fold)
    width, height = map(float, (ET.fromstring(source).get("viewBox") or "").split()[2:])  # points
    assert (1 if fold else 1.2) < width / height < 2.2
    assert height < (1000 if fold else 1300)
    assert width < (1250 if fold else 2600)


@both_norms
@folded_and_not
def test_rows_run_from_left_to_right_and_buses_on_their_left(norm, fold):
    picture, source, where = page(norm, fold)
    plan = layout(picture, outline(picture))
    in_rows = sorted(plan.place.items(), key=lambda item: item[1])
    pairs = [(a, b) for (a, (row, _)), (b, (same, _)) in zip(in_rows, in_rows[1:], strict=False) if row == same]
    assert pairs
    for left, right in pairs:
        if left in where and right in where:
            assert where[left][2] < where[right][0]
            assert where[left][1] < where[right][3]
            assert where[right][1] < where[left][3]
    points = [group.find(f"{SVG}ellipse") for group in groups(source, "node") if not words(group)]
    places = sorted((float(p.get("cx")), float(p.get("cy"))) for p in points)
    assert len(places) == sum(len(bus.stops) for bus in plan.buses)
    for bus in plan.buses:
        for row in bus.stops:
            left, top, _, bottom = where.get(row, (None,) * 4)
            assert left is None or any(x < left and top < y < bottom for x, y in places)


@both_norms
@folded_and_not
def test_nothing_covers_a_box(norm, fold):
    _, source, where = page(norm, fold)
    for (left, top, right, bottom), (x0, y0, x1, y1) in combinations(where.values(), 2):
        assert right <= x0 or x1 <= left or bottom <= y0 or y1 <= top
    for group in [*groups(source, "edge"), *groups(source, "cluster")]:
        for text in group.iter(f"{SVG}text"):
            x, y = float(text.get("x")), float(text.get("y")) - 3  # the middle of small letters
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
