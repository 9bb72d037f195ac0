"""How parameters start. Each function fills a tensor in place, outside any graph, and returns it; as torch.nn.init."""

from __future__ import annotations

import math

import numpy as np

from .. import random
from ..core import Array, ShapeError, writes
from ..tensor import Tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b)."""
    return _fill(tensor, random.generator().uniform(a, b, tensor.shape))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return _fill(tensor, random.generator().normal(mean, std, tensor.shape))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """The same value everywhere."""
    return _fill(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """All ones."""
    return _fill(tensor, 1)


def zeros_(tensor: Tensor) -> Tensor:
    """All zeros."""
    return _fill(tensor, 0)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform with variance gain^2 2 / (fan_in + fan_out), so within +- sqrt(3 variance) (Glorot and Bengio 2010).

    A compromise: fan_in alone would keep the variance of activations on the way forward, fan_out alone that of
    gradients on the way back. `tensor` is (out, in).

    >>> from minigrad import zeros
    >>> w = xavier_uniform_(zeros(100, 50))
    >>> bool((w.abs() <= (6 / 150) ** 0.5).all())
    True
    """
    std = gain * math.sqrt(2 / sum(_fans(tensor)))
    return uniform_(tensor, -math.sqrt(3) * std, math.sqrt(3) * std)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with variance gain^2 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_fans(tensor))))


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform with variance gain^2 / fan, so within +- sqrt(3 variance) (He et al. 2015).

    The gain belongs to the `nonlinearity` that follows, with `a` the negative slope of a leaky ReLU; `mode` is
    "fan_in" or "fan_out".
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Normal with variance gain^2 / fan (He et al. 2015); see `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much the weights before a nonlinearity must be larger, for its output to keep the variance.

    `param` is the negative slope of a leaky ReLU.

    >>> calculate_gain("relu") ** 2  # half of the variance is cut off
    2.0000000000000004
    """
    slope = 0.01 if param is None else param
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + slope**2)),
        "selu": 3 / 4,
    }
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain(): nonlinearity = {nonlinearity!r}; it must be one of {', '.join(gains)}")
    return gains[nonlinearity]


def _fill(tensor: Tensor, values: Array | float) -> Tensor:
    np.copyto(tensor.data, values, casting="unsafe")
    writes.stamp(tensor.data)
    return tensor


def _fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs an output of this weight (out, in) sees, and the reverse; further dimensions are a window."""
    if tensor.ndim < 2:
        raise ShapeError(f"init: a has shape {tensor.shape}; fans need (out, in). For a vector use normal_ or zeros_.")
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"init: mode = {mode!r}; it must be 'fan_in' or 'fan_out'")
    fan = _fans(tensor)[0 if mode == "fan_in" else 1]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))  # an empty weight has nothing to fill
