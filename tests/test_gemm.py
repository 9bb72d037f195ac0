"""Products with a start, long sums in parts, sums of columns, and the product for use inside other kernels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import kernels
from minigrad.kernels import gemm, reference, threads
from tests.test_kernels import DTYPES, arrays, assert_is_product, in_float64, run, sizes

widths = st.sampled_from([0, 1, 3, 15, 16, 17, 33, 64, 65, 130])
LONG = [(64, 1024, 64), (128, 1537, 40), (1, 512, 1), (33, 2049, 250)]
BLOCKS = [(1, 5, 3), (300, 40, 200), (49, 600, 65), (513, 1030, 70), (70, 300, 300), (300, 1100, 16)]


@pytest.fixture(autouse=True)
def _numba_kernels():
    n = kernels.get_num_threads()
    with kernels.use("numba"):
        yield
    kernels.set_num_threads(n)


def factors(rng, shape, dtype, layout="nn"):
    """Random (M, K) and (K, N); "t" in the layout: transposed in memory."""
    m, k, n = shape
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    return (
        np.asfortranarray(a) if layout[0] == "t" else a,
        np.asfortranarray(b) if layout[1] == "t" else b,
    )


def assert_is_started_product(y, start, a, b):
    """`start` + a @ b, within the rounding error that a sum of K + 1 numbers may have in any order."""
    start = start.astype(np.float64)
    exact = start + in_float64("matmul", a, b)
    bound = abs(start) + in_float64("matmul", abs(a), abs(b))
    assert y.shape == exact.shape
    assert (abs(y - exact) <= bound * (a.shape[-1] + 2) * np.finfo(y.dtype).eps).all()


# ---------------------------------------------------------------------------------------------------- what is computed
@given(st.sampled_from(DTYPES), sizes, sizes, widths, st.booleans(), st.data())
def test_linear_is_the_product_with_the_bias(dtype, rows, size, out, biased, data):
    x, weight = data.draw(arrays((rows, size), dtype)), data.draw(arrays((out, size), dtype))
    bias = data.draw(arrays((out,), dtype)) if biased else None
    y = run("linear", x, weight, bias)
    assert_is_started_product(y, np.zeros(1, dtype) if bias is None else bias, x, weight.T)


@given(st.sampled_from(DTYPES), sizes, sizes, widths, st.integers(0, 3), st.data())
def test_matmul_add_adds_the_product_and_writes_nothing_beside_it(dtype, m, k, n, gap, data):
    a, b = data.draw(arrays((m, k), dtype)), data.draw(arrays((k, n), dtype))
    memory = np.random.default_rng(gap).standard_normal((m, n + gap)).astype(dtype)
    before = memory.copy()
    assert kernels.matmul_add(memory[:, :n], a, b) is None
    assert_is_started_product(memory[:, :n], before[:, :n], a, b)
    np.testing.assert_array_equal(memory[:, n:], before[:, n:])


@given(st.sampled_from(DTYPES), st.sampled_from([0, 1, 2, 63, 64, 65, 129]), widths, st.data())
def test_column_sums_are_the_sums(dtype, rows, columns, data):
    x = data.draw(arrays((rows, columns), dtype))
    s = run("column_sums", x)
    bound = abs(x).astype(np.float64).sum(0) * (rows + 1) * np.finfo(dtype).eps
    assert s.shape == (columns,)
    assert (abs(s - x.astype(np.float64).sum(0)) <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["nn", "tn", "nt", "tt"])
@pytest.mark.parametrize("shape", LONG + BLOCKS)
def test_products_across_parts_and_blocks(shape, layout, dtype, rng):
    a, b = factors(rng, shape, dtype, layout)
    assert_is_product(run("matmul", a, b), a, b)
    bias = rng.standard_normal(shape[2]).astype(dtype)
    assert_is_started_product(run("linear", a, b.T, bias), bias, a, b)
    for gap in (0, 3):
        c = rng.standard_normal((shape[0], shape[2] + gap)).astype(dtype)[:, : shape[2]]
        before = c.copy()
        kernels.matmul_add(c, a, b)
        assert_is_started_product(c, before, a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", BLOCKS)
def test_the_way_back_of_a_linear_layer_goes_on_from_what_has_arrived(shape, dtype, either, rng):
    g, weight = factors(rng, shape, dtype)  # (R, O) and (O, I)
    x, start = rng.standard_normal((2, shape[0], shape[2])).astype(dtype)
    wide = rng.standard_normal((shape[0], 2 * shape[2])).astype(dtype)
    _, *others = kernels.linear_vjp(g, x, weight, True)
    for so_far in (start, np.asfortranarray(start), wide[:, ::2], start.astype(np.float64)):
        before = so_far.copy()
        dx, *same = kernels.linear_vjp(g, x, weight, True, so_far)
        assert_is_started_product(dx.astype(dtype), before, g, weight)
        assert not np.shares_memory(dx, so_far)
        np.testing.assert_array_equal(so_far, before)
        for a, b in zip(same, others, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(5000, 7), (4097, 1100), (64, 2500)])
def test_column_sums_of_many_rows(shape, either, rng):
    x = rng.integers(-50, 50, shape).astype(np.float32)  # so that every sum is exact
    np.testing.assert_array_equal(kernels.column_sums(x), x.sum(0))
    np.testing.assert_array_equal(kernels.column_sums(x[::2, ::3]), x[::2, ::3].sum(0))


def test_the_errors_of_a_long_column_sum_do_not_pile_up(either):
    x = np.full((2**20, 2), 0.1, np.float32)
    np.testing.assert_allclose(kernels.column_sums(x) / 2**20, x[0], rtol=1e-6)  # one by one: 1 % off


@pytest.mark.parametrize(
    "batches", [((3, 2), (3, 2)), ((3, 1), (3, 1)), ((3, 1), (1, 2)), ((2,), (3, 2)), ((2, 3, 2), (3, 1))]
)
def test_every_matrix_of_a_batch_has_its_own_panels(batches, rng):
    a, b = rng.standard_normal((*batches[0], 70, 20)), rng.standard_normal((*batches[1], 30, 20)).swapaxes(-1, -2)
    assert_is_product(run("matmul", a, b), a, b)


def test_the_rows_of_a_batch_are_one_tall_matrix(rng):
    x, weight = rng.standard_normal((3, 50, 40)), rng.standard_normal((40, 30))
    np.testing.assert_array_equal(run("matmul", x, weight).reshape(150, 30), run("matmul", x.reshape(150, 40), weight))


# --------------------------------------------------------------------------------------------------- what may go wrong
def test_starts_that_are_no_numbers_stay_so(either):
    nan, inf = np.nan, np.inf
    x, weight = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)
    y = kernels.linear(x, weight, np.array([nan, inf, -inf, 0], np.float32))
    np.testing.assert_array_equal(y, [[nan, inf, -inf, 3]] * 2)
    kernels.matmul_add(y, np.full((2, 1), -inf, np.float32), np.ones((1, 4), np.float32))
    np.testing.assert_array_equal(y, [[nan, nan, -inf, -inf]] * 2)
    np.testing.assert_array_equal(kernels.column_sums(y), [nan, nan, -inf, -inf])


def test_sums_over_nothing(either):
    empty, bias = np.ones((3, 0), np.float32), np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(kernels.linear(empty, np.ones((4, 0), np.float32), bias), [bias] * 3)
    np.testing.assert_array_equal(kernels.linear(empty, np.ones((4, 0), np.float32), None), np.zeros((3, 4)))
    c = np.ones((3, 4), np.float32)
    kernels.matmul_add(c, empty, np.ones((0, 4), np.float32))
    np.testing.assert_array_equal(c, np.ones((3, 4)))
    np.testing.assert_array_equal(kernels.column_sums(np.ones((0, 4), np.float32)), np.zeros(4))


def test_sizes_that_do_not_fit_are_an_error(either):
    x, weight, bias = np.ones((2, 3)), np.ones((4, 3)), np.ones(4)
    for arguments in [(x[:, :2], weight, bias), (x, weight, bias[:3]), (x, weight[:, :2], None)]:
        with pytest.raises(ValueError, match=r"linear\(\)|matmul|broadcast"):
            kernels.linear(*arguments)
    for c in (np.ones((2, 3)), np.ones((3, 4))):
        with pytest.raises(ValueError, match=r"matmul|broadcast"):
            kernels.matmul_add(c, x, weight.T)


@pytest.mark.parametrize("kinds", ["efe", "fdf", "ddf"])
def test_mixed_and_half_precision_go_to_the_twin(kinds, rng):
    x, weight, bias = (rng.standard_normal(s).astype(k) for s, k in zip([(5, 3), (4, 3), (4,)], kinds, strict=True))
    y, expected = kernels.linear(x, weight, bias), reference.linear(x, weight, bias)
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(kernels.column_sums(x), reference.column_sums(x))


def test_matmul_add_to_scattered_columns_is_the_twins(rng):
    c, a, b = rng.standard_normal((6, 5)).T, rng.standard_normal((5, 3)), rng.standard_normal((3, 6))
    before = c.copy()
    kernels.matmul_add(c, a, b)
    assert_is_started_product(c, before, a, b)


# ------------------------------------------------------------------------------------------------------------- threads
@pytest.mark.parametrize("shape", LONG + BLOCKS)
def test_the_number_of_threads_changes_no_bit(shape, monkeypatch, rng):
    monkeypatch.setattr(threads, "WORTH_SHARING", 0)
    a, b = factors(rng, shape, np.float32, "tn")
    bias, results = rng.standard_normal(shape[2]).astype(np.float32), []
    for n in (1, 2, 3):
        kernels.set_num_threads(n)
        c = np.ones((shape[0], shape[2]), np.float32)
        kernels.matmul_add(c, a, b)
        back = kernels.linear_vjp(a, c, b, True, c)
        results.append((kernels.matmul(a, b), kernels.linear(a, b.T, bias), c, kernels.column_sums(a), *back))
    for others in results[1:]:
        for alone, shared in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(alone, shared)


def test_a_block_is_as_high_as_said(monkeypatch, rng):
    """The buffers of a thread are made for blocks of ROWS: what `_run` asks for must not be higher."""
    asked = []
    monkeypatch.setitem(gemm._of, np.dtype(np.float32), lambda *arguments: asked.append(arguments))
    for rows in (1, 48, 49, 240, 241, 1000, 5000):
        for columns in (1, 64, 65, 8000):
            gemm._multiply(
                np.ones((rows, 2), np.float32),
                np.ones((2, columns), np.float32),
                None,
                np.empty((rows, columns), np.float32),
            )
            _, items, _, _, _, _, out, blocks, *_ = asked.pop()
            assert items == blocks * -(-columns * 4 // gemm.ACROSS)
            assert -(-rows // blocks) <= gemm.ROWS
            assert out.shape == (1, 1, rows, columns)
