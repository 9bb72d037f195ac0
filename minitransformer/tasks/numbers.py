"""Numbers in words, from one language to another: "seven hundred and thirty-one" -> "sept cent trente et un".

The words come from num2words, so that there is no end of exact examples. The splits are made of numbers, not of rows:
no number, and no text, is in two of them.
"""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import islice
from random import Random
from typing import ClassVar

from .base import Pair, Task, in_turn, shuffled

LIMIT = 10**15  # above it most languages run out of words, and sentences are long

# fmt: off
NAMES = {
    "am": "Amharic", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian", "bn": "Bengali", "ca": "Catalan",
    "ce": "Chechen", "cs": "Czech", "cy": "Welsh", "da": "Danish", "de": "German", "en": "English",
    "en_IN": "Indian English", "en_NG": "Nigerian English", "eo": "Esperanto", "es": "Spanish",
    "es_CO": "Colombian Spanish", "es_CR": "Costa Rican Spanish", "es_GT": "Guatemalan Spanish",
    "es_NI": "Nicaraguan Spanish", "es_VE": "Venezuelan Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French",
    "fr_BE": "Belgian French", "fr_CH": "Swiss French", "fr_DZ": "Algerian French", "he": "Hebrew", "hu": "Hungarian",
    "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese", "kn": "Kannada", "ko": "Korean",
    "kz": "Kazakh", "lt": "Lithuanian", "lv": "Latvian", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "pt": "Portuguese", "pt_BR": "Brazilian Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak",
    "sl": "Slovenian", "sr": "Serbian", "sv": "Swedish", "te": "Telugu", "tet": "Tetum", "tg": "Tajik", "th": "Thai",
    "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese",
}
# fmt: on


