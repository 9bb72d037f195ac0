"""The configuration: checked when made, complete when written down, and every field of it has an effect."""

import dataclasses
import json

import numpy as np
import pytest

import minigrad as mg
from minitransformer import Transformer, TransformerConfig, greedy
from tests.models import SMALL, sentences, small_config

FIELDS = [field.name for field in dataclasses.fields(TransformerConfig)]

WRONG = [
    ("d_model", 0, "d_model is 0; it must be an integer of at least 1."),
    ("d_model", 7, "d_model is 7; it must be even, for sinusoidal positions."),
    ("nhead", 3, "nhead is 3; it must be a divisor of d_model = 8, or give head_dim."),
    ("nhead", True, "nhead is True; it must be an integer of at least 1."),
    ("num_encoder_layers", 1.0, "num_encoder_layers is 1.0; it must be an integer of at least 1."),
    ("num_decoder_layers", -1, "num_decoder_layers is -1; it must be an integer of at least 1."),
    ("dim_feedforward", "64", "dim_feedforward is '64'; it must be an integer of at least 1."),
    ("src_vocab_size", 0, "src_vocab_size is 0; it must be an integer of at least 1."),
    ("tgt_vocab_size", 0, "tgt_vocab_size is 0; it must be an integer of at least 1, or None."),
    ("head_dim", 0, "head_dim is 0; it must be an integer of at least 1, or None."),
    ("max_len", 0, "max_len is 0; it must be an integer of at least 1."),
    ("dropout", 1.0, "dropout is 1.0; it must be at least 0 and below 1."),
    ("dropout", float("nan"), "dropout is nan; it must be at least 0 and below 1."),
    ("activation_dropout", -0.1, "activation_dropout is -0.1; it must be at least 0 and below 1."),
    ("layer_norm_eps", 0, "layer_norm_eps is 0; it must be positive."),
    ("norm_first", 1, "norm_first is 1; it must be True or False."),
    ("bias", None, "bias is None; it must be True or False."),
    ("residual", "no", "residual is 'no'; it must be True or False."),
    ("tie_weights", 0, "tie_weights is 0; it must be True or False."),
    ("scale_embedding", 8.0, "scale_embedding is 8.0; it must be True or False."),
    ("share_qk", None, "share_qk is None; it must be True or False."),
    ("final_norm", "yes", "final_norm is 'yes'; it must be True, False or None."),
    ("activation", "swish", "activation is 'swish'; it must be one of 'gelu', 'gelu_tanh', 'none', 'relu', 'swiglu'."),
    (
        "positions",
        None,
        "positions is None; it must be one of 'alibi', 'axial', 'learned', 'none', 'relative', ",
    ),
    ("attention", "dot", "attention is 'dot'; it must be one of 'additive', 'general', 'scaled_dot'."),
    ("norm", "group", "norm is 'group'; it must be one of 'batch', 'layer', 'none', 'rms'."),
    ("max_relative_distance", 0, "max_relative_distance is 0; it must be an integer of at least 1."),
    ("t5_buckets", None, "t5_buckets is None; it must be an integer of at least 1."),
    ("t5_max_distance", 0.5, "t5_max_distance is 0.5; it must be an integer of at least 1."),
    ("cross_positions", 1, "cross_positions is 1; it must be True or False."),
    ("attention_scale", "d", "attention_scale is 'd'; it must be a number, or one of 'd_k', 'none', 'sqrt'."),
    ("attention_scale", True, "attention_scale is True; it must be a number, or one of 'd_k', 'none', 'sqrt'."),
    ("attention_scale", float("inf"), "attention_scale is inf; it must be a number, or one of 'd_k', 'none', 'sqrt'."),
    ("layer_norm_eps", float("inf"), "layer_norm_eps is inf; it must be positive."),
    ("batch_norm_padding", None, "batch_norm_padding is None; it must be True or False."),
    ("embedding_norm", 1, "embedding_norm is 1; it must be True or False."),
    ("embedding_std", "1", "embedding_std is '1'; it must be positive, or None."),
    ("embedding_std", 0, "embedding_std is 0; it must be positive, or None."),
    ("pad_id", 11, "pad_id is 11; it must be a token, 0 to 10, unlike the other two"),
    ("bos_id", 0, "pad_id is 0; it must be a token, 0 to 10, unlike the other two"),
    ("eos_id", -1, "eos_id is -1; it must be a token, 0 to 10, unlike the other two"),
]


