"""The gated recurrent unit: one op for all steps of a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..checks import require
from ..core import Array
from ..dtypes import promote
from ..op import op
from .arithmetic import add, mul, sigmoid, sub, tanh, where
from .index import index
from .matmul import linear
from .several import split
from .shape import stack, unsqueeze


def gru_definition(x: Any, h: Any, weight: Any, bias: Any = None, mask: Any = None, *, reverse: bool = False) -> Any:
    """One step after the other"""
    sizes, states = [h.shape[-1]] * 3, []
    for t in range(len(x))[::-1] if reverse else range(len(x)):
        x_r, x_z, x_n = split(index(x, index=t), sizes, dim=-1)
        h_r, h_z, h_n = split(linear(h, weight, bias), sizes, dim=-1)
        r, z = sigmoid(add(x_r, h_r)), sigmoid(add(x_z, h_z))
        if mask is not None:
            z = where(unsqueeze(index(mask, index=t), dim=-1), z, 1.0)
        n = tanh(add(x_n, mul(r, h_n)))
        h = add(mul(sub(1.0, z), n), mul(z, h))
        states.append(h)
    return stack(*(states[::-1] if reverse else states))


@op(definition=gru_definition)
def gru(
    x: Array, h: Array, weight: Array, bias: Array | None = None, mask: Array | None = None, *, reverse: bool = False
) -> Any:
    """h_t = (1 - z) n + z h,  h = h_(t-1)                            (Cho et al. 2014, with PyTorch's reset after W).

    With u = h W^T + b, and x and u cut into three:   r = sigmoid(x_r + u_r),  z = sigmoid(x_z + u_z),
    n = tanh(x_n + r u_n). So x is what the input contributes, W_i input + b_i, made for all steps in one product.

    With d = dL/dh_t, that of the result and that of the step after:   dL/dx_n = d (1 - z) (1 - n^2),
    dL/dx_z = d (h - n) z (1 - z),  dL/dx_r = dL/dx_n u_n r (1 - r);   dL/du = dL/dx, but r dL/dx_n for n;
    dL/dh = d z + dL/du W;   dL/dW = dL/du^T h and dL/db = dL/du, summed over all steps.

    Where the mask is False z is 1: the state stays what it was. `reverse` goes from the last step to the first.
    Shapes: x (T, B, 3H), h (B, H), W (3H, H), b (3H) or None, mask boolean (T, B) or None; the result, h_t for every t,
    (T, B, H). Kept: the states, r, z, n and u_n.
    """
    _check(x, h, weight, bias, mask)
    if bias is None:
        x, h, weight = promote(x, h, weight, floating=True)
    else:
        x, h, weight, bias = promote(x, h, weight, bias, floating=True)
    (T, B, _), H = x.shape, h.shape[1]
    states = kernels.empty((T + 1, B, H), x.dtype)
    before, after = (states[1:], states[:-1]) if reverse else (states[:-1], states[1:])
    order = range(T)[::-1] if reverse else range(T)
    states[T if reverse else 0] = h
    gates, inner = kernels.empty((T, B, 3 * H), x.dtype), kernels.empty((T, B, H), x.dtype)
    for t in order:
        u, gate, h = kernels.linear(before[t], weight, bias), gates[t], before[t]
        gate[:, : 2 * H] = _sigmoid(x[t, :, : 2 * H] + u[:, : 2 * H])
        r, z, n = _three(gate)
        inner[t] = u[:, 2 * H :]
        np.tanh(x[t, :, 2 * H :] + r * inner[t], out=n)
        if mask is not None:  # whatever x holds there, be it NaN
            r[~mask[t]], z[~mask[t]], n[~mask[t]] = 0, 1, 0
        after[t] = (1 - z) * n + z * h

    def products(g: Array) -> tuple[Array | None, ...]:
        dx, du = kernels.empty(gates.shape, gates.dtype), kernels.empty(gates.shape, gates.dtype)
        later = np.zeros((B, H), gates.dtype)
        for t in order[::-1]:
            d, (r, z, n) = g[t] + later, _three(gates[t])
            dr, dz, dn = _three(dx[t])
            np.multiply(d * (1 - z), 1 - n * n, out=dn)
            np.multiply(d * (before[t] - n), z * (1 - z), out=dz)
            np.multiply(dn * inner[t], r * (1 - r), out=dr)
            du[t] = dx[t]
            du[t, :, 2 * H :] *= r
            later = d * z + kernels.matmul(du[t], weight)
        rows = du.reshape(T * B, 3 * H)
        dw = kernels.matmul(rows.T, before.reshape(T * B, H))
        return dx, later, dw, None if bias is None else kernels.column_sums(rows), None

    return after, products


def _three(gates: Array) -> tuple[Array, Array, Array]:
    """Views of r, z and n, (..., H) each, in (..., 3H)."""
    H = gates.shape[-1] // 3
    return gates[..., :H], gates[..., H : 2 * H], gates[..., 2 * H :]


def _sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x) as (1 + tanh(x/2)) / 2, which is quick and cannot overflow."""
    return np.tanh(x * x.dtype.type(0.5)) * x.dtype.type(0.5) + x.dtype.type(0.5)


def _check(x: Array, h: Array, weight: Array, bias: Array | None, mask: Array | None) -> None:
    require(
        x.ndim == 3 and h.ndim == 2 and x.shape[1:] == (h.shape[0], 3 * h.shape[1]) and len(x) > 0,
        "gru(): x has shape {}, h {}; they must be (T, B, 3H) and (B, H), T at least 1",
        x,
        h,
    )
    H = h.shape[1]
    require(
        weight.shape == (3 * H, H) and (bias is None or bias.shape == (3 * H,)),
        "gru(): h has shape {}, the weight {}, the bias {}; they must be (B, H), (3H, H) and (3H)",
        h,
        weight,
        bias,
    )
    if mask is not None:
        require(
            mask.dtype == bool and mask.shape == x.shape[:2],
            f"gru(): x has shape {{}}, the mask {{}}, dtype {mask.dtype}; it must be boolean, (T, B), True = a step",
            x,
            mask,
        )
