"""What a recording consists of: steps (the nodes of the graph), edges, and the calls in which they were made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from linecache import getline
from typing import Any, NamedTuple

from ..core import Array
from ..nn import Module
from ..op import Op
from . import flops


class Nonfinite(NamedTuple):
    """The elements of an array that are "nan", "inf" or "-inf": how many there are, and where the first one is."""

    kind: str
    count: int
    first: tuple[int, ...]


class Statistics(NamedTuple):
    """Of an array: its size; of its finite elements extrema, sums and zeros; of the others the number and the first.

    `kinds` tells the others apart.
    """

    size: int
    least: float
    most: float
    total: float
    squares: float
    zeros: int
    nonfinite: int
    first_nonfinite: tuple[int, ...] | None
    kinds: tuple[Nonfinite, ...] = ()

    @property
    def norm(self) -> float:
        """sqrt(sum x^2); NaN if an element is not finite."""
        return math.nan if self.nonfinite else math.sqrt(self.squares)

    @property
    def mean(self) -> float:
        """The mean of the finite elements; NaN if there are none."""
        finite = self.size - self.nonfinite
        return self.total / finite if finite else math.nan

    @property
    def rms(self) -> float:
        """sqrt(mean x^2) of the finite elements; NaN if there are none."""
        finite = self.size - self.nonfinite
        return math.sqrt(self.squares / finite) if finite else math.nan

    @property
    def std(self) -> float:
        """The standard deviation of the finite elements, n in the denominator."""
        return math.sqrt(max(self.rms**2 - self.mean**2, 0.0)) if self.size > self.nonfinite else math.nan

    @property
    def all_zero(self) -> bool:
        """Whether every element is exactly 0 (and there is one)."""
        return self.size > 0 and self.zeros == self.size


class Source(NamedTuple):
    """The line outside of minigrad that asked for a step."""

    file: str
    line: int
    function: str

    @property
    def text(self) -> str:
        """The line itself, empty if the file cannot be read."""
        return getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Argument(NamedTuple):
    """An array that an op was given; `wanted` says whether a gradient goes there.

    Its statistics are taken only where the result is not finite, or 0 everywhere, so that one may ask why.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Any
    wanted: bool
    value: Statistics | None = None


@dataclass(slots=True, eq=False)
class Call:
    """One call of a module or an op; `parent` is the call in which it happened.

    Times are in seconds since the recording began, without those that it took itself.
    """

    thing: Module | Op
    number: int  # how many calls of the same thing were before it
    parent: Call | None
    start: float = 0.0
    seconds: float = 0.0
    step: Step | None = None  # that an op left behind; none if it ran as its definition, or no gradient is wanted

    def __iter__(self) -> Iterator[Call]:
        """This call and those around it, from the inside out."""
        call: Call | None = self
        while call is not None:
            yield call
            call = call.parent


class WayBack(NamedTuple):
    """The time in which a step passed its gradient on, in the backward pass number `run`."""

    step: Step
    run: int
    start: float
    seconds: float


class KernelCall(NamedTuple):
    """One call of a kernel; `nbytes` is the size of the arrays that it was given or returned, each counted once.

    `flops` are its floating-point operations, see `kernel_flops`; None if nobody has counted them.
    """

    name: str
    start: float
    seconds: float
    nbytes: int
    flops: int | None


@dataclass(slots=True, eq=False)
class Edge:
    """`child` used the result of `parent` as an argument; on the way back, child sends a gradient to parent.

    `norm` is that of this gradient g_e, and `share` its signed part of the sum g of all that arrive at the parent,
    <g_e, g> / <g, g>: the shares of a parent sum to 1, and one that works against the others is negative. It is NaN if
    g is 0. Both are None as long as no backward pass has come here, and if a later one came to the parent by other
    edges only; `run` says which pass it was, from 1 on.
    """

    child: Step
    parent: Step
    position: int
    argument: str
    norm: float | None = None
    share: float | None = None
    run: int = 0
    gradient: Array | None = None


@dataclass(slots=True, eq=False)
class Split:
    """How the gradient of x, where y = x + f(x), came: past f, through f, and from other uses of x.

    Norms of the three parts, their signed shares of the sum, and the cosine between the first two.
    """

    identity: float
    branch: float
    other: float
    identity_share: float
    branch_share: float
    other_share: float
    cosine: float


@dataclass(slots=True, eq=False)
class Step:
    """A node of the graph: what it was, where it was made, and numbers about its value and gradient."""

    serial: int
    op: Op | None  # None for a leaf
    shape: tuple[int, ...]
    dtype: Any
    module: Module | None = None
    call: Call | None = None
    part_of: Op | None = None  # the op that ran as its definition, to which this step belongs
    arguments: tuple[Argument, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)  # of the op, those that are numbers or words
    inputs: list[Edge] = field(default_factory=list)
    uses: list[Edge] = field(default_factory=list)
    value: Statistics | None = None
    gradient: Statistics | None = None
    run: int = 0  # the last backward pass that came here; 0: none
    hooked: bool = False  # hooks saw this gradient, and may have passed on another one
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0
    saved: int = 0  # bytes that are kept for the way back, and were not kept by an earlier step
    kernels: tuple[str, ...] = ()
    backward_kernels: tuple[str, ...] = ()
    source: Source | None = None
    holder: Any = None  # of a leaf: a weak reference to its tensor
    outside: bool = False  # made before the recording began: nothing is known of its value
    splits: dict[int, Split] = field(default_factory=dict)  # by the serial number of x + f(x)
    array: Array | None = None
    gradient_array: Array | None = None

    @property
    def is_leaf(self) -> bool:
        """Whether gradients end here."""
        return self.op is None

    @property
    def kind(self) -> str:
        """The name of its op, or "leaf"."""
        return "leaf" if self.op is None else self.op.name

    @property
    def flops(self) -> int | None:
        """Floating-point operations on the way forward, see `flops`; None for an op that is not in the table."""
        return flops.forward(self)

    @property
    def backward_flops(self) -> int | None:
        """Floating-point operations of one way back, for the arguments that want a gradient."""
        return flops.backward(self)

    @property
    def nbytes(self) -> int:
        """The size of its arguments and its result; 0 if the result is a view of an argument."""
        if self.op is None or self.op.view:
            return 0
        shapes = [(x.shape, x.dtype) for x in self.arguments] + [(self.shape, self.dtype)]
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in shapes)

    def __repr__(self) -> str:
        return f"<Step {self.serial} {self.kind} {self.shape}>"
