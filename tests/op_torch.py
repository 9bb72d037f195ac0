"""What each op is called in PyTorch, for the same arguments. `torch` is passed in, since only the oracle imports it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.random import keep

TORCH: dict[str, Callable[..., Any]] = {}


def same_name(*names: str) -> None:
    """Ops that PyTorch has under the same name, with settings of the same names."""
    for name in names:
        TORCH[name] = lambda torch, *inputs, _name=name, **settings: getattr(torch, _name)(*inputs, **settings)


def reduction(*names: str) -> None:
    """Ops that PyTorch has too, where some of them want to be told all dimensions by number."""

    def call(name: str, torch, x, dim=None, **settings):
        return getattr(torch, name)(x, dim=tuple(range(x.ndim)) if dim is None or dim == () else dim, **settings)

    for name in names:
        TORCH[name] = lambda torch, *inputs, _name=name, **settings: call(_name, torch, *inputs, **settings)


def as_torch(function: Callable) -> Callable:
    TORCH[function.__name__] = function
    return function


same_name(
    "add", "sub", "mul", "div", "neg", "pow", "exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "erf", "relu"
)
same_name("abs", "maximum", "minimum", "clamp", "where", "masked_fill", "eq", "ne", "lt", "le", "gt", "ge")
same_name(
    "floor_divide",
    "remainder",
    "isfinite",
    "argmax",
    "argmin",
    "reshape",
    "permute",
    "transpose",
    "squeeze",
    "unsqueeze",
    "flip",
    "tril",
    "triu",
)
same_name("clone", "matmul")
reduction("sum", "mean", "var", "std", "amax", "amin", "all", "any", "logsumexp")
TORCH |= {
    "softmax": lambda torch, x, dim=-1: torch.softmax(x, dim=dim),
    "log_softmax": lambda torch, x, dim=-1: torch.log_softmax(x, dim=dim),
    "gelu": lambda torch, x: torch.nn.functional.gelu(x),
    "logical_and": lambda torch, a, b: a & b,
    "logical_or": lambda torch, a, b: a | b,
    "logical_xor": lambda torch, a, b: a ^ b,
    "logical_not": lambda torch, a: ~a,
    "view": lambda torch, x, shape: x.view(shape),
    "split_heads": lambda torch, x, heads: x.unflatten(-1, (heads, -1)).transpose(-3, -2),
    "join_heads": lambda torch, z: z.transpose(-3, -2).flatten(-2),
    "expand": lambda torch, x, shape: x.expand(shape),
    "cat": lambda torch, *xs, dim=0: torch.cat(xs, dim=dim),
    "stack": lambda torch, *xs, dim=0: torch.stack(xs, dim=dim),
    "roll": lambda torch, x, shifts, dim: torch.roll(x, shifts, dim),
    "pad": lambda torch, x, pad, value=0.0: torch.nn.functional.pad(x, pad, value=value),
    "contiguous": lambda torch, x: x.contiguous(),
    "alias": lambda torch, x: x.view_as(x),
    "cast": lambda torch, x, dtype: x.type(getattr(torch, np.dtype(dtype).name)),
    "gather": lambda torch, x, index, dim: torch.gather(x, dim, index.long()),
    "scatter": lambda torch, x, index, value, dim: torch.scatter(x, dim, index.long(), value.expand(index.shape)),
    "linear": lambda torch, *inputs: torch.nn.functional.linear(*inputs),
}


@as_torch
def index(torch, x, index):
    return x[_index(torch, index)]


@as_torch
def index_put(torch, x, value, index):
    y = x.clone()
    y[_index(torch, index)] = value
    return y


def _index(torch, index):
    """NumPy's index for PyTorch."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(torch.as_tensor(np.asarray(p)) if isinstance(p, np.ndarray | list | tuple) else p for p in parts)


@as_torch
def embedding(torch, indices, weight, padding_idx=None):
    return torch.nn.functional.embedding(indices.long(), weight, padding_idx)


