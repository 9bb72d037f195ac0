"""Batches: every pair once an epoch, little padding, and an order that can be taken up at any batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitransformer import batching
from minitransformer.batching import Batch, Batches, encode_pairs, pad
from minitransformer.vocab import BOS, EOS, PAD, Vocab

texts = st.lists(st.integers(4, 9), max_size=6)
corpora = st.lists(st.tuples(texts, texts), min_size=1, max_size=60)
sizes, seeds, epochs = st.integers(1, 9), st.integers(0, 2**40), st.integers(0, 1000)


def corpus(rng, size=1000):
    """Texts of very different lengths; the target is about as long as the source."""
    lengths = rng.integers(1, 20, size)
    return [([4] * length, [5] * (length + int(rng.integers(3)))) for length in lengths]


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("src", "tgt_in", "tgt_out", "index"))


def positions(batches: list[Batch]) -> list[int]:
    return np.concatenate([batch.index for batch in batches]).tolist()


def padding(batches: list[Batch]) -> float:
    size = sum(batch.src.size + batch.tgt_out.size for batch in batches)
    return 1 - sum(np.count_nonzero(batch.src) + batch.tokens for batch in batches) / size


@given(corpora, sizes, seeds, epochs)
def test_an_epoch_has_every_pair_once(pairs, size, seed, number):
    batches = Batches(pairs, size, seed)
    for given_ in list(batches.epoch(number)), list(batches.in_order()):
        assert len(given_) == len(batches) == -(-len(pairs) // size)
        assert sorted(positions(given_)) == list(range(len(pairs)))
        assert sorted(map(len, given_))[1:] == [size] * (len(batches) - 1)  # at most one batch is smaller


@given(corpora, sizes, seeds, epochs)
def test_batches_hold_what_the_pairs_say(pairs, size, seed, number):
    for batch in Batches(pairs, size, seed).epoch(number):
        assert batch.src.dtype == batch.tgt_in.dtype == batch.tgt_out.dtype == np.int64
        rows = zip(batch.src, batch.tgt_in, batch.tgt_out, batch.index, strict=True)
        for src, tgt_in, tgt_out, i in rows:
            source, target = pairs[i]
            assert src[src != PAD].tolist() == src[: len(source) + 1].tolist() == [*source, EOS]
            assert tgt_in[tgt_in != PAD].tolist() == tgt_in[: len(target) + 1].tolist() == [BOS, *target]
            assert tgt_out[tgt_out != PAD].tolist() == tgt_out[: len(target) + 1].tolist() == [*target, EOS]
        longest = [max(len(pairs[i][side]) for i in batch.index) + 1 for side in (0, 1)]
        assert [batch.src.shape[1], batch.tgt_in.shape[1]] == longest  # no column of padding only
        assert batch.tgt_in.shape == batch.tgt_out.shape
        assert batch.tokens == sum(len(pairs[i][1]) + 1 for i in batch.index)


@given(corpora, sizes, seeds, epochs, st.integers(0, 70))
def test_an_epoch_can_be_taken_up_at_any_batch(pairs, size, seed, number, start):
    whole = list(Batches(pairs, size, seed).epoch(number))
    rest = list(Batches(pairs, size, seed).epoch(number, start))
    assert len(rest) == len(whole[start:])
    assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_batches_before_the_start_are_not_built(rng):
    seen = set()

    class Watched(list):
        def __getitem__(self, i):
            seen.add(int(i))
            return super().__getitem__(i)

    rest = list(Batches(Watched(corpus(rng, 100)), 10, seed=0).epoch(0, start=7))
    assert seen == set(positions(rest))
    assert len(seen) == 30


def test_order_depends_on_seed_and_epoch_alone(rng):
    pairs = corpus(rng)
    order = {
        (seed, number): positions(list(Batches(pairs, 16, seed).epoch(number))) for seed in (0, 1) for number in (0, 1)
    }
    assert len(set(map(tuple, order.values()))) == 4
    batches = Batches(pairs, 16, seed=1)
    list(batches.epoch(0))
    np.random.default_rng().permutation(5)
    assert positions(list(batches.epoch(1))) == order[1, 1]


def test_texts_of_like_length_share_a_batch(rng, monkeypatch):
    pairs = corpus(rng)
    bucketed = padding(list(Batches(pairs, 16, seed=0).epoch(0)))
    monkeypatch.setattr(batching, "POOL", 1)  # sorted within one batch: the order stays random
    unsorted = padding(list(Batches(pairs, 16, seed=0).epoch(0)))
    assert bucketed < 0.25 * unsorted


def test_batches_of_like_length_do_not_follow_each_other(rng):
    lengths = [batch.src.shape[1] for batch in Batches(corpus(rng), 16, seed=0).epoch(0)]
    assert abs(np.corrcoef(lengths[:-1], lengths[1:])[0, 1]) < 0.5


def test_other_epochs_mix_the_texts_differently(rng):
    batches = Batches(corpus(rng, 2000), 10, seed=0)
    together = [{frozenset(batch.index.tolist()) for batch in batches.epoch(number)} for number in (0, 1)]
    assert len(together[0] & together[1]) < 0.05 * len(batches)


def test_evaluation_goes_from_short_to_long_without_chance(rng):
    pairs = corpus(rng)
    once = list(Batches(pairs, 16, seed=0).in_order())
    again = list(Batches(pairs, 16, seed=1).in_order())
    assert all(same(a, b) for a, b in zip(once, again, strict=True))
    lengths = [(len(pairs[i][1]), len(pairs[i][0])) for i in positions(once)]
    assert lengths == sorted(lengths)


def test_padding_of_rows():
    assert pad([[1, 2, 3], [], [4]]).tolist() == [[1, 2, 3], [0, 0, 0], [4, 0, 0]]
    assert pad([]).shape == (0, 0)
    assert pad([[1]]).dtype == np.int64


def test_pairs_are_encoded_with_the_vocabulary_of_their_side():
    pairs = [("a b", "x"), ("b", "y x")]
    source, target = Vocab.build(["a b", "b"], "words"), Vocab.build(["x", "y x"], "words")
    assert encode_pairs(pairs, source, target) == [([5, 4], [4]), ([4], [5, 4])]


def test_no_pairs_is_an_error():
    with pytest.raises(ValueError, match=r"Batches\(\): there are no pairs to make batches of\. Choose a split that"):
        Batches([], 4, seed=0)


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_without_pairs_is_an_error(size):
    with pytest.raises(ValueError, match=rf"Batches\(\): batch_size is {size}\. It must be at least 1\."):
        Batches([([4], [4])], size, seed=0)
