"""Every op once more, one element at a time: slow, plain, and written without looking at the first version."""

import math
import operator
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.core import Array
from minigrad.random import keep


def elementwise(function: Callable) -> Callable[..., Array]:
    """A function of Python numbers, for arrays."""

    def statement(*arrays: Array, **settings: Any) -> Array:
        arrays = np.broadcast_arrays(*arrays)
        return np.array(
            [function(*(x[i].item() for x in arrays), **settings) for i in places(arrays[0].shape)]
        ).reshape(arrays[0].shape)

    return statement


def along(function: Callable[[list], Any], as_given: bool = False) -> Callable[..., Array]:
    """A function of a list of numbers, for reductions over dimensions."""

    def statement(x: Array, *, dim: Any = None, keepdim: bool = False, **settings: Any) -> Array:
        dims = range(x.ndim) if dim is None or dim == () else (dim,) if isinstance(dim, int) else dim
        dims = [d % x.ndim for d in dims]
        kept = [d for d in range(x.ndim) if d not in dims]
        rows = x.transpose(*kept, *dims).reshape(*(x.shape[d] for d in kept), math.prod(x.shape[d] for d in dims))
        values = np.array([function(rows[i].tolist(), **settings) for i in places(rows.shape[:-1])])
        return values.reshape([1 if d in dims else n for d, n in enumerate(x.shape) if keepdim or d not in dims])

    return statement


def rows(function: Callable[..., list]) -> Callable[..., Array]:
    """A function from a list of numbers to another of the same length, for every row along `dim`."""

    def statement(x: Array, *others: Array, dim: int = -1, **settings: Any) -> Array:
        if x.ndim == 0:
            return statement(x[None], *(o[None] for o in others), **settings)[0]
        moved = [np.moveaxis(np.broadcast_to(a, x.shape), dim, -1) for a in (x, *others)]
        y = np.zeros(moved[0].shape)
        for i in places(y.shape[:-1]):
            y[i] = function(*(a[i].tolist() for a in moved), **settings)
        return np.moveaxis(y, -1, dim)

    return statement


