"""Pictures of a training run and of what the decoder attends to. Every function returns the figure."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#777777"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, and the viewer's fonts know every script
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}
SMOOTHING = 21  # steps over which the loss of single batches is averaged


def loss_figure(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw loss, held-out accuracy and learning rate over the steps of a `Trainer.history`.

    >>> record = {"step": 1, "loss": 4.1, "learning_rate": 1e-4, "gradient_norm": 2.0}
    >>> len(loss_figure([record]).axes)
    3
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    steps = np.array([record["step"] for record in history])
    losses = np.array([record["loss"] for record in history])
    evaluations = [(record["step"], record["valid"]) for record in history if "valid" in record]
    at = [step for step, _ in evaluations]

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 6.4), layout="constrained")
        loss, accuracy, rate = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2, 1.2])

        loss.plot(steps, losses, color=BLUE, alpha=0.25, linewidth=0.6)
        loss.plot(
            steps,
            running_mean(losses, SMOOTHING),
            color=BLUE,
            label=f"training, with dropout and smoothed labels, mean of {SMOOTHING} steps",
        )
        loss.plot(at, [valid["loss"] for _, valid in evaluations], "o-", ms=4, color=ORANGE, label="held out")
        loss.set(title="loss per target token (nats)", ylim=(0, None))
        loss.legend()

        for name, colour, marker in (("exact_match", GREEN, "o-"), ("token_accuracy", GREY, "s--")):
            label = f"{name.replace('_', ' ')}, held out"
            accuracy.plot(at, [100 * valid[name] for _, valid in evaluations], marker, ms=4, color=colour, label=label)
        accuracy.set(title="accuracy (%)", ylim=(-3, 103))
        accuracy.legend()

        rate.plot(steps, [record["learning_rate"] for record in history], color=GREY)
        rate.set(title="learning rate", xlabel="step", ylim=(0, None))
        rate.yaxis.set_major_formatter("{x:g}")
    return figure


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Return the mean of the `width` values (an odd number) around each; near an end of as many as there are on a side.

    So the mean of a straight line is that line, and where the loss falls the mean is not late.

    >>> running_mean(np.array([1.0, 2.0, 6.0, 4.0]), 3)
    array([1., 3., 4., 4.])
    """
    places = np.arange(len(values))
    half = np.minimum(width // 2, np.minimum(places, places[::-1]))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[places + half + 1] - sums[places - half]) / (2 * half + 1)


def attention_figure(patterns: Mapping[str, np.ndarray], source: Sequence[str], target: Sequence[str]) -> Figure:
    """Draw the attention of one sentence: a heat map for every layer (down) and head (across).

    `patterns` maps the name of each layer to an array (H, T, S) that is a distribution over the S source tokens in
    every row; `target` holds the T tokens that the decoder is about to write, `source` the S tokens that it looks at.

    >>> figure = attention_figure({"layer 0": np.full((2, 1, 3), 1 / 3)}, ["a", "b", "c"], ["x"])
    >>> [axes.get_title(loc="left") for axes in figure.axes[:2]]
    ['layer 0, head 0', 'layer 0, head 1']
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    heads = len(next(iter(patterns.values())))
    cell = 0.19  # inches: a line of type of size 7 and a little air
    labels = 0.08 * max(len(token) for token in [*source, *target])
    width = max(heads * (cell * len(source) + 0.25) + labels + 0.9, 4.5)
    title = textwrap.fill(
        "cross-attention: which source token (across) each written token (down) attends to", round(13 * width)
    )
    height = max(len(patterns) * (cell * len(target) + 0.45) + labels, 2) + 0.2 * len(title.splitlines()) + 0.2

    with mpl.rc_context({**STYLE, "axes.grid": False, "axes.titlesize": 8}):
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(len(patterns), heads, squeeze=False, sharex=True, sharey=True)
        for row, (name, pattern) in zip(grid, patterns.items(), strict=True):
            for head, (axes, weights) in enumerate(zip(row, pattern, strict=True)):
                axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="equal")
                axes.set_title(f"{name}, head {head}")
        for axes in grid.flat:
            label_tokens(axes, source, target)
        figure.suptitle(title, size=9)
        figure.colorbar(grid[0, 0].images[0], ax=grid, shrink=0.8, aspect=25, label="attention weight")
    return figure


def label_tokens(axes: Axes, source: Sequence[str], target: Sequence[str]) -> None:
    """Write the tokens beside a heat map, without the space that many begin with."""
    across, down = ([token.strip() or "␣" for token in tokens] for tokens in (source, target))
    axes.set_xticks(range(len(source)), across, rotation=90, fontsize=7)
    axes.set_yticks(range(len(target)), down, fontsize=7)
    axes.tick_params(length=0)


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Save `figure` as `name`.png and `name`.svg, and return the two paths."""
    import matplotlib as mpl

    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A script that no installed font has becomes boxes in the PNG; the SVG holds the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        for path in paths:
            figure.savefig(path, dpi=150)
    return paths
