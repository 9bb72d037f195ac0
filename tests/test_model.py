"""The whole model: what it may depend on and what not, what it shows, how it starts, what it shares."""

import copy
import gc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core import Observer, observe
from minitransformer import MultiHeadAttention, Transformer, padding_mask
from tests.models import sentences, small_config, small_model

VARIANTS = {
    "the paper": {},
    "pre-norm": {"norm_first": True},
    "learned": {"positions": "learned", "tie_weights": True},
    "plain": {"positions": "none", "norm": "none", "residual": False},
    "odd heads": {"head_dim": 3, "share_qk": True, "activation": "gelu", "bias": False},
}
variants = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)


def values(x):
    return x.detach().numpy()


# ---------------------------------------------------------------------------------------------------------- dependence
@variants
def test_the_future_changes_nothing_bit_for_bit(changes, rng):
    model = small_model(**changes)
    src, tgt = sentences(rng, [6, 3]), sentences(rng, [7, 7], bos=True)
    before = values(model(src, tgt))
    for t in range(1, 7):
        other = tgt.copy()
        other[:, t:] = (tgt[:, t:] - 3 + rng.integers(1, 7)) % 8 + 3  # other tokens at t and after
        after = values(model(src, other))
        assert np.array_equal(after[:, :t], before[:, :t])
        assert (np.abs(after[:, t:] - before[:, t:]).max(axis=(0, 2)) > 0).all()


@variants
def test_every_source_token_and_every_earlier_target_token_matters(changes, rng):
    model = small_model(**changes)
    src, tgt = sentences(rng, [4]), sentences(rng, [4], bos=True)
    with nn.capture(model, "src_embed.embed", "tgt_embed.embed", grad=True) as seen:
        logits = model(src, tgt)
    names = list(seen)  # with shared embeddings there is one module, used twice
    cotangent = np.zeros(logits.shape)
    cotangent[0, 2] = rng.standard_normal(logits.shape[-1])
    logits.backward(cotangent)
    source, target = (seen[name].grad.numpy()[0] for name in names)
    assert (np.abs(source).sum(axis=1) > 0).all()
    assert (np.abs(target).sum(axis=1) > 0).tolist() == [True, True, True, False]


def gradients(model):
    return {name: p.grad.numpy().copy() for name, p in model.named_parameters()}


@variants
def test_a_sentence_is_treated_the_same_alone_and_in_a_padded_batch(changes, rng):
    model = small_model(**changes)
    source, target = [6, 2, 4, 1], [3, 5, 1, 4]
    src, tgt = sentences(rng, source), sentences(rng, target, bos=True)
    cotangent = rng.standard_normal((4, 5, 11)) * (tgt != 0)[:, :, None]
    together = model(src, tgt)
    together.backward(cotangent)
    batch_gradients = gradients(model)
    model.zero_grad()
    for i, (s, t) in enumerate(zip(source, target, strict=True)):
        alone = model(src[i : i + 1, :s], tgt[i : i + 1, :t])
        np.testing.assert_allclose(values(alone)[0], values(together)[i, :t], rtol=1e-12, atol=1e-12)
        alone.backward(cotangent[i : i + 1, :t])  # gradients add up over the sentences
    size = max(np.abs(g).max() for g in batch_gradients.values())
    for name, gradient in gradients(model).items():
        np.testing.assert_allclose(gradient, batch_gradients[name], rtol=0, atol=1e-12 * size, err_msg=name)


@variants
def test_what_stands_at_padding_changes_nothing_bit_for_bit(changes, rng):
    model = small_model(**changes)
    src, tgt = sentences(rng, [6, 2, 4]), sentences(rng, [3, 5, 1], bos=True)
    real = (tgt != 0)[:, :, None]
    with nn.patch(model, {"*_embed.embed": lambda x: x}):  # at the same zoom level as below
        before, memory = values(model(src, tgt)), values(model.encode(src))
    noise = 100 * rng.standard_normal(8)
    with nn.patch(
        model, {"*_embed.embed": lambda x: mg.where((src if x.shape[1] == 6 else tgt)[:, :, None] == 0, noise, x)}
    ):
        after, changed_memory = values(model(src, tgt)), values(model.encode(src))
    assert np.array_equal(np.where(real, before, 0), np.where(real, after, 0))
    assert np.array_equal(memory[src != 0], changed_memory[src != 0])
    assert not np.array_equal(memory[src == 0], changed_memory[src == 0])


