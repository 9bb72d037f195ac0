"""The softmax oscilloscope row by row: closed forms, the Jacobian built out, planted rows."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F
from minitransformer.lens import saturation, sharpen, softmax_statistics
from minitransformer.lens.rows import STATISTICS


class Softmax(nn.Module):
    """A softmax of given scores, under a mask, and nothing else; L is <g, pattern> with the cotangent g as weight."""

    taps = ("scores", "pattern")

    def __init__(self, mask=None):
        super().__init__()
        self.mask = mask

    def forward(self, scores):
        scores = self.tap("scores", scores)
        return self.tap("pattern", scores.softmax(-1) if self.mask is None else F.masked_softmax(scores, self.mask))


def rows(scores, g, mask=None, **settings):
    scores = mg.tensor(np.asarray(scores)[:, None], requires_grad=True)  # (B, 1, S)
    return saturation(Softmax(mask), scores, loss=lambda p: (p[:, 0] * mg.tensor(np.asarray(g))).sum(), **settings)[""]


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def jacobian(p):
    return np.diag(p) - np.outer(p, p)


# ------------------------------------------------------------------------------------------------------- closed forms
@pytest.mark.parametrize("n", [2, 3, 7, 1000])
def test_a_uniform_row(n):
    statistics = softmax_statistics(np.full((2, n), 1 / n))
    np.testing.assert_allclose(statistics["entropy"], np.log(n), rtol=1e-12)
    np.testing.assert_allclose(statistics["max_p"], 1 / n, rtol=1e-12)
    np.testing.assert_allclose(statistics["jacobian"], np.sqrt(n - 1) / n, rtol=1e-12)


def test_a_row_of_two_keys_is_a_formula_of_one_number():
    p = np.array([1e-150, 1e-20, 0.1, 0.5, 0.9])  # and 1 - p
    statistics = softmax_statistics(np.stack([p, 1 - p], axis=-1))
    np.testing.assert_allclose(statistics["jacobian"], 2 * p * (1 - p), rtol=1e-12)
    np.testing.assert_allclose(statistics["entropy"], -p * np.log(p) - (1 - p) * np.log1p(-p), rtol=1e-12)


def test_rows_of_one_key_and_of_none():
    one, none = softmax_statistics(np.ones((3, 1))), softmax_statistics(np.ones((3, 0)))
    for statistic, expected in {"entropy": 0, "jacobian": 0}.items():
        assert one[statistic].tolist() == none[statistic].tolist() == [expected] * 3
    assert (one["max_p"].tolist(), none["max_p"].tolist()) == ([1] * 3, [0] * 3)


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_statistics_are_those_of_the_jacobian_built_out(rng, spread):
    p = softmax(spread * rng.normal(size=(4, 3, 6)))
    statistics = softmax_statistics(p)
    expected = np.array([[np.linalg.norm(jacobian(row)) for row in head] for head in p])
    np.testing.assert_allclose(statistics["jacobian"], expected, rtol=1e-9)
    in_closed_form = (p**2).sum(-1) - 2 * (p**3).sum(-1) + (p**2).sum(-1) ** 2
    np.testing.assert_allclose(statistics["jacobian"] ** 2, in_closed_form, rtol=1e-9)
    np.testing.assert_allclose(statistics["entropy"], -(p * np.log(p)).sum(-1), rtol=1e-12)


@pytest.mark.parametrize("gap", [5.0, 20.0, 40.0, 80.0])
def test_float32_is_enough_for_rows_close_to_one_hot(rng, gap):
    """Against float64 and J built of products, in which 1 - p_k is the sum of the others."""
    scores = rng.normal(size=(50, 8)).astype(np.float32)
    scores[:, 3] += np.float32(gap)
    ours = rows(scores, rng.normal(size=scores.shape).astype(np.float32))
    p = softmax(scores.astype(np.float64))
    others = [np.delete(p, i, axis=-1) for i in range(8)]
    squares = sum((p[:, i] * others[i].sum(-1)) ** 2 + ((p[:, i, None] * others[i]) ** 2).sum(-1) for i in range(8))
    rest = others[3]
    entropy = -(rest * np.log(rest)).sum(-1) - p[:, 3] * np.log1p(-rest.sum(-1))
    np.testing.assert_allclose(ours.jacobian[:, 0, 0], np.sqrt(squares), rtol=3e-5)
    np.testing.assert_allclose(ours.entropy[:, 0, 0], entropy, rtol=3e-5)


# ------------------------------------------------------------------------------------------------ gradients, and death
def test_gain_is_that_of_the_jacobian_built_out(rng, either):
    scores, g = 2 * rng.normal(size=(6, 5)), rng.normal(size=(6, 5))
    ours = rows(scores, g)
    through = np.array([jacobian(p) @ cotangent for p, cotangent in zip(softmax(scores), g, strict=True)])
    np.testing.assert_allclose(ours.row_gradient[:, 0, 0], np.linalg.norm(through, axis=-1), rtol=1e-9)
    expected = np.linalg.norm(through, axis=-1) / np.linalg.norm(g, axis=-1)
    np.testing.assert_allclose(ours.gain[:, 0, 0], expected, rtol=1e-9)


def test_the_gradient_at_keys_that_are_not_legal_does_not_count(rng, either):
    scores, g = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    legal = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 0, 1], [1, 0, 0, 1, 0]], bool)
    ours = rows(scores, g, mg.tensor(legal[:, None]))
    g[~legal] = 1e6
    with_other_g = rows(scores, g, mg.tensor(legal[:, None]))
    for b, keys in enumerate(legal):
        p = softmax(scores[b, keys])
        gain = np.linalg.norm(jacobian(p) @ g[b, keys]) / np.linalg.norm(g[b, keys])
        assert ours.gain[b, 0, 0] == pytest.approx(gain, rel=1e-9)
        assert with_other_g.gain[b, 0, 0] == pytest.approx(gain, rel=1e-6)
        assert ours.jacobian[b, 0, 0] == pytest.approx(np.linalg.norm(jacobian(p)), rel=1e-9)
        assert ours.normalised_entropy[b, 0, 0] == pytest.approx(-(p * np.log(p)).sum() / np.log(len(p)), rel=1e-9)
    assert ours.keys[:, 0, 0].tolist() == [5, 3, 2]


def test_a_key_is_legal_also_where_its_weight_is_0_in_float32(rng):
    scores = np.array([[500.0, 0, 0, 0]], np.float32)
    ours = rows(scores, rng.normal(size=(1, 4)).astype(np.float32), mg.tensor([[[True, True, True, False]]]))
    assert ours.keys.item() == 3
    assert ours.entropy.item() == ours.jacobian.item() == 0
    assert ours.dead.item()


def test_a_bias_of_minus_infinity_is_a_mask(rng):
    ours = rows([[-np.inf, 1.0, 2.0], [0.5, 1.0, 2.0]], rng.normal(size=(2, 3)))
    assert ours.keys[:, 0, 0].tolist() == [2, 3]


def test_no_row_lets_more_than_half_of_its_gradient_through(rng):
    scores, g = rng.normal(size=(1000, 3)), rng.normal(size=(1000, 3))
    scores[:500, 2], g[:500, 2], g[:500, 1] = -50, 0, -g[:500, 0]
    scores[:500, :2] = 0  # two keys at 1/2, and g = (x, -x): the eigenvector of 1/2
    ours = rows(scores, g)
    np.testing.assert_allclose([ours.gain[:500], ours.jacobian[:500]], 0.5, rtol=1e-9)
    assert ours.gain.max() < 0.5 + 1e-12
    assert ours.jacobian.max() < 0.5 + 1e-12


def test_planted_rows(rng, either):
    """One-hot rows are dead, uniform ones are not, one legal key has not died, and a constant gradient is dead."""
    scores = np.array([[90.0, 0, 0, 0], [0.0, 0, 0, 0], [0.0, 0, 0, 0], [0.0, 0, 0, 0], [0.0, 0, 0, 0], [3.0, 1, 0, 2]])
    legal = np.ones((6, 4), bool)
    legal[2, 1:] = legal[3] = False
    g = rng.normal(size=(6, 4))
    g[4], g[5] = 0, 7
    ours = rows(scores, g, mg.tensor(legal[:, None]))
    assert ours.dead[:, 0, 0].tolist() == [True, False, False, False, False, True]
    because = ["", "", "one key", "no key", "no gradient", ""]
    assert ours.left_out_because[:, 0, 0].tolist() == because
    assert ours.left_out == {"no key": 1, "one key": 1, "no gradient": 1, "not finite": 0}
    for statistic in STATISTICS:
        assert np.isnan(getattr(ours, statistic)[:, 0, 0]).tolist() == [reason != "" for reason in because]


def test_the_threshold_of_death_is_a_setting(rng):
    scores, g = rng.normal(size=(40, 5)) * 3, rng.normal(size=(40, 5))
    middle = np.median(rows(scores, g).gain)
    ours = rows(scores, g, dead=middle)
    assert ours.dead.sum() == 20
    assert not rows(scores, g, dead=0).dead.any()
    with pytest.raises(ValueError, match=r"saturation\(\): dead is -1; it must be a number of at least 0"):
        rows(scores, g, dead=-1)


def test_rows_that_are_no_numbers_are_left_out(rng):
    scores = np.array([[np.nan, 1.0, 2.0], [3.0, 1.0, 2.0]])
    ours = rows(scores, rng.normal(size=(2, 3)))
    assert ours.left_out_because[:, 0, 0].tolist() == ["not finite", ""]


# ----------------------------------------------------------------------------------------------------------- sharpening
def test_as_the_scores_grow_the_rows_die(rng):
    scores, g = rng.normal(size=(20, 6)), rng.normal(size=(20, 6))
    model, x = Softmax(), mg.tensor(scores[:, None])
    strip = []
    for factor in (0.0, 1.0, 2.0, 4.0, 8.0, 64.0, 4096.0):
        with sharpen(model, factor):
            strip.append(saturation(model, x, loss=lambda p: (p * mg.tensor(g[:, None])).sum())[""])
    entropy, largest = (np.array([getattr(r, s)[:, 0, 0] for r in strip]) for s in ("entropy", "max_p"))
    assert (np.diff(entropy, axis=0) <= 0).all()
    assert (np.diff(largest, axis=0) >= 0).all()
    np.testing.assert_allclose(strip[0].entropy, np.log(6), rtol=1e-12)
    expected = [np.linalg.norm(jacobian(p)) for p in softmax(4 * scores)]
    np.testing.assert_allclose(strip[3].jacobian[:, 0, 0], expected, rtol=1e-9)
    assert entropy[-1].max() < 1e-9
    assert strip[-1].jacobian.max() < 1e-9
    shares = [r.dead.mean() for r in strip]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)


@pytest.mark.parametrize("factor", [-1.0, np.inf, np.nan, "much"])
def test_a_factor_that_is_none_is_an_error(factor):
    with pytest.raises(ValueError, match=r"sharpen\(\): factor is .*; it must be a finite number of at least 0"):
        sharpen(Softmax(), factor).__enter__()


# ------------------------------------------------------------------------------------------------- mean against median
def test_mean_and_median_disagree_where_a_few_rows_have_all_the_gradient(rng):
    """Seventeen of twenty rows are one-hot, and the others get a large gradient."""
    scores, g = rng.normal(size=(20, 6)), rng.normal(size=(20, 6))
    scores[3:, 2] += 60
    g[:3] *= 100
    planted = saturation(Softmax(), mg.tensor(scores[:, None]), loss=lambda p: (p * mg.tensor(g[:, None])).sum())
    ecdf = planted.ecdf("", 0)
    assert ecdf.mean > 1
    assert ecdf.median < 1e-20
    (record,) = planted.table()
    assert (record["row_gradient.mean"], record["row_gradient.median"]) == (ecdf.mean, ecdf.median)
    assert record["dead"] == 17 / 20
    values = planted[""].row_gradient[:, 0, 0]
    np.testing.assert_array_equal(ecdf.values, np.sort(values))
    for value, fraction in zip(ecdf.values, ecdf.fractions, strict=True):
        assert fraction == pytest.approx(np.mean(values <= value))


def test_a_pattern_without_heads_has_one(rng):
    scores = rng.normal(size=(2, 3, 4))
    seen = saturation(Softmax(), mg.tensor(scores))[""]
    np.testing.assert_allclose(seen.max_p[:, 0], softmax(scores).max(-1), rtol=1e-12)
    assert (seen.max_p.shape, seen.nhead) == ((2, 1, 3), 1)


def test_a_pattern_of_another_shape_is_an_error():
    with pytest.raises(
        ValueError, match=r"saturation\(\): pattern has shape \(4,\); it must be \(B, H, T, S\), \(B, T"
    ):
        saturation(Softmax(), mg.randn(4))
