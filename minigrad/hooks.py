"""Functions that see, and may replace, the gradient of a node once all of it has arrived."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .writes import clock

if TYPE_CHECKING:
    from .core import Node

Hooks = dict[int, Callable[[np.ndarray], np.ndarray | None]]  # in the order in which they were registered


def hooked(hooks: Hooks, g: np.ndarray) -> np.ndarray:
    """What the hooks make of a gradient, one after the other; None leaves it as it is."""
    for hook in [*hooks.values()]:
        new = hook(g)
        g = g if new is None else new
    return g


class Handle:
    """What `register_hook` returns: `remove()` takes the hook away."""

    def __init__(self, node: Node, hook: Callable[[np.ndarray], np.ndarray | None]) -> None:
        self.hooks = node.hooks = {} if node.hooks is None else node.hooks
        self.number = next(clock)
        self.hooks[self.number] = hook

    def remove(self) -> None:
        """Take the hook away; a second time changes nothing."""
        self.hooks.pop(self.number, None)
