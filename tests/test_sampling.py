"""Sampling: what is left out, how often the rest is drawn, and that a seed says it all."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minigrad as mg
from minitransformer import filtered, greedy, sample
from tests.models import Fickle, sentences, small_model, unpadded, will_end

distributions = st.builds(
    lambda seed, n, scale: np.random.default_rng(seed).dirichlet(np.full(n, scale)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.sampled_from([0.1, 1.0, 10.0]),
)


def softmax(x):
    p = np.exp(x - x.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


# ------------------------------------------------------------------------------------------------------- what is left
@given(distributions, st.floats(0.1, 5.0))
def test_the_temperature_is_an_exponent(p, temperature):
    assume(p.min() > 1e-30)
    expected = p ** (1 / temperature)
    np.testing.assert_allclose(filtered(np.log(p), temperature), expected / expected.sum(), rtol=1e-9, atol=1e-300)


@given(distributions, st.integers(1, 15))
def test_top_k_leaves_the_k_most_probable(p, k):
    assume(p.min() > 0)
    left = filtered(np.log(p), top_k=k) > 0
    assert left.sum() == min(k, len(p))
    assert p[left].min() >= p[~left].max(initial=0)


@given(distributions, st.floats(0.0, 1.0, exclude_min=True))
def test_top_p_leaves_the_smallest_set_of_at_least_that_probability(p, top_p):
    assume(p.min() > 0)
    left = filtered(np.log(p), top_p=top_p) > 0
    assert p[left].sum() >= top_p - 1e-12
    assert p[left].sum() - p[left].min() < top_p + 1e-12  # without its least probable token it would not do
    assert p[left].min() >= p[~left].max(initial=0)


@given(distributions, st.floats(0.2, 3.0), st.integers(1, 12), st.floats(0.05, 1.0))
def test_what_is_left_keeps_its_proportions_and_sums_to_1(p, temperature, top_k, top_p):
    assume(p.min() > 1e-30)
    q = filtered(np.log(p), temperature, top_k, top_p)
    assert q.sum() == pytest.approx(1)
    whole = filtered(np.log(p), temperature) * (q > 0)
    np.testing.assert_allclose(q, whole / whole.sum(), rtol=1e-9)


def test_first_the_temperature_then_k_then_p():
    p = np.array([0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(filtered(np.log(p), top_k=2, top_p=0.55), [1, 0, 0, 0])  # 0.4 of 0.7 is enough
    assert (filtered(np.log(p), 0.5, top_p=0.5) > 0).sum() == 1  # 0.16 of 0.3
    assert (filtered(np.log(p), top_p=0.5) > 0).sum() == 2


def test_a_nucleus_of_exactly_that_probability_is_enough():
    assert (filtered(np.zeros(4), top_p=0.5) > 0).tolist() == [True, True, False, False]


@pytest.mark.parametrize("temperature", [1e-310, 5e-324])
def test_the_smallest_temperatures_leave_the_most_probable(temperature):
    np.testing.assert_array_equal(filtered(np.log([0.2, 0.5, 0.3]), temperature), [0, 1, 0])
    np.testing.assert_array_equal(filtered(np.array([-np.inf, -3.0, -3.0, -4.0]), temperature), [0, 0.5, 0.5, 0])


def test_the_first_of_equals_comes_first_and_rows_are_apart():
    q = filtered(np.log([[0.25, 0.25, 0.25, 0.25], [0.1, 0.1, 0.1, 0.7]]), top_k=2)
    np.testing.assert_allclose(q, [[0.5, 0.5, 0, 0], [0.125, 0, 0, 0.875]])


# ----------------------------------------------------------------------------------------------------- what is drawn
@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 2.0}, {"top_k": 4}, {"top_p": 0.8}, {"top_k": 5, "top_p": 0.7}]
)
def test_tokens_are_drawn_as_often_as_they_are_probable(settings):
    model, n = Fickle(vocab_size=12), 4000
    drawn = sample(model, np.full((n, 1), 7), max_len=1, seed=3, **settings)[:, 0]
    p = filtered(model.logits(7, [1]), **settings)
    counts = np.bincount(drawn, minlength=12)
    assert (counts[p == 0] == 0).all()
    expected = n * p[p > 0]
    chi_square, freedom = ((counts[p > 0] - expected) ** 2 / expected).sum(), len(expected) - 1
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5  # its mean and five standard deviations


def test_later_tokens_are_drawn_given_the_earlier_ones():
    model, n = Fickle(), 4000
    drawn = sample(model, np.full((n, 1), 5), max_len=2, seed=0)
    first = softmax(model.logits(5, [1]))
    for token in (3, 4):
        second = first[token] * softmax(model.logits(5, [1, token]))
        for other in (2, 3, 4):
            count = (drawn == [token, other]).all(axis=1).sum()
            assert abs(count - n * second[other]) < 5 * (n * second[other]) ** 0.5


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-4}, {"temperature": 1e-310}])
def test_where_one_token_is_left_it_is_the_greedy_one(settings, rng):
    model, src = will_end(small_model()), sentences(rng, [5, 2, 4])
    assert np.array_equal(sample(model, src, **settings), greedy(model, src))


def test_a_seed_gives_the_same_tokens_with_and_without_cache_and_in_any_batch(rng):
    model, src = will_end(small_model()), sentences(rng, [5, 2, 4, 3])
    all_four = sample(model, src, seed=8)
    assert np.array_equal(all_four, sample(model, src, seed=8))
    assert np.array_equal(all_four, sample(model, src, seed=8, use_cache=False))
    assert not np.array_equal(all_four, sample(model, src, seed=9))
    assert np.array_equal(all_four, sample(model, src, seed=np.int64(8)))
    assert np.array_equal(all_four, sample(model, src, seed=np.array(8)))
    assert np.array_equal(all_four, sample(model, src, seed=np.array([(8, i) for i in range(4)])))
    assert np.array_equal(sample(model, src, seed=np.arange(4)), sample(model, src, seed=[0, 1, 2, 3]))
    for rows in ([0, 1], [3, 1], [2]):
        chosen = sample(model, src[rows], seed=[(8, i) for i in rows])
        assert [unpadded(row) for row in chosen] == [unpadded(all_four[i]) for i in rows]


def test_without_a_seed_the_library_decides():
    model, src = Fickle(), np.full((20, 1), 3)
    mg.manual_seed(4)
    first, second = sample(model, src, max_len=5), sample(model, src, max_len=5)
    mg.manual_seed(4)
    assert np.array_equal(first, sample(model, src, max_len=5))
    assert not np.array_equal(first, second)


def test_neither_padding_nor_begin_is_drawn_however_hot(rng):
    drawn = sample(small_model(), sentences(rng, [4] * 50), max_len=10, temperature=1e6, seed=0)
    for row in drawn:
        assert not np.isin(unpadded(row), [0, 1]).any()
    assert set(drawn.ravel()) >= set(range(2, 11))  # and everything else is


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, r"decoding: temperature is 0; it must be above 0, and finite\. For 0 use greedy\(\)\."),
        ({"temperature": float("nan")}, r"temperature is nan; it must be above 0"),
        ({"temperature": float("inf")}, r"temperature is inf; it must be above 0, and finite"),
        ({"top_k": 0}, r"decoding: top_k is 0; it must be an integer of at least 1\."),
        ({"top_p": 0.0}, r"decoding: top_p is 0\.0; it must be above 0 and at most 1\."),
        ({"top_p": 1.5}, r"decoding: top_p is 1\.5; it must be above 0 and at most 1\."),
        ({"seed": -1}, r"decoding: seed is -1; it must be an integer that is not negative, or one for each sentence"),
        ({"seed": [-1]}, r"decoding: seed is \[-1\]; it must be an integer that is not negative"),
        ({"seed": [(1, -2)]}, r"decoding: seed is \[\(1, -2\)\]; it must be an integer that is not negative"),
        ({"seed": 1.5}, r"decoding: seed is 1\.5; it must be an integer"),
        ({"seed": np.array([1, 2])}, r"decoding: there are 2 seeds and 1 sentences"),
        ({"seed": [1, 2]}, r"decoding: there are 2 seeds and 1 sentences; give one seed, or one for each\."),
    ],
)
def test_what_is_not_legal_is_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        sample(Fickle(), [[3]], max_len=2, **settings)
