"""Layer normalisation, alone and of x + dropout(branch): the kernels, their twins, and the functions made of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels
from minigrad.kernels import bits, norm, pieces, reference
from minigrad.nn import functional as F
from tests.test_kernels import DTYPES, arrays

SEED = 2**63 + 11
rows = st.sampled_from([0, 1, 2, 3, 5, 64, 130])
widths = st.sampled_from([0, 1, 3, 8, 15, 16, 17, 33, 64])


@pytest.fixture(autouse=True)
def _numba_kernels():
    with kernels.use("numba"):
        yield


def run(name, *arguments):
    """The results of a kernel, after a look at what all kernels promise."""
    inputs = [x for x in arguments if isinstance(x, np.ndarray)]
    before = [x.tobytes() for x in inputs]
    results = getattr(kernels, name)(*arguments)
    assert [x.tobytes() for x in inputs] == before
    for y in results if isinstance(results, tuple) else (results,):
        if y is not None:
            assert (type(y), y.dtype) == (np.ndarray, inputs[0].dtype)
            assert y.flags.c_contiguous
            assert y.flags.writeable
            assert not any(np.shares_memory(x, y) for x in inputs)
    return results


def in_float64(name, *arguments):
    double = [x.astype(np.float64) if isinstance(x, np.ndarray) else x for x in arguments]
    return getattr(reference, name)(*double)


def assert_all_close(results, expected, factor=200):
    for y, e in zip(results, expected, strict=True):
        eps = np.finfo(y.dtype).eps
        assert y.shape == e.shape
        np.testing.assert_allclose(y, e, rtol=factor * eps, atol=factor * eps * (1 + np.abs(e).max(initial=0)))


# ------------------------------------------------------------------------------------------------------------- kernels
@st.composite
def norm_cases(draw):
    dtype, width = draw(st.sampled_from(DTYPES)), draw(widths)
    shape = (*draw(st.lists(rows, min_size=1, max_size=2)), width) if draw(st.booleans()) else (width,)
    x, branch, g = (draw(arrays(shape, dtype)) for _ in range(3))
    weight, bias = (draw(arrays((width,), dtype)) if draw(st.booleans()) else None for _ in range(2))
    return x, branch, weight, bias, g, draw(st.sampled_from([0.0, 0.1, 0.7, 1.0])), draw(st.integers(0, 2**64 - 1))


@given(norm_cases())
def test_the_kernels_are_what_their_twins_say(case):
    x, branch, weight, bias, g, p, seed = case
    for name, inputs, settings in [
        ("layer_norm", (x, weight, bias), ()),
        ("add_layer_norm", (x, branch, weight, bias), (p, seed)),
    ]:
        results = run(name, *inputs, 0.1, *settings)
        assert_all_close(results, in_float64(name, *inputs, 0.1, *settings))
        back = (results[1], results[2], weight, g, *settings)
        assert_all_close(run(f"{name}_vjp", *back), in_float64(f"{name}_vjp", *back))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(700, 64), (300, 128), (300, 17), (200, 48), (40, 1030), (3, 5000), (1000, 1)])
def test_blocks_and_parts_of_rows_leave_no_row_out(shape, dtype, rng):
    x, branch, g = rng.standard_normal((3, *shape)).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[-1])).astype(dtype)
    results = run("add_layer_norm", x, branch, weight, bias, 1e-2, 0.2, SEED)
    assert_all_close(results, in_float64("add_layer_norm", x, branch, weight, bias, 1e-2, 0.2, SEED), 1000)
    back = (results[1], results[2], weight, g, 0.2, SEED)
    assert_all_close(run("add_layer_norm_vjp", *back), in_float64("add_layer_norm_vjp", *back), 1000)


@pytest.mark.parametrize("width", [1, 3, 16, 17, 64, 128])
def test_the_kernels_write_their_results_and_nothing_beside_them(width, rng):
    """A row less than a vector, and the end of the last row, are written under a mask; a short row is one vector."""
    x = rng.standard_normal((5, width)).astype(np.float32)
    forward, backward = (kernel[x.dtype] for kernel in norm._kernels(width, x.dtype))
    ones, zeros, dropout = np.ones(width, np.float32), np.zeros(width, np.float32), pieces.dropping(0.3, SEED)

    def written(kernel, items, expected, *settings, after=()):
        memory = np.full((len(expected), 3000), 77, np.float32)
        places = [slice(1000, 1000 + e.size) for e in expected]
        outputs = [m[place] for m, place in zip(memory, places, strict=True)]
        for out in outputs:
            out[:] = 0
        kernel(0, items, *settings, *outputs, *after)
        for m, place, e in zip(memory, places, expected, strict=True):
            np.testing.assert_allclose(m[place], e.ravel(), rtol=1e-4, atol=1e-5)
            m[place] = 77
        assert (memory == 77).all()

    y, n, r = reference.add_layer_norm(x, x, None, None, 0.1, 0.3, SEED)
    written(forward, len(x), (y, n, r), x.ravel(), x.ravel(), ones, zeros, 0.1, True, dropout)
    dx, dbranch, *sums = reference.add_layer_norm_vjp(n, r, None, x, 0.3, SEED)
    back = n.ravel(), r.ravel(), ones, x.ravel(), dropout
    written(backward, 1, (dx, dbranch, np.array(sums)), *back, after=(1,))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [19, 64])
def test_results_do_not_depend_on_the_number_of_threads(width, dtype, several_threads, rng):
    x, branch, g = rng.standard_normal((3, 333, width)).astype(dtype)
    weight, bias = rng.standard_normal((2, width)).astype(dtype)
    outcomes = []
    for n in (1, 2, 3):
        kernels.set_num_threads(n)
        y, normal, r = kernels.add_layer_norm(x, branch, weight, bias, 1e-5, 0.3, SEED)
        outcomes.append([y, normal, r, *kernels.add_layer_norm_vjp(normal, r, weight, g, 0.3, SEED)])
    for other in outcomes[1:]:
        assert [a.tobytes() for a in other] == [a.tobytes() for a in outcomes[0]]


def test_what_is_dropped_is_what_dropout_drops(either, rng):
    n, r, g = rng.standard_normal((40, 17)), rng.random((40, 1)) + 1, rng.standard_normal((40, 17))
    dx, dbranch, *_ = kernels.add_layer_norm_vjp(n, r, None, g, 0.3, SEED)
    np.testing.assert_array_equal(dbranch != 0, bits.keep(dx.shape, 0.3, SEED))
    np.testing.assert_allclose(dbranch, reference.dropout(dx, 0.3, SEED), rtol=1e-15)


def test_without_dropout_both_get_the_same_array(either, rng):
    n, r, g = rng.standard_normal((4, 17)), np.ones((4, 1)), rng.standard_normal((4, 17))
    dx, dbranch, *_ = kernels.add_layer_norm_vjp(n, r, None, g, 0.0, 0)
    assert dbranch is dx


def test_the_variance_is_taken_about_the_mean(either, rng):
    """In float32, the mean of squares less the square of the mean would leave nothing of a variance of 1 at 30,000."""
    x = np.round(rng.standard_normal((50, 130)) * 64).astype(np.float32) / 64 + 30_000
    _, n, r = kernels.layer_norm(x, None, None, 1e-5)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(1 / r[:, 0], np.sqrt(exact.var(-1) + 1e-5), rtol=1e-4)
    assert (
        np.abs(n - (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)).max() < 0.01
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_have_mean_zero_and_variance_one_and_forget_shift_and_stretch(dtype, either, rng):
    x, g = rng.standard_normal((2, 20, 37)).astype(dtype)
    y, n, r = kernels.layer_norm(x, None, None, 0.0)
    tolerance = {"atol": 30 * np.finfo(dtype).eps}
    np.testing.assert_allclose(y.mean(-1), 0, **tolerance)
    np.testing.assert_allclose((y * y).mean(-1), 1, **tolerance)
    dx, _, _ = kernels.layer_norm_vjp(n, r, None, g)
    np.testing.assert_allclose(dx.sum(-1), 0, atol=300 * np.finfo(dtype).eps)
    np.testing.assert_allclose((dx * n).sum(-1), 0, atol=300 * np.finfo(dtype).eps)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_spoils_its_row_and_no_other(bad, either, rng):
    x, g = rng.standard_normal((2, 9, 21)).astype(np.float32)
    x[4, -1] = bad
    y, n, r = kernels.layer_norm(x, None, None, 1e-5)
    dx, _, dbias = kernels.layer_norm_vjp(n, r, None, g)
    for result in (y, n, dx):
        np.testing.assert_array_equal(np.isnan(result).any(-1), np.arange(9) == 4)
    np.testing.assert_allclose(dbias, g.sum(0), rtol=1e-4, atol=1e-5)


def test_a_dropped_infinity_is_not_a_number_as_in_the_definition(either):
    branch = np.full((1, 40), np.inf)
    branch[bits.keep((1, 40), 0.5, 3)] = 1.0
    y, *_ = kernels.add_layer_norm(np.ones((1, 40)), branch, None, None, 1e-5, 0.5, 3)
    assert np.isnan(y).all()


def test_sums_over_many_rows_stay_exact(rng):
    n, g = rng.standard_normal((2, 100_000, 3)).astype(np.float32) + 1
    _, dweight, dbias = kernels.layer_norm_vjp(n, np.ones((100_000, 1), np.float32), None, g)
    np.testing.assert_allclose(dbias, g.sum(0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(dweight, (n.astype(np.float64) * g).sum(0), rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (2, 0, 3), (0,)])
def test_of_no_rows_the_sums_are_zero_and_rows_of_nothing_have_no_mean(shape, either):
    nothing = np.zeros(shape, np.float32)
    y, n, r = run("add_layer_norm", nothing, nothing, None, None, 0.1, 0.5, SEED)
    dx, dbranch, dweight, dbias = run("add_layer_norm_vjp", n, r, None, nothing, 0.5, SEED)
    assert {a.shape for a in (y, n, dx, dbranch)} == {shape}
    assert np.isnan(r).sum() == r.size
    np.testing.assert_array_equal([dweight, dbias], np.zeros((2, shape[-1])))


@pytest.mark.parametrize("dtypes", [("e", "e"), ("f", "d"), ("d", "f")])
def test_other_dtypes_and_mixtures_go_to_the_twin(dtypes, rng):
    x, weight = rng.standard_normal((3, 4)).astype(dtypes[0]), rng.standard_normal(4).astype(dtypes[1])
    for ours, twins in zip(
        kernels.layer_norm(x, weight, None, 0.1), reference.layer_norm(x, weight, None, 0.1), strict=True
    ):
        assert ours.dtype == twins.dtype
        np.testing.assert_array_equal(ours, twins)


def test_numbers_that_are_not_aligned_are_read(either):
    numbers = np.arange(12, dtype=np.float32) ** 2
    x = np.frombuffer(b"x" + numbers.tobytes(), np.float32, offset=1).reshape(3, 4)
    assert not x.flags.aligned
    expected = kernels.layer_norm(numbers.reshape(3, 4), None, None, 0.1)
    for a, b in zip(kernels.layer_norm(x, None, None, 0.1), expected, strict=True):
        np.testing.assert_array_equal(a, b)


# ----------------------------------------------------------------------------------------------- functions of tensors
def leaves(rng, *shapes):
    return [mg.Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]


def test_add_layer_norm_is_the_three_functions_with_the_same_seed(either, rng):
    shapes = (4, 6, 8), (4, 6, 8), (8,), (8,)
    first = leaves(rng, *shapes)
    second = [mg.Tensor(t.data.copy(), requires_grad=True) for t in first]
    g = rng.standard_normal(shapes[0])
    mg.manual_seed(5)
    y = F.add_layer_norm(*first[:2], 8, *first[2:], p=0.3)
    mg.manual_seed(5)
    z = F.layer_norm(second[0] + F.dropout(second[1], 0.3), 8, *second[2:])
    np.testing.assert_allclose(y.data, z.data, rtol=1e-12, atol=1e-12)
    y.backward(g)
    z.backward(g)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a.grad.data, b.grad.data, rtol=1e-11, atol=1e-12)


def test_add_layer_norm_drops_in_training_only(rng):
    x, branch = rng.standard_normal((2, 3, 8))
    calm = F.layer_norm(mg.Tensor(x + branch), 8)
    np.testing.assert_allclose(F.add_layer_norm(mg.Tensor(x), branch, 8, p=0.5, training=False).data, calm.data)
    first, second = (F.add_layer_norm(mg.Tensor(x), branch, 8, p=0.5).data for _ in range(2))
    assert np.abs(first - second).max() > 1e-3  # another seed at every call
    assert np.abs(first - calm.data).max() > 1e-3


def test_a_tensor_that_is_both_input_and_branch_gets_both_gradients(rng):
    (x,) = leaves(rng, (3, 8))
    twice = mg.Tensor(2 * x.data, requires_grad=True)
    g = rng.standard_normal((3, 8))
    F.add_layer_norm(x, x, 8).backward(g)
    F.layer_norm(twice, 8).backward(g)
    np.testing.assert_allclose(x.grad.data, 2 * twice.grad.data, rtol=1e-12)


def test_gradients_of_input_and_branch_do_not_share_memory(rng):
    x, branch = leaves(rng, (3, 8), (3, 8))
    F.add_layer_norm(x, branch, 8).backward(rng.standard_normal((3, 8)))
    assert not np.shares_memory(x.grad.data, branch.grad.data)
    np.testing.assert_array_equal(x.grad.data, branch.grad.data)


def test_the_sizes_must_be_those_that_are_said(rng):
    x = mg.Tensor(rng.standard_normal((3, 8)))
    with pytest.raises(mg.ShapeError, match=r"add_layer_norm\(\): a has shape \(3, 8\); its last size must be .* = 4"):
        F.add_layer_norm(x, x, 4)
    with pytest.raises(mg.ShapeError, match=r"add_layer_norm\(\): a has shape \(3, 8\), the branch has shape \(8,\)"):
        F.add_layer_norm(x, x.data[0], 8)
