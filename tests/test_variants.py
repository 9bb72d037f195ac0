"""Every part in a whole model: nothing leaks from the future, padding changes nothing, the cache saves time only."""

import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minitransformer import ATTENTIONS, FEED_FORWARDS, NORMS, POSITIONS, evaluating, greedy
from minitransformer.positions import INSIDE_ATTENTION
from tests.models import sentences, small_model

COMBINATIONS = [
    {"positions": positions, "norm_first": norm_first, "attention": attention, "cross_positions": cross}
    for positions, norm_first, attention in itertools.product(POSITIONS, [False, True], ATTENTIONS)
    for cross in ([False, True] if positions in INSIDE_ATTENTION else [False])
]
OTHERS = [
    {"norm": "rms"},
    {"norm": "rms", "norm_first": True},
    {"norm": "none"},
    {"activation": "swiglu"},
    {"activation": "none"},
    {"activation": "none", "norm_first": True, "final_norm": False},
    {"activation": "gelu_tanh", "embedding_norm": True},
    {"residual": False, "share_qk": True},
    {"attention_scale": "none", "head_dim": 6, "positions": "rotary"},
    {"attention_scale": 2.0, "head_dim": 3, "positions": "transformer_xl"},
]


def name(changes):
    return ", ".join(value if isinstance(value, str) else f"{key}={value}" for key, value in changes.items())


variants = pytest.mark.parametrize("changes", COMBINATIONS + OTHERS, ids=name)


@variants
def test_the_future_changes_nothing_bit_for_bit(changes, rng):
    model = small_model(**changes)
    src, tgt = sentences(rng, [5]), sentences(rng, [6], bos=True)
    before = model(src, tgt).detach().numpy()
    for t in range(1, 6):
        other = tgt.copy()
        other[0, t:] = (other[0, t:] - 3 + rng.integers(1, 8, 6 - t)) % 8 + 3
        assert np.array_equal(model(src, other).detach().numpy()[:, :t], before[:, :t])
        assert not np.array_equal(model(src, other).detach().numpy()[:, t:], before[:, t:])


@variants
def test_the_gradient_of_the_future_is_exactly_zero(changes, rng):
    model = small_model(**changes)
    with nn.capture(model, "decoder.layers.0.resid_pre", grad=True) as seen:
        logits = model(sentences(rng, [5]), sentences(rng, [6], bos=True))
    cotangent = np.zeros(logits.shape)
    cotangent[0, 3] = rng.standard_normal(logits.shape[-1])
    logits.backward(cotangent)
    size = np.abs(seen["decoder.layers.0.resid_pre"].grad.numpy()[0]).max(axis=-1)
    assert (size[4:] == 0).all()
    assert (size[3] > 0).all()


@variants
def test_alone_or_padded_it_is_the_same_sentence(changes, rng):
    model = small_model(**changes)
    src, tgt = sentences(rng, [3, 6, 5]), sentences(rng, [6, 2, 4], bos=True)
    cotangent = rng.standard_normal((1, 2, 11))
    together, alone = model(src, tgt), model(src[1:2], tgt[1:2, :2])
    np.testing.assert_allclose(together.detach().numpy()[1, :2], alone.detach().numpy()[0], rtol=0, atol=1e-12)
    gradients = []
    for logits in (together[1:2, :2], alone):
        model.zero_grad()
        logits.backward(cotangent)
        gradients.append({key: p.grad.numpy().copy() for key, p in model.named_parameters() if p.grad is not None})
    for key, gradient in gradients[1].items():
        np.testing.assert_allclose(gradients[0][key], gradient, rtol=0, atol=1e-11, err_msg=key)


@variants
def test_what_stands_at_padding_changes_nothing_bit_for_bit(changes, rng):
    model = small_model(**changes)
    src, tgt = sentences(rng, [3, 6]), sentences(rng, [6, 2], bos=True)
    before = model(src, tgt).detach().numpy()
    for table in (model.src_embed, model.tgt_embed):
        table.weight.data[0] = rng.standard_normal(8)  # the vector of padding
    after = model(src, tgt).detach().numpy()
    assert np.array_equal(after[tgt != 0], before[tgt != 0])