@as_torch
def embed_tokens(torch, ids, weight, positions=None, scale=1.0, padding_idx=None, p=0.0, seed=None):
    """PyTorch has no such function; its bits of dropout are others."""
    y = scale * torch.nn.functional.embedding(ids.long(), weight, padding_idx)
    y = y if positions is None else y + positions
    return y * torch.as_tensor(keep(y.shape, p, seed) / (1 - p)) if 0 < p < 1 else (1 - p) * y


@as_torch
def masked_softmax(torch, x, mask, dim=-1):
    """PyTorch has it inside of its attention only, where a row without a legal key is 0."""
    return torch.nan_to_num(torch.softmax(x.masked_fill(~mask, -torch.inf), dim=dim))


@as_torch
def layer_norm(torch, x, weight=None, bias=None, eps=1e-5):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps)


@as_torch
def add_layer_norm(torch, x, branch, weight=None, bias=None, eps=1e-5, p=0.0, seed=0):
    return layer_norm(torch, x + with_our_bits(torch, branch, p, seed), weight, bias, eps)


@as_torch
def bias_activation(torch, x, bias=None, activation="relu", p=0.0, seed=0):
    gelu = torch.nn.functional.gelu
    functions = {"relu": torch.relu, "gelu": gelu, "gelu_tanh": lambda x: gelu(x, approximate="tanh")}
    return with_our_bits(torch, functions.get(activation, torch.clone)(x if bias is None else x + bias), p, seed)


def with_our_bits(torch, x, p, seed):
    """Dropout of PyTorch's, but for the choice of what to keep."""
    return x if p == 0 else x * torch.tensor(keep(tuple(x.shape), p, seed)) / (1 - p if p < 1 else 1)


@as_torch
def cross_entropy(torch, logits, target, **settings):
    """PyTorch has the classes in dimension 1."""
    flat = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), target.long().reshape(-1), **settings
    )
    return flat.reshape(target.shape) if settings.get("reduction") == "none" else flat


@as_torch
def scaled_dot_product_attention(
    torch, q, k, v, mask=None, bias=None, scale=None, dropout_p=0.0, seed=None, causal=False
):
    """PyTorch takes one mask, to which a bias is added as numbers."""
    legal = torch.ones((*q.shape[:-1], k.shape[-2]), dtype=torch.bool) if mask is None else mask
    if causal:
        legal = legal & torch.ones(legal.shape[-2:], dtype=torch.bool).tril()
    numbers = torch.zeros(legal.shape, dtype=q.dtype).masked_fill(~legal, -torch.inf) + (0 if bias is None else bias)
    if dropout_p:
        return None
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=numbers, scale=scale)


@as_torch
def multi_head_attention(
    torch, x, w_q, w_k, w_v, w_o, b_q=None, b_k=None, b_v=None, b_o=None, memory=None, mask=None, heads=1, **settings
):
    """PyTorch's wants inputs and results of one size."""
    linear, memory = torch.nn.functional.linear, x if memory is None else memory
    pairs = (x, w_q, b_q), (memory, w_k, b_k), (memory, w_v, b_v)
    q, k, v = (linear(a, w, b).unflatten(-1, (heads, len(w) // heads)).transpose(1, 2) for a, w, b in pairs)
    z = scaled_dot_product_attention(torch, q, k, v, mask, **settings)
    return None if z is None else linear(z.transpose(1, 2).flatten(2), w_o, b_o)


@as_torch
def feed_forward(torch, x, w_1, w_2, b_1=None, b_2=None, **settings):
    linear = torch.nn.functional.linear
    return linear(bias_activation(torch, linear(x, w_1), b_1, **settings), w_2, b_2)


@as_torch
def gru(torch, x, h, weight, bias=None, mask=None, reverse=False):
    """PyTorch's cell, one step after the other; the identity takes the place of its weight of the input."""
    eye, zero = torch.eye(x.shape[-1], dtype=x.dtype), None if bias is None else torch.zeros_like(bias)
    states = []
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        new = torch.gru_cell(x[t], h, eye, weight, zero, bias)
        h = new if mask is None else torch.where(mask[t, :, None], new, h)
        states.append(h)
    return torch.stack(states[::-1] if reverse else states)
