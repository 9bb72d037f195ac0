"""With the same weights, our Transformer is PyTorch's: outputs, every tap that both have, and every gradient."""

import dataclasses
import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minitransformer import MultiHeadAttention, Transformer, TransformerConfig, causal_mask
from tests import oracle
from tests.models import sentences, small_model

VARIANTS = {
    "the paper": {},
    "post-norm, final norms": {"final_norm": True},
    "pre-norm": {"norm_first": True},
    "pre-norm, no final norms": {"norm_first": True, "final_norm": False},
    "gelu": {"activation": "gelu"},
    "no bias": {"bias": False, "norm_first": True, "final_norm": True},
    "tied": {"tie_weights": True},
    "all tied": {"tie_weights": True, "tgt_vocab_size": None},
    "learned positions": {"positions": "learned"},
    "no positions, unscaled": {"positions": "none", "scale_embedding": False},
    "large eps": {"layer_norm_eps": 0.1, "nhead": 4, "num_encoder_layers": 1, "num_decoder_layers": 3},
}


def compare(model: Transformer, src: np.ndarray, tgt: np.ndarray, rng: np.random.Generator) -> None:
    theirs = oracle.TheirTransformer(model)
    with nn.capture(model) as seen:
        logits = model(src, tgt)
    expected = theirs(src, tgt)
    ours = {name: value.detach().numpy() for name, value in seen.items()}
    assert oracle.first_difference(ours, theirs.taps) == ""

    cotangent = rng.standard_normal(logits.shape)
    logits.backward(cotangent)
    expected.backward(oracle.torch().from_numpy(cotangent))
    their_gradients = theirs.gradients(model)
    assert set(their_gradients) == {name for name, _ in model.named_parameters()}
    # The bias of the keys has gradient 0 but for rounding (softmax does not see a shift), hence a common scale.
    scale = 1e-4 * max(np.abs(g).max() for g in their_gradients.values())
    assert oracle.first_difference(oracle.our_gradients(model), their_gradients, scale) == ""


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_equals_nn_transformer(changes, rng):
    compare(small_model(**changes), sentences(rng, [7, 4, 1]), sentences(rng, [5, 2, 6], bos=True), rng)


lengths = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4)


@settings(max_examples=40)
@given(
    lengths,
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([2, 4, 6]),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.fixed_dictionaries(
        {
            "activation": st.sampled_from(["relu", "gelu"]),
            "norm_first": st.booleans(),
            "final_norm": st.sampled_from([None, True, False]),
            "bias": st.booleans(),
            "tie_weights": st.booleans(),
            "tgt_vocab_size": st.sampled_from([None, 5, 20]),
            "positions": st.sampled_from(["sinusoidal", "learned", "none"]),
            "dim_feedforward": st.sampled_from([1, 7]),
        }
    ),
    st.integers(0, 2**32 - 1),
)
def test_equals_nn_transformer_in_any_configuration(lengths, nhead, head_dim, layers, changes, seed):
    mg.manual_seed(seed)
    rng = np.random.default_rng(seed)
    source, target = (list(side) for side in zip(*lengths, strict=True))
    sizes = {
        "nhead": nhead,
        "d_model": nhead * head_dim,
        "num_encoder_layers": layers[0],
        "num_decoder_layers": layers[1],
    }
    model = small_model(**changes | sizes)
    vocab_size = model.config.target_vocab_size
    compare(model, sentences(rng, source), sentences(rng, target, vocab_size, bos=True), rng)


