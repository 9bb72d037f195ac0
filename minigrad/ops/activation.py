"""What comes between two linear layers: bias, activation and dropout as one op."""

from __future__ import annotations

import math
from typing import Any

from .. import kernels
from ..checks import require, require_float
from ..core import Array, is_grad_enabled
from ..op import op
from .arithmetic import add, gelu, mul, relu, tanh
from .norm import check_dropout, dropout


def gelu_tanh_definition(x: Any) -> Any:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))"""
    inner = mul(add(x, mul(mul(mul(x, x), x), 0.044715)), math.sqrt(2 / math.pi))
    return mul(mul(x, 0.5), add(tanh(inner), 1.0))


ACTIVATIONS = {"relu": relu, "gelu": gelu, "gelu_tanh": gelu_tanh_definition, "none": lambda x: x}


def bias_activation_definition(
    x: Any, bias: Any = None, *, activation: str = "relu", p: float = 0.0, seed: int | None = None
) -> Any:
    """dropout(activation(x + bias))"""
    y = ACTIVATIONS[activation](x if bias is None else add(x, bias))
    return y if p == 0 else dropout(y, p=p, seed=seed)


@op(definition=bias_activation_definition)
def bias_activation(
    x: Array, bias: Array | None = None, *, activation: str = "relu", p: float = 0.0, seed: int | None = None
) -> Any:
    """y = dropout(a(x + b)), a one of "relu", "gelu", "gelu_tanh" (its estimate, see `functional.gelu`), or "none".

    dL/dx = g keep / (1 - p) a'(x + b),   dL/db the same, summed over rows.
    Kept for the way back: of ReLU the result, which is positive where x + b was and dropout kept it; of GELU a'(x + b).
    Without dropout (p = 0) no seed is needed. Shapes: x (..., D), or any without a bias; b (D) or None.
    """
    require_float("bias_activation", x)
    if bias is not None and (x.ndim == 0 or bias.shape != x.shape[-1:]):
        require(False, "bias_activation(): a has shape {}, the bias {}; it must be (D,)", x, bias)
    check_activation("bias_activation", activation)
    seed = check_dropout("bias_activation", p, seed)
    y, saved = kernels.bias_activation(x, bias, activation, p, seed, is_grad_enabled())
    return y, lambda g: kernels.bias_activation_vjp(saved, bias, activation, p, seed, g)


def check_activation(name: str, activation: str) -> None:
    """Raise unless there is an activation of this name."""
    if activation not in ACTIVATIONS:
        names = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"{name}(): activation = {activation!r}; it must be one of {names}")
