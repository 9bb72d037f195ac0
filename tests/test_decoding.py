"""Greedy decoding: the most probable token each time, with a cache or without, and an end to it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
import minitransformer
from minigrad import nn
from minitransformer import Cache, Positions, Step, beam_search, evaluating, greedy, jacobi, sample
from tests.models import VARIANTS, Fickle, sentences, small_model, unpadded, will_end

PAD, BOS, EOS = 0, 1, 2


def by_hand(model, sentence, max_len):
    """One sentence, nothing kept: run the whole model again for every token."""
    prefix = [BOS]
    with evaluating(model):
        while len(prefix) <= max_len:
            logits = model(sentence[None], [prefix]).numpy()[0, -1].copy()
            logits[[PAD, BOS]] = -np.inf
            prefix.append(int(logits.argmax()))
            if prefix[-1] == EOS:
                break
    return prefix[1:]


@settings(max_examples=20)
@given(st.sampled_from(VARIANTS), st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_with_and_without_cache_and_alone_it_writes_the_same_tokens(changes, lengths, seed):
    mg.manual_seed(seed)
    model = will_end(small_model(**changes))
    src = sentences(np.random.default_rng(seed), lengths)
    written = greedy(model, src, max_len=12)
    assert np.array_equal(written, greedy(model, src, max_len=12, use_cache=False))
    assert [unpadded(row) for row in written] == [by_hand(model, row[row != PAD], 12) for row in src]


@pytest.mark.parametrize("use_cache", [True, False])
def test_what_has_ended_stays_ended(use_cache, rng):
    lengths = set()
    for seed in range(8):
        mg.manual_seed(seed)
        model = will_end(small_model())
        written = greedy(model, sentences(rng, [6, 3, 4, 5]), max_len=20, use_cache=use_cache)
        for row in written:
            end = np.flatnonzero(row == EOS)
            length = end[0] + 1 if len(end) else len(row)
            assert (row[:length] != PAD).all()
            assert (row[length:] == PAD).all()
            lengths.add(length)
        assert written.shape[1] == max(len(unpadded(row)) for row in written)  # it stops when all have ended
    assert len(lengths) > 3  # the sentences did end at different places


def test_it_writes_no_padding_and_no_begin_even_if_they_are_most_probable(rng):
    model = small_model()
    model.generator.bias.data[[PAD, BOS]] += 100
    assert not np.isin(greedy(model, sentences(rng, [4]), max_len=8), [PAD, BOS]).any()


def test_step_gives_log_probabilities_of_the_next_token(rng):
    model = small_model().eval()
    src, prefix = sentences(rng, [5, 2]), sentences(rng, [3, 3], bos=True)
    with mg.no_grad():
        log_p = Step(model, src)(prefix[:, 1:], last=2)
        logits = model(src, prefix).numpy()[:, -2:]
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p[..., [PAD, BOS]] = 0
    np.testing.assert_allclose(np.exp(log_p), p / p.sum(axis=-1, keepdims=True), rtol=1e-12)


def test_sentences_that_have_ended_leave_the_batch():
    model = Fickle()
    written = greedy(model, np.arange(3, 43)[:, None], max_len=9)
    lengths = (written != PAD).sum(axis=1)
    assert model.batches == [(lengths > t).sum() for t in range(lengths.max())]
    assert len(set(model.batches)) > 3


class Prompted:
    """A step of another kind: what is written continues a prompt, at the end of which it stands without a source."""

    def __init__(self, model, prompts, use_cache):
        self.model, self.prompts = model, prompts
        self.pad_id, self.eos_id = PAD, EOS

    def limits(self, max_len):
        return np.array([max_len - len(prompt) for prompt in self.prompts])

    def __call__(self, written, last=1):
        texts = [[*prompt, *row] for prompt, row in zip(self.prompts, written.tolist(), strict=True)]
        return np.array([[self.model.logits(0, text[: len(text) - i]) for i in range(last)][::-1] for text in texts])

    def select(self, rows):
        self.prompts = [self.prompts[i] for i in rows]

    def truncate(self, length):
        pass


@pytest.mark.parametrize("search", ["greedy", "sample", "beam_search", "jacobi"])
def test_a_step_of_another_kind_may_continue_prompts_of_different_lengths(search):
    model, prompts = Fickle(), [[1, 3, 4, 4], [1], [1, 4]]

    def tokens(prompts):
        settings = {"sample": {"top_k": 1}, "beam_search": {"beam_size": 1}}.get(search, {})
        found: Any = getattr(minitransformer, search)(model, prompts, max_len=9, step=Prompted, **settings)
        if search == "beam_search":
            return [hypotheses[0].tokens.tolist() for hypotheses in found]
        return [unpadded(row) for row in (found.tokens if search == "jacobi" else found)]

    expected = []
    for prompt in prompts:
        text = list(prompt)
        while len(text) < 9 and text[-1] != EOS:
            text.append(int(model.logits(0, text).argmax()))
        expected.append(text[len(prompt) :])
    assert tokens(prompts) == expected
    assert len(set(map(len, expected))) > 1


def test_the_cache_holds_what_was_computed_and_computes_the_rest(rng):
    model = small_model().eval()
    src, tgt = sentences(rng, [5, 2]), sentences(rng, [6, 4], bos=True)
    memory, mask = model.encode(src), model.padding_mask(src)
    whole = model.decode(tgt, memory, mask).detach().numpy()
    cache = model.new_cache()
    assert isinstance(cache, Cache)
    pieces = []
    for stop in (2, 3, 6):
        with nn.capture(model, "decoder.layers.*_attn.k") as seen:
            pieces.append(model.decode(tgt[:, :stop], memory, mask, cache).detach().numpy())
        assert cache.length == stop
        new = pieces[-1].shape[1]
        crossed = {name: value.shape[2] for name, value in seen.items() if "cross" in name}
        assert crossed == ({f"decoder.layers.{i}.cross_attn.k": 5 for i in (0, 1)} if stop == 2 else {})
        assert {value.shape[2] for name, value in seen.items() if "self" in name} == {new}
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=1e-12, atol=1e-12)


class Spy(Positions):
    """Remembers the positions that it is told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def embed(self, x, pos):
        self.told.append(("embed", pos.tolist()))
        return x

    def rotate_keys(self, k, pos):
        self.told.append(("keys", pos.tolist()))
        return k

    def bias(self, q, q_pos, k_pos):
        self.told.append(("bias", q_pos.tolist(), k_pos.tolist()))


