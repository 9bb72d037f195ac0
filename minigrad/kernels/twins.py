"""Kernels whose work is done twice, by two sets of them, and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np

Report = Callable[[str, list[tuple[np.ndarray, np.ndarray]]], None]


class Twins:
    """All kernels of a set; the twin of each, in another set, gets copies of the arguments and does the same."""

    def __init__(self, functions: Any, twins: Any, report: Report) -> None:
        self._functions, self._twins, self._report = functions, twins, report

    def __getattr__(self, name: str) -> Any:
        function, twin = getattr(self._functions, name), getattr(self._twins, name)
        return function if name == "empty" else _with_twin(name, function, twin, self._report)


def _with_twin(name: str, function: Callable[..., Any], twin: Callable[..., Any], report: Report) -> Callable[..., Any]:
    def call(*arguments: Any, **settings: Any) -> Any:
        copies, named = deepcopy((arguments, settings))  # what is one array stays one: the place for the result, too
        result, expected = function(*arguments, **settings), twin(*copies, **named)
        ours, theirs = [list(_arrays((*x, r))) for x, r in ((arguments, result), (copies, expected))]
        report(name, list(zip(ours, theirs, strict=True)))
        if not isinstance(result, tuple):
            return result
        parts = zip(result, expected, strict=True)
        return tuple([_with_twin(f"{name}_vjp", a, b, report) if callable(a) else a for a, b in parts])

    return call


def _arrays(x: Any) -> Iterator[np.ndarray]:
    """The arrays and numbers in arguments, which a kernel may have written, and in results."""
    if isinstance(x, tuple):
        for part in x:
            yield from _arrays(part)
    elif isinstance(x, np.ndarray | float | int):
        yield np.asarray(x)
