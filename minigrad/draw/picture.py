"""A picture of a graph, before anybody has decided how to draw it: boxes, arrows, and frames around boxes.

`draw.graph` makes pictures of what was recorded; the other modules write them as DOT, SVG, Mermaid, JSON or text.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KINDS = ("op", "module", "parameter", "input", "constant", "output", "more")  # each has a shape of its own


@dataclass
class Box:
    """A node. `lines` stand below the title; `inside` is the key of the frame around it, None: it is in none."""

    key: str
    title: str
    kind: str = "op"
    lines: list[str] = field(default_factory=list)
    inside: str | None = None
    fill: str | None = None  # a colour, "#rrggbb", for what the picture shows of nodes; None: that of its kind
    note: str = ""  # more, for who points at it
    status: str = ""  # "", "zero", "not reached", "not computed", "not recorded": drawn apart, and said in words
    highlighted: bool = False


@dataclass
class Arrow:
    """The result of `tail` is an argument of `head`; the gradient goes the other way."""

    tail: str
    head: str
    label: str = ""
    width: float = 1.0  # points
    colour: str | None = None
    style: str = "solid"  # or "dashed", "dotted"
    note: str = ""
    highlighted: bool = False


@dataclass
class Frame:
    """A module, or an op that was opened, around the boxes and frames that are inside."""

    key: str
    title: str
    inside: str | None = None
    note: str = ""
    highlighted: bool = False


@dataclass
class Picture:
    """All of it. `legend` says in words what colours, widths and styles mean."""

    title: str
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    legend: list[str] = field(default_factory=list)