def test_positions_go_on_where_the_cache_ends(rng):
    model = small_model(num_decoder_layers=1, positions="none")
    model.decoder.positions = spy = Spy()
    memory, tgt = model.encode(sentences(rng, [4])), sentences(rng, [5], bos=True)
    cache = model.new_cache()
    for stop in (3, 5):
        model.decode(tgt[:, :stop], memory, cache=cache)
    first = [("embed", [0, 1, 2]), ("keys", [0, 1, 2]), ("bias", [0, 1, 2], [0, 1, 2])]
    then = [("embed", [3, 4]), ("keys", [3, 4]), ("bias", [3, 4], [0, 1, 2, 3, 4])]
    assert spy.told == first + then


def test_one_token_is_computed_per_step_with_the_cache(rng):
    model = small_model()
    for use_cache, lengths in ((True, [1, 1, 1, 1]), (False, [1, 2, 3, 4])):
        with nn.capture(model, "decoder.layers.0.self_attn.q", "src_embed.embed") as seen:
            greedy(model, sentences(rng, [4, 4, 4]), max_len=4, use_cache=use_cache)
        assert [q.shape[2] for q in seen.all["decoder.layers.0.self_attn.q"]] == lengths
        assert len(seen.all["src_embed.embed"]) == 1  # the source is read once


def endless():
    model = small_model()
    model.generator.bias.data[EOS] = -100
    return model


def test_length_is_limited(rng):
    src = sentences(rng, [4, 3])
    assert greedy(endless(), src, max_len=7).shape == (2, 7)
    written = greedy(endless(), src)
    assert [len(unpadded(row)) for row in written] == [2 * 4 + 10, 2 * 3 + 10]  # each by its own source sentence


def test_length_is_limited_by_the_positions_that_there_are(rng):
    model = small_model(positions="learned", max_len=6)
    model.generator.bias.data[EOS] = -100
    src = sentences(rng, [4, 3])
    assert greedy(model, src).shape == greedy(model, src, max_len=50).shape == (2, 6)


def test_no_graph_is_built_and_dropout_is_off(rng):
    model = small_model(dropout=0.5)
    src = sentences(rng, [4, 3, 6])
    with nn.capture(model, "logits") as seen:
        first = greedy(model, src, max_len=6)
    assert all(not logits.requires_grad for logits in seen.all["logits"])
    assert np.array_equal(first, greedy(model, src, max_len=6))


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_is_afterwards_in_the_mode_it_was_in(fails, rng):
    model = small_model(positions="learned", max_len=5)
    model.encoder.layers[1].eval()
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    if fails:
        with pytest.raises(IndexError, match="the text has 9 tokens"):
            greedy(model, sentences(rng, [9]))
    else:
        greedy(model, sentences(rng, [4]), max_len=3)
    assert [module.training for module in model.modules()] == modes
    assert mg.is_grad_enabled()


@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_an_empty_batch_is_an_error(shape):
    with pytest.raises(
        ValueError, match=rf"decoding: src has shape \({shape[0]}, {shape[1]}\); there is nothing to decode"
    ):
        greedy(small_model(), np.zeros(shape, int))


def test_no_room_for_an_answer_is_an_error(rng):
    for max_len in (0, 2.5):
        with pytest.raises(ValueError, match=rf"decoding: max_len is {max_len}; it must be an integer of at least 1\."):
            greedy(small_model(), sentences(rng, [3]), max_len=max_len)  # pyright: ignore[reportArgumentType]


def test_special_tokens_may_have_other_numbers(rng):
    model = small_model(pad_id=5, bos_id=9, eos_id=7)
    model.generator.bias.data[[5, 9]] += 100
    model.generator.bias.data[7] += 1.5
    src = np.where(sentences(rng, [6, 3, 4]) == 0, 5, 3)
    for row in greedy(model, src, max_len=15):
        (ends,) = np.nonzero(row == 7)
        length = ends[0] + 1 if len(ends) else len(row)
        assert not np.isin(row[:length], [5, 9]).any()
        assert (row[length:] == 5).all()
    with nn.capture(model, "tgt_embed") as seen:
        greedy(model, src, max_len=1)
    begin = model.tgt_embed.weight.detach().numpy()[9] * 8**0.5
    np.testing.assert_allclose(seen["tgt_embed"].numpy(), np.broadcast_to(begin, (3, 1, 8)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("search", [greedy, sample, beam_search, jacobi])
def test_logits_that_are_no_numbers_are_an_error_not_padding(search, value):
    class Diverged(Fickle):
        def logits(self, source, prefix):
            return np.full(5, value) if len(prefix) > 1 else np.arange(5.0)

    with pytest.raises(FloatingPointError, match=r"decoding: the model's logits are nan, or infinite: no token has"):
        search(Diverged(), [[3]])
