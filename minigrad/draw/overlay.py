"""What is written on boxes and arrows, and their colours and widths.

Numbers that were not recorded are never drawn as 0: the words are "zero", "not reached", "not computed" (there was no
backward pass) and "not recorded". Colours are light at one end and those of Okabe and Ito (2008) at the other, which
can be told apart with any kind of colour vision; whatever a colour says, a text says too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..op import Op
from ..trace import Edge, Recording, Statistics, Step
from .folds import sharing
from .levels import Group, is_parameter

BLUE, ORANGE, GREY, INK, SKY, WHITE = "#0072b2", "#d55e00", "#bbbbbb", "#444444", "#56b4e9", "#ffffff"
WIDTHS = 0.8, 4.0  # points
DECADES = 4
NODES = ("grad", "value", "time", "memory", "saturation")
EDGES = ("share", "norm", "none")
SOFTMAXES = ("softmax", "masked_softmax")
WITH_SOFTMAX_INSIDE = ("scaled_dot_product_attention", "multi_head_attention")
SATURATED = 0.99
SMALL_SHARE = 0.01


def blend(start: str, end: str, t: float) -> str:
    """The colour that is t of the way from one to another.

    >>> blend("#000000", "#ff8000", 0.5)
    '#804000'
    """
    channels = [(int(start[i : i + 2], 16), int(end[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * t):02x}" for a, b in channels)


def short(x: float) -> str:
    """A number with three digits.

    >>> short(0.012345), short(12480), short(2.0), short(float("nan"))
    ('0.0123', '1.25e+04', '2', 'nan')
    """
    return f"{x:.3g}"


# ------------------------------------------------------------------------------------------------------------ gradients
def _joint(norms: Iterable[float]) -> float:
    """The norm of several arrays together."""
    return math.sqrt(sum(norm**2 for norm in norms))


def results(steps: Sequence[Step]) -> list[Step]:
    """The steps that are used outside of them, or nowhere at all; no leaves, if there is anything else."""
    inside = set(steps)
    found = [s for s in steps if not s.uses or any(edge.child not in inside for edge in s.uses)]
    return [step for step in found if not step.is_leaf] or found


def arriving(steps: Sequence[Step]) -> float | None:
    """The norm of the gradients of the results of these steps; None if none is known."""
    norms = [step.gradient.norm for step in results(steps) if step.gradient is not None]
    return _joint(norms) if norms else None


def leaving(steps: Sequence[Step]) -> tuple[float, bool] | None:
    """The norm of what these steps send to others, parameters aside, and whether it is only known to be no larger.

    What one step gets along several edges is a sum, whose norm is not that of its parts: it is known if all uses are
    in here, or if the parts were kept.
    """
    inside = set(steps)
    sent: dict[Step, list[Edge]] = {}
    for step in steps:
        for edge in step.inputs:
            if edge.parent not in inside and edge.norm is not None and not is_parameter(edge.parent):
                sent.setdefault(edge.parent, []).append(edge)
    norms, bound = [], False
    for parent, edges in sent.items():
        if len(edges) > 1 and len(edges) == len(parent.uses) and parent.gradient is not None:
            norms.append(parent.gradient.norm)
        elif len(kept := [edge.gradient for edge in edges if edge.gradient is not None]) == len(edges):
            norms.append(math.sqrt(float((np.sum(kept, axis=0) ** 2).sum())))
        else:
            norms.append(sum(edge.norm for edge in edges if edge.norm is not None))
            bound = bound or len(edges) > 1
    return (_joint(norms), bound) if norms else None


def status(recording: Recording, steps: Sequence[Step]) -> str:
    """What is to be said of the gradient of a box; "" if it is there."""
    found = {recording.status(step) for step in results(steps)}
    return next((word for word in ("zero", "not reached", "not recorded", "not computed") if {word} == found), "") or (
        "" if "reached" in found else min(found, default="")
    )


# -------------------------------------------------------------------------------------------------------------- numbers
def saturation(steps: Sequence[Step]) -> float | str | None:
    """The part of the rows of all softmaxes in here whose largest entry is above 0.99; None if there is no softmax.

    "not recorded" if one of them left no array behind, or works along a dimension that is not the last.
    """
    rows = saturated = 0
    for step in _softmaxes(steps):
        y = step.array
        if y is None or step.kind in WITH_SOFTMAX_INSIDE or y.ndim == 0:
            return "not recorded"
        sums = y.sum(axis=-1)
        if not ((abs(sums - 1) < 1e-3) | (sums == 0)).all():
            return "not recorded"
        rows, saturated = rows + sums.size, saturated + int((y.max(axis=-1) > SATURATED).sum())
    return saturated / rows if rows else None


def _softmaxes(steps: Sequence[Step]) -> list[Step]:
    """The last step of each softmax; or, where one is hidden, the op that hides it."""
    calls, found = {}, []
    for step in steps:
        outer = next((c for c in step.call or () if isinstance(c.thing, Op) and c.thing.name in SOFTMAXES), None)
        if outer is not None:
            calls[outer] = step
        elif step.kind in SOFTMAXES or step.kind in WITH_SOFTMAX_INSIDE:
            found.append(step)
    return [*found, *calls.values()]


def seconds(steps: Iterable[Step]) -> tuple[float, float]:
    """The time of the way there, and of the way back."""
    steps = list(steps)
    return sum(s.forward_seconds for s in steps), sum(s.backward_seconds for s in steps)


def measure(nodes: str, steps: Sequence[Step]) -> float | None:
    """The number that colours a box, None if it is not known."""
    if nodes == "grad":
        return arriving(steps)
    if nodes == "value":
        values = [step.value.rms for step in results(steps) if step.value is not None]
        return max(values, default=None)
    if nodes == "time":
        return sum(seconds(steps))
    if nodes == "memory":
        return float(sum(step.saved for step in steps))
    found = saturation(steps)
    return found if isinstance(found, float) else None


def fills(nodes: str, numbers: Sequence[float | None]) -> tuple[list[str | None], str]:
    """A colour for each number, and what it means in words."""
    if nodes == "saturation":
        words = f"part of the softmax rows with an entry above {SATURATED}: white 0, blue 1"
        if not any(x is not None for x in numbers):
            words += '; none was recorded: record(model, detail="definition", keep="values") keeps them'
        return [None if x is None else blend(WHITE, SKY, x) for x in numbers], f"colour of boxes: {words}"
    what = {"grad": "norm of the gradient", "value": "root mean square", "time": "time", "memory": "bytes kept"}[nodes]
    scale, words = log_scale(numbers, {"time": " s", "memory": " B"}.get(nodes, ""))
    return [
        None if (t := scale(x)) is None else blend(WHITE, SKY, t) for x in numbers
    ], f"colour of boxes: {what}, {words}"


def log_scale(numbers: Sequence[float | None], unit: str = "") -> tuple[Callable[[float | None], float | None], str]:
    """A function to [0, 1] by the logarithm, and its ends in words; None for what is not there or no finite number.

    It begins at most `DECADES` below the largest number: one tiny gradient must not make all others look the same.
    """
    there = [x for x in numbers if x is not None and 0 < x < math.inf]
    high = max(there, default=1.0)
    low = max(min(there, default=1.0), high / 10**DECADES)
    span = math.log10(high / low)

    def scale(x: float | None) -> float | None:
        if x is None or not 0 <= x < math.inf:
            return None
        if x == 0:
            return 0.0
        return max(math.log10(x / low) / span, 0.0) if span else 0.5

    less = " and less" if any(x < low for x in there) else ""
    words = f"{short(low)}{unit}{less} to {short(high)}{unit}, logarithmic" if there else "which nothing here has"
    return scale, words


# ------------------------------------------------------------------------------------------------------- texts of boxes
def _number(x: Statistics) -> str:
    """A single element as it is, of an array the root mean square."""
    return short(x.total if x.size == 1 and not x.nonfinite else x.rms)


def data_and_grad(recording: Recording, step: Step) -> str:
    """The two numbers of a step, in the manner of micrograd."""
    data = _number(step.value) if step.value is not None else "not recorded"
    word = recording.status(step)
    if word == "reached" and step.gradient is not None:
        g = step.gradient
        word = short(g.total) if g.size == 1 and not g.nonfinite else short(g.norm)
    return f"data {data} | grad {word}"


def flow(steps: Sequence[Step]) -> str | None:
    """The gradient that comes into a box, on the way back, and what it sends on."""
    into, out = arriving(steps), leaving(steps)
    if into is None:
        return None
    if out is None:
        return f"|g| {short(into)}"
    less = "<=" if out[1] else ""
    gain = f" (gain {less}{short(out[0] / into)})" if into else ""
    return f"|g| {short(into)} -> {less}{short(out[0])}{gain}"


def about_parameters(parameters: Sequence[Step]) -> str | None:
    """How many numbers are trained in a box, and the norm of their gradient."""
    if not parameters:
        return None
    norms = [step.gradient.norm for step in parameters if step.gradient is not None]
    count = sum(math.prod(step.shape) for step in parameters)
    return f"{count:,} parameters" + (f" |g| {short(_joint(norms))}" if norms else "")


def extra(nodes: str, steps: Sequence[Step]) -> str | None:
    """The line for what the colours show, where it is on no other line."""
    if nodes == "time":
        there, back = seconds(steps)
        return f"{1e3 * there:.3g} ms forward, {1e3 * back:.3g} ms backward"
    if nodes == "memory":
        return f"{sum(step.saved for step in steps):,} B kept"
    found = saturation(steps) if nodes == "saturation" else None
    return found if found is None else f"saturated: {found if isinstance(found, str) else f'{found:.1%}'}"


def lines(recording: Recording, group: Group, nodes: str) -> list[str]:
    """What stands below the title of a box."""
    steps = group.steps
    parameters = [step for step in steps if is_parameter(step)]
    if group.rest:
        return [f"{count:,} {kind}" for kind, count in Counter(step.kind for step in steps).most_common(6)]
    if group.folded:
        found = _of_fold(group)
    elif len(parameters) == len(steps) > 1:
        found = [", ".join(recording.name(step) for step in parameters[:3]), about_parameters(parameters)]
    elif group.is_step or group.is_op:
        step = results(steps)[0]
        found = [str(step.shape), data_and_grad(recording, step)]
    else:
        shapes = dict.fromkeys(str(step.shape) for step in results(steps))
        thing = type(group.unit.thing).__name__ if group.unit else ""
        word = status(recording, steps)
        found = [f"{thing} {', '.join(list(shapes)[:2])}".lstrip(), f"grad {word}" if word else flow(steps)]
        found.append(about_parameters(parameters))
    return [line for line in (*found, extra(nodes, steps)) if line]


def _of_fold(group: Group) -> list[str | None]:
    units = [[step for box in unit for step in box.steps] for unit in group.folded]
    into = [x for unit in units if (x := arriving(unit)) is not None]
    gains, bound = [], False
    for unit in units:
        x, out = arriving(unit), leaving(unit)
        if x and out is not None:
            gains.append(out[0] / x)
            bound = bound or out[1]
    ranges = [f"|g| {span(into)}" if into else None, f"gain {'<=' if bound else ''}{span(gains)}" if gains else None]
    return [sharing(group.folded, is_parameter), *ranges]


def span(numbers: Sequence[float]) -> str:
    """From the least to the most.

    >>> span([0.8, 0.68, 0.7]), span([2.0])
    ('0.68 to 0.8', '2')
    """
    low, high = short(min(numbers)), short(max(numbers))
    return low if low == high else f"{low} to {high}"
