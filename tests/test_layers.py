"""The layers: the two orders of norm and addition, the residual tag, the feed-forward network, dropout's places."""

from collections import Counter
from contextlib import nullcontext

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core import definitions, observe
from minigrad.nn import functional as F
from minitransformer import AddNorm, FeedForward, PreNorm
from minitransformer.attention import MultiHeadAttention
from minitransformer.layers import DecoderLayer, EncoderLayer, make_add_norm
from minitransformer.positions import Positions, Sinusoidal
from tests.graphs import Recorder
from tests.models import sentences, small_config, small_model


def normalised(x, module):
    """Layer normalisation, written out."""
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + module.eps) * module.weight.data + module.bias.data


def wrapped(rng, **changes):
    """What goes around a sublayer, in float64, with a norm that is not at its start."""
    module = make_add_norm(small_config(**changes)).double()
    for parameter in module.parameters():
        parameter.data += 0.3 * rng.standard_normal(parameter.shape)
    return module


def test_add_norm_normalises_the_sum(rng):
    module = wrapped(rng)
    x = mg.tensor(rng.standard_normal((2, 3, 8)))
    expected = normalised(x.data + np.tanh(x.data), module.norm)
    assert type(module) is AddNorm
    np.testing.assert_allclose(module(x, mg.tanh).detach().numpy(), expected, rtol=1e-12)


def test_pre_norm_normalises_what_the_sublayer_reads(rng):
    module = wrapped(rng, norm_first=True)
    x = mg.tensor(rng.standard_normal((2, 3, 8)))
    expected = x.data + np.tanh(normalised(x.data, module.norm))
    assert type(module) is PreNorm
    np.testing.assert_allclose(module(x, mg.tanh).detach().numpy(), expected, rtol=1e-12)


def test_without_residual_the_branch_is_all(rng):
    x = mg.tensor(rng.standard_normal((2, 3, 8)))
    post, pre = (wrapped(rng, residual=False, norm_first=norm_first) for norm_first in (False, True))
    np.testing.assert_allclose(post(x, mg.tanh).detach().numpy(), normalised(np.tanh(x.data), post.norm), rtol=1e-12)
    np.testing.assert_allclose(pre(x, mg.tanh).detach().numpy(), np.tanh(normalised(x.data, pre.norm)), rtol=1e-12)


@pytest.mark.parametrize("norm_first", [False, True])
def test_without_norm_the_sum_is_all(norm_first, rng):
    x = mg.tensor(rng.standard_normal((2, 3, 8)))
    module = wrapped(rng, norm="none", norm_first=norm_first)
    assert np.array_equal(module(x, mg.tanh).numpy(), x.data + np.tanh(x.data))
    assert list(module.parameters()) == []


def test_dropout_is_on_the_branch_not_on_the_identity():
    module = wrapped(np.random.default_rng(0), norm="none", dropout=0.5)
    mg.manual_seed(0)
    y = module(mg.ones(50, 50, 8), lambda x: 10 * x)
    assert set(np.unique(y.numpy())) == {1.0, 21.0}
    assert set(np.unique(module.eval()(mg.ones(5, 5, 8), lambda x: 10 * x).numpy())) == {11.0}


# ----------------------------------------------------------------------------------------------------- the residual tag
def tagged(recorder):
    """The residual connections, found as AddNorm's docstring says."""
    return [node for node, *_ in recorder.nodes if isinstance(node.module, AddNorm)]


def run(model, rng):
    """One forward and backward pass with somebody listening."""
    src, tgt = sentences(rng, [5, 4]), sentences(rng, [4, 3], bos=True)
    with observe(Recorder()) as recorder:
        logits = model(src, tgt)
        parents = {node: node.parents for node in tagged(recorder)}  # backward() frees them
        logits.backward(rng.standard_normal(logits.shape))
    return recorder, parents


@pytest.mark.parametrize("norm_first", [False, True])
def test_every_residual_connection_is_tagged_and_nothing_else(norm_first, rng):
    model = small_model(num_encoder_layers=3, norm_first=norm_first, dropout=0.1)
    recorder, _ = run(model, rng)
    paths = {module: path for path, module in model.named_modules()}
    encoder = [f"encoder.layers.{n}.add_norm{i}" for n in range(3) for i in (1, 2)]
    decoder = [f"decoder.layers.{n}.add_norm{i}" for n in range(2) for i in (1, 2, 3)]
    assert [paths[node.module] for node in tagged(recorder)] == encoder + decoder
    assert {node.op.name for node in tagged(recorder)} == {"add" if norm_first else "add_layer_norm"}
    with definitions():
        recorder, _ = run(model, rng)
    assert [paths[node.module] for node in tagged(recorder)] == encoder + decoder
    assert {node.op.name for node in tagged(recorder)} == {"add"}