@variants
def test_with_the_cache_it_writes_the_same_logits(changes, rng):
    model = small_model(**changes)
    src, tgt = sentences(rng, [5, 3]), sentences(rng, [6, 6], bos=True)
    with evaluating(model):
        memory, mask, cache = model.encode(src), model.padding_mask(src), model.new_cache()
        pieces = [model.decode(tgt[:, :n], memory, mask, cache).numpy() for n in (1, 2, 4, 5, 6)]
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), model(src, tgt).numpy(), rtol=0, atol=1e-12)
        assert np.array_equal(greedy(model, src, max_len=6), greedy(model, src, max_len=6, use_cache=False))


@variants
def test_every_parameter_gets_a_gradient(changes, rng):
    model = small_model(**changes)
    logits = model(sentences(rng, [5, 4]), sentences(rng, [4, 6], bos=True))
    logits.backward(rng.standard_normal(logits.shape))
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.numpy().any()]
    assert without == []


@variants
def test_declared_taps_are_fired_taps(changes, rng):
    model = small_model(**changes)
    declared = {f"{path}.{tap}".lstrip(".") for path, module in model.named_modules() for tap in module.taps}
    with nn.capture(model) as seen:
        model(sentences(rng, [5]), sentences(rng, [6], bos=True))
    assert declared <= set(seen)


PARTS = {"activation": FEED_FORWARDS, "norm": NORMS, "positions": POSITIONS, "attention": ATTENTIONS}


@pytest.mark.parametrize("changes", [{part: name} for part, names in PARTS.items() for name in names], ids=name)
def test_every_part_can_be_chosen_and_learns(changes, rng):
    """Ten steps bring the loss of one batch down, in float32, fused where it may be."""
    mg.manual_seed(0)
    model = small_model(**changes).float()
    optimizer = mg.optim.Adam(model.parameters(), lr=1e-2)
    src, tgt = sentences(rng, [5, 4, 3, 6]), sentences(rng, [6, 6, 6, 6], bos=True)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = mg.ops.cross_entropy(model(src, tgt[:, :-1]), tgt[:, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


# ----------------------------------------------------------------------------------------------------- batch norm leaks
def influence(norm, batch, rng):
    """How much the first logits of a sentence change, at most, when its last token does, in training mode."""
    model = small_model(norm=norm, num_encoder_layers=1, num_decoder_layers=1)
    src, tgt = sentences(rng, [4] * batch), sentences(rng, [6] * batch, bos=True)
    other = tgt.copy()
    other[0, -1] = 3 if tgt[0, -1] != 3 else 4
    return np.abs(model(src, other).detach().numpy() - model(src, tgt).detach().numpy())[0, :-1].max()


def test_batch_norm_in_training_lets_the_future_through_and_no_other_norm_does():
    leaks = {norm: influence(norm, 2, np.random.default_rng(0)) for norm in NORMS}
    assert leaks.pop("batch") > 1e-3
    assert leaks == {"layer": 0, "rms": 0, "none": 0}


def test_the_leak_of_batch_norm_is_shared_by_the_batch():
    assert influence("batch", 64, np.random.default_rng(0)) < influence("batch", 1, np.random.default_rng(0)) / 5


def test_batch_norm_in_evaluation_keeps_the_mask(rng):
    model = small_model(norm="batch")
    src, tgt = sentences(rng, [4, 5]), sentences(rng, [6, 3], bos=True)
    model(src, tgt)
    other = tgt.copy()
    other[0, 4:] = 5
    with evaluating(model):
        assert np.array_equal(model(src, other).numpy()[:, :4], model(src, tgt).numpy()[:, :4])
        np.testing.assert_allclose(model(src[1:], tgt[1:, :3]).numpy()[0], model(src, tgt).numpy()[1, :3], atol=1e-12)


@pytest.mark.parametrize("padding", [False, True])
def test_padding_counts_in_batch_norm_only_if_asked(padding, rng):
    """In training: the same two sentences with more or less padding behind them."""
    model = small_model(norm="batch", batch_norm_padding=padding)
    src, tgt = sentences(rng, [4, 5]), sentences(rng, [5, 3], bos=True)
    more = [np.concatenate([ids, np.zeros((2, 3), int)], axis=1) for ids in (src, tgt)]
    difference = np.abs(model(*more).detach().numpy()[:, :5] - model(src, tgt).detach().numpy())[tgt != 0].max()
    assert difference > 1e-3 if padding else difference < 1e-12
