"""What depends on what: right models come out clean, and every planted leak is found, named and located."""

import itertools
import linecache
from contextlib import ExitStack

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minitransformer import ATTENTIONS, POSITIONS, Classifier, GRUConfig, GRUSeq2Seq, ScaledDotProduct, greedy
from minitransformer.lens import LeakError, dependency, with_mask
from tests.models import sentences, small_config, small_model
from tests.planted import PLANTED, language_model

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
    everything = lambda mask: np.ones_like(mask)  # noqa: E731
    with with_mask(model, "decoder.*.cross_attn", everything):
        found = dependency(model, SRC, TGT)
    assert found["decoder", "source"].leaks == [(t, 3) for t in range(5)]
    assert found.diagnosis == "padding"
    assert "cross_attn" in found.leaks[0].crossing.module
    with with_mask(model, "decoder.*.self_attn", everything):
        found = dependency(model, SRC, TGT)
    assert set(found["decoder", "target"].leaks) >= set(zip(*np.nonzero(future(5)), strict=True))
    assert found.diagnosis == "missing mask"
    assert found["encoder", "source"].holds
    assert found["encoder", "target"].holds


# ---------------------------------------------------------------------------------------------------------- batch norm
def test_batch_norm_in_training_couples_sentences_and_is_measured_on_one(rng):
    model = small_model(norm="batch")
    found = dependency(model.train(), SRC, TGT)
    assert found.coupled
    assert found["encoder", "target"].holds  # a batch would have carried the neighbour's target there
    assert found.diagnosis == "batch norm"
    for matrix in found.matrices.values():
        np.testing.assert_array_equal(matrix.depends, matrix.structural)
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
    strict = Fixed([[1.0], [2.0], [4.0]], lambda ids, x: x.roll(1, 1))  # a result that does not see its own token
    assert dependency(strict, [0, 1, 2], labels=[0, 1, 2]).shift is None
    assert dependency(strict, [0, 1, 2], labels=[2, 0, 1]).shift == 1


def test_labels_must_fit():
    with pytest.raises(mg.ShapeError, match=r"labels has shape \(2,\), the text \(5,\).*one label and one result"):
        dependency(language_model(), TEXT, labels=[1, 2])
    with pytest.raises(mg.ShapeError, match="the class gives 1 results"):
        dependency(Classifier(small_config(), 3), TEXT, labels=TEXT)


# ------------------------------------------------------------------------------------------------ models of other kinds
class OwnModel(nn.Module):
    """Somebody's decoder in one module: their mask, -inf where it is False, and a softmax."""

    def __init__(self, k: int = 0) -> None:
        super().__init__()
        self.k = k
        self.table = nn.Embedding(9, 4)
        self.q, self.kv, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 9)

    def forward(self, ids):
        x = self.table(ids)
        shut = ~np.tri(ids.shape[1], k=self.k, dtype=bool)
        pattern = (self.q(x) @ self.kv(x).mT).masked_fill(shut, -np.inf).softmax(-1)
        return self.out(x + pattern @ self.kv(x))


CAUSAL = {("output", "input"): np.tri(5, dtype=bool)}


def test_a_module_of_the_user_is_tested_against_what_the_user_expects():
    found = dependency(OwnModel(), TEXT)
    assert found.holds  # nothing has been promised
    assert found.unknown == ("",)
    assert found["output", "input"].structural is None
    np.testing.assert_array_equal(found["output", "input"].depends, np.tri(5, dtype=bool))
    assert dependency(OwnModel(), TEXT, expected=CAUSAL).missing == []
    found = dependency(OwnModel(k=1), TEXT, expected=CAUSAL)
    assert found["output", "input"].leaks == [(t, t + 1) for t in range(4)]
    assert found.diagnosis == "off by one"
    assert "pattern @ self.kv(x)" in linecache.getline(found.leaks[0].crossing.file, found.leaks[0].crossing.line)
    assert dependency(OwnModel(k=9), TEXT, expected=CAUSAL).diagnosis == "missing mask"


class Fixed(nn.Module):
    """Two tokens, with vectors of the test's choice, and a function of them."""

    def __init__(self, vectors, function) -> None:
        super().__init__()
        self.table = nn.Embedding(len(vectors), len(vectors[0])).double()
        self.table.weight.data[:] = vectors
        self.function = function

    def forward(self, ids):
        return self.function(ids, self.table(ids))


