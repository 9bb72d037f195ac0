"""Cross-entropy: the kernel against its twin and closed forms, and what the op keeps and refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels, ops
from minigrad.kernels import reference
from tests.test_kernels import DTYPES, arrays, laid_out

IGNORED = -100


@st.composite
def cases(draw):
    """Logits (R, V), targets of which some are ignored, and settings."""
    rows, classes = draw(st.sampled_from([0, 1, 2, 7])), draw(st.sampled_from([1, 2, 3, 7, 8, 15, 16, 17, 31, 64, 65]))
    ignored = draw(st.sampled_from([IGNORED, 0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    target = np.where(rng.random(rows) < 0.2, ignored, rng.integers(0, classes, rows))
    target = draw(laid_out(target.astype(draw(st.sampled_from([np.int32, np.int64])))))
    x = draw(arrays((rows, classes), draw(st.sampled_from(DTYPES))))
    return x, target, ignored, draw(st.sampled_from([0.0, 0.1, 1.0])), draw(st.sampled_from([1.0, 0.25]))


@given(cases())
def test_the_kernel_is_what_the_twin_says(case):
    x, target, *settings = case
    before = x.tobytes()
    with kernels.use("numba"):
        losses, d = kernels.cross_entropy(x, target, *settings, True)
        alone, nothing = kernels.cross_entropy(x, target, *settings, False)
    expected = reference.cross_entropy(x.astype(np.float64), target, *settings, True)
    eps = np.finfo(x.dtype).eps
    for ours, exact in zip((losses, d), expected, strict=True):
        assert (ours.dtype, ours.shape) == (x.dtype, exact.shape)
        np.testing.assert_allclose(ours, exact, rtol=64 * eps, atol=64 * eps)
    assert nothing is None
    np.testing.assert_array_equal(alone, losses)
    assert x.tobytes() == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_is_the_derivative_of_the_loss(dtype, either, rng):
    x, v = (3 * rng.standard_normal((2, 6, 19))).astype(dtype)
    target = rng.integers(0, 19, 6)

    def loss(t):
        return kernels.cross_entropy(x.astype(np.float64) + t * v, target, IGNORED, 0.3, 1.0, False)[0]

    d = kernels.cross_entropy(x, target, IGNORED, 0.3, 1.0, True)[1]
    np.testing.assert_allclose((d * v).sum(-1), (loss(1e-5) - loss(-1e-5)) / 2e-5, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(d.sum(-1), 0, atol=1e-6)  # a shift of all logits changes nothing


@pytest.mark.parametrize("e", [0.0, 0.2, 1.0])
def test_equal_logits_cost_the_logarithm_of_their_number(e, either):
    losses, d = kernels.cross_entropy(np.full((2, 40), 1e4, np.float32), np.array([0, 39]), IGNORED, e, 1.0, True)
    np.testing.assert_allclose(losses, np.log(40), rtol=1e-6)
    np.testing.assert_allclose(d, (1 - e) * (1 / 40 - np.eye(40)[[0, 39]]), atol=1e-7)


def test_a_shift_of_all_logits_changes_no_bit(rng):
    x = np.round(8 * rng.standard_normal((5, 37))).astype(np.float32) / 8  # so that x + 512 is exact
    target = rng.integers(0, 37, 5)
    with kernels.use("numba"):
        for ours, shifted in zip(
            kernels.cross_entropy(x, target, IGNORED, 0.1, 1.0, True),
            kernels.cross_entropy(x + 512, target, IGNORED, 0.1, 1.0, True),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, shifted)


@pytest.mark.parametrize("classes", [3, 16, 35])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_that_is_not_a_number_spoils_itself_only(dtype, classes, either, rng):
    for bad in (np.nan, np.inf, [-np.inf]):
        x = rng.standard_normal((3, classes)).astype(dtype)
        if isinstance(bad, list):
            x[1] = bad[0]  # nothing is possible
        else:
            x[1, -1] = bad
        losses, d = kernels.cross_entropy(x, np.array([0, 1, 2]), IGNORED, 0.1, 1.0, True)
        np.testing.assert_array_equal(np.isnan(losses), [False, True, False])
        np.testing.assert_array_equal(np.isnan(d), np.isnan(losses)[:, None] & np.ones(classes, bool))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_ignored_is_zero_whatever_the_logits(dtype, either):
    x = np.full((2, 5), np.nan, dtype)
    losses, d = kernels.cross_entropy(x, np.array([IGNORED, 7])[:1].repeat(2), IGNORED, 0.1, 1.0, True)
    np.testing.assert_array_equal(losses, 0)
    np.testing.assert_array_equal(d, 0)


@pytest.mark.parametrize("classes", [3, 20])
def test_impossible_classes_count_with_smoothing_only(classes, either):
    x = np.zeros((1, classes), np.float32)
    x[0, 1] = -np.inf
    target = np.array([2])
    losses, d = kernels.cross_entropy(x, target, IGNORED, 0.0, 1.0, True)
    np.testing.assert_allclose(losses, np.log(classes - 1), rtol=1e-6)
    assert d[0, 1] == 0
    assert kernels.cross_entropy(x, target, IGNORED, 0.1, 1.0, False)[0] == np.inf
    assert kernels.cross_entropy(x, np.array([1]), IGNORED, 0.0, 1.0, False)[0] == np.inf


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_change_no_bit(dtype, rng):
    x, target = rng.standard_normal((999, 203)).astype(dtype), rng.integers(0, 203, 999)
    results, threads = [], kernels.get_num_threads()
    try:
        for n in (1, 2, 3):
            kernels.set_num_threads(n)
            with kernels.use("numba"):
                results.append(kernels.cross_entropy(x, target, IGNORED, 0.1, 1.0, True))
    finally:
        kernels.set_num_threads(threads)
    for losses, d in results[1:]:
        np.testing.assert_array_equal(losses, results[0][0])
        np.testing.assert_array_equal(d, results[0][1])


def test_half_precision_goes_to_the_twin(rng):
    x = rng.standard_normal((4, 5)).astype(np.float16)
    with kernels.use("numba"):
        losses, d = kernels.cross_entropy(x, np.arange(4), IGNORED, 0.1, 1.0, True)
    assert losses.dtype == d.dtype == np.float16


# ------------------------------------------------------------------------------------------------------------ the op
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("g", [1.0, -2.5])
def test_an_incoming_gradient_scales_the_way_back(reduction, g, either, rng):
    x, target = rng.standard_normal((4, 6)), np.array([1, IGNORED, 5, 0])
    logits = mg.Tensor(x, requires_grad=True)
    loss = ops.cross_entropy(logits, target, label_smoothing=0.2, reduction=reduction)
    cotangent = np.full(loss.shape, g) * (rng.standard_normal(loss.shape) if reduction == "none" else 1)
    loss.backward(cotangent)
    d = reference.cross_entropy(x, target, IGNORED, 0.2, 1.0, True)[1]
    factor = cotangent[:, None] if reduction == "none" else cotangent / (3 if reduction == "mean" else 1)
    np.testing.assert_allclose(logits.grad.data, factor * d, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("g", [np.nan, np.inf])
def test_a_spoilt_gradient_leaves_what_is_ignored_alone(g, either, rng):
    logits = mg.Tensor(rng.standard_normal((2, 6)), requires_grad=True)
    ops.cross_entropy(logits, np.array([IGNORED, 3])).backward(np.array(g))
    np.testing.assert_array_equal(logits.grad.data[0], 0)
    assert not np.isfinite(logits.grad.data[1]).any()


def test_the_mean_over_nothing_is_not_a_number_and_moves_nothing(either):
    logits = mg.ones(2, 3, requires_grad=True)
    loss = ops.cross_entropy(logits, np.array([IGNORED, IGNORED]))
    loss.backward()
    assert np.isnan(loss.item())
    np.testing.assert_array_equal(logits.grad.data, 0)


def test_the_gradient_is_computed_only_where_gradients_are_enabled(monkeypatch):
    asked = []

    def spy(*arguments):
        asked.append(arguments[-1])
        return reference.cross_entropy(*arguments)

    monkeypatch.setattr(kernels, "cross_entropy", spy)
    logits, target = mg.ones(2, 3, requires_grad=True), np.array([0, 2])
    loss = ops.cross_entropy(logits, target)
    with mg.no_grad():
        unrecorded = ops.cross_entropy(logits, target)
    assert asked == [True, False]
    assert (loss.requires_grad, unrecorded.requires_grad) == (True, False)
    assert loss.item() == unrecorded.item()


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_the_first_bad_target_is_named(dtype, either):
    target = np.array([[0, 2], [9, 3]], dtype)
    with pytest.raises(IndexError, match=r"cross_entropy\(\): target 9 is not one of the 3 classes 0..2"):
        ops.cross_entropy(mg.ones(2, 2, 3), target)
    assert ops.cross_entropy(mg.ones(2, 2, 3), target.clip(0, 2), ignore_index=9).item() == pytest.approx(np.log(3))


def test_an_ignored_index_may_be_a_class_or_none(either):
    target = np.array([1, 1, 0])
    x = np.array([[3.0, 0.0], [2.0, 0.0], [0.0, 0.0]], np.float32)
    assert ops.cross_entropy(mg.Tensor(x), target, ignore_index=1).item() == pytest.approx(np.log(2))
    with pytest.raises(IndexError, match="target -100 is not one"):
        ops.cross_entropy(mg.Tensor(x), np.array([1, -100, 0]), ignore_index=1)
