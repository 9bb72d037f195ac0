"""Wrong calls of the ops. Each is answered with an error that names the op, the shapes and the rule that was broken."""

from typing import Any, NamedTuple

import numpy as np

from minigrad.core import Array, DTypeError, ShapeError


class Mistake(NamedTuple):
    """A wrong call; `says` is what the message must contain after the name of the op."""

    op: str
    says: str
    inputs: tuple[Any, ...]
    settings: dict[str, Any]
    error: type[Exception]


def wrong(op: str, says: str, *inputs: Any, error: type[Exception] = ShapeError, **settings: Any) -> Mistake:
    return Mistake(op, says, inputs, settings, error)


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


A = ones(2, 3)
N = np.zeros((2, 3), np.int64)  # whole numbers
M = np.ones((2, 3), bool)
Q = ones(2, 3, 4, 5)
X = ones(2, 4, 3)
W4, NONE = [ones(3, 3)] * 4, [None] * 4

BINARY = ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "floor_divide", "remainder")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
LOGICAL = ("logical_and", "logical_or", "logical_xor")
REDUCTIONS = ("sum", "mean", "var", "std", "amax", "amin", "all", "any", "logsumexp")
ALONG_ONE = ("argmax", "argmin", "softmax", "log_softmax")
SDPA = "scaled_dot_product_attention"
MHA = "multi_head_attention"

ELEMENTWISE = [
    *(wrong(op, "the arguments have shapes (2, 3) and (4,)", A, ones(4)) for op in (*BINARY, *COMPARISONS)),
    *(wrong(op, "the arguments have shapes (2, 3) and (2,)", M, M[:, 0]) for op in LOGICAL),
    *(wrong(op, "the dtype is float32; it must be boolean or integer", A, A, error=DTypeError) for op in LOGICAL),
    wrong("logical_not", "the dtype is float32; it must be boolean or integer", A, error=DTypeError),
    wrong("where", "the arguments have shapes (2, 3) and (2, 3) and (4,)", M, A, ones(4)),
    wrong("where", "the condition is not boolean; compare first", A, A, A, error=DTypeError),
    wrong("masked_fill", "the arguments have shapes (2, 3) and (2, 2)", A, M[:, :2], value=0.0),
    wrong("masked_fill", "the mask is not boolean; compare first", A, A, value=0.0, error=DTypeError),
    *(
        wrong(op, "a whole number is divided by 0", N, N, error=ZeroDivisionError)
        for op in ("floor_divide", "remainder")
    ),
    wrong("sub", "a and b are boolean; use a ^ b", M, M, error=DTypeError),
    wrong("neg", "a is boolean; use ~a", M, error=DTypeError),
    wrong("clamp", "give min, max or both", A, error=ValueError),
]

REDUCING = [
    *(
        wrong(op, "a has shape (2, 3); dim 2 is outside [-2, 1]", A, dim=2, error=IndexError)
        for op in (*REDUCTIONS, *ALONG_ONE)
    ),
    *(wrong(op, "a has shape (2, 3); dim (0, -2) names one dimension twice", A, dim=(0, -2)) for op in REDUCTIONS),
    *(wrong(op, "a has dtype int64; it must be a float dtype", N, error=DTypeError) for op in ("mean", "var", "std")),
    *(
        wrong(op, "a has shape (0, 3); nothing to choose from", ones(0, 3), dim=dim)
        for op in ("amax", "amin", "argmax", "argmin")
        for dim in (0, None)
    ),
]

