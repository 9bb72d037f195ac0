"""Saturation of whole models: which rows count, which loss it is, that looking changes nothing, and the summing up."""

from functools import partial

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minitransformer import Classifier, GRUConfig, GRUSeq2Seq, LanguageModel, MultiHeadAttention
from minitransformer.batching import Batch
from minitransformer.lens import saturation, sharpen
from minitransformer.lens.rows import STATISTICS
from tests.models import sentences, small_config, small_model

CROSS = "decoder.layers.1.cross_attn"


@pytest.fixture
def data(rng):
    return sentences(rng, [5, 3]), sentences(rng, [4, 6], bos=True)


# ------------------------------------------------------------------------------------------- which rows, and which loss
def test_every_attention_of_a_transformer_is_measured(data, either):
    model = small_model()
    src, tgt = data
    seen = saturation(model, src, tgt)
    assert list(seen) == [f"encoder.layers.{i}.self_attn" for i in (0, 1)] + [
        f"decoder.layers.{i}.{kind}_attn" for i in (0, 1) for kind in ("self", "cross")
    ]
    assert seen[CROSS].entropy.shape == (2, 2, 6)
    with nn.capture(model, f"{CROSS}.pattern") as captured:
        model(src, tgt)
    p = captured[f"{CROSS}.pattern"].detach().numpy()
    real = np.broadcast_to((tgt != 0)[:, None], (2, 2, 6))
    np.testing.assert_array_equal(seen[CROSS].measured, real)  # the rows of padding, and no others, are left out
    np.testing.assert_allclose(seen[CROSS].max_p[real], p.max(-1)[real], rtol=1e-12)
    keys = np.broadcast_to(np.array([5, 3])[:, None, None], (2, 2, 6))
    np.testing.assert_array_equal(seen[CROSS].keys, keys)
    decoder = seen["decoder.layers.0.self_attn"]
    np.testing.assert_array_equal(decoder.keys[:, 0], [[1, 2, 3, 4, 4, 4], [1, 2, 3, 4, 5, 6]])
    assert decoder.left_out == {"no key": 0, "one key": 4, "no gradient": 4, "not finite": 0}


def test_the_random_cotangent_is_0_where_the_target_is_padding_not_the_source(rng):
    src, tgt = sentences(rng, [6, 2]), sentences(rng, [3, 6], bos=True)
    measured = saturation(small_model(), src, tgt)[CROSS].measured
    np.testing.assert_array_equal(measured[:, 0], tgt != 0)


def losses(model, data):
    src, tgt = data
    batch = Batch(src, tgt[:, :-1], tgt[:, 1:], np.arange(len(src)))
    ignore = partial(F.cross_entropy, ignore_index=0)
    return [
        saturation(model, batch),
        saturation(model, src, tgt[:, :-1], targets=tgt[:, 1:]),
        saturation(model, src, tgt[:, :-1], targets=tgt[:, 1:].tolist()),
        saturation(model, src, tgt[:, :-1], loss=lambda y: ignore(y.flatten(0, 1), mg.tensor(tgt[:, 1:].flatten()))),
        saturation(model, batch, loss=lambda y, t: ignore(y.permute(0, 2, 1), mg.tensor(t))),
    ]


def equal(one, other, path=CROSS):
    return all(np.array_equal(getattr(one[path], s), getattr(other[path], s), equal_nan=True) for s in STATISTICS)


def test_the_loss_is_the_cross_entropy_of_training_however_it_is_given(data):
    model = small_model()
    first, *others = losses(model, data)
    src, tgt = data
    with nn.capture(model, "*.scores", grad=True) as seen:
        mg.ops.cross_entropy(model(src, tgt[:, :-1]), tgt[:, 1:], ignore_index=0).backward()
    assert first[CROSS].measured.sum() == 2 * (3 + 5)
    for path, ours in first.items():
        expected = np.linalg.norm(seen[f"{path}.scores"].grad.numpy(), axis=-1)
        np.testing.assert_allclose(ours.row_gradient[ours.measured], expected[ours.measured], rtol=1e-9)
    assert all(equal(first, other) for other in others[:2])
    for other in others[2:]:
        np.testing.assert_allclose(other[CROSS].row_gradient, first[CROSS].row_gradient, rtol=1e-9)