@pytest.mark.parametrize(("positions", "equivariant"), [("none", True), ("sinusoidal", False), ("learned", False)])
def test_without_positions_the_encoder_does_not_know_the_order(positions, equivariant, rng):
    model = small_model(positions=positions)
    src, order = sentences(rng, [7, 7]), rng.permutation(7)
    error = np.abs(values(model.encode(src))[:, order] - values(model.encode(src[:, order]))).max()
    assert error < 1e-12 if equivariant else error > 0.1


def test_a_source_of_padding_only_is_harmless(rng):
    model = small_model()
    src, tgt = sentences(rng, [4, 0]), sentences(rng, [3, 3], bos=True)
    logits = model(src, tgt)
    logits.backward(rng.standard_normal(logits.shape))
    assert np.isfinite(values(logits)).all()
    assert all(np.isfinite(g).all() for g in gradients(model).values())


# ------------------------------------------------------------------------------------------------------- what it shows
@variants
def test_declared_taps_are_fired_taps(changes, rng):
    model = small_model(**changes)
    declared = {f"{path}.{tap}".lstrip(".") for path, module in model.named_modules() for tap in module.taps}
    with nn.capture(model) as seen:
        model(sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True))
    assert declared <= set(seen)
    ends = ("pattern", "resid_mid_cross", "ffn.post", "embed", "logits")
    assert all(any(name.endswith(end) for name in declared) for end in ends)


def test_taps_have_the_names_of_the_design(rng):
    model = small_model()
    with nn.capture(model, "decoder.layers.1.cross_attn.pattern", "*.pos", "*_embed.embed", "logits") as seen:
        logits = model(sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True))
    assert {name: value.shape for name, value in seen.items()} == {
        "src_embed.embed": (2, 4, 8),
        "encoder.positions.pos": (4, 8),
        "tgt_embed.embed": (2, 3, 8),
        "decoder.positions.pos": (3, 8),
        "decoder.layers.1.cross_attn.pattern": (2, 2, 3, 4),
        "logits": (2, 3, 11),
    }
    assert seen["logits"] is logits


def test_capturing_everything_changes_nothing_but_rounding(rng):
    model = small_model(dropout=0.3)
    src, tgt = sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True)
    mg.manual_seed(5)
    alone = values(model(src, tgt))
    mg.manual_seed(5)
    with nn.capture(model):
        np.testing.assert_allclose(values(model(src, tgt)), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", ["decoder.layers.1.cross_attn", "encoder.layers.0.self_attn"])
def test_an_error_says_in_which_module(path, rng):
    model = small_model()
    module = dict(model.named_modules())[path]
    module.q_proj = nn.Linear(5, 8)
    with pytest.raises(mg.ShapeError) as caught:
        model(sentences(rng, [4]), sentences(rng, [3], bos=True))
    assert "the weight of q has shape (8, 5)" in str(caught.value)
    assert caught.value.__notes__ == [f"in {path} (MultiHeadAttention)"]
    with nn.capture(module), pytest.raises(mg.ShapeError) as caught:
        model(sentences(rng, [4]), sentences(rng, [3], bos=True))
    assert caught.value.__notes__ == [f"in {path}.q_proj (Linear)"]
    module.q_proj = nn.Linear(8, 7)  # what comes out cannot be cut into two heads
    with pytest.raises(mg.ShapeError) as caught:
        model(sentences(rng, [4]), sentences(rng, [3], bos=True))
    assert caught.value.__notes__ == [f"in {path} (MultiHeadAttention)"]


class Weakly(Observer):
    def __init__(self):
        self.nodes = []

    def node(self, node, inputs, output):
        self.nodes.append(weakref.ref(node))
        self.nodes.append(weakref.ref(output))


@pytest.mark.parametrize("after_backward", [True, False])
def test_the_graph_is_freed_with_the_loss(after_backward, rng):
    model = small_model(dropout=0.1)
    gc.collect()
    gc.disable()
    try:
        with observe(Weakly()) as weakly:
            logits = model(sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True))
            loss = (logits * rng.standard_normal(logits.shape)).sum()
            assert sum(reference() is not None for reference in weakly.nodes) > 20
            if after_backward:
                loss.backward()
            del logits, loss
        assert [reference() for reference in weakly.nodes if reference() is not None] == []
    finally:
        gc.enable()


def test_evaluation_is_deterministic_and_training_is_not(rng):
    model = small_model(dropout=0.2)
    src, tgt = sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True)
    assert not np.array_equal(values(model(src, tgt)), values(model(src, tgt)))
    model.eval()
    assert np.array_equal(values(model(src, tgt)), values(model(src, tgt)))