def random_mask(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """True = may attend, anywhere, but to something: for a query that may not, PyTorch has NaN where we have 0."""
    mask = rng.random(shape) < rng.uniform(0.2, 1)
    np.put_along_axis(mask, rng.integers(shape[-1], size=(*shape[:-1], 1)), True, axis=-1)
    return mask


@settings(max_examples=40)
@given(
    st.tuples(*[st.integers(1, 5)] * 3),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([2, 4]),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.booleans(),
    st.fixed_dictionaries(
        {
            "activation": st.sampled_from(["relu", "gelu"]),
            "norm_first": st.booleans(),
            "final_norm": st.booleans(),
            "bias": st.booleans(),
            "dim_feedforward": st.sampled_from([1, 7]),
        }
    ),
    st.integers(0, 2**32 - 1),
)
def test_equals_nn_transformer_under_any_masks(sizes, nhead, head_dim, layers, per_head, changes, seed):
    torch = oracle.torch()
    mg.manual_seed(seed)
    rng = np.random.default_rng(seed)
    B, T, S = sizes
    changes |= {"nhead": nhead, "d_model": nhead * head_dim}
    model = small_model(**changes, num_encoder_layers=layers[0], num_decoder_layers=layers[1])
    theirs = oracle.TheirTransformer(model).core
    masks = [random_mask(rng, (B, nhead if per_head else 1, *size)) for size in ((S, S), (T, T), (T, S))]
    blocked = [torch.from_numpy(~np.broadcast_to(m, (B, nhead, *m.shape[2:])).reshape(-1, *m.shape[2:])) for m in masks]
    arrays = [rng.standard_normal((B, length, nhead * head_dim)) for length in (S, T)]
    src, tgt = (mg.tensor(a, requires_grad=True) for a in arrays)
    their_src, their_tgt = (torch.tensor(a, requires_grad=True) for a in arrays)

    out = model.decoder(tgt, model.encoder(src, mg.tensor(masks[0])), *map(mg.tensor, masks[1:]))
    expected = theirs(their_src, their_tgt, *blocked)
    assert oracle.error(out.detach().numpy(), expected.detach().numpy()) < oracle.TOLERANCE

    cotangent = rng.standard_normal(out.shape)
    out.backward(cotangent)
    expected.backward(torch.from_numpy(cotangent))
    parameters = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
    ours = {name: p.grad.numpy() for name, p in (("src", src), ("tgt", tgt), *parameters)}
    their_gradients = oracle.gradients(theirs, model) | {"src": their_src.grad.numpy(), "tgt": their_tgt.grad.numpy()}
    assert set(ours) == set(their_gradients)
    scale = 1e-4 * max(np.abs(g).max() for g in their_gradients.values())
    assert oracle.first_difference(ours, their_gradients, scale) == ""


@pytest.mark.parametrize("bias", [True, False])
def test_attention_equals_nn_multihead_attention(bias, rng):
    torch = oracle.torch()
    ours = MultiHeadAttention(12, 3, bias=bias).double()
    if bias:
        for projection in (ours.q_proj, ours.k_proj, ours.v_proj, ours.out_proj):
            projection.bias.data += rng.standard_normal(12)
    theirs = oracle.attention(ours)
    arrays = [rng.standard_normal(shape) for shape in ((2, 4, 12), (2, 6, 12), (2, 6, 12))]
    q, k, v = (mg.tensor(a, requires_grad=True) for a in arrays)
    their_inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    padding = np.array([[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]], bool)  # True = ignore
    mask = causal_mask(4, 6, offset=1) & mg.tensor(~padding[:, None, None, :])
    with nn.capture(ours, "pattern") as seen:
        out = ours(q, k, v, mask)
    expected, pattern = theirs(
        *their_inputs,
        key_padding_mask=torch.from_numpy(padding),
        attn_mask=torch.from_numpy(~causal_mask(4, 6, offset=1).numpy()[0, 0]),
        average_attn_weights=False,
    )
    np.testing.assert_allclose(seen["pattern"].detach().numpy(), pattern.detach(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach(), rtol=1e-9, atol=1e-12)
    cotangent = rng.standard_normal(out.shape)
    out.backward(cotangent)
    expected.backward(torch.from_numpy(cotangent))
    for mine, their in zip((q, k, v), their_inputs, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), their.grad, rtol=1e-9, atol=1e-12)
    assert oracle.first_difference(oracle.our_gradients(ours), oracle.gradients(theirs, ours), scale=1e-4) == ""


def test_names_and_defaults_are_those_of_nn_transformer():
    parameters = inspect.signature(oracle.torch().nn.Transformer).parameters
    ours = {field.name: field.default for field in dataclasses.fields(TransformerConfig)}
    theirs = {name: p.default for name, p in parameters.items() if name in ours}
    theirs["activation"] = theirs["activation"].__name__
    assert len(theirs) == 10
    assert {name: ours[name] for name in theirs} == theirs


def test_the_first_wrong_layer_is_named(rng):
    oracle.torch()
    model = small_model()
    theirs = oracle.TheirTransformer(model)
    model.decoder.layers[0].ffn.linear1.weight.data[2] *= 1.00001
    src, tgt = sentences(rng, [4]), sentences(rng, [3], bos=True)
    theirs(src, tgt)
    with nn.capture(model) as seen, mg.no_grad():
        model(src, tgt)
    ours = {name: value.numpy() for name, value in seen.items()}
    assert oracle.first_difference(ours, theirs.taps).startswith("decoder.layers.0.ffn.pre: relative error")


def test_a_difference_cannot_hide():
    assert oracle.error(np.ones(3), np.ones(3)) == 0
    assert oracle.error(np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-8])) > oracle.TOLERANCE
    assert oracle.error(np.array([np.nan]), np.array([np.nan])) == np.inf
    assert oracle.error(np.ones(3), np.ones((3, 1))) == np.inf
    assert oracle.error(np.zeros(3), np.full(3, 1e-30)) == 1