@dataclass(frozen=True)
class Numbers(Task):
    """The numbers from low to high, in two languages of num2words, which may be the same one.

    ordinals: "twenty-first" instead of "twenty-one"; the sizes: how many pairs a split has, fewer in a short interval.

    - "range": from a block of successive numbers of which none is in any other split. It starts at 42 % of the
      interval and is 1 % of it long (at least 50 numbers, if that is not more than a tenth).
    - "random" and "valid": drawn uniformly from the rest, at most a tenth of the interval each.
    - "train": the numbers in `always`, then as many with one digit as with two, three, and so on, as long as there are
      any. Long numbers alone would leave the short ones untaught: nine in ten below a million have six digits.
    """

    name = "numbers"
    description = "Write numbers in the words of another language, from and to any that num2words has."
    remedy: ClassVar[str] = "Widen the interval from low to high, or lower train_size."
    source: str = "en"
    target: str = "fr"
    low: int = 0
    high: int = 999_999
    ordinals: bool = False
    train_size: int = 30_000
    valid_size: int = 500
    random_size: int = 2_500
    range_size: int = 2_000
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, code in (("source", self.source), ("target", self.target)):
            known = {name.lower(): name for name in languages()}.get(code.lower().replace("-", "_"))
            if known is None:
                raise ValueError(f"{self.name}: {option} is {code!r}, which num2words does not have. {suggest(code)}")
            object.__setattr__(self, option, known)  # frozen, but not yet for the spelling of a code
        if not 0 <= self.low < self.high < LIMIT:
            raise ValueError(
                f"{self.name}: low is {self.low} and high is {self.high}. Choose 0 <= low < high < {LIMIT:,}."
            )

    @property
    def slug(self) -> str:
        """A short name for files."""
        return f"{self.name}-{self.source}-{self.target}{'-ordinals' if self.ordinals else ''}"

    @property
    def source_label(self) -> str:
        """The source language, for people."""
        return label(self.source)

    @property
    def target_label(self) -> str:
        """The target language, for people."""
        return label(self.target)

    def normalise(self, text: str) -> str:
        """Lower case, one space between words, no commas, composed characters (Unicode NFC)."""
        return " ".join(unicodedata.normalize("NFC", text).lower().replace(",", " ").split())

    @property
    def always(self) -> list[int]:
        """The numbers that are in "train" whatever the seed, so that no word of the tests is new.

        These are all numbers below 20 and all of one digit and zeros (30, 700, 50,000); and all below 100, in an
        interval of 1,000 or more, because many languages have a word of its own for each.
        """
        first = 100 if self.high - self.low >= 999 else 20
        round_numbers = {digit * 10**zeros for digit in range(1, 10) for zeros in range(len(str(self.high)))}
        return [n for n in sorted(round_numbers.union(range(first))) if self.low <= n <= self.high]

    @property
    def block(self) -> range:
        """The successive numbers of which none is in any split but "range"; those in `always` are in none but train."""
        size = self.high - self.low + 1
        start = self.low + size * 42 // 100
        return range(start, start + max(size // 100, min(size // 10, 50)))

    def make_splits(self) -> dict[str, list[Pair]]:
        """Make the pairs of every split."""
        return {split: list(members.values()) for split, members in self._members.items()}

    @cached_property
    def numbers(self) -> dict[str, list[int]]:
        """The numbers of every split, in the order of its pairs."""
        return {split: list(members) for split, members in self._members.items()}

    @cached_property
    def _members(self) -> dict[str, dict[int, Pair]]:
        """The numbers of every split and how they are written.

        A few languages write some numbers alike. A text, on either side, belongs to the first split in which it is
        found; a number is left out if one of its texts belongs to another split.
        """
        write_source = writer(self.source, self.ordinals, self.high)
        write_target = writer(self.target, self.ordinals, self.high)
        owners: tuple[dict[str, str], dict[str, str]] = {}, {}
        members: dict[str, dict[int, Pair]] = {}
        for split, numbers in self._draw().items():
            members[split] = {}
            for n in numbers:
                pair = self.normalise(write_source(n)), self.normalise(write_target(n))
                if all(owner.setdefault(text, split) == split for owner, text in zip(owners, pair, strict=True)):
                    members[split][n] = pair
        return members

    def _draw(self) -> dict[str, list[int]]:
        """Draw the numbers of every split; what one has taken, no other can draw. The training numbers come last.

        So the tests are the same for every train_size.
        """
        rng = Random(self.seed)
        always, block = self.always, self.block
        tenth = (self.high - self.low + 1) // 10
        taken = set(always)

        def draw(start: int, stop: int) -> Iterator[int]:
            return (n for n in shuffled(rng, start, stop) if n not in taken and n not in block)

        uniform = draw(self.low, self.high + 1)
        test = list(islice(uniform, min(self.random_size, tenth)))
        valid = list(islice(uniform, min(self.valid_size, tenth)))
        held_out = (n for n in shuffled(rng, block.start, block.stop) if n not in taken)
        in_block = list(islice(held_out, self.range_size))
        taken.update(test, valid)
        by_length = [
            draw(max(self.low, 10 ** (digits - 1)), min(self.high + 1, 10**digits))
            for digits in range(len(str(self.low)), len(str(self.high)) + 1)
        ]
        others = list(islice(in_turn(by_length), max(0, self.train_size - len(always))))
        return {"train": always + others, "valid": valid, "random": test, "range": in_block}


def languages() -> list[str]:
    """The codes of the languages that num2words has.

    >>> {"de", "en", "fr", "ja"} <= set(languages())
    True
    """
    from num2words import CONVERTER_CLASSES

    return sorted(CONVERTER_CLASSES)


def label(code: str) -> str:
    """Name a language for people.

    >>> label("fr")
    'French (fr)'
    """
    return f"{NAMES[code]} ({code})" if code in NAMES else code


def suggest(code: str) -> str:
    """Say which language may have been meant, and which there are.

    >>> suggest("german")[:32]
    'Did you mean German (de)? There '
    """
    codes = {known.lower(): known for known in languages()}
    names = {NAMES.get(known, known).lower(): known for known in languages()}
    typed = code.lower().replace("-", "_")
    near = [part for part in (typed, typed.split("_")[0]) if part in codes]
    near += get_close_matches(typed, [*codes, *names], n=1)
    meant = f"Did you mean {label({**names, **codes}[near[0]])}? " if near else ""
    return f"{meant}There are: {', '.join(codes.values())}."


def writer(code: str, ordinals: bool, high: int) -> Callable[[int], str]:
    """Give the function that writes numbers up to high in words.

    It raises ValueError for a number that num2words cannot write in this language.

    >>> writer("de", ordinals=False, high=99)(42)
    'zweiundvierzig'
    """
    from num2words import CONVERTER_CLASSES

    converter = copy.copy(CONVERTER_CLASSES[code])
    if hasattr(converter, "cards"):
        # It looks for the largest round number below n by trying all that have a name, from 10**600 downwards.
        # Without those that are too large, ten times as many numbers are written in the same time.
        converter.cards = {n: word for n, word in converter.cards.items() if n <= high}
    convert = converter.to_ordinal if ordinals else converter.to_cardinal

    def write(n: int) -> str:
        try:
            return convert(n)
        except Exception as error:  # whatever a converter raises where it has a gap: KeyError, TypeError, ...
            raise ValueError(
                f"numbers: num2words cannot write the {'ordinal' if ordinals else 'number'} {n} in {label(code)} "
                f"({error!r}). Choose another language, an interval (low, high) without such numbers"
                f"{', or no ordinals' if ordinals else ''}."
            ) from error

    return write
