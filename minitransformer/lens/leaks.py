"""Where a leak is: the shortest way that it takes through the model, the step at which it crosses, and its name.

An element of some step *belongs* to the tokens whose places it has along the axes of tokens; a score belongs to a query
and to a key. It may know of an input if one of its tokens may. The leak crosses at the first step, on the way from the
input to the output, at which an element knows of the input, is listened to by the output, and belongs to no such token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigrad import nn
from minigrad.trace.leak import Line, Operation, Trail, changes, following, number_of

from .heads import attentions
from .probe import Pair, Probe, Run

Array = np.ndarray

GATHER = {"amax", "log_softmax", "logsumexp", "mean", "softmax", "std", "sum", "var"}  # ops that see a whole row


class Place(NamedTuple):
    """A step of the computation: the op, the path and class of the innermost module, and a line of source.

    The line is the innermost one that is in neither package, if one of the model's own lines is not; else the innermost
    outside of minigrad.
    """

    op: str
    module: str
    kind: str
    file: str
    line: int

    def __str__(self) -> str:
        where = f"{self.module} ({self.kind})" if self.module else self.kind or "no module"
        return f"{self.op} in {where}, {source(self.file)}:{self.line}"


@dataclass(frozen=True)
class Leak:
    """One cell of a matrix that depends although it must not, and how.

    output, input: the pair; row, column: the cell; size: the largest entry of the gradient, 0.0 if only the
    perturbation came through; way: the steps from the input to the output, empty if no gradient takes one; crossing:
    the step at which it crosses; diagnosis: what is wrong, by name; sentence: the same in words.
    """

    output: str
    input: str
    row: int
    column: int
    size: float
    way: tuple[Place, ...]
    crossing: Place | None
    diagnosis: str
    sentence: str

    def __str__(self) -> str:
        cell = f"{self.output} {self.row} depends on {self.input} {self.column}, which it must not see"
        size = f"gradient {self.size:.2g}" if self.size else "no gradient, but a changed value"
        at = "" if self.crossing is None else f" ({self.crossing})"
        return f"{cell} ({size}). {self.diagnosis}: {self.sentence}{at}"


def masks_used(probe: Probe) -> dict[str, Array]:
    """The mask of every attention as its softmax got it, (T, S), what any head may see: by the attention's path."""
    with following() as trail:
        probe.run(probe.alone(), everything=True)
    known = attentions(probe.model)
    return {path: mask for path, _, mask in _softmaxes(probe, trail) if path in known}


def find(
    probe: Probe, promise: Mapping[Pair, Array], pair: Pair, cell: tuple[int, int], rng: np.random.Generator
) -> Leak:
    """Follow the leak of one cell; promise: for every pair, what may depend on what, (R, C)."""
    (output, name), (row, column) = pair, cell
    with following() as trail:
        run = probe.run(probe.alone(), probe.quiet(), everything=True)
        start, result = run.entered[name], run.outputs[output]
        cotangent = np.zeros(result.shape, result.dtype)
        cotangent[0, row] = rng.standard_normal(result.shape[-1])
        if result.requires_grad:
            result.backward(cotangent, retain_graph=True)
    ids, noise = probe.disturbed(name, column, rng)
    with following() as other:
        probe.run(probe.alone() | {name: ids[None]}, probe.quiet() | {name: noise[None]}, everything=True)

    axes = _axes(probe, trail, run, rng)
    may = {axis: _may_know(probe, promise, axis, name, column) for axis in probe.sentences}
    groups = {number: _groups(knows, axes[number], may) for number, knows in _changes(trail, other).items()}
    token = np.zeros(start.shape, bool)
    token[0, column] = True
    groups[number_of(start)] = {(name, column): token}
    way = trail.way(number_of(start), number_of(result), groups)[1:]

    size = 0.0 if start.grad is None else float(np.abs(start.grad.data[0, column]).max())
    if not way:
        sentence = "no chain of gradients leads there: an index, a comparison or a mask made of the tokens carries it"
        return Leak(output, name, row, column, size, (), None, "unknown", sentence)
    places = tuple(_place(probe, trail.operations[number]) for number, _ in way)
    foreign = [at for at, (_, label) in enumerate(way) if label is None or not may[label[0]][label[1]]]
    at = foreign[0] if foreign else len(way) - 1  # none, where the user says that a token must not see itself
    diagnosis, sentence = _diagnose(probe, trail, promise, axes, way[at][0])
    return Leak(output, name, row, column, size, places, places[at], diagnosis, sentence)


