"""What happens at ties, kinks, infinities and NaN: PyTorch's answers, written down and compared with PyTorch itself."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad.core import definitions
from tests import oracle

inf, nan = np.inf, np.nan


class Convention(NamedTuple):
    """`function(m, *xs)` runs with m = minigrad and with m = torch; the loss is sum(cotangent * y)."""

    name: str
    function: Callable[..., Any]
    inputs: list[Any]
    value: Any
    gradients: list[Any]
    cotangent: Any = None


def standardised(m, x):
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)


CONVENTIONS = [
    # ties
    Convention("max shares", lambda m, x: x.max(), [[1, 3, 3]], 3, [[0, 0.5, 0.5]]),
    Convention(
        "amax shares", lambda m, x: x.amax(1), [[[1, 3, 3], [2, 2, 2]]], [3, 2], [[[0, 1, 1], [1, 1, 1]]], [2, 3]
    ),
    Convention("amin shares", lambda m, x: x.amin(1), [[[1, 1, 3]]], [1], [[[0.5, 0.5, 0]]]),
    Convention("max(dim) does not share", lambda m, x: x.max(dim=0).values, [[3, 1, 3]], 3, [[1, 0, 0]]),
    Convention("min(dim) does not share", lambda m, x: x.min(dim=0).values, [[3, 1, 1]], 1, [[0, 1, 0]]),
    Convention("maximum shares", lambda m, a, b: m.maximum(a, b), [[1, 2], [1, 0]], [1, 2], [[2, 3], [2, 0]], [4, 3]),
    Convention("minimum shares", lambda m, a, b: m.minimum(a, b), [[1, 2], [1, 0]], [1, 0], [[2, 0], [2, 3]], [4, 3]),
    # kinks
    Convention("relu at 0", lambda m, x: x.relu(), [[-1, 0, 2]], [0, 0, 2], [[0, 0, 1]]),
    Convention("abs at 0", lambda m, x: x.abs(), [[-1, 0, 2]], [1, 0, 2], [[-1, 0, 1]]),
    Convention(
        "clamp at its bounds", lambda m, x: x.clamp(-1, 1), [[-2, -1, 0, 1, 2]], [-1, -1, 0, 1, 1], [[0, 1, 1, 1, 0]]
    ),
    Convention("std of a constant", lambda m, x: x.std(-1), [[[2, 2, 2]]], [0], [[[0, 0, 0]]]),
    Convention("standardised constant", standardised, [[[2, 2, 2]]], [[0, 0, 0]], [[[1e6, 0, -1e6]]], [[1, 0, -1]]),
    # where the slope is infinite
    Convention("sqrt at 0", lambda m, x: x.sqrt(), [[0, 4]], [0, 2], [[inf, 0.25]]),
    Convention("sqrt below 0", lambda m, x: x.sqrt(), [[-1]], [nan], [[nan]]),
    Convention("x sqrt(x) at 0", lambda m, x: x * x.sqrt(), [[0]], [0], [[nan]]),
    Convention("log at 0", lambda m, x: x.log(), [[0, 1]], [-inf, 0], [[inf, 1]]),
    Convention("log below 0", lambda m, x: x.log(), [[-1]], [nan], [[-1]]),
    Convention("1 / x at 0", lambda m, x: 1 / x, [[0]], [inf], [[-inf]]),
    Convention("0 / 0", lambda m, a, b: a / b, [[0], [0]], [nan], [[inf], [nan]]),
    # powers
    Convention("0 squared", lambda m, x: x**2, [[0, -3]], [0, 9], [[0, -6]]),
    Convention("power 0", lambda m, x: x**0, [[0, -3]], [1, 1], [[0, 0]]),
    Convention("power 1", lambda m, x: x**1, [[0, -3]], [0, -3], [[1, 1]]),
    Convention("(-8)^3", lambda m, x: x**3, [[-8]], [-512], [[192]]),
    Convention("0^-1", lambda m, x: x**-1, [[0]], [inf], [[-inf]]),
    Convention("0^0.5", lambda m, x: x**0.5, [[0]], [0], [[inf]]),
    Convention("root of a negative", lambda m, x: x**0.5, [[-1]], [nan], [[nan]]),
    Convention("0^b", lambda m, a, b: a**b, [[0, 0], [2, 0]], [0, 1], [[0, 0], [0, 0]]),
    Convention("2^x", lambda m, x: 2.0**x, [[3]], [8], [[8 * np.log(2)]]),
    # infinite and NaN
    Convention("inf - inf", lambda m, a, b: a - b, [[inf], [inf]], [nan], [[1], [-1]]),
    Convention("0 inf", lambda m, a, b: a * b, [[0], [inf]], [nan], [[inf], [0]]),
    Convention("exp overflows", lambda m, x: x.exp(), [[1e4, -1e4]], [inf, 0], [[inf, 0]]),
    Convention("sin of inf", lambda m, x: x.sin(), [[inf]], [nan], [[nan]]),
    Convention("tanh of inf", lambda m, x: x.tanh(), [[inf, -inf]], [1, -1], [[0, 0]]),
    Convention("NaN wins a maximum", lambda m, x: x.max().isfinite() * 1.0 + x * 0, [[nan, 3]], [nan, 0], [[0, 0]]),
    Convention("log of a branch not taken", lambda m, x: m.where(x > 0, x.log(), 0.0), [[0, 1]], [0, 0], [[nan, 1]]),
    Convention(
        "where before the log",
        lambda m, x: m.where(x > 0, m.where(x > 0, x, 1.0).log(), 0.0),
        [[0, 2]],
        [0, np.log(2)],
        [[0, 0.5]],
    ),
    # softmax and its relatives
    Convention(
        "softmax of masked scores",
        lambda m, x: x.masked_fill(m.tensor([[False, True, False]]), -inf).softmax(-1),
        [[[1, 50, 1]]],
        [[0.5, 0, 0.5]],
        [[[-0.5, 0, 0.5]]],
        [[1, 7, 3]],
    ),
    Convention("softmax of -inf only", lambda m, x: x.softmax(-1), [[[-inf, -inf]]], [[nan, nan]], [[[nan, nan]]]),
    Convention(
        "softmax of -1e9 only", lambda m, x: x.softmax(-1), [[[-1e9, -1e9]]], [[0.5, 0.5]], [[[-0.5, 0.5]]], [[1, 3]]
    ),
    Convention(
        "softmax with NaN",
        lambda m, x: x.softmax(-1),
        [[[nan, 1], [0, 0]]],
        [[nan, nan], [0.5, 0.5]],
        [[[nan, nan], [0, 0]]],
    ),
    Convention(
        "softmax far apart", lambda m, x: x.softmax(-1), [[1e4, -1e4, 1e4]], [0.5, 0, 0.5], [[-0.5, 0, 0.5]], [1, 2, 3]
    ),
    Convention("log_softmax far apart", lambda m, x: x.log_softmax(-1), [[1e4, -1e4]], [0, -2e4], [[-2, 2]], [1, 2]),
    Convention("log_softmax with -inf", lambda m, x: x.log_softmax(-1), [[0, -inf]], [0, -inf], [[-2, 2]], [1, 2]),
    Convention(
        "logsumexp far apart", lambda m, x: x.logsumexp(-1), [[1e4, -1e4, 1e4]], 1e4 + np.log(2), [[0.5, 0, 0.5]]
    ),
    Convention("logsumexp with -inf", lambda m, x: x.logsumexp(-1), [[0, -inf]], 0, [[1, 0]]),
    Convention("logsumexp with inf", lambda m, x: x.logsumexp(-1), [[0, inf]], inf, [[0, nan]]),
    Convention("sigmoid far out", lambda m, x: x.sigmoid(), [[1e4, -1e4, 0]], [1, 0, 0.5], [[0, 0, 0.25]]),
    # indices
    Convention("a row chosen twice", lambda m, w: w[[0, 0, 2]], [[1, 2, 3]], [1, 1, 3], [[3, 0, 4]], [1, 2, 4]),
    Convention(
        "a row looked up twice",
        lambda m, w: w[m.tensor([[1, 1], [2, 1]])],
        [[1, 2, 3]],
        [[2, 2], [3, 2]],
        [[0, 7, 5]],
        [[1, 2], [5, 4]],
    ),
    Convention("a mask", lambda m, x: x[x > 1], [[1, 2, 3]], [2, 3], [[0, 5, 6]], [5, 6]),
    Convention(
        "gathered twice", lambda m, x: x.gather(0, m.tensor([1, 1, 0])), [[1, 2]], [2, 2, 1], [[5, 3]], [1, 2, 5]
    ),
    # nothing at all
    Convention("sum of nothing", lambda m, x: x.sum(), [np.zeros((0, 3))], 0, [np.zeros((0, 3))]),
    Convention("mean of nothing", lambda m, x: x.mean(), [np.zeros(0)], nan, [np.zeros(0)]),
    Convention(
        "product of empty matrices",
        lambda m, a, b: a @ b,
        [np.zeros((2, 0)), np.zeros((0, 3))],
        np.zeros((2, 3)),
        [np.zeros((2, 0)), np.zeros((0, 3))],
    ),
]


def run(convention, m, as_tensor):
    """Value and gradients by one of the two libraries."""
    xs = [as_tensor(np.array(x, np.float64)) for x in convention.inputs]
    y = convention.function(m, *xs)
    g = np.ones(tuple(y.shape)) if convention.cotangent is None else np.array(convention.cotangent, np.float64)
    y.backward(m.tensor(g))
    return y.detach().numpy(), [x.grad.numpy() for x in xs]


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: c.name)
def test_convention(convention, kernels):
    with mg.kernels.use(kernels):
        value, gradients = run(convention, mg, lambda x: mg.tensor(x, requires_grad=True))
    np.testing.assert_allclose(value, convention.value, rtol=1e-12, atol=1e-12)
    for gradient, expected in zip(gradients, convention.gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda c: c.name)
def test_torch_has_the_same_convention(convention):
    torch = oracle.torch()
    value, gradients = run(convention, torch, lambda x: torch.tensor(x, requires_grad=True))
    np.testing.assert_allclose(value, convention.value, rtol=1e-12, atol=1e-12)
    for gradient, expected in zip(gradients, convention.gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)


AT_THE_EXTREMES = [c for c in CONVENTIONS if "softmax" in c.name]


@pytest.mark.parametrize("convention", AT_THE_EXTREMES, ids=lambda c: c.name)
def test_the_definition_has_the_same_convention(convention):
    with definitions():
        value, gradients = run(convention, mg, lambda x: mg.tensor(x, requires_grad=True))
    np.testing.assert_allclose(value, convention.value, rtol=1e-9, atol=1e-12)
    for gradient, expected in zip(gradients, convention.gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("padding_idx", [1, -3])
@pytest.mark.parametrize("scope", [nullcontext, definitions])
def test_the_row_of_padding_is_read_but_gets_no_gradient(padding_idx, scope, rng):
    weight = mg.tensor(rng.normal(size=(4, 5)), requires_grad=True)
    indices, g = np.array([[1, 2, 1], [0, 2, 2]]), rng.normal(size=(2, 3, 5))
    with scope():
        rows = mg.ops.embedding(indices, weight, padding_idx=padding_idx)
    rows.backward(g)
    np.testing.assert_array_equal(rows.data, weight.data[indices])
    expected = [g[1, 0], np.zeros(5), g[0, 1] + g[1, 1] + g[1, 2], np.zeros(5)]
    np.testing.assert_allclose(weight.grad.data, expected, rtol=1e-12)
