"""A picture in DOT, the language of Graphviz.

The look of all pictures is decided here. What a colour says, a shape, a border or a word says too.
"""

from __future__ import annotations

import html
import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING

from .layout import PAGE, Bus, Layout, layout
from .outline import Outline, outline, printable
from .picture import Arrow, Box, Frame, Picture

if TYPE_CHECKING:
    from graphviz import Digraph

# One family, because renderers know the widths of its letters: with a list of families they guess.
FONT = "DejaVu Sans"  # of the common fonts the widest: boxes that hold it hold the text in any other
INK, GREY = "#222222", "#767676"
LINE = "#555555"
SMALL = 20  # boxes of a picture that is not wide
SMALL_LEGEND, LEGEND = 155, 200  # letters in a line of the legend of a small picture, and of others
STRAIGHT = "8"  # the weight of arrows that should be straight
PAD = 0.15  # inches around everything

# Light tints of the palette of Okabe and Ito, which readers with any kind of colour vision can tell apart.
SHAPES = {
    "op": {"shape": "box", "style": "rounded", "fillcolor": "#f4f4f4"},
    "module": {"shape": "box", "fillcolor": "#e3f0fa"},
    "parameter": {"shape": "note", "fillcolor": "#fdf1d6"},
    "input": {"shape": "invhouse", "fillcolor": "#dff3ec", "margin": "0.02,0"},
    "constant": {"shape": "hexagon", "fillcolor": "#f4f4f4", "margin": "0,0.02"},
    "output": {"shape": "box", "peripheries": "2", "fillcolor": "#fbe6da"},
    "more": {"shape": "plaintext", "fillcolor": "#ffffff"},
}
BORDERS = {
    "zero": {"fillcolor": "#ffffff"},  # hollow
    "not reached": {"style": "dashed", "fillcolor": "#ffffff"},
    "not computed": {"style": "dotted", "fillcolor": "#ffffff"},
    "not recorded": {"style": "dotted", "fillcolor": "#ffffff", "color": "#b0b0b0"},
}


def dot(picture: Picture, *, as_page: bool = True, font: str = FONT) -> str:
    """The picture in DOT (https://graphviz.org/doc/info/lang.html).

    Data flows from top to bottom. In a deep picture chains of boxes are rows from left to right, and frames of which
    none has to wait for the other stand side by side: see `draw.layout`. Without `as_page`, Graphviz decides alone.

    Raises:
        DrawError: if a key is used twice, or names nothing.

    >>> from minigrad.draw.picture import Box
    >>> print(dot(Picture("", [Box("x", "x", "input")])))  # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
    digraph {
        ...
        b0 [label=<<B>x</B>> color="#767676" fillcolor="#dff3ec" ... shape=invhouse style=filled tooltip=x]
    }
    """
    from graphviz import Digraph

    items = outline(picture)
    graph = Digraph(
        graph_attr={
            "label": heading(picture),
            "labelloc": "t",
            "labeljust": "l",
            "fontname": font,
            "fontcolor": INK,
            "newrank": "true",  # boxes of different frames can stand at one height
            "nodesep": "0.22",
            "ranksep": "0.1",
            "pad": str(PAD),
            "bgcolor": "#ffffff",
        },
        node_attr={"fontname": font, "fontsize": "12", "fontcolor": INK, "height": "0.3", "margin": "0.09,0.035"},
        edge_attr={"fontname": font, "fontsize": "10", "fontcolor": INK, "arrowsize": "0.6"},
    )
    plan = layout(picture, items) if as_page else Layout()
    names = {box.key: f"b{i}" for i, box in enumerate(picture.boxes)}
    names |= {frame.key: f"cluster_f{i}" for i, frame in enumerate(picture.frames)}
    add_inside(graph, None, items, names, plan)
    if len(picture.boxes) > PAGE:
        graph.attr(nslimit="2", nslimit1="2")  # good enough, in half the time
    if plan.place:
        graph.attr(remincross="false")  # the last turn of Graphviz would change the order in rows
    for left, right in plan.beside:
        add_line(graph, names[left], names[right])
    add_arrows(graph, picture, names, plan)
    for bus in plan.buses:
        add_bus(graph, bus, names, plan)
    return graph.source


