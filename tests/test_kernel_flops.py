"""What kernels cost: for an op made of one kernel what the op costs, and for a model the same matrix products."""

import inspect

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, ops
from minigrad.kernels import reference
from minigrad.nn import functional as F
from minigrad.op import registry
from minigrad.trace import flops
from minigrad.trace.kernel_flops import KERNELS, operations

from .models import sentences, small_model

PUBLIC = {
    name: function
    for name, function in vars(kernels).items()
    if inspect.isfunction(function) and function.__module__ == kernels.__name__ and hasattr(reference, name)
}


def leaf(rng, *shape):
    return mg.tensor(rng.standard_normal(shape), requires_grad=True)


# ------------------------------------------------------------------------------------------------------------ the table
def test_every_kernel_is_in_the_table():
    assert set(KERNELS) == {*PUBLIC, "attention_vjp"}
    assert [name for name, count in KERNELS.items() if count is None] == ["empty"]
    assert operations("empty", ((2, 3), np.float32)) is operations("nobody knows", ()) is None


@pytest.mark.parametrize("name", [name for name in PUBLIC if KERNELS[name] is not None])
def test_a_count_takes_the_arguments_of_its_kernel(name):
    positional = [x for x in inspect.signature(PUBLIC[name]).parameters.values() if x.kind != x.KEYWORD_ONLY]
    needed = [x for x in positional if x.default is x.empty]
    bound = [inspect.signature(KERNELS[name]).bind(*given) for given in (positional, needed)]
    assert [len(x.args) for x in bound] == [len(positional), len(needed)]


# --------------------------------------------------------------------------------------- an op that is made of a kernel
M = np.arange(3 * 5).reshape(3, 5) % 4 > 0
ALIKE = [
    ("matmul", [(3, 4), (4, 5)], {}),
    ("matmul", [(2, 3, 4), (4, 5)], {}),
    ("matmul", [(6, 2, 3, 4), (6, 2, 4, 5)], {}),
    ("linear", [(2, 3, 4), (5, 4), (5,)], {}),
    ("linear", [(3, 4), (5, 4)], {}),
    ("softmax", [(3, 5)], {"dim": 0}),
    ("softmax", [(2, 3, 5)], {"dim": -1}),
    ("log_softmax", [(3, 5)], {"dim": 0}),
    ("masked_softmax", [(3, 5), M], {}),
    ("masked_softmax", [(3, 5), M], {"scale": 0.5}),
    ("layer_norm", [(2, 3, 5), (5,), (5,)], {}),
    ("add_layer_norm", [(3, 5), (3, 5), (5,), (5,)], {}),
    ("add_layer_norm", [(3, 5), (3, 5), (5,), (5,)], {"p": 0.5, "seed": 1}),
    ("gelu", [(3, 5)], {}),
    ("dropout", [(3, 5)], {"p": 0.5, "seed": 1}),
    *[("bias_activation", [(3, 5), (5,)], {"activation": name}) for name in flops.ACTIVATIONS],
    ("bias_activation", [(2, 3, 5), (5,)], {"activation": "gelu", "p": 0.5, "seed": 1}),
    ("scaled_dot_product_attention", [(2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 7)], {}),
    ("scaled_dot_product_attention", [(2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 7)], {"dropout_p": 0.5, "seed": 1}),
    ("scaled_dot_product_attention", [(3, 4, 6), (3, 4, 6), (3, 4, 6)], {"causal": True}),
    ("multi_head_attention", [(2, 4, 6), *[(6, 6)] * 4, *[(6,)] * 4], {"heads": 3}),
    ("multi_head_attention", [(2, 4, 6), *[(6, 6)] * 4, *[(6,)] * 4, (2, 5, 6)], {"heads": 2}),
    ("feed_forward", [(2, 4, 6), (7, 6), (6, 7), (7,), (6,)], {"activation": "gelu"}),
    ("feed_forward", [(2, 4, 6), (7, 6), (6, 7), (7,), (6,)], {"p": 0.5, "seed": 1}),
]