def test_the_seed_decides_the_random_cotangent(data):
    model = small_model()
    first, again, other = (saturation(model, *data, seed=seed) for seed in (0, 0, 1))
    assert equal(first, again)
    np.testing.assert_array_equal(first[CROSS].jacobian, other[CROSS].jacobian)
    assert not np.allclose(first[CROSS].gain, other[CROSS].gain, equal_nan=True)


def test_a_classifier_may_have_a_class_with_the_number_of_padding(rng):
    model, ids = Classifier(small_config(num_encoder_layers=1), 3).double(), sentences(rng, [5, 3])
    seen = saturation(model, ids, targets=[0, 0])["encoder.layers.0.self_attn"]
    np.testing.assert_array_equal(seen.measured[:, 1], ids != 0)


def test_a_language_model_and_its_memory(rng):
    model = LanguageModel(small_config(positions="transformer_xl")).double()
    memory = model.new_memory(9)
    model(sentences(rng, [4]), memory)
    seen = saturation(model, sentences(rng, [3]), memory)["decoder.layers.0.self_attn"]
    assert seen.keys[0, 0].tolist() == [5, 6, 7]
    assert memory.length == 4


def test_a_recurrent_network_asks_step_by_step(data):
    model = GRUSeq2Seq(GRUConfig(src_vocab_size=13, d_model=4, hidden_size=3, attention_size=2)).double()
    src, tgt = data
    seen = saturation(model, src, tgt)
    assert list(seen) == ["decoder.attention"]
    with nn.capture(model, "decoder.pattern") as captured:
        model(src, tgt)
    p = captured["decoder.pattern"].detach().numpy()  # (B, T, S)
    measured = seen["decoder.attention"].measured[:, 0]
    np.testing.assert_array_equal(measured, tgt != 0)
    np.testing.assert_allclose(seen["decoder.attention"].max_p[:, 0][measured], p.max(-1)[measured], rtol=1e-12)
    attention = model.decoder.attention
    alone = saturation(attention, mg.randn(2, 3).double(), mg.randn(2, 5, 2).double(), mg.randn(2, 5, 6).double())
    assert alone[""].entropy.shape == (2, 1, 1)


@pytest.mark.parametrize("frozen", [False, True])
def test_an_attention_alone_and_a_frozen_one(rng, frozen):
    """Gradients are there whether or not a parameter asks for them; the inputs get none."""
    attention, x = MultiHeadAttention(8, 2).double(), mg.tensor(rng.normal(size=(3, 4, 8)), requires_grad=True)
    expected = saturation(attention, x, x, x)
    if frozen:
        attention.requires_grad_(False)
    seen = saturation(attention, x, x, x)
    assert seen[""].measured.all()
    assert equal(seen, expected, "")
    assert x.grad is None


def test_a_frozen_model_sends_the_same_gradients_through_its_layers(data):
    model = small_model()
    expected = saturation(model, *data)
    seen = saturation(model.requires_grad_(False), *data)
    for path in seen:
        np.testing.assert_allclose(seen[path].row_gradient, expected[path].row_gradient, rtol=1e-9)


@pytest.mark.parametrize("src", [np.zeros((2, 4), int), np.zeros((2, 0), int)])
def test_sources_without_a_token_have_rows_without_keys(data, src):
    seen = saturation(small_model(), src, data[1])
    assert seen[CROSS].left_out == {"no key": 24, "one key": 0, "not finite": 0, "no gradient": 0}
    assert seen["decoder.layers.1.self_attn"].measured.any()


def test_an_attention_that_the_loss_does_not_reach_has_no_gradient(data):
    model = small_model()

    def of_memory(logits):
        return (logits * 0).sum() + (captured["encoder.layers.1"] ** 2).mean()

    with nn.capture(model, "encoder.layers.1") as captured:
        seen = saturation(model, *data, loss=of_memory)
    assert seen[CROSS].left_out["no gradient"] == 2 * 2 * 6
    assert not np.isfinite(seen.per_head("gain.mean")[2:]).any()
    assert np.isfinite(seen.per_head("gain.mean")[:2]).all()


