"""A picture in a file, or in a notebook."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from .as_json import as_json
from .dot import dot
from .mermaid import mermaid
from .outline import DrawError
from .picture import Picture
from .render import NoRenderer, png, svg
from .text import tree

LINES = 200  # of a tree that a notebook shows without being asked to print it

WRITERS: dict[str, Callable[[Picture], str | bytes]] = {
    ".dot": dot,
    ".gv": dot,
    ".svg": svg,
    ".png": png,
    ".json": as_json,
    ".mmd": mermaid,
    ".txt": tree,
}


def save(picture: Picture, path: str | PathLike[str]) -> Path:
    """Writes the picture in the format that the ending of `path` says: .dot .gv .svg .png .json .mmd .txt.

    Where nothing is installed that draws SVG and PNG, the picture is written as DOT beside, and a warning says so.

    Returns:
        The path of what was written.

    Raises:
        ValueError: if the ending is none of these.
        DrawError: if the picture cannot be drawn; see `render.svg`.
    """
    path = Path(path)
    write = WRITERS.get(path.suffix.lower())
    if write is None:
        raise ValueError(
            f"save(): {path.name!r} ends in {path.suffix!r}; a picture is written as {', '.join(WRITERS)}. "
            f"Try {path.stem + '.svg'!r}."
        )
    try:
        content = write(picture)
    except NoRenderer as error:
        path = path.with_suffix(".dot")
        warnings.warn(f"{error} Wrote {path} instead.", stacklevel=2)
        content = dot(picture)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def mimebundle(picture: Picture) -> dict[str, str]:
    """What a notebook shows: SVG, and the tree where that cannot be had. Give it back from `_repr_mimebundle_`."""
    lines = tree(picture).splitlines()
    if len(lines) > LINES:
        lines[LINES:] = [f"… {len(lines) - LINES} more lines; print the tree to see them"]
    try:
        return {"image/svg+xml": svg(picture), "text/plain": "\n".join(lines)}
    except DrawError as error:
        return {"text/plain": "\n".join([*lines, str(error)])}
