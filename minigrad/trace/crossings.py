"""The gradient taken apart by how many residual branches it came through: the highway, and the roads beside it."""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import Any

import numpy as np

from ..core import Array, GradError, Node, ShapeError, fit
from ..tensor import Tensor
from .residuals import is_residual


def crossings(root: Tensor, x: Tensor, gradient: Any = None) -> dict[int, Array]:
    """dL/dx = sum_k G_k, where G_k came through k branches f of residual connections y = x + f(x).

    Expand the product of all (1 + J_f)^T on the way from the loss to x: G_k are the terms with k Jacobians of branches
    (Veit, Wilber and Belongie 2016). The way back is linear, so each part goes back on its own: exactly, for the price
    of one backward pass per k. Hooks are not asked.

    root: the loss, whose graph has not been freed, and stays; gradient: dL/droot, if it is not a single number;
    x: any tensor in its graph. Returns {k: array like x}. Raises GradError if x is not in the graph of root.

    >>> import minigrad as mg
    >>> x = mg.tensor(1.0, requires_grad=True)
    >>> class Times(mg.nn.Module):
    ...     def __init__(self, factor):
    ...         super().__init__()
    ...         self.factor = factor
    ...     def forward(self, x):
    ...         return self.factor * x
    >>> double, triple = mg.nn.Residual(Times(2)), mg.nn.Residual(Times(3))
    >>> {k: float(g) for k, g in crossings(triple(double(x)), x).items()}  # (1 + 2) (1 + 3)
    {0: 1.0, 1: 5.0, 2: 6.0}
    """
    for name, given in (("root", root), ("x", x)):
        if not isinstance(given, Tensor):
            raise TypeError(
                f"crossings(): {name} is a {type(given).__name__}; give tensors: the loss, and a parameter."
            )
    target, start = x.node, root.node
    if start is None or target is None:
        raise GradError("crossings(): a tensor without a graph; both must want a gradient, outside of no_grad().")
    if gradient is None and root.data.size != 1:
        raise GradError(f"crossings(): the root has shape {root.shape}; give `gradient`, or reduce to one number.")
    g = np.ones_like(root.data) if gradient is None else np.asarray(getattr(gradient, "data", gradient), root.dtype)
    if g.shape != root.shape:
        raise ShapeError(f"crossings(): gradient has shape {g.shape}, the root {root.shape}; they must be the same.")
    parts: dict[Node, dict[int, Array]] = {start: {0: g}}
    queue = [(-start.serial, start)]
    while queue:
        node = heappop(queue)[1]
        if node is target:
            break
        own = parts.pop(node)
        if node.products is None:
            raise GradError(f"crossings(): the graph below {node} has been freed; call it before backward().")
        for count, part in own.items():
            for position, parent, d in _sent(node, part):
                if parent.op is None and parent is not target:
                    continue
                if parent not in parts:
                    parts[parent] = {}
                    if parent.op is not None:
                        heappush(queue, (-parent.serial, parent))
                crossed = count + (position == 1 and is_residual(node))
                sums = parts[parent]
                sums[crossed] = sums[crossed] + d if crossed in sums else d
    if target not in parts:
        raise GradError("crossings(): x is not in the graph of the root: no gradient reaches it.")
    return dict(sorted(parts[target].items()))


def crossing_shares(root: Tensor, x: Tensor, gradient: Any = None) -> dict[int, float]:
    """Shares <G_k, g> / <g, g> of the gradient g of x, where G_k came through k residual branches: {0: 0.6, ...}.

    They sum to 1, and a part that works against the others has a negative one; NaN if g is 0. See `crossings`.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> crossing_shares(mg.nn.Residual(mg.nn.ReLU())(x).sum(), x)
    {0: 0.5, 1: 0.5}
    """
    parts = {k: part.astype(np.float64) for k, part in crossings(root, x, gradient).items()}
    whole: Any = sum(parts.values())
    squares = float((whole**2).sum())
    return {k: float((part * whole).sum()) / squares if squares else math.nan for k, part in parts.items()}


def _sent(node: Node, g: Array) -> list[tuple[int, Node, Array]]:
    """What a node passes on: (position of the argument, parent, gradient)."""
    products: Any = node.products
    results: Any = products(g) if callable(products) else [product and product(g) for product in products]
    pairs = zip(node.parents, results, strict=True)
    return [(i, parent, fit(d, parent, node)) for i, (parent, d) in enumerate(pairs) if parent and d is not None]