# ------------------------------------------------------------------------------------------- looking changes nothing
class Noisy(nn.Module):
    """It draws random numbers in evaluation, too."""

    def __init__(self):
        super().__init__()
        self.attention = MultiHeadAttention(8, 2)

    def forward(self, x):
        x = F.dropout(x, 0.5, training=True) + mg.from_numpy(mg.random.generator().normal(size=8).astype(np.float32))
        return self.attention(x, x, x)


def test_everything_is_left_as_it_was(data, rng):
    model = small_model(dropout=0.3, norm="batch")
    mg.ops.cross_entropy(model(data[0], data[1][:, :-1]), data[1][:, 1:], ignore_index=0).backward()
    before = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    state, random = {name: x.numpy().copy() for name, x in model.state_dict().items()}, mg.random.get_state()
    with mg.no_grad():
        saturation(model, *data)
    assert model.training
    assert mg.random.get_state() == random
    assert all(np.array_equal(p.grad.numpy(), before[name]) for name, p in model.named_parameters())
    assert all(np.array_equal(x.numpy(), state[name]) for name, x in model.state_dict().items())
    with pytest.raises(ZeroDivisionError):
        saturation(model, *data, loss=lambda y: 1 / 0)
    assert model.training
    assert all(np.array_equal(p.grad.numpy(), before[name]) for name, p in model.named_parameters())


def test_random_numbers_drawn_in_evaluation_are_given_back(rng):
    model, x = Noisy(), mg.randn(2, 4, 8)
    random = mg.random.get_state()
    saturation(model, x)
    assert mg.random.get_state() == random


def test_other_captures_change_nothing_and_see_the_real_run_last(data):
    model = small_model()
    alone = saturation(model, *data)
    with nn.capture(model) as everything, nn.capture(model, "*pattern", grad=True):
        watched = saturation(model, *data)
    assert all(equal(alone, watched, path) for path in alone)
    p = everything[f"{CROSS}.pattern"].detach().numpy()
    measured = alone[CROSS].measured
    np.testing.assert_array_equal(p.max(-1)[measured], alone[CROSS].max_p[measured])


def test_one_attention_can_be_sharpened(data):
    model = small_model()
    before = saturation(model, *data)
    with sharpen(model, 1e6, CROSS):
        after = saturation(model, *data)
    assert equal(before, after, "encoder.layers.0.self_attn") is False  # another gradient arrives,
    for path in before:
        same = np.allclose(before[path].entropy, after[path].entropy, equal_nan=True)
        assert same == (path != CROSS)  # but the patterns are the same
    np.testing.assert_allclose(after.per_head("entropy.mean")[-1], 0, atol=1e-3)
    with sharpen(model, 3.0, []):
        assert equal(before, saturation(model, *data))
    assert equal(before, saturation(model, *data))


def test_an_attention_that_is_not_there_cannot_be_sharpened():
    with pytest.raises(
        ValueError, match=r"sharpen\(\): there is no attention 'decoder.*7.cross_attn'\. Near: 'decoder"
    ):
        sharpen(small_model(), 2.0, "decoder.layers.7.cross_attn").__enter__()


# ---------------------------------------------------------------------------------------------------------- summing up
@pytest.fixture
def one_head(rng):
    x = mg.randn(2, 10, 8)
    return saturation(MultiHeadAttention(8, 1), x, x, x)


