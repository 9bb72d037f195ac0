"""What ops cost: closed forms, and the price of an op is that of its definition."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels
from minigrad.op import op, registry
from minigrad.testing import Random
from minigrad.trace import flops

from .op_cases import CASES

COMPOSITE = [name for name, one in registry.items() if one.definition is not None]


def leaf(x, wanted=True):
    return mg.tensor(x, requires_grad=wanted and np.asarray(x).dtype.kind == "f")


def recorded(name, *inputs, detail="op", **settings):
    with mg.record(detail=detail) as rec:
        registry[name](*inputs, **settings)
    return rec


def step_of(name, *inputs, **settings):
    (step,) = [s for s in recorded(name, *inputs, **settings).steps if s.kind == name]
    return step


def ones(*shape, wanted=True):
    return leaf(np.ones(shape, np.float32), wanted)


# ----------------------------------------------------------------------------------------------------------- the tables
def test_every_op_is_in_both_tables():
    ours = {name for name in registry if registry[name].forward.__module__.startswith("minigrad.ops")}
    assert set(flops.FORWARD) == set(flops.BACKWARD) == ours


def drawn(inputs, rng):
    """The arguments; those with real numbers want a gradient."""
    arrays = [x.draw(rng) if isinstance(x, Random) else x for x in inputs]
    return [x if x is None or x.dtype.kind != "f" else leaf(x) for x in arrays]


@pytest.mark.parametrize("name", COMPOSITE)
def test_an_op_costs_what_its_definition_costs(name, rng):
    for case in CASES[name]:
        for sizes, inputs in case.variants():
            if sizes == "size 0":  # some definitions cannot be run
                continue
            arguments = drawn(inputs, rng)
            whole = recorded(name, *arguments, **case.settings)
            parts = recorded(name, *arguments, **case.settings, detail="definition")
            assert sum(s.flops for s in whole.steps) == sum(s.flops for s in parts.steps), (case, inputs)


@pytest.mark.parametrize("name", list(registry))
def test_counts_are_whole_numbers_from_zero(name, rng):
    for case in CASES.get(name, []):
        for step in recorded(name, *drawn(case.inputs, rng), **case.settings).steps:
            assert isinstance(step.flops, int)
            assert isinstance(step.backward_flops, int)
            assert min(step.flops, step.backward_flops) >= 0


def test_an_op_that_nobody_counted_has_no_count():
    @op
    def doubled(x):
        """y = 2 x"""
        return 2 * x, lambda g: 2 * g

    try:
        step = step_of("doubled", ones(3))
        assert (step.flops, step.backward_flops) == (None, None)
    finally:
        del registry["doubled"]


# --------------------------------------------------------------------------------------------------------- closed forms
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((3, 4), (4, 5), 2 * 3 * 4 * 5),
        ((6, 2, 3, 4), (4, 5), 12 * 2 * 3 * 4 * 5),
        ((6, 1, 3, 4), (2, 4, 5), 12 * 2 * 3 * 4 * 5),
        ((4,), (4,), 2 * 4),
        ((4,), (2, 4, 5), 2 * 2 * 4 * 5),
        ((3, 0), (0, 5), 0),
    ],
)
def test_a_matrix_product_is_two_operations_for_each_triple(a, b, expected):
    assert step_of("matmul", ones(*a), ones(*b)).flops == expected


def test_the_way_back_of_a_product_costs_as_much_as_forwards_for_each_wanted_argument():
    one = 2 * 3 * 4 * 5
    assert step_of("matmul", ones(3, 4), ones(4, 5)).backward_flops == 2 * one
    assert step_of("matmul", ones(3, 4, wanted=False), ones(4, 5)).backward_flops == one
    assert step_of("matmul", ones(3, 4), ones(4, 5, wanted=False)).backward_flops == one


def test_sums_over_what_was_broadcast_count():
    assert step_of("matmul", ones(3, 4), ones(2, 4, 5)).backward_flops == 2 * (2 * 2 * 3 * 4 * 5) + 2 * 3 * 4
    assert step_of("matmul", ones(2, 3, 4), ones(4, 5)).backward_flops == 2 * (2 * 2 * 3 * 4 * 5)
    assert step_of("add", ones(3, 4), ones(4)).backward_flops == 3 * 4
    assert step_of("mul", ones(3, 4), ones(4)).backward_flops == 3 * 4 + 2 * 3 * 4
    assert step_of("mul", ones(3, 4), ones(4, wanted=False)).backward_flops == 3 * 4


def test_a_linear_layer():
    step = step_of("linear", ones(2, 3, 4), ones(5, 4), ones(5))
    assert step.flops == 2 * (6 * 4 * 5) + 6 * 5
    assert step.backward_flops == 2 * 2 * (6 * 4 * 5) + 6 * 5
    step = step_of("linear", ones(2, 3, 4, wanted=False), ones(5, 4), ones(5))
    assert step.backward_flops == 2 * (6 * 4 * 5) + 6 * 5


def test_softmax_along_any_dimension():
    assert [step_of("softmax", ones(3, 4), dim=dim).flops for dim in (0, 1)] == [60, 60]
    assert [step_of("log_softmax", ones(3, 4), dim=dim).flops for dim in (0, 1)] == [60 + 2 * 4, 60 + 2 * 3]
    assert step_of("softmax", ones(3, 4)).backward_flops == 4 * 12


B, H, T, S, K, D, F = 2, 3, 4, 5, 6, 18, 7


def test_attention():
    q, k, v = ones(B, H, T, K), ones(B, H, S, K), ones(B, H, S, K)
    step = step_of("scaled_dot_product_attention", q, k, v)
    scores = B * H * T * S
    assert step.flops == 2 * (2 * scores * K) + scores + 5 * scores
    assert step.backward_flops == 4 * (2 * scores * K) + 4 * scores + scores
    only_v = step_of("scaled_dot_product_attention", q.detach(), k.detach(), v)
    assert only_v.backward_flops == 2 * scores * K
    dropped = step_of("scaled_dot_product_attention", q, k, v, dropout_p=0.5, seed=1)
    assert dropped.flops - step.flops == scores
    assert dropped.backward_flops - step.backward_flops == 2 * scores


def test_a_layer_norm_and_its_residual():
    x, w = ones(3, 4), ones(4)
    assert step_of("layer_norm", x, w, w).flops == 5 * 12 + 4 * 3 + 2 * 12
    assert step_of("layer_norm", x, w, w).backward_flops == 8 * 12 + 2 * 3 + 3 * 12
    assert step_of("layer_norm", x.detach(), w, w).backward_flops == 3 * 12
    added = step_of("add_layer_norm", x.detach(), x, w, w, p=0.5, seed=1)
    assert added.flops == step_of("layer_norm", x, w, w).flops + 2 * 12
    assert added.backward_flops == step_of("layer_norm", x, w, w).backward_flops + 12


def products(steps):
    """Operations of the matrix products: forward, backward."""
    found = [s for s in steps if s.kind == "matmul"]
    return sum(s.flops for s in found), sum(s.backward_flops for s in found)


def every_choice(n):
    return [{i for i in range(n) if bits >> i & 1} for bits in range(1, 2**n)]


def between_products(name, o):
    """What the way back of an op has besides matrix products."""
    softmax = B * H * T * S * 5 * o.wants("x", "memory", "q", "k", "w_q", "w_k", "b_q", "b_k")  # and the scale
    return {
        "linear": 6 * 5 * o.wants("bias"),
        "scaled_dot_product_attention": softmax,
        "multi_head_attention": softmax
        + B * D * (T * (o.wants("b_q") + o.wants("b_o")) + S * (o.wants("b_k") + o.wants("b_v"))),
        "feed_forward": B * T * (F * (o.wants("x", "w_1", "b_1") + o.wants("b_1")) + D * o.wants("b_2")),
        "gru": 18 * T * B * K + T * B * 3 * K * o.wants("bias"),
    }[name]


PRODUCTS = {
    "linear": ([(6, 4), (5, 4), (5,)], {}),
    "scaled_dot_product_attention": ([(B, H, T, K), (B, H, S, K), (B, H, S, K)], {}),
    "multi_head_attention": ([(B, T, D), *[(D, D)] * 4, *[(D,)] * 4, (B, S, D)], {"heads": H}),
    "feed_forward": ([(B, T, D), (F, D), (D, F), (F,), (D,)], {}),
    "gru": ([(T, B, 3 * K), (B, K), (3 * K, K), (3 * K,)], {}),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_matrix_products_are_those_of_the_definition_whatever_is_wanted(name, rng):
    shapes, settings = PRODUCTS[name]
    choices = every_choice(len(shapes)) if len(shapes) < 6 else [{0}, {4}, {1, 5}, {9}, {3, 9}, {7}, set(range(10))]
    for wanted in choices:
        arguments = [leaf(rng.standard_normal(shape), i in wanted) for i, shape in enumerate(shapes)]
        step = step_of(name, *arguments, **settings)
        parts = recorded(name, *arguments, **settings, detail="definition")
        assert step.backward_flops == products(parts.steps)[1] + between_products(name, flops.Shapes(step)), wanted


def test_what_the_kernels_multiply_is_what_is_counted(either, rng):
    """The counts against the shapes that the kernel of matrix products has really been given."""
    a, b = leaf(rng.standard_normal((2, 3, 4))), leaf(rng.standard_normal((4, 5)))
    seen = []

    def listener(name, seconds, arguments, results):
        if name == "matmul":
            seen.append(2 * math.prod(results[0].shape) * arguments[0].shape[-1])

    with mg.record() as rec, kernels.listen(listener):
        y = (a @ b) @ leaf(rng.standard_normal((2, 5, 3)))
        y.backward(rng.standard_normal(y.shape))
    assert sum(seen) == sum(s.flops + s.backward_flops for s in rec.steps)


def test_recurrence_needs_no_gradient_of_a_first_state_that_is_given():
    x, h, w = ones(T, B, 3 * K), ones(B, K), ones(3 * K, K)
    with_h, without = step_of("gru", x, h, w), step_of("gru", x, h.detach(), w)
    assert with_h.backward_flops - without.backward_flops == 2 * B * 3 * K * K
    assert with_h.flops == T * (2 * B * 3 * K * K + 11 * B * K)


def test_the_bytes_of_a_step():
    assert step_of("matmul", ones(3, 4), ones(4, 5)).nbytes == 4 * (12 + 20 + 15)
    assert step_of("reshape", ones(3, 4), shape=(12,)).nbytes == 0  # the same memory
    assert step_of("cast", ones(3, 4), dtype=np.float64).nbytes == 12 * (4 + 8)


def test_settings_are_kept_if_they_are_numbers_or_words():
    step = step_of("multi_head_attention", ones(1, 2, 4), *[ones(4, 4)] * 4, heads=2, mask=np.ones((2, 2), bool))
    assert step.settings == {"heads": 2}
