"""Every op of the registry: against finite differences, its definition, its twins, plain Python, and PyTorch."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.op import registry
from minigrad.testing import Case, Random, check_op
from tests import oracle
from tests.op_cases import CASES
from tests.op_mistakes import MISTAKES
from tests.op_statements import STATEMENTS
from tests.op_torch import TORCH

NAMES = sorted(CASES)


def arrays_of(case: Case, rng: np.random.Generator) -> list[tuple]:
    """The inputs of a case and of its variants in other sizes."""
    return [tuple(x.draw(rng) if isinstance(x, Random) else x for x in inputs) for _, inputs in case.variants()]


def as_tensor(x, requires_grad=True):
    return mg.Tensor(x, requires_grad=requires_grad and x.dtype.kind == "f") if isinstance(x, np.ndarray) else x


def test_every_op_has_cases_and_an_independent_statement():
    assert set(registry) == set(CASES) == set(STATEMENTS) == {*TORCH, "dropout"}  # the bits of dropout are our own
    assert set(registry) == {mistake.op for mistake in MISTAKES} | CANNOT_FAIL


# Element by element, on one array: there is nothing to get wrong.
CANNOT_FAIL = {"exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "erf", "relu", "gelu", "abs", "isfinite"} | {
    "contiguous",
    "clone",
    "alias",
    "cast",
}


@pytest.mark.parametrize("name", NAMES)
def test_check_op(name):
    for case in CASES[name]:
        check_op(registry[name], case)


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_states_the_equation_and_the_derivative(name, rng):
    text = registry[name].__doc__
    assert "=" in text or "no gradient" in text.lower()
    differentiable = False
    for case in CASES[name]:
        result = registry[name](*map(as_tensor, arrays_of(case, rng)[0]), **case.settings)
        differentiable = differentiable or result.requires_grad
    if differentiable:
        assert "dL/d" in text or "gets g" in text
    else:
        assert "no gradient" in text.lower()
        assert "dL/d" not in text


@pytest.mark.parametrize("name", NAMES)
def test_values_agree_with_the_statement(name, rng):
    for case in CASES[name]:
        for arrays in arrays_of(case, rng):
            expected = np.asarray(STATEMENTS[name](*arrays, **case.settings))
            value = registry[name](*arrays, **case.settings)
            assert value.shape == expected.shape
            np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-12)


# What PyTorch does not do, or does differently.
NOT_IN_TORCH = {
    "multi_head_attention": lambda case, arrays: case.settings.get("dropout_p"),  # other bits
    "index": lambda case, arrays: "slice(None, 0, -1)" in str(case.settings),  # negative steps
    "var": lambda case, arrays: arrays[0].size == 0,  # warns
    "std": lambda case, arrays: arrays[0].size == 0,
    "scaled_dot_product_attention": lambda case, arrays: (
        case.settings.get("dropout_p") or any(x is not None and x.size == 0 for x in arrays)  # other bits; no dL/dbias
    ),
}


@pytest.mark.parametrize("name", sorted(TORCH))
def test_values_gradients_and_dtypes_agree_with_torch(name, rng):
    torch = oracle.torch()
    for case in CASES[name]:
        for arrays in arrays_of(case, rng):
            if name in NOT_IN_TORCH and NOT_IN_TORCH[name](case, arrays):
                continue
            ours = [as_tensor(x) for x in arrays]
            theirs = [x if x is None else torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in arrays]
            y, expected = registry[name](*ours, **case.settings), TORCH[name](torch, *theirs, **case.settings)
            assert (y.shape, str(y.dtype)) == (tuple(expected.shape), str(expected.dtype).removeprefix("torch."))
            np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
            if y.requires_grad:
                cotangent = np.asarray(rng.standard_normal(y.shape))
                y.backward(cotangent)
                expected.backward(torch.tensor(cotangent))
                for a, b in zip(ours, theirs, strict=True):
                    if isinstance(a, mg.Tensor) and a.requires_grad:
                        np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("as_tensors", [False, True])
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m.op}-{m.says[:40]}")
def test_a_mistake_is_answered_with_a_clear_error(mistake, as_tensors):
    inputs = [as_tensor(x) for x in mistake.inputs] if as_tensors else mistake.inputs
    with pytest.raises(mistake.error) as caught:
        registry[mistake.op](*inputs, **mistake.settings)
    assert type(caught.value) is mistake.error
    assert f"{mistake.op}(): " in str(caught.value)
    assert mistake.says in str(caught.value)


# ------------------------------------------------------------------------------------------------ beyond check_op
def test_index_says_to_index_twice_where_numpy_and_pytorch_disagree(rng):
    x = as_tensor(rng.standard_normal((3, 4, 5)))
    with pytest.raises(IndexError, match=r"index\(\): a number and an array with a slice between them"):
        x[0, :, [1, 2]] = 1.0
    np.testing.assert_array_equal(x[0][:, [1, 2]].data, np.stack([x.data[0, :, 1], x.data[0, :, 2]], axis=-1))


def test_an_op_in_the_registry_cannot_be_replaced():
    from minigrad.op import op

    def add(a, b):
        return a

    with pytest.raises(ValueError, match="there is already an op named 'add'"):
        op(add)


def test_arrays_may_be_given_by_name(rng):
    x, weight, bias = (as_tensor(rng.standard_normal(s)) for s in [(2, 3), (3,), (3,)])
    y = mg.ops.layer_norm(x, bias=bias, weight=weight, eps=0.1)
    np.testing.assert_array_equal(y.data, mg.ops.layer_norm(x, weight, bias, eps=0.1).data)
    assert y.node.parents == (x.node, weight.node, bias.node)
    with pytest.raises(TypeError, match="missing a required argument: 'b'"):
        mg.ops.matmul(x)
    with pytest.raises(TypeError, match="dims"):
        mg.ops.sum(x, dims=1)


def test_padding_row_gets_no_gradient_but_is_looked_up(rng):
    weight = as_tensor(rng.standard_normal((4, 2)))
    y = mg.ops.embedding(np.array([2, 1, 2]), weight, padding_idx=2)
    np.testing.assert_array_equal(y.data, weight.data[[2, 1, 2]])
    g = rng.standard_normal((3, 2))
    y.backward(g)
    np.testing.assert_array_equal(weight.grad.data, [[0, 0], g[1], [0, 0], [0, 0]])


@pytest.mark.parametrize("op", ["var", "std"])
def test_too_few_elements_for_a_variance_are_nan(op):
    x = as_tensor(np.ones((2, 1), np.float32))
    y = registry[op](x, dim=1)
    assert np.isnan(y.data).all()
    assert np.isnan(registry[op](as_tensor(np.ones((2, 0))), dim=1).data).all()


def test_logsumexp_of_nothing_is_minus_infinity():
    x = as_tensor(np.zeros((2, 0)))
    y = mg.ops.logsumexp(x, dim=1)
    y.backward(np.array([1.0, 2.0]))
    assert (y.tolist(), x.grad.shape) == ([-np.inf, -np.inf], (2, 0))


def test_layer_norm_does_not_see_shift_and_stretch(rng):
    x = rng.standard_normal((5, 8))
    np.testing.assert_allclose(mg.ops.layer_norm(3 * x + 2, eps=0.0), mg.ops.layer_norm(x, eps=0.0), rtol=1e-12)
    leaf = as_tensor(x)
    mg.ops.layer_norm(leaf, eps=0.0).backward(rng.standard_normal(x.shape))
    np.testing.assert_allclose((leaf.grad.data * np.stack([x, np.ones_like(x)])).sum(-1), np.zeros((2, 5)), atol=1e-12)


def test_dropout_keeps_the_mean_and_uses_the_same_bits_backward(rng):
    x = as_tensor(np.ones((200, 300)))
    y = mg.ops.dropout(x, p=0.3, seed=7)
    g = rng.standard_normal(x.shape)
    y.backward(g)
    np.testing.assert_allclose(x.grad.data, g * y.data)  # the input was 1: the output is the mask, scaled
    assert set(np.unique(y.data).round(12)) == {0.0, round(1 / 0.7, 12)}
    assert abs(y.data.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / x.numel())


def test_attention_with_causal_cannot_see_the_future(rng):
    q, k, v = (rng.standard_normal((1, 2, 5, 3)) for _ in range(3))
    before = mg.ops.scaled_dot_product_attention(q, k, v, causal=True)
    k[:, :, 3:], v[:, :, 3:] = rng.standard_normal((2, 1, 2, 2, 3))
    after = mg.ops.scaled_dot_product_attention(q, k, v, causal=True)
    np.testing.assert_array_equal(before[:, :, :3], after[:, :, :3])
    assert (before[:, :, 3:] != after[:, :, 3:]).all()


def test_what_is_masked_may_be_anything_at_all(rng):
    """Also infinite or NaN: the mask chooses, it is not added."""
    clean, mask = rng.standard_normal((3, 4)), np.array([True, True, False, True])
    dirty = clean.copy()
    dirty[:, 2] = [np.nan, np.inf, -np.inf]
    x, z = as_tensor(clean), as_tensor(dirty)
    g = rng.standard_normal((3, 4))
    values = [mg.ops.masked_softmax(t, mask) for t in (x, z)]
    for value in values:
        value.backward(g)
    np.testing.assert_array_equal(values[0].data, values[1].data)
    np.testing.assert_array_equal(x.grad.data, z.grad.data)
    np.testing.assert_array_equal(z.grad.data[:, 2], 0)


def test_a_target_of_probability_zero_elsewhere_does_not_spoil_the_loss():
    """Classes ruled out by -inf: PyTorch's loss is finite without label smoothing, infinite with it."""
    logits = as_tensor(np.array([[1.0, -np.inf, 2.0]]))
    loss = mg.ops.cross_entropy(logits, np.array([2]))
    loss.backward()
    p = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(loss.item(), -np.log(p))
    np.testing.assert_allclose(logits.grad.data, [[1 - p, 0, p - 1]])
    assert mg.ops.cross_entropy(logits, np.array([2]), label_smoothing=0.1).item() == np.inf