# ----------------------------------------------------------------------------------------------------- what is observed
def _changes(trail: Trail, other: Trail) -> dict[int, Array]:
    """Of each step, the elements that differ in the other run; nothing if the runs cannot be compared."""
    try:
        return changes(trail, other)
    except ValueError:  # what the model does depends on its tokens
        return {}


def _groups(knows: Array, axes: Mapping[int, str], may: Mapping[str, Array]) -> dict[tuple[str, int] | None, Array]:
    """The elements that know, by the tokens they belong to; only by those that may know, where there is one."""
    if not axes:
        return {None: knows}
    allowed = np.zeros(knows.shape, bool)
    for axis, name in axes.items():
        allowed |= may[name].reshape([-1 if d == axis else 1 for d in range(knows.ndim)])
    groups: dict[tuple[str, int] | None, Array] = {}
    for axis, name in axes.items():
        for place, legal in enumerate(may[name]):
            here = np.zeros(knows.shape, bool)
            here[(slice(None),) * axis + (place,)] = True
            here &= knows & (allowed if legal else ~allowed)
            groups[name, place] = here | groups.get((name, place), False)
    return groups


def _axes(probe: Probe, trail: Trail, run: Run, rng: np.random.Generator) -> dict[int, dict[int, str]]:
    """For every step, which axes are those of tokens, and of which input: {number: {axis: input}}.

    An axis of a result is one of an input to the step if slice p of the one depends on slice p of the other, and on no
    other slice, for every p.
    """
    sizes = {name: len(ids) for name, ids in probe.sentences.items()}
    axes = {number_of(x): {1: name} if sizes[name] > 1 else {} for name, x in run.entered.items()}
    for number, operation in trail.operations.items():
        axes[number] = {}
        for axis, size in enumerate(operation.value.shape):
            theirs = {
                (parent, there): name
                for parent in trail.parents(number)
                for there, name in axes.get(parent, {}).items()
                if sizes[name] == size
            }
            for name in _inherited(trail, number, axis, theirs, rng):
                axes[number][axis] = name
    return axes


def _inherited(
    trail: Trail, number: int, axis: int, theirs: Mapping[tuple[int, int], str], rng: np.random.Generator
) -> set[str]:
    """Of the axes of inputs, by number of the input and axis there, the names of those that `axis` of a step is."""
    candidates = dict(theirs)
    value = trail.operations[number].value
    for place in range(value.shape[axis] if theirs else 0):
        one = np.zeros_like(value)
        here = (slice(None),) * axis + (place,)
        one[here] = rng.standard_normal(one[here].shape)
        arrived = trail.back(number, one)
        for parent, there in list(candidates):
            reached = np.nonzero(arrived[parent])[there] if parent in arrived else [-1]
            if np.any(reached != place):
                del candidates[parent, there]
    return set(candidates.values())


def _may_know(probe: Probe, promise: Mapping[Pair, Array], axis: str, name: str, column: int) -> Array:
    """Which tokens of the input `axis` may know of the token `column` of the input `name`, (C,)."""
    count = len(probe.sentences[axis])
    rows = promise[probe.output_of[axis], name][:, column]
    may = rows.copy() if len(rows) == count else np.full(count, rows.any())
    if axis == name:
        may[column] = True  # the token itself
    return may


def _softmaxes(probe: Probe, trail: Trail) -> list[tuple[str, int, Array]]:
    """Path of the attention, number of the step, and mask (T, S), what any head may see, of every softmax.

    A softmax outside of the attentions of this library goes by the path of its module. Its mask, if it is not an
    argument, is where the pattern is not 0.
    """
    owners, paths = _owners(probe), _paths(probe)
    found = []
    for number, operation in trail.operations.items():
        if operation.op in ("softmax", "masked_softmax") and operation.value.ndim > 1:
            mask = operation.constants.get("mask", True if operation.module in owners else operation.value != 0)
            heads = np.broadcast_to(mask, operation.value.shape).reshape(-1, *operation.value.shape[-2:])
            path = owners.get(operation.module, paths.get(operation.module, ""))
            found.append((path, number, heads.any(axis=0)))
    return found


