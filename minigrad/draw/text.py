"""A picture as a tree of text, for terminals."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from textwrap import wrap

from .outline import Outline, outline, printable
from .picture import Arrow, Box, Picture


def tree(picture: Picture, width: int = 100) -> str:
    """Boxes in the order of the data, inside of their frames; what comes into each after `<-`. No colours.

    A box is called by its title, or by its key if several boxes have that title. Highlighted boxes and arrows have a
    star. Lines are at most `width` characters long: what does not fit goes below, "…" is for words that are longer.

    Raises:
        ValueError: if `width` is less than 20.
        DrawError: if a key is used twice, or names nothing.

    >>> from minigrad.draw.picture import Frame
    >>> boxes = [Box("x", "x", "input", ["(2, 3)"]), Box("w", "w", "parameter", inside="f", status="not reached")]
    >>> boxes.append(Box("y", "matmul", "op", ["1.3 | 0.2"], inside="f"))
    >>> print(tree(Picture("one layer", boxes, [Arrow("x", "y", "0.7"), Arrow("w", "y")], [Frame("f", "Linear")])))
    one layer
    ├─ x  input  (2, 3)
    └─ Linear
       ├─ w  parameter  [not reached]
       └─ matmul  1.3 | 0.2  <- x (0.7), w
    <BLANKLINE>
    """
    if width < 20:
        raise ValueError(f"tree(): width is {width}; a line needs 20 characters. Try width=80.")
    titles = Counter(box.title for box in picture.boxes)
    called = {box.key: box.title if titles[box.title] == 1 and box.title else box.key for box in picture.boxes}
    entering: dict[str, list[Arrow]] = {box.key: [] for box in picture.boxes}
    for arrow in picture.arrows:
        entering[arrow.head].append(arrow)

    lines = [part for text in (picture.title, *picture.legend) for part in wrap(one_line(text), width)]
    items = outline(picture)
    add_inside(lines, None, items, "", width, called, entering)
    return "".join(shortened(line, width) + "\n" for line in lines)


def add_inside(
    lines: list[str],
    key: str | None,
    items: Outline,
    indent: str,
    width: int,
    called: dict[str, str],
    entering: dict[str, list[Arrow]],
) -> None:
    """Adds the lines of what is in a frame."""
    shown = [item for item in items[key] if isinstance(item, Box) or items[item.key]]
    for item in shown:
        last = item is shown[-1]
        start, more = indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  ")
        if isinstance(item, Box):
            arrows = [arrow_words(arrow, called) for arrow in entering[item.key]]
            came = ("<- " + ",\n".join(arrows)).split("\n") if arrows else []
            lines += wrapped([*description(item), *came], start, more, width)
        else:
            lines.append(start + one_line(item.title) + star(item.highlighted))
            add_inside(lines, item.key, items, more, width, called, entering)


def description(box: Box) -> list[str]:
    """Title, kind unless it is the common one, numbers, and status."""
    kind = [] if box.kind in ("op", "module") else [box.kind]
    status = [f"[{box.status}]"] if box.status else []
    name = one_line(box.title or box.key) + star(box.highlighted)
    return [name, *kind, *map(one_line, box.lines), *status]


def arrow_words(arrow: Arrow, called: dict[str, str]) -> str:
    """Where it comes from, and what it is called."""
    label = f" ({arrow.label})" if arrow.label else ""
    return one_line(called[arrow.tail] + label + star(arrow.highlighted))


def wrapped(words: list[str], start: str, more: str, width: int) -> list[str]:
    """The words in one line, or in several where they are too long for it."""
    lines = [start + words[0]]
    for before, word in pairwise(words):
        gap, indent = (" ", "     ") if before.endswith(",") else ("  ", "  ")
        if len(lines[-1] + gap + word) <= width:
            lines[-1] += gap + word
        else:
            lines.append(more + indent + word)
    return lines


def star(highlighted: bool) -> str:
    """The mark of what is highlighted."""
    return " *" if highlighted else ""


def one_line(text: str) -> str:
    """The text with single spaces for all white space."""
    return " ".join(printable(text).split())


def shortened(line: str, width: int) -> str:
    """The line, or its beginning."""
    return line if len(line) <= width else line[: width - 1] + "…"
