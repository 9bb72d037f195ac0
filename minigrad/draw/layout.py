"""Where things stand, as far as Graphviz has to be told.

Left alone, Graphviz puts each box below the ones it follows from, and a deep model becomes a ribbon. Four rules make a
page of it, the same for every model. What is done in a chain is a row, like a line of text: a branch from a residual
stream to where it is added again. Of two frames of which one is fed by the other, but not by it alone (an encoder and
a decoder), neither is below the other. A frame with many rows is set in columns. And what boxes of one column take from
a box of another (the memory) comes on a bus along their left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from .outline import Outline, in_order
from .picture import Arrow, Box, Frame, Picture

DEEP = 8  # boxes, one below the other: more do not fit on a screen
TALL = 10  # rows of a column
WIDE = 4  # boxes of a row
PAGE = 100  # boxes: a picture with more is no page in any case, and Graphviz has been seen to fail on its rows

Column = tuple[str, int]  # the key of an outermost frame, and a number


@dataclass
class Bus:
    """The arrows from `tail` into another column, by where they leave the bus, from the uppermost stop down.

    A stop is at the left end of a row: the key of its first box. At some, no arrow leaves.
    """

    tail: str
    stops: dict[str, list[Arrow]] = field(default_factory=dict)


@dataclass
class Layout:
    """`place` has for every box the key of the first box in its row, and its number there.

    `beside` are the uppermost rows of a column and of the next one; `stops`, how many buses stop in a frame.
    `straight` are the last boxes of two rows that follow each other, which stand one below the other, and the key of
    the second row.
    """

    place: dict[str, tuple[str, int]] = field(default_factory=dict)
    buses: list[Bus] = field(default_factory=list)
    beside: list[tuple[str, str]] = field(default_factory=list)
    stops: Counter[str | None] = field(default_factory=Counter)
    straight: dict[tuple[str, str], str] = field(default_factory=dict)


def layout(picture: Picture, items: Outline) -> Layout:
    """What to tell Graphviz: nothing, if the picture is not deep, or too large for a page."""
    if len(picture.boxes) > PAGE or max(depths(picture.boxes, picture.arrows).values(), default=0) <= DEEP:
        return Layout()
    between = across(picture, items)
    inside = {box.key: box.inside for box in picture.boxes}
    ends = {inside[end] for arrow in between for end in (arrow.tail, arrow.head)} & top(items)
    others = without(picture.arrows, between)
    rows = chains(items, others, ends)
    place, height = untangled(picture, rows, others)
    column: dict[str, Column] = {}
    for frame in items:
        if frame is not None and frame in top(items):
            column |= columns(items, frame, others, {key: height[row] for key, (row, _) in place.items()})
    between += [arrow for arrow in others if next_column(column.get(arrow.tail), column.get(arrow.head))]
    place, height = untangled(picture, rows, without(picture.arrows, between))
    made = buses(between, column, place, height)
    stops = Counter(frame for bus in made for frame in {inside[row] for row in bus.stops})
    return Layout(place, made, beside(column, height), stops, straight(picture, between, place))


def without(arrows: list[Arrow], others: list[Arrow]) -> list[Arrow]:
    """The arrows that are not among the others."""
    keys = {id(arrow) for arrow in others}
    return [arrow for arrow in arrows if id(arrow) not in keys]


def columns(items: Outline, frame: str, arrows: list[Arrow], height: dict[str, int]) -> dict[str, Column]:
    """The column of each box in a frame, all about as tall. A new one begins where one box feeds all that follows.

    Where a module is open down to its parameters, which wait for nothing, there is only one.
    """
    parts = [[box.key for box in boxes_in(item, items)] for item in items[frame]]
    part = {key: i for i, keys in enumerate(parts) for key in keys}
    inner = [(part[arrow.tail], arrow) for arrow in arrows if {arrow.tail, arrow.head} <= part.keys()]
    least = min(height[key] for key in part)
    rows = max(height[key] for key in part) - least + 1
    tall = rows / -(-rows // TALL)
    opened = any(box.kind == "parameter" for item in items[frame] for box in boxes_in(item, items))
    column: dict[str, Column] = {}
    number = 0
    for i, keys in enumerate(parts):
        feeding = {arrow.tail for tail, arrow in inner if tail < i <= part[arrow.head]}
        middle = (min(height[key] for key in keys) + max(height[key] for key in keys) + 1) / 2 - least
        if middle >= tall * (number + 1) and len(feeding) == 1 and not opened:
            number += 1
        column |= dict.fromkeys(keys, (frame, number))
    return column


def next_column(a: Column | None, b: Column | None) -> bool:
    """Whether these are two columns of one frame."""
    return a is not None and b is not None and a[0] == b[0] and a != b


def beside(column: dict[str, Column], height: dict[str, int]) -> list[tuple[str, str]]:
    """The uppermost rows of each column and the next one."""
    first: dict[Column, str] = {}
    for row in sorted(height, key=lambda row: height[row]):
        if row in column:
            first.setdefault(column[row], row)
    return [(first[frame, number - 1], row) for (frame, number), row in first.items() if number]


def straight(picture: Picture, between: list[Arrow], place: dict[str, tuple[str, int]]) -> dict[tuple[str, str], str]:
    """The last boxes of rows that follow each other, parameters aside, and the key of the second row."""
    parameters = {box.key for box in picture.boxes if box.kind == "parameter"}
    last = {row: key for key, (row, _) in sorted(place.items(), key=lambda item: item[1][1])}
    below = {(arrow.tail, place[arrow.head][0]): None for arrow in without(picture.arrows, between)}
    return {
        (tail, last[row]): row
        for tail, row in below
        if tail == last[place[tail][0]] != last[row] and tail not in parameters
    }


def boxes_in(item: Box | Frame, items: Outline) -> list[Box]:
    """The boxes in a frame, or the box itself."""
    return [item] if isinstance(item, Box) else [box for inner in items[item.key] for box in boxes_in(inner, items)]


def buses(
    between: list[Arrow], column: dict[str, Column], place: dict[str, tuple[str, int]], height: dict[str, int]
) -> list[Bus]:
    """The buses, each with a stop at all rows that it goes by, so that it stays on the left of them.

    Stops are in one order on all buses, one that agrees with the arrows: Graphviz fails where heights contradict.
    """
    order = sorted(height, key=lambda row: height[row])
    number = {row: i for i, row in enumerate(order)}
    found: dict[tuple[str, Column], dict[str, list[Arrow]]] = {}
    for arrow in between:
        found.setdefault((arrow.tail, column[arrow.head]), {}).setdefault(place[arrow.head][0], []).append(arrow)
    made = []
    # To the left is what comes from the column before: it only passes by most rows.
    ways = sorted(found, key=lambda way: not next_column(column.get(way[0]), way[1]))
    for tail, where in ways:
        stops = found[tail, where]
        first, last = (pick(number[row] for row in stops) for pick in (min, max))
        passed = [row for row in order[first : last + 1] if column.get(row) == where]
        passed += [r for r in order[last + 1 :] if column.get(r) == where and height[r] < height[place[tail][0]]]
        if len({height[row] for row in passed}) < len(passed):  # some rows are not above or below the others
            passed = [row for row in passed if row in stops]
        made.append(Bus(tail, {row: stops.get(row, []) for row in passed}))
    return made


def untangled(
    picture: Picture, rows: list[list[str]], arrows: list[Arrow]
) -> tuple[dict[str, tuple[str, int]], dict[str, int]]:
    """The place of each box, where no row has to be above and below another; and the depth of each row."""
    while True:
        place = {box.key: (box.key, 0) for box in picture.boxes}
        place |= {key: (keys[0], i) for keys in rows for i, key in enumerate(keys)}
        ends = [(place[arrow.tail][0], place[arrow.head][0]) for arrow in arrows]
        links = {link: None for link in ends if link[0] != link[1]}
        circular = on_circles(set(links))
        tangled = [keys for keys in rows if keys[0] in circular]
        if not tangled:
            heads = [Box(key, key) for key in dict.fromkeys(key for key, _ in place.values())]
            return place, depths(heads, [Arrow(*link) for link in links])
        rows = [keys for keys in rows if keys not in tangled]


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


def chains(items: Outline, arrows: list[Arrow], ends: set[str | None]) -> list[list[str]]:
    """Boxes of which each is all that the one before is used for, a few at a time; but none where buses end."""
    heads: dict[str, set[str]] = {}
    for arrow in arrows:
        heads.setdefault(arrow.tail, set()).add(arrow.head)
    entered = {arrow.head for arrow in arrows}
    rows: list[list[str]] = []
    for key, inside in items.items():
        before: Box | Frame | None = None
        for item in inside if key not in ends else ():
            if isinstance(item, Box):
                follows = isinstance(before, Box) and before.key in entered and heads.get(before.key) == {item.key}
                if follows and len(rows[-1]) < WIDE:
                    rows[-1].append(item.key)
                else:
                    rows.append([item.key])
            before = item
    return rows


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
    """A function of two frames: does any but a parameter enter the one that no way from the other leads to?"""
    bit = {key: 1 << i for i, key in enumerate(dict.fromkeys(block.values()))}
    tails = tails_of(picture.boxes, picture.arrows)
    before: dict[str, int] = {}  # for each box, the frames that a way leads from, as bits: there may be thousands
    for box in in_order(picture.boxes, picture.arrows):
        before[box.key] = bit.get(block.get(box.key, ""), 0)
        for tail in tails[box.key]:
            before[box.key] |= before.get(tail, 0)
    parameters = {box.key for box in picture.boxes if box.kind == "parameter"}
    entries: dict[str, set[int]] = {key: set() for key in bit}
    for arrow in picture.arrows:
        if arrow.head in block and block.get(arrow.tail) != block[arrow.head] and arrow.tail not in parameters:
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
