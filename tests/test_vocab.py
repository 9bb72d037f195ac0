"""Tokenisers and vocabularies: nothing is lost between a text and its ids."""

import json
import re
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minitransformer import vocab as vocab_module
from minitransformer.tasks.numbers import writer
from minitransformer.vocab import BOS, EOS, PAD, SPECIALS, UNK, BytePairs, Characters, Vocab, Words, choose, merge

LANGUAGES = ["ar", "bn", "de", "en", "fi", "fr", "he", "hu", "it", "ja", "ko", "ru", "sv", "th", "uk"]
NUMBERS = [*range(100), *range(100, 1000, 7), *range(1000, 1_000_000, 7919)]
SMALL = ["", "a", "ab", "n'a-t-il", "two  spaces ", " -", "naïve café", "七十一"]


@cache
def texts(language: str) -> list[str]:
    write = writer(language, ordinals=False, high=999_999)
    return [write(n) for n in NUMBERS]


@cache
def german_pieces() -> BytePairs:
    return BytePairs.learn(texts("de"))


@cache
def vocab(language: str, tokeniser: str) -> Vocab:
    return Vocab.build(texts(language), tokeniser)


# --------------------------------------------------------------------------------------------------------- tokenisers
@example("two  spaces ", Words())
@example(" ", Words())
@example(" '", Words())
@example("a\n b", BytePairs([]))
@given(st.text() | st.text("ab '\u2019-\t\n"), st.sampled_from([Words(), Characters(), BytePairs(["ab", "a-", "  "])]))
def test_tokens_joined_are_the_text(text, tokeniser):
    tokens = tokeniser.split(text)
    assert tokeniser.join(tokens) == text
    assert all(tokens)


@given(st.text(), st.sampled_from(LANGUAGES), st.sampled_from(NUMBERS))
def test_learnt_pieces_joined_are_the_text(text, language, n):
    for both in text, writer(language, ordinals=False, high=999_999)(n):
        assert "".join(german_pieces().split(both)) == both


