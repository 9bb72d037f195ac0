"""Ways to call every op, for `check_op` and for the comparisons with other statements of the same function."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.testing import Case, Random

NO_SIZES = ("size 1", "size 0", "0-d")  # for cases whose settings or fixed arrays belong to one shape


def case(*inputs: Any, without: tuple[str, ...] = (), **settings: Any) -> Case:
    return Case(inputs, settings, without)


def real(*shape: int) -> Random:
    return Random(shape)


def positive(*shape: int) -> Random:
    return Random(shape, np.exp)


def away_from_zero(*shape: int) -> Random:
    return Random(shape, lambda z: z + np.copysign(0.5, z))


def whole(*shape: int) -> Random:
    return Random(shape, lambda z: np.round(3 * z).astype(np.int64))


def boolean(*shape: int) -> Random:
    return Random(shape, lambda z: z > 0)


def unary(into: Callable[..., Random] = real) -> list[Case]:
    return [case(into(3, 4)), case(into(2, 1, 3))]


def binary(a: Callable[..., Random] = real, b: Callable[..., Random] | None = None) -> list[Case]:
    """Equal shapes, and every way to broadcast."""
    b = b or a
    shapes = [((3, 4), (3, 4)), ((3, 4), (4,)), ((4,), (3, 4)), ((2, 1, 4), (3, 1)), ((3, 1), (1, 4)), ((3, 4), ())]
    return [case(a(*x), b(*y)) for x, y in shapes]


def reductions(without: tuple[str, ...] = (), into: Callable[..., Random] = real, **settings: Any) -> list[Case]:
    """Everything, one dimension, several of them; with and without keepdim."""
    dims: list[Any] = [None, 0, 1, -1, (0, 2), (2, 1), ()]
    everything = [
        case(into(3, 4), without=without, **settings),
        case(into(2, 3, 4), keepdim=True, without=without, **settings),
    ]
    return everything + [
        case(into(2, 3, 4), dim=dim, keepdim=keepdim, without=(*without, "0-d"), **settings)
        for dim in dims
        for keepdim in (False, True)
    ]


def one_dim(cases: list[Case]) -> list[Case]:
    """Only those without a tuple of dimensions, for ops that do not take one."""
    return [c for c in cases if not isinstance(c.settings.get("dim"), tuple)]


TWICE = np.array([[0, 2, 0], [1, 2, 2]])  # indices that occur more than once
ODD = np.array([True, False, True])


def indexing() -> list[Any]:
    """Indices into shape (3, 4, 5)."""
    mask = np.arange(12).reshape(3, 4) % 3 == 1
    simple = [1, -1, np.int64(2), slice(1, None), slice(None, None, 2), None, ..., (1, 2), (slice(None), 1), (..., 0)]
    mixed = [(slice(None), None, slice(None, 0, -1)), (0, ..., slice(1, 3)), (None, ..., None, 2), (1, 2, 3), ()]
    arrays = [
        TWICE,
        [0, -1, 0],
        (TWICE, 1),
        (slice(None), TWICE),
        (TWICE, TWICE),
        ([0, 0], [1, 1]),
        (0, [2, 2]),
        (slice(None), 1, [2, 2]),
    ]
    nested = [((0, 0),), (slice(None), (1, 1)), np.array(2), (..., np.array([4, 4])), ([[0], [2]], [1, 1])]
    masks = [
        ODD,
        mask,
        (ODD, 0),
        (slice(None), np.array([True, False, False, True])),
        np.zeros((3, 4, 5), bool),
        (..., ODD[[0] * 5]),
    ]
    return [*simple, *mixed, *arrays, *nested, *masks]


def setting() -> list[tuple[Any, tuple[int, ...]]]:
    """Indices into shape (3, 4, 5), and a shape of values for each."""
    plain = [
        (0, (4, 5)),
        (slice(1, None), (2, 4, 5)),
        (slice(1, None), ()),
        ((..., 0), (3, 4)),
        ((slice(None), 1), (5,)),
    ]
    broadcast = [
        (0, (1, 4, 5)),
        (0, (1, 1, 5)),
        (slice(0, 2), (1, 4, 1)),
        ((1, 2, 3), ()),
        ((1, 2, 3), (1,)),
        (..., (5,)),
    ]
    arrays = [
        ([0, 2], (2, 4, 5)),
        ((slice(None), [0, 3]), (2, 5)),
        (ODD, (2, 4, 5)),
        (ODD, ()),
        (np.zeros(3, bool), (0, 4, 5)),
    ]
    return plain + broadcast + arrays


def attention() -> list[Case]:
    q, k, v = real(2, 3, 4, 5), real(2, 3, 6, 5), real(2, 3, 6, 5)
    short = Random((2, 1, 1, 6), lambda z: np.arange(z.shape[-1]) < [[[[3]]], [[[5]]]])
    empty_row = np.arange(4)[:, None] > np.arange(6)  # the first query may attend to nothing
    same = (real(2, 3, 4, 5), real(2, 3, 4, 5), real(2, 3, 4, 5))
    without = ("size 0", "0-d")
    return [
        case(q, k, v, without=without),
        case(q, k, v, scale=0.3, without=("0-d",)),
        case(real(4, 5), real(6, 5), real(6, 7), without=without),
        case(real(3, 4, 5), real(1, 6, 5), real(6, 5), without=without),
        case(q, k, v, boolean(4, 6), without=without),
        case(q, k, v, short, without=NO_SIZES),
        case(q, k, v, empty_row, without=NO_SIZES),
        case(q, k, v, np.zeros((4, 6), bool), without=NO_SIZES),
        case(q, k, v, None, real(3, 4, 6), without=without),
        case(q, k, v, boolean(2, 1, 4, 6), real(4, 6), scale=1.0, without=("0-d",)),
        case(q, k, v, boolean(4, 6), real(3, 1, 6), dropout_p=0.4, seed=3, without=without),
        case(*same, causal=True, without=without),
        case(*same, boolean(4, 4), causal=True, dropout_p=0.2, seed=1, without=without),
        case(q, k, v, causal=True, without=NO_SIZES),
    ]


def losses() -> list[Case]:
    logits, target = real(2, 3, 5), np.array([[0, 4, 2], [2, -100, 1]])
    cases = [
        case(logits, target, label_smoothing=e, reduction=reduction, without=NO_SIZES)
        for e in (0.0, 0.1, 1.0)
        for reduction in ("mean", "sum", "none")
    ]
    return [
        *cases,
        case(logits, target, without=NO_SIZES),
        case(logits, target % 5, ignore_index=0, without=NO_SIZES),
        case(real(5), np.array(3), without=NO_SIZES),
        case(real(3, 1), np.zeros(3, np.int32), without=NO_SIZES),
        case(real(0, 5), np.zeros(0, np.int64), reduction="sum", without=NO_SIZES),
        case(real(0, 5), np.zeros(0, np.int64), reduction="none", without=NO_SIZES),
    ]


def add_norms() -> list[Case]:
    without = ("size 0", "0-d")
    return [
        case(real(3, 4), real(3, 4), real(4), real(4), without=without),
        case(real(3, 4), real(3, 4), real(4), real(4), p=0.3, seed=5, without=without),
        case(real(2, 3, 17), real(2, 3, 17), None, None, eps=0.1, without=without),
        case(real(2, 3, 5), real(2, 3, 5), real(5), None, p=0.6, seed=2**63, without=without),
        case(real(4), real(4), None, real(4), without=without),
        case(real(3, 4), real(3, 4), real(4), real(4), p=1.0, seed=5, without=without),
        case(real(0, 4), real(0, 4), real(4), real(4), p=0.1, seed=1, without=NO_SIZES),
    ]


def activations() -> list[Case]:
    names = ("relu", "gelu", "gelu_tanh", "none")
    every = [{"activation": a, "p": p, "seed": 7} for a in names for p in (0.0, 0.4)]
    return [
        *(case(real(3, 4), real(4), without=("0-d",), **settings) for settings in every),
        *(case(real(2, 3, 7), **settings) for settings in every),
        case(real(2, 3, 17), real(17), without=("0-d",)),
        case(real(4), real(4), activation="gelu", without=("0-d",)),
        case(real(3, 4), real(4), p=1.0, seed=1, without=("0-d",)),
    ]


def multi_head() -> list[Case]:
    """Two heads of size 3; x is of size 5, the memory of size 4, the result of size 7."""
    x, memory, w_o, b_o = real(2, 4, 5), real(2, 6, 4), real(7, 6), real(7)
    own, other = [real(6, 5), real(6, 5), real(6, 5), w_o], [real(6, 5), real(6, 4), real(6, 4), w_o]
    biases, none = [real(6), real(6), real(6), b_o], [None] * 4
    short = np.arange(6) < np.array([3, 6])[:, None, None, None]
    settings = {"heads": 2, "without": NO_SIZES}
    return [
        case(x, *own, *biases, **settings),
        case(x, *own, *none, None, boolean(2, 1, 4, 4), dropout_p=0.3, seed=4, **settings),
        case(x, *own, None, real(6), None, b_o, None, np.tri(4, dtype=bool), scale=0.7, **settings),
        case(x, *other, *biases, memory, short, **settings),
        case(x, *other, *biases, memory, boolean(2, 2, 4, 6), dropout_p=0.5, seed=1, **settings),
        case(x, *other, *none, memory, np.zeros((4, 6), bool), **settings),
        case(real(0, 4, 5), *own, *biases, **settings),
        case(real(1, 1, 1), *[real(1, 1)] * 4, *[real(1)] * 4, real(1, 1, 1), heads=1, without=("size 0", "0-d")),
    ]


def feed_forwards() -> list[Case]:
    names = ("relu", "gelu", "gelu_tanh", "none")
    every = [{"activation": a, "p": p, "seed": 7} for a in names for p in (0.0, 0.4)]
    return [
        *(case(real(2, 3, 4), real(7, 4), real(5, 7), real(7), real(5), without=("0-d",), **s) for s in every),
        case(real(3, 4), real(6, 4), real(4, 6), without=("0-d",)),
        case(real(4), real(6, 4), real(4, 6), None, real(4), activation="gelu", without=("0-d",)),
        case(real(3, 4), real(6, 4), real(4, 6), real(6), None, without=("0-d",)),
        case(real(0, 4), real(6, 4), real(4, 6), real(6), real(4), without=NO_SIZES),
    ]


def recurrences() -> list[Case]:
    """Three steps of two sequences, with a state of size 4."""
    x, h, weight, bias = real(3, 2, 12), real(2, 4), real(12, 4), real(12)
    mask = np.array([[True, False], [True, True], [False, False]])
    return [
        *(case(x, h, weight, bias, m, reverse=r, without=NO_SIZES) for m in (None, mask) for r in (False, True)),
        case(x, h, weight, without=NO_SIZES),
        case(x, h, weight, None, np.zeros((3, 2), bool), without=NO_SIZES),
        case(real(1, 1, 3), real(1, 1), real(3, 1), real(3), without=NO_SIZES),
        case(real(2, 0, 6), real(0, 2), real(6, 2), real(6), without=NO_SIZES),
    ]


MATMULS = [
    ((3, 4), (4, 5)),
    ((2, 3, 4), (4, 5)),
    ((6, 2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((6, 1, 3, 4), (2, 4, 5)),
    ((2, 3, 4), (6, 1, 4, 5)),
    ((4,), (4,)),
    ((4,), (4, 5)),
    ((4,), (2, 4, 5)),
    ((3, 4), (4,)),
    ((2, 3, 4), (4,)),
]

CASES: dict[str, list[Case]] = {
    "add": binary(),
    "sub": binary(),
    "mul": binary(),
    "div": [*binary(real, away_from_zero), case(whole(3, 4), np.array(4))],
    "neg": [*unary(), *unary(whole)],
    "pow": [
        *binary(positive, real),
        *(case(away_from_zero(3, 4), np.array(n)) for n in (0, 1, 2, 3, -1, -2)),
        case(positive(3, 4), np.array(0.5)),
        case(np.array(2), real(3)),
    ],
    "exp": unary(),
    "log": unary(positive),
    "sqrt": unary(positive),
    "sin": unary(),
    "cos": unary(),
    "tanh": unary(),
    "sigmoid": unary(),
    "erf": unary(),
    "relu": [*unary(), *unary(whole)],
    "gelu": unary(),
    "abs": [*unary(), *unary(whole)],
    "maximum": [*binary(), case(whole(3, 4), whole(3, 4))],
    "minimum": [*binary(), case(whole(3, 4), whole(3, 4))],
    "clamp": [
        case(real(3, 4), min=-0.5, max=0.5),
        case(real(3, 4), min=0.1),
        case(real(4), max=0.1),
        case(whole(4), min=0),
    ],
    "where": [
        case(boolean(3, 4), real(3, 4), real(3, 4)),
        case(boolean(4), real(3, 1), real(2, 3, 4)),
        case(boolean(3, 1), real(), real(4)),
    ],
    "masked_fill": [case(real(3, 4), boolean(3, 4), value=2.0), case(real(2, 3, 4), boolean(3, 1), value=-1e9)],
    **{name: [*binary(), *binary(whole)] for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: [*binary(boolean), *binary(whole)] for name in ("logical_and", "logical_or", "logical_xor")},
    "logical_not": [*unary(boolean), *unary(whole)],
    "floor_divide": [*binary(real, away_from_zero), case(whole(3, 4), np.array(2)), case(whole(3, 4), np.array(-2))],
    "remainder": [*binary(real, away_from_zero), case(whole(3, 4), np.array(3)), case(whole(3, 4), np.array(-3))],
    "isfinite": [*unary(), *unary(whole)],
    "sum": [*reductions(), *reductions(into=whole), *reductions(into=boolean)],
    "mean": [*reductions(without=("size 0",)), case(real(0, 4), dim=1, without=NO_SIZES)],
    "var": [
        *reductions(without=NO_SIZES),
        *reductions(without=("size 0",), correction=0),
        case(real(0, 4), dim=1, without=NO_SIZES),
    ],
    "std": [
        *reductions(without=NO_SIZES),
        *reductions(without=NO_SIZES, correction=0),
        case(real(0, 4), dim=1, without=NO_SIZES),
    ],
    **{
        name: [
            *reductions(without=("size 0",)),
            case(real(0, 4), dim=1, without=NO_SIZES),
            case(whole(3, 4), dim=0, without=NO_SIZES),
        ]
        for name in ("amax", "amin")
    },
    **{
        name: [
            *one_dim(reductions(without=("size 0",))),
            case(real(0, 4), dim=1, without=NO_SIZES),
            case(whole(3, 4), dim=0, without=NO_SIZES),
        ]
        for name in ("argmax", "argmin")
    },
    "all": [*reductions(into=boolean), *reductions(into=whole)],
    "any": [*reductions(into=boolean), *reductions(into=whole)],
    "logsumexp": [*reductions(without=("size 0",)), case(real(0, 4), dim=1, without=NO_SIZES)],
    "reshape": [
        case(real(3, 4), shape=(2, 6), without=NO_SIZES),
        case(real(3, 4), shape=(-1,), without=("0-d",)),
        case(real(2, 3, 4), shape=(2, -1, 2), without=NO_SIZES),
        case(real(1, 1), shape=(), without=NO_SIZES),
        case(real(0, 3), shape=(3, 0), without=NO_SIZES),
    ],
    "view": [
        case(real(3, 4), shape=(2, 6), without=(*NO_SIZES, "layouts")),
        case(real(3, 4), shape=(-1,), without=("layouts",)),
        case(real(), shape=(1, 1), without=(*NO_SIZES, "layouts")),
    ],
    "permute": [
        case(real(2, 3, 4), dims=(2, 0, 1), without=("0-d",)),
        case(real(2, 3, 4), dims=(-1, 1, 0), without=("0-d",)),
        case(real(), dims=(), without=NO_SIZES),
    ],
    "split_heads": [
        case(real(2, 3, 6), heads=2, without=("0-d", "size 0", "size 1")),
        case(real(3, 4), heads=4, without=("0-d", "size 0", "size 1")),
        case(real(2, 1, 3, 2), heads=1, without=("0-d",)),
    ],
    "join_heads": [case(real(2, 2, 3, 4), without=("0-d",)), case(real(3, 1, 2), without=("0-d",))],
    "transpose": [
        case(real(2, 3, 4), dim0=0, dim1=-1, without=("0-d",)),
        case(real(3, 4), dim0=1, dim1=0, without=("0-d",)),
        case(real(3, 4), dim0=1, dim1=1, without=("0-d",)),
    ],
    "expand": [
        case(real(3, 1), shape=(2, 3, 4), without=NO_SIZES),
        case(real(1, 4), shape=(3, -1), without=NO_SIZES),
        case(real(), shape=(2, 2), without=NO_SIZES),
        case(real(1, 4), shape=(0, 4), without=NO_SIZES),
        case(real(3), shape=(3,), without=NO_SIZES),
    ],
    "squeeze": [
        case(real(1, 3, 1)),
        case(real(1, 3, 1), dim=0, without=("0-d",)),
        case(real(1, 3, 1), dim=(0, -1), without=("0-d",)),
        case(real(1, 3, 1), dim=1, without=("0-d",)),
    ],
    "unsqueeze": [case(real(3, 4), dim=0), case(real(3, 4), dim=-1), case(real(3, 4), dim=2, without=("0-d",))],
    "cat": [
        case(real(2, 3), real(4, 3), without=("0-d",)),
        case(real(2, 3), real(2, 1), real(2, 5), dim=1, without=("0-d",)),
        case(real(2, 3, 4), real(2, 3, 0), dim=-1, without=("0-d",)),
        case(real(4), without=("0-d",)),
    ],
    "stack": [
        case(real(2, 3), real(2, 3)),
        case(real(2, 3), real(2, 3), real(2, 3), dim=-1),
        case(real(2, 3), real(2, 3), dim=1, without=("0-d",)),
    ],
    "flip": [
        case(real(3, 4), dims=(0,), without=("0-d",)),
        case(real(3, 4), dims=(0, -1), without=("0-d",)),
        case(real(4), dims=()),
    ],
    "roll": [case(real(3, 4), shifts=1, dim=0, without=("0-d",)), case(real(3, 4), shifts=-6, dim=1, without=("0-d",))],
    "pad": [
        case(real(3, 4), pad=(1, 2), without=("0-d",)),
        case(real(3, 4), pad=(0, 1, 2, 0), value=-1.5, without=("0-d",)),
        case(real(3, 4), pad=(-1, 2, 1, -2), without=NO_SIZES),
        case(real(3, 4), pad=(), without=("0-d",)),
    ],
    **{
        name: [
            case(real(3, 4), without=("0-d",)),
            case(real(2, 3, 3), diagonal=1, without=("0-d",)),
            case(real(3, 4), diagonal=-1, without=("0-d",)),
        ]
        for name in ("tril", "triu")
    },
    "contiguous": unary(),
    "clone": [*unary(), *unary(whole)],
    "alias": unary(),
    "cast": [
        case(real(3, 4), dtype=np.float64, without=("float32",)),
        case(real(3, 4), dtype=np.int64),
        case(whole(3, 4), dtype=np.float64, without=("float32",)),
        case(boolean(3, 4), dtype=np.uint8),
    ],
    "index": [case(real(3, 4, 5), index=index, without=NO_SIZES) for index in indexing()],
    "index_put": [case(real(3, 4, 5), real(*shape), index=index, without=NO_SIZES) for index, shape in setting()],
    "gather": [
        case(real(2, 4), TWICE, dim=1, without=NO_SIZES),
        case(real(3, 3), TWICE, dim=0, without=NO_SIZES),
        case(real(3, 4, 2), TWICE[..., None], dim=-2, without=NO_SIZES),
        case(real(2, 4), np.zeros((2, 0), np.int64), dim=1, without=NO_SIZES),
        case(real(), np.array(0), dim=0, without=NO_SIZES),
    ],
    "scatter": [
        case(real(2, 4), np.array([[0, 2], [3, 1]]), real(2, 2), dim=1, without=NO_SIZES),
        case(real(4, 3), np.array([[0, 3, 1], [2, 1, 0]]), real(2, 3), dim=0, without=NO_SIZES),
        case(real(2, 4), np.array([[0], [3]]), np.array(2.0), dim=-1, without=NO_SIZES),
        case(real(), np.array(0), real(), dim=0, without=NO_SIZES),
    ],
    "embedding": [
        case(TWICE, real(3, 4), without=NO_SIZES),
        case(TWICE, real(4, 5), padding_idx=3, without=NO_SIZES),  # occurs nowhere: where it does, the way back is cut
        case(TWICE, real(4, 5), padding_idx=-1, without=NO_SIZES),
        case(np.array(1), real(3, 4), without=NO_SIZES),
        case(np.zeros((2, 0), np.int64), real(3, 4), without=NO_SIZES),
        case(TWICE.astype(np.uint8), real(3, 0), without=NO_SIZES),
    ],
    "embed_tokens": [
        case(TWICE, real(3, 4), without=NO_SIZES),
        case(TWICE, real(3, 17), real(3, 17), scale=1.5, without=NO_SIZES),
        case(TWICE, real(4, 5), real(3, 5), scale=-2.0, padding_idx=-1, p=0.4, seed=3, without=NO_SIZES),
        case(TWICE.astype(np.int32)[None], real(4, 5), None, p=0.3, seed=2**40, without=NO_SIZES),
        case(TWICE[0].astype(np.uint8), real(3, 4), real(3, 4), p=1.0, seed=1, without=NO_SIZES),
        case(np.array(1), real(3, 4), scale=2.0, without=NO_SIZES),
        case(np.zeros((2, 0), np.int64), real(3, 4), real(0, 4), without=NO_SIZES),
        case(TWICE, real(3, 0), real(3, 0), p=0.5, seed=4, without=NO_SIZES),
    ],
    "matmul": [case(real(*a), real(*b), without=("0-d",)) for a, b in MATMULS],
    "linear": [
        case(real(3, 4), real(5, 4), real(5), without=("0-d",)),
        case(real(2, 3, 4), real(5, 4), None, without=("0-d",)),
        case(real(2, 3, 4), real(5, 4), without=("0-d",)),
        case(real(4), real(5, 4), real(5), without=("0-d",)),
    ],
    "softmax": [case(real(3, 4)), case(real(3, 4), dim=0), case(real(2, 3, 4), dim=1, without=("0-d",))],
    "log_softmax": [case(real(3, 4)), case(real(3, 4), dim=0), case(real(2, 3, 4), dim=1, without=("0-d",))],
    "masked_softmax": [
        case(real(3, 4), boolean(3, 4)),
        case(real(2, 3, 4), boolean(4), dim=1, without=("0-d",)),
        case(real(2, 3, 4), boolean(3, 1), without=("0-d",)),
        case(real(3, 4), np.array([[True, False, True, True], [False] * 4, [True] * 4]), without=NO_SIZES),
    ],
    "layer_norm": [
        case(real(3, 4), real(4), real(4), without=("size 0", "0-d")),
        case(real(2, 3, 4), None, None, without=("size 0", "0-d")),
        case(real(2, 3, 4), real(4), None, eps=0.1, without=("size 0", "0-d")),
        case(real(4), None, real(4), without=("size 0", "0-d")),
        case(real(3, 4), without=("size 0", "0-d")),
        case(real(0, 4), real(4), real(4), without=NO_SIZES),
    ],
    "add_layer_norm": add_norms(),
    "bias_activation": activations(),
    "feed_forward": feed_forwards(),
    "multi_head_attention": multi_head(),
    "gru": recurrences(),
    "dropout": [
        case(real(3, 4), p=0.5, seed=1),
        case(real(2, 3, 4), p=0.1, seed=2**63),
        case(real(3, 4), p=0.0, seed=1),
        case(real(3, 4), p=1.0, seed=1),
    ],
    "cross_entropy": losses(),
    "scaled_dot_product_attention": attention(),
}
