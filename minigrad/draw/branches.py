"""Figures of what residual connections y = x + f(x) do to the gradient, side by side for several recordings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

from ..trace import Table
from .plots import Recordings, by_name, merged
from .style import BLUE, COLOURS, GREY, HATCHES, SMALL, VERMILLION, Plot, figure, whole_decades

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# part of the gradient -> colour, hatch, marker
PARTS = {"identity": (BLUE, "", "o"), "branch": (VERMILLION, "////", "s"), "other": (GREY, "....", "^")}
LABELS = {"identity": "past f (identity)", "branch": "through f (branch)", "other": "other uses of x"}


def residual_ledger(recordings: Recordings) -> Plot:
    """Draw for every residual connection y = x + f(x) how the gradient of x came: past f, or through f.

    Beside each other for every recording: signed shares <part, g> / <g, g> of the whole gradient g of x, as bars that
    end at 1 together (a part that works against the others goes to the left of 0), and the norms of the parts. From
    top to bottom in the order of the forward pass. The numbers are what `Recording.residuals` returns.

    Raises ValueError for recordings without a backward pass, or without residual connections.

    >>> import minigrad as mg
    >>> from minigrad.trace import record
    >>> class Block(mg.nn.Linear):
    ...     is_residual = True
    ...     def forward(self, x):
    ...         return x + super().forward(x).tanh()
    >>> model = mg.nn.Sequential(Block(4, 4), Block(4, 4), Block(4, 4))
    >>> with record(model) as rec:
    ...     (model(mg.randn(5, 4, requires_grad=True)) ** 2).mean().backward()
    >>> [row.step for row in residual_ledger({"three": rec}).numbers["three"]]
    ['0.add', '1.add', '2.add']
    """
    tables = {name: rec.residuals() for name, rec in by_name("residual_ledger", recordings).items()}
    for name, table in tables.items():
        if not table:
            raise ValueError(
                f"residual_ledger(): {name!r} has no residual connection that a gradient passed. A module that adds "
                "x + f(x) says so by is_residual = True."
            )
    places = merged([[_place(row.step) for row in table] for table in tables.values()])
    with figure(2.2 + 3.6 * len(tables), 1.2 + 0.17 * max(len(places), 6), hatch_linewidth=0.5) as fig:
        grid = fig.subplots(1, 2 * len(tables), sharey=True, squeeze=False, width_ratios=[3, 2] * len(tables))[0]
        for name, table, shares, norms in zip(tables, tables.values(), grid[::2], grid[1::2], strict=True):
            if shares is not grid[0]:
                shares.sharex(grid[0])
                norms.sharex(grid[1])
            y = [places.index(_place(row.step)) for row in table]
            _draw_shares(shares, table, y)
            _draw_norms(norms, table, y)
            shares.set_title(f"{name}: share of the gradient")
            norms.set_title("norm")
        drawn = [norm for table in tables.values() for part in ("identity", "branch") for norm in table.column(part)]
        for norms in grid[1::2]:
            norms.set(xscale="log", xlim=whole_decades(drawn))
            norms.xaxis.set_minor_formatter("")
        grid[0].set_yticks(range(len(places)), places, fontsize=SMALL)
        grid[0].set_ylim(len(places) - 0.4, -0.6)
        drawn_bars = [axes.get_legend_handles_labels() for axes in grid[::2]]
        legend = {
            label: handle for handles, labels in drawn_bars for handle, label in zip(handles, labels, strict=True)
        }
        fig.legend(legend.values(), legend.keys(), loc="outside lower left", ncols=3)
    return Plot(fig, tables)


def _draw_shares(axes: Axes, table: Table, y: list[int]) -> None:
    ends = {True: [0.0] * len(y), False: [0.0] * len(y)}  # of the bars that go right, and left
    for part, (colour, hatch, _) in PARTS.items():
        shares = table.column(f"{part}_share")
        if part != "other" or any(shares):
            starts = [ends[share >= 0][i] for i, share in enumerate(shares)]
            axes.barh(y, shares, 0.75, starts, color=colour, hatch=hatch, label=LABELS[part])
            for i, share in enumerate(shares):
                ends[share >= 0][i] += share
    for place, share in zip(y, table.column("identity_share"), strict=True):
        if math.isnan(share):
            axes.text(0.02, place, "the gradient is 0, or not finite", va="center", fontsize=SMALL)
    axes.axvline(0, color="black", lw=0.8)
    axes.axvline(1, color="black", lw=0.8, ls=":")
    axes.tick_params("y", length=0)


def _draw_norms(axes: Axes, table: Table, y: list[int]) -> None:
    for part in ("identity", "branch"):
        colour, _, marker = PARTS[part]
        norms = table.column(part)
        axes.plot([norm or math.nan for norm in norms], y, marker + "-", color=colour, ms=4, lw=0.5, mew=0)
        for place, norm in zip(y, norms, strict=True):
            if not 0 < norm < math.inf:
                x, side = {"identity": (0.02, "left"), "branch": (0.98, "right")}[part]
                text = axes.text(x, place, f"{part} {norm:g}", ha=side, va="center", fontsize=6, color=colour)
                text.set_transform(axes.get_yaxis_transform())
    axes.tick_params("y", length=0)


def _place(step: str) -> str:
    """The residual connection of an addition: its name without the op, which is another one when it is fused."""
    return re.sub(r"\.(add|add_layer_norm)(?=#|$)", "", step)


def path_shares(shares: Mapping[str, Mapping[int, float]], of: str) -> Plot:
    """Draw which share of the gradient of something came through 0, 1, 2, ... residual branches.

    shares: by name, what is to stand beside each other, from `trace.crossing_shares`: {"post-norm": {0: 0.6, 1: 0.4}}.
    They sum to 1; where paths cancel each other some are negative. of: what the gradient is of, for the title. The
    numbers are `shares`.

    Raises ValueError if there are none, as of a gradient that is 0, TypeError for what are no shares.

    >>> import minigrad as mg
    >>> layer = mg.nn.Linear(3, 2)
    >>> loss = (layer(mg.randn(5, 3)) ** 2).mean()
    >>> path_shares({"no branch": mg.trace.crossing_shares(loss, layer.weight)}, "weight").numbers
    {'no branch': {0: 1.0}}
    """
    if not shares:
        raise ValueError("path_shares(): there are no shares. Give those of one gradient, or of several: {'x': {...}}.")
    for name, counted in shares.items():
        if not isinstance(counted, Mapping):
            raise TypeError(
                f"path_shares(): {name!r} is a {type(counted).__name__}; give what trace.crossing_shares returns."
            )
        if not counted or not all(map(math.isfinite, counted.values())):
            raise ValueError(
                f"path_shares(): {name!r} has no shares of the gradient of {of}, which is 0 or not finite. "
                "Try another tensor, or see Recording.status()."
            )
    highest = max(abs(share) for counted in shares.values() for share in counted.values())
    # Most paths cross very many branches, and bring nothing: bars that nobody sees are not shown.
    most = max(count for counted in shares.values() for count, share in counted.items() if abs(share) > highest / 500)
    width = 0.8 / len(shares)
    with figure(max(4.5, 1.5 + 0.4 * most), 3.2) as fig:
        axes = fig.subplots()
        looks = zip(shares.items(), cycle(COLOURS), cycle(HATCHES), strict=False)
        for number, ((name, counted), colour, hatch) in enumerate(looks):
            places = [count - 0.4 + (number + 0.5) * width for count in counted]
            axes.bar(places, list(counted.values()), width, color=colour, hatch=hatch, label=name)
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xticks(range(most + 1))
        axes.set_xlim(-0.7, most + 0.7)
        axes.set(title=f"share of the gradient of {of}", xlabel="residual branches crossed")
        axes.grid(axis="x", visible=False)
        axes.legend()
    return Plot(fig, dict(shares))
