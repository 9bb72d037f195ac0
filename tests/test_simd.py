"""The vector type: every function lane by lane, at every place where a vector may end."""

import operator

import numpy as np
import pytest
from numba import njit

from minigrad.kernels import bits, simd
from minigrad.kernels.simd import (
    absolute,
    exp,
    exp_down,
    first,
    fma,
    greatest,
    kept,
    kept_apart,
    lanes,
    load,
    load_flags,
    load_some,
    maximum,
    minimum,
    spread,
    sqrt,
    store,
    store_some,
    total,
    where,
)  # fmt: skip

DTYPES = [np.float32, np.float64]


def mapped(function):
    """A loop over three arrays that stores function(x, y, z) of their vectors."""

    @njit
    def loop(x, y, z, out):
        for i in range(0, out.size, lanes(out)):
            n = out.size - i
            store_some(out, i, n, function(load_some(x, i, n), load_some(y, i, n), load_some(z, i, n)))

    return loop


FUNCTIONS = {
    "add": (lambda x, y, z: x + y, lambda x, y, z: x + y),
    "number on the left": (lambda x, y, z: 1 - x, lambda x, y, z: 1 - x),
    "whole number on the right": (lambda x, y, z: x * 3, lambda x, y, z: x * 3),
    "div": (lambda x, y, z: x / y, lambda x, y, z: x / y),
    "neg": (lambda x, y, z: -x, lambda x, y, z: -x),
    "fma": (lambda x, y, z: fma(x, y, z), lambda x, y, z: (x * y.astype(np.longdouble) + z).astype(x.dtype)),
    "sqrt": (lambda x, y, z: sqrt(x * x), lambda x, y, z: np.sqrt(x * x)),
    "absolute": (lambda x, y, z: absolute(x), lambda x, y, z: np.abs(x)),
    "maximum": (lambda x, y, z: maximum(x, y), lambda x, y, z: np.maximum(x, y)),
    "minimum": (lambda x, y, z: minimum(x, 0.5), lambda x, y, z: np.minimum(x, x.dtype.type(0.5))),
    "where": (lambda x, y, z: where(x < y, z, 0), lambda x, y, z: np.where(x < y, z, x.dtype.type(0))),
    "ge": (lambda x, y, z: where(x >= 0.5, x, y), lambda x, y, z: np.where(x >= x.dtype.type(0.5), x, y)),
    "gt": (lambda x, y, z: where(x > y, x, y), lambda x, y, z: np.where(x > y, x, y)),
    "le": (lambda x, y, z: where(x <= y, x, y), lambda x, y, z: np.where(x <= y, x, y)),
    "and": (lambda x, y, z: where((x > 0) & (y > 0), x, 0), lambda x, y, z: np.where((x > 0) & (y > 0), x, 0)),
    "or": (lambda x, y, z: where((x > 0) | (y > 0), x, 0), lambda x, y, z: np.where((x > 0) | (y > 0), x, 0)),
}
LOOPS = {name: mapped(njit(function)) for name, (function, _) in FUNCTIONS.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_lane_and_nothing_beyond_the_end(name, dtype, rng):
    for n in (0, 1, 3, 15, 16, 17, 40):
        x, y, z = rng.standard_normal((3, n)).astype(dtype)
        memory = np.full(n + 70, 77, dtype)
        LOOPS[name](x, y, z, memory[:n])
        np.testing.assert_allclose(memory[:n], FUNCTIONS[name][1](x, y, z), rtol=1e-5 if dtype == np.float32 else 1e-13)
        assert (memory[n:] == 77).all()


@njit
def reduced(x):
    sums, most = spread(x, 0), spread(x, -np.inf)
    for i in range(0, x.size, lanes(x)):
        v = load_some(x, i, x.size - i)
        sums = sums + v
        most = maximum(most, where(first(v, x.size - i), v, -np.inf))
    return total(sums), greatest(most)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 5, 16, 37])
def test_reductions_over_the_lanes(dtype, n, rng):
    x = rng.standard_normal(n).astype(dtype) - 5
    sums, most = reduced(x)
    assert sums == pytest.approx(x.sum(dtype=float), rel=1e-5 if dtype == np.float32 else 1e-13)
    assert most == x.max()


@njit
def exponentials(x, out):
    for i in range(0, x.size, lanes(x)):
        store_some(out, i, x.size - i, exp(load_some(x, i, x.size - i)))


