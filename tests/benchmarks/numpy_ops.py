"""Products in NumPy, which leaves them to OpenBLAS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .cases import normal


def job(op: str, a: Sequence[int], b: Sequence[int], transposed: str = "") -> Callable[[], Any]:
    """See `ours_ops.product`."""
    assert op == "product"
    x, y = normal(*a), normal(*b)
    x, y = x.mT if "a" in transposed else x, y.mT if "b" in transposed else y
    out = np.empty((*x.shape[:-1], y.shape[-1]), np.float32)
    return lambda: np.matmul(x, y, out=out)
