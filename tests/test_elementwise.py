"""Sums and dropout, one element at a time: in place, across the ends of vectors, on several threads."""

import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels import bits, elementwise
from tests.test_kernels import DTYPES

SIZES = [1, 15, 16, 17, elementwise.FEW - 1, elementwise.FEW, elementwise.FEW + 17, 100_001]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_those_of_numpy_and_stay_within_their_place(size, dtype, several_threads, rng):
    x, y, memory = rng.standard_normal((3, size + 20)).astype(dtype)
    around = memory.copy()
    around[10:-10] = x[10:-10] + y[10:-10]
    with kernels.use("numba"):
        for n in (1, 2, 3):
            kernels.set_num_threads(n)
            np.testing.assert_array_equal(kernels.add(x, y), x + y)
            out = memory[10:-10]
            assert kernels.add(x[10:-10], y[10:-10], out=out) is out
            np.testing.assert_array_equal(memory, around)
        z = x.copy()
        assert kernels.add(z, y, out=z) is z
        np.testing.assert_array_equal(z, x + y)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_is_the_same_on_any_number_of_threads(size, dtype, several_threads, rng):
    x = rng.standard_normal(size).astype(dtype)
    for n in (1, 2, 3):
        kernels.set_num_threads(n)
        with kernels.use("numba"):
            y = kernels.dropout(x, 0.3, 5)
        np.testing.assert_array_equal(y, x * (bits.keep(x.shape, 0.3, 5) * dtype(bits.scale(0.3))))


def test_sums_of_other_layouts_and_dtypes(rng):
    x, y = rng.standard_normal((2, 200, 100)).astype(np.float32)
    with kernels.use("numba"):
        for a, b in ((x.T, y.T), (x, y.astype(float)), (x, y[0]), (x.astype(np.float16), y.astype(np.float16))):
            z = kernels.add(a, b)
            assert z.dtype == np.result_type(a, b)
            np.testing.assert_array_equal(z, a + b)
