"""Beam search: greedy where it is narrow, the best of all sentences where it is wide, and honest scores between."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minitransformer import beam_search, evaluating, greedy
from tests.models import VARIANTS, Fickle, sentences, small_model, unpadded, will_end

BOS, EOS = 1, 2
PENALTIES = [0.0, 0.6, 2.0, -1.0]


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def lp(length, length_penalty):
    return ((5 + length) / 6) ** length_penalty


def every_sentence(model, source, max_len):
    """All sentences over the tokens 3 and 4, ended or cut off at max_len, and their log-probabilities."""
    for length in range(1, max_len + 1):
        for words in product((3, 4), repeat=length - 1):
            for last in (EOS, 3, 4) if length == max_len else (EOS,):
                text = [*words, last]
                yield text, sum(log_softmax(model.logits(source, [BOS, *text[:i]]))[v] for i, v in enumerate(text))


@pytest.mark.parametrize("length_penalty", PENALTIES)
@pytest.mark.parametrize("use_cache", [True, False])
def test_a_beam_that_holds_all_sentences_finds_the_best_of_all(length_penalty, use_cache):
    model, sources = Fickle(), [7, 8, 9]
    found = beam_search(
        model,
        np.array(sources)[:, None],
        beam_size=31,
        n_best=31,
        length_penalty=length_penalty,
        max_len=4,
        use_cache=use_cache,
    )
    for source, hypotheses in zip(sources, found, strict=True):
        expected = [(log_p / lp(len(text), length_penalty), text) for text, log_p in every_sentence(model, source, 4)]
        expected.sort(reverse=True)
        assert len(expected) == 31
        assert [h.tokens.tolist() for h in hypotheses] == [text for _, text in expected]
        np.testing.assert_allclose([h.score for h in hypotheses], [score for score, _ in expected], rtol=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from(PENALTIES), st.integers(1, 5))
def test_what_is_given_up_could_not_have_been_among_the_best(source, length_penalty, n_best):
    """With room for all, giving up early must not change the best; it saves the rest."""
    model = Fickle()
    (found,) = beam_search(
        model, [[source]], beam_size=31, n_best=n_best, length_penalty=length_penalty, max_len=4, use_cache=False
    )
    scores = sorted((log_p / lp(len(text), length_penalty) for text, log_p in every_sentence(model, source, 4)))
    np.testing.assert_allclose([h.score for h in found], scores[: -n_best - 1 : -1], rtol=1e-12)
    assert sum(model.batches) <= 1 + 2 + 4 + 8


@settings(max_examples=20)
@given(
    st.sampled_from(VARIANTS),
    st.lists(st.integers(1, 7), min_size=1, max_size=5),
    st.sampled_from(PENALTIES),
    st.integers(0, 2**32 - 1),
)
def test_a_beam_of_one_is_greedy(changes, lengths, length_penalty, seed):
    mg.manual_seed(seed)
    model = will_end(small_model(**changes))
    src = sentences(np.random.default_rng(seed), lengths)
    found = beam_search(model, src, beam_size=1, length_penalty=length_penalty)
    assert [hypotheses[0].tokens.tolist() for hypotheses in found] == [unpadded(row) for row in greedy(model, src)]


class Even(Fickle):
    """Two tokens above 3, which are all equally probable, and the end."""

    def logits(self, source, prefix):
        return np.where(np.arange(40) > 3 if len(prefix) < 3 else np.arange(40) == 2, 0.0, -9.0)


def test_of_equally_probable_tokens_the_first_comes_first():
    model = Even(vocab_size=40)
    assert greedy(model, [[3]], max_len=9).tolist() == [[4, 4, 2]]
    for width in (1, 2, 3):
        found = beam_search(model, [[3]], beam_size=width, n_best=width, length_penalty=0.0, max_len=9)[0]
        assert [h.tokens.tolist() for h in found] == [[4, 4, 2], [4, 5, 2], [4, 6, 2]][:width]


def plain_beam(model, source, width, length_penalty, max_len):
    """Beam search of one sentence in plain loops, that never gives up: all that ended, the best first, with scores."""
    goes_on, ended = [(0.0, [])], []
    for length in range(1, max_len + 1):
        candidates = []
        for log_p, text in goes_on:
            more = log_softmax(model.logits(source, [BOS, *text]))
            candidates += [(log_p + more[v], [*text, v]) for v in range(2, len(more))]
        everything = ended + [(log_p / lp(length, length_penalty), text) for log_p, text in candidates]
        kept = sorted(everything, key=lambda y: -y[0])[:width]
        ended += [y for y in kept if y not in ended and (y[1][-1] == EOS or length == max_len)]
        goes_on = [(log_p, text) for log_p, text in candidates if text in [t for _, t in kept] and text[-1] != EOS]
    return sorted(ended, reverse=True)


@pytest.mark.parametrize("length_penalty", [*PENALTIES, 7.0, -4.0])
@pytest.mark.parametrize(("width", "n_best"), [(2, 1), (2, 2), (3, 3), (5, 1), (5, 5)])
def test_a_beam_of_several_is_that_of_plain_loops(width, n_best, length_penalty):
    model, sources = Fickle(vocab_size=8), range(3, 33)
    settings = {"beam_size": width, "n_best": n_best, "length_penalty": length_penalty, "max_len": 6}
    for source, found in zip(sources, beam_search(model, np.array(sources)[:, None], **settings), strict=True):
        expected = plain_beam(model, source, width, length_penalty, 6)[:n_best]
        assert [h.tokens.tolist() for h in found] == [text for _, text in expected]
        np.testing.assert_allclose([h.score for h in found], [score for score, _ in expected], rtol=1e-9)


def test_scores_are_those_of_the_tokens(rng):
    model, src = will_end(small_model()), sentences(rng, [5, 2, 4])
    for row, hypotheses in zip(src, beam_search(model, src, n_best=4, length_penalty=0.8), strict=True):
        assert len(hypotheses) == len({tuple(h.tokens) for h in hypotheses}) == 4
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        for tokens, score, log_prob in hypotheses:
            with evaluating(model):
                logits = model(row[None], [[BOS, *tokens[:-1]]]).numpy()[0]
            logits[:, [0, BOS]] = -np.inf
            expected = log_softmax(logits)[np.arange(len(tokens)), tokens].sum()
            assert log_prob == pytest.approx(expected, rel=1e-9)
            assert score == pytest.approx(expected / lp(len(tokens), 0.8), rel=1e-9)
            assert not np.isin(tokens[:-1], [0, BOS, EOS]).any()


@settings(max_examples=10)
@given(st.sampled_from(VARIANTS), st.integers(0, 2**32 - 1))
def test_with_and_without_cache_and_alone_it_finds_the_same(changes, seed):
    mg.manual_seed(seed)
    model = will_end(small_model(**changes))
    src = sentences(np.random.default_rng(seed), [5, 1, 3])
    together = beam_search(model, src, n_best=3, max_len=12)
    for row, *found in zip(src, together, beam_search(model, src, n_best=3, max_len=12, use_cache=False), strict=True):
        found += beam_search(model, row[None, row != 0], n_best=3, max_len=12)
        for hypotheses in found[1:]:
            assert [h.tokens.tolist() for h in hypotheses] == [h.tokens.tolist() for h in found[0]]
            np.testing.assert_allclose([h.score for h in hypotheses], [h.score for h in found[0]], rtol=1e-9)


class Hesitant(Fickle):
    """Ends a sentence with probability 0.6 each time, else goes on with token 3; never ends it before `least`."""

    def __init__(self, least=0):
        super().__init__()
        self.least = least

    def logits(self, source, prefix):
        end = 0.6 if len(prefix) > self.least else 1e-30
        return np.log([1e-30, 1e-30, end, 1 - end, 1e-30])


def test_the_search_ends_when_nothing_better_can_come_and_not_before():
    """log 0.6 against log 0.4 / lp, which is greater if the longest sentence may be long enough."""
    by_probability = Hesitant()
    ((best,),) = beam_search(by_probability, [[3]], length_penalty=0.0, max_len=30)
    assert best.tokens.tolist() == [EOS]
    assert len(by_probability.batches) == 1
    assert best.score == best.log_prob == pytest.approx(np.log(0.6))

    lengths = np.arange(1, 31)
    scores = (np.log(0.6) + (lengths - 1) * np.log(0.4)) / lp(lengths, 3.0)
    scores[-1] = max(scores[-1], 30 * np.log(0.4) / lp(30, 3.0))  # cut off
    ((best,),) = beam_search(Hesitant(), [[3]], beam_size=31, length_penalty=3.0, max_len=30)
    assert best.score == pytest.approx(scores.max())
    assert len(best.tokens) == 1 + scores.argmax() > 1  # not the first end of sentence that it met


def test_sentences_and_hypotheses_that_have_ended_cost_nothing():
    model = Fickle()
    src = np.arange(3, 23)[:, None]
    beam_search(model, src, beam_size=3, max_len=9)
    assert model.batches[0] == 20  # at first, a sentence has but one hypothesis
    assert max(model.batches) <= 3 * 20
    assert model.batches[-1] < 20
    assert model.computed == [1] * len(model.batches)


def test_there_may_be_fewer_sentences_than_were_asked_for():
    (found,) = beam_search(Fickle(), [[3]], beam_size=9, n_best=9, max_len=1)
    assert sorted(h.tokens.tolist() for h in found) == [[EOS], [3], [4]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beam_size": 0}, r"decoding: beam_size is 0; it must be an integer of at least 1\."),
        ({"beam_size": 2.0}, r"decoding: beam_size is 2\.0; it must be an integer"),
        ({"n_best": 0}, r"decoding: n_best is 0; it must be an integer of at least 1\."),
        ({"beam_size": 2, "n_best": 3}, r"decoding: n_best is 3; it must be at most beam_size = 2\."),
        ({"length_penalty": float("nan")}, r"decoding: length_penalty is nan; it must be from -10 to 10\."),
        ({"length_penalty": 1e308}, r"decoding: length_penalty is 1e\+308; it must be from -10 to 10\."),
        ({"length_penalty": -600}, r"decoding: length_penalty is -600; it must be from -10 to 10\."),
    ],
)
def test_what_is_not_legal_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        beam_search(Fickle(), [[3]], **arguments)
