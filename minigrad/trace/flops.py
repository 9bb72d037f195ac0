"""Floating-point operations of every op, from the shapes of its arguments and of its result: two tables.

What counts: an addition, a multiplication, a comparison, and a call of exp, log, tanh, erf or another function of one
element count 1 each, so that a multiplication followed by an addition counts 2. A reduction counts 1 for every element
that it reads. Moving, choosing, masking and converting elements counts 0, and so do logical operations. Whole numbers
count like real ones.

On the way forward an op costs what its definition costs, step by step: 5 n for a softmax of n elements (max, sub, exp,
sum, div). On the way back it costs what the equations in its docstring cost, for those arguments only that want a
gradient, given what was kept: for a matrix product as much as forwards for each of its two arguments. Summing over
what was broadcast counts; adding up the gradients of several uses does not, and neither does what a kernel computes a
second time to save memory. What a mask leaves out is counted as if it were there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .steps import Step

Shape = tuple[int, ...]


class Shapes:
    """Of one call of an op: the shapes of its arguments by name, which of them want a gradient, and its settings."""

    def __init__(self, step: Step) -> None:
        self.result, self.n, self.setting = step.shape, math.prod(step.shape), step.settings.get
        self.shapes = {x.name: x.shape for x in step.arguments}
        self.wanted = {x.name for x in step.arguments if x.wanted}

    def __getitem__(self, name: str) -> Shape:
        return self.shapes[name]

    def has(self, name: str) -> bool:
        """Whether this argument was given."""
        return name in self.shapes

    def wants(self, *names: str) -> bool:
        """Whether one of these arguments wants a gradient."""
        return not self.wanted.isdisjoint(names)

    def drops(self, setting: str = "p") -> bool:
        """Whether there is dropout."""
        return self.setting(setting, 0.0) > 0

    @property
    def x(self) -> int:
        """The number of elements of the first argument."""
        return math.prod(next(iter(self.shapes.values())))

    @property
    def rows(self) -> int:
        """How many rows the result has along the dimension `dim`, the last one by default."""
        length = self.result[self.setting("dim", -1)] if self.result else 1
        return self.n // length if length else 0

    def summed(self, name: str, n: int) -> int:
        """What it costs to undo the broadcasting of an argument, whose gradient has n elements before."""
        return n if self.wants(name) and n != math.prod(self.shapes[name]) else 0


Count = Callable[[Shapes], int]

# ------------------------------------------------------------------------------------------------------------ forward
ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 5, "gelu_tanh": 9}  # per element
SHAPES = ["reshape", "view", "permute", "transpose", "expand", "squeeze", "unsqueeze", "split_heads", "join_heads"]
COPIES = ["contiguous", "clone", "alias", "cast", "cat", "stack", "flip", "roll", "pad", "tril", "triu"]
CHOICES = ["index", "index_put", "gather", "scatter", "embedding", "where", "masked_fill"]
LOGIC = ["logical_and", "logical_or", "logical_xor", "logical_not", "all", "any"]
ARITHMETIC = ["add", "sub", "mul", "div", "remainder", "floor_divide", "neg", "pow", "abs", "maximum", "minimum"]
FUNCTIONS = ["exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "erf", "relu", "dropout"]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge", "isfinite"]
REDUCTIONS = ["sum", "amax", "amin", "argmax", "argmin"]

FORWARD: dict[str, Count] = {
    **dict.fromkeys([*SHAPES, *COPIES, *CHOICES, *LOGIC], lambda o: 0),
    **dict.fromkeys([*ARITHMETIC, *FUNCTIONS, *COMPARISONS], lambda o: o.n),
    **dict.fromkeys(REDUCTIONS, lambda o: o.x),
    "clamp": lambda o: o.n * sum(o.setting(bound) is not None for bound in ("min", "max")),
    "gelu": lambda o: o.n * ACTIVATIONS["gelu"],
    "mean": lambda o: o.x + o.n,
    "var": lambda o: 4 * o.x + 2 * o.n,
    "std": lambda o: 4 * o.x + 3 * o.n,
    "logsumexp": lambda o: 4 * o.x + 2 * o.n,
    "softmax": lambda o: 5 * o.n,
    "log_softmax": lambda o: 5 * o.n + 2 * o.rows,
    "masked_softmax": lambda o: o.n * (5 + (o.setting("scale", 1.0) != 1)),
    "layer_norm": lambda o: _layer_norm(o),
    "add_layer_norm": lambda o: o.n * (1 + o.drops()) + _layer_norm(o),
    "bias_activation": lambda o: o.n * (o.has("bias") + ACTIVATIONS[o.setting("activation", "relu")] + o.drops()),
    "embed_tokens": lambda o: o.n * (1 + o.has("positions") + (o.setting("seed") is not None)),
    "matmul": lambda o: 2 * o.n * o["a"][-1],
    "linear": lambda o: _linear(math.prod(o["x"][:-1]), o["weight"], o.has("bias")),
    "scaled_dot_product_attention": lambda o: _attention(o, _scores(o), o["q"][-1], o["v"][-1]),
    "multi_head_attention": lambda o: _multi_head(o),
    "feed_forward": lambda o: _feed_forward(o),
    "cross_entropy": lambda o: _cross_entropy(o),
    "gru": lambda o: _gru(o),
}


def _layer_norm(o: Shapes) -> int:
    """Two means, sub, mul and div of the elements; in each row two divisions, an addition and a root; then w and b."""
    return 5 * o.n + 4 * o.rows + o.n * (o.has("weight") + o.has("bias"))


def _linear(rows: int, weight: Shape, with_bias: bool) -> int:
    outputs, inputs = weight
    return rows * outputs * (2 * inputs + with_bias)


def _scores(o: Shapes) -> int:
    return math.prod(o["q"][:-1]) * o["k"][-2]


def _attention(o: Shapes, scores: int, q_size: int, v_size: int) -> int:
    """q k^T, its scale and its bias, softmax, dropout, and the product with v."""
    return scores * (2 * q_size + 1 + o.has("bias") + 5 + o.drops("dropout_p") + 2 * v_size)


def _projections(o: Shapes) -> list[tuple[str, str, str]]:
    """Of multi-head attention: what q, k and v are made from, with which weight and bias."""
    memory = "memory" if o.has("memory") else "x"
    return [("x", "w_q", "b_q"), (memory, "w_k", "b_k"), (memory, "w_v", "b_v")]


def _head_scores(o: Shapes) -> tuple[int, int]:
    """Of multi-head attention: B H T S, and the size of a head."""
    heads, keys = o.setting("heads", 1), o["memory" if o.has("memory") else "x"][1]
    return math.prod(o["x"][:2]) * keys * heads, o["w_q"][0] // heads


def _multi_head(o: Shapes) -> int:
    scores, size = _head_scores(o)
    return (
        sum(_linear(math.prod(o[x][:2]), o[w], o.has(b)) for x, w, b in _projections(o))
        + scores * (2 * size + 1 + 5 + o.drops("dropout_p") + 2 * size)
        + _linear(math.prod(o["x"][:2]), o["w_o"], o.has("b_o"))
    )


def _feed_forward(o: Shapes) -> int:
    rows = math.prod(o["x"][:-1])
    between = o.has("b_1") + ACTIVATIONS[o.setting("activation", "relu")] + o.drops()
    inner = rows * o["w_1"][0]
    return _linear(rows, o["w_1"], False) + inner * between + _linear(rows, o["w_2"], o.has("b_2"))


def _cross_entropy(o: Shapes) -> int:
    """log_softmax, neg; with label smoothing a mean, three products and a sum; and the sum or the mean of all."""
    targets, smoothed = math.prod(o["target"]), o.setting("label_smoothing", 0.0) > 0
    last = {"none": 0, "sum": targets, "mean": targets + 1}[o.setting("reduction", "mean")]
    return 5 * o.x + 3 * targets + smoothed * (o.x + 5 * targets) + last


def _gru(o: Shapes) -> int:
    """In each step h W^T + b, two sums and two sigmoids; mul, add, tanh; sub, mul, mul, add."""
    steps, (batch, size) = o["x"][0], o["h"]
    return steps * (_linear(batch, o["weight"], o.has("bias")) + 11 * batch * size)


# ----------------------------------------------------------------------------------------------------------- backward
NO_GRADIENT = [*LOGIC, *COMPARISONS, "floor_divide", "argmax", "argmin"]
SLOPES = {  # per element of the result, for each argument
    "add": (0, 0),
    "sub": (0, 1),
    "mul": (1, 1),
    "div": (1, 3),
    "remainder": (0, 3),
    "pow": (4, 3),
    "maximum": (2, 2),
    "minimum": (2, 2),
    "where": (0, 0, 0),
    "masked_fill": (0, 0),
    "expand": (0,),
    **dict.fromkeys(["neg", "exp", "log", "relu", "gelu", "clamp", "dropout"], (1,)),
    **dict.fromkeys(["sqrt", "sin", "abs"], (2,)),
    **dict.fromkeys(["cos", "tanh", "sigmoid"], (3,)),
    "softmax": (4,),
    "log_softmax": (4,),
    "erf": (5,),
}

BACKWARD: dict[str, Count] = {
    **dict.fromkeys([*SHAPES, *COPIES, *CHOICES, *NO_GRADIENT, "sum"], lambda o: 0),
    **{name: lambda o, costs=costs: _elementwise_vjp(o, costs) for name, costs in SLOPES.items()},
    "mean": lambda o: o.n,
    "var": lambda o: 2 * o.x,
    "std": lambda o: 2 * o.x + o.n,
    "amax": lambda o: 4 * o.x,
    "amin": lambda o: 4 * o.x,
    "logsumexp": lambda o: 3 * o.x,
    "gather": lambda o: o.n,
    "embedding": lambda o: o.n,
    "masked_softmax": lambda o: o.n * (4 + (o.setting("scale", 1.0) != 1)),
    "layer_norm": lambda o: _layer_norm_vjp(o, o.wants("x")),
    "add_layer_norm": lambda o: _layer_norm_vjp(o, o.wants("x", "branch")) + o.n * (o.drops() and o.wants("branch")),
    "bias_activation": lambda o: _bias_activation_vjp(o, o.n, o.wants("x", "bias"), o.wants("bias")),
    "embed_tokens": lambda o: o.n * (o.drops() + 2 * o.wants("weight") + o.wants("positions")),
    "matmul": lambda o: _matmul_vjp(o),
    "linear": lambda o: _linear_vjp(o, math.prod(o["x"][:-1]), "weight", o.wants("x"), o.wants("bias")),
    "scaled_dot_product_attention": lambda o: _attention_op_vjp(o),
    "multi_head_attention": lambda o: _multi_head_vjp(o),
    "feed_forward": lambda o: _feed_forward_vjp(o),
    "cross_entropy": lambda o: o.x,
    "gru": lambda o: _gru_vjp(o),
}


def _elementwise_vjp(o: Shapes, costs: tuple[int, ...]) -> int:
    arguments = zip(o.shapes, costs, strict=True)
    return sum(o.n * cost * o.wants(name) + o.summed(name, o.n) for name, cost in arguments)


def _layer_norm_vjp(o: Shapes, through: bool) -> int:
    """h = g w; two means, two products, two differences and a division for dL/dx; g n and its sum; the sum of g."""
    dx = o.n * (7 + o.has("weight")) + 2 * o.rows
    return through * dx + o.n * (2 * o.wants("weight") + o.wants("bias"))


def _bias_activation_vjp(o: Shapes, n: int, through: bool, summed: bool) -> int:
    """The slope of the activation and dropout, for each of n elements; the sum over rows for the bias."""
    slope = o.setting("activation", "relu") != "none"
    return n * (through * (slope + o.drops()) + summed)


def _matmul_vjp(o: Shapes) -> int:
    """g b^T and a^T g, each as much as a b; the sums over batches of one of them that has fewer."""
    a, b = o["a"], o["b"]
    rows, columns = math.prod(a[-2:-1]), math.prod(b[1:][-1:])  # 1 where that dimension is missing
    batches = o.n // (rows * columns) if o.n else 0
    sums = o.summed("a", batches * rows * a[-1])
    if len(b) != 2:  # a matrix for all batches gets its gradient from one product
        sums += o.summed("b", batches * a[-1] * columns)
    return 2 * o.n * a[-1] * (o.wants("a") + o.wants("b")) + sums


def _linear_vjp(o: Shapes, rows: int, weight: str, through: bool, summed: bool) -> int:
    """g W and g^T x, each as much as x W^T; the sum over rows for the bias."""
    outputs, inputs = o[weight]
    return rows * outputs * (2 * inputs * (through + o.wants(weight)) + summed)


def _attention_vjp(o: Shapes, scores: int, q_size: int, v_size: int, wanted: list[bool], bias: bool) -> int:
    """dL/dv and dL/dP from g; for the scores that of softmax, and of their scale; dL/dq and dL/dk."""
    q, k, v = wanted
    dropout, through = o.drops("dropout_p"), q or k or bias
    dv, dp = v * (2 * v_size + dropout), through * (2 * v_size + dropout + 4)
    return scores * (dv + dp + (q or k) + 2 * q_size * (q + k))


def _attention_op_vjp(o: Shapes) -> int:
    scores, keys, size, v_size = _scores(o), o["k"][-2], o["q"][-1], o["v"][-1]
    batches = math.prod(o["q"][:-2])
    sums = o.summed("k", batches * keys * size) + o.summed("v", batches * keys * v_size)
    sums += o.summed("bias", scores) if o.has("bias") else 0
    return _attention_vjp(o, scores, size, v_size, [o.wants(name) for name in "qkv"], o.wants("bias")) + sums


def _multi_head_vjp(o: Shapes) -> int:
    scores, size = _head_scores(o)
    wanted = [o.wants(*names) for names in _projections(o)]
    return (
        _linear_vjp(o, math.prod(o["x"][:2]), "w_o", any(wanted), o.wants("b_o"))
        + _attention_vjp(o, scores, size, size, wanted, False)
        + sum(_linear_vjp(o, math.prod(o[x][:2]), w, o.wants(x), o.wants(b)) for x, w, b in _projections(o))
    )


def _feed_forward_vjp(o: Shapes) -> int:
    rows, through = math.prod(o["x"][:-1]), o.wants("x", "w_1", "b_1")
    return (
        _linear_vjp(o, rows, "w_2", through, o.wants("b_2"))
        + _bias_activation_vjp(o, rows * o["w_1"][0], through, o.wants("b_1"))
        + _linear_vjp(o, rows, "w_1", o.wants("x"), False)
    )


def _gru_vjp(o: Shapes) -> int:
    """18 operations for the gates of each state; dL/du W for the state before, dL/du^T h and the sum of dL/du."""
    steps, (batch, size) = o["x"][0], o["h"]
    products = 2 * batch * 3 * size * size
    back = steps - (not o.wants("h"))  # nobody asks for the gradient of the first state
    sums = steps * batch * 3 * size * o.wants("bias")
    return 18 * steps * batch * size + products * (back + steps * o.wants("weight")) + sums


# -------------------------------------------------------------------------------------------------------------- steps
def forward(step: Step) -> int | None:
    """The operations that a step took; None for an op that is not in the table."""
    return _counted(FORWARD, step)


def backward(step: Step) -> int | None:
    """The operations that the gradients of its arguments take, of those that are wanted."""
    return _counted(BACKWARD, step)


def _counted(table: dict[str, Count], step: Step) -> int | None:
    if step.is_leaf or step.outside:
        return 0
    count = table.get(step.kind)
    return None if count is None else int(count(Shapes(step)))
