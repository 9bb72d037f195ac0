"""What depends on what, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minigrad import draw

from .laboratory import Dependency, Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Tokens = Sequence[str] | None
CELL, LEAST_CELL, WIDE = 0.2, 0.06, 7  # inches: of a cell, and of a matrix


class Look(NamedTuple):
    """How a verdict is drawn: the colour of the cell, marker and colour of its symbol, and what it says in words."""

    fill: str
    marker: str
    ink: str
    words: str


LOOKS = {
    "depends": Look(draw.SKY, "o", "white", "depends, and may"),
    "independent": Look("#f0f0f0", ".", "#aaaaaa", "must not, and does not: exactly 0"),
    "leak": Look(draw.VERMILLION, "X", "black", "LEAK: must not, and depends"),
    "missing": Look("white", "D", draw.ORANGE, "may, and does not"),
}
CLOSED = {"o", "D"}  # markers drawn as outlines


def dependency_matrices(dependency: Dependency, source: Tokens = None, target: Tokens = None) -> draw.Plot:
    """Draw what every result (down) depends on (across), one matrix for each pair of output and input.

    Every cell is one of four, told apart by colour and symbol: it depends and may; it must not, and does not, exactly;
    it leaks; it may, and does not. source, target: the tokens, by default their numbers; what reads one text only has
    a source. The numbers are arrays of verdicts by pair, "depends", "independent", "leak" or "missing".

    Raises ValueError if there are not as many tokens as rows or columns.

    >>> import minigrad as mg
    >>> from minitransformer import LanguageModel, TransformerConfig, lens
    >>> _ = mg.manual_seed(0)
    >>> config = TransformerConfig(src_vocab_size=9, d_model=8, nhead=2, num_decoder_layers=1)
    >>> plot = dependency_matrices(lens.dependency(LanguageModel(config), [4, 5]), source=["a", "b"])
    >>> plot.numbers["decoder", "text"].tolist()
    [['depends', 'independent'], ['depends', 'depends']]
    """
    if not isinstance(dependency, Dependency):
        raise TypeError(
            f"dependency_matrices(): given a {type(dependency).__name__}; give what lens.dependency() returned."
        )
    matrices = dependency.matrices
    labels = {pair: _labels(matrix, source, target) for pair, matrix in matrices.items()}
    verdicts = {pair: _verdicts(matrix) for pair, matrix in matrices.items()}
    down = len({output for output, _ in matrices})
    across = len({name for _, name in matrices})
    most = max(max(array.shape) for array in verdicts.values())
    cell = min(CELL, max(LEAST_CELL, WIDE / most))
    size = max(cell * most, 1.2) + 1.2
    with draw.figure(max(size * across, 4.5), size * down + 0.9, square=True, axes_grid=False) as fig:
        grid = fig.subplots(down, across, squeeze=False)
        for axes, (pair, matrix) in zip(grid.flat, matrices.items(), strict=True):
            _draw_matrix(axes, verdicts[pair], cell)
            rows, columns = labels[pair]
            draw.label_tokens(axes, rows, columns, cell)
            count = len(matrix.leaks)
            state = "holds" if matrix.holds else "1 LEAK" if count == 1 else f"{count} LEAKS"
            axes.set_title(f"{matrix.output} x {matrix.input}: {state}", color="black" if matrix.holds else "#a03c00")
        words = [look.words for look in LOOKS.values()]
        fig.legend(_legend(), words, loc="outside lower left", ncols=2, fontsize=draw.SMALL, handleheight=1.2)
        title = f"{dependency.model}: {dependency.headline if dependency.holds else dependency.diagnosis}"
        fig.suptitle(title, size=9, x=0.01, ha="left", weight="normal" if dependency.holds else "bold")
    return draw.Plot(fig, verdicts)


def _verdicts(matrix: Matrix) -> np.ndarray:
    """The verdict of every cell, (R, C)."""
    shape = matrix.expected.shape
    return np.array([matrix.verdict(*cell) for cell in np.ndindex(shape)], dtype=object).reshape(shape)


def _draw_matrix(axes: Axes, verdicts: np.ndarray, cell: float) -> None:
    from matplotlib.colors import ListedColormap

    codes = np.select([verdicts == name for name in LOOKS], range(len(LOOKS)))
    colours = ListedColormap([look.fill for look in LOOKS.values()])
    axes.imshow(codes, cmap=colours, vmin=-0.5, vmax=len(LOOKS) - 0.5, interpolation="nearest")
    for name, look in LOOKS.items():
        rows, columns = np.nonzero(verdicts == name)
        axes.plot(columns, rows, label=name, linestyle="", **_symbol(look, 30 * cell))


def _symbol(look: Look, size: float) -> dict[str, Any]:
    """The settings of a marker."""
    return {
        "marker": look.marker,
        "ms": size,
        "mfc": "none" if look.marker in CLOSED else look.ink,
        "mec": look.ink,
        "mew": 1.0 if look.marker in CLOSED else 0.0,
    }


def _legend() -> list[Any]:
    """A cell of each kind."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        (Patch(fc=look.fill, ec=draw.GREY, lw=0.4), Line2D([], [], linestyle="", **_symbol(look, 6)))
        for look in LOOKS.values()
    ]


def _labels(matrix: Matrix, source: Tokens, target: Tokens) -> list[Sequence[str]]:
    """What to write beside rows and columns. Raises ValueError if that is not one for each."""
    of_two = matrix.input in ("source", "target")
    rows = {"encoder": source, "decoder": target if of_two else source, "output": source}.get(matrix.output)
    columns = target if matrix.input == "target" else source
    labels = []
    for tokens, names in ((rows, matrix.rows), (columns, matrix.columns)):
        if tokens is not None and len(tokens) != len(names):
            raise ValueError(
                f"dependency_matrices(): {len(tokens)} tokens, {len(names)} in {matrix.output} x {matrix.input}. "
                "Give one for each, padding, too."
            )
        labels.append(names if tokens is None else tokens)
    return labels
