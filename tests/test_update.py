"""The kernels of the optimiser: Adam against the paper's equations one number at a time, norms, rescaling."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import kernels
from tests.test_kernels import DTYPES, arrays, laid_out

sizes = st.sampled_from([0, 1, 7, 8, 15, 16, 17, 33, 100])


def step_of_adam(p, g, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, step):
    """As in the paper, and in torch.optim.Adam and AdamW, for one parameter."""
    if decoupled:
        p -= lr * weight_decay * p
    else:
        g += weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    unbiased = m / (1 - beta1**step), v / (1 - beta2**step)
    return p - lr * unbiased[0] / (math.sqrt(unbiased[1]) + eps), m, v


settings = st.tuples(
    st.sampled_from([1e-3, 0.5]),  # lr
    st.sampled_from([0.0, 0.9]),
    st.sampled_from([0.0, 0.98, 0.999]),
    st.sampled_from([1e-8, 0.1]),  # eps
    st.sampled_from([0.0, 0.01, 0.3]),  # weight decay
    st.booleans(),
    st.sampled_from([1, 2, 1000]),
)


@given(sizes, st.sampled_from(DTYPES), settings, st.sampled_from(["numpy", "numba"]), st.integers(0, 2**32))
def test_adam_is_the_equations_one_number_at_a_time(size, dtype, settings, name, seed):
    rng = np.random.default_rng(seed)
    memory = rng.standard_normal((4, size + 20)).astype(dtype)
    memory[3] **= 2
    before = memory.copy()
    p, g, m, v = (x[10 : 10 + size] for x in memory)
    g.flags.writeable = False
    with kernels.use(name):
        kernels.adam(p, g, m, v, *settings)
    expected = [step_of_adam(*x, *settings) for x in before[:, 10 : 10 + size].astype(float).T]
    tolerance = 64 * np.finfo(dtype).eps
    np.testing.assert_allclose(np.stack([p, m, v]).T, np.reshape(expected, (size, 3)), tolerance, tolerance)
    np.testing.assert_array_equal(g, before[1, 10 : 10 + size])
    np.testing.assert_array_equal(memory[:, :10], before[:, :10])  # nothing beside them
    np.testing.assert_array_equal(memory[:, 10 + size :], before[:, 10 + size :])


def test_the_first_step_is_as_long_as_lr_says(either, rng):
    p, g = np.zeros(37), rng.standard_normal(37) * 10.0 ** rng.integers(-5, 5, 37)
    kernels.adam(p, g, np.zeros(37), np.zeros(37), 0.25, 0.9, 0.999, 0.0, 0.0, False, 1)
    np.testing.assert_allclose(p, -0.25 * np.sign(g), rtol=1e-12)


def test_adam_takes_arrays_of_any_shape_and_layout(either, rng):
    values = [abs(rng.standard_normal((4, 6, 5))) for _ in range(2)]
    flat = [x.reshape(4, 30).copy() for x in values]
    for state, apart in zip(values, flat, strict=True):
        kernels.adam(*apart, 0.1, 0.9, 0.99, 1e-8, 0.1, True, 3)
        gaps = np.zeros((4, 10, 6))
        views = [x[::2].T for x in gaps]  # (6, 5), not contiguous
        for view, x in zip(views, state, strict=True):
            view[...] = x
        kernels.adam(*views, 0.1, 0.9, 0.99, 1e-8, 0.1, True, 3)
        np.testing.assert_allclose(np.stack(views).reshape(4, 30), apart, rtol=1e-12)
        np.testing.assert_array_equal(gaps[:, 1::2], 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_adam_passes_on_what_is_no_number(bad, either):
    p, g, m, v = np.ones((4, 20), np.float32)
    g[18] = bad
    kernels.adam(p, g, m, v, 0.1, 0.9, 0.99, 1e-8, 0.0, False, 2)
    np.testing.assert_array_equal(np.isnan(p), np.arange(20) == 18)
    np.testing.assert_array_equal(np.isfinite(m), np.arange(20) != 18)


def test_weight_decay_leaves_an_infinite_parameter_infinite(either):
    p, g, m, v = np.ones((4, 3), np.float32)
    p[1] = np.inf
    kernels.adam(p, g, m, v, 0.1, 0.9, 0.99, 1e-8, 0.0, False, 2)
    assert p[1] == np.inf


# ------------------------------------------------------------------------------------------------ lengths of gradients
@given(st.lists(sizes, max_size=2), st.sampled_from(DTYPES), st.data())
def test_the_sum_of_squares(shape, dtype, data):
    x = data.draw(arrays(tuple(shape), dtype))
    expected = math.fsum(float(number) ** 2 for number in x.ravel())
    for name in ("numpy", "numba"):
        with kernels.use(name):
            assert kernels.sum_of_squares(x) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("size", [4095, 4096, 4097, 100_001])
def test_a_sum_of_squares_across_its_blocks_is_exact_for_whole_numbers(size, either, rng):
    x = rng.integers(-9, 9, size).astype(np.float32)
    assert kernels.sum_of_squares(x) == (x.astype(int) ** 2).sum()


def test_squares_that_float32_could_not_hold(either):
    assert kernels.sum_of_squares(np.full(9, 1e30, np.float32)) == pytest.approx(9e60)
    assert kernels.sum_of_squares(np.array([1e-30], np.float32)) == pytest.approx(1e-60)
    assert math.isnan(kernels.sum_of_squares(np.array([1, np.nan], np.float32)))
    assert kernels.sum_of_squares(np.array([1, -np.inf], np.float32)) == math.inf


@given(st.lists(sizes, max_size=2), st.sampled_from(DTYPES), st.sampled_from([0.0, -1.0, 0.3]), st.data())
def test_rescaling_is_in_place(shape, dtype, factor, data):
    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for name in ("numpy", "numba"):
        x = data.draw(laid_out(values))
        if not x.flags.owndata:
            x.base.flags.writeable = True
        x.flags.writeable = True
        with kernels.use(name):
            kernels.rescale(x, factor)
        np.testing.assert_array_equal(x, values * dtype(factor))


@pytest.mark.parametrize("size", [1, 33, 200_003])
@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_change_no_bit(dtype, size, several_threads, rng):
    values, results = abs(rng.standard_normal((4, size))).astype(dtype), []
    for n in (1, 2, 3, 7):
        kernels.set_num_threads(n)
        x = values.copy()
        with kernels.use("numba"):
            squares = kernels.sum_of_squares(x[0])
            kernels.adam(*x, 0.1, 0.9, 0.99, 1e-8, 0.1, False, 3)
            kernels.rescale(x[1], 0.7)
        results.append((squares, x.tobytes()))
    assert results == results[:1] * 4


def test_half_precision_goes_to_the_twin(rng):
    p, g, m, v = abs(rng.standard_normal((4, 9))).astype(np.float16)
    before = p.copy()
    with kernels.use("numba"):
        kernels.adam(p, g, m, v, 0.1, 0.9, 0.99, 1e-3, 0.0, False, 1)
        assert kernels.sum_of_squares(g) == pytest.approx((g.astype(float) ** 2).sum())
        kernels.rescale(g, 2.0)
    assert (p < before).all()
