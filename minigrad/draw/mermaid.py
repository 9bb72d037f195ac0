"""A picture as a Mermaid flowchart, which many pages and editors draw from a text block (https://mermaid.js.org)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from .dot import BORDERS, SHAPES, ink_on
from .outline import Outline, outline, printable
from .picture import Arrow, Box, Picture

BRACKETS = {
    "op": ('("', '")'),
    "module": ('["', '"]'),
    "parameter": ('[("', '")]'),  # a cylinder
    "input": ('[/"', '"/]'),
    "constant": ('{{"', '"}}'),
    "output": ('[["', '"]]'),
    "more": ('>"', '"]'),
}
DASHES = {"dashed": "6 4", "dotted": "2 3"}

# What ends a string, begins an entity, or would be Markdown: emphasis, code, lists, headings.
NOT_PLAIN = re.compile(r"[!-'*+;<>-@[-^`{}~\t]|(?<![^\W_])_|_(?![^\W_])|(?<!\w)-|\.(?!\w)|(?<=\d)\)(?= )")


def mermaid(picture: Picture) -> str:
    """The picture as a Mermaid flowchart.

    Mermaid itself draws no chart of more than 500 arrows or 50,000 characters, unless its `maxEdges` and `maxTextSize`
    say otherwise. Notes are left out.

    Raises:
        DrawError: if a key is used twice, or names nothing.

    >>> print(mermaid(Picture("", [Box("x", "x"), Box("y", "y", "output")], [Arrow("x", "y", "0.5")])))
    flowchart TB
      b0("<b>x</b>")
      b1[["<b>y</b>"]]
      b0 -->|"0.5"| b1
      style b0 fill:#f4f4f4,color:#222222,stroke:#767676,stroke-width:1px
      style b1 fill:#fbe6da,color:#222222,stroke:#767676,stroke-width:1px
      linkStyle 0 stroke:#555555,stroke-width:1px
    <BLANKLINE>
    """
    names = {box.key: f"b{i}" for i, box in enumerate(picture.boxes)}
    names |= {frame.key: f"f{i}" for i, frame in enumerate(picture.frames)}
    items = outline(picture)
    lines = (
        ["---", f"title: {json.dumps(printable(picture.title), ensure_ascii=False)}", "---"] if picture.title else []
    )
    lines.append("flowchart TB")
    if picture.legend:
        lines += [f'  legend["{"<br/>".join(map(plain, picture.legend))}"]', "  style legend fill:none,stroke:none"]
    lines += inside(None, items, names, "  ")
    for arrow in picture.arrows:
        label = f'|"{plain(arrow.label)}"|' if arrow.label else ""
        lines.append(f"  {names[arrow.tail]} -->{label} {names[arrow.head]}")
    lines += [f"  style {names[box.key]} {box_style(box)}" for box in picture.boxes]
    for frame in picture.frames:
        if items[frame.key]:
            stroke = "#000000,stroke-width:3px" if frame.highlighted else "#c4c4c4"
            lines.append(f"  style {names[frame.key]} fill:none,stroke:{stroke}")
    lines += [f"  linkStyle {i} {arrow_style(arrow)}" for i, arrow in enumerate(picture.arrows)]
    return "\n".join(lines) + "\n"


def inside(key: str | None, items: Outline, names: dict[str, str], indent: str) -> Iterator[str]:
    """The lines for what is in a frame."""
    for item in items[key]:
        if isinstance(item, Box):
            opening, closing = BRACKETS[item.kind]
            status = [item.status] if item.status else []
            text = "<br/>".join([f"<b>{plain(item.title)}</b>", *map(plain, item.lines + status)])
            yield f"{indent}{names[item.key]}{opening}{text}{closing}"
        elif items[item.key]:
            yield f'{indent}subgraph {names[item.key]}["{plain(item.title) or " "}"]'
            yield from inside(item.key, items, names, indent + "  ")
            yield f"{indent}end"


def box_style(box: Box) -> str:
    """The look that `dot` gives the box, as far as Mermaid knows it."""
    look = SHAPES[box.kind] | {"color": "#767676", "style": "solid"} | BORDERS.get(box.status, {})
    fill = box.fill if box.fill is not None and not box.status else look["fillcolor"]
    border = f"{look['color']},stroke-width:1px" if not box.highlighted else "#000000,stroke-width:3px"
    return f"fill:{fill},color:{ink_on(fill)},stroke:{border}{dashes(look['style'])}"


def arrow_style(arrow: Arrow) -> str:
    """The look that `dot` gives the arrow."""
    colour, width = arrow.colour or "#555555", arrow.width
    if arrow.highlighted:
        colour, width = "#000000", max(width, 3)
    return f"stroke:{colour},stroke-width:{width:.3g}px{dashes(arrow.style)}"


def dashes(style: str) -> str:
    """Lengths of lines and gaps."""
    return f",stroke-dasharray:{DASHES[style]}" if style in DASHES else ""


def plain(text: str) -> str:
    """Text between double quotes; other characters are entity codes (https://mermaid.js.org/syntax/flowchart.html).

    >>> plain('a "b" <c> #1; encoder.layers')
    'a #34;b#34; #60;c#62; #35;1#59; encoder.layers'
    """
    lines = printable(text).split("\n")
    return "<br/>".join(NOT_PLAIN.sub(lambda match: f"#{ord(match[0])};", line) for line in lines)
