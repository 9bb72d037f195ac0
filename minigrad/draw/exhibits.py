"""A line or two of Python, and what they show: for pages on which what is written is what was run."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..trace import Table
from .graph import Graph
from .outline import DrawError
from .page import Section
from .style import Plot

ON_A_PAGE = 100  # boxes of a graph; a larger one would be a grey strip there
FORMATS = ("dot", "json", "mmd", "txt")  # in which a graph is saved beside its picture


class Exhibit(NamedTuple):
    """A title, words, lines of Python of which the last is an expression, and the name of the files of its value."""

    title: str
    text: str
    code: str
    name: str


def exhibit(what: Exhibit, names: Mapping[str, Any], folder: Path) -> Section:
    """Run the lines with these names, write what the last one gives into the folder, and make a section of it.

    A `Plot` and a `Graph` become pictures, the graph also .dot, .json, .mmd (Mermaid) and .txt, and a link if it is too
    large for a page; a `Table` is shown and written as .csv; anything else is printed, into .txt. Where an instrument
    says by a ValueError that there is nothing for it to show, the section says so, too.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     exhibit(Exhibit("A sum", "", "a + b", "sum"), {"a": 1, "b": 2}, Path(folder)).output
    '3'
    """
    section = Section(what.title, what.text, what.code)
    try:
        value = last_value(what.code, dict(names))
    except (ValueError, KeyError) as error:
        section.output = f"Nothing to show: {error.args[0] if error.args else error}"
        return section
    if isinstance(value, Graph):
        _save_graph(section, value, folder, what)
    elif isinstance(value, Plot):
        _save(section, value, folder, what)
    elif isinstance(value, Table):
        section.tables.append(value)
        section.links.append((value.save(folder / f"{what.name}.csv").name, f"{what.name}.csv"))
    else:
        section.output = str(value)
        (folder / f"{what.name}.txt").write_text(section.output + "\n", encoding="utf-8")
    return section


def last_value(code: str, names: dict[str, Any]) -> Any:
    """Run lines of Python, and return the value of the last one.

    >>> last_value("b = a + 1; b * 2", {"a": 2})
    6
    """
    lines = ast.parse(code)
    last = lines.body.pop()
    if not isinstance(last, ast.Expr):
        raise SyntaxError(f"exhibit(): the last line of {code!r} is no expression. Put the value to show there.")
    exec(compile(lines, "<exhibit>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<exhibit>", "eval"), names)


def _save(section: Section, value: Any, folder: Path, what: Exhibit) -> None:
    path = value.save(folder / f"{what.name}.svg")
    section.pictures.append((path.name, what.title))


def _save_graph(section: Section, graph: Graph, folder: Path, what: Exhibit) -> None:
    boxes = len(graph.picture.boxes)
    try:
        _save(section, graph, folder, what)
        if boxes > ON_A_PAGE:
            (path, _), *section.pictures = section.pictures
            section.links.append((path, f"{path}: {boxes} boxes, to be opened on its own"))
    except DrawError as error:  # too large to be drawn, or nothing that draws is installed: the other formats say it
        section.output = str(error)
    for suffix in FORMATS:
        path = graph.save(folder / f"{what.name}.{suffix}")
        section.links.append((path.name, path.name))
