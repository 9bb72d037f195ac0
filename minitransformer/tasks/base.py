"""What a task is: pairs of texts, in splits that share nothing, and the options from which they can be made again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from random import Random
from typing import Any, ClassVar, TypeVar

Pair = tuple[str, str]  # source and target
T = TypeVar("T")


@dataclass(frozen=True)
class Task(ABC):
    """A translation task. Its fields are its options, and they alone decide what every split contains."""

    name: ClassVar[str]
    description: ClassVar[str]  # one line, for the list of tasks
    remedy: ClassVar[str]  # what to do when there are too few different pairs

    def __post_init__(self) -> None:
        for option, value in asdict(self).items():
            if option.endswith("_size") and value < 1:
                raise ValueError(f"{self.name}: {option} is {value}. It must be at least 1.")

    @cached_property
    def splits(self) -> dict[str, list[Pair]]:
        """The pairs of "train", "valid" (for early stopping), "random" (a test like the training) and a harder test.

        Made when first asked for. No two splits have a source text in common.
        Raises ValueError if there are too few different pairs to fill every split.
        """
        splits = self.make_splits()
        for name, pairs in splits.items():
            if not pairs:
                raise ValueError(f"{self.name}: nothing is left for the split {name!r}. {self.remedy}")
        return splits

    @abstractmethod
    def make_splits(self) -> dict[str, list[Pair]]:
        """Make the pairs of every split."""

    @abstractmethod
    def normalise(self, text: str) -> str:
        """Give what somebody types the form that the texts of the task have."""

    @property
    def slug(self) -> str:
        """A short name for files."""
        return self.name

    @property
    def source_label(self) -> str:
        """What the source texts are, for people."""
        return "source"

    @property
    def target_label(self) -> str:
        """What the target texts are, for people."""
        return "target"

    def to_dict(self) -> dict[str, Any]:
        """The name and the options, as plain JSON; `task_from_dict` makes the same task of them."""
        return {"name": self.name, **asdict(self)}


def shuffled(rng: Random, start: int, stop: int) -> Iterator[int]:
    """Give the integers from start up to stop in random order, each once, without ever listing them all.

    This is the shuffle of Fisher and Yates, on an array of which only the places that have changed exist.

    >>> sorted(shuffled(Random(0), 5, 9))
    [5, 6, 7, 8]
    """
    moved: dict[int, int] = {}
    for place in range(start, stop):
        other = rng.randrange(place, stop)
        yield moved.get(other, other)
        moved[other] = moved.pop(place, place)


def in_turn(streams: Iterable[Iterator[T]]) -> Iterator[T]:
    """Take one item from each stream, again and again; when one has ended, go on with the others.

    >>> "".join(in_turn([iter("ab"), iter("1234")]))
    'a1b234'
    """
    waiting = list(streams)
    while waiting:
        alive = []
        for stream in waiting:
            for item in stream:
                yield item
                alive.append(stream)
                break
        waiting = alive
