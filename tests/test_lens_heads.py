"""Heads by name: what each looks at, what is lost without it, and how much it matters."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minitransformer import Classifier, GRUConfig, GRUSeq2Seq, MultiHeadAttention
from minitransformer.lens import ablate, head_importance, head_names, patterns
from tests.models import sentences, small_config, small_model


@pytest.fixture
def data(rng):
    return sentences(rng, [5, 3]), sentences(rng, [4, 6], bos=True)


def test_every_head_has_a_name_and_a_pattern(data):
    model = small_model(num_encoder_layers=1, nhead=4)
    names = [f"encoder.layers.0.self_attn.{h}" for h in range(4)] + [
        f"decoder.layers.{layer}.{kind}.{h}"
        for layer in (0, 1)
        for kind in ("self_attn", "cross_attn")
        for h in range(4)
    ]
    assert head_names(model) == names
    seen = patterns(model, *data)
    assert list(seen) == names
    with nn.capture(model, "decoder.layers.1.cross_attn.pattern") as all_heads:
        model(*data)
    expected = all_heads["decoder.layers.1.cross_attn.pattern"].detach().numpy()[:, 2]
    np.testing.assert_allclose(seen["decoder.layers.1.cross_attn.2"], expected, rtol=1e-12)


def test_patterns_are_those_of_evaluation(data):
    model = small_model(dropout=0.5)
    assert all(np.array_equal(a, b) for a, b in zip(*(patterns(model, *data).values() for _ in range(2)), strict=True))
    assert model.training


def test_an_encoder_alone_has_heads_too(rng):
    model = Classifier(small_config(num_encoder_layers=1), 3)
    assert head_names(model) == ["encoder.layers.0.self_attn.0", "encoder.layers.0.self_attn.1"]
    assert patterns(model, sentences(rng, [4]))["encoder.layers.0.self_attn.1"].shape == (1, 4, 4)


def test_the_heads_of_an_attention_alone_are_called_by_their_numbers(rng):
    attention, x = MultiHeadAttention(d_model=8, nhead=2).double(), mg.tensor(rng.normal(size=(2, 5, 8)))
    assert head_names(attention) == list(patterns(attention, x, x, x)) == ["0", "1"]
    with nn.capture(attention, "pattern") as seen:
        attention(x, x, x)
    assert np.array_equal(patterns(attention, x, x, x)["1"], seen["pattern"].data[:, 1])
    with ablate(attention, ["0", "1"]):
        assert np.array_equal(attention(x, x, x).data, np.broadcast_to(attention.out_proj.bias.data, x.shape))
    cotangent = mg.tensor(rng.normal(size=x.shape))
    assert list(head_importance(attention, lambda: (attention(x, x, x) * cotangent).sum())) == ["0", "1"]


def test_without_a_head_its_columns_of_the_output_layer_do_not_count(data):
    model = small_model()
    attention = model.decoder.layers[1].cross_attn
    before = model(*data).detach().numpy()
    with ablate(model, ["decoder.layers.1.cross_attn.1"]):
        ablated = model(*data).detach().numpy()
    np.testing.assert_array_equal(model(*data).detach().numpy(), before)
    attention.out_proj.weight.data[:, 4:] = 0
    np.testing.assert_allclose(ablated, model(*data).detach().numpy(), rtol=1e-12)
    assert not np.allclose(ablated, before)


def test_several_heads_of_several_attentions_can_go(data):
    model = small_model()
    gone = ["decoder.layers.1.cross_attn.1", "decoder.layers.1.cross_attn.0", "encoder.layers.0.self_attn.0"]
    with ablate(model, gone), nn.capture(model, "*.out") as seen:
        model(*data)
    bias = model.decoder.layers[1].cross_attn.out_proj.bias.data
    np.testing.assert_array_equal(
        seen["decoder.layers.1.cross_attn.out"].detach().numpy(), np.broadcast_to(bias, (2, 6, 8))
    )
    with ablate(model, []):
        model(*data)


def test_a_head_that_is_not_there_is_an_error():
    with pytest.raises(
        ValueError, match=r"there is no head 'decoder.layers.1.cross_attn.9'\. Near: decoder\.layers\.1\.cross"
    ):
        ablate(small_model(), ["decoder.layers.1.cross_attn.9"]).__enter__()


def losses(model, data):
    """The loss of each sentence."""
    src, tgt = data
    logits = model(src, tgt[:, :-1])
    each = mg.ops.cross_entropy(logits, tgt[:, 1:], ignore_index=0, reduction="none")
    return each.sum(-1)


def test_importance_is_the_derivative_of_the_loss_by_a_gate(data):
    """Against central differences: the head's z times 1 + e and 1 - e, the loss of each sentence."""
    model, e = small_model(), 1e-5
    model.zero_grad()
    importance = head_importance(model, lambda: losses(model, data).mean())
    assert list(importance) == head_names(model)
    for name in ("encoder.layers.1.self_attn.0", "decoder.layers.0.self_attn.1", "decoder.layers.1.cross_attn.0"):
        path, _, head = name.rpartition(".")
        both = []
        for factor in (1 + e, 1 - e):
            gate = np.ones((2, 1, 1))
            gate[int(head)] = factor
            with nn.patch(model, {f"{path}.z": lambda z, gate=gate: z * gate}), mg.no_grad():
                both.append(losses(model, data).numpy())
        expected = np.abs((both[0] - both[1]) / (2 * e)).mean()
        assert importance[name] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_importance_leaves_the_gradients_as_they_were(data):
    model = small_model()
    losses(model, data).mean().backward()
    before = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    with mg.no_grad():
        head_importance(model, lambda: losses(model, data).mean())
    assert all(np.array_equal(p.grad.numpy(), before[name]) for name, p in model.named_parameters())
    with pytest.raises(ZeroDivisionError):
        head_importance(model, lambda: 1 / 0)
    assert all(np.array_equal(p.grad.numpy(), before[name]) for name, p in model.named_parameters())