SHAPES = [
    wrong("reshape", "a has shape (2, 3), 6 elements; they do not fit into (4,)", A, shape=(4,)),
    wrong("reshape", "a has shape (2, 3), 6 elements; they do not fit into (-1, -1)", A, shape=(-1, -1)),
    wrong("reshape", "a has shape (2, 3), 6 elements; they do not fit into (-1, 4)", A, shape=(-1, 4)),
    wrong("reshape", "a has shape (0, 3), 0 elements; they do not fit", ones(0, 3), shape=(-1, 0)),
    wrong("view", "a has shape (3, 2), not contiguous; as (-1,) it must be copied", A.T, shape=(-1,)),
    wrong("view", "a has shape (2, 3), 6 elements; they do not fit into (5,)", A, shape=(5,)),
    wrong("permute", "a has shape (2, 3); dims (0,) must name every dimension once", A, dims=(0,)),
    wrong("permute", "a has shape (2, 3); dim (0, 0) names one dimension twice", A, dims=(0, 0)),
    wrong("transpose", "a has shape (2, 3); dim 2 is outside [-2, 1]", A, dim0=0, dim1=2, error=IndexError),
    wrong("split_heads", "heads = 2.0; it must be a whole number", A, heads=2.0, error=TypeError),
    wrong("split_heads", "heads = True; it must be a whole number", A, heads=True, error=TypeError),
    wrong("split_heads", "a has shape (2, 3); its last size must be a multiple of heads = 2", A, heads=2),
    wrong("join_heads", "a has shape (2, 3); it must be (..., heads, tokens, size)", A),
    wrong("expand", "a has shape (2, 3); it cannot be expanded to (3,)", A, shape=(3,)),
    wrong("expand", "a has shape (2, 3); it cannot be expanded to (-1, 2, 3)", A, shape=(-1, 2, 3)),
    wrong("expand", "a has shape (2, 3); only dimensions of size 1 can be expanded", A, shape=(4, 3)),
    wrong("squeeze", "a has shape (2, 3); dim 2 is outside [-2, 1]", A, dim=2, error=IndexError),
    wrong("unsqueeze", "a has shape (2, 3); dim 3 is outside [-3, 2]", A, dim=3, error=IndexError),
    wrong("cat", "the list of tensors is empty; give at least one", error=ValueError),
    wrong("cat", "a has shape (); 0-d tensors have no dimension to join along", ones(), ones()),
    wrong("cat", "a has shape (2, 3), b has shape (2, 4); they may differ in dimension 0 only", A, ones(2, 4)),
    wrong("cat", "a has shape (2, 3), b has shape (3,)", A, ones(3)),
    wrong("cat", "a has shape (2, 3); dim 2 is outside [-2, 1]", A, A, dim=2, error=IndexError),
    wrong("stack", "the list of tensors is empty; give at least one", error=ValueError),
    wrong("stack", "a has shape (2, 3), b has shape (3,); the shapes must be equal", A, ones(3)),
    wrong("stack", "a has shape (2, 3); dim 3 is outside [-3, 2]", A, A, dim=3, error=IndexError),
    wrong("flip", "a has shape (2, 3); dim 2 is outside [-2, 1]", A, dims=(2,), error=IndexError),
    wrong("roll", "a has shape (2, 3); dim 2 is outside [-2, 1]", A, shifts=1, dim=2, error=IndexError),
    wrong("pad", "a has shape (2, 3); pad (1,) must be pairs (left, right)", A, pad=(1,)),
    wrong("pad", "a has shape (3,); pad (1, 1, 1, 1) must be pairs (left, right)", ones(3), pad=(1, 1, 1, 1)),
    wrong("tril", "a has shape (3,); it needs at least two dimensions", ones(3)),
    wrong("triu", "a has shape (3,); it needs at least two dimensions", ones(3)),
]


def places(op: str, *value: Any) -> list[Mistake]:
    """What can be wrong with the index of gather and scatter."""
    return [
        wrong(op, "the index has dtype float32; it must be an integer dtype", A, A, *value, dim=0, error=DTypeError),
        wrong(op, "a has shape (2, 3), the index has shape (3,)", A, N[0], *value, dim=0),
        wrong(
            op,
            "a has shape (1, 3), the index has shape (2, 3); it may exceed a in dimension 1",
            A[:1],
            N,
            *value,
            dim=1,
        ),
        wrong(op, "the index runs from 2 to 2 in dimension 0", A, N + 2, *value, dim=0, error=IndexError),
        wrong(op, "the index runs from -1 to -1 in dimension 0", A, N - 1, *value, dim=0, error=IndexError),
        wrong(op, "a has shape (2, 3); dim 2 is outside [-2, 1]", A, N, *value, dim=2, error=IndexError),
    ]


