"""What depends on what: right models come out clean, and every planted leak is found, named and located."""

import itertools
import linecache

import numpy as np
import pytest

import minigrad as mg
from minitransformer import ATTENTIONS, POSITIONS, Classifier, GRUConfig, GRUSeq2Seq
from minitransformer.lens import LeakError, dependency, with_mask
from tests.models import sentences, small_config, small_model
from tests.planted import PLANTED, Fixed, language_model

SRC, TGT = [4, 5, 6, 0], [1, 5, 6, 7, 0]  # both with padding
TEXT = [4, 5, 6, 7, 8]
VARIANTS = [
    {"positions": positions, "norm_first": norm_first, "attention": attention}
    for positions, norm_first, attention in itertools.product(POSITIONS, [False, True], ATTENTIONS)
]
OTHERS = [
    {"positions": "rotary", "cross_positions": True},
    {"norm": "rms"},
    {"norm": "none"},
    {"activation": "swiglu"},
    {"embedding_norm": True, "activation": "none"},
    {"dropout": 0.3},
]
variants = pytest.mark.parametrize(
    "changes", VARIANTS + OTHERS, ids=lambda changes: "-".join(map(str, changes.values()))
)


def future(T: int) -> np.ndarray:
    return ~np.tri(T, dtype=bool)


def agree(matrix) -> None:
    """Three verdicts, and the definition, say the same of all cells between tokens that are no padding."""
    real = matrix.real
    for verdict in (matrix.gradient != 0, matrix.perturbation, matrix.structural):
        np.testing.assert_array_equal(verdict & real, matrix.expected & real)
    np.testing.assert_array_equal(matrix.depends & ~matrix.expected, False)
    assert matrix.gradient.shape == matrix.perturbation.shape == (len(matrix.rows), len(matrix.columns))


# ------------------------------------------------------------------------------------------------------- right models
@variants
def test_a_transformer_comes_out_clean(changes, rng):
    found = dependency(small_model(**changes), SRC, TGT)
    assert found.holds
    assert (found.leaks, found.missing, found.diagnosis, found.coupled) == ([], [], None, False)
    assert list(found.matrices) == list(itertools.product(("encoder", "decoder"), ("source", "target")))
    for matrix in found.matrices.values():
        agree(matrix)
    real = np.array([True, True, True, False])
    np.testing.assert_array_equal(found["encoder", "source"].depends[:3], np.tile(real, (3, 1)))
    np.testing.assert_array_equal(found["decoder", "source"].depends, np.tile(real, (5, 1)))
    np.testing.assert_array_equal(found["decoder", "target"].gradient[future(5)], 0.0)
    np.testing.assert_array_equal(found["encoder", "target"].depends, False)


@variants
def test_a_language_model_comes_out_clean(changes, rng):
    found = dependency(language_model(num_decoder_layers=2, **changes), TEXT)
    assert found.holds
    assert found.missing == []
    agree(found["decoder", "text"])
    np.testing.assert_array_equal(found["decoder", "text"].depends, np.tri(5, dtype=bool))


@pytest.mark.parametrize("kind", ["float", "double"])
def test_zero_is_exactly_zero_in_both_precisions(kind, either, rng):
    model = getattr(small_model(), kind)()
    model.eval()
    found = dependency(model, SRC, TGT)
    for matrix in found.matrices.values():
        agree(matrix)


def test_padding_in_the_middle_and_a_shared_vocabulary(rng):
    model = small_model(tgt_vocab_size=None, tie_weights=True)
    found = dependency(model, [5, 0, 6], mg.tensor([[1, 0, 7, 8]]))
    assert found.holds
    assert found.missing == []
    columns = found["decoder", "target"].depends[:, 1]
    np.testing.assert_array_equal(columns, [False, True, False, False])  # padding is read by itself only


def test_a_classifier_reads_all_tokens_but_padding(rng):
    mg.manual_seed(2)
    model = Classifier(small_config(), 3)
    found = dependency(model, [4, 5, 0, 6])
    agree(found["class", "text"])
    np.testing.assert_array_equal(found["class", "text"].depends, [[True, True, False, True]])
    with with_mask(model, "encoder.layers.0.self_attn", True):
        found = dependency(model, [4, 5, 0, 6])
    assert found["class", "text"].leaks == [(0, 2)]
    assert found.diagnosis == "padding"
    assert found.leaks[0].crossing.module == "encoder.layers.0.self_attn.score"


def test_a_recurrent_model_comes_out_clean(rng):
    model = GRUSeq2Seq(GRUConfig(src_vocab_size=9, d_model=6, hidden_size=5, dropout=0.2)).double()
    found = dependency(model, [4, 5, 0], [1, 5, 6])
    assert found.holds
    assert found.missing == []
    assert found["decoder", "target"].structural is None
    np.testing.assert_array_equal(found["decoder", "target"].depends, np.tri(3, dtype=bool))