def test_a_dead_relu_hides_from_the_gradient_what_the_perturbation_sees():
    model = Fixed([[-1.0], [2.0]], lambda ids, x: x.relu())
    matrix = dependency(model, [0, 0])["output", "input"]
    assert (matrix.gradient == 0).all()
    np.testing.assert_array_equal(matrix.depends, np.eye(2, dtype=bool))
    assert matrix.missing == [(0, 1), (1, 0)]


def test_what_has_no_gradient_is_found_by_the_perturbation():
    model = Fixed([[1.0], [2.0]], lambda ids, x: x * float(ids[0, -1] + 1) if len(ids) == 1 else x * ids[:, -1:, None])
    found = dependency(model, [0, 1, 1], expected={("output", "input"): np.tri(3, dtype=bool)})
    assert found["output", "input"].leaks == [(0, 2), (1, 2)]
    (leak,) = found.leaks
    assert (leak.size, leak.way, leak.crossing, leak.diagnosis) == (0.0, (), None, "unknown")
    assert "no gradient, but a changed value" in str(leak)
    assert "no chain of gradients leads there" in str(leak)


def test_a_step_without_a_name_is_pointed_at():
    model = Fixed([[1.0], [2.0], [5.0]], lambda ids, x: x + x.flip(1))
    found = dependency(model, [0, 1, 2], expected={("output", "input"): np.tri(3, dtype=bool)})
    assert found["output", "input"].leaks == [(0, 2)]
    assert found.diagnosis == "unknown"
    assert found.leaks[0].crossing.op == "flip"


class Adds(ScaledDotProduct):
    """The pattern is right, but the values of the future are added all the same."""

    def forward(self, q, k, v, *args, **settings):
        return super().forward(q, k, v, *args, **settings) + v.flip(2)


def test_a_right_mask_is_not_blamed():
    model = language_model()
    model.decoder.layers[0].self_attn.score = Adds(4)
    found = dependency(model, TEXT)
    assert found["decoder", "text"].leaks == [(0, 4), (1, 3)]
    assert found.diagnosis == "unknown"
    assert "v.flip(2)" in linecache.getline(found.leaks[0].crossing.file, found.leaks[0].crossing.line)


class ByHand(ScaledDotProduct):
    """A softmax of exp and sum, masked afterwards."""

    def forward(self, q, k, v, mask=None, *args, **settings):
        weights = self.scores(q, k).exp()
        return (weights / weights.sum(-1, keepdim=True) * mg.from_numpy(mask).type_as(q)) @ v


def test_a_softmax_by_hand_is_recognised():
    model = language_model()
    model.decoder.layers[0].self_attn.score = ByHand(4)
    found = dependency(model, TEXT)
    assert found.diagnosis == "mask after softmax"
    assert found.leaks[0].crossing.op == "sum"


def test_what_a_token_must_not_see_of_itself_crosses_at_the_end():
    model = Fixed([[1.0], [2.0]], lambda ids, x: x.exp())
    found = dependency(model, [0, 1], expected={("output", "input"): np.tri(2, k=-1, dtype=bool)})
    assert found["output", "input"].leaks == [(0, 0), (1, 1)]
    assert found.leaks[0].crossing == found.leaks[0].way[-1]
    assert found.leaks[0].crossing.op == "exp"


# ------------------------------------------------------------------------------------------------- no verdict, and why
@pytest.mark.parametrize(("value", "what"), [(np.inf, "vector at text 1"), (np.nan, "vector at text 1")])
def test_what_is_not_finite_gets_no_verdict(value, what):
    """0 times infinity is NaN: a masked key of infinite size is seen by all, though the mask is right."""
    model = language_model()
    model.embed.weight.data[5] = value
    with pytest.raises(FloatingPointError, match=f"the {what} is not finite.*0 times infinity is NaN"):
        dependency(model, [4, 5, 6])


def test_nan_in_the_middle_gets_no_verdict():
    model = language_model()
    model.decoder.layers[0].ffn.linear1.bias.data[0] = np.nan
    with pytest.raises(FloatingPointError, match="is not finite"):
        dependency(model, [4, 5, 6])
    with pytest.raises(FloatingPointError, match="the result at output 0 is not finite"):
        dependency(Fixed([[1.0], [2.0]], lambda ids, x: x * np.nan), [0, 1])


