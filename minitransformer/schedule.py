"""The learning rate of the paper."""

from __future__ import annotations

from collections.abc import Callable


def noam(d_model: int, warmup: int, factor: float = 1.0) -> Callable[[int], float]:
    """Make the function of the steps that gives the learning rate: up in a straight line, then down as a square root.

        lr(step) = factor d_model^-0.5 min(step^-0.5, step warmup^-1.5)        (Vaswani et al. 2017, equation 3)

    with step = 1 for the first one. The peak, factor (d_model warmup)^-0.5, is at step = warmup. The function takes
    the number of steps that have been taken, as LambdaLR counts, so step = taken + 1; the base rate of the optimiser
    should be 1. Raises ValueError for a warmup or d_model below 1.

    >>> from minigrad import optim, zeros
    >>> optimizer = optim.Adam([zeros(1, requires_grad=True)], lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    >>> schedule = optim.lr_scheduler.LambdaLR(optimizer, noam(d_model=64, warmup=400))
    >>> f"{schedule.get_last_lr()[0]:.4g}"
    '1.563e-05'
    """
    for name, value in (("d_model", d_model), ("warmup", warmup)):
        if value < 1:
            raise ValueError(f"noam(): {name} is {value}; it must be at least 1.")

    def rate(taken: int) -> float:
        step = taken + 1
        return factor * d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)

    return rate
