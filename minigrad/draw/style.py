"""The common style of all figures, and `Plot`: a figure together with the numbers that it shows.

Nothing here touches pyplot: a figure belongs to who asked for it, and no setting of matplotlib is changed for others.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart; a marker or a hatch says the same without colour.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "++++")
GREY, PALE = "#777777", "#e6e6e6"
SMALL = 7  # points, of labels of which there are many

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, and the viewer's fonts know every script
    "svg.hashsalt": "minigrad",  # the same figure is the same file, byte for byte
    "figure.dpi": 100,
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "hatch.color": "white",
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}
NAMED = 16  # letters of a token that are written; a longer one ends in an ellipsis


@contextmanager
def styled(**changes: Any) -> Iterator[None]:
    """Inside, matplotlib has the common style, whatever its user has set.

    changes: settings of matplotlib with _ for the dot, axes_grid=False.
    """
    import matplotlib.style

    settings = STYLE | {name.replace("_", "."): value for name, value in changes.items()}
    with matplotlib.style.context(["default", settings]), warnings.catch_warnings():
        # A script that no installed font has becomes boxes in a PNG; an SVG holds the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@contextmanager
def figure(width: float, height: float, square: bool = False, gap: float = 0.04, **changes: Any) -> Iterator[Figure]:
    """Make an empty figure, sizes in inches; what is drawn inside has the common style, with `changes` as in `styled`.

    square: for maps with square cells, which move together; gap: inches above and below each. At the end everything has
    its place, and keeps it: found anew by every `savefig` it would move a little each time.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.transforms import Bbox

    with styled(**changes):
        layout = ConstrainedLayoutEngine(h_pad=gap, compress=square)
        made = Figure(figsize=(width, height), layout=layout)
        yield made
        layout.execute(made)
        made.set_layout_engine("none")
        for axes in made.axes:  # without the noise that the solver leaves in the last digits
            axes.set_position(Bbox(axes.get_position(original=True).get_points().round(6)))
            axes.set_in_layout(True)


class Plot(NamedTuple):
    """A figure, and the numbers that it shows: a `Table`, or a dict of arrays. It shows itself in a notebook.

    >>> with figure(3, 2) as empty:
    ...     axes = empty.subplots()
    >>> plot = Plot(empty, {"loss": [0.5]})
    >>> plot._repr_svg_().startswith("<?xml")
    True
    """

    figure: Figure
    numbers: Any

    def save(self, path: str | Path) -> Path:
        """Write the figure as SVG or PNG, as the name says. The same figure makes the same file, byte for byte.

        Raises ValueError for a name with another ending.
        """
        path = Path(path)
        path.write_bytes(self._rendered(path.suffix.lower(), path.name))
        return path

    def _rendered(self, suffix: str, name: str) -> bytes:
        if suffix not in (".svg", ".png"):
            raise ValueError(f"save(): the name is {name!r}; it must end in .svg or .png. Try {Path(name).stem}.svg.")
        file = io.BytesIO()
        # The date would make every file another one.
        metadata = {"Date": None} if suffix == ".svg" else None
        with styled():
            self.figure.savefig(
                file, format=suffix[1:], dpi=150, metadata=metadata, bbox_inches="tight", pad_inches=0.1
            )
        return file.getvalue()

    def _repr_svg_(self) -> str:
        return self._rendered(".svg", "").decode()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"image/svg+xml": self._repr_svg_(), "text/plain": repr(self)}

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"<Plot {width:.1f} x {height:.1f} in; its numbers:\n{self.numbers!r}>"


def token_text(token: str) -> str:
    r"""A token as a label: without the space that many begin with, what cannot be seen written out, long ones cut.

    >>> [token_text(token) for token in (" the", " ", chr(10), "Donaudampfschifffahrt")]
    ['the', '␣', '\\n', 'Donaudampfschif…']
    """
    text = token.strip(" ") or "␣"
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return text if len(text) <= NAMED else text[: NAMED - 1] + "…"


def label_tokens(axes: Axes, rows: Any = None, columns: Any = None, cell: float = 0.19) -> None:
    """Write tokens beside the rows and below the columns of a heat map; None: no labels there.

    cell: its size in inches. Where it is less than a line of type, every second, third ... token is written.
    """
    size = min(7.0, max(5.0, 60 * cell))  # points
    every = -(-size * 1.1 // (72 * cell))  # lines of type per cell, rounded up
    for axis, tokens, turned in ((axes.yaxis, rows, 0), (axes.xaxis, columns, 90)):
        places = range(0, len(tokens or ()), int(every))
        labels = [token_text(str(tokens[i])) for i in places]
        axis.set_ticks(places, labels, fontsize=size, rotation=turned, parse_math=False)
    axes.tick_params(length=0, pad=2)