@pytest.mark.parametrize("tokeniser", ["auto", "words", "characters", "bpe"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_number_texts_come_back(language, tokeniser):
    known = vocab(language, tokeniser)
    for text in texts(language):
        ids = known.encode(text)
        assert known.decode(ids) == text
        assert min(ids) > UNK
        assert known.unknown(text) == []


def test_a_word_is_the_same_token_at_the_start_as_inside():
    known = Vocab.build(["cent trois", "trois cent"])
    assert known.encode("cent trois") == known.encode("trois cent")[::-1]


def test_hyphens_and_apostrophes_are_tokens():
    assert Words().split("l'oie dix-neuf d\u2019or") == [" l", "'", "oie", " dix", "-", "neuf", " d", "\u2019", "or"]


@given(st.text("abc"), st.sampled_from(["ab", "aa", "ca"]))
def test_merging_makes_one_piece_of_every_such_pair(text, pair):
    assert merge(list(text), (pair[0], pair[1])) == re.findall(f"{pair}|.", text)


def test_merges_take_the_most_frequent_pair_first(monkeypatch):
    monkeypatch.setattr(vocab_module, "MOST_TOKENS", 1)
    texts = ["abc", "abd", "ab"]  # a-b three times, the others once; then ab-c before ab-d, which comes later
    assert sorted(BytePairs.learn(texts).pieces) == ["ab", "abc", "abd"]
    monkeypatch.setattr(vocab_module, "MOST_TOKENS", 5 / 3)
    assert sorted(BytePairs.learn(texts).pieces) == ["ab", "c", "d"]
    monkeypatch.setattr(vocab_module, "MOST_TOKENS", 4 / 3)
    assert sorted(BytePairs.learn(texts).pieces) == ["ab", "abc", "d"]


def test_pairs_count_as_often_as_their_word_comes(monkeypatch):
    monkeypatch.setattr(vocab_module, "MOST_TOKENS", 3.5)  # 16 characters in 4 texts, so that one merge is enough
    pieces = BytePairs.learn(["ab c", "ab d", "ab e", "uvuv"]).pieces
    assert [piece for piece in pieces if len(piece) > 1] == ["ab"]


def test_merges_do_not_cross_words(monkeypatch):
    monkeypatch.setattr(vocab_module, "MOST_TOKENS", 1)
    pieces = BytePairs.learn(["ab ab-ab", "ab ab"]).pieces
    assert sorted(pieces) == [" ab", "-", "ab"]


@pytest.mark.parametrize("language", ["de", "fi", "it", "hu", "th"])
def test_merges_stop_when_texts_are_short_enough(language):
    tokeniser = BytePairs.learn(texts(language))
    lengths = [len(tokeniser.split(text)) for text in texts(language)]
    assert abs(np.mean(lengths) - vocab_module.MOST_TOKENS) < 1.5  # pieces are learnt, and not cut, by merging


def test_short_texts_stay_characters():
    assert max(map(len, BytePairs.learn(texts("ja")).pieces)) == 1


def test_every_piece_is_used():
    used = {piece for text in texts("de") for piece in german_pieces().split(text)}
    assert used == set(german_pieces().pieces)


def test_learning_depends_on_the_set_of_texts_only(rng):
    shuffled = [texts("de")[i] for i in rng.permutation(len(NUMBERS))]
    assert BytePairs.learn(shuffled + shuffled[:50]).pieces == german_pieces().pieces


def test_learning_takes_a_sample(monkeypatch):
    monkeypatch.setattr(vocab_module, "SAMPLE", 10)
    monkeypatch.setattr(vocab_module, "MOST_TOKENS", 1)
    words = [f"{n:04}" for n in range(95)]
    assert len(BytePairs.learn(words).pieces) == 10


@pytest.mark.parametrize("language", LANGUAGES)
def test_choice_of_tokeniser(language):
    as_one_word = {"de", "fi", "hu", "it", "ja", "ko", "sv", "th"}
    assert vocab(language, "auto").tokeniser.name == ("bpe" if language in as_one_word else "words")


def test_few_words_that_never_come_back_are_no_words():
    assert choose(texts("de")[:90]) == "bpe"  # all that training sees of 0..99, and the other ten would be unknown
    assert choose(texts("en")[:90]) == "words"


def test_many_words_are_taken_to_pieces():
    few, many = ([f"w{i} w{i}" for i in range(size)] for size in (vocab_module.MOST_WORDS, vocab_module.MOST_WORDS + 1))
    assert choose(few) == "words"
    assert choose(many) == "bpe"


# --------------------------------------------------------------------------------------------------------- vocabulary
def test_special_tokens_have_fixed_ids():
    assert SPECIALS == ("<pad>", "<bos>", "<eos>", "<unk>")
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert Vocab.build(["a"], "words").tokens == [*SPECIALS, " a"]


def test_frequent_tokens_come_first():
    known = Vocab.build(["c b a", "c b", "d c"], "words")
    assert known.tokens[4:] == [" c", " b", " a", " d"]


@pytest.mark.parametrize("tokeniser", ["words", "characters", "bpe"])
def test_typed_special_tokens_are_text(tokeniser):
    known = Vocab.build(["a-<eos>-b", "<pad>", "a-<eos>-b"], tokeniser)
    assert min(known.encode("a-<eos>-b")) > UNK
    assert known.decode(known.encode("a-<eos>-b")) == "a-<eos>-b"
    assert {PAD, BOS, EOS}.isdisjoint(Vocab.build(["b"], tokeniser).encode("a-<eos>-<pad>"))


def test_unknown_tokens_are_named_once():
    known = Vocab.build(["one hundred", "one hundred and one"])
    assert known.encode("one dozen and one-dozen dozen") == [4, UNK, 6, 4, UNK, UNK, UNK]
    assert known.unknown("one dozen and one-dozen dozen") == ["dozen", "-", "dozen"]  # " dozen" and "dozen"
    assert Vocab.build(["ab"], "characters").unknown("a b") == [" "]


def test_decoding_stops_at_the_end_and_skips_special_tokens():
    known = Vocab.build(["a b", "a"], "words")
    assert known.decode([BOS, 5, UNK, 4, PAD, EOS, 4, 4]) == "b a"
    assert known.decode(np.array([4, 5])) == "a b"
    assert known.decode([]) == known.decode([EOS, 4]) == ""


def test_batches_are_encoded_and_decoded_alike():
    known = Vocab.build(["a b", "a"], "words")
    assert known.encode_batch(["b", "a b", ""]) == [[5], [4, 5], []]
    assert known.decode_batch([[5, EOS], [4, 5]]) == ["b", "a b"]
    assert known.decode_batch(np.array([[5, EOS, PAD], [4, 5, EOS]])) == ["b", "a b"]


@pytest.mark.parametrize("i", [-1, 6])
def test_ids_of_another_vocabulary_are_refused(i):
    with pytest.raises(ValueError, match=rf"got the id {i}, and there are 6 tokens\. Decode with the vocabulary that"):
        Vocab.build(["a b", "a"], "words").decode([4, i])


@pytest.mark.parametrize("tokeniser", ["words", "characters", "bpe"])
@pytest.mark.parametrize("language", ["de", "fr", "ja"])
def test_a_vocabulary_comes_back_from_json(language, tokeniser):
    known = vocab(language, tokeniser)
    again = Vocab.from_dict(json.loads(json.dumps(known.to_dict())))
    assert again == known
    assert again.tokens == known.tokens
    assert [again.encode(text) for text in SMALL] == [known.encode(text) for text in SMALL]


def test_vocabularies_differ_by_tokens_and_by_tokeniser():
    assert Vocab(Words(), ["a"]) != Vocab(Words(), ["b"])
    assert Vocab(Words(), ["a"]) != Vocab(Characters(), ["a"])
    assert Vocab(Words(), ["a"]) != "a"


def test_vocabulary_of_counts_agrees_with_the_tokens_of_the_texts():
    known = vocab("fr", "auto")
    counts = Counter(token for text in texts("fr") for token in Words().split(text))
    assert len(known) == len(counts) + len(SPECIALS)
    assert set(known.tokens[4:]) == set(counts)
    assert repr(known) == f"<Vocab of {len(known)} tokens, words>"


@pytest.mark.parametrize("nothing", [[], [""]])
def test_no_text_is_an_error(nothing):
    with pytest.raises(ValueError, match=r"Vocab\.build\(\): there is no text to build from\. Give it the texts of"):
        Vocab.build(nothing)


def test_another_tokeniser_is_an_error():
    with pytest.raises(ValueError, match=r"no tokeniser 'letters'\. Choose one of: auto, words, characters, bpe\."):
        Vocab.build(["a"], "letters")
