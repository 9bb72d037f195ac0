"""Between text and the ids that the model sees: a tokeniser cuts a text into tokens, a vocabulary numbers them.

Tokens keep their spaces, so that nothing is lost: the tokens of a text, joined, are that text again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")

MOST_WORDS = 300  # a language with more makes new words for new numbers; the others have two hundred at most
MOST_TOKENS = 12  # tokens in the mean text, where byte-pair encoding stops to merge: about one per word of English
SAMPLE = 1000  # texts from which byte-pair encoding learns

# Either a word with the space before it, or a hyphen or an apostrophe, or a space with no word after it.
WORD = re.compile(r" ?[^ '\u2019-]+| ?['\u2019-]| ")


# --------------------------------------------------------------------------------------------------------- tokenisers
class Tokeniser:
    """Cuts a text into tokens; `join(split(text)) == text` for every text."""

    name: ClassVar[str]

    @classmethod
    def learn(cls, texts: Iterable[str]) -> Tokeniser:
        """Build the tokeniser for such texts."""
        return cls()

    def split(self, text: str) -> list[str]:
        """Cut a text into tokens."""
        raise NotImplementedError(f"{type(self).__name__} does not say how texts are cut")

    def join(self, tokens: Iterable[str]) -> str:
        """Put the tokens of a text together again."""
        return "".join(tokens)

    def to_dict(self) -> dict[str, Any]:
        """All that `from_dict` needs to build this tokeniser again, as plain JSON."""
        return {"name": self.name}

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> Tokeniser:
        """Build the tokeniser that `to_dict` described."""
        return cls()


class Words(Tokeniser):
    """Words, hyphens and apostrophes; a space belongs to the word after it.

    Every text is given a space in front, as in SentencePiece (Kudo and Richardson 2018), so that a word is the same
    token at the start of a text as inside.

    >>> Words().split("trois cent quarante-deux")
    [' trois', ' cent', ' quarante', '-', 'deux']
    """

    name = "words"

    def split(self, text: str) -> list[str]:
        """Cut a text into tokens."""
        return WORD.findall(f" {text}") if text else []

    def join(self, tokens: Iterable[str]) -> str:
        """Put the tokens of a text together again."""
        return "".join(tokens).removeprefix(" ")


class Characters(Tokeniser):
    """Single characters.

    >>> Characters().split("七十一")
    ['七', '十', '一']
    """

    name = "characters"

    def split(self, text: str) -> list[str]:
        """Cut a text into tokens."""
        return list(text)


class BytePairs(Tokeniser):
    """Pieces of words, found by byte-pair encoding on characters (Sennrich, Haddow and Birch 2016).

    In the beginning every character is a piece; then, again and again, the most frequent pair of neighbours becomes
    one piece, until the mean text has at most MOST_TOKENS of them. Texts are cut from left to right, each time at the
    end of the longest piece that fits.

    >>> BytePairs(["und", "zwei", "zwanzig"]).split("zweiundzwanzig")
    ['zwei', 'und', 'zwanzig']
    """

    name = "bpe"

    def __init__(self, pieces: Iterable[str]) -> None:
        self.pieces = sorted(set(pieces), key=lambda piece: (-len(piece), piece))
        self.pattern = re.compile("|".join([*map(re.escape, self.pieces), "."]), re.DOTALL)

    @classmethod
    def learn(cls, texts: Iterable[str]) -> BytePairs:
        """Find the pieces in a sample of the texts; the order in which they are given does not matter."""
        texts = sorted(set(texts))
        texts = texts[:: -(-len(texts) // SAMPLE) or 1]
        counts = Counter(word for text in texts for word in WORD.findall(text))
        pieces = {word: list(word) for word in counts}
        while sum(counts[word] * len(pieces[word]) for word in counts) > MOST_TOKENS * len(texts):
            pairs: Counter[tuple[str, str]] = Counter()
            for word, count in counts.items():
                for pair in pairwise(pieces[word]):
                    pairs[pair] += count
            if not pairs:
                break
            [(pair, _)] = pairs.most_common(1)
            pieces = {word: merge(parts, pair) for word, parts in pieces.items()}
        everything = cls(piece for parts in pieces.values() for piece in parts)
        return cls(piece for text in texts for piece in everything.split(text))  # those that are used, no others

    def split(self, text: str) -> list[str]:
        """Cut a text into tokens."""
        return self.pattern.findall(text)

    def to_dict(self) -> dict[str, Any]:
        """All that `from_dict` needs to build this tokeniser again, as plain JSON."""
        return {"name": self.name, "pieces": self.pieces}

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> BytePairs:
        """Build the tokeniser that `to_dict` described."""
        return cls(options["pieces"])


def merge(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Make one piece of every such pair of neighbours.

    >>> merge(["e", "i", "n", "e"], ("e", "i"))
    ['ei', 'n', 'e']
    """
    merged: list[str] = []
    for part in parts:
        if part == pair[1] and merged and merged[-1] == pair[0]:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


