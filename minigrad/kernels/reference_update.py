"""The step of the optimiser in NumPy: the part of `reference` that works in place."""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    step: int,
) -> None:
    """One step of Adam (Kingma and Ba 2015, algorithm 1), which changes p, m and v in place.

        m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
        p <- p - lr m' / (sqrt(v') + eps),   m' = m / (1 - b1^step),   v' = v / (1 - b2^step)

    Weight decay w adds w p to g or, `decoupled`, multiplies p by 1 - lr w before the step (Loshchilov and Hutter 2019).
    `step` counts from 1. All arrays have one shape and one dtype.

    >>> p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> adam(p, np.array([-3.0]), m, v, 0.5, 0.9, 0.99, 0.0, 0.0, False, 1)
    >>> p
    array([1.5])
    """
    with np.errstate(all="ignore"):
        if weight_decay != 0 and decoupled:
            p *= 1 - lr * weight_decay
        elif weight_decay != 0:
            g = g + weight_decay * p
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * (g * g)
        p -= lr / (1 - beta1**step) * m / (np.sqrt(v) / math.sqrt(1 - beta2**step) + eps)


def sum_of_squares(x: Array) -> float:
    """sum_i x_i^2 over all elements, added up in float64, where the squares of float32 do not overflow.

    >>> round(sum_of_squares(np.array([3e30, 4e30], np.float32)) ** 0.5 / 1e30, 6)
    5.0
    """
    with np.errstate(all="ignore"):
        return float(np.square(x, dtype=np.float64).sum())


def rescale(x: Array, factor: float) -> None:
    """x <- factor x, in place."""
    with np.errstate(all="ignore"):
        x *= x.dtype.type(factor)