def test_the_table_has_every_summary_of_every_head(data):
    seen = saturation(small_model(), *data)
    table = seen.table()
    assert [(r["attention"], r["head"]) for r in table] == [(path, head) for path in seen for head in (0, 1)]
    for record in table:
        rows, head = seen[record["attention"]], record["head"]
        values = rows.gain[:, head][rows.measured[:, head]]
        assert record["measured"] == len(values)
        assert record["left_out"] == rows.measured[:, head].size - len(values)
        assert record["gain.mean"] == pytest.approx(values.mean())
        assert record["gain.median"] == pytest.approx(np.median(values))
        for q in (5, 25, 75, 95):
            assert record[f"gain.q{q:02}"] == pytest.approx(np.quantile(values, q / 100))
    column = seen.per_head("jacobian.q25")
    assert column.shape == (6, 2)
    assert [r["jacobian.q25"] for r in table] == column.flatten().tolist()
    by_gain = [r["gain.median"] for r in seen.table("gain.median", reverse=True)]
    assert by_gain == sorted(by_gain, reverse=True)
    assert [r["head"] for r in seen.table(sort="head")] == [0] * 6 + [1] * 6


def test_heads_without_rows_are_nan_and_come_last(data):
    model = small_model()
    model.decoder.layers[1].cross_attn.out_proj.weight.data[:, :4] = 0  # head 0 is not used
    seen = saturation(model, *data)
    assert np.isnan(seen.per_head("gain.mean")[-1]).tolist() == [True, False]
    assert seen.per_head("measured")[-1].tolist() == [0, 10]
    for reverse in (False, True):
        assert seen.table("gain.mean", reverse=reverse)[-1]["attention"] == CROSS
    assert seen.ecdf(CROSS, 0).values.size == 0
    assert np.isnan(seen.ecdf(CROSS, 0).median)
    assert seen.ecdf(CROSS).values.size == 10


def test_attentions_may_have_different_numbers_of_heads(rng):
    model = nn.ModuleList([MultiHeadAttention(8, 2), MultiHeadAttention(8, 4)])
    model.forward = lambda x: model[1](*[model[0](x, x, x)] * 3)
    column = saturation(model, mg.randn(2, 3, 8)).per_head("entropy.mean")
    assert np.isnan(column).tolist() == [[False, False, True, True], [False] * 4]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.per_head("entropy"), r"there is no column 'entropy'. Near: entropy\."),
        (lambda s: s.table(sort="died"), r"there is no column 'died'. Near: "),
        (lambda s: s.ecdf("decoder"), r"there is no attention 'decoder'. Near: ''"),
        (lambda s: s.ecdf("", 1), r"head is 1; '' has heads 0 to 0"),
        (lambda s: s.ecdf("", statistic="grain"), r"there is no statistic 'grain'; it must be entropy, "),
    ],
)
def test_what_is_not_there_is_an_error(one_head, ask, message):
    with pytest.raises(ValueError, match=f"Saturation: {message}"):
        ask(one_head)


def test_it_prints_as_a_table(one_head, data):
    headline, names, row = repr(one_head).splitlines()
    assert headline.startswith("Saturation: 1 attention, 20 rows measured; dead: |J g| < 0.001 |g|")
    assert names.split()[:3] == ["attention", "head", "measured"]
    assert row.split()[:4] == ["(the", "model)", "0", "20"]
    assert len(row.split()) == 2 + 9
    assert "<caption>Saturation: 1 attention, 20 rows" in one_head._repr_html_()
    assert one_head._repr_html_().count("<tr>") == 2
    seen = saturation(small_model(), *data)
    assert "104 rows measured (8 one key, 24 no gradient: left out)" in repr(seen)
    assert len(repr(seen).splitlines()) == 2 + 12
    many = saturation(small_model(num_encoder_layers=9, nhead=4), *data)
    assert repr(many).splitlines()[-1] == "... and 4 heads more: table() has all"


# -------------------------------------------------------------------------------------------------------------- errors
def test_a_model_without_a_softmax_is_an_error():
    with pytest.raises(ValueError, match=r"no part of this Linear has taps `scores` and `pattern`.*Let it show them"):
        saturation(nn.Linear(2, 3), mg.randn(1, 2))


def test_an_output_that_depends_on_no_softmax_is_an_error(rng):
    attention = MultiHeadAttention(8, 2)
    attention.forward = lambda x: x
    with pytest.raises(
        ValueError, match=r"saturation\(\): nothing that this MultiHeadAttention returns depends on the"
    ):
        saturation(attention, mg.randn(2, 3, 8))