@pytest.mark.parametrize(("field", "value", "message"), WRONG)
def test_an_illegal_value_is_named_with_what_would_be_legal(field, value, message):
    with pytest.raises(ValueError, match="TransformerConfig: ") as caught:
        small_config(**{field: value})
    assert message in str(caught.value)


def test_every_field_can_be_wrong():
    assert {field for field, _, _ in WRONG} == set(FIELDS)


def test_odd_d_model_is_legal_where_nothing_comes_in_pairs():
    config = small_config(d_model=7, nhead=1, positions="learned")
    assert Transformer(config)([[3]], [[1]]).shape == (1, 1, 11)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"positions": "sinusoidal_init", "d_model": 7, "nhead": 1},
            "d_model is 7; it must be even",
        ),
        (
            {"positions": "transformer_xl", "d_model": 7, "nhead": 1},
            "it must be even, for transformer_xl",
        ),
        ({"positions": "axial", "d_model": 1, "nhead": 1}, "d_model is 1; it must be at least 2, for axial positions"),
        (
            {"positions": "rotary", "d_model": 6},
            "d_model is 6; it must be such that heads have an even size",
        ),
        ({"positions": "rotary", "head_dim": 3}, "head_dim is 3; it must be such that heads have an even size"),
        ({"positions": "learned", "cross_positions": True}, "cross_positions is True; it must be False, for learned"),
        ({"attention": "additive", "attention_scale": 0.5}, "attention_scale is 0.5; it must be 'sqrt', for additive"),
        ({"positions": "t5", "t5_buckets": 5}, "t5_buckets is 5; it must be even, and at least 4"),
        ({"positions": "t5", "t5_max_distance": 16}, "t5_max_distance is 16; it must be above half of t5_buckets"),
    ],
)
def test_what_a_scheme_of_positions_needs_is_checked_with_it(settings, message):
    with pytest.raises(ValueError, match=message):
        small_config(**settings)
    Transformer(small_config(**settings | {"positions": "alibi", "attention": "general"}))


def test_written_as_json_and_read_again_it_is_the_same():
    config = small_config(positions="learned", head_dim=3, final_norm=True, dropout=0.25, norm_first=True)
    assert TransformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert list(config.to_dict()) == FIELDS


def test_an_unknown_field_is_an_error():
    with pytest.raises(ValueError, match=r"there is no field 'd_modell'\. Did you mean 'd_model'\?"):
        TransformerConfig.from_dict({"src_vocab_size": 9, "d_modell": 8})
    with pytest.raises(ValueError, match=r"there is no field 'zzz'\. The fields are src_vocab_size, tgt_vocab_size"):
        TransformerConfig.from_dict({"src_vocab_size": 9, "zzz": 8})


def test_it_cannot_be_changed_and_takes_keywords_only():
    config = small_config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dropout = 0.5
    with pytest.raises(TypeError, match="positional"):
        TransformerConfig(100)


@pytest.mark.parametrize(
    ("changes", "ends_with_norm"),
    [
        ({}, False),
        ({"norm_first": True}, True),
        ({"final_norm": True}, True),
        ({"norm_first": True, "final_norm": False}, False),
    ],
)
def test_final_norm_follows_norm_first_unless_it_is_given(changes, ends_with_norm):
    model = Transformer(small_config(**changes))
    names = {name for name, _ in model.named_parameters()}
    assert model.config.ends_with_norm is ends_with_norm
    assert ({"encoder.norm.weight", "decoder.norm.weight"} <= names) is ends_with_norm


