"""New tensors: what they contain, their dtype, and whose memory they use."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import version
from minigrad.core import DTypeError, GradError, ShapeError
from tests import oracle
from tests.graphs import assert_same_as_torch

f32, f64, i64 = np.float32, np.float64, np.int64


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1, i64),
        (1.0, f32),
        (True, bool),
        ([1, 2], i64),
        ([1, 2.5], f32),
        ([True, False], bool),
        ([[1.0], [2.0]], f32),
        ((1, 2), i64),
        ([], f32),
        ([[]], f32),
        (np.array([1.0]), f64),
        (np.array([1], np.int32), np.int32),
        (np.float64(2), f64),
        (range(3), i64),
    ],
)
def test_tensor_takes_the_dtype_of_its_data(data, dtype):
    x = mg.tensor(data)
    assert (x.dtype, x.shape) == (dtype, np.shape(data))
    assert x.tolist() == np.asarray(data).tolist()
    assert not x.requires_grad


def test_tensor_in_another_dtype():
    assert mg.tensor([1, 2], dtype=f64).dtype == f64
    assert mg.tensor(0.1, dtype=f64).item() == 0.1
    assert mg.tensor([0.0, 2.0], dtype=bool).tolist() == [False, True]
    assert mg.tensor(mg.tensor([1.0], dtype=f64)).dtype == f64


def test_tensor_of_tensors():
    assert mg.tensor([mg.tensor(1.0), mg.tensor(2.0)]).tolist() == [1, 2]
    assert mg.tensor([[mg.tensor(1), 2], [3, mg.tensor(4)]]).dtype == i64


@pytest.mark.parametrize("data", ["a", [None], [1 + 2j], [[1], [2, 3]], {"a": 1}])
def test_tensor_of_something_else_is_an_error(data):
    with pytest.raises((DTypeError, ValueError), match=r"tensor\(\): |inhomogeneous"):
        mg.tensor(data)


def test_tensor_copies_and_from_numpy_shares():
    """Row 35 of the table."""
    array = np.zeros(3)
    copied, shared, also_shared = mg.tensor(array), mg.from_numpy(array), mg.Tensor(array)
    array[0] = 5
    assert (copied[0].item(), shared[0].item(), also_shared[0].item()) == (0, 5, 5)
    again = mg.tensor(shared)
    shared[1] = 7.0
    assert (array[1], again[1].item()) == (7, 0)
    with pytest.raises(TypeError, match=r"from_numpy\(\): expected a NumPy array, got list"):
        mg.from_numpy([1])


def test_gradients_are_wanted_from_the_start_on_request():
    makers = [mg.zeros, mg.ones, mg.empty, mg.rand, mg.randn]
    for x in [*(make(2, requires_grad=True) for make in makers), mg.tensor([1.0], requires_grad=True)]:
        assert x.requires_grad
        assert x.is_leaf
        assert x.grad is None
    assert mg.full((2,), 1.5, requires_grad=True).requires_grad
    with pytest.raises(GradError, match="only floats have gradients, this is int64"):
        mg.tensor([1, 2], requires_grad=True)


@pytest.mark.parametrize("make", [mg.zeros, mg.ones, mg.empty, mg.rand, mg.randn])
def test_sizes_can_be_given_in_every_way(make):
    for x in (make(2, 3), make((2, 3)), make([2, 3])):
        assert (x.shape, x.dtype) == ((2, 3), f32)
    assert make().shape == ()
    assert make(()).shape == ()
    assert make(0, 3).shape == (0, 3)
    assert make(mg.tensor(2), 3).shape == (2, 3)
    assert make(2, dtype=f64).dtype == f64


def test_filled():
    assert mg.zeros(2).tolist() == [0, 0]
    assert mg.ones(2, dtype=i64).tolist() == [1, 1]
    x = mg.full((2, 1), 7)
    assert (x.tolist(), x.dtype, mg.full((1,), 0.5).dtype, mg.full((1,), True).dtype) == ([[7], [7]], i64, f32, bool)
    assert mg.full((1,), 0.1, dtype=f64).item() == 0.1
    x.add_(1)
    assert x.tolist() == [[8], [8]]
    y = mg.tensor(np.ones((2, 3)).T)
    for like, value in ((mg.zeros_like(y), 0), (mg.ones_like(y), 1)):
        assert (like.shape, like.dtype, like.is_contiguous(), like.data.min(), like.data.max()) == (
            (3, 2),
            f64,
            True,
            value,
            value,
        )
    assert mg.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert mg.eye(2).shape == (2, 2)


@pytest.mark.parametrize(
    "arguments",
    [
        (5,),
        (0,),
        (2, 5),
        (5, 2, -1),
        (0, 10, 3),
        (0.0, 1.0, 0.25),
        (2.5,),
        (1, 2, 0.5),
        (0, 0),
        (3, 3),
        (2.0, 2.0),
        (-3, 3, 2),
    ],
)
def test_arange_is_that_of_torch(arguments):
    assert_same_as_torch(mg.arange(*arguments), oracle.torch().arange(*arguments))


def test_arange_in_another_dtype():
    assert mg.arange(3, dtype=f32).tolist() == [0, 1, 2]
    assert mg.arange(0, 1, 0.5, dtype=f64).dtype == f64
    assert mg.arange(mg.tensor(3)).tolist() == [0, 1, 2]


def test_random_tensors_have_their_distribution(rng):
    n = 40_000
    uniform, normal = mg.rand(n), mg.randn(n)
    assert uniform.data.min() >= 0
    assert uniform.data.max() < 1
    assert abs(uniform.mean().item() - 0.5) < 5 / np.sqrt(12 * n)
    assert abs(normal.mean().item()) < 5 / np.sqrt(n)
    assert abs(normal.std().item() - 1) < 5 / np.sqrt(2 * n)
    dice = mg.randint(1, 7, size=(n,))
    assert (dice.dtype, sorted(set(dice.tolist()))) == (i64, [1, 2, 3, 4, 5, 6])
    assert (mg.randint(3, size=(2, 2)).shape, mg.randint(1, size=(5,)).tolist()) == ((2, 2), [0] * 5)
    order = mg.randperm(100)
    assert (order.dtype, sorted(order.tolist())) == (i64, list(range(100)))
    assert order.tolist() != list(range(100))


@pytest.mark.parametrize(
    "draw",
    [lambda: mg.rand(3), lambda: mg.randn(3), lambda: mg.randint(1000, size=(3,)), lambda: mg.randperm(10)],
)
def test_the_seed_decides(draw):
    mg.manual_seed(1)
    first, second = draw().tolist(), draw().tolist()
    mg.manual_seed(1)
    assert (draw().tolist(), draw().tolist()) == (first, second)
    assert first != second
    mg.manual_seed(2)
    assert draw().tolist() != first


def test_ragged_lists_and_sizes_that_are_none():
    with pytest.raises(ShapeError, match=r"tensor\(\): the lists have different lengths. Pad them"):
        mg.tensor([[1, 2], [3]])
    for size in ("2", 2.0, None):
        with pytest.raises(TypeError, match=f"sizes are whole numbers, as in .*; got {size!r}"):
            mg.randn(size)


def test_joined_tensors_are_what_torch_makes_of_them():
    torch = oracle.torch()
    a, b = np.arange(6.0).reshape(2, 3), np.arange(6.0, 12.0).reshape(2, 3)
    for join in (
        lambda t, x, y: t.cat([x, y], dim=1),
        lambda t, x, y: t.cat((x, y)),
        lambda t, x, y: t.stack([x, y], 1),
        lambda t, x, y: t.tril(x) + t.triu(y, diagonal=1),
        lambda t, x, y: t.flip(x, (1,)),
        lambda t, x, y: t.roll(x, 1, 1),
        lambda t, x, y: t.softmax(x, 0),
        lambda t, x, y: t.pow(x, 3.0),
    ):
        mine, theirs = join(mg, mg.tensor(a), mg.tensor(b)), join(torch, torch.tensor(a), torch.tensor(b))
        np.testing.assert_allclose(mine.data, theirs.numpy())
    with pytest.raises(TypeError, match=r"cat\(\): expected a list of tensors, got a Tensor; write cat\(\[a, b\]\)"):
        mg.cat(mg.tensor(a), mg.tensor(b))


def test_version_is_that_of_the_project():
    assert mg.__version__ == version.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", mg.__version__)
