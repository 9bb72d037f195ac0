"""Where things stand, as far as Graphviz has to be told.

Left alone, Graphviz puts each box below the ones it follows from, and a deep model becomes a ribbon. Three rules make
a page of it, the same for every model. Short frames are rows, like lines of text. Of two frames of which one is fed by
the other, but not by it alone (an encoder and a decoder), neither is below the other. What many boxes of the one take
from a box of the other (the memory) comes on a bus along their left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .outline import Outline, in_order
from .picture import Arrow, Box, Frame, Picture

DEEP = 8  # boxes, one below the other: more do not fit on a screen
PAGE = 100  # boxes: a picture with more is no page in any case, and Graphviz has been seen to fail on its rows
ROW = 6  # boxes, one beside the other


@dataclass
class Bus:
    """The arrows that leave `tail` for another frame, by where they leave the bus, from the uppermost stop down.

    A stop is at the left end of a row, or beside a box that is in none: the key of the frame, or of the box.
    """

    tail: str
    stops: dict[str, list[Arrow]] = field(default_factory=dict)


@dataclass
class Layout:
    """`rows` are keys of frames; `stops` has the buses that stop somewhere, by the key of the row or box."""

    rows: set[str] = field(default_factory=set)
    buses: list[Bus] = field(default_factory=list)
    stops: dict[str, list[Bus]] = field(default_factory=dict)


def layout(picture: Picture, items: Outline) -> Layout:
    """What to tell Graphviz: nothing, if the picture is not deep, or too large for a page."""
    if len(picture.boxes) > PAGE or max(depths(picture.boxes, picture.arrows).values(), default=0) <= DEEP:
        return Layout()
    between = across(picture, items)
    inside = {box.key: box.inside for box in picture.boxes}
    ends = {inside[end] for arrow in between for end in (arrow.tail, arrow.head)}
    on_a_bus = {id(arrow) for arrow in between}
    others = [arrow for arrow in picture.arrows if id(arrow) not in on_a_bus]
    rows = rows_of(picture, items) - {key for key in ends if key in top(items)}
    while True:
        line = {
            box.key: box.inside if box.inside is not None and box.inside in rows else box.key for box in picture.boxes
        }
        links = {(line[arrow.tail], line[arrow.head]): None for arrow in others if line[arrow.tail] != line[arrow.head]}
        tangled = rows & on_circles(set(links))
        if not tangled:
            break
        rows -= tangled  # what is between two boxes of a row would be above and below it

    # Stops are in one order on all buses, one that agrees with the arrows: Graphviz fails where heights contradict.
    order = dict.fromkeys(line.values())
    height = depths([Box(key, key) for key in order], [Arrow(*link) for link in links])
    place = {key: (height[key], i) for i, key in enumerate(order)}
    buses: dict[str, Bus] = {}
    for arrow in sorted(between, key=lambda arrow: place[line[arrow.head]]):
        buses.setdefault(arrow.tail, Bus(arrow.tail)).stops.setdefault(line[arrow.head], []).append(arrow)
    stops: dict[str, list[Bus]] = {}
    for bus in buses.values():
        for stop in bus.stops:
            stops.setdefault(stop, []).append(bus)
    return Layout(rows, list(buses.values()), stops)


def on_circles(links: set[tuple[str, str]]) -> set[str]:
    """The ends of links that are on a circle, or between two."""
    while True:
        tails, heads = {tail for tail, _ in links}, {head for _, head in links}
        inner = {link for link in links if link[0] in heads and link[1] in tails}
        if inner == links:
            return tails | heads
        links = inner


def top(items: Outline) -> set[str]:
    """The outermost frames that have company: those of the picture, or those in the one frame around everything."""
    around = None
    while len(items[around]) == 1 and isinstance(items[around][0], Frame):
        around = items[around][0].key
    return {item.key for item in items[around] if isinstance(item, Frame)}


def rows_of(picture: Picture, items: Outline) -> set[str]:
    """The keys of the frames with a few boxes and nothing else."""
    return {
        frame.key
        for frame in picture.frames
        if 2 <= len(items[frame.key]) <= ROW and all(isinstance(item, Box) for item in items[frame.key])
    }


def across(picture: Picture, items: Outline) -> list[Arrow]:
    """The arrows between two frames that stand side by side.

    They do if neither is three times as deep as the other, and the second has a way in that does not lead through the
    first. Only the outermost frames are asked.
    """
    block = blocks(picture, top(items))
    crossing = [a for a in picture.arrows if {a.tail, a.head} <= block.keys() and block[a.tail] != block[a.head]]
    if not crossing:
        return []

    members: dict[str, list[Box]] = {}
    for box in picture.boxes:
        if box.key in block:
            members.setdefault(block[box.key], []).append(box)
    within: dict[str, list[Arrow]] = {key: [] for key in members}
    for arrow in picture.arrows:
        if arrow.tail in block and block[arrow.tail] == block.get(arrow.head):
            within[block[arrow.tail]].append(arrow)
    height = {key: max(depths(members[key], within[key]).values()) for key in members}

    entered = other_ways_in(picture, block)
    apart = {
        (a, b)
        for a, b in {(block[arrow.tail], block[arrow.head]) for arrow in crossing}
        if height[a] <= 3 * height[b] and height[b] <= 3 * height[a] and entered(b, a)
    }
    return [arrow for arrow in crossing if (block[arrow.tail], block[arrow.head]) in apart]


def blocks(picture: Picture, frames: set[str]) -> dict[str, str]:
    """For each box that is somewhere inside one of the frames: the key of this frame."""
    inside = {frame.key: frame.inside for frame in picture.frames}
    block: dict[str, str] = {}
    for box in picture.boxes:
        at = box.inside
        while at is not None and at not in frames:
            at = inside[at]
        if at is not None:
            block[box.key] = at
    return block


def other_ways_in(picture: Picture, block: dict[str, str]) -> Callable[[str, str], bool]:
    """A function of two frames: does an arrow enter the one that no way from the other leads to?"""
    bit = {key: 1 << i for i, key in enumerate(dict.fromkeys(block.values()))}
    tails = tails_of(picture.boxes, picture.arrows)
    before: dict[str, int] = {}  # for each box, the frames that a way leads from, as bits: there may be thousands
    for box in in_order(picture.boxes, picture.arrows):
        before[box.key] = bit.get(block.get(box.key, ""), 0)
        for tail in tails[box.key]:
            before[box.key] |= before.get(tail, 0)
    entries: dict[str, set[int]] = {key: set() for key in bit}
    for arrow in picture.arrows:
        if arrow.head in block and block.get(arrow.tail) != block[arrow.head]:
            entries[block[arrow.head]].add(before[arrow.tail])
    return lambda entered, other: any(not ways & bit[other] for ways in entries[entered])


def depths(boxes: list[Box], arrows: list[Arrow]) -> dict[str, int]:
    """For each box, the number of boxes on the longest way to it."""
    tails = tails_of(boxes, arrows)
    depth: dict[str, int] = {}
    for box in in_order(boxes, arrows):
        depth[box.key] = 1 + max((depth.get(tail, 0) for tail in tails[box.key]), default=0)
    return depth


def tails_of(boxes: list[Box], arrows: list[Arrow]) -> dict[str, list[str]]:
    """For each box, those whose arrows end there."""
    tails: dict[str, list[str]] = {box.key: [] for box in boxes}
    for arrow in arrows:
        tails[arrow.head].append(arrow.tail)
    return tails
