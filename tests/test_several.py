"""Short rows as one value: whole and cut off, alone and among others."""

import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels import reference, rows
from minigrad.kernels.several import REGISTERS, SHORT
from minigrad.kernels.simd import VECTOR

WIDTHS = [(size // np.dtype(dtype).itemsize, dtype) for dtype in (np.float32, np.float64) for size in SHORT]


@pytest.mark.parametrize(("width", "dtype"), WIDTHS)
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_any_number_of_rows(width, dtype, more, rng):
    count = 2 * REGISTERS * VECTOR // (width * np.dtype(dtype).itemsize) + more
    y, g = rng.random((2, count, width)).astype(dtype)
    with kernels.use("numba"):
        d = kernels.softmax_vjp(y, g, -1, 0.5)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(d, reference.softmax_vjp(y, g, -1, 0.5), rtol=100 * eps, atol=100 * eps * width)


@pytest.mark.parametrize(("width", "dtype"), WIDTHS)
def test_a_row_alone_is_what_it_is_among_others(width, dtype, rng):
    y, g = rng.random((2, 11, width)).astype(dtype)
    with kernels.use("numba"):
        together = kernels.softmax_vjp(y, g, -1)
        for i in range(11):
            np.testing.assert_array_equal(kernels.softmax_vjp(y[i : i + 1], g[i : i + 1], -1)[0], together[i])


def test_nothing_beside_the_rows_is_read_or_written():
    width = VECTOR // 4
    memory = np.full((3, 5 * width + 2 * VECTOR), np.nan, np.float32)
    y, g, out = memory[:, VECTOR:-VECTOR]
    y[:], g[:] = 0.5, 1
    rows._short_softmax_vjps(width, 8)[y.dtype](1, 5, y, g, width, 1.0, out)
    assert np.isnan(memory[:, :VECTOR]).all()
    assert np.isnan(memory[:, -VECTOR:]).all()
    np.testing.assert_allclose(out, 0.5 * (1 - width / 2))
