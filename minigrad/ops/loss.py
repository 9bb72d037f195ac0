"""Cross-entropy."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..arguments import unwrap
from ..checks import require, require_whole
from ..core import Array, DTypeError, is_grad_enabled
from ..dtypes import floating
from ..op import op
from .arithmetic import add, div, masked_fill, mul, neg
from .index import gather
from .reduce import mean, sum
from .shape import squeeze
from .softmax import log_softmax


def cross_entropy_definition(
    logits: Any, target: Any, *, ignore_index: int = -100, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Any:
    """-(1 - e) log p_target - e mean_v log p_v, averaged over the targets that are not ignored"""
    target = unwrap(target)
    ignored = target == ignore_index
    log_p = log_softmax(logits)  # (..., V)
    chosen = squeeze(gather(log_p, np.where(ignored, 0, target)[..., None], dim=-1), dim=-1)
    loss = neg(chosen)
    if label_smoothing > 0:  # else the mean does not count, not even where some log p is -inf
        loss = add(mul(loss, 1 - label_smoothing), mul(neg(mean(log_p, dim=-1)), label_smoothing))
    loss = masked_fill(loss, ignored, value=0.0)
    if reduction == "none":
        return loss
    return sum(loss) if reduction == "sum" else div(sum(loss), int((~ignored).sum()))


@op(definition=cross_entropy_definition)
def cross_entropy(
    logits: Array, target: Array, *, ignore_index: int = -100, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Any:
    """L = -sum_v t_v ln p_v with p = softmax(logits), t = (1 - e) onehot(target) + e / V (Szegedy et al. 2016).

    dL/dlogits = g (p - t), and 0 where the target is `ignore_index`. The mean is over the targets that count; if there
    are none it is NaN. Shapes: logits (..., V), target (...) integer; L () or, with reduction "none", (...).
    Kept for the way back: dL/dlogits for g = 1, computed on the way forward if gradients are enabled.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"cross_entropy(): reduction = {reduction!r}; it must be 'mean', 'sum' or 'none'")
    require_whole("cross_entropy", "ignore_index", ignore_index)
    if target.dtype.kind not in "iu":
        raise DTypeError(f"cross_entropy(): the target has dtype {target.dtype}; class indices are integers")
    require(
        logits.ndim > 0 and logits.shape[:-1] == target.shape,
        "cross_entropy(): the logits have shape {}, the target has shape {}; they must be (..., V) and (...)",
        logits,
        target,
    )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy(): label_smoothing = {label_smoothing}; it lies in [0, 1]")
    logits, classes, shape = floating(logits), logits.shape[-1], logits.shape
    n, wrong = kernels.count_indices(target, classes, ignore_index)
    if wrong:
        bad = target[(target != ignore_index) & ((target < 0) | (target >= classes))]
        raise IndexError(f"cross_entropy(): target {bad[0]} is not one of the {classes} classes 0..{classes - 1}")
    scale = 1 / n if n and reduction == "mean" else 1.0
    rows = logits.reshape(target.size, classes), target.reshape(-1)
    loss, d = kernels.cross_entropy(*rows, ignore_index, label_smoothing, scale, is_grad_enabled())
    if reduction == "none":
        loss = loss.reshape(target.shape)
    else:
        loss = loss.sum() / logits.dtype.type(n if reduction == "mean" else 1)
    if d is None:
        return loss, None
    d = d.reshape(shape)

    def product(g: Array) -> Array:
        if g.ndim == 0 and g == 1:  # the end of the graph, as a rule
            return d
        return d * np.where(target == ignore_index, g.dtype.type(0), g)[..., None]

    return loss, (product, None)