INDICES = [
    wrong("index", "a has shape (2, 3); index 2 is out of bounds", A, index=2, error=IndexError),
    wrong("index", "a has shape (2, 3); too many indices", A, index=(0, 0, 0), error=IndexError),
    wrong("index", "a has shape (2, 3); only integers", A, index=1.5, error=IndexError),
    wrong("index", "a has shape (2, 3); boolean index did not match", A, index=M.T, error=IndexError),
    wrong("index", "a number and an array with a slice", ones(2, 3, 4), index=(0, slice(None), [1]), error=IndexError),
    wrong("index_put", "a has shape (2, 3), value has shape (2,)", A, ones(2), index=0),
    wrong(
        "index_put", "a has shape (2, 3), value has shape (3,); index 2 is out", A, ones(3), index=2, error=IndexError
    ),
    *places("gather"),
    *places("scatter", A),
    wrong("scatter", "(2, 3)", A, N, ones(2), dim=1),
    wrong("embedding", "the indices have dtype float32; use integers", A, ones(4, 3), error=DTypeError),
    wrong("embedding", "the table has shape (4,); it must be (V, D)", N, ones(4)),
    wrong("embedding", "index 4 is not one of the 4 rows 0..3", N + 4, ones(4, 3), error=IndexError),
    wrong("embedding", "index -1 is not one of the 4 rows 0..3", N - 1, ones(4, 3), error=IndexError),
    wrong("embed_tokens", "the indices have dtype float32; use integers", A, ones(4, 3), error=DTypeError),
    wrong("embed_tokens", "the table has shape (4,); it must be (V, D)", N, ones(4)),
    wrong("embed_tokens", "index 4 is not one of the 4 rows 0..3", N + 4, ones(4, 3), error=IndexError),
    wrong("embed_tokens", "the ids have shape (2, 3), the table (4, 5), the positions (2, 3)", N, ones(4, 5), A),
    wrong("embed_tokens", "the ids have shape (), the table (4, 5), the positions (2, 3)", N[0, 0], ones(4, 5), A),
    wrong("embed_tokens", "p = 1.5; a probability lies in [0, 1]", N, ones(4, 3), p=1.5, seed=1, error=ValueError),
    wrong("embed_tokens", "dropout needs a seed", N, ones(4, 3), p=0.1, error=ValueError),
]

