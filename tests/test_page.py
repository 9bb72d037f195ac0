"""Pages: what is written in them, and that nothing in them needs a network."""

import re
from html.parser import HTMLParser
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from minigrad.draw.page import Section, anchor, page, save_page
from minigrad.trace import Table


class Row(NamedTuple):
    path: str


class Reader(HTMLParser):
    """Collects tags and text, and complains about what is not closed."""

    VOID = ("meta", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def whole(word="x"):
    section = Section(
        word, f"{word}\n\nmore", word, [(f"{word}.svg", word)], [Table(word, Row, [Row(word)])], [("a.csv", word)], word
    )
    return page(word, word, [section, Section("second")])


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_text_comes_out_as_it_is(word):
    reader = read(whole(word))
    assert reader.text.count(word.strip()) >= 6
    assert {tag for tag, _ in reader.tags} == {tag for tag, _ in read(whole()).tags}


def test_nothing_is_loaded_from_elsewhere():
    reader = read(whole())
    addresses = [
        value for _, attributes in reader.tags for name, value in attributes.items() if name in ("href", "src")
    ]
    assert addresses == ["#x", "#second", "x.svg", "x.svg", "a.csv"]
    assert not re.search(r"https?:|//|@import|url\(|<script", whole())


def test_sections_are_linked_by_their_titles():
    reader = read(page("t", "", [Section("Residuals, N = 6"), Section("?")]))
    anchors = [attributes["id"] for tag, attributes in reader.tags if tag == "h2"]
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert anchors == ["residuals-n-6", "section"]
    assert links == [f"#{name}" for name in anchors]
    assert anchor("A  b") == "a-b"


def test_pages_are_saved_as_utf_8(tmp_path):
    path = save_page(tmp_path / "index.html", "naïve", "", [])
    assert "naïve" in path.read_text(encoding="utf-8")
