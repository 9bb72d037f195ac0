"""Jacobi decoding: the tokens of greedy decoding, bit for bit the same logits, and never more calls than tokens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels
from minitransformer import evaluating, greedy, jacobi
from tests.models import VARIANTS, Fickle, sentences, small_model, will_end


@settings(max_examples=40)
@given(
    st.sampled_from(VARIANTS),
    st.lists(st.integers(1, 7), min_size=1, max_size=5),
    st.integers(1, 20),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_it_writes_what_greedy_writes_in_no_more_calls(changes, lengths, window, dtype, use_cache, seed):
    mg.manual_seed(seed)
    model = will_end(small_model(**changes)).to(dtype)
    src = sentences(np.random.default_rng(seed), lengths)
    tokens, calls = jacobi(model, src, use_cache=use_cache, window=window)
    assert np.array_equal(tokens, greedy(model, src))
    assert 1 <= calls <= tokens.shape[1]


@settings(max_examples=20)
@given(st.lists(st.integers(3, 10**6), min_size=1, max_size=6), st.integers(1, 12), st.booleans())
def test_the_cache_holds_only_what_is_settled(sources, window, use_cache):
    model, src = Fickle(), np.array(sources)[:, None]  # its cache tells if it does not
    tokens, calls = jacobi(model, src, window=window, use_cache=use_cache)
    assert calls == len(model.batches)
    assert np.array_equal(tokens, greedy(model, src))
    if use_cache:
        assert max(model.computed) <= window + 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("d_model", [8, 40])
def test_the_kernels_compute_a_token_to_the_same_bits_alone_and_among_others(dtype, changes, d_model, rng):
    """What makes the equality with greedy decoding exact: no sum depends on what is computed beside it."""
    model = small_model(**changes | {"d_model": d_model, "dim_feedforward": 3 * d_model}).to(dtype)
    src, tgt = sentences(rng, [5, 3, 6]), sentences(rng, [23, 23, 23], bos=True)
    with kernels.use("numba"), evaluating(model):
        memory, mask = model.encode(src), model.padding_mask(src)
        whole = model.decode(tgt, memory, mask).numpy()
        for rows in ([0, 1, 2], [1]):
            for size in (1, 4, 9):
                cache, pieces = model.new_cache(), []
                for stop in [*range(size, 23, size), 23]:
                    pieces.append(model.decode(tgt[rows, :stop], memory[rows], mask[rows], cache).numpy())
                assert np.array_equal(np.concatenate(pieces, axis=1), whole[rows])


class Forgetful(Fickle):
    """The next token depends on the place only: 3 4 3 4 ..., and the twentieth ends the sentence."""

    def logits(self, source, prefix):
        return np.log(np.eye(self.config.target_vocab_size)[2 if len(prefix) == 20 else 4 - len(prefix) % 2] + 1e-30)


class Chain(Fickle):
    """The next token is the one before and 1; the sentence ends after the last of the vocabulary."""

    def logits(self, source, prefix):
        n = self.config.target_vocab_size
        return np.log(np.eye(n)[{1: 3, n - 1: 2}.get(int(prefix[-1]), (int(prefix[-1]) + 1) % n)] + 1e-30)


def test_what_does_not_depend_on_the_guess_is_told_at_once_and_confirmed():
    tokens, calls = jacobi(Forgetful(), [[5]], max_len=30, window=30)
    assert tokens.tolist() == [[3, 4] * 9 + [3, 2]]
    assert calls == 2


def test_where_every_token_needs_the_one_before_it_takes_a_call_for_each():
    tokens, calls = jacobi(Chain(vocab_size=11), [[5]], window=30)
    assert tokens.tolist() == [[3, 4, 5, 6, 7, 8, 9, 10, 2]]
    assert calls == 9


def test_a_window_of_several_tokens_moves_on_with_what_is_settled():
    model = Forgetful()
    assert jacobi(model, [[5]], max_len=20, window=4).calls == 8  # settled: 1, 6, 7, 12, 13, 18, 19, 20
    assert model.computed == [5] * 6 + [2, 1]  # what was told last, and the guesses


@settings(max_examples=20)
@given(st.integers(3, 10**6), st.integers(1, 12))
def test_a_right_draft_is_only_confirmed_and_a_wrong_one_does_no_harm(source, window):
    right = greedy(Fickle(), [[source]])
    confirmed = jacobi(Fickle(), [[source]], window=window, draft=right)
    assert np.array_equal(confirmed.tokens, right)
    assert confirmed.calls == -(-right.shape[1] // (window + 1))
    wrong = jacobi(Fickle(), [[source]], window=window, draft=np.where(right == 3, 4, 3))
    assert np.array_equal(wrong.tokens, right)
    assert wrong.calls <= right.shape[1]


class Script:
    """A step that says what is written down: in call c at place t of sentence i the token script[c][i][t]."""

    pad_id, eos_id = 0, 2

    def __init__(self, *script, limits):
        self.script, self.most, self.rows, self.asked = list(script), np.array(limits), np.arange(len(limits)), []

    def __call__(self, written, last=1):
        said = np.array(self.script[len(self.asked)])[self.rows, : written.shape[1] + 1]
        self.asked.append((written.shape[1] + 1 - last, written.shape[1]))
        return np.eye(9)[said[:, -last:]]

    def limits(self, max_len):
        return self.most

    def select(self, rows):
        self.rows = self.rows[rows]

    def truncate(self, length):
        pass


def test_what_is_settled_stays_though_rounding_tells_it_differently_later():
    """The first sentence is ahead; while the second catches up, its tokens are computed again beside others."""
    step = Script(
        [[3, 4, 5, 6, 7, 8], [5, 4, 5, 6, 7, 8]],
        [[8, 8, 8, 8, 7, 8], [5, 6, 5, 6, 7, 8]],
        [[8, 8, 8, 8, 8, 8], [5, 6, 7, 7, 7, 7]],
        [[8, 8, 8, 8, 8, 8], [5, 6, 7, 7, 7, 7]],
        limits=[6, 6],
    )
    draft = [[3, 4, 5, 6, 7], [3, 4, 5, 6, 7]]
    tokens, calls = jacobi(Fickle(), [[3], [3]], window=4, draft=draft, step=lambda *_: step)
    assert tokens.tolist() == [[3, 4, 5, 6, 7, 8], [5, 6, 7, 7, 7, 7]]
    assert calls == 4


def test_the_window_ends_where_the_sentences_that_go_on_must_end():
    step = Script(*[[[3] * 9, [2] * 9]] * 2, limits=[3, 9])
    tokens, calls = jacobi(Fickle(), [[3], [3]], window=20, draft=[[4], [2]], step=lambda *_: step)
    assert tokens.tolist() == [[3, 3, 3], [2, 0, 0]]
    assert step.asked == [(0, 8), (1, 2)]  # the first place and the last
    assert calls == 2


def test_a_draft_may_be_longer_than_what_it_is_for(rng):
    model, src = will_end(small_model()), sentences(rng, [4, 2])
    assert np.array_equal(
        jacobi(model, src, max_len=5, draft=np.full((2, 50), 7)).tokens, greedy(model, src, max_len=5)
    )


def test_there_must_be_a_draft_for_each_sentence():
    with pytest.raises(
        mg.ShapeError, match=r"decoding: draft has shape \(2, 1\); there are 1 sentences, give one for each"
    ):
        jacobi(Fickle(), [[3]], draft=[[3], [4]])


@pytest.mark.parametrize("arguments", [{"window": 0}, {"max_len": 0}])
def test_what_is_not_legal_is_an_error(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=rf"decoding: {name} is {value}; it must be an integer of at least 1\."):
        jacobi(Fickle(), [[3]], **arguments)
