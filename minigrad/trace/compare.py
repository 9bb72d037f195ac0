"""Two recordings side by side: what a change of the model did to every gradient."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from ..nn import Module
from .recording import Recording
from .steps import Step
from .table import Table

Pair = tuple[Step | None, Step | None]
SHOWN = 5  # changes in the printed summary


class ComparisonRow(NamedTuple):
    """A row of `Comparison.table`: a step of both recordings, or of one of them."""

    name: str
    status: str  # "both", "only a" or "only b"
    norm_a: float | None
    norm_b: float | None
    change: float | None
    value_change: float | None


class EdgeRow(NamedTuple):
    """A row of `Comparison.edges`: an edge that only one of the recordings has."""

    change: str  # "removed": only a has it, or "added": only b has it
    child: str
    parent: str
    argument: str
    norm: float | None


class ModuleChange(NamedTuple):
    """A row of `Comparison.modules`: gradient norms of all parameters in a module together, and of its output."""

    module: str
    parameters_a: float | None
    parameters_b: float | None
    parameters_change: float | None
    output_a: float | None
    output_b: float | None
    output_change: float | None


def compare(a: Recording, b: Recording) -> Comparison:
    """What is different in `b`: gradient norms, values and edges, step by step.

    Steps are the same if they have the same place in the model, and the same op there; of several such ones, the first
    goes with the first. A change is log10(|g_b| / |g_a|): 1 is ten times as much, 0 no change. It is -inf if only the
    norm in `b` is 0, inf if only that in `a` is, 0 if both are, NaN if one of them is, and None where there is none.
    Where one model runs a fused op and the other its parts, their steps differ; record both with detail="definition".
    Raises TypeError for anything but recordings, ValueError for recordings of different detail.

    >>> import minigrad as mg
    >>> model, x = mg.nn.Linear(3, 2), mg.ones(4, 3)
    >>> with mg.record(model) as a:
    ...     model(x).exp().sum().backward()
    >>> with mg.record(model) as b:
    ...     (10 * model(x).exp().sum()).backward()
    >>> comparison = mg.compare(a, b)
    >>> [(row.name, row.status) for row in comparison.table() if row.status != "both"]
    [('mul', 'only b')]
    >>> round(comparison.table("*weight")[0].change, 6)
    1.0
    """
    for name, recording in (("a", a), ("b", b)):
        if not isinstance(recording, Recording):
            raise TypeError(f"compare(): {name} is a {type(recording).__name__}; give what `with record() as` gave.")
    if a.detail != b.detail:
        raise ValueError(
            f"compare(): a has detail {a.detail!r}, b has {b.detail!r}; their steps are not the same things. "
            f"Record both with detail={b.detail!r}."
        )
    return Comparison(a, b)


class Comparison:
    """The differences between two recordings; see `compare`."""

    def __init__(self, a: Recording, b: Recording) -> None:
        self.a, self.b = a, b
        self._pairs = _aligned(a, b)

    def table(self, pattern: str = "*") -> Table:
        """Every step whose name matches `pattern`, in the order of the forward pass; `sort("change")` goes on."""
        rows = [row for row in map(self._row, self._pairs) if fnmatchcase(row.name, pattern)]
        return Table("norms of gradients, and log10 of the change from a to b", ComparisonRow, rows)

    def edges(self) -> Table:
        """The edges that only one of the recordings has."""
        number = {step: i for i, pair in enumerate(self._pairs) for step in pair if step is not None}
        keys = [{(number[e.child], number[e.parent], e.argument): e for e in r.edges} for r in (self.a, self.b)]
        rows = []
        for change, recording, own, other in (("removed", self.a, *keys), ("added", self.b, *reversed(keys))):
            for edge in [edge for key, edge in own.items() if key not in other]:
                ends = recording.name(edge.child), recording.name(edge.parent)
                rows.append(EdgeRow(change, *ends, edge.argument, edge.norm))
        return Table("edges, from child to parent", EdgeRow, rows)

    def modules(self, depth: int | None = None) -> Table:
        """For every module, down to `depth` levels: gradient norms of all its parameters together, and of its output.

        Here models can be compared whose modules do different things inside, such as pre- and post-norm. The output is
        the last step of a call; "" is the whole model. Raises ValueError for a recording without a model.
        """
        if depth is not None and not isinstance(depth, int):
            raise TypeError(f"modules(): depth is {depth!r}; it is a number of levels. Try depth=1.")
        for name, recording in (("a", self.a), ("b", self.b)):
            if recording.model is None:
                raise ValueError(f"modules(): {name} was recorded without a model; use record(model).")
        parameters_a, parameters_b = _parameters(self.a), _parameters(self.b)
        outputs_a, outputs_b = _outputs(self.a), _outputs(self.b)
        rows = []
        for path in parameters_a | outputs_a | parameters_b | outputs_b:
            if depth is None or len(path.split(".")) * (path != "") <= depth:
                parameters = parameters_a.get(path), parameters_b.get(path)
                outputs = outputs_a.get(path), outputs_b.get(path)
                rows.append(ModuleChange(path, *parameters, _change(*parameters), *outputs, _change(*outputs)))
        return Table("norms of gradients, and log10 of the change from a to b", ModuleChange, rows)

    def _row(self, pair: Pair) -> ComparisonRow:
        names = [r.name(step) for r, step in zip((self.a, self.b), pair, strict=True) if step is not None]
        status = "both" if len(names) == 2 else "only a" if pair[1] is None else "only b"
        norm_a, norm_b = [step and step.gradient and step.gradient.norm for step in pair]
        rms_a, rms_b = [step and step.value and step.value.rms for step in pair]
        return ComparisonRow(names[0], status, norm_a, norm_b, _change(norm_a, norm_b), _change(rms_a, rms_b))

    def __repr__(self) -> str:
        rows, edges = self.table(), self.edges()
        both = [row for row in rows if row.status == "both"]
        changed = [
            row for row in both if row.change or row.value_change or (row.norm_a is None) != (row.norm_b is None)
        ]
        if not changed and not edges and len(both) == len(rows):
            return f"<Comparison: nothing differs in {len(rows)} steps and {len(self.a.edges)} edges>"
        only = [sum(row.status == f"only {side}" for row in rows) for side in "ab"]
        removed = edges.column("change").count("removed")
        head = (
            f"{len(both)} steps in both, {len(changed)} of them differ; {only[0]} only in a, {only[1]} only in b; "
            f"{removed} edges removed, {len(edges) - removed} added"
        )
        largest = [f"  {row.change:+.3f}  {row.name}" for row in self._largest()]
        return "\n".join([f"<Comparison: {head}", *largest]) + ">"

    def _largest(self) -> list[ComparisonRow]:
        """The rows with the largest changes, without those in which rounding is all there is, as in a bias of keys."""
        steps = [*self.a.steps, *self.b.steps]
        norms = [step.gradient.norm for step in steps if step.gradient is not None and not step.gradient.nonfinite]
        rounding = max([np.finfo(step.dtype).eps for step in steps], default=0.0) * max(norms, default=0.0)
        rows = map(self._row, self._pairs)
        felt = [row for row in rows if not (row.norm_a or 0.0) <= rounding >= (row.norm_b or 0.0)]
        changes = [(math.inf if math.isnan(row.change) else abs(row.change), row) for row in felt if row.change]
        return [row for _, row in sorted(changes, key=lambda item: item[0], reverse=True)[:SHOWN]]


def _change(a: float | None, b: float | None) -> float | None:
    """log10(b / a); see `compare`."""
    if a is None or b is None:
        return None
    return 0.0 if a == b else _log10(b) - _log10(a)


def _log10(x: float) -> float:
    return math.log10(x) if x else -math.inf


# ------------------------------------------------------------------------------------------------------ which is which
def _aligned(a: Recording, b: Recording) -> list[Pair]:
    """All steps of both, in the order of `a`; those that only `b` has follow the one that they follow there."""
    places = _by_place(b)
    partner = {}
    for place, steps in _by_place(a).items():
        partner |= _matched(steps, places.get(place, []))
    pairs: list[tuple[tuple[int, int], Pair]] = []
    position = {}
    for i, step in enumerate(a.steps):
        other = partner.get(step)
        pairs.append(((i, -1), (step, other)))
        if other is not None:
            position[other] = i
    i = -1
    for j, step in enumerate(b.steps):
        if step in position:
            i = position[step]
        else:
            pairs.append(((i, j), (None, step)))
    return [pair for _, pair in sorted(pairs, key=lambda item: item[0])]


def _by_place(recording: Recording) -> dict[str, list[Step]]:
    """The steps by the paths of their modules; leaves by their own names."""
    places: dict[str, list[Step]] = defaultdict(list)
    for step in recording.steps:
        name = recording.name(step).partition("#")[0]
        places[f"leaf {name}" if step.is_leaf else recording.path(step.module)].append(step)
    return places


def _matched(a: list[Step], b: list[Step]) -> dict[Step, Step]:
    """Steps of the same kind in the same order, as many of them as there are."""
    length = min(len(a), len(b))  # what is the same at both ends needs no search, which is slow for thousands of steps
    start = next((i for i in range(length) if a[i].kind != b[i].kind), length)
    end = next((i for i in range(length - start) if a[~i].kind != b[~i].kind), length - start)
    inner_a, inner_b = a[start : len(a) - end], b[start : len(b) - end]
    kinds = [[step.kind for step in steps] for steps in (inner_a, inner_b)]
    blocks = SequenceMatcher(None, *kinds, autojunk=False).get_matching_blocks()
    inner = {inner_a[block.a + i]: inner_b[block.b + i] for block in blocks for i in range(block.size)}
    ends = zip(a[:start] + a[len(a) - end :], b[:start] + b[len(b) - end :], strict=True)
    return {**dict(ends), **inner}


# ---------------------------------------------------------------------------------------------------------- by module
def _parameters(recording: Recording) -> dict[str, float]:
    """The norm of the gradient of all parameters in a module together, by path."""
    squares: dict[str, float] = defaultdict(float)
    names = {} if recording.model is None else {id(p): name for name, p in recording.model.named_parameters()}
    for step in recording.steps:
        name, gradient = names.get(id(step.holder())) if step.is_leaf else None, step.gradient
        if name is not None and gradient is not None:
            for path in _prefixes(name):
                squares[path] += gradient.norm**2
    return {path: math.sqrt(total) for path, total in squares.items()}


def _prefixes(name: str) -> Iterator[str]:
    """The paths of the modules in which a parameter is: of "a.b.weight" these are "", "a" and "a.b"."""
    parts = name.split(".")
    return (".".join(parts[:i]) for i in range(len(parts)))


def _outputs(recording: Recording) -> dict[str, float]:
    """The norm of the gradient of what a module returned, of all calls together, by path."""
    last = {call: step for step in recording.steps for call in step.call or ()}
    squares: dict[str, float] = defaultdict(float)
    for call, step in last.items():
        if isinstance(call.thing, Module) and step.gradient is not None:
            squares[recording.path(call.thing)] += step.gradient.norm**2
    return {path: math.sqrt(total) for path, total in squares.items()}
