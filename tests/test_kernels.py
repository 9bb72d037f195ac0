"""The Numba kernels against their NumPy twins, the twins against closed forms, and the promises that both make."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigrad import kernels
from minigrad.kernels import bits, gemm, pieces, reference
from minigrad.kernels.simd import VECTOR

DTYPES = [np.float32, np.float64]
ROW_KERNELS = ["softmax", "log_softmax", "masked_softmax", "softmax_vjp", "log_softmax_vjp"]
sizes = st.sampled_from([0, 1, 2, 3, 5, 8, 16, 17, 31, 33])


@pytest.fixture(autouse=True)
def _numba_kernels():
    with kernels.use("numba"):
        yield


@st.composite
def laid_out(draw, values):
    """`values` as a read-only array somewhere in memory: transposed, with gaps, reversed."""
    order = draw(st.permutations(range(values.ndim)))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, -1, -3]), min_size=values.ndim, max_size=values.ndim))
    values = np.asarray(values)
    memory = np.full([values.shape[i] * abs(steps[i]) for i in order], 77, values.dtype)
    x = memory.transpose(np.argsort(order))[(..., *(slice(None, None, step) for step in steps))]
    x[...] = values
    x.flags.writeable = False
    return x


@st.composite
def arrays(draw, shape, dtype):
    """Normal random numbers in any layout; some dimensions may repeat one entry, with stride 0."""
    own = [1 if draw(st.integers(0, 9)) == 0 else n for n in shape]
    seed = draw(st.integers(0, 2**32))
    values = np.asarray(3 * np.random.default_rng(seed).standard_normal(own), dtype)
    return np.broadcast_to(draw(laid_out(values)), shape)


def run(name, *arguments):
    """The result of a kernel, after a look at what all kernels promise."""
    inputs = [x for x in arguments if isinstance(x, np.ndarray)]
    before = [x.tobytes() for x in inputs]
    y = getattr(kernels, name)(*arguments)
    assert [x.tobytes() for x in inputs] == before
    assert type(y) is np.ndarray
    assert y.dtype == inputs[0].dtype
    assert y.flags.c_contiguous
    assert y.flags.writeable
    assert not any(np.shares_memory(x, y) for x in inputs)
    return y


def in_float64(name, *arguments):
    double = [x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x for x in arguments]
    return getattr(reference, name)(*double)


def assert_close(y, expected, eps_factor=64):
    eps = np.finfo(y.dtype).eps
    np.testing.assert_allclose(y, expected, rtol=eps_factor * eps, atol=eps_factor * eps)


# -------------------------------------------------------------------------------------------------------------- matmul
def assert_is_product(c, a, b):
    """Every element within the rounding error that a sum of K products may have in any order."""
    exact = in_float64("matmul", a, b)
    bound = in_float64("matmul", abs(a), abs(b)) * (a.shape[-1] + 1) * np.finfo(c.dtype).eps
    assert c.shape == exact.shape
    assert (abs(c - exact) <= bound).all()


@st.composite
def factors(draw):
    dtype = draw(st.sampled_from(DTYPES))
    m, k, n = draw(sizes), draw(sizes), draw(st.sampled_from([0, 1, 3, 15, 16, 17, 32, 40, 63, 64, 65, 100, 130]))
    batch = draw(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=4))
    batch_a, batch_b = (
        [n if draw(st.booleans()) else 1 for n in batch[draw(st.integers(0, len(batch))) :]] for _ in range(2)
    )
    return draw(arrays((*batch_a, m, k), dtype)), draw(arrays((*batch_b, k, n), dtype))


@given(factors())
def test_matmul_is_the_sum_of_products(pair):
    a, b = pair
    assert_is_product(run("matmul", a, b), a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1100, 3), (70, 513, 66), (300, 40, 200), (250, 700, 31)])
@pytest.mark.parametrize("layout", ["nn", "tn", "nt", "tt"])
def test_matmul_across_its_blocks(dtype, shape, layout, rng):
    m, k, n = shape
    a = rng.standard_normal((k, m) if layout[0] == "t" else (m, k)).astype(dtype)
    b = rng.standard_normal((n, k) if layout[1] == "t" else (k, n)).astype(dtype)
    a, b = (a.T if layout[0] == "t" else a), (b.T if layout[1] == "t" else b)
    assert_is_product(run("matmul", a, b), a, b)


def test_matmul_reads_heads_in_place(rng):
    x, y = (
        rng.standard_normal((2, 9, 4, 8)).astype(np.float32).transpose(0, 2, 1, 3) for _ in range(2)
    )  # (B, H, T, K)
    assert_is_product(run("matmul", x, y.swapaxes(-1, -2)), x, y.swapaxes(-1, -2))


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 20, 65), (70, 3, 31), (30, 5, 48)])
def test_matmul_writes_its_result_and_nothing_beside_it(shape, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    memory = np.full(m * n + 2000, 77, np.float32)
    gemm._multiply(a, b, None, memory[1000:-1000].reshape(m, n))
    assert_is_product(memory[1000:-1000].reshape(m, n), a, b)
    assert (memory[:1000] == 77).all()
    assert (memory[-1000:] == 77).all()


def test_a_sum_of_nothing_is_zero(either):
    np.testing.assert_array_equal(
        run("matmul", np.ones((2, 0), np.float32), np.ones((0, 3), np.float32)), np.zeros((2, 3))
    )


def test_matmul_takes_numbers_that_are_not_aligned():
    numbers = np.arange(12, dtype=np.float32)
    a = np.frombuffer(b"x" + numbers.tobytes(), np.float32, offset=1).reshape(3, 4)
    assert not a.flags.aligned
    np.testing.assert_array_equal(kernels.matmul(a, a.T), numbers.reshape(3, 4) @ numbers.reshape(3, 4).T)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(7, 20, 66), (30, 5, 3)])
def test_matmul_passes_on_nan_and_infinity_as_numpy_does(bad, shape, either, rng):
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    a[-1, 2], b[3, 1], b[:, 0] = bad, bad, 0
    with np.errstate(invalid="ignore"):
        expected = a @ b
    c = kernels.matmul(a, b)
    assert np.isnan(c[-1, 0])
    np.testing.assert_allclose(c, expected, rtol=1e-4, atol=1e-5)  # NaN equals NaN here, and infinity its like


@pytest.mark.parametrize("kinds", ["ii", "bb", "ee", "fd", "df", "if", "BB"])
def test_matmul_of_other_dtypes_is_numpys(kinds):
    a, b = (np.array([[1, 0, 1], [1, 1, 0]]).astype(kind) for kind in kinds)
    result, expected = kernels.matmul(a, b.T), np.matmul(a, b.T)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("shapes", [((2, 3), (4, 5)), ((2, 2, 3), (3, 3, 2))])
def test_matmul_of_sizes_that_do_not_fit_is_an_error(shapes, either):
    a, b = (np.ones(shape, np.float32) for shape in shapes)
    with pytest.raises(ValueError, match=r"matmul|broadcast"):
        kernels.matmul(a, b)


def test_the_error_of_matmul_names_the_rule():
    with pytest.raises(ValueError, match=r"matmul\(\): a has shape \(2, 3\), b has shape \(4, 5\); a.shape\[-1\] must"):
        kernels.matmul(np.ones((2, 3)), np.ones((4, 5)))


# ------------------------------------------------------------------------------------------------ softmax and relatives
def row_arguments(name, x, g, mask, dim):
    """What a kernel of this family takes, made of random x, g and mask."""
    if name == "masked_softmax":
        return x, mask, dim
    if name.endswith("_vjp"):
        return getattr(reference, name.removesuffix("_vjp"))(x, dim), g, dim
    return x, dim


@st.composite
def row_cases(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(sizes, max_size=3)))
    dim = draw(st.integers(-max(len(shape), 1), max(len(shape), 1) - 1))
    of_mask = [n if draw(st.booleans()) else 1 for n in shape[draw(st.integers(0, len(shape))) :]]
    mask = draw(laid_out(np.random.default_rng(draw(st.integers(0, 99))).random(of_mask) < 0.6))
    return draw(arrays(shape, dtype)), draw(arrays(shape, dtype)), mask, dim


@pytest.mark.parametrize("name", ROW_KERNELS)
@given(row_cases())
def test_rows_are_what_the_twin_says(name, case):
    arguments = row_arguments(name, *case)
    assert_close(run(name, *arguments), in_float64(name, *arguments))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1500, 3), (7, 1030), (3, 1)])
@pytest.mark.parametrize("name", ROW_KERNELS)
def test_rows_shorter_and_longer_than_a_sweep(name, shape, dtype, rng):
    x, g = rng.standard_normal((2, *shape)).astype(dtype)
    arguments = row_arguments(name, x, g, rng.random(shape) < 0.5, -1)
    assert_close(run(name, *arguments), in_float64(name, *arguments), 400)


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_sum_to_one(dtype, either, rng):
    x = (5 * rng.standard_normal((4, 37, 6))).astype(dtype)
    for dim in (0, 1, 2):
        assert_close(kernels.softmax(x, dim).sum(dim), 1)
        assert_close(np.exp(kernels.log_softmax(x, dim)).sum(dim), 1)
        assert_close(np.log(kernels.softmax(x, dim)), kernels.log_softmax(x, dim), 500)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_shift_of_all_scores_changes_no_bit(name, dtype, either, rng):
    x = np.round(8 * rng.standard_normal((5, 20))).astype(dtype) / 8  # so that x + 512 is exact
    function = getattr(kernels, name)
    np.testing.assert_array_equal(function(x, -1), function(x + 512, -1))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_vjp_is_the_transposed_jacobian(name, either, rng):
    x, g, v = rng.standard_normal((3, 4, 9))
    forward, vjp = getattr(kernels, name), getattr(kernels, f"{name}_vjp")
    jv = (forward(x + 1e-6 * v, -1) - forward(x - 1e-6 * v, -1)) / 2e-6
    d = vjp(forward(x, -1), g, -1)
    np.testing.assert_allclose((d * v).sum(), (g * jv).sum(), rtol=1e-7)
    np.testing.assert_allclose(d.sum(-1), 0, atol=1e-14)  # a shift of x changes nothing, so d is orthogonal to ones


def test_a_constant_gradient_is_lost_in_softmax(either, rng):
    y = kernels.softmax(rng.standard_normal((4, 9)), -1)
    np.testing.assert_allclose(kernels.softmax_vjp(y, np.full_like(y, 3.0), -1), 0, atol=1e-15)


@pytest.mark.parametrize("name", ["softmax_vjp", "log_softmax_vjp"])
def test_vjp_of_another_shape_or_dtype_is_the_twins(name, either):
    y, g = np.full((2, 3), 0.5, np.float32), np.ones((2, 1))
    expected = getattr(reference, name)(y, g, -1)
    np.testing.assert_array_equal(getattr(kernels, name)(y, g, -1), expected)


@pytest.mark.parametrize("n", [2, 40])
def test_float32_exponential_to_one_unit_in_the_last_place(n):
    x = np.linspace(-103.9, 0, 200_001, dtype=np.float32)
    x = np.stack([x, np.zeros_like(x), *[np.full_like(x, -np.inf)] * (n - 2)], 1)  # y0 = e^x / (e^x + 1)
    y = kernels.softmax(x, -1)[:, 0].astype(np.float64)
    exact = np.exp(x[:, 0].astype(np.float64)) / (np.exp(x[:, 0].astype(np.float64)) + 1)
    units = abs(y - exact) / np.spacing(exact.astype(np.float32))
    normal = x[:, 0] > -87.33
    assert units[normal].max() < 3.5  # 0.9 of the exponential, 0.5 each of the sum, the division and the product
    assert y[normal].min() > 0
    assert (y[x[:, 0] < -87.34] == 0).all()  # less than the smallest normal number


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [2.5, -0.5, 0.0])
@pytest.mark.parametrize("n", [5, 16, 37])
def test_the_scale_of_masked_scores_may_have_any_sign(n, scale, dtype, either, rng):
    x, mask = rng.standard_normal((7, n)).astype(dtype), rng.random((7, n)) < 0.5
    expected = in_float64("masked_softmax", x, mask, -1, scale)
    assert_close(kernels.masked_softmax(x, mask, -1, scale), expected, 100)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [pieces.LARGE - 64, pieces.LARGE, pieces.LARGE + 48])
def test_room_for_results_lies_where_it_suits_the_kernels(size, dtype):
    dtype = np.dtype(dtype)
    made = [kernels.empty((2, size // (2 * dtype.itemsize)), dtype) for _ in range(9)]
    for x in made:
        assert (x.shape, x.dtype, x.nbytes) == ((2, size // (2 * dtype.itemsize)), dtype, size)
        assert x.flags.writeable
        assert x.flags.c_contiguous
        x[...] = 1
    if size >= pieces.LARGE:
        places = [x.ctypes.data % pieces.PAGE for x in made]
        assert {place % VECTOR for place in places} == {0}
        assert {(a - b) % pieces.PAGE for a, b in itertools.pairwise(places)} == {pieces.STEP}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROW_KERNELS)
def test_large_rows_are_what_the_twin_says(name, dtype, rng):
    x, g = rng.standard_normal((2, 3, 101, 67)).astype(dtype)
    for dim in (0, -1):
        arguments = row_arguments(name, x, g, rng.random((101, 1)) < 0.5, dim)
        assert_close(run(name, *arguments), in_float64(name, *arguments), 400)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROW_KERNELS)
@pytest.mark.parametrize("width", [7, 16, 203])
def test_threads_change_no_bit_of_rows(name, width, dtype, rng):
    x, g = rng.standard_normal((2, 200_000 // width, width)).astype(dtype)
    arguments = row_arguments(name, x, g, rng.random(width) < 0.5, -1)
    results, threads = [], kernels.get_num_threads()
    try:
        for n in (1, 2, 3):
            kernels.set_num_threads(n)
            results.append(run(name, *arguments))
    finally:
        kernels.set_num_threads(threads)
    for y in results[1:]:
        np.testing.assert_array_equal(y, results[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_scores_that_are_no_numbers(dtype, either):
    nan, inf = np.nan, np.inf
    x = np.array([[0, nan, 1], [-nan, 0, 1], [inf, 0, 1], [inf, -inf, inf], [-inf, -inf, -inf]], dtype)
    assert np.isnan(kernels.softmax(x, -1)).all()
    assert np.isnan(kernels.log_softmax(x, -1)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_minus_infinity_and_of_extremes(dtype, either):
    big = np.finfo(dtype).max
    x = np.array([[-np.inf, 0, 0], [-big, big, big], [-big, -big, -np.inf], [-1e4, 0, 0]], dtype)
    np.testing.assert_array_equal(kernels.softmax(x, -1), [[0, 0.5, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0], [0, 0.5, 0.5]])
    log_y = kernels.log_softmax(x, -1)
    np.testing.assert_array_equal(log_y[:, 0] == -np.inf, [True, True, False, False])
    assert_close(log_y[3], [-1e4 - np.log(2), -np.log(2), -np.log(2)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_mask_decides_whatever_the_scores_are(dtype, either):
    nan, inf = np.nan, np.inf
    x = np.array([[nan, 1, 1], [inf, 2, -inf], [1, 2, 3], [-inf, -inf, 5], [nan, 1, 2]], dtype)
    mask = np.array([[0, 1, 1], [0, 1, 1], [0, 0, 0], [1, 1, 0], [1, 1, 0]], bool)
    expected = np.array([[0, 0.5, 0.5], [0, 1, 0], [0, 0, 0], [nan, nan, 0], [nan, nan, 0]])
    np.testing.assert_array_equal(kernels.masked_softmax(x, mask, -1), expected)
    np.testing.assert_array_equal(kernels.masked_softmax(x.T, mask.T, 0), expected.T)


@pytest.mark.parametrize("shape", [(), (7,), (1, 7), (5, 1), (3, 1, 1, 7), (3, 1, 5, 1), (1, 4, 1, 1)])
def test_masks_are_shared_by_broadcasting(shape, either, rng):
    x = rng.standard_normal((3, 4, 5, 7)).astype(np.float32)
    mask = rng.random(shape) < 0.5
    for dim in (-1, 1):
        full = kernels.masked_softmax(x, np.broadcast_to(mask, x.shape).copy(), dim)
        np.testing.assert_array_equal(kernels.masked_softmax(x, mask, dim), full)


@pytest.mark.parametrize("shape", [(2,), (3, 4), (5, 2, 3)])
def test_a_mask_that_does_not_broadcast_to_the_scores_is_an_error(shape, either):
    with pytest.raises(ValueError, match=r"broadcast|more dimensions"):
        kernels.masked_softmax(np.ones((1, 3), np.float32), np.ones(shape, bool), -1)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_half_precision_goes_to_the_twin(name, rng):
    x = rng.standard_normal((3, 4)).astype(np.float16)
    np.testing.assert_array_equal(run(name, x, -1), getattr(reference, name)(x, -1))


def test_a_dimension_that_is_not_there_is_an_error(either):
    with pytest.raises(ValueError, match="out of bounds"):
        kernels.softmax(np.ones((2, 3), np.float32), 2)


# ----------------------------------------------------------------------------------------------------- dropout and erf
@st.composite
def dropout_cases(draw):
    dtype = draw(st.sampled_from(DTYPES))
    x = draw(arrays(tuple(draw(st.lists(sizes, max_size=3))), dtype))
    return x, draw(st.floats(0, 1)), draw(st.integers(0, 2**64 - 1))


@given(dropout_cases())
@example((np.ones(50, np.float32), 1 - 2**-40, 3))
def test_dropout_is_the_twin_bit_for_bit(case):
    np.testing.assert_array_equal(run("dropout", *case), reference.dropout(*case))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_of_nothing_and_of_everything(dtype, either, rng):
    x = rng.standard_normal((30, 40)).astype(dtype)
    np.testing.assert_array_equal(run("dropout", x, 0.0, 7), x)
    np.testing.assert_array_equal(run("dropout", x, 1.0, 7), np.zeros_like(x))


def test_dropout_scales_what_it_keeps_and_repeats_itself(either, rng):
    x = rng.standard_normal((30, 40)) + 10
    y = kernels.dropout(x, 0.25, 7)
    keep = bits.keep(x.shape, 0.25, 7)
    np.testing.assert_array_equal(y != 0, keep)
    np.testing.assert_allclose(y[keep], x[keep] / 0.75)
    np.testing.assert_array_equal(kernels.dropout(x, 0.25, 7), y)


@given(st.sampled_from(DTYPES), st.lists(sizes, max_size=3), st.data())
def test_erf_is_the_c_librarys(dtype, shape, data):
    x = data.draw(arrays(tuple(shape), dtype))
    assert_close(run("erf", x), in_float64("erf", x), 4)


def test_erf_at_the_ends(either):
    y = kernels.erf(np.array([-np.inf, -30, 0, 30, np.inf, np.nan], np.float32))
    np.testing.assert_array_equal(y, [-1, -1, 0, 1, 1, np.nan])


def test_erf_of_half_precision_goes_to_the_twin():
    assert run("erf", np.array([0.5], np.float16))[0] == np.float16(0.5204999)
