"""Figures of the softmax oscilloscope: which heads die, when, and how the gradient is spread over the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import draw

from .film import Film
from .rows import ECDF, Saturation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

Array = np.ndarray

SHOWN = ("dead", "normalised_entropy.median")
SHARES = ("dead", "normalised_entropy", "max_p")  # statistics between 0 and 1
ORDERS = ("row_gradient", "gain", "jacobian")  # statistics of which orders of magnitude count
STYLE = {"axes_grid": False, "hatch_color": "#bbbbbb", "ytick_labelsize": draw.SMALL, "xtick_labelsize": draw.SMALL}
NO_NUMBER = {"facecolor": "#f4f4f4", "hatch": "/////"}  # the ground, seen where there is no number
TICKS = 9
ACROSS = 3  # attentions beside each other


def saturation_strip(of: Film | Saturation, columns: Sequence[str] = SHOWN) -> draw.Plot:
    """Draw a number of every head: over the steps of a film, or now.

    columns: what to draw, side by side, as `Saturation.per_head` has it. A film is a strip for every attention, with a
    row for each head, and a column for each step that was filmed; a `Saturation` a map of attentions (down) and heads
    (across). Where no row was measured, or there is no such head, it is hatched. The numbers are arrays by column:
    (steps, attentions, heads), or (attentions, heads).

    Raises ValueError if there is no such column, and for a film without steps.

    >>> from minigrad import randn
    >>> from minitransformer import MultiHeadAttention, lens
    >>> x = randn(2, 5, 8)
    >>> plot = saturation_strip(lens.saturation(MultiHeadAttention(d_model=8, nhead=2), x, x, x))
    >>> plot.numbers["dead"].shape
    (1, 2)
    """
    if isinstance(columns, str) or not columns:
        raise ValueError(f"saturation_strip(): columns is {columns!r}; give a tuple of names. Try {SHOWN}.")
    if not isinstance(of, Film | Saturation):
        raise TypeError(f"saturation_strip(): given a {type(of).__name__}; give what lens.saturation() returned.")
    if not len(of):
        what = "steps" if isinstance(of, Film) else "attentions"
        raise ValueError(f"saturation_strip(): there are no {what} to draw. See lens.saturation() and Film.add().")
    if isinstance(of, Film):
        return _strips(of, columns)
    numbers = {column: of.per_head(column) for column in columns}
    attentions, heads = numbers[columns[0]].shape
    with draw.figure(2.2 + len(columns) * max(0.42 * heads + 0.3, 2.2), 1.3 + 0.26 * attentions, **STYLE) as fig:
        grid = fig.subplots(1, len(columns), squeeze=False, sharey=True)[0]
        for axes, (column, values) in zip(grid, numbers.items(), strict=True):
            image = _image(axes, column, values, values)
            for (attention, head), value in np.ndenumerate(values):
                colour = "white" if image.norm(value) > 0.55 else "black"
                axes.text(head, attention, _short(value), ha="center", va="center", fontsize=draw.SMALL, color=colour)
            axes.set(title=_words(column), xlabel="head")
            axes.set_xticks(range(heads))
            axes.tick_params(length=0)
        grid[0].set_yticks(range(attentions), [path or "(the model)" for path in of])
    return draw.Plot(fig, numbers)


def _strips(film: Film, columns: Sequence[str]) -> draw.Plot:
    """The figure of a film."""
    from matplotlib.colors import SymLogNorm

    numbers = {column: film[column] for column in columns}
    steps, attentions, heads = numbers[columns[0]].shape
    width, height = 2.4 + 3.2 * len(columns), 1.6 + attentions * max(0.1 * heads + 0.08, 0.24)
    with draw.figure(width, height, gap=0.02, **STYLE) as fig:
        grid = fig.subplots(attentions, len(columns), squeeze=False, sharex=True, sharey=True)
        places = range(0, steps, -(-steps // TICKS))
        for column, (name, values) in enumerate(numbers.items()):
            images = [_image(grid[a, column], name, values[:, a].T, values) for a in range(attentions)]
            grid[0, column].set_title(_words(name))
            grid[-1, column].set_xticks(places, [film.steps[place] for place in places])
            grid[-1, column].set_xlabel("step")
            bar = fig.colorbar(
                images[0], ax=grid[:, column], location="bottom", shrink=0.6, aspect=30, pad=0.25 / height
            )
            if isinstance(images[0].norm, SymLogNorm):
                ends = [images[0].norm.linthresh, images[0].norm.vmax]
                bar.set_ticks(ends, labels=[_short(end) for end in ends], minor=False)
                bar.minorticks_off()
        for axes, path in zip(grid[:, 0], film.attentions, strict=True):
            axes.set_ylabel(path or "(the model)", rotation=0, ha="right", va="center", fontsize=draw.SMALL)
            axes.set_yticks([])
        for axes in grid.flat:
            axes.tick_params(length=0)
    return draw.Plot(fig, numbers)


def _image(axes: Axes, column: str, values: Array, of_all: Array) -> Any:
    """An image of `values`, with the colours that fit to `of_all`, on a hatched ground."""
    axes.patch.set(**NO_NUMBER)
    shown, colours = np.ma.masked_invalid(values), "Oranges" if column == "dead" else "Blues"
    return axes.imshow(shown, cmap=colours, norm=_norm(column, of_all), aspect="auto", interpolation="nearest")


def _norm(column: str, values: Array) -> Normalize:
    """From numbers to shades: shares from 0 to 1, others up to their largest, or by orders of magnitude."""
    from matplotlib.colors import Normalize, SymLogNorm

    statistic, positive = column.partition(".")[0], values[values > 0]
    if statistic in SHARES or not positive.size:
        return Normalize(0, 1)
    if statistic in ORDERS:
        return SymLogNorm(float(positive.min()), vmin=0, vmax=float(positive.max()))
    return Normalize(0, float(positive.max()))


def _short(value: float) -> str:
    """A number in five letters, "" for NaN.

    >>> [_short(value) for value in (0.0, 2.34e-8, 0.00234, 0.234, 2.34, 234.0)]
    ['0', '2e-08', '0.002', '0.23', '2.3', '234']
    """
    if np.isnan(value):
        return ""
    if 0 < value < 0.001 or value >= 1e5:
        return f"{value:.0e}"
    return f"{value:.1g}" if value < 0.01 else f"{value:.2g}" if value < 100 else f"{value:.0f}"


def _words(column: str) -> str:
    """A column as a title.

    >>> _words("dead"), _words("row_gradient.median")
    ('share of dead rows', 'row gradient, median')
    """
    return "share of dead rows" if column == "dead" else column.replace(".", ", ").replace("_", " ")


def row_gradients(saturation: Saturation, statistic: str = "row_gradient") -> draw.Plot:
    """Draw how the gradients |dL/ds| of the rows are distributed in every attention, with their mean and median.

    A curve says which share of the rows has at most this gradient. Where a few rows have nearly all of it, the mean is
    far to the right of the median, and says nothing about most rows. statistic: another one of `Saturation.values_of`.
    The numbers are an `ECDF` for every attention.

    Raises ValueError if there is no such statistic, or no attention.

    >>> from minigrad import randn
    >>> from minitransformer import MultiHeadAttention, lens
    >>> x = randn(2, 5, 8)
    >>> plot = row_gradients(lens.saturation(MultiHeadAttention(d_model=8, nhead=2), x, x, x))
    >>> float(plot.numbers[""].fractions[-1])
    1.0
    """
    if not isinstance(saturation, Saturation):
        raise TypeError(f"row_gradients(): given a {type(saturation).__name__}; give what lens.saturation() returned.")
    if not saturation:
        raise ValueError("row_gradients(): there are no attentions to draw. See lens.saturation().")
    numbers = {path: saturation.ecdf(path, statistic=statistic) for path in saturation}
    across = min(ACROSS, len(numbers))
    down = -(-len(numbers) // across)
    with draw.figure(0.8 + 2.5 * across, 0.9 + 1.6 * down) as fig:
        grid = fig.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        limits = draw.whole_decades(value for ecdf in numbers.values() for value in ecdf.values)
        grid[0, 0].set(xscale="log", xlim=limits, ylim=(-0.03, 1.03))
        for axes in grid.flat[len(numbers) :]:
            axes.set_visible(False)
        for axes, (path, ecdf) in zip(grid.flat, numbers.items(), strict=False):
            axes.set_title(path or "(the model)", fontsize=draw.SMALL)
            axes.tick_params(labelbottom=True, labelsize=draw.SMALL)
            axes.xaxis.set_minor_formatter("")
            _draw_ecdf(axes, ecdf)
        drawn = [axes.get_legend_handles_labels() for axes in grid.flat]
        legend = {label: handle for handles, labels in drawn for handle, label in zip(handles, labels, strict=True)}
        fig.legend(legend.values(), legend.keys(), loc="outside lower left", ncols=3)
        gradient = statistic == "row_gradient"
        fig.supxlabel("norm of the gradient of a row, |dL/ds|" if gradient else _words(statistic), size=9)
        fig.supylabel("share of rows", size=9)
    return draw.Plot(fig, numbers)


def _draw_ecdf(axes: Axes, ecdf: ECDF) -> None:
    """The curve, and what a logarithmic axis cannot show in words."""
    positive = ecdf.values > 0
    zeros = np.count_nonzero(~positive)
    axes.step(ecdf.values[positive], ecdf.fractions[positive], where="post", color=draw.BLUE, lw=1.5)
    for name, value, colour, look in (
        ("mean", ecdf.mean, draw.VERMILLION, "^--"),
        ("median", ecdf.median, draw.GREEN, "o-"),
    ):
        if value > 0:
            share = np.searchsorted(ecdf.values, value, side="right") / positive.size
            axes.plot([value] * 3, [0, share, 1], look, color=colour, lw=1, ms=5, markevery=[1], label=name)
    text = f"{zeros} of {positive.size} rows exactly 0" if zeros else "" if positive.size else "no row measured"
    axes.text(0.03, 0.95, text, transform=axes.transAxes, va="top", fontsize=draw.SMALL)
