"""A recording: what was seen while a model ran forwards and backwards, by name.

It owns numbers about arrays, not the arrays (unless they were asked for), and holds no node of the graph: it is the
same after `backward()` has freed it. It holds the modules, and asks the model for their paths when it is read.
"""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from .. import kernels
from ..nn import Module
from . import export, profile, provenance, residuals
from .provenance import Origin
from .steps import Call, Edge, KernelCall, Step, WayBack
from .table import Table


class LedgerRow(NamedTuple):
    """A row of `Recording.ledger`: the gradient that `child` sends to `parent`, which was its `argument`."""

    child: str
    parent: str
    argument: str
    norm: float | None
    share: float | None


class Recording:
    """What `record` saw. `steps` and `edges` are in the order in which the forward pass made them."""

    def __init__(self, model: Module | None, detail: str, keep: str) -> None:
        self.model, self.detail, self.keep = model, detail, keep
        self.kernel_set = kernels.current()
        self.steps: list[Step] = []
        self.edges: list[Edge] = []
        self.calls: list[Call] = []  # of modules and ops, in the order in which they began
        self.kernel_calls: list[KernelCall] = []
        self.ways_back: list[WayBack] = []
        self.seconds: float | None = None  # from begin to end, without those that the recording took; None before
        self.runs = 0  # backward passes
        self.root: Step | None = None  # where the last backward pass began
        self.dropped = 0  # arrays that were not kept, because there were too many

    # ---------------------------------------------------------------------------------------------------------- names
    def path(self, module: Module | None) -> str:
        """Where a module is in the model: "" for the model itself; the name of its class if it is not in there."""
        if module is None:
            return ""
        paths = self._paths
        if module not in paths:  # the model has grown since, or it is no part of it
            self.__dict__.pop("_paths", None)
            paths = self._paths
        return paths.get(module, type(module).__name__)

    @cached_property
    def _paths(self) -> dict[Module, str]:
        return {} if self.model is None else {module: path for path, module in self.model.named_modules()}

    def name(self, step: Step) -> str:
        """The name of a step: the path of its module, its op, and a number if there are several; or a parameter's name.

        "decoder.layers.1.ffn.linear2.weight", "decoder.layers.1.add_norm3.add", "softmax", "softmax#2".
        """
        names = self._names()
        if step not in names:
            what = step if isinstance(step, Step) else f"a {type(step).__name__}"
            raise KeyError(f"recording: {what} is no step of this recording. Give one of its `steps`, or a name.")
        return names[step]

    def _names(self) -> dict[Step, str]:
        cached = self.__dict__.get("_named")
        if cached is not None and cached[0] == len(self.steps):
            return cached[1]
        parameters = {} if self.model is None else {id(p): name for name, p in self.model.named_parameters()}
        seen: Counter[str] = Counter()
        names = {}
        for step in self.steps:
            tensor = step.holder() if step.holder is not None else None
            name = parameters.get(id(tensor)) if tensor is not None and step.is_leaf else None
            if name is None:
                name = ".".join(filter(None, [self.path(step.module), step.kind]))
            seen[name] += 1
            names[step] = name if seen[name] == 1 else f"{name}#{seen[name]}"
        self.__dict__["_named"] = len(self.steps), names
        return names

    def find(self, pattern: str) -> list[Step]:
        """The steps whose names match `pattern` as file names do (* ? [abc]). Raises TypeError for no string."""
        _check_name("find", pattern)
        return [step for step, name in self._names().items() if fnmatchcase(name, pattern)]

    def __getitem__(self, name: str) -> Step:
        """The step of this name. Raises KeyError if there is none, TypeError for no string."""
        _check_name("recording", name)
        names = self._names()
        for step, own in names.items():
            if own == name:
                return step
        near = get_close_matches(name, list(names.values()), n=4, cutoff=0.3) or list(names.values())[:4]
        raise KeyError(f"recording: there is no step {name!r}. Near: {', '.join(near) or 'none, it is empty'}.")

    def _step(self, step: str | Step) -> Step:
        """A step of this recording, itself or by its name."""
        if isinstance(step, Step):
            self.name(step)  # raises KeyError for one of another recording
            return step
        return self[step]

    # --------------------------------------------------------------------------------------------------------- ledger
    def edge(self, child: str | Step, parent: str | Step, argument: str | None = None) -> Edge:
        """The edge along which `child` sends a gradient to `parent`; `argument` says which, if there are several.

        Raises KeyError if there is none, or more than one, and for a step of another recording.
        """
        child, parent = self._step(child), self._step(parent)
        found = [e for e in child.inputs if e.parent is parent and argument in (None, e.argument)]
        if len(found) != 1:
            inputs = ", ".join(f"{self.name(e.parent)} as {e.argument}" for e in child.inputs)
            raise KeyError(
                f"edge(): there are {len(found)} edges from {self.name(child)} to {self.name(parent)}. "
                f"It has these: {inputs or 'none'}; `argument` chooses one."
            )
        return found[0]

    def ledger(self, pattern: str = "*") -> Table:
        """Every edge with the gradient that went along it: `norm`, and `share`, its signed part of the sum.

        Only edges of which one end matches `pattern`. `where`, `sort` of the table go on from there. Raises TypeError
        for a pattern that is no string.
        """
        _check_name("ledger", pattern)
        names = self._names()
        rows = [
            LedgerRow(names[e.child], names[e.parent], e.argument, e.norm, e.share)
            for e in self.edges
            if fnmatchcase(names[e.child], pattern) or fnmatchcase(names[e.parent], pattern)
        ]
        return Table("gradients on edges, from child to parent", LedgerRow, rows)

    def residuals(self) -> Table:
        """Every residual connection y = x + f(x), in the order of the forward pass, and how the gradient of x came.

        Norms of the gradients that came past f (identity) and through f (branch), their cosine, and the signed shares
        <part, g> / <g, g> of the whole g. A residual connection is an addition that a module with `is_residual` makes
        itself. Shares of other uses of x are under `other`; what comes back from inside of f belongs to the branch,
        also where something else than f uses what f has made.
        """
        return residuals.table(self.steps, self.name)

    def paths(self, step: str | Step) -> dict[int, float]:
        """Of the gradient at `step`, what came through 0, 1, 2, ... residual branches, estimated: {0: 0.6, ...}.

        Along a path the shares of its edges are multiplied; over all paths from the loss they sum to 1. That is exact
        only where Jacobians change no direction: an edge has one share, whichever way its gradient came from before.
        `trace.crossing_shares` is exact, and needs the graph. Without a gradient at `step` there are none: {}. Raises
        KeyError if there is no such step.
        """
        return residuals.paths(self.steps, self.root, self._step(step))

    # ----------------------------------------------------------------------------------------------------- provenance
    def first_nonfinite(self) -> Origin | None:
        """Where the first value came from that is NaN or infinite; None if all are finite.

        It is that of an op with good arguments, or one that came in with a parameter or an argument. -inf is no
        mistake as long as it stays what a mask has put there.
        """
        return provenance.first_nonfinite(self)

    def first_nonfinite_gradient(self) -> Origin | None:
        """Where on the way back the first gradient came from that is NaN or infinite; None if all are finite."""
        return provenance.first_nonfinite_gradient(self)

    def first_zero_gradient(self) -> Origin | None:
        """Where on the way back a gradient first became 0 everywhere; None if that did not happen.

        Either an op made it of a gradient that was not 0, or parts that were not 0 cancelled.
        """
        return provenance.first_zero_gradient(self)

    # -------------------------------------------------------------------------------------------------------- profile
    def profile(self, by: str = "op", depth: int | None = None) -> Table:
        """Where the time went, by "op", "module", "kernel" or "step"; `depth` cuts the paths of modules.

        Times are in milliseconds, without those that the recording took; `share` is the part of all of them, and the
        last row is what happened between. `nbytes` is the size of arguments and results, `kept` that of what is kept
        for the way back, `flops` counts both ways (see `trace.flops`; by kernel `trace.kernel_flops`, for all gradients
        that it returns), and `gflops_per_s` is their number per time. By module, `own_ms` is the time without the
        modules inside. By kernel, the slowest call may have compiled it.

        Raises ValueError for another `by` or `depth`, RuntimeError while the recording goes on.

        >>> import minigrad as mg
        >>> model = mg.nn.Linear(3, 2)
        >>> with mg.record(model) as rec:
        ...     model(mg.ones(4, 3)).sum().backward()
        >>> sorted(rec.profile().column("name"))
        ['(between steps)', 'linear', 'sum']
        """
        return profile.profile(self, by, depth)

    def save_trace(self, path: str | Path) -> Path:
        """Write a timeline in the Trace Event Format, which ui.perfetto.dev and chrome://tracing open.

        Raises RuntimeError while the recording goes on.
        """
        return export.save_trace(self, path)

    def save_speedscope(self, path: str | Path) -> Path:
        """Write a timeline in the format of speedscope.app, which draws flame graphs.

        Raises RuntimeError while the recording goes on.
        """
        return export.save_speedscope(self, path)

    def status(self, step: Step) -> str:
        """What is known of its gradient: "reached", "zero", "not reached", "not computed", or "not recorded"."""
        if not self.runs:
            return "not computed"
        if step.run == self.runs or (step.run and step.gradient is not None):
            return "zero" if step.gradient is not None and step.gradient.all_zero else "reached"
        return "not recorded" if step.outside else "not reached"

    def __repr__(self) -> str:
        of = "" if self.model is None else f" of {type(self.model).__name__}"
        forward, backward = (sum(getattr(s, f"{way}_seconds") for s in self.steps) for way in ("forward", "backward"))
        return (
            f"<Recording{of}: {len(self.steps)} steps, {len(self.edges)} edges, {self.runs} backward; "
            f"forward {1e3 * forward:.3g} ms, backward {1e3 * backward:.3g} ms, "
            f"{sum(step.saved for step in self.steps) / 2**20:.3g} MiB kept for the way back>"
        )


def _check_name(who: str, name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{who}: the name of a step is a string, not a {type(name).__name__}. Try find('*weight').")