TOKENISERS: dict[str, type[Tokeniser]] = {cls.name: cls for cls in (Words, Characters, BytePairs)}


def choose(texts: Iterable[str]) -> str:
    """Name the tokeniser that suits such texts: words where the same few come back, else byte pairs.

    >>> choose(["one hundred", "one hundred and one", "one hundred and ten", "ten", "one"])
    'words'
    >>> choose(["einhundert", "einhunderteins", "einhundertzehn", "zehn", "eins"])
    'bpe'
    """
    counts = Counter(word for text in texts for word in Words().split(text))
    seen_once = sum(count == 1 for count in counts.values())
    chance_of_new = seen_once / counts.total()  # that the next word is none of these (Good 1953)
    return Words.name if len(counts) <= MOST_WORDS and chance_of_new <= 0.25 else BytePairs.name


# --------------------------------------------------------------------------------------------------------- vocabulary
class Vocab:
    """The ids of tokens: first the four special ones, then those of the training texts, the most frequent first.

    tokeniser: how texts are cut; tokens: every token but the special ones, in the order of their ids.

    >>> vocab = Vocab.build(["one hundred", "one hundred and one"])
    >>> vocab.tokens
    ['<pad>', '<bos>', '<eos>', '<unk>', ' one', ' hundred', ' and']
    >>> vocab.encode("one hundred and two"), vocab.unknown("one hundred and two")
    ([4, 5, 6, 3], ['two'])
    >>> vocab.decode([BOS, 4, 5, EOS, PAD])
    'one hundred'
    """

    def __init__(self, tokeniser: Tokeniser, tokens: Iterable[str]) -> None:
        self.tokeniser = tokeniser
        self.tokens = [*SPECIALS, *tokens]
        # Texts never contain special tokens, not even if somebody types "<eos>".
        self.ids = {token: i for i, token in enumerate(self.tokens) if i >= len(SPECIALS)}

    @classmethod
    def build(cls, texts: Iterable[str], tokeniser: str = "auto") -> Vocab:
        """Number the tokens of some texts, which should be those of the training split and no others.

        texts: normalised; tokeniser: "words", "characters", "bpe" or "auto", which chooses words or bpe.
        Raises ValueError if there are no texts, or for another tokeniser.
        """
        texts = list(texts)
        if not any(texts):
            raise ValueError("Vocab.build(): there is no text to build from. Give it the texts of the training split.")
        kind = find_tokeniser(choose(texts) if tokeniser == "auto" else tokeniser)
        learnt = kind.learn(texts)
        counts = Counter(token for text in texts for token in learnt.split(text))
        return cls(learnt, sorted(counts, key=lambda token: (-counts[token], token)))

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"<Vocab of {len(self)} tokens, {self.tokeniser.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and self.to_dict() == other.to_dict()

    def encode(self, text: str) -> list[int]:
        """Give the ids of the tokens of a text, UNK for those that are not in the vocabulary."""
        return [self.ids.get(token, UNK) for token in self.tokeniser.split(text)]

    def unknown(self, text: str) -> list[str]:
        """Name the tokens of a text that are not in the vocabulary, each once and without its space."""
        tokens = dict.fromkeys(self.tokeniser.split(text))
        return [token.strip() or token for token in tokens if token not in self.ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Give the text of some ids, up to the first EOS and without the special tokens.

        Raises ValueError for an id that is not in the vocabulary.
        """
        tokens = []
        for i in ids:
            if not 0 <= i < len(self):
                raise ValueError(
                    f"Vocab.decode(): got the id {i}, and there are {len(self)} tokens. "
                    "Decode with the vocabulary that the model was trained with."
                )
            if i == EOS:
                break
            if i >= len(SPECIALS):
                tokens.append(self.tokens[i])
        return self.tokeniser.join(tokens)

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Give the ids of several texts."""
        return [self.encode(text) for text in texts]

    def decode_batch(self, rows: Iterable[Iterable[int]] | np.ndarray) -> list[str]:
        """Give the texts of several rows of ids: lists, or an array (B, T)."""
        return [self.decode(row) for row in rows]

    def to_dict(self) -> dict[str, Any]:
        """All that `from_dict` needs to build this vocabulary again, as plain JSON."""
        return {"tokeniser": self.tokeniser.to_dict(), "tokens": self.tokens[len(SPECIALS) :]}

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> Vocab:
        """Build the vocabulary that `to_dict` described."""
        described = options["tokeniser"]
        return cls(find_tokeniser(described["name"]).from_dict(described), options["tokens"])


def find_tokeniser(name: str) -> type[Tokeniser]:
    """Give the tokeniser of this name; ValueError, with the names that there are, for any other."""
    if name not in TOKENISERS:
        raise ValueError(f"Vocab: there is no tokeniser {name!r}. Choose one of: auto, {', '.join(TOKENISERS)}.")
    return TOKENISERS[name]