# ----------------------------------------------------------------------------------------- every field has an effect
# Field -> (settings of both, the other value). What changes is the parameters, ...
PARAMETERS = {
    "src_vocab_size": ({}, 14),
    "tgt_vocab_size": ({}, None),
    "d_model": ({}, 12),
    "num_encoder_layers": ({}, 3),
    "num_decoder_layers": ({}, 3),
    "dim_feedforward": ({}, 13),
    "bias": ({}, False),
    "head_dim": ({}, 5),
    "share_qk": ({}, True),
    "norm": ({}, "none"),
    "final_norm": ({}, True),
    "tie_weights": ({}, True),
    "max_len": ({"positions": "learned"}, 41),
    "max_relative_distance": ({"positions": "relative"}, 3),
    "t5_buckets": ({"positions": "t5"}, 16),
    "cross_positions": ({"positions": "relative"}, True),
    "embedding_norm": ({}, True),
    "attention": ({}, "additive"),
}
# ... or, with equal parameters, what the model computes,
OUTPUTS = {
    "nhead": ({}, 4),
    "dropout": ({}, 0.5),
    "activation_dropout": ({}, 0.5),
    "activation": ({}, "gelu"),
    "norm_first": ({"final_norm": True}, True),
    "layer_norm_eps": ({}, 0.1),
    "positions": ({}, "none"),
    "residual": ({}, False),
    "scale_embedding": ({}, False),
    "attention_scale": ({}, "none"),
    "t5_max_distance": ({"positions": "t5", "t5_buckets": 4}, 3),
    "batch_norm_padding": ({"norm": "batch"}, True),
    "pad_id": ({}, 10),
}
# ... or from where it starts,
STARTS = {"embedding_std": ({}, 1.0)}
# ... or what it writes.
SENTENCES = {"bos_id": ({}, 6), "eos_id": ({}, 4)}


def run(settings):
    """Shapes of the parameters, their values, and the logits in training mode."""
    mg.manual_seed(0)
    model = Transformer(TransformerConfig(**SMALL | settings))
    parameters = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    rng = np.random.default_rng(0)
    logits = model(sentences(rng, [5, 3]), sentences(rng, [4, 4], bos=True))
    return model, {name: p.shape for name, p in parameters.items()}, parameters, logits.detach().numpy()


def test_no_field_is_forgotten():
    assert sorted([*PARAMETERS, *OUTPUTS, *STARTS, *SENTENCES]) == sorted(FIELDS)


@pytest.mark.parametrize("field", PARAMETERS)
def test_field_changes_the_parameters(field):
    both, value = PARAMETERS[field]
    assert run(both)[1] != run({**both, field: value})[1]


@pytest.mark.parametrize("field", OUTPUTS)
def test_field_changes_the_outputs(field):
    both, value = OUTPUTS[field]
    _, shapes, parameters, logits = run(both)
    _, other_shapes, other_parameters, other_logits = run({**both, field: value})
    assert shapes == other_shapes
    if field != "pad_id":  # whose embedding starts at 0
        assert all(np.array_equal(parameters[name], other_parameters[name]) for name in parameters)
    assert np.abs(logits - other_logits).max() > 1e-3


@pytest.mark.parametrize("field", STARTS)
def test_field_changes_the_start(field):
    both, value = STARTS[field]
    before, after = run(both)[2]["tgt_embed.weight"], run({**both, field: value})[2]["tgt_embed.weight"]
    assert after.std() > 2 * before.std()


@pytest.mark.parametrize("field", SENTENCES)
def test_field_changes_the_sentences_that_are_written(field):
    both, value = SENTENCES[field]
    written = []
    for settings in (both, {**both, field: value}):
        model = run(settings)[0]
        src = sentences(np.random.default_rng(0), [5, 4, 3, 6, 2])
        written.append(greedy(model, src).tolist())
    assert written[0] != written[1]
