"""SVG and PNG: by `dot` of Graphviz where it is installed, else by graphviz-pure, which pip can install.

Both read the same DOT and draw it alike, but not to the same bytes.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sysconfig
from pathlib import Path
from xml.etree import ElementTree as ET

from .dot import FONT, PAD, dot
from .outline import DrawError, printable
from .picture import Picture

LIMIT = 5000  # boxes and arrows; beyond it the layout takes minutes, and nobody could read it
SECONDS = 120  # that a renderer may take
PNG_FONT = "Helvetica"  # graphviz-pure has letters of this width to draw with
SIDE, PIXELS = 30_000, 100_000_000  # of a PNG

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"


class NoRenderer(DrawError):
    """Neither `dot` nor graphviz-pure is installed."""


def renderer() -> Path | None:
    """The program that turns DOT into pictures, if there is one: `dot` on the PATH, or graphviz-pure.

    The latter is looked for where pip puts programs, for a Python whose environment is not activated.
    """
    places = [shutil.which("dot"), shutil.which("graphviz-pure", path=sysconfig.get_path("scripts"))]
    found = [place for place in [*places, shutil.which("graphviz-pure")] if place is not None]
    return Path(found[0]) if found else None


def svg(picture: Picture) -> str:
    """The picture as one `<svg>` element that needs nothing else: to be saved, or put into a page as it is.

    Text stays text; what `note` says appears when one points at a box, an arrow or a frame.

    Raises:
        NoRenderer: if neither `dot` nor graphviz-pure is installed.
        DrawError: if the picture has more than `LIMIT` boxes and arrows, or cannot be drawn.
    """
    return self_contained(render(picture, "svg").decode(), picture.title)


def png(picture: Picture, dpi: float | None = None) -> bytes:
    """The picture as a PNG with `dpi` pixels to the inch of 72 points; None: 96, or fewer if the picture is large.

    Raises what `svg` raises, and

    Raises:
        ValueError: if `dpi` is not a positive number.
        DrawError: if this many pixels to the inch are more than `SIDE` on a side or `PIXELS` in all.
    """
    if dpi is not None and not (math.isfinite(dpi) and dpi > 0):
        raise ValueError(f"png(): dpi is {dpi}; it must be a positive number. Try dpi=96.")
    sides = render(picture, "plain", font=PNG_FONT).split(None, 4)[2:4]  # "graph SCALE WIDTH HEIGHT", in inches
    width, height = (float(side) + 2 * PAD for side in sides)
    most = min(SIDE / max(width, height), math.sqrt(PIXELS / (width * height)))
    if dpi is not None and dpi > most:
        raise DrawError(
            f"png(): {width:.0f} by {height:.0f} inches at dpi={dpi:g} would be {width * height * dpi**2:.2g} pixels; "
            f"renderers shrink such a picture, or give up. Try dpi={math.floor(most)}, or SVG."
        )
    return render(picture, "png", f"-Gdpi={min(96, most) if dpi is None else dpi:g}", font=PNG_FONT)


def render(picture: Picture, form: str, *options: str, font: str = FONT) -> bytes:
    """What the renderer makes of the picture."""
    size = len(picture.boxes) + len(picture.arrows)
    if size > LIMIT:
        raise DrawError(
            f"draw: the picture has {len(picture.boxes)} boxes and {len(picture.arrows)} arrows; up to {LIMIT} of both "
            "together are laid out. Open fewer paths or choose a coarser level; DOT, JSON and text have no limit."
        )
    program = renderer()
    if program is None:
        raise NoRenderer(
            "draw: neither `dot` nor graphviz-pure is installed; one of them draws SVG and PNG. "
            "Try `pip install graphviz-pure`, or install Graphviz (https://graphviz.org/download)."
        )
    said = ""
    for as_page in (True, False):  # there are pages that Graphviz fails on, and that it can draw in its own way
        command = [str(program), f"-T{form}", *options]
        source = dot(picture, as_page=as_page, font=font).encode()
        try:  # not graphviz.pipe(), which would wait for ever
            done = subprocess.run(command, input=source, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise DrawError(
                f"draw: {program.name} has not drawn {size} boxes and arrows in {SECONDS} s. "
                "Open fewer paths or choose a coarser level."
            ) from None
        if done.returncode == 0 and done.stdout:
            return done.stdout
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {done.returncode}"
    raise DrawError(f"draw: {program.name} failed: {said}. Save the picture as .dot to look at what it was given.")


def self_contained(source: str, title: str) -> str:
    """Graphviz's SVG without the reference to a DTD, the comments and links that lead nowhere, and with tooltips.

    Graphviz wraps what has a tooltip in a link without a target, and gives as `<title>` its own names of things.
    """
    ET.register_namespace("", SVG)
    root = ET.fromstring(source)
    root.set("role", "img")
    for group in list(root.iter(f"{{{SVG}}}g")):
        note = printable(title) if group.get("class") == "graph" else ""
        for child in list(group):
            link = child.find(f"{{{SVG}}}a") if child.tag == f"{{{SVG}}}g" else None
            if child.tag == f"{{{SVG}}}title":
                group.remove(child)
            elif link is not None:
                note = link.get(f"{{{XLINK}}}title", "").strip()
                where = list(group).index(child)
                group[where : where + 1] = list(link)
        if note:
            group.insert(0, ET.Element(f"{{{SVG}}}title"))
            group[0].text = note
    for text in root.iter(f"{{{SVG}}}text"):
        text.set("font-family", f"Helvetica, Arial, '{FONT}', sans-serif")
    return ET.tostring(root, encoding="unicode")