def add_arrows(graph: Digraph, picture: Picture, names: dict[str, str], plan: Layout) -> None:
    """Adds the arrows that are on no bus, and those that nobody sees, which keep the ends of rows in line."""
    on_bus = {id(arrow) for bus in plan.buses for arrows in bus.stops.values() for arrow in arrows}
    drawn = {(arrow.tail, arrow.head) for arrow in picture.arrows}
    unseen = {ends: row for ends, row in plan.straight.items() if ends not in drawn}
    into_rows = {(tail, row) for (tail, _), row in unseen.items()}
    kinds = {box.key: box.kind for box in picture.boxes}
    trained = {arrow.head for arrow in picture.arrows if kinds[arrow.tail] == "parameter"}
    for arrow in picture.arrows:
        if id(arrow) in on_bus:
            continue
        attributes = arrow_attributes(arrow)
        if (arrow.tail, arrow.head) in plan.straight:
            attributes["weight"] = STRAIGHT
        if (arrow.tail, arrow.head) in into_rows:
            attributes["headport"] = "n"  # not across the label of the next arrow
        if arrow.head in trained and kinds[arrow.head] in ("op", "output") and kinds[arrow.tail] != "parameter":
            attributes["minlen"] = "2"  # room for the parameters above the op: else the ops are a staircase
        graph.edge(names[arrow.tail], names[arrow.head], **attributes)
    for tail, head in unseen:
        graph.edge(names[tail], names[head], style="invis", weight=STRAIGHT)


def add_inside(graph: Digraph, key: str | None, items: Outline, names: dict[str, str], plan: Layout) -> None:
    """Adds to `graph`, which stands for the frame with this key, all that is inside it."""
    from graphviz import Digraph

    rows: dict[str, Digraph] = {}
    for item in items[key]:
        if isinstance(item, Frame) and items[item.key]:
            inner = Digraph(names[item.key], graph_attr=frame_attributes(item, plan.stops[item.key]))
            add_inside(inner, item.key, items, names, plan)
            graph.subgraph(inner)
        elif isinstance(item, Box):
            graph.node(names[item.key], **box_attributes(item))
            first, place = plan.place.get(item.key, (item.key, 0))
            if place:
                row = rows.setdefault(first, Digraph(graph_attr={"rank": "same"}, body=[f"\t{names[first]}\n"]))
                row.node(names[item.key])
            buses = [bus for bus in plan.buses if item.key in bus.stops]
            for bus in buses:
                size = "0.04" if bus.stops[item.key] else "0"
                graph.node(stop_name(bus, item.key, names), shape="point", width=size, color=LINE, tooltip=" ")
            if buses:
                add_line(graph, *(stop_name(bus, item.key, names) for bus in buses), names[item.key])
    for row in rows.values():
        graph.subgraph(row)


def add_line(graph: Digraph, *names: str) -> None:
    """Things of one height, from left to right. Arrows that nobody sees keep them in order."""
    from graphviz import Digraph

    line = Digraph(graph_attr={"rank": "same"})
    for left, right in pairwise(names):
        line.edge(left, right, style="invis")
    graph.subgraph(line)


def add_bus(graph: Digraph, bus: Bus, names: dict[str, str], plan: Layout) -> None:
    """One line from the tail to the lowest stop and on to the uppermost, and from each stop its own arrows."""
    above, lit = None, False
    for row, arrows in bus.stops.items():
        stop = stop_name(bus, row, names)
        for arrow in arrows:
            graph.edge(stop, names[arrow.head], **arrow_attributes(arrow))
        if above is not None:
            graph.edge(above, stop, weight="10", **line_attributes(lit))
        lit = lit or any(arrow.highlighted for arrow in arrows)
        above = stop
    if above is not None:
        graph.edge(names[bus.tail], above, constraint="false", tailport="e", **line_attributes(lit))


def stop_name(bus: Bus, row: str, names: dict[str, str]) -> str:
    """What the stop of a bus at a row is called in DOT."""
    return f"{names[bus.tail]}_{names[row]}"