def _paths(probe: Probe) -> dict[nn.Module, str]:
    return {module: path for path, module in probe.model.named_modules()}


def _owners(probe: Probe) -> dict[nn.Module, str]:
    """The path of the attention that a module is, or is a part of."""
    return {module: path for path, attention in attentions(probe.model).items() for module in attention.modules()}


def _place(probe: Probe, operation: Operation) -> Place:
    theirs = [line for line in operation.lines if line.package not in ("minigrad", "minitransformer")]
    line: Line = theirs[0] if theirs else operation.lines[0]
    kind = type(operation.module).__name__ if operation.module else ""
    return Place(operation.op, _paths(probe).get(operation.module, ""), kind, line.file, line.line)


def source(file: str) -> str:
    """A file as one would call it here: relative to the current directory if it is below."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


# ------------------------------------------------------------------------------------------------------------ its name
def _diagnose(
    probe: Probe, trail: Trail, promise: Mapping[Pair, Array], axes: Mapping[int, Mapping[int, str]], number: int
) -> tuple[str, str]:
    """The name of what is wrong, and a sentence, given the step at which the leak crosses."""
    operation, wrong = trail.operations[number], _wrong_masks(probe, trail, promise, axes)
    if isinstance(operation.module, nn.BatchNorm1d):
        return "batch norm", "in training it takes mean and variance over all tokens, the later ones, too"
    path = _owners(probe).get(operation.module, _paths(probe).get(operation.module, ""))
    attends = operation.module in _owners(probe) or path in wrong
    name = wrong.get(path, "unobserved") if attends else None
    if name and operation.op in GATHER:
        return "mask after softmax", "the softmax runs over keys that are masked only afterwards, if at all"
    if name in SENTENCES:
        where = [other or "the model" for other, theirs in wrong.items() if theirs == name]
        return name, f"{SENTENCES[name]}, in {', '.join(where)}"
    if operation.op in GATHER:
        return "mean over time", "values of all tokens are gathered into one, which every token then sees"
    return "unknown", "here it gets from a token that may know of it to one that must not"


def _wrong_masks(
    probe: Probe, trail: Trail, promise: Mapping[Pair, Array], axes: Mapping[int, Mapping[int, str]]
) -> dict[str, str | None]:
    """What is wrong with the mask of every softmax over tokens, None if nothing is, by the attention's path."""
    wrong = {}
    for path, number, mask in _softmaxes(probe, trail):
        scores, last = axes.get(trail.parents(number)[0], {}), trail.operations[number].value.ndim - 1
        queries, keys = scores.get(last - 1), scores.get(last)
        if queries and keys:
            may = [_may_know(probe, promise, queries, keys, column) for column in range(len(probe.real[keys]))]
            wrong[path] = _wrong(mask, np.column_stack(may), probe.real[keys])
    return wrong


SENTENCES = {
    "missing mask": "every query sees every key: there is no mask",
    "off by one": "every query sees one key too many",
    "transposed mask": "queries see the later keys and not the earlier ones: queries and keys are exchanged",
    "padding": "padding is attended to: the mask does not hide it",
    "wrong mask": "queries see keys that they must not see",
}


def _wrong(mask: Array, may: Array, real: Array) -> str | None:
    """What is wrong with a mask, (T, S), given what may be seen; None if nothing is."""
    seen, legal = mask[:, real], may[:, real]
    if not (seen & ~legal).any():
        return "padding" if (mask & ~may).any() else None
    if seen.all():
        return "missing mask"
    if np.array_equal(seen, np.tri(*mask.shape, k=1, dtype=bool)[:, real]):
        return "off by one"
    if mask.shape[0] == mask.shape[1] and np.array_equal(seen, may.T[:, real]):
        return "transposed mask"
    return "wrong mask"
