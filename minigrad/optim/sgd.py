"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core import Array
from .optimizer import Group, Optimizer, check_range


class SGD(Optimizer):
    """p <- p - lr g, or with momentum u (Sutskever et al. 2013):  v <- u v + (1 - dampening) g,  p <- p - lr v.

    v starts as the first gradient. With `nesterov` the step is lr (g + u v). `weight_decay` adds w p to g.

    >>> from minigrad import tensor
    >>> x = tensor([1.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> SGD([x], lr=0.25).step()
    >>> x
    tensor([0.5], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        check_range("SGD", lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("SGD(): nesterov needs momentum > 0 and dampening = 0")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults)

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """One step for one parameter."""
        if group["weight_decay"] != 0:
            g = g + group["weight_decay"] * p
        if group["momentum"] != 0:
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = g.copy()
            else:
                state["momentum_buffer"] *= group["momentum"]
                state["momentum_buffer"] += (1 - group["dampening"]) * g
            v = state["momentum_buffer"]
            g = g + group["momentum"] * v if group["nesterov"] else v
        p -= group["lr"] * g