def test_the_seed_changes_sizes_and_not_verdicts(rng):
    model = small_model()
    first, second = (dependency(model, SRC, TGT, seed=seed)["decoder", "target"] for seed in (1, 2))
    np.testing.assert_array_equal(first.depends, second.depends)
    assert not np.array_equal(first.gradient, second.gradient)


def test_the_gradient_is_that_of_the_results(rng):
    """Results twice as large have gradients twice as large, and the seed says which cotangent was drawn."""
    model = small_model()
    before = dependency(model, SRC, TGT)["decoder", "target"].gradient
    model.generator.weight.data *= 2
    np.testing.assert_allclose(dependency(model, SRC, TGT)["decoder", "target"].gradient, 2 * before, rtol=1e-12)


def test_rounding_hides_from_the_perturbation_what_the_gradient_sees(rng):
    """Without residual connections all tokens become alike, but not quite."""
    found = dependency(small_model(residual=False), SRC, TGT)
    matrix = found["decoder", "target"]
    assert found.holds
    assert matrix.missing == []
    assert (matrix.depends & ~matrix.perturbation).any()
    np.testing.assert_array_equal(matrix.depends, matrix.structural)
    assert "gradient and perturbation differ" in matrix.report()


# ------------------------------------------------------------------------------------------------------ planted leaks
WHERE = {  # the module, relative to its layer, and what its line of source says
    "off by one": ("self_attn.score", "super().forward"),
    "missing mask": ("self_attn.score", "super().forward"),
    "transposed mask": ("self_attn.score", "super().forward"),
    "mask after softmax": ("self_attn.score", "softmax(-1)"),
    "mean over time": ("ffn", "mean(1, keepdim=True)"),
    "batch norm": ("add_norm1.norm", "super().forward(x.flatten"),
}


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_found_named_and_located(name, layers):
    found = dependency(PLANTED[name](num_decoder_layers=layers), TEXT)
    matrix = found["decoder", "text"]
    expected = future(5)
    if name == "off by one":  # every layer sees one token further
        expected &= np.tri(5, k=layers, dtype=bool)
    assert matrix.leaks == [(int(row), int(column)) for row, column in np.argwhere(expected)]
    assert not found.holds
    assert found.diagnosis == name
    (leak,) = found.leaks
    assert (leak.row, leak.column) in matrix.leaks
    assert leak.crossing in leak.way
    module, text = WHERE[name]
    assert leak.crossing.module in [f"decoder.layers.{layer}.{module}" for layer in range(layers)]
    assert text in linecache.getline(leak.crossing.file, leak.crossing.line)
    with pytest.raises(LeakError, match=rf"decoder {leak.row} depends on text {leak.column}.*{name}: .*layers"):
        found.check()


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("length", [2, 4, 8])
def test_sizes_that_are_equal_by_chance_confuse_nobody(length, name):
    """As many tokens as heads, as a head has entries, as a vector has."""
    found = dependency(PLANTED[name](), range(3, 3 + length))
    assert found.diagnosis == ("missing mask" if length == 2 and name == "off by one" else name)
    assert WHERE[name][0] in found.leaks[0].crossing.module


def test_the_way_begins_at_the_token_and_ends_at_the_result():
    (leak,) = dependency(PLANTED["off by one"](positions="rotary"), TEXT).leaks
    ops = [place.op for place in leak.way]
    assert ops == [
        *("linear", "split_heads", "matmul", "join_heads", "linear"),  # by the values, not by way of the keys
        *("add", "layer_norm", "add", "layer_norm", "linear"),
    ]
    assert [place.module for place in leak.way][:2] == [
        "decoder.layers.0.self_attn.v_proj",
        "decoder.layers.0.self_attn",
    ]
    assert leak.way[-1].module == "generator"
    assert leak.way.index(leak.crossing) == 2


def test_a_leak_of_a_later_layer_is_found_there():
    model = language_model(num_decoder_layers=3)
    with with_mask(model, "decoder.layers.1.self_attn", lambda mask: mask | np.eye(5, k=1, dtype=bool)):
        found = dependency(model, TEXT)
    assert found.diagnosis == "off by one"
    assert found.leaks[0].crossing.module == "decoder.layers.1.self_attn.score"
    assert found.leaks[0].sentence == "every query sees one key too many, in decoder.layers.1.self_attn"
    assert found["decoder", "text"].leaks == [(t, t + 1) for t in range(4)]


