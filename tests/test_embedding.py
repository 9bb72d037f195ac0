"""The table of embeddings: the kernels against their twins and closed forms, and the ops made of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels, ops
from minigrad.kernels import reference
from tests.test_kernels import DTYPES, arrays, assert_close, in_float64, laid_out

WIDTHS = st.sampled_from([1, 3, 8, 15, 16, 17, 33, 64, 70])


@st.composite
def lookups(draw):
    """Indices (B, T), a table (V, D), positions (T, D) or None, a gradient (B, T, D), and settings."""
    batch, length, rows, width = (
        draw(st.integers(0, 3)),
        draw(st.integers(0, 5)),
        draw(st.integers(1, 6)),
        draw(WIDTHS),
    )
    dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ids = rng.integers(0, rows, (batch, length)).astype(draw(st.sampled_from([np.int32, np.int64, np.uint8])))
    weight = draw(arrays((rows, width), dtype))
    positions = draw(arrays((length, width), dtype)) if draw(st.booleans()) else None
    g = draw(arrays((batch, length, width), dtype))
    settings = draw(st.sampled_from([1.0, -2.5])), draw(st.sampled_from([0.0, 0.3, 1.0])), draw(st.integers(0, 2**64))
    return draw(laid_out(ids)), weight, positions, g, settings


@given(lookups())
def test_the_way_forward_is_what_the_twin_says(case):
    ids, weight, positions, _, settings = case
    with kernels.use("numba"):
        y = kernels.embed_tokens(ids, weight, positions, *settings)
    assert (y.dtype, y.flags.c_contiguous) == (weight.dtype, True)
    assert not np.shares_memory(y, weight)
    assert_close(y, in_float64("embed_tokens", ids, weight, positions, *settings))


@given(lookups(), st.booleans())
def test_the_way_back_is_what_the_twin_says(case, padded):
    ids, weight, _, g, settings = case
    rows = len(weight)
    table = ids, g, rows, rows - 1 if padded else None, *settings
    places = np.arange(ids.shape[1]), g, ids.shape[1], None, *settings
    with kernels.use("numba"):
        for arguments in (table, places):
            d = kernels.embed_tokens_vjp(*arguments)
            assert d.dtype == g.dtype
            assert_close(d, in_float64("embed_tokens_vjp", *arguments), 200)


def test_no_kernel_writes_its_inputs(rng):
    ids, weight = rng.integers(0, 5, (3, 4)), rng.standard_normal((5, 20)).astype(np.float32)
    g = rng.standard_normal((3, 4, 20)).astype(np.float32)
    for x in (ids, weight, g):
        x.flags.writeable = False
    before = [x.copy() for x in (ids, weight, g)]
    with kernels.use("numba"):
        kernels.embed_tokens(ids, weight, weight[:4], 2.0, 0.5, 1)
        kernels.embed_tokens_vjp(ids, g, 5, 0, 2.0, 0.5, 1)
    for x, old in zip((ids, weight, g), before, strict=True):
        np.testing.assert_array_equal(x, old)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_copied_to_the_bit(dtype, either, rng):
    weight = rng.standard_normal((5, 19)).astype(dtype)
    weight[0, :4] = -0.0, np.nan, np.inf, -np.inf
    ids = np.array([[0, 4], [4, 0]])
    assert kernels.embed_tokens(ids, weight, None, 1.0).tobytes() == weight[ids].tobytes()


def test_sums_are_exact_where_numbers_are_whole(either, rng):
    ids, g = rng.integers(0, 7, (50, 6)), rng.integers(-9, 9, (50, 6, 21)).astype(np.float32)
    d = kernels.embed_tokens_vjp(ids, g, 7, 3, 2.0)
    one_hot = ids.reshape(-1, 1) == np.arange(7)
    expected = 2 * one_hot.T.astype(float) @ g.reshape(-1, 21)
    expected[3] = 0
    np.testing.assert_array_equal(d, expected)
    np.testing.assert_array_equal(kernels.embed_tokens_vjp(np.arange(6), g, 6, None, 1.0), g.sum(0))


@pytest.mark.parametrize("shape", [(4, 300, 8, 129), (8, 8, 64, 64), (2, 9, 300, 16), (3, 5, 1, 7)])
@pytest.mark.parametrize("p", [0.0, 0.2])
def test_threads_change_no_bit(shape, p, several_threads, rng):
    batch, length, rows, width = shape
    ids = np.minimum(rng.geometric(0.2, (batch, length)), rows) - 1  # as of words, of some there are many
    g = rng.standard_normal((batch, length, width)).astype(np.float32)
    weight = rng.standard_normal((rows, width)).astype(np.float32)
    results = []
    for n in (1, 2, 3, 7):
        kernels.set_num_threads(n)
        with kernels.use("numba"):
            back = kernels.embed_tokens_vjp(ids, g, rows, rows // 2, 1.5, p, 3)
            places = kernels.embed_tokens_vjp(np.arange(length), g, length, None, 1.5, p, 3)
            results.append((kernels.embed_tokens(ids, weight, None, 1.5, p, 3), back, places))
    for result in results[1:]:
        for x, alone in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(x, alone)


def test_gradients_are_added_in_the_order_of_the_places(rng):
    ids, g = rng.integers(0, 3, 200), rng.standard_normal((200, 5)).astype(np.float32) * 1000
    expected = np.zeros((3, 5), np.float32)
    for i, row in zip(ids, g, strict=True):
        expected[i] += row
    with kernels.use("numba"):
        np.testing.assert_array_equal(kernels.embed_tokens_vjp(ids, g, 3, None, 1.0), expected)


def test_nan_stays_where_it_is(either, rng):
    ids, g = np.array([[0, 1, 2]]), rng.standard_normal((1, 3, 18)).astype(np.float32)
    g[0, 1, 17] = np.nan
    d = kernels.embed_tokens_vjp(ids, g, 4, None, 1.0)
    np.testing.assert_array_equal(np.argwhere(np.isnan(d)), [[1, 17]])
    g[0, 2] = np.nan  # of padding
    assert not np.isnan(kernels.embed_tokens_vjp(ids, g, 4, 2, 1.0)[2:]).any()


@given(
    st.lists(st.integers(-3, 6), max_size=70),
    st.sampled_from([np.int8, np.int32, np.int64]),
    st.sampled_from([None, -1, 0, 2, 5]),
    st.data(),
)
def test_indices_are_counted(numbers, dtype, ignored, data):
    ids = data.draw(laid_out(np.array(numbers, dtype)))
    counting = [i for i in numbers if i != ignored]
    expected = len(counting), len([i for i in counting if not 0 <= i < 4])
    for name in ("numpy", "numba"):
        with kernels.use(name):
            assert kernels.count_indices(ids, 4, ignored) == expected


def test_half_precision_goes_to_the_twin(rng):
    weight, ids = rng.standard_normal((3, 4)).astype(np.float16), np.array([2, 0])
    with kernels.use("numba"):
        np.testing.assert_array_equal(kernels.embed_tokens(ids, weight, None, 1.0), weight[ids])
        d = kernels.embed_tokens_vjp(ids, weight[:2], 3, None, 1.0)
    np.testing.assert_array_equal(d, reference.embed_tokens_vjp(ids, weight[:2], 3, None, 1.0))


# ----------------------------------------------------------------------------------------------------------- the ops
def test_padding_is_looked_up_and_gets_no_gradient(either, rng):
    weight, positions = (mg.Tensor(rng.standard_normal(s), requires_grad=True) for s in [(4, 5), (3, 5)])
    ids, g = np.array([[2, 1, 2], [3, 2, 0]]), rng.standard_normal((2, 3, 5))
    y = ops.embed_tokens(ids, weight, positions, scale=2.0, padding_idx=-2)
    np.testing.assert_allclose(y.data, 2 * weight.data[ids] + positions.data)
    y.backward(g)
    np.testing.assert_allclose(weight.grad.data, 2 * np.stack([g[1, 2], g[0, 1], 0 * g[0, 0], g[1, 0]]))
    np.testing.assert_allclose(positions.grad.data, g.sum(0))


def test_dropout_has_the_bits_of_the_op_of_that_name(either, rng):
    weight, positions = rng.standard_normal((4, 17)), rng.standard_normal((3, 17))
    ids, g = rng.integers(0, 4, (5, 3)), rng.standard_normal((5, 3, 17))
    leaves = [mg.Tensor(x, requires_grad=True) for x in (weight, positions)]
    y = ops.embed_tokens(ids, *leaves, scale=3.0, p=0.4, seed=11)
    y.backward(g)
    factor = ops.dropout(np.ones(y.shape), p=0.4, seed=11)
    np.testing.assert_allclose(y.data, factor * (3 * weight[ids] + positions))
    np.testing.assert_allclose(leaves[1].grad.data, (factor * g).sum(0))
    np.testing.assert_allclose(leaves[0].grad.data, [3 * (factor * g)[ids == v].sum(0) for v in range(4)], atol=1e-14)


def test_positions_of_a_wider_dtype_decide(rng):
    weight = mg.Tensor(rng.standard_normal((4, 5)).astype(np.float32), requires_grad=True)
    y = ops.embed_tokens(np.array([1, 2]), weight, rng.standard_normal((2, 5)))
    y.backward(rng.standard_normal((2, 5)))
    assert (y.dtype, weight.grad.dtype) == (np.float64, np.float32)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_an_index_outside_of_the_table_is_named(dtype, either):
    ids = np.array([[0, 3], [7, 4]], dtype)
    for op in (ops.embedding, ops.embed_tokens):
        with pytest.raises(IndexError, match=r"index 7 is not one of the 4 rows 0..3"):
            op(ids.clip(0, 7) - (ids == 4), mg.ones(4, 2))
    with pytest.raises(IndexError, match=r"index 0 is not one of the 0 rows"):
        ops.embedding(np.array([0], dtype), mg.ones(0, 2))
