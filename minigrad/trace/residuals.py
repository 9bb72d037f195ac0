"""Residual connections y = x + f(x): what of the gradient came past f, and what through it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .. import kernels
from ..core import Array, Node
from .steps import Edge, Split, Step
from .table import Table

ADDITIONS = ("add", "add_layer_norm")  # x first, f(x) second


class ResidualRow(NamedTuple):
    """A row of `Recording.residuals`; `step` is the name of the addition."""

    step: str
    identity: float
    branch: float
    ratio: float
    cosine: float
    identity_share: float
    branch_share: float
    other_share: float


def is_residual(step: Step | Node) -> bool:
    """Whether a step is the addition x + f(x) of a residual connection: one that such a module makes itself.

    Additions in the definitions of other ops that it calls, such as that of a bias, are not meant.
    """
    itself = step.part_of is None or step.part_of.name in ADDITIONS
    added = step.op is not None and step.op.name in ADDITIONS
    return itself and added and step.module is not None and step.module.is_residual


def splits(x: Step, arrived: Sequence[tuple[Edge, Array]], gradient: Array, squares: float) -> dict[int, Split]:
    """How the gradient of `x` came, for each x + f(x); `arrived` are the gradients on the edges to x.

    `squares` is the square of the norm of the gradient; the edges have their norms and shares.
    """
    found: dict[int, Split] = {}
    for edge, identity in arrived:
        if edge.position == 0 and is_residual(edge.child):
            inside = _between(x, edge.child)
            others = [(e, part) for e, part in arrived if e is not edge]
            parts = [
                (edge.norm, edge.share, identity),
                _together([(e, part) for e, part in others if e.child in inside], gradient, squares),
                _together([(e, part) for e, part in others if e.child not in inside], gradient, squares),
            ]
            norms, shares, arrays = zip(*parts, strict=True)
            product = norms[0] * norms[1]
            cosine = kernels.products(arrays[0], arrays[1])[1] / product if product else math.nan
            found[edge.child.serial] = Split(*norms, *shares, cosine)  # pyright: ignore[reportCallIssue]
    return found


def _together(
    parts: Sequence[tuple[Edge, Array]], gradient: Array, squares: float
) -> tuple[float | None, float | None, Array | None]:
    """Norm and share of the sum of some gradients, and the sum."""
    if not parts:
        return 0.0, 0.0, None
    edge, total = parts[0]
    if len(parts) == 1:
        return edge.norm, edge.share, total
    for _, part in parts[1:]:
        total = total + part
    own, shared = kernels.products(total, gradient)
    return math.sqrt(own), shared / squares if squares else math.nan, total


def _between(x: Step, addition: Step) -> set[Step]:
    """The steps of the branch f: what the second argument of x + f(x) was made from, up to x; and x + f(x) itself."""
    found, waiting = {addition}, [e.parent for e in addition.inputs if e.position == 1]
    while waiting:
        step = waiting.pop()
        if step.serial > x.serial and step not in found:
            found.add(step)
            waiting += [e.parent for e in step.inputs]
    return found


def table(steps: Sequence[Step], name: Callable[[Step], str]) -> Table:
    """See `Recording.residuals`."""
    rows = []
    for step in steps:
        if is_residual(step):
            x = next((e.parent for e in step.inputs if e.position == 0), None)
            split = x and x.splits.get(step.serial)
            if split:
                ratio = split.branch / split.identity if split.identity else math.nan
                shares = split.identity_share, split.branch_share, split.other_share
                rows.append(ResidualRow(name(step), split.identity, split.branch, ratio, split.cosine, *shares))
    return Table("gradients of x in y = x + f(x), in modules with is_residual = True", ResidualRow, rows)


def paths(steps: Sequence[Step], root: Step | None, target: Step) -> dict[int, float]:
    """See `Recording.paths`."""
    if root is None or target.run != root.run:
        return {}
    shares: dict[Step, dict[int, float]] = {root: {0: 1.0}}
    for step in sorted(steps, key=lambda step: (step.is_leaf, -step.serial)):
        if step is root or step.run != root.run:
            continue
        sums = shares[step] = defaultdict(float)
        for edge in step.uses:
            if edge.run == root.run and edge.share is not None:
                crossed = edge.position == 1 and is_residual(edge.child)
                for count, share in shares[edge.child].items():
                    sums[count + crossed] += share * edge.share
        if step is target:
            break
    return dict(sorted(shares[target].items()))
