"""What boxes and frames are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..op import Op
from ..trace import Recording
from . import overlay
from .levels import Group, Levels, Unit, is_parameter
from .picture import Box, Frame


def box(recording: Recording, levels: Levels, group: Group, nodes: str) -> Box:
    """The box of a group, without its colour."""
    steps = group.steps
    inside = group.frames[-1].key if group.frames else None
    drawn = Box(group.key, _title(recording, levels, group), _kind(recording, group), inside=inside)
    drawn.lines = overlay.lines(recording, group, nodes)
    drawn.status = overlay.status(recording, steps)
    there, back = overlay.seconds(steps)
    drawn.note = f"{_names(recording, group)}\n{1e3 * there:.3g} ms forward, {1e3 * back:.3g} ms backward, " + (
        f"{sum(step.saved for step in steps):,} B kept for the way back"
    )
    if steps[-1].source is not None:
        drawn.note += f"\n{steps[-1].source}"
    return drawn


def frames(order: Iterable[Group]) -> list[Frame]:
    """All frames around boxes, those around others first."""
    found: dict[str, Frame] = {}
    for group in order:
        for number, unit in enumerate(group.frames):
            if unit.key not in found:
                around = group.frames[:number]
                kind = "op" if unit.call is not None else type(unit.thing).__name__
                use = f", use {unit.number + 1}" if unit.number else ""
                title = f"{_relative(unit, around)} {kind}{use}"
                found[unit.key] = Frame(unit.key, title, around[-1].key if around else None, unit.key)
    return list(found.values())


def _kind(recording: Recording, group: Group) -> str:
    first = group.steps[0]
    if group.rest or group.folded:
        return "more"
    if all(map(is_parameter, group.steps)):
        return "parameter"
    if group.unit is not None and not group.is_op:
        return "module"
    if first.is_leaf:
        return "input"
    last = overlay.results(group.steps)[-1]
    return "output" if last is recording.root or not last.uses else "op"


def _title(recording: Recording, levels: Levels, group: Group) -> str:
    if group.rest:
        return f"{len(group.steps):,} more steps"
    if group.folded:
        return _fold(recording, group)
    if group.unit is None:
        if len(group.steps) > 1:
            return f"{len(group.steps)} shared parameters"
        return _without(recording.name(group.steps[0]), group.frames) if group.steps[0].is_leaf else group.steps[0].kind
    title = _relative(group.unit, group.frames)
    uses = levels.uses[group.unit.thing]
    if uses > 1 and not group.is_op:
        title += f", use {group.unit.number + 1} of {uses}"
    if group.part:
        title += f" ({_few(_contents(levels, group))})"
    return title


def _contents(levels: Levels, group: Group) -> list[str]:
    """What a part of a module consists of: modules in it, and ops."""
    found: dict[str, None] = {}
    for step in group.steps:
        chain = levels.chain(step) if not step.is_leaf else ()
        if group.unit in chain:
            at = chain.index(group.unit)
            found[_relative(chain[at + 1], chain[: at + 1]) if at + 1 < len(chain) else step.kind] = None
    return list(found)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _fold(recording: Recording, group: Group) -> str:
    """+4 more EncoderLayer; +8 more uses of cell; or, where several things take turns, +8 more (cat, cell)."""
    around = len(group.frames)
    things = [_at(boxes, around) for boxes in group.folded]
    first = things[0]
    names = [_name(thing, group) for thing in first]
    count = f"+{len(group.folded):,} more"
    if len(first) == 1 and isinstance(first[0], Unit) and not isinstance(first[0].thing, Op):
        same = all(isinstance(t[0], Unit) and t[0].thing is first[0].thing for t in things)
        span = f"{_name(first[0], group)} to {_name(things[-1][0], group)}"
        return f"{count} uses of {names[0]}" if same else f"{count} {type(first[0].thing).__name__}\n{span}"
    return f"{count} {names[0]}" if len(names) == 1 else f"{count} ({_few(names)})"


def _at(boxes: Sequence[Group], around: int) -> list[Unit | str]:
    """What a fold hides, as far as it stands directly in the frame of the fold."""
    found: dict[Unit | str, None] = {}
    for group in boxes:
        deeper = group.frames[around] if len(group.frames) > around else group.unit
        found[deeper if deeper is not None else group.steps[0].kind] = None
    return list(found)


def _name(thing: Unit | str, group: Group) -> str:
    return thing if isinstance(thing, str) else _relative(thing, group.frames)


def _relative(unit: Unit, around: Sequence[Unit]) -> str:
    """The name of a unit, seen from the frame in which it is."""
    return unit.thing.name if isinstance(unit.thing, Op) else _without(unit.path, around)


def _without(name: str, around: Sequence[Unit]) -> str:
    """A dotted name without the path of the frame in which it is."""
    path = next((unit.path for unit in reversed(around) if not isinstance(unit.thing, Op)), "")
    return name.removeprefix(f"{path}.") if path else name


def _names(recording: Recording, group: Group) -> str:
    names = [recording.name(step) for step in group.steps[:8]]
    return ", ".join(names) + (f", ... {len(group.steps)} steps" if len(group.steps) > 8 else "")