def test_a_wrong_mask_without_a_name():
    model = language_model()
    with with_mask(model, "*", lambda mask: mask | np.eye(5, k=3, dtype=bool)):
        found = dependency(model, TEXT)
    assert found.diagnosis == "wrong mask"
    assert found["decoder", "text"].leaks == [(0, 3), (1, 4)]


def test_leaks_between_the_sides_of_a_transformer(rng):
    model = small_model()
    with with_mask(model, "decoder.*.cross_attn", np.ones_like):
        found = dependency(model, SRC, TGT)
    assert found["decoder", "source"].leaks == [(t, 3) for t in range(5)]
    assert found.diagnosis == "padding"
    assert "cross_attn" in found.leaks[0].crossing.module
    with with_mask(model, "decoder.*.self_attn", np.ones_like):
        found = dependency(model, SRC, TGT)
    assert set(found["decoder", "target"].leaks) >= set(zip(*np.nonzero(future(5)), strict=True))
    assert found.diagnosis == "missing mask"
    assert found["encoder", "source"].holds
    assert found["encoder", "target"].holds


# ---------------------------------------------------------------------------------------------------------- batch norm
@pytest.mark.parametrize("padding", [False, True])
def test_batch_norm_in_training_couples_sentences_and_is_measured_on_one(padding, rng):
    model = small_model(norm="batch", batch_norm_padding=padding)
    found = dependency(model.train(), SRC, TGT)
    assert found.coupled
    assert found["encoder", "target"].holds  # a batch would have carried the neighbour's target there
    assert found.diagnosis == "batch norm"
    for matrix in found.matrices.values():
        np.testing.assert_array_equal(matrix.depends, matrix.structural)
    assert found["encoder", "source"].depends[0, 3] == padding
    found = dependency(model.eval(), SRC, TGT)
    assert found.holds
    assert not found.coupled


def test_the_model_is_as_it_was(rng):
    model = small_model(norm="batch", dropout=0.2)
    model.encoder.eval()
    logits = model(sentences(rng, [4]), sentences(rng, [3], bos=True))
    logits.backward(rng.standard_normal(logits.shape))
    before = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    modes = {path: module.training for path, module in model.named_modules()}
    dependency(model, SRC, TGT)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])
    assert all(parameter.grad is gradients[name] for name, parameter in model.named_parameters())
    assert {path: module.training for path, module in model.named_modules()} == modes


def test_frozen_parameters_and_no_grad_make_no_difference(rng):
    model = small_model()
    before = dependency(model, SRC, TGT)
    model.requires_grad_(False)
    with mg.no_grad():
        after = dependency(model, SRC, TGT)
    for pair, matrix in before.matrices.items():
        np.testing.assert_array_equal(matrix.gradient, after[pair].gradient)


# -------------------------------------------------------------------------------------------------------------- labels
def test_labels_that_the_input_shows_are_found():
    model = language_model()
    ids = np.array([1, 5, 6, 7, 5, 2])
    assert dependency(model, ids[:-1], labels=ids[1:]).holds
    for lag in (0, 1):
        found = dependency(model, ids[2:], labels=ids[2 - lag : 6 - lag])
        assert found.shift == lag
        assert found.diagnosis == "no target shift"
        assert found["decoder", "text"].holds
        with pytest.raises(
            LeakError, match=f"no target shift: the label of step t is token t - {lag} of what the model"
        ):
            found.check()


def test_labels_of_a_transformer_are_those_of_its_target(rng):
    model = small_model()
    assert dependency(model, SRC, TGT, labels=TGT).shift == 0
    assert dependency(model, SRC, TGT, labels=[5, 6, 7, 2, 0]).holds
    assert dependency(model, SRC, TGT, labels=[9, 8, 4, 3, 0]).holds


def test_repetition_is_no_data_leak_and_a_strict_mask_needs_no_shift():
    model = language_model()
    assert dependency(model, [5, 5, 5, 5], labels=[5, 5, 5, 2]).holds
    assert dependency(model, [5, 6, 5, 6, 5], labels=[6, 5, 6, 5, 6]).holds
    strict = Fixed([[1.0], [2.0], [4.0]], lambda ids, x: x.roll(1, 1))  # a result that does not see its own token
    assert dependency(strict, [0, 1, 2], labels=[0, 1, 2]).shift is None
    assert dependency(strict, [0, 1, 2], labels=[2, 0, 1]).shift == 1


def test_labels_must_fit():
    with pytest.raises(mg.ShapeError, match=r"labels has shape \(2,\), the text \(5,\).*one label and one result"):
        dependency(language_model(), TEXT, labels=[1, 2])
    with pytest.raises(mg.ShapeError, match="the class gives 1 results"):
        dependency(Classifier(small_config(), 3), TEXT, labels=TEXT)
