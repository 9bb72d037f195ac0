"""The arrows of a picture: which edges of a recording one arrow stands for, and what it says of their gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..trace import Edge, Recording, Step
from .levels import Group
from .overlay import BLUE, GREY, INK, ORANGE, SMALL_SHARE, WIDTHS, blend, log_scale, results, short
from .picture import Arrow

Bundle = list[Edge]


def bundles(recording: Recording, placed: Mapping[Step, Group]) -> list[tuple[Group, Group, Bundle]]:
    """(tail, head, edges) for all edges between different boxes: one for each argument of a step, one for all of a box.

    So a + a has two arrows; and what a module uses several times has one.
    """
    found: dict[tuple, Bundle] = {}
    for edge in recording.edges:
        tail, head = placed[edge.parent], placed[edge.child]
        if tail is not head:
            slot = edge.position if head.is_step and not (tail.folded or tail.rest) else None
            found.setdefault((tail, head, slot), []).append(edge)
    return [(tail, head, edges) for (tail, head, _), edges in found.items()]


def arrows(
    recording: Recording, found: list[tuple[Group, Group, Bundle]], show: str, path: set[Edge]
) -> tuple[list[Arrow], list[str]]:
    """An arrow for each bundle of edges, and the words for the legend."""
    gradients = [_gradient(edges) for _, _, edges in found]
    scale, ends = log_scale([norm for norm, _ in gradients] if show != "none" else [])
    drawn = []
    for (tail, head, edges), (norm, share) in zip(found, gradients, strict=True):
        arrow = Arrow(tail.key, head.key, _values(edges, tail, head), colour=INK)
        arrow.highlighted = any(edge in path for edge in edges)
        arrow.note = "\n".join(_about(recording, edge) for edge in edges[:8]) + ("\n..." if len(edges) > 8 else "")
        if show != "none":
            _with_gradient(arrow, recording, edges, norm, share, scale(norm), show)
        drawn.append(arrow)
    if show == "none" or not recording.runs:
        return drawn, []
    legend = [f"width of arrows: norm of the gradient, {ends}, of several the largest"]
    if show == "share":
        legend.append(
            "their colour, and percent: share <g_e, g> / <g, g> of the tail's gradient g that came along, blue 100%, "
            "orange negative, thin grey below 1%"
        )
    styles = {"dashed": "no gradient came", "dotted": "it is zero"}
    seen = [f"{style}: {words}" for style, words in styles.items() if any(arrow.style == style for arrow in drawn)]
    return drawn, [*legend, ", ".join(seen)] if seen else legend


def _gradient(edges: Bundle) -> tuple[float | None, float | None]:
    """The largest norm, and the sum of the shares if these are shares of one gradient."""
    norms = [edge.norm for edge in edges if edge.norm is not None]
    shares = [edge.share for edge in edges if edge.share is not None and not math.isnan(edge.share)]
    one = len({edge.parent for edge in edges}) == 1 and len(shares) == len(edges)
    return max(norms, default=None), sum(shares) if one else None


def _values(edges: Bundle, tail: Group, head: Group) -> str:
    """What goes along an arrow: the name of an argument and its shape, where steps meet; or what its tail does not say.

    A box that is a part of the model says what shape it returns.
    """
    parents = dict.fromkeys(edge.parent for edge in edges)
    if len(parents) > 1:
        return f"{len(parents)} arrays"
    shape = str(edges[0].parent.shape)
    if head.is_step:
        return f"{edges[0].argument} {shape}"
    words = [] if {str(step.shape) for step in results(tail.steps)} == {shape} else [shape]
    return " ".join(words if len(edges) == 1 else [*words, f"{len(edges)} uses"])


def _about(recording: Recording, edge: Edge) -> str:
    text = f"{recording.name(edge.parent)} is {edge.argument} of {recording.name(edge.child)}"
    if edge.norm is None or edge.share is None:
        return text
    return f"{text}: |g| {short(edge.norm)}, share {edge.share:.2%}"


def _with_gradient(
    arrow: Arrow,
    recording: Recording,
    edges: Bundle,
    norm: float | None,
    share: float | None,
    place: float | None,
    show: str,
) -> None:
    """Colour, width and style of an arrow, and words for what a page without colours and styles must show, too."""
    if norm is None:
        if recording.runs and not edges[0].parent.outside:
            arrow.style = "dashed"
            _say(arrow, "no gradient")
        return
    if norm == 0:
        arrow.style, arrow.colour, arrow.width = "dotted", GREY, WIDTHS[0]
        _say(arrow, "zero")
        return
    arrow.width = WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * (place or 0.0)
    if show == "norm":
        _say(arrow, f"|g| {short(norm)}")
    elif share is not None:
        if len(edges[0].parent.uses) > len(edges):
            _say(arrow, f"{share:.0%}" if abs(share) >= SMALL_SHARE else "< 1%")
        if abs(share) < SMALL_SHARE:
            arrow.colour, arrow.width = GREY, WIDTHS[0]
        else:
            arrow.colour = blend(GREY, BLUE if share > 0 else ORANGE, min(abs(share), 1.0))


def _say(arrow: Arrow, words: str) -> None:
    arrow.label = f"{arrow.label}\n{words}".lstrip()
