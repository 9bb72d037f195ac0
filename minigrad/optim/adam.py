"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import kernels
from ..core import ShapeError
from ..flat import Flat
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

    def update_flat(self, flat: Flat, group: Group) -> None:
        """One step for all parameters that have a gradient; those in a row that have taken as many steps, in one go."""
        if not flat.extras:
            flat.extras |= {name: Average(flat) for name in ("exp_avg", "exp_avg_sq")}
        means, squares = flat.extras["exp_avg"], flat.extras["exp_avg_sq"]
        steps: list[int | None] = []
        for p, mean, square in zip(flat.tensors, means.places, squares.places, strict=True):
            if p.grad is None:
                steps.append(None)
                continue
            state = self.state[p]
            if state.get("exp_avg") is not mean or state.get("exp_avg_sq") is not square:
                for name, place in (("exp_avg", mean), ("exp_avg_sq", square)):  # new, or just loaded
                    saved = state.get(name, np.zeros_like(place))
                    if saved.shape != place.shape:
                        raise ShapeError(
                            f"{type(self).__name__}.step(): a parameter has shape {place.shape}, its {name} "
                            f"{saved.shape}. Forget the state of a parameter whose shape has changed: del state[p]."
                        )
                    place[...] = saved
                    state[name] = place  # where the kernel looks for it
            state["step"] = state.get("step", 0) + 1
            steps.append(state["step"])
        (b1, b2), decay = group["betas"], group["weight_decay"]
        for tensors, part in flat.stretches(steps):
            p, g, m, v = flat.data[part], flat.grad[part], means.flat[part], squares.flat[part]
            step = steps[tensors.start]
            kernels.adam(p, g, m, v, group["lr"], b1, b2, group["eps"], decay, self.decoupled, step)


class Average:
    """An average of the gradients of all parameters in a Flat: 1-d, and in the shapes of the parameters."""

    def __init__(self, parameters: Flat) -> None:
        self.flat = parameters.new()
        self.places = [parameters.view(self.flat, i) for i in range(len(parameters.tensors))]


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
