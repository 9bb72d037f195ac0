"""GRUCell and GRU: PyTorch's values and gradients; a mask instead of packed sequences."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from tests import oracle

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
SETTINGS = [
    {},
    {"bias": False},
    {"num_layers": 2, "batch_first": True},
    {"bidirectional": True},
    {"num_layers": 3, "bidirectional": True, "batch_first": True},
]


def pair(rng, kind, *sizes, **settings):
    """Our layer and PyTorch's, in float64, with the same parameters."""
    torch = oracle.torch()
    ours = getattr(nn, kind)(*sizes, **settings).double()
    theirs = getattr(torch.nn, kind)(*sizes, **settings).double()
    assert [(n, p.shape) for n, p in ours.named_parameters()] == [
        (n, tuple(p.shape)) for n, p in theirs.named_parameters()
    ]
    theirs.load_state_dict({name: torch.tensor(p.data) for name, p in ours.named_parameters()})
    return ours, theirs


def assert_same(ours, theirs, *inputs):
    """The values, and with random cotangents all gradients; `theirs` and `ours` return tuples."""
    torch, rng = oracle.torch(), np.random.default_rng(1)
    xs = [mg.tensor(x, requires_grad=True) for x in inputs]
    ys = [torch.tensor(x, requires_grad=True) for x in inputs]
    ours_out, theirs_out = ours(*xs), theirs(*ys)
    loss_ours = loss_theirs = 0
    for a, b in zip(ours_out, theirs_out, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **CLOSE)
        g = rng.standard_normal(a.shape)
        loss_ours, loss_theirs = loss_ours + (a * g).sum(), loss_theirs + (b * torch.tensor(g)).sum()
    loss_ours.backward()
    loss_theirs.backward()
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), **CLOSE)


def assert_same_gradients(ours, theirs):
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), **CLOSE, err_msg=name)


# -------------------------------------------------------------------------------------------------------- against torch
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(3,), ()])
@pytest.mark.parametrize("with_state", [True, False])
def test_the_cell_is_that_of_torch(bias, batch, with_state, rng):
    ours, theirs = pair(rng, "GRUCell", 5, 4, bias=bias)
    inputs = [rng.standard_normal((*batch, 5)), rng.standard_normal((*batch, 4))][: 1 + with_state]
    assert_same(lambda *xs: (ours(*xs),), lambda *xs: (theirs(*xs),), *inputs)
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("batch", [3, None])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_layers_are_those_of_torch(settings, batch, with_state, rng):
    ours, theirs = pair(rng, "GRU", 5, 4, **settings)
    states = settings.get("num_layers", 1) * (1 + settings.get("bidirectional", False))
    shape, state = (6, 5), (states, 4)
    if batch:
        shape, state = (batch, 6, 5) if ours.batch_first else (6, batch, 5), (states, batch, 4)
    inputs = [rng.standard_normal(shape), rng.standard_normal(state)][: 1 + with_state]
    assert_same(ours, theirs, *inputs)
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_mask_does_what_packing_does_in_torch(settings, rng):
    torch = oracle.torch()
    ours, theirs = pair(rng, "GRU", 5, 4, **settings)
    lengths = np.array([6, 2, 4])
    tokens = np.arange(6) < lengths[:, None]  # (B, T)
    mask = tokens if ours.batch_first else tokens.T

    def packed(x):
        rnn, first = torch.nn.utils.rnn, ours.batch_first
        pack = rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=first, enforce_sorted=False)
        output, h_n = theirs(pack)
        return rnn.pad_packed_sequence(output, batch_first=first)[0], h_n

    def masked(x):
        output, h_n = ours(x, mask=mask)
        return output * mask[..., None], h_n  # theirs is 0 at padding

    x = rng.standard_normal((3, 6, 5) if ours.batch_first else (6, 3, 5))
    assert_same(masked, packed, x)
    assert_same_gradients(ours, theirs)


# ----------------------------------------------------------------------------------------------------------- properties
def test_over_padding_the_state_is_carried(rng):
    layer = nn.GRU(3, 4, bidirectional=True, batch_first=True).double()
    x, mask = rng.standard_normal((2, 5, 3)), np.arange(5) < [[5], [2]]
    x[1, 2:] = 1e9  # padding may be anything
    output, h_n = layer(mg.tensor(x), mask=mg.tensor(mask))
    alone, last = layer(mg.tensor(x[1:, :2]))
    np.testing.assert_allclose(output.data[1:, :2], alone.data, **CLOSE)
    np.testing.assert_allclose(h_n.data[:, 1:], last.data, **CLOSE)
    for t in range(2, 5):
        np.testing.assert_array_equal(output.data[1, t, :4], h_n.data[0, 1])  # forward: the last state
        assert not output.data[1, t, 4:].any()  # backward: not yet begun


