"""Scores: each is its paper's formula, written out number by number; they take each other's place everywhere."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.testing import gradcheck
from minitransformer import ATTENTIONS, Additive, General, MultiHeadAttention, ScaledDotProduct, Score
from minitransformer.scores import scale_of
from tests.by_hand import attention

SHAPES = (2, 3, 4, 5), (2, 3, 6, 5)  # queries and keys: B, H, T or S, K


def make(name, head_dim=5, nhead=3, scale="sqrt"):
    score = ATTENTIONS[name](head_dim, nhead, scale).double()
    rng = np.random.default_rng(3)
    for parameter in score.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape)
    return score


def one_score(score, h, q, k):
    """The score of one query and one key of head h, by the formula of the paper."""
    if isinstance(score, Additive):
        w, u, v = (p.data[h] for p in (score.w, score.u, score.v))
        return sum(v[a] * math.tanh(w[a] @ q + u[a] @ k) for a in range(len(v)))
    if isinstance(score, General):
        w = score.w.data[h]
        return sum(q[i] * w[i, j] * k[j] for i in range(len(q)) for j in range(len(k))) / math.sqrt(len(q))
    return sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(len(q))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_score_is_the_formula(name, rng):
    score = make(name)
    q, k = (rng.standard_normal(shape) for shape in SHAPES)
    got = score.scores(mg.tensor(q), mg.tensor(k)).detach().numpy()
    for b, h, t, s in np.ndindex(got.shape):
        assert got[b, h, t, s] == pytest.approx(one_score(score, h, q[b, h, t], k[b, h, s]), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_takes_the_mean_by_the_softmax_of_the_scores(name, masked, rng):
    score = make(name)
    q, k = (rng.standard_normal(shape) for shape in SHAPES)
    v, bias = rng.standard_normal(SHAPES[1]), rng.standard_normal((3, 4, 6))
    mask = rng.random((2, 1, 4, 6)) < 0.6 if masked else np.ones((2, 1, 4, 6), bool)
    mask[0, 0, 1] = not masked  # a query that may look at nothing
    z = score(*map(mg.tensor, (q, k, v)), mg.tensor(mask) if masked else None, mg.tensor(bias)).detach().numpy()
    expected = attention(lambda b, h, t, s: one_score(score, h, q[b, h, t], k[b, h, s]) + bias[h, t, s], v, mask)
    np.testing.assert_allclose(z, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_gradients_are_those_of_the_formula(name, rng):
    score = make(name)
    q, k = (mg.tensor(rng.standard_normal(shape), requires_grad=True) for shape in SHAPES)
    parameters = list(score.parameters())
    gradcheck(lambda q, k, *_: score.scores(q, k), (q, k, *parameters))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_watched_or_not_the_result_is_the_same(name, rng):
    attention = MultiHeadAttention(6, 2, attention=name).double()
    x = mg.tensor(rng.standard_normal((2, 4, 6)))
    alone = attention(x, x, x).detach().numpy()
    with nn.capture(attention) as seen:
        watched = attention(x, x, x).detach().numpy()
    np.testing.assert_allclose(watched, alone, rtol=1e-12, atol=1e-12)
    assert set(attention.taps) <= set(seen)
    np.testing.assert_allclose(seen["pattern"].detach().numpy().sum(-1), 1, rtol=1e-12)


class Doubled(ScaledDotProduct):
    def scores(self, q, k):
        return 2 * super().scores(q, k)


def test_the_scores_of_a_subclass_count_watched_or_not(rng):
    attention = MultiHeadAttention(6, 2).double()
    x = mg.tensor(rng.standard_normal((2, 4, 6)))
    usual = attention(x, x, x).detach().numpy()
    attention.score = Doubled(3)
    alone = attention(x, x, x).detach().numpy()
    with nn.capture(attention):
        watched = attention(x, x, x).detach().numpy()
    np.testing.assert_allclose(watched, alone, rtol=1e-12, atol=1e-12)
    assert abs(alone - usual).max() > 1e-3


def test_scales_by_name_and_by_number(rng):
    q, k = (mg.tensor(rng.standard_normal(shape)) for shape in SHAPES)
    raw = (q @ k.mT).numpy()
    for scale, factor in (("sqrt", 5**-0.5), ("d_k", 1 / 5), ("none", 1), (0.3, 0.3), (2, 2)):
        for kind in (ScaledDotProduct(5, scale), General(5, 3, scale).double()):
            np.testing.assert_allclose(kind.scores(q, k).detach().numpy(), raw * factor, rtol=1e-12)


def test_an_unknown_scale_is_an_error():
    with pytest.raises(ValueError, match=r"scale is 'd'; it must be a number or one of 'sqrt', 'd_k', 'none'"):
        scale_of("d", 4)


def test_additive_may_have_another_size_inside():
    score = Additive(head_dim=4, nhead=2, hidden=7)
    assert score.scores(mg.randn(1, 2, 3, 4), mg.randn(1, 2, 5, 4)).shape == (1, 2, 3, 5)
    assert {name: p.shape for name, p in score.named_parameters()} == {"w": (2, 7, 4), "u": (2, 7, 4), "v": (2, 7)}


def test_a_kind_of_score_must_say_how_it_is_made():
    with pytest.raises(NotImplementedError, match=r"Score does not say how queries and keys match; define scores\(\)"):
        Score()(mg.randn(1, 1, 2, 2), mg.randn(1, 1, 2, 2), mg.randn(1, 1, 2, 2))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_dropout_is_on_the_weights(name):
    mg.manual_seed(0)
    score, ones = make(name, nhead=1), mg.ones(1, 1, 400, 5).double()
    z = score(ones, ones, ones, dropout_p=0.5).detach().numpy()  # how much of each row of the pattern is left
    assert z.mean() == pytest.approx(1, abs=0.02)
    assert 0.02 < z.std() < 0.1