@pytest.mark.parametrize(("dtype", "low", "high"), [(np.float32, -103.9, 88.72), (np.float64, -744.4, 709.78)])
def test_the_exponential_to_one_unit_in_the_last_place(dtype, low, high):
    x = np.concatenate([np.linspace(low, high, 100_001), np.linspace(-1, 1, 10_001)]).astype(dtype)
    y = np.empty_like(x)
    exponentials(x, y)
    exact = np.exp(x.astype(np.longdouble))
    units = np.abs(y - exact) / np.spacing(exact.astype(dtype))
    assert units.max() <= (1.2 if np.finfo(np.longdouble).eps < 1e-18 else 1.8)  # on some machines "exact" is not
    ends = np.array([-np.inf, -1e5, 0, 1e5, np.inf, np.nan], dtype)
    y = np.empty_like(ends)
    exponentials(ends, y)
    np.testing.assert_array_equal(y, [0, 0, 1, np.inf, np.inf, np.nan])


@njit
def exponentials_down(x, out):
    for i in range(0, x.size, lanes(x)):
        store_some(out, i, x.size - i, exp_down(load_some(x, i, x.size - i)))


@pytest.mark.parametrize(("dtype", "low"), [(np.float32, -87.33), (np.float64, -708.39)])
def test_the_exponential_of_what_is_not_positive(dtype, low):
    x = np.concatenate([np.linspace(low, 0, 100_001), np.linspace(-1, 0, 10_001), [1e-3, 88]]).astype(dtype)
    y = np.empty_like(x)
    exponentials_down(x, y)
    exact = np.exp(x.astype(np.longdouble))
    units = np.abs(y - exact) / np.spacing(exact.astype(dtype))
    assert units.max() <= (1.2 if np.finfo(np.longdouble).eps < 1e-18 else 1.8)
    odd = np.array([1, 0x1FF, 0x3FFFFF], np.uint32) | np.array([0x7FC00000, 0xFFC00000, 0x7FC00000], np.uint32)
    with np.errstate(invalid="ignore"):
        nans = odd.view(np.float32).astype(dtype)
    ends = np.concatenate([np.array([-np.inf, -3e38, -1e5, low - 0.02, 0, -0.0], dtype), nans])
    y = np.empty_like(ends)
    exponentials_down(ends, y)
    np.testing.assert_array_equal(y, [0, 0, 0, 0, 1, 1, *[np.nan] * 3])


@njit
def copied(x, out):
    for i in range(0, x.size, lanes(x)):
        store(out, i, load(x, i))


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_vectors_may_lie_anywhere(dtype, rng):
    memory, out = rng.standard_normal(65).astype(dtype), np.zeros(65, dtype)
    copied(memory[1:], out[1:])
    np.testing.assert_array_equal(out[1:], memory[1:])


@njit
def flags_of(like, flags, out):
    for i in range(0, out.size, lanes(like)):
        n = out.size - i
        store_some(out, i, n, where(load_flags(spread(like, 0), flags, i, n), spread(like, 1), 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_flags_are_booleans_from_memory(dtype, rng):
    flags, out = rng.random(37) < 0.5, np.empty(37, dtype)
    flags_of(out, flags, out)
    np.testing.assert_array_equal(out, flags)


@njit
def keeps(out, start, step, first_key, second_key, threshold):
    for i in range(0, out.size, lanes(out)):
        n, one = out.size - i, spread(out, 1)
        if step == 1:
            flags = kept(one, start + i, first_key, second_key, threshold)
        else:
            flags = kept_apart(one, start + i * step, step, first_key, second_key, threshold)
        store_some(out, i, n, where(flags, one, 0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("start", "step"), [(0, 1), (1234, 1), (7, 3), (5, 1000)])
def test_the_bits_of_dropout_are_those_of_the_twin(dtype, start, step):
    out, (a, b) = np.empty(100, dtype), bits.keys(9)
    keeps(out, start, step, np.uint32(a), np.uint32(b), np.uint32(bits.threshold(0.3)))
    np.testing.assert_array_equal(out, bits.keep((start + 100 * step,), 0.3, 9)[start::step][:100])


def test_the_width_is_that_of_the_machine():
    count = njit(lambda x: lanes(x))
    assert count(np.ones(1, np.float32)) * 4 == count(np.ones(1)) * 8 == simd.VECTOR
    with pytest.raises(NotImplementedError, match="not usable in pure-python"):
        lanes(np.ones(1))
    assert operator.add(1, 1) == 2  # operators of other things are what they were
