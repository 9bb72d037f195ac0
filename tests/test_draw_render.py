"""SVG and PNG, the programs that make them, and files."""

import re
import struct
import sys
import sysconfig
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrad.draw import render
from minigrad.draw.as_json import from_json
from minigrad.draw.dot import dot
from minigrad.draw.files import mimebundle, save
from minigrad.draw.outline import DrawError, printable
from minigrad.draw.picture import Arrow, Box, Frame, Picture
from minigrad.draw.render import NoRenderer, png, svg
from tests import pictures

SVG = "{http://www.w3.org/2000/svg}"
needs_renderer = pytest.mark.skipif(render.renderer() is None, reason="neither dot nor graphviz-pure is installed")


def groups(source, kind):
    """The groups of a drawing that are of one kind: "node", "edge" or "cluster"."""
    return [group for group in ET.fromstring(source).iter(f"{SVG}g") if group.get("class") == kind]


def words(group):
    """The text in a group, without white space, which renderers treat differently."""
    return "".join("".join(text.text or "" for text in group.iter(f"{SVG}text")).split())


def extent(group):
    """Left, top, right and bottom of the first outline in a group."""
    shape = next(child for child in group if child.tag in (f"{SVG}polygon", f"{SVG}path"))
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", shape.get("points") or shape.get("d") or "")]
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def named(source, kind, word):
    return next(extent(group) for group in groups(source, kind) if words(group).startswith(word))


# ----------------------------------------------------------------------------------------------------------- SVG itself
@needs_renderer
@settings(max_examples=12)
@given(
    pictures.any_picture(st.text(max_size=8) | st.sampled_from(['"a" <b>&amp; \\N \\', "]", "\t", "a\nb", "-->", ""]))
)
def test_all_text_arrives_in_the_drawing(picture):
    source = svg(picture)

    def squeezed(*texts):
        return "".join("".join(map(printable, texts)).split())

    def notes(kind):
        titles = [group.find(f"{SVG}title") for group in groups(source, kind)]
        return sorted(squeezed(title.text or "") for title in titles if title is not None)

    said = [any(box.status in line for line in box.lines) for box in picture.boxes]
    boxes = [squeezed(b.title, *b.lines, "" if once else b.status) for b, once in zip(picture.boxes, said, strict=True)]
    assert sorted(map(words, groups(source, "node"))) == sorted(
        boxes + [""] * (len(groups(source, "node")) - len(boxes))
    )
    shown = [squeezed(box.note or box.title) for box in picture.boxes]
    assert notes("node") == sorted(note for note in shown if note)
    labels = [squeezed(arrow.label) for arrow in picture.arrows]
    assert sorted(filter(None, map(words, groups(source, "edge")))) == sorted(filter(None, labels))
    titles = {squeezed(frame.title) for frame in picture.frames}
    assert {words(group) for group in groups(source, "cluster")} <= titles
    legend = squeezed(". ".join(line[:1].upper() + line[1:] for line in picture.legend if line))
    assert squeezed(picture.title) + legend in words(ET.fromstring(source))