LAYERS = [
    wrong("matmul", "a has shape (2, 3), b has shape (2, 3); the last size of a must equal", A, A),
    wrong("matmul", "a has shape (3,), b has shape (2,); the last size of a must equal", ones(3), ones(2)),
    wrong("matmul", "a has shape (2, 3), b has shape (); for 0-d tensors use a * b", A, ones()),
    wrong("matmul", "the leading sizes do not broadcast", ones(2, 3, 4), ones(3, 4, 5)),
    wrong("linear", "the weight has shape (4,); it must be (O, I)", A, ones(4)),
    wrong("linear", "x has shape (2, 3), the weight has shape (4, 2); the last sizes must be equal", A, ones(4, 2)),
    wrong("linear", "x has shape (), the weight has shape (4, 2)", ones(), ones(4, 2)),
    wrong("linear", "the weight has shape (4, 3), the bias (3,)", A, ones(4, 3), ones(3)),
    wrong(
        "masked_softmax", "the mask has dtype float32; it must be boolean, True = may attend", A, A, error=DTypeError
    ),
    wrong("masked_softmax", "a has shape (2, 3), the mask has shape (2, 2); the mask must broadcast", A, M[:, :2]),
    wrong("masked_softmax", "a has shape (3,), the mask has shape (2, 3)", A[0], M),
    wrong("layer_norm", "a has dtype int64; it must be a float dtype", N, error=DTypeError),
    wrong("layer_norm", "a has shape (); it needs a last dimension to normalise", ones()),
    wrong("layer_norm", "a has shape (2, 3), a parameter (2,); it must be (D,)", A, ones(2), None),
    wrong("layer_norm", "a has shape (2, 3), a parameter (2, 3); it must be (D,)", A, None, A),
    wrong("layer_norm", "eps = None; it must be a number", A, eps=None, error=TypeError),
    wrong("add_layer_norm", "eps = '1'; it must be a number", A, A, eps="1", error=TypeError),
    wrong("add_layer_norm", "a has dtype int64; it must be a float dtype", N, A, error=DTypeError),
    wrong("add_layer_norm", "a has dtype int64; it must be a float dtype", A, N, error=DTypeError),
    wrong("add_layer_norm", "a has shape (); it needs a last dimension to normalise", ones(), ones()),
    wrong("add_layer_norm", "a has shape (2, 3), a parameter (2,); it must be (D,)", A, A, ones(2)),
    wrong("add_layer_norm", "a has shape (2, 3), the branch has shape (3,); they must be equal", A, A[0]),
    wrong("add_layer_norm", "p = 1.5; a probability lies in [0, 1]", A, A, p=1.5, seed=1, error=ValueError),
    wrong("add_layer_norm", "dropout needs a seed", A, A, p=0.1, error=ValueError),
    wrong(MHA, "heads = 2.0; it must be a whole number", X, *W4, heads=2.0, error=TypeError),
    wrong(MHA, "x has shape (2, 3), the memory (2, 3); they must be (B, T, D) and (B, S, M)", A, *W4, heads=1),
    wrong(MHA, "x has shape (2, 4, 3), the memory (1, 4, 3)", X, *W4, *NONE, X[:1], heads=1),
    wrong(MHA, "the weight of q has shape (3, 2)", X, ones(3, 2), *W4[1:], heads=1),
    wrong(
        MHA,
        "the weight of v has shape (3, 3), its bias (2,); they must be (3, 3) and (3,)",
        X,
        *W4,
        None,
        None,
        ones(2),
        heads=1,
    ),
    wrong(MHA, "the weight of the output has shape (3, 2)", X, *W4[:3], ones(3, 2), heads=1),
    wrong(MHA, "the weight of q has shape (3, 3); its rows must be a multiple of heads = 2", X, *W4, heads=2),
    wrong(MHA, "the mask has dtype float32; boolean", X, *W4, *NONE, None, ones(4, 4), heads=1, error=DTypeError),
    wrong(
        MHA,
        "the mask has shape (4, 5); it must broadcast to the scores (2, 1, 4, 4)",
        X,
        *W4,
        *NONE,
        None,
        np.ones((4, 5), bool),
        heads=1,
    ),
    wrong(MHA, "dropout needs a seed", X, *W4, heads=1, dropout_p=0.1, error=ValueError),
    wrong("feed_forward", "x has shape (2, 3), the weights (4, 2) and (3, 4)", A, ones(4, 2), ones(3, 4)),
    wrong("feed_forward", "x has shape (2, 3), the weights (4, 3) and (3, 5)", A, ones(4, 3), ones(3, 5)),
    wrong(
        "feed_forward",
        "their biases (3,) and None; a bias is as long as its weight",
        A,
        ones(4, 3),
        ones(3, 4),
        ones(3),
    ),
    wrong(
        "feed_forward", "activation = 'swish'; it must be one of", A, W4[0], W4[0], activation="swish", error=ValueError
    ),
    wrong("feed_forward", "dropout needs a seed", A, W4[0], W4[0], p=0.1, error=ValueError),
    wrong("bias_activation", "a has dtype int64; it must be a float dtype", N, error=DTypeError),
    wrong("bias_activation", "a has shape (2, 3), the bias (2,); it must be (D,)", A, ones(2)),
    wrong("bias_activation", "a has shape (), the bias (); it must be (D,)", ones(), ones()),
    wrong("bias_activation", "activation = 'swish'; it must be one of", A, activation="swish", error=ValueError),
    wrong("bias_activation", "p = -0.1; a probability lies in [0, 1]", A, p=-0.1, seed=1, error=ValueError),
    wrong("bias_activation", "dropout needs a seed", A, p=0.1, error=ValueError),
    wrong("gru", "x has shape (2, 3), h (2, 1); they must be (T, B, 3H) and (B, H)", A, ones(2, 1), ones(3, 1)),
    wrong("gru", "x has shape (2, 4, 3), h (4, 3)", X, ones(4, 3), ones(9, 3)),
    wrong("gru", "x has shape (0, 4, 3), h (4, 1); they must be", X[:0], ones(4, 1), ones(3, 1)),
    wrong("gru", "the weight (1, 3), the bias None; they must be", X, ones(4, 1), ones(1, 3)),
    wrong("gru", "the weight (3, 1), the bias (1,); they must be", X, ones(4, 1), ones(3, 1), ones(1)),
    wrong("gru", "the mask (2, 3), dtype bool; it must be boolean, (T, B)", X, ones(4, 1), ones(3, 1), None, M),
    wrong("gru", "the mask (2, 4), dtype float32", X, ones(4, 1), ones(3, 1), None, ones(2, 4)),
    wrong("dropout", "a has dtype int64; it must be a float dtype", N, p=0.5, seed=1, error=DTypeError),
    wrong("dropout", "p = 1.5; a probability lies in [0, 1]", A, p=1.5, seed=1, error=ValueError),
    wrong("dropout", "p = -0.1; a probability lies in [0, 1]", A, p=-0.1, seed=1, error=ValueError),
    wrong("cross_entropy", "reduction = 'max'; it must be", A, N[:, 0], reduction="max", error=ValueError),
    wrong("cross_entropy", "the target has dtype float32; class indices are integers", A, A[:, 0], error=DTypeError),
    wrong("cross_entropy", "the logits have shape (2, 3), the target has shape (2, 3)", A, N),
    wrong("cross_entropy", "the logits have shape ()", ones(), np.array(0)),
    wrong("cross_entropy", "ignore_index = None; it must be a whole number", A, N, ignore_index=None, error=TypeError),
    wrong("cross_entropy", "label_smoothing = 2; it lies in [0, 1]", A, N[:, 0], label_smoothing=2, error=ValueError),
    wrong("cross_entropy", "target 3 is not one of the 3 classes 0..2", A, N[:, 0] + 3, error=IndexError),
    wrong("cross_entropy", "target -1 is not one of the 3 classes 0..2", A, N[:, 0] - 1, error=IndexError),
    wrong(SDPA, "q has shape (2, 0); for heads of size 0 give the scale", ones(2, 0), ones(3, 0), ones(3, 4)),
    wrong(SDPA, "q has shape (5,), k has shape (6, 5)", ones(5), ones(6, 5), ones(6, 5)),
    wrong(SDPA, "k has shape (6, 4); the last sizes must be equal", Q, ones(6, 4), ones(6, 5)),
    wrong(SDPA, "k has shape (6, 5), v has shape (7, 5); one value per key", Q, ones(6, 5), ones(7, 5)),
    wrong(
        SDPA,
        "q has shape (2, 3, 4, 5), k (7, 2, 4, 5), v (7, 2, 4, 5); the leading sizes must be",
        Q,
        ones(7, 2, 4, 5),
        ones(7, 2, 4, 5),
    ),
    wrong(SDPA, "dropout needs a seed", Q, Q, Q, dropout_p=0.1, error=ValueError),
    wrong(SDPA, "the mask has dtype float32; boolean, True = may attend", Q, Q, Q, ones(4, 4), error=DTypeError),
    wrong(SDPA, "the mask has shape (2, 3); it must broadcast to the scores (2, 3, 4, 4)", Q, Q, Q, M),
    wrong(SDPA, "the bias has shape (2, 3); it must broadcast to the scores (2, 3, 4, 4)", Q, Q, Q, None, A),
]

MISTAKES = [*ELEMENTWISE, *REDUCING, *SHAPES, *INDICES, *LAYERS]
