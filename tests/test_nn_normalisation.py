"""RMSNorm and BatchNorm1d: PyTorch's values, gradients and statistics, and what a mask leaves out of them."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minigrad.testing import gradcheck
from tests import oracle

SHAPES = [(6, 3), (4, 3, 5)]  # (N, C) and (N, C, L)
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def scattered(rng, *shape):
    """Channels with means and scales of their own."""
    channel = np.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2))
    return 5 * channel + (1 + channel) * rng.standard_normal(shape)


def pair(rng, num_features=3, **settings):
    """Our layer and PyTorch's, in float64, with the same parameters."""
    torch = oracle.torch()
    ours = nn.BatchNorm1d(num_features, **settings).double()
    theirs = torch.nn.BatchNorm1d(num_features, **settings).double()
    parameters = {name: rng.standard_normal(tuple(p.shape)) for name, p in ours.named_parameters()}
    ours.load_state_dict(parameters, strict=False)
    theirs.load_state_dict({name: torch.tensor(p) for name, p in parameters.items()}, strict=False)
    return ours, theirs


def assert_same_state(ours, theirs):
    state = {name: tensor.numpy() for name, tensor in ours.state_dict().items()}
    expected = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    assert list(state) == list(expected)
    for name in expected:
        assert state[name].dtype == expected[name].dtype
        np.testing.assert_allclose(state[name], expected[name], **CLOSE, err_msg=name)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": None}, {"momentum": 0.3, "eps": 0.1}, {"affine": False}, {"track_running_stats": False}],
    ids=str,
)
def test_batch_norm_is_that_of_torch(settings, shape, rng):
    torch = oracle.torch()
    ours, theirs = pair(rng, **settings)
    for training in (True, True, True, False):
        ours.train(training).zero_grad()
        theirs.train(training).zero_grad()
        data, g = scattered(rng, *shape), rng.standard_normal(shape)
        x, y = mg.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
        a, b = ours(x), theirs(y)
        a.backward(g)
        b.backward(torch.tensor(g))
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **CLOSE)
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), **CLOSE)
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), **CLOSE, err_msg=name)
        assert_same_state(ours, theirs)


# ---------------------------------------------------------------------------------------------------------- with a mask
def sentences(rng):
    """(N, C, L) with padding at the ends, the mask, and the tokens alone as (tokens, C)."""
    x, mask = scattered(rng, 4, 3, 5), np.arange(5) < np.array([5, 2, 0, 4])[:, None]
    return x, mask, x.transpose(0, 2, 1)[mask]


def test_the_statistics_are_those_of_the_tokens(rng):
    """What PyTorch says of the tokens alone, as one batch of vectors."""
    torch = oracle.torch()
    ours, theirs = pair(rng)
    data, mask, tokens = sentences(rng)
    g = rng.standard_normal((int(mask.sum()), 3))
    x, y = mg.tensor(data, requires_grad=True), torch.tensor(tokens, requires_grad=True)
    a, b = ours(x, mask), theirs(y)
    of_tokens = a.permute(0, 2, 1)[mask]
    of_tokens.backward(g)
    b.backward(torch.tensor(g))
    np.testing.assert_allclose(of_tokens.detach().numpy(), b.detach().numpy(), **CLOSE)
    np.testing.assert_allclose(x.grad.numpy().transpose(0, 2, 1)[mask], y.grad.numpy(), **CLOSE)
    assert not x.grad.numpy().transpose(0, 2, 1)[~mask].any()
    assert_same_state(ours, theirs)


def test_the_content_of_padding_changes_nothing_else(rng):
    x, mask, _ = sentences(rng)
    other = np.where(mask[:, None], x, np.nan)
    results = []
    for data in (x, other):
        layer = nn.BatchNorm1d(3).double()
        y = layer(mg.tensor(data), mg.tensor(mask)).detach().numpy().transpose(0, 2, 1)
        results.append([y[mask], layer.running_mean.numpy(), layer.running_var.numpy()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_positions_are_normalised_and_may_get_a_gradient(rng):
    data, mask, tokens = sentences(rng)
    y = F.batch_norm(mg.tensor(data), None, None, training=True, eps=0.0, mask=mask).numpy()
    expected = (data - tokens.mean(0)[:, None]) / tokens.std(0)[:, None]
    np.testing.assert_allclose(y, expected, **CLOSE)
    gradcheck(lambda x: F.batch_norm(x, None, None, training=True, mask=mask), [data])


def test_a_mask_that_is_true_everywhere_is_none(rng):
    data = scattered(rng, 6, 3)
    a, b = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    np.testing.assert_array_equal(a(mg.tensor(data)).data, b(mg.tensor(data), np.ones(6, bool)).data)
    for one, other in zip(a.buffers(), b.buffers(), strict=True):
        np.testing.assert_array_equal(one.data, other.data)


@pytest.mark.parametrize("settings", [{}, {"momentum": None}, {"track_running_stats": False}], ids=str)
def test_a_batch_of_padding_teaches_nothing_and_is_normalised_as_in_evaluation(settings, rng):
    layer = nn.BatchNorm1d(3, **settings).double()
    for _ in range(2):
        layer(mg.tensor(scattered(rng, 4, 3, 5)))
    before = {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}
    x = mg.tensor(scattered(rng, 4, 3, 5), requires_grad=True)
    y = layer(x, np.zeros((4, 5), bool))
    y.backward(rng.standard_normal(y.shape))
    assert np.isfinite(y.data).all()
    assert np.isfinite(x.grad.data).all()
    for name, tensor in layer.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])
    if layer.track_running_stats:
        np.testing.assert_array_equal(y.data, layer.eval()(x).data)
    else:
        np.testing.assert_allclose(y.data, x.data / np.sqrt(1 + layer.eps), **CLOSE)


