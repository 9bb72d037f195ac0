"""The mask laboratory with models and masks of the user's own, what it refuses to judge, and what it writes."""

import itertools
import linecache
from contextlib import ExitStack

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minitransformer import ScaledDotProduct, greedy
from minitransformer.lens import dependency, with_mask
from tests.models import sentences, small_model
from tests.planted import PLANTED, Fixed, language_model

SRC, TGT = [4, 5, 6, 0], [1, 5, 6, 7, 0]  # both with padding
TEXT = [4, 5, 6, 7, 8]


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
    (
        lambda: dependency(language_model(), TEXT, expected=np.ones((5, 5), bool)),
        ValueError,
        r"expected is a ndarray; it must be a dict.*\('decoder', 'text'\): np.tri",
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


def test_structure_without_residual_connections():
    """The token before, and the query itself, if it may ask at all."""
    model = language_model(residual=False)
    with with_mask(model, "*", np.eye(4, k=-1, dtype=bool)):
        matrix = dependency(model, TEXT[1:])["decoder", "text"]
    np.testing.assert_array_equal(matrix.structural, np.eye(4, k=-1, dtype=bool) | np.diag([False, True, True, True]))
    assert not (matrix.depends & ~matrix.structural).any()


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


def test_masks_that_do_not_fit_are_refused():
    model = language_model()
    with with_mask(model, "*", np.ones((2, 2), bool)), pytest.raises(mg.ShapeError, match="the mask has shape"):
        model([[4, 5, 6]])
    for mask in (np.ones((3, 3)), lambda mask: None):
        with with_mask(model, "*", mask), pytest.raises(mg.DTypeError, match="the mask has dtype"):
            model([[4, 5, 6]])
    assert model([[4, 5, 6]]).shape == (1, 3, 13)


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