def test_minus_infinity_as_a_logit_is_no_accident():
    shut = np.array([True, False])
    model = Fixed([[1.0, 3.0], [2.0, 4.0]], lambda ids, x: x.masked_fill(shut, -np.inf))
    np.testing.assert_array_equal(dependency(model, [0, 1])["output", "input"].depends, np.eye(2, dtype=bool))


def test_a_random_model_is_refused(rng):
    model = Fixed([[1.0], [2.0]], lambda ids, x: x * rng.standard_normal(x.shape))
    with pytest.raises(ValueError, match=r"two runs on the same sentence differ.*Try model.eval\(\)"):
        dependency(model, [0, 1])


WRONG = [
    (lambda: dependency(small_model(), SRC), ValueError, "a Transformer reads a source and a target, tgt is None"),
    (lambda: dependency(language_model(), TEXT, TGT), ValueError, "a LanguageModel reads one text, and tgt is given"),
    (lambda: dependency(nn.Linear(2, 2), TEXT), ValueError, "there is no nn.Embedding in this Linear"),
    (lambda: dependency(language_model(), [[4, 5], [6, 7]]), mg.ShapeError, r"src has shape \(2, 2\); it must be one"),
    (lambda: dependency(language_model(), []), mg.ShapeError, r"src has shape \(1, 0\).*at least one token"),
    (lambda: dependency(language_model(), [0.5]), mg.ShapeError, "it must be integers"),
    (
        lambda: dependency(language_model(), TEXT, expected={("decoder", "tgt"): np.ones((5, 5), bool)}),
        ValueError,
        r"expected\[\('decoder', 'tgt'\)\] has shape \(5, 5\).*\('decoder', 'text'\): \(5, 5\)",
    ),
    (
        lambda: dependency(language_model(), TEXT, expected={("decoder", "text"): np.ones((5, 5))}),
        ValueError,
        "dtype float64; the pairs are, boolean",
    ),
    (lambda: dependency(Fixed([[1.0]], lambda ids, x: x), [0]), ValueError, "has no other token to put in the place"),
    (
        lambda: dependency(Fixed([[1.0]], lambda ids, x: x[0, 0]), [0]),
        ValueError,
        r"the output gave \(1,\); it must be",
    ),
    (lambda: dependency(Fixed([[1.0]], lambda ids, x: 3), [0]), ValueError, "the output gave int; it must be a tensor"),
    (lambda: dependency(Twice(), [1, 2]), ValueError, "the embedding 'table' was asked for something else.*once"),
    (lambda: dependency(Deaf(), [1, 2]), ValueError, "the vectors of input were never asked for"),
    (
        lambda: with_mask(language_model(), "encoder.*", True).__enter__(),
        ValueError,
        "matches 'encoder.*'. There are dec",
    ),
    (lambda: with_mask(nn.Linear(2, 2), "*", True).__enter__(), ValueError, "of this Linear matches .* There are none"),
]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 2)

    def forward(self, ids):
        return self.table(ids) + self.table(ids)


class Deaf(Twice):
    def forward(self, ids):
        return mg.zeros(len(ids), 2, 3)


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
def test_what_cannot_be_tested_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -------------------------------------------------------------------------------------------------- masks from outside
def test_structure_is_what_any_masks_let_through(rng):
    """Random masks in every attention: what the layers compose of them is what gradient and perturbation measure."""
    model = small_model(norm_first=True)
    for _ in range(5):
        shapes = {
            "encoder.layers.{}.self_attn": (4, 4),
            "decoder.layers.{}.self_attn": (3, 3),
            "decoder.layers.{}.cross_attn": (3, 4),
        }
        with ExitStack() as stack:
            for number, (kind, shape) in itertools.product((0, 1), shapes.items()):
                stack.enter_context(with_mask(model, kind.format(number), rng.random(shape) < 0.4))
            found = dependency(model, [4, 5, 6, 7], [1, 5, 6])
        for matrix in found.matrices.values():
            np.testing.assert_array_equal(matrix.depends, matrix.structural)