# ------------------------------------------------------------------------------------------------------------- a module
def test_buffers_are_converted_and_saved_but_not_trained():
    layer = nn.BatchNorm1d(2).double()
    assert [p for p, _ in layer.named_parameters()] == ["weight", "bias"]
    assert [str(b.dtype) for b in layer.buffers()] == ["float64", "float64", "int64"]
    assert layer.float().running_var.dtype == np.float32
    assert list(nn.BatchNorm1d(2, affine=False, track_running_stats=False).state_dict()) == []


def test_reset_forgets_what_was_seen(rng):
    layer = nn.BatchNorm1d(3)
    layer(mg.tensor(scattered(rng, 6, 3)))
    with mg.no_grad():
        layer.weight.fill_(9)
    layer.reset_parameters()
    fresh = nn.BatchNorm1d(3).state_dict()
    assert {name: t.tolist() for name, t in layer.state_dict().items()} == {n: t.tolist() for n, t in fresh.items()}
    norm = nn.RMSNorm(2)
    with mg.no_grad():
        norm.weight.fill_(9)
    norm.reset_parameters()
    assert norm.weight.tolist() == [1, 1]
    for without in (
        nn.RMSNorm(2, elementwise_affine=False),
        nn.BatchNorm1d(2, affine=False, track_running_stats=False),
    ):
        without.reset_parameters()
        assert list(without.parameters()) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rms_norm_does_not_feel_a_stretch(dtype, rng):
    x = (100 * rng.standard_normal((3, 8))).astype(dtype)
    y = F.rms_norm(mg.tensor(x), 8).numpy()
    np.testing.assert_allclose((y * y).mean(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(F.rms_norm(mg.tensor(4 * x), 8).numpy(), y, rtol=1e-6)
    small = np.full(2, np.sqrt(np.finfo(dtype).eps), dtype)  # as large as the eps below the root
    np.testing.assert_allclose(F.rms_norm(mg.tensor(small), 2).numpy(), np.sqrt(0.5), rtol=1e-6)


def test_printing():
    assert repr(nn.BatchNorm1d(3)) == ("BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)")
    assert repr(nn.RMSNorm(3)) == "RMSNorm((3,), eps=None, elementwise_affine=True)"


# --------------------------------------------------------------------------------------------------------------- errors
def test_one_value_per_channel_has_no_variance(rng):
    x = mg.tensor(scattered(rng, 1, 3))
    layer = nn.BatchNorm1d(3)
    says = r"batch_norm\(\): a has shape \(1, 3\), but there is only 1 value per channel to learn from"
    with pytest.raises(ValueError, match=says):
        layer(x)
    with pytest.raises(ValueError, match="only 1 value per channel"):
        layer(mg.zeros(4, 3), np.arange(4) == 2)
    assert layer.num_batches_tracked.item() == 0
    assert layer.eval()(x).shape == (1, 3)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: nn.BatchNorm1d(3)(mg.zeros(3)), mg.ShapeError, r"a has shape \(3,\); it must be \(N, C\) or"),
        (
            lambda: nn.BatchNorm1d(3)(mg.zeros(2, 4)),
            mg.ShapeError,
            r"a has shape \(2, 4\), running_mean \(3,\); .*last",
        ),
        (lambda: nn.BatchNorm1d(3)(mg.zeros(2, 3, dtype=mg.int64)), mg.DTypeError, "dtype int64; it must be a float"),
        (
            lambda: nn.BatchNorm1d(3)(mg.zeros(2, 3), mg.ones(2)),
            mg.DTypeError,
            "the mask has dtype float32; it must be",
        ),
        (
            lambda: nn.BatchNorm1d(3)(mg.zeros(2, 3), np.ones((2, 3), bool)),
            mg.ShapeError,
            r"a has shape \(2, 3\), the mask \(2, 3\); it must be \(N\) or \(N, L\)",
        ),
        (lambda: F.batch_norm(mg.zeros(2, 3), None, None), ValueError, "there are no running statistics. Give both"),
        (lambda: nn.BatchNorm1d(-1), ValueError, "num_features = -1; a size cannot be negative"),
        (lambda: nn.RMSNorm(3)(mg.zeros(2, 4)), mg.ShapeError, r"rms_norm\(\): a has shape \(2, 4\); .* = \(3,\)"),
        (lambda: F.rms_norm(mg.zeros(2, dtype=mg.int64), 2), mg.DTypeError, r"rms_norm\(\): a has dtype int64"),
    ],
)
def test_mistakes_are_answered_with_a_clear_error(call, error, says):
    with pytest.raises(error, match=says):
        call()
