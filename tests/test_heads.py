"""The attention kernel against its twin, and what it promises besides: memory, masks, threads, layouts."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels, ops
from minigrad.core import definitions
from minigrad.kernels import reference, tile
from minigrad.kernels.simd import VECTOR
from tests.test_kernels import DTYPES, arrays, laid_out, sizes

TOLERANCE = {np.dtype(np.float32): 3e-5, np.dtype(np.float64): 1e-12}


@pytest.fixture(autouse=True)
def _numba_kernels():
    with kernels.use("numba"):
        yield


def both_ways(attention, q, k, v, mask, causal, scale, p, seed, g):
    z, vjp = attention(q, k, v, mask, causal, scale, p, seed)
    return [z, *vjp(g)]


def assert_the_same(q, k, v, mask, causal, scale, p, seed, g):
    inputs = [q, k, v, g, *([] if mask is None else [mask])]
    before = [x.tobytes() for x in inputs]
    ours = both_ways(kernels.attention, q, k, v, mask, causal, scale, p, seed, g)
    assert [x.tobytes() for x in inputs] == before
    # What the softmax loses on the way back, dp - sum(dp p), is a difference of numbers as large as g v.
    size = [abs(x).max(initial=0) for x in (q, k, v, g)]
    lost = 16 * np.finfo(q.dtype).eps * v.shape[-1] * size[2] * size[3] * max(size[:2]) * scale
    tolerance = max(TOLERANCE[q.dtype], float(lost))
    double = [x.astype(np.float64) for x in (q, k, v)]
    theirs = both_ways(reference.attention, *double, mask, causal, scale, p, seed, g.astype(np.float64))
    for name, x, expected in zip(("z", "dq", "dk", "dv"), ours, theirs, strict=True):
        assert x.dtype == q.dtype
        assert x.shape == expected.shape
        np.testing.assert_allclose(
            x, expected, rtol=0, atol=max(1.0, abs(expected).max(initial=0)) * tolerance, err_msg=name
        )


lengths = st.sampled_from([1, 2, 3, 7, 15, 16, 17, 33, 63, 64, 65, 130])


@st.composite
def cases(draw):
    dtype = draw(st.sampled_from(DTYPES))
    leading = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    length, reach, size = draw(lengths), draw(lengths), draw(st.integers(1, 20))
    of_keys = tuple(n if draw(st.booleans()) else 1 for n in leading)  # they may be shared by sentences, or heads
    q = draw(arrays((*leading, length, size), dtype))
    k = draw(arrays((*of_keys, reach, size), dtype))
    v = draw(arrays((*of_keys, reach, draw(st.integers(1, 20))), dtype))
    g = draw(arrays((*leading, length, v.shape[-1]), dtype))
    shape = [n if draw(st.booleans()) else 1 for n in (*leading, length, reach)][draw(st.integers(0, len(leading))) :]
    mask = draw(
        laid_out(np.random.default_rng(draw(st.integers(0, 99))).random(shape) < draw(st.sampled_from([0.2, 0.7])))
    )
    p = draw(st.sampled_from([0.0, 0.3]))
    return q, k, v, draw(st.sampled_from([None, mask])), draw(st.booleans()), 0.6, p, draw(st.integers(0, 2**63)), g


@given(cases())
def test_attention_is_what_the_twin_says(case):
    q, k, v, mask, causal, scale, p, seed, g = case
    if k.shape[:-2] != q.shape[:-2]:  # the twin's gradients of shared keys are broadcast, and so are ours
        k, v = (np.broadcast_to(x, (*q.shape[:-2], *x.shape[-2:])) for x in (k, v))
    assert_the_same(q, k, v, mask, causal, scale, p, seed, g)


@pytest.mark.parametrize("mask", [None, "padding", "any"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_across_several_blocks(dtype, causal, mask, rng):
    q, g = rng.standard_normal((2, 2, 2, 150, 5)).astype(dtype)
    k, v = rng.standard_normal((2, 2, 2, 300, 5)).astype(dtype)
    masks = {"padding": np.arange(300) < rng.integers(1, 300, (2, 1, 1, 1)), "any": rng.random((2, 1, 150, 300)) < 0.3}
    assert_the_same(q, k, v, masks.get(mask), causal, 0.3, 0.2, 11, g)


def test_heads_are_read_in_place_and_left_side_by_side(rng):
    x = rng.standard_normal((3, 2, 5, 12)).astype(np.float32)  # (3, B, T, H K)
    q, k, v = (part.reshape(2, 5, 4, 3).swapaxes(1, 2) for part in x)
    z, vjp = kernels.attention(q, k, v, None, False, 0.5, 0.0, 0)
    for result in (z, *vjp(np.ascontiguousarray(z))):
        assert result.swapaxes(1, 2).flags.c_contiguous
    assert_the_same(q, k, v, None, False, 0.5, 0.0, 0, z)


def columns(shape, parts, dtype):
    """(B, T, H K) memory `parts` times side by side, each part seen as heads (B, H, T, K), and all of it."""
    b, h, t, k = shape
    memory = np.full((b, t, parts * h * k + 3), 7, dtype)
    cut = [memory[..., i * h * k : (i + 1) * h * k].reshape(b, t, h, k).swapaxes(1, 2) for i in range(parts)]
    assert all(np.shares_memory(x, memory) for x in cut)
    return cut, memory


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [3, 16, 20])
@pytest.mark.parametrize("dtype", DTYPES)
def test_results_go_where_they_are_wanted_and_nowhere_else(dtype, size, masked, rng, either):
    shape = (2, 3, 70, size)
    q, k, v, g = rng.standard_normal((4, *shape)).astype(dtype)
    mask = rng.random((2, 1, 1, 70)) < 0.5 if masked else None
    expected = both_ways(kernels.attention, q, k, v, mask, True, 0.4, 0.2, 3, g)
    (out,), memory = columns(shape, 1, dtype)
    into, gradients = columns(shape, 3, dtype)
    z, vjp = kernels.attention(q, k, v, mask, True, 0.4, 0.2, 3, out=out)
    results = (z, *vjp(g, tuple(into)))
    for given_, x, y in zip((out, *into), results, expected, strict=True):
        assert np.shares_memory(x, given_)
        np.testing.assert_array_equal(given_, y)
    for whole in (memory, gradients):
        assert (whole[..., -3:] == 7).all()


def test_fewer_dimensions_are_written_in_place_too(rng, either):
    q, k, v, g = rng.standard_normal((4, 3, 9, 5))
    expected = both_ways(kernels.attention, q, k, v, None, False, 0.4, 0.0, 0, g)
    places = np.empty((4, 3, 9, 5))
    z, vjp = kernels.attention(q, k, v, None, False, 0.4, 0.0, 0, out=places[0])
    assert [x.shape for x in (z, *vjp(g, tuple(places[1:])))] == [(3, 9, 5)] * 4
    np.testing.assert_array_equal(places, expected)


def test_a_place_that_does_not_fit_is_an_error(rng):
    q = rng.standard_normal((1, 2, 5, 4))
    for wrong in (np.empty((1, 2, 5, 3)), np.empty((1, 2, 5, 4), np.float32), np.empty((1, 2, 4, 5)).swapaxes(2, 3)):
        with pytest.raises(ValueError, match=r"attention\(\): the array to write into has shape"):
            kernels.attention(q, q, q, None, False, 1.0, 0.0, 0, out=wrong)
        with pytest.raises(ValueError, match=r"attention\(\): the array to write into has shape"):
            kernels.attention(q, q, q, None, False, 1.0, 0.0, 0)[1](q, (np.empty_like(q), wrong, np.empty_like(q)))


def test_a_mask_that_does_not_broadcast_is_an_error(rng, either):
    q = rng.standard_normal((1, 2, 5, 4))
    with pytest.raises(ValueError, match="broadcast"):
        kernels.attention(q, q, q, np.ones((1, 1, 1, 4), bool), False, 1.0, 0.0, 0)


@pytest.mark.parametrize("shape", [(1, 1), (20, 1), (1, 24), (20, 24), (3, 1, 20, 24), (1, 2, 20, 1), (3, 2, 1, 24)])
def test_masks_of_all_shapes_that_broadcast(shape, rng):
    q, g = rng.standard_normal((2, 3, 2, 20, 4))
    k, v = rng.standard_normal((2, 3, 2, 24, 4))
    for share in (0.1, 0.5, 0.9):
        for causal in (False, True):
            mask = rng.random(shape) < share
            assert_the_same(q, k, v, mask, causal, 0.5, 0.0, 0, g)
            assert_the_same(q, k, v, np.broadcast_to(mask, (3, 2, 20, 24)), causal, 0.5, 0.0, 0, g)


@pytest.mark.parametrize("causal", [False, True])
def test_a_query_without_a_legal_key_gets_nothing_and_gives_nothing(causal, rng):
    q, k, v, g = rng.standard_normal((4, 1, 2, 70, 3))
    mask = rng.random((1, 1, 70, 70)) < 0.5
    mask[..., 10, :] = mask[..., 66, :] = False
    z, dq, dk, dv = both_ways(kernels.attention, q, k, v, mask, causal, 0.5, 0.0, 0, g)
    for row in (10, 66):
        assert (z[:, :, row] == 0).all()
        assert (dq[:, :, row] == 0).all()
    g[:, :, [10, 66]] = 99  # what comes back to such a query goes nowhere
    np.testing.assert_array_equal(both_ways(kernels.attention, q, k, v, mask, causal, 0.5, 0.0, 0, g)[2], dk)
    assert np.isfinite(dv).all()


def test_what_lies_behind_the_last_legal_key_does_not_matter_whatever_it_is(rng):
    q, k, v, g = rng.standard_normal((4, 1, 1, 6, 3)).astype(np.float32)
    mask = np.arange(6) < 4
    results = both_ways(kernels.attention, q, k, v, mask, False, 0.5, 0.0, 0, g)
    k[..., 4:, :], v[..., 4:, :] = np.nan, np.inf
    changed = both_ways(kernels.attention, q, k, v, mask, False, 0.5, 0.0, 0, g)
    for x, y in zip(results, changed, strict=True):
        np.testing.assert_array_equal(x, y)


def test_scores_that_are_no_numbers_are_seen(rng):
    q, k, v, g = rng.standard_normal((4, 1, 1, 6, 3))
    k[..., 2, :] = np.nan
    z, *gradients = both_ways(kernels.attention, q, k, v, None, False, 0.5, 0.0, 0, g)
    assert np.isnan(z).all()
    assert np.isnan(gradients[0]).all()
    q = np.zeros((1, 1, 6, 3))
    q[..., 1, :] = np.inf  # one query of six: infinite scores, of both signs
    z, *_ = both_ways(kernels.attention, q, np.ones_like(q), v, None, False, 0.5, 0.0, 0, g)
    assert np.isnan(z[0, 0]).any(-1).tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_no_bit(dtype, rng, monkeypatch):
    monkeypatch.setattr(kernels.threads, "WORTH_SHARING", 0)
    q, k, v, g = rng.standard_normal((4, 3, 5, 70, 8)).astype(dtype)
    before = kernels.get_num_threads()
    try:
        results = []
        for n in (1, 2, 3):
            kernels.set_num_threads(n)
            results.append(both_ways(kernels.attention, q, k, v, None, True, 0.3, 0.1, 5, g))
    finally:
        kernels.set_num_threads(before)
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 2, 0, 4)])
def test_attention_of_nothing(shape):
    q = np.zeros(shape, np.float32)
    z, dq, dk, dv = both_ways(kernels.attention, q, q, q, None, False, 1.0, 0.0, 0, q)
    assert z.shape == dq.shape == dk.shape == dv.shape == shape


def test_without_any_key_the_result_is_nothing():
    q, k = np.ones((1, 2, 3, 4), np.float32), np.ones((1, 2, 0, 4), np.float32)
    z, dq, dk, _ = both_ways(kernels.attention, q, k, k, np.zeros((1, 1, 3, 0), bool), False, 1.0, 0.0, 0, q)
    assert (z == 0).all()
    assert (dq == 0).all()
    assert dk.shape == k.shape


# ---------------------------------------------------------------------------------------------------------- the pieces
@given(st.sampled_from(DTYPES), sizes, sizes, st.integers(1, 5), st.booleans(), st.booleans(), st.integers(0, 99))
def test_the_padded_product_is_the_product(dtype, m, k, vectors, add, transposed, seed):
    random = np.random.default_rng(seed)
    n, high = vectors * VECTOR // np.dtype(dtype).itemsize, -(-m // tile.SHORT) * tile.SHORT
    a = random.standard_normal((k, high)).T if transposed else random.standard_normal((high, k + 2))[:, :k]
    a, b = a.astype(dtype, order="K"), random.standard_normal((k, n + 1)).astype(dtype)[:, :n]
    memory = random.standard_normal((high + 1, n + 1)).astype(dtype)
    before = memory.copy()
    places = [(x.ctypes.data, *x.strides) for x in (a, b, memory)]
    tile.product(dtype(0), *places, add, (m, k, n), memory.itemsize)
    c, start = memory[:m, :n].astype(np.float64), before[:m, :n].astype(np.float64)
    exact = a[:m].astype(np.float64) @ b.astype(np.float64) + (start if add else 0)
    bound = abs(a[:m]).astype(np.float64) @ abs(b) + (abs(start) if add else 0)
    assert (abs(c - exact) <= bound * (k + 2) * np.finfo(dtype).eps).all()
    np.testing.assert_array_equal(memory[high:], before[high:])  # rows up to a whole block may be written, no others
    np.testing.assert_array_equal(memory[:, n:], before[:, n:])


# ------------------------------------------------------------------------------------------------------------- the op
@pytest.mark.parametrize("causal", [False, True])
def test_the_op_is_its_definition_for_long_rows(causal, rng):
    """T = 300 needs several blocks both ways; with dropout, a mask, and keys shared by the heads."""
    q = mg.tensor(rng.standard_normal((1, 2, 300, 8)), requires_grad=True)
    k, v = (mg.tensor(rng.standard_normal((1, 1, 300, 8)), requires_grad=True) for _ in range(2))
    mask, g = mg.tensor(rng.random((1, 1, 1, 300)) < 0.8), rng.standard_normal((1, 2, 300, 8))

    def run():
        for x in (q, k, v):
            x.grad = None
        z = mg.ops.scaled_dot_product_attention(q, k, v, mask, dropout_p=0.1, seed=3, causal=causal)
        z.backward(g)
        return [z.data, *[x.grad.data for x in (q, k, v)]]

    fused = run()
    with definitions():
        expected = run()
    for x, y in zip(fused, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)


LONG = """
import resource, numpy as np
from minigrad import kernels, ops
kernels.use("numba")
T = 4096
q, k, v, g = np.random.default_rng(0).standard_normal((4, 1, 2, T, 16)).astype(np.float32)
def both_ways(length):
    z, vjp = kernels.attention(*[x[:, :, :length] for x in (q, k, v)], None, {causal}, 0.25, 0.1, 1)
    return z, vjp(g[:, :, :length])
both_ways(64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
both_ways(T)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / q.nbytes)
"""


@pytest.mark.parametrize("causal", [False, True])
def test_memory_grows_with_the_length_not_with_its_square(causal):
    pytest.importorskip("resource", reason="there is no way to ask this system for the peak of memory")
    code = LONG.format(causal=causal)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 8  # z, dq, dk, dv are 4; the scores of one head alone would be 128


@pytest.mark.parametrize("mask", [None, np.ones((3, 0), bool)])
def test_without_any_keys_the_result_is_zero_and_so_are_gradients(mask, either):
    for scope in (contextlib.nullcontext, definitions):
        q, k, v = (mg.ones(1, 2, n, 4, requires_grad=True) for n in (3, 0, 0))
        with scope():
            z = ops.scaled_dot_product_attention(q, k, v, mask)
        z.backward(np.ones(z.shape))
        assert z.tolist() == q.grad.tolist() == np.zeros((1, 2, 3, 4)).tolist()
        assert k.grad.shape == v.grad.shape == (1, 2, 0, 4)
