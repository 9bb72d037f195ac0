"""Matrix products. One rule of the derivative serves them all: with C = A B, dL/dA = G B^T and dL/dB = A^T G."""

from __future__ import annotations

import math
from typing import Any

from .. import kernels
from ..checks import require
from ..core import Array
from ..dtypes import promote
from ..op import op
from .arithmetic import add
from .shape import transpose


@op
def matmul(a: Array, b: Array) -> Any:
    """c[..., i, j] = sum_k a[..., i, k] b[..., k, j]; leading dimensions broadcast.

    dL/da = g b^T,  dL/db = a^T g.   A 1-d a is a row, a 1-d b is a column; that dimension is dropped from the result.
    """
    a, b = promote(a, b)
    require(a.ndim > 0 and b.ndim > 0, "matmul(): a has shape {}, b has shape {}; for 0-d tensors use a * b.", a, b)
    row, column = a.ndim == 1, b.ndim == 1
    a2 = a[None, :] if row else a
    b2 = b[:, None] if column else b
    require(
        a2.shape[-1] == b2.shape[-2],
        "matmul(): a has shape {}, b has shape {}; the last size of a must equal the second to last of b. "
        "Try a transpose: a @ b.mT, or a.mT @ b.",
        a,
        b,
    )
    if b2.ndim == 2 and a2.ndim > 2:  # one matrix for the whole batch: its gradient is one product, not a sum of many
        c, products = _flat(a2, b2)
    else:
        require(
            _broadcast(a2, b2), "matmul(): a has shape {}, b has shape {}; the leading sizes do not broadcast.", a, b
        )
        c = kernels.matmul(a2, b2)
        products = (lambda g: kernels.matmul(g, b2.mT), lambda g: kernels.matmul(a2.mT, g))
    if not (row or column):
        return c, products
    shape = c.shape  # with the dimension of size 1 that the caller does not see
    da, db = products
    kept = (*shape[:-2], *([] if row else shape[-2:-1]), *([] if column else shape[-1:]))
    return c.reshape(kept), (
        lambda g: da(g.reshape(shape)),
        lambda g: db(g.reshape(shape))[..., 0] if column else db(g.reshape(shape)),
    )


def _flat(a: Array, b: Array) -> tuple[Array, tuple[Any, Any]]:
    """c = a b with a (..., K) as rows (R, K) and b (K, N)."""
    rows = a.reshape(_rows(a), a.shape[-1])  # (R, K)
    shape, flat = a.shape, (len(rows), b.shape[1])
    return kernels.matmul(rows, b).reshape(*a.shape[:-1], b.shape[1]), (
        lambda g: kernels.matmul(g.reshape(flat), b.T).reshape(shape),
        lambda g: kernels.matmul(rows.T, g.reshape(flat)),
    )


def _rows(a: Array) -> int:
    """How many rows `a` has as a matrix; reshape(-1) cannot tell where the rows are empty."""
    return math.prod(a.shape[:-1])


def _broadcast(a: Array, b: Array) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(a.shape[-3::-1], b.shape[-3::-1], strict=False))


def linear_definition(x: Any, weight: Any, bias: Any = None) -> Any:
    """x W^T + b"""
    y = matmul(x, transpose(weight, dim0=0, dim1=1))
    return y if bias is None else add(y, bias)


@op(definition=linear_definition)
def linear(x: Array, weight: Array, bias: Array | None = None) -> Any:
    """y = x W^T + b.   dL/dx = g W,  dL/dW = g^T x,  dL/db = g   (summed over the rows, as b is used in each).

    Shapes: x (..., I), W (O, I), b (O) or None, y (..., O).
    """
    require(weight.ndim == 2, "linear(): the weight has shape {}; it must be (O, I)", weight)
    require(
        x.shape[-1:] == weight.shape[1:],
        "linear(): x has shape {}, the weight has shape {}; the last sizes must be equal. "
        "Check the in_features of the layer.",
        x,
        weight,
    )
    fits = bias is None or bias.shape == weight.shape[:1]
    require(fits, "linear(): the weight has shape {}, the bias {}", weight, bias)
    x, weight, bias = promote(x, weight, bias)
    shape, flat = x.shape, (_rows(x), len(weight))
    rows = x.reshape(flat[0], shape[-1])  # (R, I)
    y = kernels.linear(rows, weight, bias)  # (R, O)
    return y.reshape(*shape[:-1], flat[1]), (
        lambda g: kernels.matmul(g.reshape(flat), weight).reshape(shape),
        lambda g: kernels.matmul(g.reshape(flat).T, rows),
        lambda g: kernels.column_sums(g.reshape(flat)),
    )
