"""Softmax and its relatives: scores into probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..arguments import unwrap
from ..checks import axis, require
from ..core import Array, DTypeError
from ..dtypes import floating
from ..op import op
from .arithmetic import div, exp, masked_fill, mul, sub, where
from .reduce import all as all_
from .reduce import amax, logsumexp, sum


def softmax_definition(x: Any, *, dim: int = -1) -> Any:
    """exp(x - max x) / sum(exp(x - max x)): subtracting the maximum changes nothing but the overflow"""
    if 0 in np.shape(x):
        return exp(x)  # of no scores, no probabilities
    e = exp(sub(x, amax(x, dim=dim, keepdim=True)))
    return div(e, sum(e, dim=dim, keepdim=True))


@op(definition=softmax_definition)
def softmax(x: Array, *, dim: int = -1) -> Any:
    """y_i = e^(x_i) / sum_j e^(x_j).   dL/dx_i = y_i (g_i - sum_j g_j y_j)

    The Jacobian is diag(y) - y y^T: it vanishes where y is close to one-hot, and a constant gradient is lost whole.
    A row of -inf only is NaN, as in PyTorch; for such rows use `masked_softmax`.
    """
    x, dim = floating(x), axis("softmax", x, dim)
    y = kernels.softmax(x, dim)
    return y, lambda g: kernels.softmax_vjp(y, g, dim)


def log_softmax_definition(x: Any, *, dim: int = -1) -> Any:
    """x - logsumexp(x)"""
    return sub(x, logsumexp(x, dim=dim, keepdim=True))


@op(definition=log_softmax_definition)
def log_softmax(x: Array, *, dim: int = -1) -> Any:
    """y_i = x_i - ln sum_j e^(x_j).   dL/dx_i = g_i - e^(y_i) sum_j g_j"""
    x, dim = floating(x), axis("log_softmax", x, dim)
    y = kernels.log_softmax(x, dim)
    return y, lambda g: kernels.log_softmax_vjp(y, g, dim)


def masked_softmax_definition(x: Any, mask: Any, *, dim: int = -1, scale: float = 1.0) -> Any:
    """softmax over the legal scores: the others become -inf; a row without a legal score is set to 0"""
    x = x if scale == 1 else mul(x, scale)
    shut = np.broadcast_to(~unwrap(mask), np.broadcast_shapes(x.shape, mask.shape))
    empty = all_(shut, dim=dim, keepdim=True)
    legal = masked_fill(where(~shut, x, 0.0), shut & ~empty, value=-np.inf)
    return masked_fill(softmax_definition(legal, dim=dim), empty, value=0.0)


@op(definition=masked_softmax_definition)
def masked_softmax(x: Array, mask: Array, *, dim: int = -1, scale: float = 1.0) -> Any:
    """y_i = m_i e^(s x_i) / sum_j m_j e^(s x_j), m boolean, True = may attend.   dL/dx_i = s y_i (g_i - sum_j g_j y_j)

    The mask chooses, it is not a number added to the scores: what is masked is exactly 0 and so is its gradient,
    whatever its score. A row with nothing legal is 0 with gradient 0. Shapes: x (..., S), mask broadcasts to x.
    """
    if mask.dtype != bool:
        raise DTypeError(f"masked_softmax(): the mask has dtype {mask.dtype}; it must be boolean, True = may attend")
    x, dim = floating(x), axis("masked_softmax", x, dim)
    require(
        mask.ndim <= x.ndim and all(m in (1, n) for m, n in zip(mask.shape[::-1], x.shape[::-1], strict=False)),
        "masked_softmax(): a has shape {}, the mask has shape {}; the mask must broadcast to a",
        x,
        mask,
    )
    y = kernels.masked_softmax(x, mask, dim, scale)
    return y, (lambda g: kernels.softmax_vjp(y, g, dim, scale), None)
