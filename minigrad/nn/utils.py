"""What training does to gradients between `backward()` and `step()`. Names as in torch.nn.utils."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .. import kernels
from ..core import Array, GradError, writes
from ..flat import joined
from ..tensor import Tensor


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients by one factor, so that the norm of all of them together is at most `max_norm`.

    g <- g min(1, max_norm / (|g| + 1e-6))   (Pascanu et al. 2013): the direction stays, only the length changes.
    Returns |g| as it was before, 0-d. `norm_type` may be `math.inf`. Where |g| is not finite, so are the scaled
    gradients; with `error_if_nonfinite` that is a GradError, and the gradients are left as they are.

    >>> from minigrad import tensor
    >>> x = tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> clip_grad_norm_(x, max_norm=1.0)
    tensor(10.)
    >>> [round(g, 3) for g in x.grad.tolist()]
    [0.6, 0.8]
    """
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    gradients = [tensor.grad.data for tensor in tensors if tensor.grad is not None]
    pieces = joined(gradients)
    with np.errstate(all="ignore"):
        total = _norm(pieces, norm_type)
    if error_if_nonfinite and not math.isfinite(total):
        raise GradError(f"clip_grad_norm_(): the norm of the gradients is {total}. Look for the op that made it so.")
    factor = max_norm / (total + 1e-6)
    if not factor >= 1:  # so written, a NaN spreads to all parameters, and is seen
        for piece in pieces if math.isfinite(factor) else gradients:  # NaN must not get between the gradients
            kernels.rescale(piece, factor)
        writes.stamp(*gradients)
    return Tensor(total, dtype=gradients[0].dtype if gradients else None)


def _norm(arrays: list[Array], p: float) -> float:
    """(sum |x|^p)^(1/p) over all elements of all arrays, in float64 so that squares do not overflow."""
    if p == math.inf:
        return max([float(np.abs(a).max(initial=0)) for a in arrays], default=0.0)
    if p == 2:
        return math.sqrt(sum([kernels.sum_of_squares(a) for a in arrays]))
    return sum([float(np.power(np.abs(a), p, dtype=np.float64).sum()) for a in arrays]) ** (1 / p)
