"""Norms, feed-forward networks and residual connections: what the configuration chooses is the paper's formula."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core import Observer, observe
from minitransformer import AddNorm, BatchNorm, EncoderLayer, Positions, PreNorm, SwiGLU, evaluating
from tests.models import sentences, small_config, small_model

NORMS = {
    "layer": lambda x, real: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5),
    "rms": lambda x, real: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5),
    "batch": lambda x, real: (x - x[real].mean(0)) / np.sqrt(x[real].var(0) + 1e-5),
    "none": lambda x, real: x,
}


@pytest.mark.parametrize("kind", [AddNorm, PreNorm])
@pytest.mark.parametrize("name", NORMS)
def test_add_norm_and_pre_norm_are_the_formula_with_every_norm(name, kind, rng):
    module = kind(small_config(norm=name)).double()
    x = rng.standard_normal((3, 4, 8))
    real = np.arange(4) < np.array([[4], [2], [3]])  # what is no padding

    def sublayer(x):
        return x * x - 0.5

    ours = module(mg.tensor(x), sublayer, real).detach().numpy()
    norm = NORMS[name]
    expected = norm(x + sublayer(x), real) if kind is AddNorm else x + sublayer(norm(x, real))
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


def test_in_evaluation_batch_norm_goes_by_what_it_has_seen(rng):
    norm = BatchNorm(8, eps=1e-5, padding=False).double()
    x = 3 + 2 * rng.standard_normal((30, 5, 8))
    for _ in range(100):
        norm(mg.tensor(x))
    norm.eval()
    few = rng.standard_normal((1, 2, 8))
    rows = x.reshape(-1, 8)
    expected = (few - rows.mean(0)) / np.sqrt(rows.var(0, ddof=1) + 1e-5)
    np.testing.assert_allclose(norm(mg.tensor(few)).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_running_means_are_saved_with_the_model(rng):
    model, other = small_model(norm="batch"), small_model(norm="batch")
    src, tgt = sentences(rng, [5, 4]), sentences(rng, [4, 6], bos=True)
    model(src, tgt)
    other.load_state_dict(model.state_dict())
    with evaluating(model), evaluating(other):
        assert np.array_equal(model(src, tgt).numpy(), other(src, tgt).numpy())


def test_swiglu_is_the_formula(rng):
    module = SwiGLU(4, 7).double()
    for p in module.parameters():
        p.data[...] = rng.standard_normal(p.shape)
    x = rng.standard_normal((2, 3, 4))
    first, gate, second = module.linear1, module.linear_gate, module.linear2
    u = x @ first.weight.data.T + first.bias.data
    hidden = u / (1 + np.exp(-u)) * (x @ gate.weight.data.T + gate.bias.data)
    expected = hidden @ second.weight.data.T + second.bias.data
    with nn.capture(module) as seen:
        ours = module(mg.tensor(x))
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(seen["post"].detach().numpy(), hidden, rtol=1e-12)
    assert set(SwiGLU(4, 7, bias=False).state_dict()) == {"linear1.weight", "linear_gate.weight", "linear2.weight"}


@pytest.mark.parametrize("norm_first", [False, True])
def test_without_feed_forward_there_is_attention_only(norm_first, rng):
    layer = EncoderLayer(small_config(activation="none", norm_first=norm_first)).double()
    assert {name.split(".")[0] for name, _ in layer.named_parameters()} == {"self_attn", "add_norm1"}
    x = mg.tensor(rng.standard_normal((2, 4, 8)))
    with nn.capture(layer, "resid_*") as seen:
        y = layer(x, None, Positions())
    assert y is seen["resid_post"] is seen["resid_mid"]


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ["relu", "swiglu", "none"])
def test_every_residual_connection_is_tagged(activation, norm, norm_first, rng):
    """A node with two parents whose module is an AddNorm is one: identity first, then the branch."""

    class Tags(Observer):
        def __init__(self):
            self.found = []

        def node(self, node, inputs, output):
            if isinstance(node.module, AddNorm):
                self.found.append(inputs[:2])

    model = small_model(activation=activation, norm=norm, norm_first=norm_first)
    with observe(Tags()) as tags:
        model(sentences(rng, [5]), sentences(rng, [6], bos=True))
    assert len(tags.found) == (2 * 2 + 2 * 3 if activation != "none" else 2 + 2 * 2)
    with observe(Tags()) as tags:
        small_model(activation=activation, norm=norm, norm_first=norm_first, residual=False)(
            sentences(rng, [5]), sentences(rng, [6], bos=True)
        )
    assert tags.found == []