def places(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(np.ndindex(shape))


def build(shape: tuple[int, ...], element: Callable[..., Any]) -> Array:
    """The array whose element at i, j, ... is element(i, j, ...)."""
    return np.array([element(*i) for i in places(shape)]).reshape(shape)


def variance(row: list[float], correction: int = 1) -> float:
    mean = statistics.fmean(row)
    return math.fsum((x - mean) ** 2 for x in row) / (len(row) - correction)


def softmax(row: list[float]) -> list[float]:
    return [math.exp(x) / math.fsum(map(math.exp, row)) for x in row]


def masked_softmax(row: list[float], mask: list[bool]) -> list[float]:
    total = math.fsum(math.exp(x) for x, legal in zip(row, mask, strict=True) if legal)
    return [math.exp(x) / total if legal else 0.0 for x, legal in zip(row, mask, strict=True)]


def layer_norm(x: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float = 1e-5) -> Array:
    def row(values: list[float]) -> list[float]:
        mean, scale = statistics.fmean(values), math.sqrt(statistics.pvariance(values) + eps)
        return [(v - mean) / scale for v in values]

    return rows(row)(x) * (1 if weight is None else weight) + (0 if bias is None else bias)


def add_layer_norm(
    x: Array,
    branch: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    p: float = 0.0,
    seed: int = 0,
) -> Array:
    return layer_norm(x + dropout(branch, p=p, seed=seed), weight, bias, eps=eps)


def bias_activation(
    x: Array, bias: Array | None = None, *, activation: str = "relu", p: float = 0.0, seed: int = 0
) -> Array:
    def gelu_tanh(x: float) -> float:
        return x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    functions = {"gelu_tanh": elementwise(gelu_tanh), "none": elementwise(float)}
    function = functions.get(activation) or STATEMENTS[activation]
    return dropout(np.asarray(function(x if bias is None else x + bias), x.dtype), p=p, seed=seed)


def same_order(x: Array, shape: Any = None) -> Array:
    """The elements in the order of reading, in another shape."""
    y = np.empty([x.size // -math.prod(shape) if n == -1 else n for n in shape], x.dtype)
    for i, element in zip(places(y.shape), (x[i] for i in places(x.shape)), strict=True):
        y[i] = element
    return y


def permute(x: Array, *, dims: tuple[int, ...]) -> Array:
    y = np.empty([x.shape[d] for d in dims])
    for i in places(x.shape):
        y[tuple(i[d] for d in dims)] = x[i]
    return y


def transpose(x: Array, *, dim0: int, dim1: int) -> Array:
    order = list(range(x.ndim))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return permute(x, dims=tuple(order))


def split_heads(x: Array, *, heads: int) -> Array:
    size = x.shape[-1] // heads
    return build((*x.shape[:-2], heads, x.shape[-2], size), lambda *i: x[(*i[:-3], i[-2], i[-3] * size + i[-1])])


def join_heads(z: Array) -> Array:
    heads, length, size = z.shape[-3:]
    return build((*z.shape[:-3], length, heads * size), lambda *i: z[(*i[:-2], i[-1] // size, i[-2], i[-1] % size)])


def expand(x: Array, *, shape: tuple[int, ...]) -> Array:
    new = len(shape) - x.ndim
    full = tuple(x.shape[d - new] if n == -1 else n for d, n in enumerate(shape))
    return build(full, lambda *i: x[tuple(min(j, n - 1) for j, n in zip(i[new:], x.shape, strict=True))])


def squeeze(x: Array, *, dim: Any = None) -> Array:
    dims = range(x.ndim) if dim is None else [d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim)]
    return same_order(x, [n for d, n in enumerate(x.shape) if not (d in dims and n == 1)])


def unsqueeze(x: Array, *, dim: int) -> Array:
    shape = list(x.shape)
    shape.insert(dim if dim >= 0 else dim + x.ndim + 1, 1)
    return same_order(x, shape)


def cat(*xs: Array, dim: int = 0) -> Array:
    joined = [part for x in xs for part in np.moveaxis(x, dim, 0)]
    rest = np.moveaxis(xs[0], dim, 0).shape[1:]
    return np.moveaxis(np.array(joined).reshape(len(joined), *rest), 0, dim)


def stack(*xs: Array, dim: int = 0) -> Array:
    return np.moveaxis(np.array([x.tolist() for x in xs]).reshape(len(xs), *xs[0].shape), 0, dim)


def moved(x: Array, source: Callable[[int, int, int], int]) -> Array:
    """x[source(0, i_0, n_0), source(1, i_1, n_1), ...]"""
    return build(x.shape, lambda *i: x[tuple(source(d, j, n) for d, (j, n) in enumerate(zip(i, x.shape, strict=True)))])


def pad(x: Array, *, pad: tuple[int, ...], value: float = 0.0) -> Array:
    before = [0] * (x.ndim - len(pad) // 2) + list(pad[::2])[::-1]
    after = [0] * (x.ndim - len(pad) // 2) + list(pad[1::2])[::-1]

    def element(*i: int) -> float:
        source = [j - b for j, b in zip(i, before, strict=True)]
        inside = all(0 <= j < n for j, n in zip(source, x.shape, strict=True))
        return x[tuple(source)] if inside else value

    return build(tuple(b + n + a for b, n, a in zip(before, x.shape, after, strict=True)), element)


def triangle(keeps: Callable[[int], bool]) -> Callable[..., Array]:
    return lambda x, *, diagonal=0: build(x.shape, lambda *i: x[i] if keeps(i[-1] - i[-2] - diagonal) else 0.0)


def gather(x: Array, index: Array, *, dim: int) -> Array:
    return build(index.shape, lambda *i: x[replaced(i, dim, index[i])])


def scatter(x: Array, index: Array, value: Array, *, dim: int) -> Array:
    y = x.copy()
    for i in places(index.shape):
        y[replaced(i, dim, index[i])] = value[i] if value.ndim else value
    return y


def replaced(place: tuple[int, ...], dim: int, index: int) -> tuple[int, ...]:
    changed = list(place)
    changed[dim : dim + 1 or None] = [index]
    return tuple(changed) if place else ()


def index_put(x: Array, value: Array, *, index: Any) -> Array:
    """Number the elements: what is at `index` are the numbers of those that change."""
    y, chosen = x.copy().ravel(), np.arange(x.size).reshape(x.shape)[index]
    value = value.reshape(value.shape[-np.ndim(chosen) :] if np.ndim(chosen) else ())
    for number, element in zip(np.ravel(chosen), np.broadcast_to(value, np.shape(chosen)).ravel(), strict=True):
        y[number] = element
    return y.reshape(x.shape)


def embedding(indices: Array, weight: Array, *, padding_idx: int | None = None) -> Array:
    return build((*indices.shape, weight.shape[1]), lambda *i: weight[indices[i[:-1]], i[-1]])


def embed_tokens(
    ids: Array,
    weight: Array,
    positions: Array | None = None,
    *,
    scale: float = 1.0,
    padding_idx: int | None = None,
    p: float = 0.0,
    seed: int = 0,
) -> Array:
    shape = (*ids.shape, weight.shape[1])
    kept = keep(shape, p, seed) if p else np.ones(shape, bool)

    def element(*i: int) -> float:
        value = scale * weight[ids[i[:-1]], i[-1]] + (0 if positions is None else positions[i[-2:]])
        return value / (1 - p) if kept[i] else 0.0

    return build(shape, element)


def matmul(a: Array, b: Array) -> Array:
    rows, columns = "i" * (a.ndim > 1), "j" * (b.ndim > 1)
    return np.einsum(f"...{rows}k,...k{columns}->...{rows}{columns}", a, b)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    return np.einsum("...i,oi->...o", x, weight) + (0 if bias is None else bias)


def dropout(x: Array, *, p: float, seed: int) -> Array:
    return np.where(keep(x.shape, p, seed), x / (1 - p if p < 1 else 1), 0)


def cross_entropy(
    logits: Array, target: Array, *, ignore_index: int = -100, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Array:
    losses = np.zeros(target.shape)
    for i in places(target.shape):
        log_p = [math.log(p) for p in softmax(logits[i].tolist())]
        wanted = [(v == target[i]) * (1 - label_smoothing) + label_smoothing / len(log_p) for v in range(len(log_p))]
        losses[i] = -math.fsum(map(operator.mul, wanted, log_p)) if target[i] != ignore_index else 0.0
    if reduction == "none":
        return losses
    return losses.sum() / (np.count_nonzero(target != ignore_index) if reduction == "mean" else 1)


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    bias: Array | None = None,
    *,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int = 0,
    causal: bool = False,
) -> Array:
    """One query after the other."""
    shape = (*q.shape[:-1], k.shape[-2])
    k, v = (np.broadcast_to(x, (*q.shape[:-2], *x.shape[-2:])) for x in (k, v))
    mask = np.broadcast_to(True if mask is None else mask, shape)
    bias = np.broadcast_to(0.0 if bias is None else bias, shape)
    kept = keep(shape, dropout_p, seed) / (1 - dropout_p) if dropout_p else np.ones(shape)
    z = np.zeros((*q.shape[:-1], v.shape[-1]))
    for i in places(q.shape[:-1]):
        scores = k[i[:-1]] @ q[i] * (1 / math.sqrt(q.shape[-1]) if scale is None else scale) + bias[i]
        legal = mask[i] & (np.arange(shape[-1]) <= i[-1]) if causal else mask[i]
        z[i] = np.array(masked_softmax(scores.tolist(), legal.tolist())) * kept[i] @ v[i[:-1]]
    return z


def multi_head_attention(
    x: Array,
    w_q: Array,
    w_k: Array,
    w_v: Array,
    w_o: Array,
    b_q: Array | None = None,
    b_k: Array | None = None,
    b_v: Array | None = None,
    b_o: Array | None = None,
    memory: Array | None = None,
    mask: Array | None = None,
    *,
    heads: int,
    **settings: Any,
) -> Array:
    """One head after the other, each with its rows of the weights."""
    memory = x if memory is None else memory
    size = len(w_q) // heads

    def cut(x: Array, w: Array, b: Array | None) -> Array:
        y = linear(x, w, b)
        return np.stack([y[..., h * size : (h + 1) * size] for h in range(heads)], axis=1)

    z = attention(cut(x, w_q, b_q), cut(memory, w_k, b_k), cut(memory, w_v, b_v), mask, **settings)
    return linear(np.concatenate([z[:, h] for h in range(heads)], axis=-1), w_o, b_o)


def feed_forward(
    x: Array, w_1: Array, w_2: Array, b_1: Array | None = None, b_2: Array | None = None, **settings: Any
) -> Array:
    return linear(bias_activation(linear(x, w_1), b_1, **settings), w_2, b_2)


def gru(
    x: Array, h: Array, weight: Array, bias: Array | None = None, mask: Array | None = None, *, reverse: bool = False
) -> Array:
    """One number of one state after the other."""
    sigmoid, size = STATEMENTS["sigmoid"], h.shape[1]
    y = np.zeros((*x.shape[:2], size))
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        u, old = linear(h, weight, bias), h
        h = h.copy()
        for b, j in places(old.shape):
            r, z = (sigmoid(x[t, b, j + gate * size] + u[b, j + gate * size]) for gate in (0, 1))
            n = math.tanh(x[t, b, j + 2 * size] + r * u[b, j + 2 * size])
            if mask is None or mask[t, b]:
                h[b, j] = (1 - z) * n + z * old[b, j]
        y[t] = h
    return y


def flat_or_along(function: Callable[[list], int]) -> Callable[..., Array]:
    return along(lambda row: row.index(function(row)))


STATEMENTS: dict[str, Callable[..., Any]] = {
    "add": elementwise(operator.add),
    "sub": elementwise(operator.sub),
    "mul": elementwise(operator.mul),
    "div": elementwise(operator.truediv),
    "neg": elementwise(operator.neg),
    "pow": elementwise(operator.pow),
    "exp": elementwise(math.exp),
    "log": elementwise(math.log),
    "sqrt": elementwise(math.sqrt),
    "sin": elementwise(math.sin),
    "cos": elementwise(math.cos),
    "tanh": elementwise(math.tanh),
    "sigmoid": elementwise(lambda x: 1 / (1 + math.exp(-x))),
    "erf": elementwise(math.erf),
    "relu": elementwise(lambda x: x if x > 0 else 0),
    "gelu": elementwise(lambda x: x * statistics.NormalDist().cdf(x)),
    "abs": elementwise(abs),
    "maximum": elementwise(max),
    "minimum": elementwise(min),
    "clamp": elementwise(
        lambda x, min=None, max=None: min if min is not None and x < min else max if max is not None and x > max else x
    ),
    "where": elementwise(lambda condition, a, b: a if condition else b),
    "masked_fill": elementwise(lambda x, mask, value: value if mask else x),
    **{name: elementwise(getattr(operator, name)) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "logical_and": elementwise(operator.and_),
    "logical_or": elementwise(operator.or_),
    "logical_xor": elementwise(operator.xor),
    "logical_not": elementwise(lambda a: not a if isinstance(a, bool) else -a - 1),
    "floor_divide": elementwise(operator.floordiv),
    "remainder": elementwise(operator.mod),
    "isfinite": elementwise(math.isfinite),
    "sum": along(sum),
    "mean": along(statistics.fmean),
    "var": along(variance),
    "std": along(lambda row, correction=1: math.sqrt(variance(row, correction))),
    "amax": along(max),
    "amin": along(min),
    "argmax": flat_or_along(max),
    "argmin": flat_or_along(min),
    "all": along(all),
    "any": along(any),
    "logsumexp": along(lambda row: math.log(math.fsum(map(math.exp, row)))),
    "reshape": same_order,
    "view": same_order,
    "permute": permute,
    "split_heads": split_heads,
    "join_heads": join_heads,
    "transpose": transpose,
    "expand": expand,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "cat": cat,
    "stack": stack,
    "flip": lambda x, *, dims: moved(x, lambda d, i, n: n - 1 - i if d in dims or d - x.ndim in dims else i),
    "roll": lambda x, *, shifts, dim: moved(x, lambda d, i, n: (i - shifts) % n if d == dim else i),
    "pad": pad,
    "tril": triangle(lambda above: above <= 0),
    "triu": triangle(lambda above: above >= 0),
    "contiguous": elementwise(lambda x: x),
    "clone": elementwise(lambda x: x),
    "alias": elementwise(lambda x: x),
    "cast": elementwise(lambda x, dtype: dtype(x)),
    "index": lambda x, *, index: x.ravel()[np.arange(x.size).reshape(x.shape)[index]],
    "index_put": index_put,
    "gather": gather,
    "scatter": scatter,
    "embedding": embedding,
    "embed_tokens": embed_tokens,
    "matmul": matmul,
    "linear": linear,
    "softmax": rows(softmax),
    "log_softmax": rows(lambda row: [math.log(p) for p in softmax(row)]),
    "masked_softmax": rows(masked_softmax),
    "layer_norm": layer_norm,
    "add_layer_norm": add_layer_norm,
    "bias_activation": bias_activation,
    "feed_forward": feed_forward,
    "multi_head_attention": multi_head_attention,
    "gru": gru,
    "dropout": dropout,
    "cross_entropy": cross_entropy,
    "scaled_dot_product_attention": attention,
}
