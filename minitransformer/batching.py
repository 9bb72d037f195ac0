"""From encoded pairs to batches: texts of like length together, in an order that can be taken up again.

A batch is as wide as its longest text, and the rest is padding, for which the model computes as much as for text. So
texts of like length share a batch. The order of an epoch depends on nothing but the seed and the number of the epoch:
training can go on at any batch of it, as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .vocab import BOS, EOS, PAD, Vocab

POOL = 50  # batches among which texts are sorted; more would waste less padding, and mix the texts less


@dataclass(frozen=True, eq=False)
class Batch:
    """A few pairs as arrays of integers, padded at the end with PAD.

    src: (B, S) source texts, each with EOS behind it; tgt_in: (B, T) target texts with BOS before them, what the
    decoder reads; tgt_out: (B, T) target texts with EOS behind them, what it shall answer; index: (B,) the positions
    of the pairs in the list that was batched.
    """

    src: np.ndarray
    tgt_in: np.ndarray
    tgt_out: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def tokens(self) -> int:
        """The number of target tokens, padding not counted: what the loss is divided by."""
        return int(np.count_nonzero(self.tgt_out != PAD))


def pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Make an array (B, longest) of rows of integers, with PAD behind the shorter ones.

    >>> pad([[5, 6, 7], [8]])
    array([[5, 6, 7],
           [8, 0, 0]])
    """
    array = np.full((len(rows), max(map(len, rows), default=0)), PAD, dtype=np.int64)
    for row, numbers in zip(array, rows, strict=True):
        row[: len(numbers)] = numbers
    return array


def encode_pairs(pairs: Iterable[tuple[str, str]], source: Vocab, target: Vocab) -> list[tuple[list[int], list[int]]]:
    """Encode the texts of a split, each side with its vocabulary."""
    return [(source.encode(src), target.encode(tgt)) for src, tgt in pairs]


class Batches:
    """The batches of a split.

    pairs: encoded source and target, without BOS and EOS; batch_size: pairs in a batch, fewer in one batch of an epoch
    if the number of pairs is not a multiple; seed: for the order.
    Raises ValueError if there are no pairs, or for a batch size below 1.

    >>> batches = Batches([([4, 5], [6]), ([4], [7, 8, 9])], batch_size=2, seed=0)
    >>> [(batch.src.shape, batch.tgt_in.shape, batch.tokens) for batch in batches.epoch(0)]
    [((2, 3), (2, 4), 6)]
    """

    def __init__(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], batch_size: int, seed: int) -> None:
        if len(pairs) == 0:
            raise ValueError("Batches(): there are no pairs to make batches of. Choose a split that is not empty.")
        if batch_size < 1:
            raise ValueError(f"Batches(): batch_size is {batch_size}. It must be at least 1.")
        self.pairs = pairs
        self.batch_size = batch_size
        self.seed = seed
        self.lengths = np.array([(len(source), len(target)) for source, target in pairs])  # (pairs, 2)

    def __len__(self) -> int:
        """The number of batches in an epoch, the same in every one."""
        return -(-len(self.pairs) // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Give the batches of one epoch, from batch `start` on; those before it are not built.

        Shuffle all pairs, sort them by target and source length within pools of POOL batches, cut, shuffle the batches.
        """
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(self.pairs))
        pool = POOL * self.batch_size
        pools = [self._sort(order[first : first + pool]) for first in range(0, len(order), pool)]
        cuts = self._cut(np.concatenate(pools))
        for position in rng.permutation(len(cuts))[start:]:
            yield self._build(cuts[position])

    def in_order(self) -> Iterator[Batch]:
        """Give the batches for evaluation: from short to long, the same every time."""
        for index in self._cut(self._sort(np.arange(len(self.pairs)))):
            yield self._build(index)

    def _sort(self, index: np.ndarray) -> np.ndarray:
        """Sort by target length, on which more is computed, then source length; equals stay as they were."""
        return index[np.lexsort(self.lengths[index].T)]

    def _cut(self, index: np.ndarray) -> list[np.ndarray]:
        return [index[first : first + self.batch_size] for first in range(0, len(index), self.batch_size)]

    def _build(self, index: np.ndarray) -> Batch:
        pairs = [self.pairs[i] for i in index]
        return Batch(
            src=pad([[*source, EOS] for source, _ in pairs]),
            tgt_in=pad([[BOS, *target] for _, target in pairs]),
            tgt_out=pad([[*target, EOS] for _, target in pairs]),
            index=index,
        )
