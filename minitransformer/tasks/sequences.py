"""Copy, reverse and sort: what a model must be able to do before it can translate, on sequences like "7 3 9 1"."""

from __future__ import annotations

import string
import unicodedata
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import ClassVar

from .base import Pair, Task, in_turn, shuffled

SYMBOLS = string.digits + string.ascii_lowercase
LONGEST = 200  # symbols; attention takes time and memory as the square of that


@dataclass(frozen=True)
class Sequences(Task):
    """Sequences of symbols, as many of each length as there are.

    symbols: how many different ones (10: the digits, 36: the letters too); min_length, max_length: of the sequences in
    "train", "valid" and "random"; longer: the split "longer" holds sequences that are up to this much longer than any
    in training (0: no such split); the sizes: how many pairs a split has, fewer where there are too few sequences.
    """

    remedy: ClassVar[str] = "Take more symbols or a larger max_length."
    symbols: int = 10
    min_length: int = 1
    max_length: int = 10
    longer: int = 2
    train_size: int = 20_000
    valid_size: int = 500
    random_size: int = 1_000
    longer_size: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.symbols <= len(SYMBOLS):
            raise ValueError(f"{self.name}: symbols is {self.symbols}. Choose from 2 to {len(SYMBOLS)}.")
        if not 1 <= self.min_length <= self.max_length <= LONGEST:
            raise ValueError(
                f"{self.name}: min_length is {self.min_length} and max_length is {self.max_length}. "
                f"Choose 1 <= min_length <= max_length <= {LONGEST}."
            )
        if self.longer < 0:
            raise ValueError(f"{self.name}: longer is {self.longer}. Choose 0 for no longer sequences, or more.")

    @staticmethod
    @abstractmethod
    def answer(symbols: str) -> str:
        """Give the target for a sequence without spaces."""

    def make_splits(self) -> dict[str, list[Pair]]:
        """Make the pairs of every split: each sequence is drawn once at most, and the tests get a tenth at most."""
        rng = Random(self.seed)
        lengths = range(self.min_length, self.max_length + 1)
        tenth = sum(self.symbols**length for length in lengths) // 10
        drawn = in_turn([self._pairs(rng, length) for length in lengths])
        splits = {
            "train": list(islice(drawn, min(self.train_size, 8 * tenth))),
            "valid": list(islice(drawn, min(self.valid_size, tenth))),
            "random": list(islice(drawn, min(self.random_size, tenth))),
        }
        if self.longer:
            beyond = range(self.max_length + 1, self.max_length + 1 + self.longer)
            drawn = in_turn([self._pairs(rng, length) for length in beyond])
            splits["longer"] = list(islice(drawn, self.longer_size))
        return splits

    def _pairs(self, rng: Random, length: int) -> Iterator[Pair]:
        """All pairs of one length in random order; a sequence is a number written with that many symbols."""
        for number in shuffled(rng, 0, self.symbols**length):
            written = ""
            for _ in range(length):
                number, digit = divmod(number, self.symbols)
                written += SYMBOLS[digit]
            yield " ".join(written), " ".join(self.answer(written))

    def normalise(self, text: str) -> str:
        """Put one space between the symbols, and leave out commas: "7, 3 91" becomes "7 3 9 1"."""
        text = unicodedata.normalize("NFC", text).lower()
        return " ".join("".join(text.replace(",", " ").split()))

    @property
    def source_label(self) -> str:
        """What the source texts are, for people."""
        return "sequence"

    @property
    def target_label(self) -> str:
        """What the target texts are, for people."""
        return self.name


@dataclass(frozen=True)
class Copy(Sequences):
    """The same sequence again."""

    name = "copy"
    description = 'Give back the same sequence: "7 3 9 1" -> "7 3 9 1".'

    @staticmethod
    def answer(symbols: str) -> str:
        """Give the target for a sequence without spaces."""
        return symbols


@dataclass(frozen=True)
class Reverse(Sequences):
    """The sequence from its end to its beginning."""

    name = "reverse"
    description = 'Give back the sequence from end to beginning: "7 3 9 1" -> "1 9 3 7".'

    @staticmethod
    def answer(symbols: str) -> str:
        """Give the target for a sequence without spaces."""
        return symbols[::-1]


@dataclass(frozen=True)
class Sort(Sequences):
    """The symbols in order, digits before letters."""

    name = "sort"
    description = 'Give back the symbols in order, digits before letters: "7 3 9 1" -> "1 3 7 9".'

    @staticmethod
    def answer(symbols: str) -> str:
        """Give the target for a sequence without spaces."""
        return "".join(sorted(symbols))
