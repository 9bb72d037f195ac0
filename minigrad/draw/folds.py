"""Identical layers: of many with the same ops, shapes and wiring, the first and the last are drawn, and how many more.

Layers may be modules of a list, uses of one module, or whatever is repeated in a loop. They are folded only if they
really are the same: two steps correspond if they are the same op of the same shape and get the same arguments from the
same places, either within their layer, or from the corresponding step of the layer before, or from one step outside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .. import nn
from ..trace import Step
from .levels import Group, Unit
from .parts import place

LONGEST = 16  # items that are repeated together
FEWEST = 2  # opened layers that are worth a fold,
FEWEST_BOXES = 12  # and boxes, where a layer is nothing but boxes


@dataclass(eq=False)
class Item:
    """What stands in a frame: a box, or a frame with items of its own."""

    unit: Unit | None  # of a frame
    group: Group | None = None  # of a box
    items: list[Item] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)  # all boxes in it
    place: tuple[Item | None, int] = (None, 0)  # the frame in which it is, and its number there

    @cached_property
    def numbers(self) -> dict[Step, int]:
        """Its steps, numbered in an order that does not depend on what is open."""
        return {step: i for i, step in enumerate(sorted((s for g in self.groups for s in g.steps), key=place))}

    @cached_property
    def inside(self) -> int:
        """A hash of its steps and how they are connected."""
        numbers, outside = self.numbers, {}
        steps = []
        for step in numbers:
            arguments = []
            for edge in step.inputs:
                source = numbers.get(edge.parent)
                if source is None:
                    source = "outside", outside.setdefault(edge.parent, len(outside))
                arguments.append((edge.position, source))
            steps.append((step.kind, step.shape, str(step.dtype), type(step.module), tuple(arguments)))
        return hash((self.unit is None, tuple(steps)))

    @cached_property
    def uses(self) -> list[tuple[int, str]]:
        """Which of its steps are used outside, and by what."""
        numbers = self.numbers
        return sorted((n, e.child.kind) for step, n in numbers.items() for e in step.uses if e.child not in numbers)


class Folds:
    """The folds of boxes that are in order. `opened` are modules that must stay in sight."""

    def __init__(self, order: Sequence[Group], opened: set[nn.Module]) -> None:
        self.opened = opened
        self.top = Item(None)
        self.frames: dict[tuple[Unit, ...], Item] = {(): self.top}
        self.item_of: dict[Step, Item] = {}  # the box
        box_of = {step: group for group in order for step in group.steps}
        for group in order:
            users = {box_of[edge.child] for step in group.steps for edge in step.uses}
            self._add(group, aside=len(users) > 1 and all(step.is_leaf for step in group.steps))

    def _add(self, group: Group, aside: bool) -> None:
        """Put a box into its frame. What layers have in common, shared parameters, stands aside of what is repeated."""
        box = Item(None, group, groups=[group])
        around = self.top
        for end in range(1, len(group.frames) + 1):
            frames = group.frames[:end]
            if frames not in self.frames:
                self.frames[frames] = Item(frames[-1], place=(around, len(around.items)))
                around.items.append(self.frames[frames])
            around = self.frames[frames]
            around.groups.append(group)
        if not aside:
            box.place = around, len(around.items)
            around.items.append(box)
        self.item_of.update(dict.fromkeys(group.steps, box))

    def find(self) -> list[Group]:
        """The groups that hide what is the same."""
        found, waiting = [], [((), self.top)]
        while waiting:
            frames, frame = waiting.pop()
            hidden: set[Item] = set()
            for units in self._runs(frame.items):
                for stretch in self._stretches(units):
                    folded = [[group for item in unit for group in item.groups] for unit in stretch]
                    groups = [group for unit in folded for group in unit]
                    key = f"{folded[0][0].key} ... {folded[-1][0].key}"
                    found.append(Group(key, frames, folded=folded, steps=[s for g in groups for s in g.steps]))
                    hidden.update(item for unit in stretch for item in unit)
            waiting += [((*frames, i.unit), i) for i in frame.items if i.unit is not None and i not in hidden]
        return found

    def _runs(self, items: list[Item]) -> list[list[list[Item]]]:
        """Stretches of items that repeat themselves, cut into the units that are repeated."""
        runs, start = [], 0
        while start < len(items):
            for period in range(1, LONGEST + 1):
                end = self._end(items, start, period)
                if end - start < (FEWEST + 2) * period:
                    continue
                units = [items[i : i + period] for i in range(start, end - period + 1, period)]
                if any(self._stretches(units)):
                    runs.append(units)
                    start += len(units) * period
                    break
            else:
                start += 1
        return runs

    def _end(self, items: list[Item], start: int, period: int) -> int:
        """Up to where items[start:] are like those `period` items before."""
        end = start + period
        while end < len(items) and self._alike(items, end, start, period):
            end += 1
        return end if end > start + period else start

    def _alike(self, items: list[Item], i: int, start: int, period: int) -> bool:
        item, before = items[i], items[i - period]
        if item.inside != before.inside:
            return False
        if i < start + 2 * period:  # the first unit gets its arguments from somewhere else,
            return True
        if before.uses != items[i - 2 * period].uses:  # and the last one is used somewhere else
            return False
        return self._same_arguments(item, before)

    def _same_arguments(self, item: Item, before: Item) -> bool:
        for step, other in zip(item.numbers, before.numbers, strict=True):
            for edge, like in zip(step.inputs, other.inputs, strict=True):
                outside = edge.parent not in item.numbers and edge.parent is not like.parent
                if outside and self._from(item, edge.parent) != self._from(before, like.parent):
                    return False
        return True

    def _from(self, item: Item, source: Step) -> Any:
        """Where a step is, seen from an item in the same frame: how many items before, and which step of that."""
        frame, number = item.place
        other: Item | None = self.item_of[source]
        while other is not None and other.place[0] is not frame:
            other = other.place[0]
        return source if other is None else (number - other.place[1], other.numbers[source])

    def _stretches(self, units: list[list[Item]]) -> list[list[list[Item]]]:
        """What may be hidden: neither the first unit nor the last, nor one that was opened; and it must be worth it."""
        stretches, current = [], []
        for unit in [*units[1:-1], None]:
            if unit is not None and not self._is_opened(unit):
                current.append(unit)
                continue
            boxes = sum(len(item.groups) for u in current for item in u)
            has_frames = any(item.unit is not None for u in current for item in u)
            has_modules = any(g.unit is not None and not g.is_op for u in current for i in u for g in i.groups)
            opened = has_frames or (has_modules and boxes > len(current))
            if len(current) >= FEWEST if opened else boxes >= FEWEST_BOXES:
                stretches.append(current)
            current = []
        return stretches

    def _is_opened(self, unit: list[Item]) -> bool:
        return bool(self.opened) and any(step.module in self.opened for item in unit for step in item.numbers)


def sharing(units: list[list[Group]], is_parameter: Any) -> str:
    """Whether what is folded has parameters of its own: "own weights", "same parameters", "some weights shared"."""
    sets = []
    for unit in units:
        inside = [step for group in unit for step in group.steps]
        used = [edge.parent for step in inside for edge in step.inputs]
        sets.append(frozenset(step for step in (*inside, *used) if is_parameter(step)))
    if not any(sets):
        return "without parameters"
    counts = Counter(step for own in sets for step in own)
    if all(count == len(sets) for count in counts.values()):
        return "same parameters"
    return "own weights" if max(counts.values()) == 1 else "some weights shared"