def test_a_head_that_is_not_used_has_no_importance(data):
    model = small_model()
    model.decoder.layers[1].cross_attn.out_proj.weight.data[:, :4] = 0
    importance = head_importance(model, lambda: losses(model, data).mean())
    assert importance["decoder.layers.1.cross_attn.0"] == 0
    assert importance["decoder.layers.1.cross_attn.1"] > 0


def test_one_head_may_be_given_by_its_name(data):
    model, name = small_model(), "decoder.layers.1.cross_attn.1"
    with ablate(model, name):
        one = model(*data).detach().numpy()
    with ablate(model, [name]):
        assert np.array_equal(model(*data).detach().numpy(), one)


def test_importance_over_several_batches_is_the_sum_of_each(data):
    model, (src, tgt) = small_model(), data
    parts = [(src, tgt), (src[:1], tgt[:1])]
    separate = [head_importance(model, lambda part=part: losses(model, part).sum()) for part in parts]
    together = head_importance(model, lambda: losses(model, parts[0]).sum() + losses(model, parts[1]).sum())
    for name, importance in together.items():
        assert importance == pytest.approx(sum(part[name] for part in separate), rel=1e-9)


def test_importance_counts_what_the_loss_depends_on_and_is_of_evaluation(data):
    model = small_model(dropout=0.3, norm="batch")
    losses(model, data)  # so that there are running means
    before = {name: p.numpy().copy() for name, p in model.state_dict().items()}

    def loss():
        model(*data)  # a run that has no part in the loss
        return (model.encode(data[0]) ** 2).mean()

    first, second = head_importance(model, loss), head_importance(model, loss)
    assert first == second
    assert set(first) == {name for name in head_names(model) if name.startswith("encoder")}
    assert model.training
    assert all(np.array_equal(p.numpy(), before[name]) for name, p in model.state_dict().items())


def test_a_model_of_another_kind_has_no_heads():
    model = GRUSeq2Seq(GRUConfig(src_vocab_size=9, d_model=4, hidden_size=3, attention_size=2))
    with pytest.raises(
        ValueError, match=r"patterns\(\): there is no MultiHeadAttention in this GRUSeq2Seq\. See nn.capture"
    ):
        patterns(model, [[3, 4]], [[1]])
