"""What is inside what, in the order in which a reader meets it; and text that can be printed anywhere."""

from __future__ import annotations

import math
import re
from heapq import heapify, heappop, heappush

from .picture import KINDS, Arrow, Box, Frame, Picture

Outline = dict[str | None, list[Box | Frame]]

# Controls but tab and newline, halves of surrogate pairs, and the two that are no characters: none is allowed in XML.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
COLOUR = re.compile("#[0-9a-fA-F]{6}")  # with three digits, Graphviz before 2.50 takes it for black


class DrawError(RuntimeError):
    """A picture that cannot be drawn, or not here, or not in this form."""


def outline(picture: Picture) -> Outline:
    """The boxes and frames inside each frame, by its key; None has those that are in no frame.

    They stand in the order of the data: an arrow's tail before its head, a frame where its first box is. A frame with
    no box in it is left out.

    Raises:
        DrawError: if two things have one key; an arrow, box or frame names a key that there is not; a kind, colour
            or width is none.

    >>> from minigrad.draw.picture import Arrow, Box, Frame, Picture
    >>> boxes = [Box("y", "y"), Box("x", "x", inside="f")]
    >>> outline(Picture("p", boxes, [Arrow("x", "y")], [Frame("f", "f")]))[None]
    [Frame(key='f', title='f', inside=None, note='', highlighted=False), Box(key='y', title='y', kind='op', ...)]
    """
    check_keys(picture)
    check_looks(picture)
    frames = {frame.key: frame for frame in picture.frames}
    children: Outline = {None: [], **{key: [] for key in frames}}
    placed = set()
    for box in in_order(picture.boxes, picture.arrows):
        item: Box | Frame = box
        while True:
            children[item.inside].append(item)
            if item.inside is None or item.inside in placed:
                break
            placed.add(item.inside)
            item = frames[item.inside]
    return children


def check_keys(picture: Picture) -> None:
    """Every key belongs to one thing, and whatever is named is there."""
    frames, boxes = {}, {}
    for item in picture.frames + picture.boxes:
        if item.key in frames or item.key in boxes:
            raise DrawError(f"draw: two things have the key {item.key!r}; a key names one. Give one of them another.")
        (frames if isinstance(item, Frame) else boxes)[item.key] = item
    for item in picture.frames + picture.boxes:
        if item.inside is not None and item.inside not in frames:
            raise DrawError(
                f"draw: {item.key!r} is inside {item.inside!r}, which is no frame. Add the frame, or use inside=None."
            )
    for arrow in picture.arrows:
        for end in (arrow.tail, arrow.head):
            if end not in boxes:
                raise DrawError(
                    f"draw: an arrow from {arrow.tail!r} to {arrow.head!r}, but {end!r} is no box. Add the box first."
                )
    inside = {key: frame.inside for key, frame in frames.items()}
    for key in inside:
        seen, at = set(), key
        while at is not None and at not in seen:
            seen.add(at)
            at = inside[at]
        if at is not None:
            raise DrawError(f"draw: the frame {at!r} is inside itself. Let one of the frames around it be in no frame.")


def check_looks(picture: Picture) -> None:
    """Kinds, colours and widths are such that every renderer knows them."""
    for box in picture.boxes:
        if box.kind not in KINDS:
            raise DrawError(f"draw: the box {box.key!r} has the kind {box.kind!r}; kinds are {', '.join(KINDS)}.")
    for arrow in picture.arrows:
        if not 0 <= arrow.width < math.inf:
            raise DrawError(
                f"draw: the arrow from {arrow.tail!r} to {arrow.head!r} has the width {arrow.width}; "
                "a width is a number of points. Try 1.0."
            )
    for colour in [box.fill for box in picture.boxes] + [arrow.colour for arrow in picture.arrows]:
        if colour is not None and not COLOUR.fullmatch(colour):
            raise DrawError(f"draw: the colour {colour!r}; colours are written with six digits. Try '#0072b2'.")


def in_order(boxes: list[Box], arrows: list[Arrow]) -> list[Box]:
    """Tails before heads, otherwise as given; where arrows go in a circle, the first that is left comes next."""
    index = {box.key: i for i, box in enumerate(boxes)}
    heads: list[list[int]] = [[] for _ in boxes]
    missing = [0] * len(boxes)
    for arrow in arrows:
        heads[index[arrow.tail]].append(index[arrow.head])
        missing[index[arrow.head]] += 1
    ready = [i for i, count in enumerate(missing) if count == 0]
    heapify(ready)
    order: dict[int, None] = {}
    as_given = iter(range(len(boxes)))
    while len(order) < len(boxes):
        i = heappop(ready) if ready else next(i for i in as_given if i not in order)
        order[i] = None
        for head in heads[i]:
            missing[head] -= 1
            if missing[head] == 0 and head not in order:
                heappush(ready, head)
    return [boxes[i] for i in order]


def printable(text: str) -> str:
    r"""The text with what no font shows, and XML and terminals may not contain, replaced by the sign for it.

    >>> printable("a\x1b[31mb\ud800c")
    'a�[31mb�c'
    """
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