def test_without_residual_nothing_is_tagged(rng):
    recorder, _ = run(small_model(residual=False), rng)
    assert tagged(recorder) == []


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_tag_tells_identity_from_branch(norm_first, rng):
    """Parent 0 is x, and the gradient at x is what comes along the identity plus what comes out of the branch."""
    recorder, parents = run(small_model(norm_first=norm_first), rng)
    total = dict(recorder.gradients)
    for node in tagged(recorder):
        identity, branch, *_ = parents[node]
        assert identity.serial < branch.serial
        arrivals = [(sender, position, g) for sender, position, parent, g in recorder.edges if parent is identity]
        along = [g for sender, position, g in arrivals if (sender, position) == (node, 0)]
        out_of_branch = [g for sender, _, g in arrivals if identity.serial < sender.serial < node.serial]
        assert len(along) == 1
        assert out_of_branch
        received = along[0] + np.sum(out_of_branch, axis=0)
        others = [g for sender, _, g in arrivals if sender.serial > node.serial]  # memory is read by all layers
        np.testing.assert_allclose(received + np.sum(others, axis=0), total[identity], rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------------------------------------- feed-forward, layers
@pytest.mark.parametrize("bias", [True, False])
def test_feed_forward_is_the_formula(bias, rng):
    module = FeedForward(4, 7, "relu", bias=bias).double()
    x = rng.standard_normal((2, 3, 4))
    w1, w2 = module.linear1.weight.data, module.linear2.weight.data
    b1, b2 = (module.linear1.bias.data, module.linear2.bias.data) if bias else (0, 0)
    with nn.capture(module, "pre", "post") as seen:
        y = module(mg.tensor(x)).detach().numpy()
    np.testing.assert_allclose(y, np.maximum(0, x @ w1.T + b1) @ w2.T + b2, rtol=1e-12)
    np.testing.assert_allclose(seen["pre"].detach().numpy(), x @ w1.T + b1, rtol=1e-12)
    assert np.array_equal(seen["post"].detach().numpy(), np.maximum(0, seen["pre"].detach().numpy()))
    assert sum(p.numel() for p in module.parameters()) == 2 * 4 * 7 + (4 + 7 if bias else 0)


def test_gelu_is_another_function(rng):
    module = FeedForward(4, 7, "gelu").double()
    with nn.capture(module, "pre", "post") as seen:
        module(mg.tensor(rng.standard_normal((2, 3, 4))))
    pre, post = (seen[name].detach() for name in ("pre", "post"))
    np.testing.assert_allclose(post.numpy(), mg.ops.gelu(pre).numpy())
    assert (post.numpy()[pre.numpy() < 0] < 0).all()


def test_feed_forward_is_the_same_for_every_position(rng):
    module = FeedForward(4, 7).double()
    x, order = rng.standard_normal((1, 6, 4)), rng.permutation(6)
    y, permuted = module(mg.tensor(x)).detach().numpy(), module(mg.tensor(x[:, order])).detach().numpy()
    assert np.array_equal(y[:, order], permuted)


def test_layers_show_the_stream_of_residuals_in_order(rng):
    encoder, decoder = EncoderLayer(small_config()).double(), DecoderLayer(small_config()).double()
    x, memory = (mg.tensor(rng.standard_normal((2, n, 8))) for n in (4, 5))
    with nn.capture(encoder, "resid_*", "add_norm*") as seen:
        encoder(x, None, Positions())
    assert seen["resid_pre"] is x
    assert seen["resid_mid"] is seen["add_norm1"]
    assert seen["resid_post"] is seen["add_norm2"]
    with nn.capture(decoder, "resid_*", "add_norm?") as seen:
        decoder(x, memory, None, None, Positions())
    streams = [name for name in seen if name.startswith("resid")]
    assert streams == ["resid_pre", "resid_mid", "resid_mid_cross", "resid_post"]
    assert [seen[name] for name in streams[1:]] == [seen[f"add_norm{i}"] for i in (1, 2, 3)]


def test_a_patched_stream_is_what_the_layer_goes_on_with(rng):
    layer = EncoderLayer(small_config()).double()
    x, other = (mg.tensor(rng.standard_normal((1, 4, 8))) for _ in range(2))
    with nn.patch(layer, {"resid_pre": lambda _: other}):
        patched = layer(x, None, Positions()).detach().numpy()
    np.testing.assert_allclose(patched, layer(other, None, Positions()).detach().numpy(), rtol=1e-12)


# ---------------------------------------------------------------------------------------------------- dropout's places
def test_dropout_is_at_the_three_places_of_the_paper_and_nowhere_else(rng):
    """On the attention weights, on the output of each sublayer, on the sum of embedding and position."""
    model = small_model(num_encoder_layers=3, num_decoder_layers=2, dropout=0.2)
    src, tgt = sentences(rng, [5, 4]), sentences(rng, [4, 3], bos=True)
    with nn.capture(model, "*.pattern"), observe(Recorder()) as recorder:
        model(src, tgt)
    paths = {module: path for path, module in model.named_modules()}
    places = Counter(paths[node.module] for node, *_ in recorder.nodes if node.op.name == "dropout")
    attentions = [paths[m] + ".score" for m in model.modules() if isinstance(m, MultiHeadAttention)]
    outputs = [paths[m] + ".dropout" for m in model.modules() if isinstance(m, AddNorm)]
    assert places == Counter(["encoder.dropout", "decoder.dropout", *attentions, *outputs])
    assert (len(attentions), len(outputs)) == (3 + 2 * 2, 2 * 3 + 3 * 2)
    with nn.capture(model.eval(), "*.pattern"), observe(Recorder()) as recorder:
        model(src, tgt)
    assert "dropout" not in {node.op.name for node, *_ in recorder.nodes}


# ------------------------------------------------------------------------------------------------------- fused or not
VARIANTS = [{}, {"activation": "gelu"}, {"bias": False}, {"positions": "learned"}, {"norm_first": True}]


@pytest.mark.parametrize("changes", VARIANTS)
def test_fused_and_step_by_step_are_the_same_model(changes, rng):
    """Nobody looking, somebody looking, everything by its definition: the same loss and gradients, to rounding."""
    model = small_model(dropout=0.3, activation_dropout=0.2, **changes).train()
    src, tgt = sentences(rng, [5, 4]), sentences(rng, [4, 3], bos=True)
    g = rng.standard_normal((2, 4, model.config.target_vocab_size))

    def gradients(looking):
        mg.manual_seed(5)
        model.zero_grad()
        with looking:
            model(src, tgt).backward(g)
        return {name: p.grad.data.copy() for name, p in model.named_parameters()}

    fused = gradients(nullcontext())
    for looking in (nn.capture(model), definitions()):
        for name, d in gradients(looking).items():
            np.testing.assert_allclose(fused[name], d, rtol=1e-9, atol=1e-12, err_msg=name)


def test_while_nobody_looks_a_layer_is_a_few_ops(rng):
    model = small_model(dropout=0.1, num_encoder_layers=1)
    with observe(Recorder()) as recorder:
        model.encode(sentences(rng, [5, 4]))
    names = [node.op.name for node, *_ in recorder.nodes]
    assert names == ["embed_tokens", "multi_head_attention", "add_layer_norm", "feed_forward", "add_layer_norm"]


class Doubled(nn.Linear):
    """A layer with a computation of its own."""

    def forward(self, input):
        return 2 * super().forward(input)


class Negative(Sinusoidal):
    """A scheme with an idea of its own of what to do with its vectors."""

    def embed(self, x, pos):
        return x - self.encoding(pos).type_as(x)


def replace_norm(model):
    model.encoder.layers[0].add_norm1.norm = nn.Identity()


def replace_dropout(model):
    model.encoder.layers[0].add_norm2.dropout = nn.Identity()


def replace_linear(model):
    layer = model.encoder.layers[0].ffn
    layer.linear1 = Doubled(layer.linear1.in_features, layer.linear1.out_features).double()


def replace_positions(model):
    model.encoder.positions = Negative(model.config.d_model)


def replace_activation(model):
    model.encoder.layers[0].ffn.activation = nn.GELU("tanh")


def replace_projection(model):
    model.encoder.layers[0].self_attn.v_proj = Doubled(8, 8).double()


def replace_a_method(model):
    linear = model.encoder.layers[0].self_attn.k_proj
    linear.forward = lambda x: F.linear(x, 2 * linear.weight, linear.bias)


def replace_score(model):
    score = model.encoder.layers[0].self_attn.score
    score.forward = lambda q, k, v, *_, **__: v + q


class Forgetful(MultiHeadAttention):
    def keys_and_values(self, positions, key, value, start=0):
        k, v = super().keys_and_values(positions, key, value, start)
        return 0 * k, v


def replace_attention(model):
    model.encoder.layers[0].self_attn = Forgetful(8, 2).double()


def dropout_in_evaluation(model):
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()


CHANGES = [
    *(replace_norm, replace_dropout, replace_linear, replace_positions, replace_activation, replace_projection),
    *(replace_a_method, replace_score, replace_attention, dropout_in_evaluation),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_user_puts_into_a_model_is_what_runs(change, rng):
    model = small_model(dropout=0.2, activation_dropout=0.2).train()
    change(model)
    src = sentences(rng, [5, 4])
    mg.manual_seed(0)
    fused = model.encode(src).detach().numpy()
    mg.manual_seed(0)
    with nn.capture(model):
        watched = model.encode(src).detach().numpy()
    np.testing.assert_allclose(fused, watched, rtol=1e-9, atol=1e-12)
