"""The operators of Tensor, with tensors, arrays and Python numbers on either side, and the dtypes of the results."""

import operator

import numpy as np
import pytest

import minigrad as mg
from minigrad.core import DTypeError, ShapeError
from tests import oracle
from tests.graphs import assert_same_as_torch, leaf

f32, f64, i64 = np.float32, np.float64, np.int64


# -------------------------------------------------------------------------------------------------- the operators
BINARY = ["add", "sub", "mul", "truediv", "pow", "floordiv", "mod", "eq", "ne", "lt", "le", "gt", "ge"]
LOGICAL = ["and_", "or_", "xor"]
FLOATS = {"x": [[1.5, -2.0], [3.0, 0.5]], "y": [2.0, -3.5]}


def operands(m, dtype):
    """Two tensors that broadcast, and Python numbers; torch's or ours."""
    x = m.tensor(FLOATS["x"]).to(dtype) if hasattr(m, "from_dlpack") else mg.tensor(FLOATS["x"]).type(dtype)
    y = m.tensor(FLOATS["y"]).to(dtype) if hasattr(m, "from_dlpack") else mg.tensor(FLOATS["y"]).type(dtype)
    return {"x": x, "y": y, "2": 2, "-1.5": -1.5, "True": True}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize(
    ("left", "right"), [("x", "y"), ("x", "2"), ("2", "x"), ("x", "-1.5"), ("-1.5", "x"), ("x", "True")]
)
def test_operators_with_tensors_and_scalars_on_either_side(name, dtype, left, right):
    torch = oracle.torch()
    ours, theirs = operands(mg, np.dtype(dtype)), operands(torch, getattr(torch, dtype))
    function = getattr(operator, name)
    if dtype == "int64" and name == "pow" and (left, right) in [("x", "y"), ("2", "x")]:
        with pytest.raises(ValueError, match="Integers to negative integer powers are not allowed"):
            function(ours[left], ours[right])
        return
    if (left, right) == ("2", "x") and dtype == "int64" and name in ("floordiv", "mod"):
        with pytest.raises(ZeroDivisionError, match="a whole number is divided by 0"):
            function(ours[left], ours[right])
        return
    if name == "sub" and right == "True":
        return  # torch refuses, since it may be a mask that is meant
    assert_same_as_torch(function(ours[left], ours[right]), function(theirs[left], theirs[right]))


@pytest.mark.parametrize("name", LOGICAL)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64"])
@pytest.mark.parametrize(("left", "right"), [("x", "y"), ("x", "True"), ("True", "x")])
def test_logical_operators(name, dtype, left, right):
    torch = oracle.torch()
    ours, theirs = operands(mg, np.dtype(dtype)), operands(torch, getattr(torch, dtype))
    if dtype == "uint8":  # the conversion of -2.0 is nobody's business
        ours["x"], theirs["x"] = ours["x"] % 4, theirs["x"] % 4
        ours["y"], theirs["y"] = ours["y"] % 4, theirs["y"] % 4
    function = getattr(operator, name)
    assert_same_as_torch(function(ours[left], ours[right]), function(theirs[left], theirs[right]))
    assert_same_as_torch(~ours["x"], ~theirs["x"])


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow"])
@pytest.mark.parametrize("on_the_left", [True, False])
def test_operators_with_scalars_have_gradients(name, on_the_left, rng):
    function, x = getattr(operator, name), leaf([0.5, 2.0])
    y = function(3.0, x) if on_the_left else function(x, 3.0)
    g = rng.standard_normal(2)
    y.backward(g)
    step = 1e-6
    ahead, behind = ((function(3.0, d) if on_the_left else function(d, 3.0)) for d in (x.data + step, x.data - step))
    np.testing.assert_allclose(x.grad.data, g * (ahead - behind) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv", "ipow", "ifloordiv", "imod"])
@pytest.mark.parametrize("other", ["y", "2", "-1.5"])
def test_augmented_operators_write_in_place(name, other):
    torch = oracle.torch()
    ours, theirs = operands(mg, np.dtype(f32)), operands(torch, torch.float32)
    function = getattr(operator, name)
    memory = ours["x"].data
    result = function(ours["x"], ours[other])
    assert result is ours["x"]
    assert result.data is memory
    assert_same_as_torch(result, function(theirs["x"], theirs[other]))


@pytest.mark.parametrize("name", ["iand", "ior", "ixor"])
def test_augmented_logical_operators_write_in_place(name):
    x, y = mg.tensor([True, True, False, False]), mg.tensor([True, False, True, False])
    memory, expected = x.data, getattr(operator, name)(x.data.copy(), y.data)
    result = getattr(operator, name)(x, y)
    assert result.data is memory
    assert result.tolist() == expected.tolist()


def test_matmul_operators(rng):
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 2))
    np.testing.assert_allclose((mg.Tensor(a) @ b).data, a @ b)
    np.testing.assert_allclose((a @ mg.Tensor(b)).data, a @ b)
    square = mg.tensor(a @ b)
    memory = square.data
    square @= mg.Tensor(a @ b)
    assert square.data is memory
    np.testing.assert_allclose(square.data, a @ b @ a @ b)