def test_the_masks_that_were_used_are_reported(rng):
    model = small_model(num_encoder_layers=1, num_decoder_layers=1)
    found = dependency(model, SRC, TGT)
    real = np.array([True, True, True, False])
    assert list(found.masks) == ["encoder.layers.0.self_attn"] + [
        f"decoder.layers.0.{x}_attn" for x in ("self", "cross")
    ]
    np.testing.assert_array_equal(found.masks["encoder.layers.0.self_attn"], np.tile(real, (4, 1)))
    np.testing.assert_array_equal(found.masks["decoder.layers.0.cross_attn"], np.tile(real, (5, 1)))
    wanted = np.tri(5, dtype=bool) & [True, True, True, True, False]
    np.testing.assert_array_equal(found.masks["decoder.layers.0.self_attn"], wanted)
    with with_mask(model, "*.cross_attn", np.eye(5, 4, dtype=bool)):
        used = dependency(model, SRC, TGT).masks["decoder.layers.0.cross_attn"]
    np.testing.assert_array_equal(used, np.eye(5, 4, dtype=bool))


def test_with_mask_edits_the_mask_of_the_model_and_only_inside(rng):
    model = small_model().eval()
    src, tgt = sentences(rng, [4]), sentences(rng, [3], bos=True)
    before = model(src, tgt).detach().numpy()
    shapes = []

    def same(mask):
        assert mask.dtype == bool
        shapes.append(mask.shape)
        return mask

    with with_mask(model, ["decoder.layers.*.cross_attn", "encoder.layers.0.self_attn"], same):
        np.testing.assert_allclose(model(src, tgt).detach().numpy(), before, rtol=1e-12)
        assert shapes == [(1, 2, 4, 4), (1, 2, 3, 4), (1, 2, 3, 4)]
        with with_mask(model, "decoder.*", mg.tensor(False)):  # the inner one decides
            assert not np.allclose(model(src, tgt).detach().numpy(), before)
        np.testing.assert_allclose(model(src, tgt).detach().numpy(), before, rtol=1e-12)
    np.testing.assert_array_equal(model(src, tgt).detach().numpy(), before)
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_source_that_nobody_may_look_at_does_not_matter(rng):
    model = small_model().eval()
    src, other, tgt = sentences(rng, [4]), sentences(rng, [4]), sentences(rng, [3], bos=True)
    with with_mask(model, "decoder.*.cross_attn", False):
        np.testing.assert_array_equal(model(src, tgt).detach().numpy(), model(other, tgt).detach().numpy())
        np.testing.assert_array_equal(greedy(model, src, max_len=5), greedy(model, other, max_len=5))
        found = dependency(model, SRC, TGT)
    assert not found["decoder", "source"].depends.any()
    assert len(found["decoder", "source"].missing) == 12
    assert found.holds


# -------------------------------------------------------------------------------------------------------------- reports
def test_the_report_shows_every_verdict():
    model = language_model()
    mask = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]], bool)
    with with_mask(model, "*", mask):
        found = dependency(model, [4, 5, 6, 0])
    assert [[found["decoder", "text"].verdict(row, column) for column in range(4)] for row in (0, 2, 3)] == [
        ["depends", "leak", "independent", "independent"],
        ["missing", "depends", "depends", "independent"],
        ["depends", "depends", "depends", "depends"],
    ]
    lines = found.report().splitlines()
    assert lines[0] == "LanguageModel: LEAKS"
    assert "decoder 0 depends on text 1" in lines[1]
    assert lines[-6:] == [
        "    0 1 2 3",
        "0 4 # X . .",
        "1 5 # # . .",
        "2 6 o # # .",
        "3 0 # # # #",
        "gradient and perturbation agree; 0 cells beyond what the masks let through",
    ]
    assert found.missing == [("decoder", "text", 2, 0)]
    assert repr(found) == found.report()
    assert repr(found["decoder", "text"]) in found.report()


def test_the_report_says_what_is_not_known():
    text = dependency(PLANTED["mean over time"](), TEXT).report()
    assert "structure unknown because of decoder.layers.0.ffn" in text
    assert "structure unknown" in text.splitlines()[-1]
    text = dependency(PLANTED["batch norm"](), TEXT).report()
    assert "sentences of a batch see each other; this one was measured alone" in text


def test_check_is_silent_where_everything_holds(rng):
    found = dependency(small_model(), SRC, TGT)
    found.check()
    assert found.problems() == []
    assert found.report().startswith("Transformer: every mask holds")