def test_what_stands_at_padding_may_be_anything_at_all(rng):
    layer, mask = nn.GRU(3, 4, batch_first=True, bidirectional=True).double(), np.array([[True, True, False]])
    x = rng.standard_normal((1, 3, 3))
    results = []
    for padding in (0.0, np.nan):
        x[0, 2] = padding
        inputs = mg.tensor(x, requires_grad=True)
        y, _ = layer(inputs, mask=mask)
        layer.zero_grad()
        y[:, :2].backward(np.ones((1, 2, 8)))
        results.append((y.detach().numpy()[:, :2], layer.weight_hh_l0.grad.numpy().copy()))
    for without, with_nan in zip(*results, strict=True):
        np.testing.assert_array_equal(with_nan, without)


def test_a_sentence_alone_may_have_a_mask(rng):
    layer, x = nn.GRU(3, 4).double(), rng.standard_normal((5, 3))
    output, h_n = layer(mg.tensor(x), mask=np.arange(5) < 3)
    np.testing.assert_allclose(h_n.data, layer(mg.tensor(x[:3]))[1].data, **CLOSE)
    assert output.shape == (5, 4)


def test_dropout_is_between_layers_and_off_in_evaluation(rng):
    x = mg.tensor(rng.standard_normal((5, 2, 3)))
    one, two = nn.GRU(3, 4, dropout=0.9).double(), nn.GRU(3, 4, num_layers=2, dropout=1.0).double()
    np.testing.assert_array_equal(one(x)[0].data, one(x)[0].data)
    blind = two(x)[0].data
    np.testing.assert_array_equal(blind, two(2 * x)[0].data)  # the second layer sees nothing at all
    assert not np.allclose(blind, two.eval()(x)[0].data)


def test_all_parameters_start_within_their_bounds():
    for layer in (nn.GRU(50, 25, bidirectional=True), nn.GRUCell(50, 25)):
        for parameter in layer.parameters():
            assert np.abs(parameter.data).max() <= 1 / 5
            assert parameter.data.std() == pytest.approx(1 / 5 / np.sqrt(3), rel=0.25)  # uniform


def test_float32_stays(rng):
    x = mg.tensor(rng.standard_normal((5, 2, 3)).astype(np.float32))
    output, h_n = nn.GRU(3, 4)(x)
    assert output.dtype == h_n.dtype == nn.GRUCell(3, 4)(x[0]).dtype == np.float32


def test_printing():
    assert repr(nn.GRU(3, 4)) == "GRU(3, 4)"
    assert repr(nn.GRU(3, 4, 2, batch_first=True, bidirectional=True)) == (
        "GRU(3, 4, num_layers=2, batch_first=True, bidirectional=True)"
    )
    assert repr(nn.GRUCell(3, 4)) == "GRUCell(3, 4, bias=True)"


# --------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: nn.GRU(-1, 2), ValueError, r"GRU\(\): input_size = -1; a size cannot be negative"),
        (lambda: nn.GRUCell(1, -2), ValueError, r"GRUCell\(\): hidden_size = -2; a size cannot be negative"),
        (lambda: nn.GRU(1, 2, num_layers=0), ValueError, r"GRU\(\): num_layers = 0; there must be at least 1"),
        (lambda: nn.GRU(1, 2, dropout=1.5), ValueError, r"GRU\(\): dropout = 1.5; a probability lies in \[0, 1\]"),
        (lambda: nn.GRU(3, 4)(mg.zeros(5, 2, 7)), mg.ShapeError, r"\(5, 2, 7\); it must be \(T, B, I\) or .* I = 3"),
        (lambda: nn.GRU(3, 4, batch_first=True)(mg.zeros(3)), mg.ShapeError, r"\(3,\); it must be \(B, T, I\) or"),
        (
            lambda: nn.GRU(3, 4)(mg.zeros(5, 2, 3), mg.zeros(2, 4)),
            mg.ShapeError,
            r"GRU\(\): hx has shape \(2, 4\); it must be \(D num_layers, B, H\), .* = \(1, 2, 4\)",
        ),
        (
            lambda: nn.GRU(3, 4)(mg.zeros(5, 2, 3), mask=np.ones((2, 5), bool)),
            mg.ShapeError,
            r"GRU\(\): the mask has shape \(2, 5\); it must be as the input .* = \(5, 2\)",
        ),
        (
            lambda: nn.GRU(3, 4)(mg.zeros(5, 2, 3), mask=np.ones((5, 2))),
            mg.ShapeError,
            r"gru\(\): .* dtype float64; it must be boolean, \(T, B\), True = a step",
        ),
        (lambda: nn.GRU(3, 4)(mg.zeros(0, 2, 3)), mg.ShapeError, r"gru\(\): x has shape \(0, 2, 12\).*T at least 1"),
        (
            lambda: nn.GRUCell(3, 4)(mg.zeros(2, 5, 3)),
            mg.ShapeError,
            r"\(2, 5, 3\); it must be \(B, I\) or \(I\), I = 3",
        ),
        (lambda: nn.GRUCell(3, 4)(mg.zeros(2, 3), mg.zeros(4)), mg.ShapeError, r"GRUCell\(\): hx has shape \(4,\)"),
    ],
)
def test_mistakes_are_answered_with_a_clear_error(call, error, says):
    with pytest.raises(error, match=says):
        call()