# ------------------------------------------------------------------------------------------------------ embedding, ties
@pytest.mark.parametrize("scale_embedding", [True, False])
def test_embeddings_are_scaled(scale_embedding, rng):
    model = small_model(scale_embedding=scale_embedding)
    ids = sentences(rng, [4, 2])
    with nn.capture(model, "src_embed.embed") as seen:
        model.encode(ids)
    factor = 8**0.5 if scale_embedding else 1
    np.testing.assert_allclose(
        values(seen["src_embed.embed"]), values(model.src_embed.weight)[ids] * factor, rtol=1e-15
    )


def untied(model):
    """The same function with a table of its own for each use."""
    config = model.config
    separate = {**config.to_dict(), "tie_weights": False, "tgt_vocab_size": config.target_vocab_size}
    twin = Transformer(type(config)(**separate)).double()
    twin.load_state_dict(model.state_dict())
    return twin


@pytest.mark.parametrize("tgt_vocab_size", [None, 11])
def test_tied_weights_are_one_parameter_with_one_gradient(tgt_vocab_size, rng):
    model = small_model(tie_weights=True, tgt_vocab_size=tgt_vocab_size)
    twin = untied(model)
    src, tgt = sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True)
    logits, twin_logits = model(src, tgt), twin(src, tgt)
    np.testing.assert_allclose(values(logits), values(twin_logits), rtol=1e-12)
    cotangent = rng.standard_normal(logits.shape)
    logits.backward(cotangent)
    twin_logits.backward(cotangent)
    uses = [twin.tgt_embed.weight, twin.generator.weight]
    assert model.generator.weight is model.tgt_embed.weight
    if tgt_vocab_size is None:
        uses.append(twin.src_embed.weight)
        assert model.src_embed.weight is model.tgt_embed.weight
    total = np.sum([use.grad.numpy() for use in uses], axis=0)
    np.testing.assert_allclose(model.tgt_embed.weight.grad.numpy(), total, rtol=1e-12, atol=1e-13)
    names = [name for name, _ in model.named_parameters()]
    assert "generator.weight" not in names
    assert ("tgt_embed.weight" in names) == (tgt_vocab_size is not None)


def test_without_tying_nothing_is_shared():
    model = small_model(tgt_vocab_size=None)
    tables = [model.src_embed.weight, model.tgt_embed.weight, model.generator.weight]
    assert len({id(table) for table in tables}) == len({table.data.tobytes() for table in tables}) == 3


def test_without_bias_there_is_none_anywhere():
    names = [name for name, _ in small_model(bias=False, final_norm=True).named_parameters()]
    assert names
    assert [name for name in names if "bias" in name] == []


def test_a_copy_keeps_its_ties_and_owns_its_parameters(rng):
    model = small_model(tie_weights=True)
    twin = copy.deepcopy(model)
    src, tgt = sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True)
    assert twin.generator.weight is twin.tgt_embed.weight
    before = values(twin(src, tgt))
    assert np.array_equal(before, values(model(src, tgt)))
    model.tgt_embed.weight.data += 1
    assert np.array_equal(before, values(twin(src, tgt)))


def test_padding_has_no_gradient_as_an_embedding(rng):
    model = small_model()
    logits = model(sentences(rng, [4, 2]), sentences(rng, [3, 2], bos=True))
    logits.backward(rng.standard_normal(logits.shape))
    for table in (model.src_embed, model.tgt_embed):
        assert np.array_equal(table.weight.grad.numpy()[0], np.zeros(8))


# ----------------------------------------------------------------------------------------------------- start, counting
def test_parameters_start_as_documented(rng):
    model = Transformer(small_config(src_vocab_size=300, tgt_vocab_size=400, d_model=64, dim_feedforward=100))
    for name, parameter in model.named_parameters():
        p = values(parameter)
        if "embed" in name:
            assert p[1:].std() == pytest.approx(64**-0.5, rel=0.03)
            assert np.array_equal(p[0], np.zeros(64))
        elif name.endswith("bias"):
            assert np.array_equal(p, np.zeros_like(p))
        elif "norm" in name:
            assert np.array_equal(p, np.ones_like(p))
        else:
            bound = (6 / sum(p.shape)) ** 0.5
            assert np.abs(p).max() <= bound
            assert p.std() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_a_tied_table_starts_as_an_embedding(rng):
    weight = values(
        Transformer(
            small_config(src_vocab_size=500, tgt_vocab_size=None, d_model=64, tie_weights=True)
        ).generator.weight
    )
    assert weight[1:].std() == pytest.approx(64**-0.5, rel=0.03)
    assert np.array_equal(weight[0], np.zeros(64))


