"""How far the kernels in use are from their NumPy twins, on the numbers of a real step."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..core import Array
from .table import Table


class DifferenceRow(NamedTuple):
    """A row of `compare_kernels`."""

    name: str
    calls: int
    absolute: float
    relative: float


def compare_kernels(run: Callable[[], Any]) -> Table:
    """Call `run`; how far every kernel that it uses is from the NumPy twin of it, given the same arguments.

    `absolute` is the largest max |a - b| of all calls, and `relative` the largest max |a - b| / max |b|, b from the
    twin; both are infinite where one is infinite or NaN and the other is not. Functions for the way back go by "_vjp";
    the twin's has what the twin kept. The numbers of `run` are those of the kernels in use.

    >>> import minigrad as mg
    >>> x = mg.ones(3, 4)
    >>> compare_kernels(lambda: x.softmax(-1)).column("name")
    ['softmax']
    """
    if not callable(run):
        raise TypeError(
            f"compare_kernels(): given a {type(run).__name__}; give a function of no arguments that runs the model."
        )
    calls: Counter[str] = Counter()
    absolute: dict[str, float] = defaultdict(float)
    relative: dict[str, float] = defaultdict(float)

    def report(name: str, pairs: list[tuple[Array, Array]]) -> None:
        calls[name] += 1
        for a, b in pairs:
            difference, size = _difference(a, b)
            absolute[name] = max(absolute[name], difference)
            relative[name] = max(relative[name], difference / size if difference else 0.0)

    with kernels.compare(report):
        run()
    rows = [DifferenceRow(name, n, absolute[name], relative[name]) for name, n in calls.items()]
    return Table(f"{kernels.current()} kernels against their NumPy twins", DifferenceRow, rows)


def _difference(a: Array, b: Array) -> tuple[float, float]:
    """max |a - b| and max |b|, of what is finite in both; the first is infinite if anything is in one of them only."""
    finite = np.isfinite(b)
    if not np.array_equal(np.where(finite, 0, b), np.where(np.isfinite(a), 0, a), equal_nan=True):
        return math.inf, 1.0
    there = b[finite].astype(np.float64)
    difference = np.abs(a[finite].astype(np.float64) - there).max(initial=0.0)
    return float(difference), float(np.abs(there).max(initial=0.0)) or math.ulp(0.0)