def test_unary_operators():
    x = leaf([1.0, -2.0])
    (-x + abs(x) * 2.0).backward(np.ones(2))
    assert x.grad.tolist() == [1, -3]
    assert +x is x


@pytest.mark.parametrize("left", [np.array([1.0, 2.0], f32), np.float32(2), np.float64(2), np.array(2.0)])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow", "lt", "eq"])
def test_numpy_on_the_left_leaves_it_to_the_tensor(left, name):
    x = mg.tensor([3.0, 4.0], requires_grad=True)
    result = getattr(operator, name)(left, x)
    assert isinstance(result, mg.Tensor)
    assert result.requires_grad == (name not in {"lt", "eq"})
    np.testing.assert_allclose(result.data, getattr(operator, name)(left, x.data))


def test_numpy_functions_do_not_take_tensors_silently_out_of_the_graph():
    with pytest.raises(TypeError, match="does not support ufuncs"):
        np.exp(mg.tensor([1.0]))


@pytest.mark.parametrize("function", [lambda x: x + "a", lambda x: [["b"]] * x, lambda x: x < "c"])
def test_what_is_no_number_cannot_be_computed_with(function):
    with pytest.raises(DTypeError, match=r"arrays of dtype <U1 are not supported|dtype"):
        function(mg.tensor([1.0]))


def test_lists_and_arrays_are_operands():
    x = leaf([1.0, 2.0])
    y = x * [3.0, 4.0] + np.array([1.0, 1.0])
    y.backward(np.ones(2))
    assert (y.tolist(), x.grad.tolist()) == ([4, 9], [3, 4])


# ------------------------------------------------------------------------------------------------------------- dtypes
SCALARS = [True, 2, 2.5]
DTYPES = ["bool", "uint8", "int32", "int64", "float32", "float64"]


