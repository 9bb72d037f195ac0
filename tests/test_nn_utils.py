"""Clipping the norm of all gradients together."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, nn, optim
from minigrad.nn import Parameter
from minigrad.nn.utils import clip_grad_norm_
from tests import oracle


def with_gradients(arrays):
    parameters = [Parameter(mg.tensor(np.zeros_like(a))) for a in arrays]
    for p, a in zip(parameters, arrays, strict=True):
        p.grad = mg.tensor(a)
    return [*parameters, Parameter(mg.zeros(2))]  # one has none


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_is_that_of_torch(max_norm, norm_type, rng):
    torch = oracle.torch()
    arrays = [rng.standard_normal((3, 4)), rng.standard_normal(5), rng.standard_normal(())]
    ours = with_gradients(arrays)
    theirs = [torch.nn.Parameter(torch.zeros(a.shape, dtype=torch.float64)) for a in arrays]
    for p, a in zip(theirs, arrays, strict=True):
        p.grad = torch.tensor(a)
    norm = clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert norm.shape == ()
    assert norm.dtype == np.float64
    assert norm.item() == pytest.approx(expected.item(), rel=1e-12)
    for p, q in zip(ours[:-1], theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)


def test_clipping_shortens_and_keeps_the_direction(rng):
    arrays = [rng.standard_normal((3, 4)).astype(np.float32), rng.standard_normal(5).astype(np.float32)]
    flat = np.concatenate([a.ravel() for a in arrays])
    parameters = with_gradients(arrays)
    memory = parameters[0].grad.data
    norm = nn.utils.clip_grad_norm_(iter(parameters), max_norm=0.1)
    clipped = np.concatenate([p.grad.numpy().ravel() for p in parameters[:-1]])
    assert norm.item() == pytest.approx(np.linalg.norm(flat), rel=1e-6)
    assert np.linalg.norm(clipped) == pytest.approx(0.1, rel=1e-4)
    np.testing.assert_allclose(clipped / np.linalg.norm(clipped), flat / np.linalg.norm(flat), rtol=1e-5)
    assert parameters[0].grad.data is memory
    assert memory.dtype == np.float32


def test_short_gradients_are_left_to_the_bit(rng):
    a = rng.standard_normal(5)
    p = with_gradients([a])[0]
    clip_grad_norm_(p, 100.0)
    np.testing.assert_array_equal(p.grad.numpy(), a)


def test_the_gradients_of_an_optimiser_are_clipped_by_one_call_of_each_kernel(rng, monkeypatch):
    parameters, calls = [Parameter(mg.zeros(*shape)) for shape in [(3, 4), (5,), (17,)]], []
    optim.Adam(parameters)
    gs = [rng.standard_normal(p.shape).astype(np.float32) for p in parameters]
    for p, g in zip(parameters, gs, strict=True):
        (p * 1).backward(g)
    for name in ("sum_of_squares", "rescale"):
        kernel = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *a, name=name, kernel=kernel: calls.append(name) or kernel(*a))
    norm = clip_grad_norm_(parameters, 0.5).item()
    assert calls == ["sum_of_squares", "rescale"]
    assert norm == pytest.approx(math.sqrt(sum((g.astype(float) ** 2).sum() for g in gs)), rel=1e-6)
    for p, g in zip(parameters, gs, strict=True):
        np.testing.assert_allclose(p.grad.data, g * (0.5 / norm), rtol=1e-5)


def test_no_gradients_have_the_norm_0():
    assert clip_grad_norm_([Parameter(mg.zeros(2))], 1.0).item() == 0
    assert clip_grad_norm_([], 1.0, math.inf).item() == 0


def test_squares_do_not_overflow():
    parameters = with_gradients([np.full(4, 1e30, np.float32)])
    assert clip_grad_norm_(parameters, 1.0).item() == pytest.approx(2e30)
    np.testing.assert_allclose(parameters[0].grad.numpy(), 0.5, rtol=1e-6)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_infinite_norm_is_an_error_if_asked_for(bad):
    parameters = with_gradients([np.array([1.0, bad]), np.array([2.0])])
    with pytest.raises(mg.GradError, match=f"the norm of the gradients is {bad}"):
        clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    assert parameters[1].grad.tolist() == [2]
    norm = clip_grad_norm_(parameters, 1.0)
    assert not math.isfinite(norm.item())
    np.testing.assert_array_equal(parameters[0].grad.numpy(), [1 / bad, math.nan])
    np.testing.assert_array_equal(parameters[1].grad.numpy(), [1 / bad])  # a NaN is everywhere, and so is seen


def test_clipping_between_forward_and_backward_of_a_gradient_is_seen(rng):
    (p, _), x = with_gradients([rng.standard_normal(3)]), mg.tensor(rng.standard_normal(3), requires_grad=True)
    y = x * p.grad
    clip_grad_norm_(p, 0.1)
    with pytest.raises(mg.GradError, match="modified in place"):
        y.backward(rng.standard_normal(3))


def test_name_is_also_among_the_optimisers():
    assert optim.clip_grad_norm_ is nn.utils.clip_grad_norm_ is clip_grad_norm_