@needs_renderer
def test_a_drawing_needs_nothing_from_elsewhere():
    source = svg(pictures.everything())
    assert source.startswith("<svg ")
    assert set(re.findall(r"\w+://[^\"'\s<]+", source)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(a|image|script|use|style)\b|href|url\(|<!", source)


@needs_renderer
def test_a_drawing_is_not_clipped():
    root = ET.fromstring(svg(pictures.encoder_decoder()))
    left, top, width, height = map(float, root.get("viewBox", "").split())
    assert (left, top) == (0, 0)
    assert float(root.get("width", "").removesuffix("pt")) == pytest.approx(width, abs=1)
    assert float(root.get("height", "").removesuffix("pt")) == pytest.approx(height, abs=1)
    (graph,) = [group for group in root.iter(f"{SVG}g") if group.get("class") == "graph"]
    dx, dy = map(float, re.findall(r"translate\((\S+) (\S+)\)", graph.get("transform", ""))[0])
    for element in graph.iter():
        for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", element.get("d", "")):
            assert -1 <= float(x) + dx <= width + 1
            assert -1 <= float(y) + dy <= height + 1


@needs_renderer
def test_pointing_at_a_thing_shows_its_note():
    boxes = [Box("a", "a", note="the first"), Box("b", "b", inside="f")]
    source = svg(Picture("two", boxes, [Arrow("a", "b", "x", note="on its way")], [Frame("f", "f", note="around")]))
    notes = {kind: [g.findtext(f"{SVG}title") for g in groups(source, kind)] for kind in ("node", "edge", "cluster")}
    assert notes == {"node": ["the first", "b"], "edge": ["on its way"], "cluster": ["around"]}
    assert [g.findtext(f"{SVG}title") for g in groups(source, "graph")] == ["two"]


# --------------------------------------------------------------------------------------------------- where things stand
@needs_renderer
def test_an_encoder_decoder_of_six_layers_is_a_page():
    source = svg(pictures.encoder_decoder(6))
    width, height = map(float, (ET.fromstring(source).get("viewBox") or "").split()[2:])
    assert 0.7 < width / height < 1.5
    assert max(width, height) < 1100  # points
    encoder, decoder = named(source, "cluster", "encoder:"), named(source, "cluster", "decoder:")
    assert encoder[2] < decoder[0]  # beside each other
    assert abs(encoder[1] - decoder[1]) < 60


@needs_renderer
def test_no_box_covers_another_and_all_are_in_their_frames():
    picture = pictures.encoder_decoder(3)
    source = svg(picture)
    boxes = [extent(group) for group in groups(source, "node") if words(group)]
    assert len(boxes) == len(picture.boxes)
    for i, (left, top, right, bottom) in enumerate(boxes):
        for x0, y0, x1, y1 in boxes[:i]:
            assert right <= x0 or x1 <= left or bottom <= y0 or y1 <= top
    decoder = named(source, "cluster", "decoder:")
    inside = [(left, top) for left, top, right, bottom in boxes if decoder[0] < left < decoder[2]]
    assert len([top for _, top in inside if decoder[1] < top < decoder[3]]) == 9


# ---------------------------------------------------------------------------------------------------------------- PNG
def size_of(image):
    assert image.startswith(b"\x89PNG")
    return struct.unpack(">II", image[16:24])


@needs_renderer
def test_a_png_has_as_many_pixels_as_asked_for():
    picture = Picture("", [Box("x", "x"), Box("y", "y")], [Arrow("x", "y")])
    (width, height), (twice_width, twice_height) = size_of(png(picture, 100)), size_of(png(picture, 200))
    assert twice_width == pytest.approx(2 * width, abs=4)
    assert twice_height == pytest.approx(2 * height, abs=4)
    assert size_of(png(picture)) == size_of(png(picture, 96))


@needs_renderer
def test_a_large_png_has_fewer_pixels_to_the_inch(monkeypatch):
    monkeypatch.setattr(render, "PIXELS", 100_000)
    picture = pictures.encoder_decoder()
    width, height = size_of(png(picture))
    assert 95_000 < width * height < 101_000
    with pytest.raises(DrawError, match=r"at dpi=96 would be .* pixels.*Try dpi=\d+, or SVG"):
        png(picture, 96)


@pytest.mark.parametrize("dpi", [0, -1, float("nan"), float("inf")])
def test_dpi_must_be_a_number(dpi):
    with pytest.raises(ValueError, match=r"png\(\): dpi is .*Try dpi=96"):
        png(Picture(""), dpi)


# ------------------------------------------------------------------------------------------------- which program draws
@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A function that installs a program of this name, made of this Python code. No other one can be found."""
    if sys.platform == "win32":
        pytest.skip("programs that are scripts need a shebang line")
    on_path, scripts = tmp_path / "path", tmp_path / "scripts"
    on_path.mkdir()
    scripts.mkdir()
    monkeypatch.setenv("PATH", str(on_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(scripts))

    def install(name, code):
        program = (on_path if name == "dot" else scripts) / name
        program.write_text(f"#!{sys.executable} -S\nimport sys\n{code}\n", encoding="utf-8")
        program.chmod(0o755)
        return program

    return install


ANSWER = """
print('<?xml version="1.0"?><!DOCTYPE svg><svg xmlns="http://www.w3.org/2000/svg"><!-- {} --><text>{}</text></svg>')
"""


def test_dot_is_used_where_it_is_installed(programs):
    programs("graphviz-pure", ANSWER.format("", "pure"))
    assert render.renderer().name == "graphviz-pure"
    assert ">pure</text>" in svg(pictures.everything())
    programs("dot", ANSWER.format("comment", "dot"))
    assert render.renderer().name == "dot"
    drawn = svg(pictures.everything())
    assert ">dot</text>" in drawn
    assert "comment" not in drawn


def test_the_program_is_given_the_picture_in_dot(programs, tmp_path):
    programs("dot", f"open({str(tmp_path / 'given')!r}, 'wb').write(sys.stdin.buffer.read())\n" + ANSWER.format("", ""))
    svg(pictures.everything())
    assert (tmp_path / "given").read_text(encoding="utf-8") == dot(pictures.everything())


def test_without_a_program_one_is_named(programs):
    with pytest.raises(NoRenderer, match=r"neither `dot` nor graphviz-pure.*pip install graphviz-pure"):
        svg(pictures.everything())


def test_what_the_program_complains_of_is_passed_on(programs):
    programs("dot", "sys.exit('cannot do that')")
    with pytest.raises(DrawError, match=r"dot failed: cannot do that\. Save the picture as \.dot"):
        svg(pictures.everything())
    programs("dot", "sys.exit(3)")
    with pytest.raises(DrawError, match="dot failed: exit status 3"):
        svg(pictures.everything())


def test_a_page_that_the_program_fails_on_is_drawn_in_its_own_way(programs):
    programs("dot", "if 'rank=same' in sys.stdin.read(): sys.exit(1)" + ANSWER.format("", "drawn"))
    assert "rank=same" in dot(pictures.encoder_decoder())
    assert ">drawn</text>" in svg(pictures.encoder_decoder())


def test_a_program_that_takes_too_long_is_ended(programs, monkeypatch):
    monkeypatch.setattr(render, "SECONDS", 0.1)
    programs("dot", "import time; time.sleep(60)")
    with pytest.raises(DrawError, match=r"dot has not drawn 26 boxes and arrows in 0\.1 s.*coarser level"):
        svg(pictures.everything())


def test_twenty_thousand_boxes_are_not_laid_out_but_written():
    picture = pictures.tape(2000)
    for draw in (svg, png):
        with pytest.raises(DrawError, match=r"20001 boxes and 22000 arrows; .*Open fewer paths"):
            draw(picture)
    assert dot(picture).count("->") == 22_000


# --------------------------------------------------------------------------------------------------------------- files
@needs_renderer
def test_the_ending_says_the_format(tmp_path):
    picture = pictures.everything()
    starts = {
        ".dot": b"digraph",
        ".gv": b"digraph",
        ".svg": b"<svg",
        ".PNG": b"\x89PNG",
        ".json": b"{",
        ".mmd": b"---\ntitle",
        ".txt": b"Kinds",
    }
    for ending, start in starts.items():
        path = save(picture, tmp_path / f"p{ending}")
        assert path == tmp_path / f"p{ending}"
        assert path.read_bytes().startswith(start)
    assert from_json((tmp_path / "p.json").read_text(encoding="utf-8")) == picture


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'p\.pdf' ends in '\.pdf'.*\.dot, .*Try 'p\.svg'"):
        save(pictures.everything(), tmp_path / "p.pdf")


def test_without_a_program_dot_is_written_beside(programs, tmp_path):
    with pytest.warns(UserWarning, match=r"pip install graphviz-pure.*Wrote .*p\.dot instead"):
        path = save(pictures.everything(), tmp_path / "p.svg")
    assert path == tmp_path / "p.dot"
    assert path.read_text(encoding="utf-8") == dot(pictures.everything())
    assert not (tmp_path / "p.svg").exists()


@needs_renderer
def test_notebooks_show_svg_and_text():
    bundle = mimebundle(pictures.everything())
    assert bundle["image/svg+xml"] == svg(pictures.everything())
    assert bundle["text/plain"].startswith("Kinds & statuses\n")


def test_notebooks_without_a_program_show_text(programs):
    bundle = mimebundle(pictures.everything())
    assert set(bundle) == {"text/plain"}
    assert "pip install graphviz-pure" in bundle["text/plain"]


def test_notebooks_show_the_beginning_of_a_tape():
    bundle = mimebundle(pictures.tape(2000))
    assert set(bundle) == {"text/plain"}
    lines = bundle["text/plain"].splitlines()
    assert len(lines) == 202
    assert re.fullmatch(r"… \d+ more lines; print the tree to see them", lines[-2])
    assert "Open fewer paths" in lines[-1]
