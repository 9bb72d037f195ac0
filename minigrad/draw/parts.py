"""Boxes without cycles: the order in which they are drawn needs that no box depends on itself by way of another one.

Steps never do. But a module that works before and after another one (the norm and the addition of a pre-norm layer,
with the attention between them) would, if it were one box. It becomes two: part 1 and part 2.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush

from ..trace import Step
from .levels import Group


def without_cycles(of: dict[Step, Group], leaves: dict[Step, Group]) -> tuple[dict[Step, Group], list[list[Group]]]:
    """The group of every step, where groups that would close a cycle are several; and the parts of these.

    `of` are the groups of steps that are no leaves, `leaves` those of leaves. Steps join the newest part of their group
    in the order in which they were made, unless one of their arguments depends on that part by way of another group.
    """
    sizes = Counter(of.values())
    placed = {leaf: group for leaf, group in leaves.items() if group not in sizes}
    parts: dict[Group, list[Group]] = {}
    bits: dict[Group, int] = defaultdict(int)  # only groups that more steps may join have one
    above: dict[Group, int] = defaultdict(int)  # the bits of all that a group depends on
    used: set[Group] = set()
    for step in sorted(of, key=lambda step: step.serial):
        group = of[step]
        sources = {placed[edge.parent] for edge in step.inputs if edge.parent in placed}
        made = parts.setdefault(group, [])
        if not made or any(source is not made[-1] and above[source] & bits[made[-1]] for source in sources):
            made.append(replace(group, steps=[]) if made else group)
            bits[made[-1]] = 1 << len(bits) if sizes[group] > 1 else 0
        target = placed[step] = made[-1]
        sources.discard(target)
        used |= sources
        new = 0
        for source in sources:
            new |= above[source] | bits[source]
        if new & ~above[target]:
            above[target] |= new
            for other in above if target in used and bits[target] else ():
                if above[other] & bits[target]:
                    above[other] |= new
        for edge in step.inputs:
            if edge.parent not in placed:  # a parameter of the module, which waited for its first use
                placed[edge.parent] = target
    return placed, [made for made in parts.values() if len(made) > 1]


def numbered(split: list[list[Group]]) -> None:
    """Give the parts of a group numbers."""
    for made in split:
        for number, part in enumerate(made, 1):
            part.part, part.key = number, f"{part.key} part {number}"


def folded(placed: dict[Step, Group], folds: Sequence[Group]) -> dict[Step, Group]:
    """The groups after folding, but for folds that would close a cycle."""

    def attempt(chosen: Sequence[Group]) -> dict[Step, Group] | None:
        hidden = {group: fold for fold in chosen for unit in fold.folded for group in unit}
        now = {step: hidden.get(group, group) for step, group in placed.items()}
        leaves = {step: group for step, group in now.items() if step.is_leaf}
        found, split = without_cycles({s: group for s, group in now.items() if s not in leaves}, leaves)
        return None if split else found

    all_of_them = attempt(folds)
    if all_of_them is not None:
        return all_of_them
    good: list[Group] = []
    for fold in folds:
        if attempt([*good, fold]) is not None:
            good.append(fold)
    return attempt(good) or placed


def place(step: Step) -> tuple[int, int, int]:
    """Where a step belongs in the order of drawing: when it was made; a leaf, just before it was used first."""
    used = min(((edge.child.serial, 0, edge.position) for edge in step.uses), default=None)
    return used if step.is_leaf and used else (step.serial, 1, 0)


def in_order(placed: dict[Step, Group], steps: Iterable[Step]) -> list[Group]:
    """Fill the groups with their steps, and sort them: arguments first, and what was made first first."""
    for group in placed.values():
        group.steps = []
    for step in steps:
        placed[step].steps.append(step)
    first: dict[Group, tuple[int, int, int]] = {}
    waits_for: dict[Group, set[Group]] = {group: set() for group in placed.values()}
    unlocks: dict[Group, list[Group]] = defaultdict(list)
    for step, group in placed.items():
        first[group] = min(first.get(group, place(step)), place(step))
        for edge in step.inputs:
            source = placed[edge.parent]
            if source is not group and source not in waits_for[group]:
                waits_for[group].add(source)
                unlocks[source].append(group)
    number = {group: i for i, group in enumerate(first)}
    missing = {group: len(sources) for group, sources in waits_for.items()}
    ready = [(first[group], number[group], group) for group, count in missing.items() if not count]
    heapify(ready)
    order = []
    while ready:
        group = heappop(ready)[2]
        order.append(group)
        for other in unlocks[group]:
            missing[other] -= 1
            if not missing[other]:
                heappush(ready, (first[other], number[other], other))
    return order


def shortened(order: list[Group], limit: int) -> list[Group]:
    """At most `limit` groups: of more, those at the ends, and one for all between, which closes no cycle."""
    if len(order) <= limit:
        return order
    ends = (limit - 1) // 2
    rest = Group("more", (), rest=True)
    for group in order[ends : len(order) - ends]:
        rest.steps += group.steps
    return [*order[:ends], rest, *order[len(order) - ends :]]
