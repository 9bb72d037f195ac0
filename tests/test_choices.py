"""From the configuration to the modules: every setting arrives where it belongs, for every choice of the others."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minitransformer import (
    ATTENTIONS,
    FEED_FORWARDS,
    NORMS,
    POSITIONS,
    Cache,
    Classifier,
    Encoder,
    FeedForward,
    GRUConfig,
    GRUSeq2Seq,
    LanguageModel,
    MultiHeadAttention,
    Segments,
    SwiGLU,
    Transformer,
)
from minitransformer.checks import check_sizes, choose
from minitransformer.positions import INSIDE_ATTENTION, Axial, Learned
from minitransformer.scores import scale_of
from tests.models import sentences, small_config, small_model


@pytest.mark.parametrize(("scale", "number"), [("sqrt", 0.5), ("d_k", 0.25), ("none", 1.0), (0.3, 0.3)])
@pytest.mark.parametrize("attention", ["scaled_dot", "general"])
@pytest.mark.parametrize("positions", ["relative", "transformer_xl"])
def test_the_scale_is_that_of_the_scores_and_of_what_is_added_to_them(positions, attention, scale, number):
    model = Transformer(small_config(attention_scale=scale, attention=attention, positions=positions))
    for stack in (model.encoder, model.decoder):
        assert stack.layers[1].self_attn.score.scale == number
        assert stack.positions.of_layer(1).scale == number


def test_t5_looks_both_ways_where_it_may():
    model = Transformer(small_config(positions="t5", cross_positions=True))
    assert model.encoder.positions.bidirectional
    assert not model.decoder.positions.bidirectional
    assert model.decoder.cross_positions.bidirectional
    assert not LanguageModel(small_config(positions="t5")).decoder.positions.bidirectional
    assert Classifier(small_config(positions="t5"), 2).encoder.positions.bidirectional


@pytest.mark.parametrize("positions", INSIDE_ATTENTION)
def test_positions_across_are_others_than_those_of_the_decoder_itself(positions):
    decoder = Transformer(small_config(positions=positions, cross_positions=True)).decoder
    assert type(decoder.cross_positions) is type(decoder.positions)
    assert not set(map(id, decoder.cross_positions.parameters())) & set(map(id, decoder.positions.parameters()))


@pytest.mark.parametrize("norm", set(NORMS) - {"none"})
def test_eps_and_padding_arrive_at_every_norm(norm):
    model = Transformer(small_config(norm=norm, layer_norm_eps=0.25, final_norm=True, embedding_norm=True))
    norms = [m for m in model.modules() if type(m) is type(model.encoder.norm)]
    assert len(norms) == 2 * 2 + 2 * 3 + 2 + 2
    assert {m.eps for m in norms} == {0.25}
    for padding in (True, False) if norm == "batch" else ():
        assert (
            Transformer(small_config(norm=norm, batch_norm_padding=padding)).encoder.layers[0].add_norm1.norm.padding
            is padding
        )


@pytest.mark.parametrize("activation", set(FEED_FORWARDS) - {"none"})
def test_dropout_and_bias_arrive_at_every_feed_forward_network(activation):
    config = small_config(activation=activation, activation_dropout=0.25, bias=False)
    ffn = Transformer(config).decoder.layers[0].ffn
    assert type(ffn) is (SwiGLU if activation == "swiglu" else FeedForward)
    assert ffn.dropout.p == 0.25
    assert not any(name.endswith("bias") for name, _ in ffn.named_parameters())
    assert all(p.shape in ((12, 8), (8, 12)) for p in ffn.parameters())


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("gelu", lambda x: x / 2 * (1 + np.vectorize(__import__("math").erf)(x / np.sqrt(2)))),
        ("gelu_tanh", lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    ],
)
def test_activations_are_their_formulas(activation, formula, rng):
    x = rng.standard_normal(50)
    ffn = FeedForward(2, 3, activation).double()
    np.testing.assert_allclose(ffn.activation(mg.tensor(x)).numpy(), formula(x), rtol=1e-12)


def test_parameters_start_at_their_sizes():
    mg.manual_seed(0)
    attention = MultiHeadAttention(64, 2, head_dim=400, attention="additive").score
    for parameter in (attention.w, attention.u, attention.v):
        assert parameter.detach().numpy().std() == pytest.approx(1 / 20, rel=0.1)
    for name, std in {"transformer_xl": 0.02, "relative": 200**-0.5, "t5": 800**-0.5}.items():
        scheme = POSITIONS[name](small_config(d_model=800, nhead=4), 1, True).of_layer(0)
        for table in [
            getattr(scheme, part) for part in ("u", "v", "keys", "values", "weight") if hasattr(scheme, part)
        ]:
            assert table.detach().numpy().std() == pytest.approx(std, rel=0.2)


# ------------------------------------------------------------------------------------ padding, of norms over the batch
def more_padding(ids):
    return np.concatenate([ids, np.zeros((len(ids), 3), int)], axis=1)


@pytest.mark.parametrize("changes", [{"embedding_norm": True}, {"final_norm": True}, {"norm_first": True}])
def test_padding_counts_in_no_batch_norm_of_a_translator(changes, rng):
    model = small_model(norm="batch", **changes)
    src, tgt = sentences(rng, [4, 5]), sentences(rng, [5, 3], bos=True)
    before, after = model(src, tgt), model(more_padding(src), more_padding(tgt))
    np.testing.assert_allclose(after.detach().numpy()[:, :5][tgt != 0], before.detach().numpy()[tgt != 0], atol=1e-12)


@pytest.mark.parametrize("changes", [{}, {"embedding_norm": True, "final_norm": True}])
def test_padding_counts_in_no_batch_norm_of_half_a_transformer(changes, rng):
    ids = sentences(rng, [4, 5])
    language = LanguageModel(small_config(norm="batch", **changes)).double()
    before, after = language(ids), language(more_padding(ids))
    np.testing.assert_allclose(after.detach().numpy()[:, :5][ids != 0], before.detach().numpy()[ids != 0], atol=1e-12)
    classifier = Classifier(small_config(norm="batch", **changes), 3).double()
    before, after = classifier(ids), classifier(more_padding(ids))
    np.testing.assert_allclose(after.detach().numpy(), before.detach().numpy(), atol=1e-12)


# -------------------------------------------------------------------------------------------------------- wrong choices
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MultiHeadAttention(8, 2, attention="dot"),
            r"MultiHeadAttention\(\): attention is 'dot'; it must be one of",
        ),
        (lambda: MultiHeadAttention(8, 0), r"MultiHeadAttention\(\): nhead is 0; it must be an integer of at least 1"),
        (lambda: MultiHeadAttention(8, 2, head_dim=0), "head_dim is 0; it must be an integer of at least 1"),
        (lambda: MultiHeadAttention(8, 2, attention="additive", head_dim=2.5), "head_dim is 2.5; it must be"),
        (lambda: ATTENTIONS["additive"](0, 2, "sqrt"), r"Additive\(\): head_dim is 0; it must be"),
        (lambda: ATTENTIONS["general"](4, 0, "sqrt"), r"General\(\): nhead is 0; it must be"),
        (lambda: FeedForward(4, 8, "swiglu"), r"FeedForward\(\): activation is 'swiglu'; it must be one of 'gelu', "),
        (lambda: Learned(0, 8), r"Learned\(\): max_len is 0; it must be"),
        (lambda: Axial(0, 8), r"Axial\(\): max_len is 0; it must be"),
        (lambda: Classifier(small_config(), 0), r"Classifier\(\): num_classes is 0; it must be"),
        (lambda: Cache(-1), r"Cache\(\): num_layers is -1; it must be"),
        (lambda: Segments(2, 2.5), r"Segments\(\): memory_len is 2.5; it must be an integer of at least 0"),
        (lambda: scale_of(True, 4), "scale is True; it must be a number or one of"),
        (lambda: scale_of(float("nan"), 4), "scale is nan; it must be a number or one of"),
        (lambda: scale_of(None, 4), "scale is None; it must be a number or one of"),
        (lambda: check_sizes("f", 3, a=3, b=2), r"f\(\): b is 2; it must be an integer of at least 3"),
        (lambda: choose("f", "a", {"y": 1, "x": 2}, 3), r"f\(\): a is 3; it must be one of 'x', 'y'"),
    ],
)
def test_what_cannot_be_is_answered_with_what_can(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_cache_of_another_model_is_an_error_and_stays_as_it_was(rng):
    model, ids = LanguageModel(small_config()), sentences(rng, [3])
    cache = Cache(3)
    with pytest.raises(ValueError, match=r"Encoder\(\): the cache is for 3 layers; there are 2"):
        model(ids, cache)
    assert cache.layers[0].self_attn.kept is None
    translator = small_model()
    with pytest.raises(ValueError, match="the cache is the memory of a language model"):
        translator.decode(ids, translator.encode(ids), cache=Segments(2, 4))


def test_padding_cannot_go_into_a_cache(rng):
    model = LanguageModel(small_config())
    with pytest.raises(ValueError, match=r"LanguageModel\(\): there is padding in .* a cache.*step=Continue"):
        model([[5, 6, 7], [8, 9, 0]], model.new_cache())
    nn.init.zeros_(model.generator.weight)
    assert model([[5, 6, 7], [8, 9, 4]], model.new_cache()).shape == (2, 3, 13)


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_memory_is_for_schemes_that_do_not_count_from_the_beginning(positions):
    model = LanguageModel(small_config(positions=positions))
    if positions in (*INSIDE_ATTENTION, "none"):
        assert model.new_memory(4).length == 0
    else:
        with pytest.raises(ValueError, match=rf"LanguageModel: {positions} positions count from the beginning"):
            model.new_memory(4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Transformer(GRUConfig(src_vocab_size=9)),
            r"Transformer\(\): config is a GRUConfig; it must be a Transf",
        ),
        (lambda: LanguageModel(20), r"LanguageModel\(\): config is a int; it must be a TransformerConfig"),
        (lambda: Classifier({}, 2), r"Classifier\(\): config is a dict; it must be a TransformerConfig"),
        (lambda: GRUSeq2Seq(small_config()), r"GRUSeq2Seq\(\): config is a TransformerConfig; it must be a GRUConfig"),
    ],
)
def test_a_configuration_of_another_kind_is_an_error(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_rows_of_different_lengths_have_to_be_filled_up():
    with pytest.raises(mg.ShapeError, match=r"the rows of src have different lengths\. Fill them up with pad_id"):
        small_model()([[5, 6], [7]], [[1]])
    assert LanguageModel(small_config())([[]]).shape == (1, 0, 13)


def test_a_causal_encoder_needs_no_mask_to_be_one(rng):
    encoder = Encoder(small_config(), causal=True).double()
    x = rng.standard_normal((1, 4, 8))
    before = encoder(mg.tensor(x)).detach().numpy()
    x[0, 3] = 0
    assert np.array_equal(encoder(mg.tensor(x)).detach().numpy()[:, :3], before[:, :3])


def test_a_memory_is_of_its_texts():
    model = LanguageModel(small_config(positions="transformer_xl"))
    memory = model.new_memory(4)
    model([[5, 6], [7, 8]], memory)
    with pytest.raises(mg.ShapeError, match=r"Segment: 1 texts, and a memory of 2\. Make a new memory"):
        model([[5, 6]], memory)
