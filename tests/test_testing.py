"""The checkers, checked: every kind of wrong backward that we can think of is planted, and has to be found."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels
from minigrad.core import GradError
from minigrad.op import Op, registry
from minigrad.testing import Case, CheckError, Random, check_op, gradcheck


class Mutant(NamedTuple):
    """An op with a mistake in it, and what the checker has to say about it."""

    op: Op
    case: Case
    message: str
    error: type[Exception]


MUTANTS: list[Mutant] = []


def unregistered(forward: Callable, **options: Any) -> Op:
    op = Op(forward, **options)
    del registry[op.name]
    return op


def mutant(*inputs: Any, says: str, error: type[Exception] = CheckError, **options: Any) -> Callable[[Callable], Op]:
    """Shapes (or arrays) to call it with, and the message; the options are those of @op."""

    def plant(forward: Callable) -> Op:
        case = Case(tuple(Random(x) if isinstance(x, tuple) else x for x in inputs), without=("0-d",))
        MUTANTS.append(Mutant(unregistered(forward, **options), case, says, error))
        return MUTANTS[-1].op

    return plant


# ------------------------------------------------------------------------------------------- wrong numbers in backward
@mutant(
    (3, 4), says=r"input 0 \(x\) at \(\d, \d\), output \(\d, \d\): backward\(\) says 0, finite differences -?0\.\d+"
)
def softmax_whose_backward_returns_zeros(x):
    return kernels.softmax(x, -1), lambda g: np.zeros_like(g)


@mutant((3, 4), says=r"input 0 \(x\) at")
def square_without_its_factor(x):
    return x * x, lambda g: g * x


@mutant((3, 4), (3, 4), says=r"input 1 \(b\) at .* backward\(\) says 1, finite differences -1")
def sub_with_the_sign_of_add(a, b):
    return a - b, (lambda g: g, lambda g: g)


@mutant((3, 3), (3, 3), says=r"input 0 \(a\) at")
def matmul_that_forgets_to_transpose(a, b):
    return a @ b, (lambda g: g @ b, lambda g: a.T @ g)


@mutant((3, 3), says=r"input 0 \(x\) at \(\d, \d\)")
def identity_whose_gradient_is_transposed(x):
    return x.copy(), lambda g: g.T


@mutant((3, 4), (2, 4, 5), says=r"input 0 \(a\) at")
def matmul_that_uses_one_element_of_the_batch(a, b):
    return a @ b, (lambda g: g[0] @ b[0].T, lambda g: a.T @ g)


@mutant((2, 3), (2, 3), says=r"input 0 \(a\) at")
def mul_with_its_gradients_swapped(a, b):
    return a * b, (lambda g: g * a, lambda g: g * b)


def normalised(x):
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


@mutant(np.arange(12.0).reshape(3, 4) ** 2, says=r"input 0 \(x\) at")
def layer_norm_that_takes_the_mean_for_a_constant(x):
    n = normalised(x)
    return n, lambda g: (g - n * (g * n).mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


@mutant(np.arange(12.0).reshape(3, 4) ** 2, says=r"input 0 \(x\) at")
def layer_norm_that_takes_the_deviation_for_a_constant(x):
    return normalised(x), lambda g: (g - g.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)


@mutant((3, 4), says=r"input 0 \(x\) at \(1, 2\), output \(1, 2\)")
def exp_that_is_wrong_in_one_place(x):
    y = np.exp(x)
    wrong = np.ones_like(x)
    wrong[1:2, 2:3] = 1.01
    return y, lambda g: g * y * wrong


@mutant((3, 4), says=r"input 0 \(x\) at")
def exp_that_ignores_what_arrives(x):
    y = np.exp(x)
    return y, lambda g: y


@mutant((3, 4), says="along a random direction|input 0")
def identity_that_is_not_linear_in_what_arrives(x):
    return x.copy(), lambda g: np.abs(g)


@mutant((3, 4), says=r"input 0 \(x\) at .* says nan")
def sqrt_of_the_absolute_value_with_nan(x):
    return np.sqrt(np.abs(x)), lambda g: g * np.where(x > 0, 0.5 / np.sqrt(x), np.nan)


@mutant((4, 5), says=r"input 0 \(x\) at")
def dropout_with_other_bits_backward(x):
    return kernels.dropout(x, 0.5, 3), lambda g: kernels.dropout(g, 0.5, 4)


@mutant((3, 4), says=r"input 0 \(x\) at")
def mean_without_its_factor(x):
    return np.asarray(x.sum() / max(x.size, 1)), lambda g: np.broadcast_to(g, x.shape)


@mutant((3, 4), (4,), says=r"a gradient of shape \(3, 5\) does not fit", error=GradError)
def add_with_a_gradient_of_another_shape(a, b):
    return a + b, (lambda g: g, lambda g: np.concatenate([g, g[:, :1]], axis=1))


# -------------------------------------------------------------------------------------- right numbers, got wrongly
@mutant((3, 4), (3, 4), says="with what has arrived at input 0, its gradient at", accumulates=True)
def add_that_forgets_what_has_arrived(a, b):
    return a + b, lambda g, so_far=None: (g, g)


@mutant((3, 4), (3, 4), says="with what has arrived at input 0, the sum is no new array", accumulates=True)
def add_that_writes_where_others_read(a, b):
    def products(g, so_far=None):
        if so_far is None:
            return g, g
        so_far.flags.writeable = True
        so_far += g
        return so_far, g

    return a + b, products


@mutant((3, 4), says="the incoming gradient was written")
def exp_that_writes_into_what_arrives(x):
    y = np.exp(x)

    def product(g):
        if g.flags.writeable:
            g *= y
            return g
        return g * y

    return y, product


@mutant((3, 4), says="input 0 was written|output array is read-only", error=Exception)
def centred_in_place(x):
    x -= x.mean()
    return x.copy(), lambda g: g - g.mean()


@mutant((3, 4), says="input 0 was written")
def square_that_writes_its_input_backward(x):
    def product(g):
        d = 2 * g * x
        if x.flags.writeable:
            x[...] = 0
        return d

    return x * x, product


@mutant((3, 4), says=r"a second backward\(\)")
def exp_that_spoils_what_it_keeps(x):
    y = np.exp(x)
    kept = y.copy()

    def product(g):
        d = g * kept
        kept[...] = 0
        return d

    return y, product


@mutant((3, 4), says="the result shares memory with input 0, but the op is no view")
def identity_without_a_copy(x):
    return x[:], lambda g: g


@mutant((3, 4), says="float32: the value has shape .* and dtype float64")
def exp_that_widens(x):
    y = np.exp(x.astype(np.float64))
    return y, lambda g: g * y


@mutant((3, 4), says="the product for input 0, float32, gives float64")
def exp_that_widens_backward(x):
    y = np.exp(x)
    return y, lambda g: g * y.astype(np.float64)


@mutant((3, 4), (3, 4), says="2 inputs, but 1 vector-Jacobian products", error=GradError)
def add_with_one_product(a, b):
    return a + b, (lambda g: g,)


@mutant((3, 4), (3, 4), says="zip", error=ValueError)
def add_with_one_gradient(a, b):
    return a + b, lambda g: (g,)


@mutant((3, 4), says="transposed inputs: the value")
def identity_in_the_order_of_memory(x):
    return x.ravel("K").reshape(x.shape).copy(), lambda g: g


@mutant((3, 4), says="a transposed gradient: the gradient of input 0")
def identity_backward_in_the_order_of_memory(x):
    return x.copy(), lambda g: g.ravel("K").reshape(g.shape)


@mutant((3, 4), says="a gradient of stride 0")
def identity_that_trusts_strides(x):
    return x.copy(), lambda g: g * 0 if 0 in g.strides else g


@mutant((3, 4), says="division by zero", error=ZeroDivisionError)
def mean_that_cannot_be_empty(x):
    return np.asarray(x.sum() * (1 / x.size)), lambda g: np.broadcast_to(g / x.size, x.shape)


@mutant((3, 4), says="kernels 'numpy': the value|kernels 'numba': the value")
def exp_whose_kernels_differ(x):
    y = np.exp(x) * (1.001 if kernels.current() == "numpy" else 1.0)
    return y, lambda g: g * y


@mutant((3, 4), says="the definition: the value", definition=lambda x: mg.ops.mul(x, 2.0))
def double_that_adds_one(x):
    return 2 * x + 1, lambda g: 2 * g


@mutant(
    (3, 4), says="the definition: the gradient of input 0", definition=lambda x: mg.ops.mul(x.detach(), 2.0) + x * 0
)
def double_whose_definition_is_cut(x):
    return 2 * x, lambda g: 2 * g


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.op.name)
def test_check_op_finds(mutant):
    with pytest.raises(mutant.error, match=mutant.message) as caught:
        check_op(mutant.op, mutant.case)
    assert f"in check_op({mutant.op.name}): " in "".join(caught.value.__notes__)


def test_the_mutants_are_of_many_kinds():
    assert len(MUTANTS) >= 30
    assert not {m.op.name for m in MUTANTS} & set(registry)


@pytest.mark.parametrize(
    "blind",
    [softmax_whose_backward_returns_zeros, exp_that_ignores_what_arrives, identity_that_is_not_linear_in_what_arrives],
)
def test_a_cotangent_of_ones_is_blind(blind, rng):
    """Why gradcheck is random: `op(x).sum().backward()` finds nothing wrong with these."""
    x = rng.standard_normal((3, 4))
    leaf = mg.Tensor(x, requires_grad=True)
    blind(leaf).sum().backward()
    step = rng.standard_normal(x.shape) * 1e-6
    difference = blind(x + step).sum() - blind(x - step).sum()
    np.testing.assert_allclose((leaf.grad.data * step).sum() * 2, difference, atol=1e-12)


def test_right_ops_pass():
    @unregistered
    def cube(x):
        return x**3, lambda g: 3 * g * x * x

    check_op(cube, Case((Random((3, 4)),)))


# ------------------------------------------------------------------------------------------------------- gradcheck
def test_gradcheck_accepts_functions_of_several_inputs(rng):
    inputs = [rng.standard_normal((3, 4)), rng.standard_normal(4).astype(np.float32), np.array([0, 0, 2])]
    gradcheck(lambda x, b, index: ((x + b).tanh()[index] * x.exp()).sum(0), inputs)


def test_gradcheck_accepts_an_input_used_twice_or_never(rng):
    gradcheck(lambda x, y: x * x + x[0], [rng.standard_normal(3), rng.standard_normal(2)])


def test_gradcheck_leaves_its_inputs_alone(rng):
    x = rng.standard_normal(3)
    before = x.copy()
    gradcheck(lambda t: t.clone().mul_(2.0), [x])
    np.testing.assert_array_equal(x, before)


def test_gradcheck_names_the_worst_place_in_a_large_input(rng):
    """Too large for a whole Jacobian: random directions find it, and then it is looked for."""
    factor = np.ones((40, 40))
    factor[3, 7] = 1.5

    @unregistered
    def almost_identity(x):
        return x.copy(), lambda g: g * factor

    with pytest.raises(CheckError, match=r"gradcheck\(almost_identity\): input 0 \(x\) at \(3, 7\): backward\(\) says"):
        gradcheck(almost_identity, [rng.standard_normal((40, 40))])


def test_one_direction_can_miss_what_the_jacobian_shows(rng):
    """An error of 1e-9 beside a sum of 1e4: below rtol of the sum, but not below that of its own entry."""
    scale = np.array([1e4, 1e-4])

    @unregistered
    def scaled(x):
        return x * scale, lambda g: g * scale * np.array([1, 0.5])

    x = rng.standard_normal(2)
    gradcheck(scaled, [x], jacobian=False, rtol=1e-3)
    with pytest.raises(
        CheckError, match=r"input 0 \(x\) at \(1,\), output \(1,\): backward\(\) says 5e-05, finite differences 0.0001"
    ):
        gradcheck(scaled, [x])


@pytest.mark.parametrize(
    ("function", "inputs", "error", "message"),
    [
        (
            lambda x: x * mg.randn(2),
            [np.ones(2)],
            CheckError,
            "the same inputs gave two different results. Fix the seed",
        ),
        (lambda x: x.detach() * 2, [np.ones(2)], CheckError, "does not require a gradient: somewhere the graph is cut"),
        (lambda x: x.float(), [np.ones(2)], CheckError, "float64 inputs gave a result of dtype float32"),
        (lambda x: x * 2, [np.ones(2, int)], ValueError, "no input is of a float dtype"),
        (lambda x: x.data, [np.ones(2)], TypeError, "the function must return a Tensor, not ndarray"),
    ],
)
def test_gradcheck_says_what_it_cannot_check(function, inputs, error, message):
    with pytest.raises(error, match=message):
        gradcheck(function, inputs)


def test_gradcheck_of_nothing():
    gradcheck(lambda x: x.exp(), [np.zeros((0, 3))])
    with pytest.raises(CheckError, match="input 0"):
        gradcheck(lambda x: mg.ops.sum(x.detach()) + x.sum() * 0, [np.ones(1)])