@pytest.mark.parametrize("a", DTYPES)
@pytest.mark.parametrize("b", DTYPES)
@pytest.mark.parametrize("shapes", [((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())])
def test_promotion_is_that_of_torch(a, b, shapes):
    torch = oracle.torch()
    ours = [mg.tensor(np.ones(s, d)) for s, d in zip(shapes, (a, b), strict=True)]
    theirs = [torch.ones(s, dtype=getattr(torch, d)) for s, d in zip(shapes, (a, b), strict=True)]
    for function in (operator.add, operator.mul, operator.truediv, operator.lt):
        assert_same_as_torch(function(*ours), function(*theirs), function.__name__)
    assert_same_as_torch(
        mg.where(mg.tensor([True, False]), *ours), torch.where(torch.tensor([True, False]), *theirs), "where"
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scalar", SCALARS)
@pytest.mark.parametrize("shape", [(2,), ()])
def test_promotion_by_python_numbers_is_that_of_torch(dtype, scalar, shape):
    torch = oracle.torch()
    x, y = mg.tensor(np.ones(shape, dtype)), torch.ones(shape, dtype=getattr(torch, dtype))
    for function in (operator.add, operator.mul, operator.truediv, operator.gt):
        assert_same_as_torch(function(x, scalar), function(y, scalar))
        assert_same_as_torch(function(scalar, x), function(scalar, y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtypes_of_functions_are_those_of_torch(dtype):
    torch = oracle.torch()
    x, y = mg.tensor(np.ones((2, 2), dtype)), torch.ones((2, 2), dtype=getattr(torch, dtype))
    for name in ("exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "sum", "clone", "tril"):
        assert_same_as_torch(getattr(x, name)(), getattr(y, name)(), name)
    if dtype != "bool":
        assert_same_as_torch(x.argmax(), y.argmax(), "argmax")
        assert_same_as_torch(x.clamp(0, 2), y.clamp(0, 2), "clamp")
        assert_same_as_torch(x.relu(), y.relu(), "relu")
    assert_same_as_torch(x.sum(1), y.sum(1))
    assert_same_as_torch(mg.ops.cat(x, x), torch.cat([y, y]))
    assert_same_as_torch(x.masked_fill(x == 1, 0), y.masked_fill(y == 1, 0))


def test_some_rows_of_the_table_of_dtypes():
    i, f, b = mg.tensor([1, 2]), mg.tensor([1.0, 2.0]), mg.tensor([True, True])
    assert ((i / 2).dtype, (i * 2.5).dtype, (f * mg.tensor(2.0, dtype=f64)).dtype) == (f32, f32, f32)
    assert (b.sum().dtype, b.sum().item(), (mg.arange(3) * 0.5).dtype) == (i64, 2, f32)
    assert ((mg.tensor(-7) // 2).item(), (mg.tensor(-7) % 3).item()) == (-4, 2)
    with pytest.raises(
        DTypeError, match=r"mean\(\): a has dtype int64; it must be a float dtype. Convert it with .float\(\)"
    ):
        i.mean()
    mask = mg.ones(2, 2).triu(diagonal=1).type(np.uint8) == 0
    assert (mask & (i != 0).type_as(mask)).dtype == bool


def test_conversions():
    x = mg.tensor([0.0, 1.5, -2.0])
    assert x.float() is x
    assert (x.double().dtype, x.long().tolist(), x.bool().tolist()) == (f64, [0, 1, -2], [False, True, True])
    assert (x.type(np.uint8).dtype, x.type_as(mg.tensor(1)).dtype) == (np.uint8, i64)
    y = leaf([1.0])
    (y.float() * 2.0).backward(np.ones(1))
    assert (y.grad.dtype, y.grad.item()) == (f64, 2)
    assert not y.long().requires_grad


def test_lists_have_the_dtype_that_tensor_gives_them():
    x = mg.tensor([1, 2])
    assert [y.dtype for y in (x * [1.0, 2.0], x * (1, 2), x * np.array([1.0, 2.0]))] == [f32, i64, f64]
    assert mg.ops.relu([1.0]).dtype == f32
    assert mg.nn.Linear(2, 3)([[1.0, 2.0]]).dtype == f32
    with pytest.raises(ShapeError, match=r"mul\(\): the lists have different lengths"):
        x * [[1], [1, 2]]


def test_none_is_an_argument_only_where_it_is_optional():
    x = mg.ones(2, 2)
    with pytest.raises(DTypeError, match=r"add\(\): argument 2 is None; give a tensor"):
        x + None
    with pytest.raises(DTypeError, match=r"linear\(\): argument 1 is None"):
        mg.nn.Linear(2, 2)(None)
    with pytest.raises(DTypeError, match=r"cat\(\): argument 1 is None"):
        mg.cat([None, x])
    assert mg.ops.linear(x, x, None).tolist() == [[2, 2], [2, 2]]
