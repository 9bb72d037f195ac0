"""Why an op made what is not finite, or 0 everywhere: each reason is made, and told."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import functional as F
from tests.anomalies import answers, caught, leaf, probed

inf, nan = math.inf, math.nan

BIG = 3e38
VALUES = [
    (lambda: leaf([1.0, 0.0]) / leaf([1.0, 0.0]), "div", (1,), "0 / 0"),
    (lambda: leaf([-1.0]).log(), "log", (0,), "the logarithm of a negative number"),
    (lambda: leaf([2.0, 0.0]) ** -1, "pow", (1,), "0 to a negative power"),
    (lambda: leaf([-2.0]) ** 0.5, "pow", (0,), "a root of a negative number"),
    (lambda: leaf([1e20]) ** 3, "pow", (0,), "too large for float32, which ends at 3.4e+38"),
    (lambda: leaf([[1.0, BIG]]) @ leaf([[1.0], [2.0]]), "matmul", (0, 0), "too large for float32"),
    (lambda: leaf(np.zeros((0, 2))).mean(), "mean", (), "0 / 0: of no elements"),
    (lambda: leaf([1.0]).std(), "std", (), "or of one with the correction of n - 1"),
    (lambda: leaf([[-inf, 1.0]]).masked_fill(np.array([[True, False]]), 0.0), "leaf", (0, 0), "it was there already"),
    (
        lambda: mg.ops.cross_entropy(leaf([[1.0, 2.0]]), np.array([-100])),
        "cross_entropy",
        (),
        "0 / 0: a mean over no targets",
    ),
    (
        lambda: (lambda x: x - x)(leaf([1.0]).masked_fill(np.array([True]), -inf)),
        "sub",
        (0,),
        "inf - inf, 0 * inf or inf / inf",
    ),
    (
        lambda: F.layer_norm(leaf([[2.0, 2.0]]), (2,), eps=0.0),
        "layer_norm",
        (0, 0),
        'record(model, detail="definition")',
    ),
]


@pytest.mark.parametrize(("function", "step", "index", "reason"), VALUES)
def test_reasons_of_values(function, step, index, reason, either):
    found = answers(function).first_nonfinite()
    assert (found.step, found.index) == (step, index)
    assert reason in found.reason


def back(function, *values, g=1.0):
    xs = [leaf(x) for x in values]
    return lambda: (function(*xs) * g).sum().backward()


GRADIENTS = [
    (back(lambda x: x.abs() ** 0.5, [[1.0, 0.0]]), "pow", "a", (0, 1), "x^b with b < 1 has an infinite slope at 0"),
    (back(lambda a, b: a * b, [1e-20], [1e30], g=1e20), "mul", "a", (0,), "too large for float32"),
    (back(lambda a, b: a / b, [1e-30], [1e-30], g=1e20), "div", "a", (0,), "too large for float32"),
]


@pytest.mark.parametrize(("function", "step", "argument", "index", "reason"), GRADIENTS)
def test_reasons_of_gradients(function, step, argument, index, reason):
    for found in (answers(function).first_nonfinite_gradient(), caught(function)):
        assert (found.step, found.argument, found.index) == (step, argument, index)
        assert reason in (found.reason or "")
        assert found.received.nonfinite == 0


def test_a_gradient_of_a_bad_value_points_to_the_value():
    rec = answers(back(lambda x: x.exp(), [0.0, 100.0]))
    found = rec.first_nonfinite_gradient()
    assert (found.step, found.index) == ("exp", (1,))
    assert "see first_nonfinite()" in found.reason
    assert rec.first_nonfinite().step == "exp"


X, M = leaf([[1.0, -2.0, 3.0]]), np.array([[True, False, True]])
ZEROS = [
    (lambda: (X - 9).relu(), "relu", "every unit is dead"),
    (lambda: (X * 1000).softmax(-1), "softmax", "saturated"),
    (lambda: (X * 1).sum(-1, keepdim=True).softmax(-1), "softmax", "saturated"),
    (lambda: mg.ops.masked_softmax(X * 1, M & False), "masked_softmax", "no row has an allowed key"),
    (lambda: mg.ops.masked_softmax(X * 1000, M), "masked_softmax", "saturated"),
    (lambda: (X * 1).sum(-1, keepdim=True).log_softmax(-1), "log_softmax", 'detail="definition"'),
    (lambda: X.exp() * np.zeros(3, np.float32), "mul", "multiplied by b, which is 0 everywhere"),
    (lambda: X.exp().masked_fill(M | True, 1.0), "masked_fill", "all of it is masked"),
    (lambda: mg.where(M & False, X.exp(), 1.0), "where", "all of it is masked"),
    (lambda: (X * 1).clamp(10, 11), "clamp", "all of it is outside of the bounds"),
    (lambda: mg.ops.dropout(X * 1, p=1.0, seed=1), "dropout", "all of it was dropped"),
]


@pytest.mark.parametrize(("function", "step", "reason"), ZEROS)
def test_reasons_of_zeros(function, step, reason):
    run = probed(function)
    for found in (answers(run).first_zero_gradient(), caught(run, zeros=True)):
        assert found.step.partition("#")[0] == step
        assert found.argument is not None
        assert reason in found.reason
        assert found.received.values.norm > 0


def test_a_softmax_does_not_feel_a_constant():
    """Not even another one for each row; that one row is saturated is not the reason."""
    x = leaf([[1000.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])

    def run():
        (x * 1).softmax(-1).backward(np.repeat([[0.5], [3.0]], 4, axis=1).astype(np.float32))

    assert "the same for all keys of a row" in answers(run).first_zero_gradient().reason