def box_attributes(box: Box) -> dict[str, str]:
    """Shape by kind, border by status, colour by what the picture shows."""
    shape = SHAPES[box.kind] | {"color": GREY, "penwidth": "1"} | BORDERS.get(box.status, {})
    styles = {"filled", SHAPES[box.kind].get("style", "filled"), shape.get("style", "filled")}
    shape["style"] = ",".join(sorted(styles))
    if box.fill is not None and not box.status:
        shape |= {"fillcolor": box.fill, "fontcolor": ink_on(box.fill)}
    if box.highlighted:
        shape |= {"color": "#000000", "penwidth": "3"}
    said = not box.status or any(box.status in line for line in box.lines)
    small = box.lines if said else [*box.lines, box.status]
    lines = [f"<B>{marked_up(box.title)}</B>" if box.title else " "]
    lines += [f'<FONT POINT-SIZE="10">{marked_up(line) or " "}</FONT>' for line in small]
    return {"label": f"<{'<BR/>'.join(lines)}>", "tooltip": tooltip(box.note or box.title)} | shape


def arrow_attributes(arrow: Arrow) -> dict[str, str]:
    """Width, colour and style are those of the arrow, unless it is highlighted."""
    attributes = {
        "color": arrow.colour or LINE,
        "penwidth": f"{arrow.width:.3g}",
        "style": arrow.style,
        "tooltip": tooltip(arrow.note or arrow.label),
    }
    if arrow.highlighted:
        attributes |= {"color": "#000000", "penwidth": f"{max(arrow.width, 3):.3g}", "style": "bold"}
    if arrow.label:
        attributes["label"] = f"< {marked_up(arrow.label)} >"
    return attributes


def line_attributes(lit: bool) -> dict[str, str]:
    """A part of a bus, lit if a highlighted arrow comes along it."""
    return {"arrowhead": "none", "tooltip": " "} | ({"color": "#000000", "penwidth": "3"} if lit else {"color": LINE})


def frame_attributes(frame: Frame, buses: int) -> dict[str, str]:
    """A quiet line around, the title at the upper left, or to the right of the buses there."""
    attributes = {
        "label": f"<{'&#160;' * 4 * buses}{marked_up(frame.title) or ' '}>",
        "tooltip": tooltip(frame.note or frame.title),
        "style": "rounded",
        "color": "#c4c4c4",
        "fontsize": "10",
        "fontcolor": LINE,
        "margin": "6",
        "penwidth": "1",
        "labeljust": "l",
    }
    return attributes | ({"color": "#000000", "penwidth": "3"} if frame.highlighted else {})


def heading(picture: Picture) -> str:
    """The title, and below it the legend, in lines that are about as long as the picture is wide."""
    lines = [f'<FONT POINT-SIZE="14"><B>{marked_up(picture.title)}</B></FONT>'] if picture.title else []
    letters = SMALL_LEGEND if len(picture.boxes) < SMALL else LEGEND
    words = ". ".join(printable(line[:1].upper() + line[1:]) for line in picture.legend if line)
    for line in textwrap.wrap(words, letters, break_long_words=False, break_on_hyphens=False):
        lines.append(f'<FONT POINT-SIZE="10" COLOR="{LINE}">{marked_up(line)}</FONT>')
    return "<" + "".join(f'{line}<BR ALIGN="LEFT"/>' for line in lines) + ">" if lines else ""


def marked_up(text: str) -> str:
    r"""Text inside an HTML-like label.

    >>> marked_up("a < b & c\n")
    'a &lt; b &amp; c<BR/>'
    """
    return escaped(text).replace("\n", "<BR/>")


def tooltip(text: str) -> str:
    """Text in double quotes, where entities are read as well, and backslashes twice.

    Where there is no text the renderer would show its own, hence the space.
    """
    return escaped(text).replace("&#92;", "&#92;&#92;").replace("\n", "&#10;") or " "


def escaped(text: str) -> str:
    r"""Text with entities, also for what is special to Graphviz only.

    It replaces \N by the name of the node, but not \\N; and it takes a tab without text around it for a mistake, as
    older ones take a ].
    """
    return html.escape(printable(text)).translate({ord("\\"): "&#92;&#92;", ord("]"): "&#93;", ord("\t"): " "})


def ink_on(colour: str) -> str:
    """Black or white, whichever is easier to read on "#rrggbb" (relative luminance, WCAG 2.1).

    >>> ink_on("#0072b2"), ink_on("#f0e442")
    ('#ffffff', '#222222')
    """
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return "#ffffff" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.2 else INK
