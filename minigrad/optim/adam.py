"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..core import Array
from .optimizer import Group, Optimizer, check_range


class Adam(Optimizer):
    """Steps of about lr in every coordinate, whatever the scale of its gradient (Kingma and Ba 2015, algorithm 1).

        m <- b1 m + (1 - b1) g                   the mean of the last 1/(1 - b1) gradients or so
        v <- b2 v + (1 - b2) g^2                 the mean of their squares
        m' = m / (1 - b1^t),  v' = v / (1 - b2^t)     without the bias from starting at 0
        p <- p - lr m' / (sqrt(v') + eps)

    `weight_decay` adds w p to g, as in PyTorch; AdamW is usually what is wanted instead.

    >>> from minigrad import tensor
    >>> x = tensor([1.0, 1.0], requires_grad=True)
    >>> (x * tensor([3.0, -0.001])).sum().backward()
    >>> Adam([x], lr=0.5).step()
    >>> [round(value, 3) for value in x.tolist()]
    [0.5, 1.5]
    """

    decoupled = False  # whether weight decay acts on the parameter itself, instead of on its gradient

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        name = type(self).__name__
        check_range(name, lr=lr, eps=eps, weight_decay=weight_decay)
        check_range(name, below=1, beta1=betas[0], beta2=betas[1])
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        """One step for one parameter; `s` is the only memory that it allocates."""
        lr, (b1, b2), decay = group["lr"], group["betas"], group["weight_decay"]
        if not state:
            state |= {"step": 0, "exp_avg": np.zeros_like(p), "exp_avg_sq": np.zeros_like(p)}
        state["step"] += 1
        t, m, v = state["step"], state["exp_avg"], state["exp_avg_sq"]
        if decay != 0 and self.decoupled:
            p *= 1 - lr * decay
        elif decay != 0:
            g = g + decay * p
        s = np.multiply(g, 1 - b1, out=np.empty_like(p))
        m *= b1
        m += s
        np.multiply(g, g, out=s)
        s *= 1 - b2
        v *= b2
        v += s
        np.sqrt(v, out=s)
        s /= math.sqrt(1 - b2**t)
        s += group["eps"]
        np.divide(m, s, out=s)
        s *= lr / (1 - b1**t)
        p -= s


class AdamW(Adam):
    """Adam with decoupled weight decay: p <- (1 - lr w) p before each step (Loshchilov and Hutter 2019).

    Within the gradient, as in Adam, the decay would be divided by sqrt(v') too: coordinates with large gradients would
    hardly decay.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
