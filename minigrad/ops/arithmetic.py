"""Element by element: the table of derivatives. Arguments of different shapes broadcast, as in NumPy.

PyTorch's conventions where a derivative does not exist: relu and abs have slope 0 at 0, clamp has slope 1 at its
bounds, and a tie in maximum or minimum is shared in halves. Division by zero and logarithms of zero give inf and NaN
without a warning.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import kernels
from ..checks import require
from ..core import Array, DTypeError, is_grad_enabled
from ..dtypes import floating, promote
from ..op import op


@op
def add(a: Array, b: Array) -> Any:
    """c = a + b.   dL/da = g,  dL/db = g   (g = dL/dc, here and below)"""
    a, b = promote(a, b)
    return a + b, (lambda g: g, lambda g: g)


@op
def sub(a: Array, b: Array) -> Any:
    """c = a - b.   dL/da = g,  dL/db = -g"""
    a, b = promote(a, b)
    require(
        a.dtype != bool, "sub(): a and b are boolean; use a ^ b, or convert one with .float() first", error=DTypeError
    )
    return a - b, (lambda g: g, lambda g: -g)


@op
def mul(a: Array, b: Array) -> Any:
    """c = a b.   dL/da = g b,  dL/db = g a"""
    a, b = promote(a, b)
    return a * b, (lambda g: g * b, lambda g: g * a)


@op
def div(a: Array, b: Array) -> Any:
    """c = a / b.   dL/da = g / b,  dL/db = -g a / b^2.   Integers divide to float32."""
    a, b = promote(a, b, floating=True)
    c = a / b
    return c, (lambda g: g / b, lambda g: -g * c / b)


@op
def remainder(a: Array, b: Array) -> Any:
    """c = a - b floor(a / b), which has the sign of b.   dL/da = g,  dL/db = -g floor(a / b)"""
    a, b = promote(a, b)
    _check_divisor("remainder", b)
    return np.remainder(a, b), (lambda g: g, lambda g: -g * np.floor_divide(a, b))


def _check_divisor(name: str, b: Array) -> None:
    if b.dtype.kind != "f" and not b.all():
        raise ZeroDivisionError(f"{name}(): a whole number is divided by 0; there is no infinity among whole numbers")


@op
def neg(a: Array) -> Any:
    """c = -a.   dL/da = -g"""
    require(a.dtype != bool, "neg(): a is boolean; use ~a, or convert it with .float() first", error=DTypeError)
    return -a, lambda g: -g


@op
def pow(a: Array, b: Array) -> Any:
    """c = a^b.   dL/da = g b a^(b-1)  (0 where b = 0),  dL/db = g a^b ln a  (0 where a = 0 and b > 0)

    A negative a with a whole b is real: (-8)^3 has the slope 192.
    """
    a, b = promote(a, b)
    c = np.power(a, b)
    return c, (
        lambda g: g * np.where(b == 0, 0, b * np.power(a, np.where(b == 0, 1, b - 1))),
        lambda g: g * np.where((a == 0) & (b >= 0), 0, c * np.log(a)),
    )


@op
def exp(x: Array) -> Any:
    """y = e^x.   dL/dx = g y"""
    y = np.asarray(np.exp(floating(x)))
    return y, lambda g: g * y


@op
def log(x: Array) -> Any:
    """y = ln x.   dL/dx = g / x"""
    y = np.log(floating(x))
    return y, lambda g: g / x


@op
def sqrt(x: Array) -> Any:
    """y = sqrt(x).   dL/dx = g / (2 y),  infinite at 0"""
    y = np.asarray(np.sqrt(floating(x)))
    return y, lambda g: g / (2 * y)


@op
def sin(x: Array) -> Any:
    """y = sin x.   dL/dx = g cos x"""
    return np.sin(floating(x)), lambda g: g * np.cos(x)


@op
def cos(x: Array) -> Any:
    """y = cos x.   dL/dx = -g sin x"""
    return np.cos(floating(x)), lambda g: -g * np.sin(x)


@op
def tanh(x: Array) -> Any:
    """y = tanh x.   dL/dx = g (1 - y^2)"""
    y = np.asarray(np.tanh(floating(x)))
    return y, lambda g: g * (1 - y * y)


@op
def sigmoid(x: Array) -> Any:
    """y = 1 / (1 + e^-x), for x < 0 as e^x / (1 + e^x), so that nothing overflows.   dL/dx = g y (1 - y)"""
    x = floating(x)
    e = np.exp(-np.abs(x))
    y = np.asarray(np.where(x < 0, e, 1) / (1 + e), x.dtype)
    return y, lambda g: g * y * (1 - y)


@op
def erf(x: Array) -> Any:
    """y = 2/sqrt(pi) int_0^x e^(-t^2) dt.   dL/dx = g 2/sqrt(pi) e^(-x^2)"""
    return kernels.erf(floating(x)), lambda g: g * (2 / math.sqrt(math.pi)) * np.exp(-x * x)


@op
def relu(x: Array) -> Any:
    """y = max(x, 0).   dL/dx = g where x > 0, else 0"""
    y = np.asarray(np.maximum(x, 0))
    return y, lambda g: g * (y > 0)


def gelu_definition(x: Any) -> Any:
    """x Phi(x) = x/2 (1 + erf(x / sqrt 2))"""
    return mul(mul(x, 0.5), add(erf(mul(x, 1 / math.sqrt(2))), 1.0))


@op(definition=gelu_definition)
def gelu(x: Array) -> Any:
    """y = x Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016).

    dL/dx = g (Phi(x) + x phi(x)),  phi(x) = e^(-x^2/2) / sqrt(2 pi)
    """
    x = floating(x)
    y, slope = kernels.bias_activation(x, None, "gelu", 0.0, 0, is_grad_enabled())
    return y, lambda g: kernels.bias_activation_vjp(slope, None, "gelu", 0.0, 0, g)[0]


@op
def abs(x: Array) -> Any:
    """y = |x|.   dL/dx = g sign(x)"""
    return np.abs(x), lambda g: g * np.sign(x)


@op
def maximum(a: Array, b: Array) -> Any:
    """c = max(a, b).   The larger one gets g; a tie is shared in halves."""
    a, b = promote(a, b)
    return np.maximum(a, b), (lambda g: g * _share(a, b), lambda g: g * _share(b, a))


@op
def minimum(a: Array, b: Array) -> Any:
    """c = min(a, b).   The smaller one gets g; a tie is shared in halves."""
    a, b = promote(a, b)
    return np.minimum(a, b), (lambda g: g * _share(b, a), lambda g: g * _share(a, b))


def _share(winner: Array, loser: Array) -> Array:
    """1 where winner > loser, 1/2 where they are equal, 0 elsewhere."""
    return ((winner > loser) + 0.5 * (winner == loser)).astype(winner.dtype)


@op
def clamp(x: Array, *, min: float | None = None, max: float | None = None) -> Any:
    """y = x held between min and max, either of which may be absent.   dL/dx = g where min <= x <= max, else 0"""
    require(min is not None or max is not None, "clamp(): give min, max or both", error=ValueError)
    y = np.clip(x, min, max)
    return y, lambda g: g * (x == y)


@op
def where(condition: Array, a: Array, b: Array) -> Any:
    """c = a where condition, else b.   dL/da = g where condition, dL/db = g elsewhere, 0 otherwise.

    A NaN or inf slope in the branch that was not taken still gives NaN (0 inf): put a safe value into that branch too.
    """
    require(condition.dtype == bool, "where(): the condition is not boolean; compare first: x != 0", error=DTypeError)
    a, b = promote(a, b)
    return np.where(condition, a, b), (None, lambda g: g * condition, lambda g: g * ~condition)


@op
def masked_fill(x: Array, mask: Array, *, value: float) -> Any:
    """y = value where mask, else x.   dL/dx = 0 where mask, else g"""
    require(mask.dtype == bool, "masked_fill(): the mask is not boolean; compare first: m == 0", error=DTypeError)
    y = np.where(mask, np.asarray(value, x.dtype), x)
    return y, (lambda g: np.where(mask, 0, g), None)


# ------------------------------------------------------------------------------------------------- without a gradient
@op
def eq(a: Array, b: Array) -> Any:
    """a = b, element by element; no gradient"""
    return np.equal(*promote(a, b)), None


@op
def ne(a: Array, b: Array) -> Any:
    """a != b, element by element; no gradient"""
    return np.not_equal(*promote(a, b)), None


@op
def lt(a: Array, b: Array) -> Any:
    """a < b, element by element; no gradient"""
    return np.less(*promote(a, b)), None


@op
def le(a: Array, b: Array) -> Any:
    """a <= b, element by element; no gradient"""
    return np.less_equal(*promote(a, b)), None


@op
def gt(a: Array, b: Array) -> Any:
    """a > b, element by element; no gradient"""
    return np.greater(*promote(a, b)), None


@op
def ge(a: Array, b: Array) -> Any:
    """a >= b, element by element; no gradient"""
    return np.greater_equal(*promote(a, b)), None


@op
def logical_and(a: Array, b: Array) -> Any:
    """a and b, bit by bit for integers; no gradient"""
    return np.bitwise_and(*_bits("logical_and", a, b)), None


@op
def logical_or(a: Array, b: Array) -> Any:
    """a or b, bit by bit for integers; no gradient"""
    return np.bitwise_or(*_bits("logical_or", a, b)), None


@op
def logical_xor(a: Array, b: Array) -> Any:
    """a or b but not both, bit by bit for integers; no gradient"""
    return np.bitwise_xor(*_bits("logical_xor", a, b)), None


@op
def logical_not(a: Array) -> Any:
    """not a, bit by bit for integers; no gradient"""
    return np.invert(*_bits("logical_not", a)), None


def _bits(name: str, *arrays: Array) -> tuple[Array, ...]:
    for a in arrays:
        message = f"{name}(): the dtype is {a.dtype}; it must be boolean or integer. Compare first: x > 0."
        require(a.dtype.kind in "biu", message, error=DTypeError)
    return promote(*arrays)


@op
def floor_divide(a: Array, b: Array) -> Any:
    """The largest whole number <= a / b; no gradient"""
    a, b = promote(a, b)
    _check_divisor("floor_divide", b)
    return np.floor_divide(a, b), None


@op
def isfinite(x: Array) -> Any:
    """Whether x is neither infinite nor NaN; no gradient"""
    return np.isfinite(x), None