def test_the_seed_decides_the_start():
    mg.manual_seed(7)
    first = Transformer(small_config()).state_dict()
    mg.manual_seed(7)
    second = Transformer(small_config()).state_dict()
    assert all(np.array_equal(values(first[name]), values(second[name])) for name in first)


@variants
def test_every_parameter_gets_a_gradient(changes, rng):
    model = small_model(**changes)
    logits = model(sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True))
    logits.backward(rng.standard_normal(logits.shape))
    assert all(np.abs(g).max() > 0 for g in gradients(model).values())


def test_parameters_are_counted_by_part():
    counts = Transformer(small_config()).num_parameters()
    D, F, V, U, N = 8, 12, 13, 11, 2
    attention, ffn, norm = 4 * (D * D + D), 2 * D * F + F + D, 2 * D
    assert counts == {
        "src_embed": V * D,
        "tgt_embed": U * D,
        "encoder": N * (attention + ffn + 2 * norm),
        "decoder": N * (2 * attention + ffn + 3 * norm),
        "generator": U * D + U,
        "total": sum(n for name, n in counts.items() if name != "total"),
    }
    tied = Transformer(small_config(tie_weights=True, tgt_vocab_size=None)).num_parameters()
    assert (tied["src_embed"], tied["generator"]) == (V * D, V)
    assert tied["total"] == sum(tied.values()) - tied["total"]


def test_state_survives_a_round_trip(rng):
    model, other = (
        small_model(positions="learned", tie_weights=True),
        small_model(positions="learned", tie_weights=True),
    )
    src, tgt = sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True)
    assert not np.array_equal(values(model(src, tgt)), values(other(src, tgt)))
    other.load_state_dict(model.state_dict())
    assert np.array_equal(values(model(src, tgt)), values(other(src, tgt)))


# ------------------------------------------------------------------------------------------------------------- calling
def test_tensors_arrays_and_lists_are_all_tokens(rng):
    model = small_model()
    src, tgt = sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True)
    expected = values(model(src, tgt))
    assert np.array_equal(values(model(mg.tensor(src), mg.tensor(tgt))), expected)
    assert np.array_equal(values(model(src.tolist(), tgt.tolist())), expected)


def test_forward_is_encode_and_decode(rng):
    model = small_model()
    src, tgt = sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True)
    logits = model.decode(tgt, model.encode(src), padding_mask(src, 0))
    assert np.array_equal(values(logits), values(model(src, tgt)))


def test_float32_is_the_default_and_close_to_float64(rng):
    mg.manual_seed(0)
    model = Transformer(small_config())
    src, tgt = sentences(rng, [4, 2]), sentences(rng, [3, 3], bos=True)
    single = model(src, tgt)
    assert single.dtype == np.float32
    double = model.double()(src, tgt)
    assert double.dtype == np.float64
    np.testing.assert_allclose(values(single), values(double), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("src", "tgt", "message"),
    [
        ([4, 5], [[1]], r"src has shape \(2,\), dtype int64; it must be integers, \(batch, length\)"),
        ([[4]], [[1.0]], r"tgt has shape \(1, 1\), dtype float64; it must be integers"),
        ([[4], [5]], [[1]], r"tgt has shape \(1, 1\), the memory of src \(2, 1, 8\); one target per source"),
    ],
)
def test_what_is_not_a_batch_of_tokens_is_an_error(src, tgt, message):
    with pytest.raises(mg.ShapeError, match=rf": {message}"):
        small_model()(src, tgt)


def test_a_token_outside_of_the_vocabulary_is_an_error():
    with pytest.raises(IndexError, match=r"is not one of the 13 rows 0..12") as caught:
        small_model()([[4, 13]], [[1]])
    assert caught.value.__notes__ == ["in src_embed (TokenEmbedding)"]


def test_a_text_longer_than_the_learned_positions_is_an_error(rng):
    with pytest.raises(IndexError, match="the text has 41 tokens, the table 40 positions"):
        small_model(positions="learned")(sentences(rng, [41]), [[1]])


def test_attention_modules_are_where_the_design_says():
    paths = [path for path, m in small_model().named_modules() if isinstance(m, MultiHeadAttention)]
    encoder = [f"encoder.layers.{n}.self_attn" for n in (0, 1)]
    decoder = [f"decoder.layers.{n}.{kind}_attn" for n in (0, 1) for kind in ("self", "cross")]
    assert paths == encoder + decoder