@pytest.mark.parametrize(("name", "given", "settings"), ALIKE)
def test_the_kernels_of_an_op_cost_what_the_op_costs(either, rng, name, given, settings):
    arguments = [x if isinstance(x, np.ndarray) else leaf(rng, *x) for x in given]
    with mg.record() as rec:
        y = registry[name](*arguments, **settings)
        forward = sum(call.flops for call in rec.kernel_calls)
        y.backward(rng.standard_normal(y.shape))
    assert rec[name].flops == forward > 0
    assert rec[name].backward_flops == sum(call.flops for call in rec.kernel_calls) - forward > 0


def test_an_embedding_that_scales_and_adds_positions(either, rng):
    weight, positions = leaf(rng, 7, 5), leaf(rng, 3, 5)
    with mg.record() as rec:
        y = ops.embed_tokens(mg.tensor([[1, 2, 6], [0, 1, 1]]), weight, positions, scale=2.0)
        y.backward(rng.standard_normal(y.shape))
    found = {row.name: row.flops for row in rec.profile("kernel")}
    step = rec["embed_tokens"]
    assert (found["embed_tokens"], found["embed_tokens_vjp"]) == (step.flops, step.backward_flops) == (2 * 30, 3 * 30)


# --------------------------------------------------------------------------------------------------------- closed forms
def test_kernels_that_are_no_op():
    x, ids = np.ones((3, 4)), np.zeros((2, 5), np.int64)
    assert operations("matmul_add", (np.ones((3, 5)), x, np.ones((4, 5)))) == 2 * 3 * 4 * 5
    assert operations("column_sums", (x,)) == operations("rescale", (x, 2.0)) == operations("add", (x, x, None)) == 12
    assert operations("sum_of_squares", (x,)) == 2 * 12
    assert operations("erf", (x,)) == 12
    assert operations("count_indices", (ids, 4, None)) == 4 * 10
    assert operations("count_indices", (ids, 4, 0)) == 5 * 10
    assert operations("layer_norm", (np.ones((0, 4)), None, None, 1e-5)) == 0


@pytest.mark.parametrize(("decay", "decoupled", "expected"), [(0.0, False, 13), (0.1, True, 14), (0.1, False, 15)])
def test_adam(decay, decoupled, expected):
    p = np.ones((3, 4))
    assert operations("adam", (p, p, p, p, 0.1, 0.9, 0.99, 1e-8, decay, decoupled, 1)) == expected * 12


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_and_its_gradient(either, rng, smoothing):
    x, target = leaf(rng, 6, 5), mg.tensor([0, 1, 2, 3, 4, 0])
    with mg.record() as rec:
        F.cross_entropy(x, target, label_smoothing=smoothing, reduction="none").backward(rng.standard_normal(6))
    row = next(row for row in rec.profile("kernel") if row.name == "cross_entropy")
    assert row.flops == rec["cross_entropy"].flops + 3 * 30  # p, p - t, and its scale


# ------------------------------------------------------------------------------------------------------ a training step
MULTIPLY = ("matmul", "linear", "linear_vjp", "attention", "attention_vjp")
BESIDE = ("column_sums", "bias_activation", "bias_activation_vjp")  # in a linear and in a feed-forward layer


@pytest.mark.parametrize("changes", [{}, {"norm_first": True, "activation": "gelu", "dropout": 0.1}])
def test_the_matrix_products_of_a_training_step_are_those_of_its_ops(either, rng, changes):
    model = small_model(**changes)
    src, tgt = sentences(rng, [5, 3]), sentences(rng, [4, 4], bos=True)
    with mg.record(model) as rec:
        F.cross_entropy(model(src, tgt).flatten(0, -2), mg.tensor(tgt).flatten()).backward()
    table = rec.profile("kernel")
    ops = {row.name: row.flops for row in rec.profile("op")}
    products = sum(row.flops for row in table if row.name in (*MULTIPLY, *BESIDE))
    assert products == sum(ops[name] for name in ("linear", "multi_head_attention", "feed_forward"))
    for row in table[:-1]:
        assert row.flops == sum(call.flops for call in rec.kernel_calls if call.name == row.name)
        assert row.gflops_per_s == pytest.approx(row.flops / row.ms / 1e6)
