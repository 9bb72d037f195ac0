"""A figure of recordings: how large the gradient is from layer to layer.

It takes one recording, or several by the names under which they are compared, and returns a `Plot`: the figure, and the
numbers behind it by the name of the recording.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from ..trace import Recording, Step, Table
from .style import COLOURS, MARKERS, SMALL, Plot, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Recordings = Recording | Mapping[str, Recording]
LEVELS = ("layer", "sublayer")


class FlowRow(NamedTuple):
    """A row of `gradient_flow`: norms of gradients in one layer.

    least, median, most: of its parameters, those that are 0 or not finite left out, None if there are no others;
    activation: of what it returns. The notes say in words what a logarithmic axis cannot show, "" if all is well.
    """

    layer: str
    parameters: int
    least: float | None
    median: float | None
    most: float | None
    activation: float | None
    parameter_note: str
    activation_note: str


def gradient_flow(recordings: Recordings, level: str = "layer") -> Plot:
    """Draw the norms of gradients over the depth of a model: of parameters (median and range), and of activations.

    The layers stand in the order of the forward pass: encoder.layers.0, encoder.layers.1, ..., with level="sublayer"
    encoder.layers.0.self_attn, encoder.layers.0.add_norm1, ...; a layer is here what has parameters that are trained.
    The activation of a layer is what it returned in its last call. Gradients are what arrived, before hooks, so that of
    a parameter with a hook is not its `.grad`. What cannot be on a logarithmic axis is written at its foot: zero, not
    finite, not reached; a triangle there says that a range goes on below. The numbers are tables of `FlowRow`.

    Raises ValueError for another level, and for recordings without a model, or without a backward pass.

    >>> import minigrad as mg
    >>> from minigrad.trace import record
    >>> model = mg.nn.Sequential(mg.nn.Linear(3, 4), mg.nn.Tanh(), mg.nn.Linear(4, 2))
    >>> with record(model) as rec:
    ...     (model(mg.randn(5, 3)) ** 2).mean().backward()
    >>> plot = gradient_flow({"start": rec})
    >>> plot.numbers["start"].column("layer")
    ['0', '2']
    """
    if level not in LEVELS:
        raise ValueError(f"gradient_flow(): level is {level!r}; it must be {' or '.join(map(repr, LEVELS))}.")
    tables = {name: _flow(rec, level) for name, rec in by_name("gradient_flow", recordings).items()}
    layers = merged([table.column("layer") for table in tables.values()])
    with figure(max(4.5, 1.5 + len(layers) * (0.12 + 0.1 * len(tables))), 4.2) as fig:
        axes = fig.subplots()
        axes.set_yscale("log")
        floor = _floor(tables.values())
        looks = zip(tables.items(), cycle(COLOURS), cycle(MARKERS), strict=False)
        for number, ((name, table), colour, marker) in enumerate(looks):
            shift = 0.2 * (number - (len(tables) - 1) / 2)
            places = [layers.index(row.layer) + shift for row in table]
            _draw_flow(axes, name, table, places, colour, marker)
            below = [
                x for x, row in zip(places, table, strict=True) if row.least is not None and row.least < (floor or 0)
            ]
            axes.plot(
                below, [0.0] * len(below), "v", color=colour, ms=4, clip_on=False, transform=axes.get_xaxis_transform()
            )
        axes.set_ylim(bottom=floor)
        axes.set(title="norm of the gradient, layer by layer", xlim=(-0.6, len(layers) - 0.4))
        axes.set_xticks(range(len(layers)), [layer or "(the model)" for layer in layers], rotation=90, fontsize=SMALL)
        fig.legend(loc="outside lower left", fontsize=SMALL, ncols=2)
    return Plot(fig, tables)


def _flow(rec: Recording, level: str) -> Table:
    """The rows of one recording."""
    if rec.model is None:
        raise ValueError(
            "gradient_flow(): the recording knows of no model, so of no layers. Record with record(model)."
        )
    named = {rec.name(step): step for step in rec.steps if step.is_leaf}
    parameters: dict[str, list[Step | None]] = {}
    for name, parameter in rec.model.named_parameters():
        if parameter.requires_grad:
            parameters.setdefault(_layer(name.rpartition(".")[0], level), []).append(named.get(name))
    if not parameters:
        raise ValueError(
            f"gradient_flow(): {type(rec.model).__name__} has no parameters that are trained. Draw one that has some."
        )
    returned: dict[str, Step] = {}  # in the order of the forward pass
    for step in rec.steps:
        layer = _layer(rec.path(step.module), level)
        if not step.is_leaf and step.module is not None and layer in parameters:
            returned[layer] = step
    rows = [
        _flow_row(rec, layer, parameters[layer], returned.get(layer))
        for layer in dict.fromkeys([*returned, *parameters])
    ]
    return Table("norms of gradients, layer by layer", FlowRow, rows)


def _flow_row(rec: Recording, layer: str, parameters: Sequence[Step | None], returned: Step | None) -> FlowRow:
    statuses = [_status(rec, step) for step in parameters]
    norms = [step.gradient.norm for step in parameters if step and step.gradient and _status(rec, step) == "reached"]
    least, middle, most = (min(norms), median(norms), max(norms)) if norms else (None, None, None)
    counts = Counter(status for status in statuses if status != "reached")
    note = ", ".join(what if n == len(statuses) else f"{n} of {len(statuses)} {what}" for what, n in counts.items())
    activation_note = _status(rec, returned)
    activation = returned.gradient.norm if returned and returned.gradient else None
    return FlowRow(
        *(layer, len(parameters), least, middle, most, activation, note),
        "" if activation_note == "reached" else activation_note,
    )


def _status(rec: Recording, step: Step | None) -> str:
    if step is not None and step.gradient is not None and step.gradient.nonfinite:
        return "not finite"
    return "not reached" if step is None else rec.status(step)


def _floor(tables: Iterable[Table]) -> float | None:
    """Where the axis ends below, None if there is nothing to draw.

    One parameter can be far below all others, as the bias of keys, whose gradient is 0 but for rounding; it shall not
    press the rest together.
    """
    drawn = [x for table in tables for row in table for x in (row.median, row.activation) if x is not None and x > 0]
    return min(drawn) / 10 if drawn else None


def _draw_flow(axes: Axes, name: str, table: Table, places: list[float], colour: str, marker: str) -> None:
    there = [(x, row) for x, row in zip(places, table, strict=True) if row.median is not None]
    x, middle = [x for x, _ in there], [row.median for _, row in there]
    axes.vlines(x, [row.least for _, row in there], [row.most for _, row in there], color=colour, alpha=0.4, lw=2.5)
    axes.plot(x, middle, marker, color=colour, ms=5, label=f"{name}: parameters, median and range")
    drawn = [row.activation if row.activation_note == "" else math.nan for row in table]
    axes.plot(places, drawn, marker + "--", color=colour, mfc="white", ms=4, lw=1, label=f"{name}: activations")
    for x, row in zip(places, table, strict=True):
        texts = [
            f"{what} {note}" for what, note in (("par.", row.parameter_note), ("act.", row.activation_note)) if note
        ]
        foot = axes.text(x, 0.02, "; ".join(texts), rotation=90, va="bottom", ha="center", fontsize=SMALL, color=colour)
        foot.set_transform(axes.get_xaxis_transform())


def by_name(function: str, recordings: Recordings) -> dict[str, Recording]:
    """The recordings by name; one alone has that of its model's class. Raises ValueError if nothing can be drawn."""
    if isinstance(recordings, Recording):
        recordings = {type(recordings.model).__name__ if recordings.model else "recording": recordings}
    given = recordings if isinstance(recordings, Mapping) else {"": recordings}
    if any(not isinstance(rec, Recording) for rec in given.values()):
        kinds = ", ".join(type(rec).__name__ for rec in given.values())
        raise TypeError(f"{function}(): given {kinds}; give a recording, or several: {{'pre-norm': rec, ...}}.")
    if not recordings:
        raise ValueError(f"{function}(): there is no recording. Give one, or several: {{'pre-norm': rec, ...}}.")
    for name, rec in recordings.items():
        if not rec.runs:
            raise ValueError(
                f"{function}(): {name!r} has seen no backward pass. Call backward() inside `with record(...)`."
            )
    return dict(recordings)


def _layer(path: str, level: str) -> str:
    """The layer of a module: its path up to the first number, or up to the second name where there is none."""
    parts = path.split(".")
    end = next((i for i, part in enumerate(parts) if part.isdigit()), 1) + 1
    return ".".join(parts[: end + (level == "sublayer")])


def merged(orders: Iterable[Sequence[str]]) -> list[str]:
    """All names in one order: each that is new stands behind what was before it.

    >>> merged([["a", "b", "d"], ["a", "c", "d", "e"]])
    ['a', 'c', 'b', 'd', 'e']
    """
    names: list[str] = []
    for order in orders:
        place = 0
        for name in order:
            if name not in names:
                names.insert(place, name)
            place = names.index(name) + 1
    return names
