"""Where the first value or gradient came from that is not finite, or the first gradient that is 0 everywhere.

PyTorch's `detect_anomaly` names a backward op and lets a loss that is NaN pass; its users ask for the place, for the
forward pass too, and for infinities (pytorch#160016). An `Origin` names the step that made it, of good arguments.

One thing that is not finite is no mistake: -inf where a mask shuts something out. As long as it only comes from a
`masked_fill`, or from an array that wants no gradient, and stays -inf, it is followed, not reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from . import explain
from .steps import Edge, Nonfinite, Source, Statistics, Step

if TYPE_CHECKING:
    from .recording import Recording

KINDS = ("nan", "inf", "-inf")  # in the order in which they are reported


class Extrema(NamedTuple):
    """An argument of a step, or the gradient that it received: who made it, and its statistics where they are known."""

    name: str
    makers: tuple[str, ...]
    shape: tuple[int, ...]
    values: Statistics | None

    @property
    def least(self) -> float | None:
        """The smallest of the finite elements."""
        return self.values and self.values.least

    @property
    def most(self) -> float | None:
        """The largest of the finite elements."""
        return self.values and self.values.most

    @property
    def nonfinite(self) -> int | None:
        """How many elements are not finite."""
        return self.values and self.values.nonfinite

    def __str__(self) -> str:
        if self.values is None:
            known = "not looked at"
        else:
            finite = self.values.size > self.values.nonfinite
            known = f"from {self.values.least:.4g} to {self.values.most:.4g}" if finite else "nothing finite"
            known += "".join(f", {found.count} x {found.kind}" for found in self.values.kinds)
        return f"{self.name} {self.shape}: {known}" + (f"; of {', '.join(self.makers)}" if self.makers else "")


@dataclass(frozen=True)
class Origin:
    """Where it began. `print` it.

    step: the name of the step; what: "value" or "gradient"; argument: to which argument of the step the gradient goes,
    or with which one the value came in; None: it is the step's own value or gradient. value: nan, inf, -inf or 0.0, at
    `index` in an array of `shape` (None: everywhere). arguments: those of the step; received: the gradient that it
    got. path: of its module; calls: the classes and ops around it, from the outside in; source: the line that asked for
    it; reason: why, where that is known.
    """

    step: str
    what: str
    value: float
    index: tuple[int, ...] | None
    shape: tuple[int, ...]
    argument: str | None
    arguments: tuple[Extrema, ...]
    received: Extrema | None
    path: str
    calls: tuple[str, ...]
    source: Source | None
    reason: str | None

    def __str__(self) -> str:
        place = {
            ("value", False): f"the value of {self.step}",
            ("value", True): f"{self.argument}, an argument of {self.step}",
            ("gradient", False): f"the gradient of {self.step}",
            ("gradient", True): f"the gradient that {self.step} sends to its argument {self.argument}",
        }[self.what, self.argument is not None]
        where = "everywhere" if self.index is None else f"at {list(self.index)}"
        rows = [
            ("why", self.reason),
            *[("argument", extrema) for extrema in self.arguments],
            ("received", self.received),
            ("in", " > ".join(self.calls)),
            ("at", self.source and f"{self.source}: {self.source.text}"),
        ]
        head = f"{self.value:g} in {place}, {where} of {self.shape}"
        return "\n".join([head, *[f"  {label:<8}  {text}" for label, text in rows if text]])


def first_nonfinite(recording: Recording) -> Origin | None:
    """See `Recording.first_nonfinite`."""
    return next(filter(None, (of_value(recording, step) for step in recording.steps)), None)


def of_value(recording: Recording, step: Step) -> Origin | None:
    """The origin of the value of a step, if it is not finite and those before it were."""
    if step.value is None or not step.value.nonfinite:
        return None
    if step.is_leaf or step.outside:
        return _came_in(recording, step, step.value)
    arguments = _arguments(recording, step)
    values = {extrema.name: extrema.values for extrema in arguments}
    constants = {a.name: a for a in step.arguments if not a.wanted}
    made = {found.kind: found for found in step.value.kinds}
    inherited = set[str]().union(*[explain.kinds(v) for name, v in values.items() if name not in constants])
    for kind in KINDS:
        if kind not in made or kind in inherited:
            continue
        source = next((a for a in constants.values() if kind in explain.kinds(a.value)), None)
        if kind == "-inf" and (source or step.kind == "masked_fill"):
            continue  # a mask
        if source is not None and source.value is not None:
            found = next(found for found in source.value.kinds if found.kind == kind)
            reason = f"it was there already: {source.name} wants no gradient, its past is unknown"
            return _origin(recording, step, "value", found, source.shape, source.name, reason)
        reason = explain.value(step, kind, values)
        return _origin(recording, step, "value", made[kind], step.shape, None, reason)
    return None


def _came_in(recording: Recording, step: Step, value: Statistics) -> Origin | None:
    """Of a leaf, or of what was made before anybody looked: it is the origin, and the line is that of its first use."""
    found = value.kinds[0]
    if step.outside and found.kind == "-inf":
        return None  # a mask, perhaps
    use = step.uses[0].child if step.uses else None
    reason = "it was there already"
    if use is not None:
        reason += f", and {recording.name(use)} is the first to use it"
    return _origin(recording, step, "value", found, step.shape, None, reason, use)


class Suspect(NamedTuple):
    """A step whose gradient is bad, and the edge that brought what is bad; None: the sum is, and no part of it."""

    step: Step
    edge: Edge | None


def first_nonfinite_gradient(recording: Recording) -> Origin | None:
    """See `Recording.first_nonfinite_gradient`."""
    return _first(recording, map(nonfinite_gradient, recording.steps))


def first_zero_gradient(recording: Recording) -> Origin | None:
    """See `Recording.first_zero_gradient`."""
    return _first(recording, map(zero_gradient, recording.steps))


def _first(recording: Recording, suspects: Iterable[Suspect | None]) -> Origin | None:
    there = [suspect for suspect in suspects if suspect is not None]
    return of_gradient(recording, min(there, key=_when)) if there else None


def nonfinite_gradient(step: Step) -> Suspect | None:
    """Whether the gradient of a step is not finite, and who sent it."""
    if step.gradient is None or not step.gradient.nonfinite:
        return None
    bad = [edge for edge in _arrived(step) if edge.norm is not None and not math.isfinite(edge.norm)]
    return Suspect(step, bad[0] if bad else None)


def zero_gradient(step: Step) -> Suspect | None:
    """Whether the gradient of a step is 0 everywhere without having been so before, and who sent it."""
    if step.gradient is None or not step.gradient.all_zero:
        return None
    arrived = _arrived(step)
    if any(edge.child.gradient is not None and edge.child.gradient.all_zero for edge in arrived):
        return None
    cancelled = any(edge.norm for edge in arrived)
    return Suspect(step, arrived[0] if arrived and not cancelled else None)


def of_gradient(recording: Recording, suspect: Suspect) -> Origin:
    """The origin of a gradient."""
    step, edge = suspect
    found = step.gradient.kinds[0] if step.gradient and step.gradient.kinds else None
    if edge is None:
        return _origin(recording, step, "gradient", found, step.shape, None, _of_good_parts(recording, step))
    child = edge.child
    values = {extrema.name: extrema.values for extrema in _arguments(recording, child)}
    reason = explain.gradient(child, found.kind, values) if found else explain.zero(child, values)
    if child.hooked:
        reason = "; ".join(filter(None, [reason, "a hook saw the gradient of its result, and may have made it"]))
    return _origin(recording, child, "gradient", found, step.shape, edge.argument, reason)


def _arrived(step: Step) -> list[Edge]:
    """The edges that brought the gradient of a step, in the order of their arrival."""
    return sorted([e for e in step.uses if e.run == step.run], key=lambda e: (-e.child.serial, e.position))


def _when(suspect: Suspect) -> tuple[float, ...]:
    """When it happened: the way back goes from the youngest node to the oldest one, and begins with nothing arrived."""
    step, edge = suspect
    edge = edge or next(reversed(_arrived(step)), None)
    return (step.run, -math.inf) if edge is None else (step.run, -edge.child.serial, edge.position)


def _of_good_parts(recording: Recording, step: Step) -> str:
    """Why the gradient of a step is what no part of it was."""
    arrived = _arrived(step)
    if not arrived:
        return "backward() began with it"
    parts = ", ".join(f"{e.norm:.4g} from {recording.name(e.child)} (its {e.argument})" for e in arrived)
    return f"a sum of parts that are not; their norms: {parts}"


def _arguments(recording: Recording, step: Step) -> tuple[Extrema, ...]:
    parents = {edge.argument: edge.parent for edge in step.inputs}
    found = []
    for argument in step.arguments:
        parent = parents.get(argument.name)
        makers = () if parent is None else (recording.name(parent),)
        found.append(Extrema(argument.name, makers, argument.shape, argument.value or (parent and parent.value)))
    return tuple(found)


def _origin(
    recording: Recording,
    step: Step,
    what: str,
    found: Nonfinite | None,
    shape: tuple[int, ...],
    argument: str | None,
    reason: str | None,
    use: Step | None = None,
) -> Origin:
    """The origin of what was found in `step`; None: of zeros everywhere. `use` is asked where a leaf has no line."""
    near = use or step
    received = None
    if what == "gradient":
        senders = tuple([recording.name(edge.child) for edge in _arrived(step)])
        received = Extrema("gradient", senders, step.shape, step.gradient)
    calls = [*(near.call or ())][::-1]
    return Origin(
        step=recording.name(step),
        what=what,
        value=float(found.kind) if found else 0.0,
        index=found.first if found else None,
        shape=shape,
        argument=argument,
        arguments=_arguments(recording, step),
        received=received,
        path=recording.path(near.module),
        calls=tuple([getattr(call.thing, "name", type(call.thing).__name__) for call in calls]),
        source=near.source,
        reason=reason,
    )
