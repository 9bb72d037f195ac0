"""What a decoder keeps between the steps of decoding, so that each step computes only what is new.

For the sentences of a batch, in their order: keys and values of the tokens so far, for each attention. While decoding,
sentences may end, swap places or split (`select`), and tokens that were only tried may be taken back (`truncate`).
Where a graph is built, what is kept keeps it; decoding builds none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import minigrad as mg

from .checks import check_sizes

Array = np.ndarray
Pair = tuple[mg.Tensor, mg.Tensor]
# From key and value (B, S, D), and the place of the first of them, to keys and values (B, H, S, K).
Project = Callable[[mg.Tensor, mg.Tensor, int], Pair]


class KeysAndValues:
    """The keys and values of one attention, (B, H, S, K) each."""

    def __init__(self) -> None:
        self.kept: Pair | None = None

    def __call__(self, project: Project, key: mg.Tensor, value: mg.Tensor) -> Pair:
        """All keys and values that there are now to attend to; key and value (B, T, D) are what is new."""
        raise NotImplementedError(f"{type(self).__name__} does not say what is kept")

    def select(self, rows: Array) -> None:
        """Keep these sentences of the batch, in this order; one may be there several times."""
        self.kept = self.kept and (self.kept[0][rows], self.kept[1][rows])

    def truncate(self, length: int) -> None:
        """Forget what came after the first `length` tokens."""


class Growing(KeysAndValues):
    """For self-attention: those of the new tokens join those of the tokens before."""

    def __call__(self, project: Project, key: mg.Tensor, value: mg.Tensor) -> Pair:
        """Project the new tokens, and return the keys and values of all."""
        new = project(key, value, 0 if self.kept is None else self.kept[0].shape[2])
        if self.kept is not None:
            new = tuple(mg.ops.cat(old, more, dim=2) for old, more in zip(self.kept, new, strict=True))
        self.kept = new
        return self.kept

    def truncate(self, length: int) -> None:
        """Forget the keys and values of the tokens after the first `length`."""
        self.kept = self.kept and (self.kept[0][:, :, :length], self.kept[1][:, :, :length])


class Fixed(KeysAndValues):
    """For cross-attention: the source does not change, so once is enough."""

    def __call__(self, project: Project, key: mg.Tensor, value: mg.Tensor) -> Pair:
        """Project at the first call only."""
        if self.kept is None:
            self.kept = project(key, value, 0)
        return self.kept


class LayerCache(NamedTuple):
    """What one layer keeps: of its self-attention, and of its cross-attention if it has one."""

    self_attn: KeysAndValues
    cross_attn: KeysAndValues


class Cache:
    """What a stack of layers has computed for the first `length` tokens of a batch of sentences."""

    def __init__(self, num_layers: int, make: Callable[[], KeysAndValues] = Growing) -> None:
        check_sizes(type(self).__name__, num_layers=num_layers)
        self.length = 0
        self.layers = [LayerCache(make(), Fixed()) for _ in range(num_layers)]

    def grow(self, tokens: int) -> None:
        """Note that the layers have seen so many more tokens."""
        self.length += tokens

    def select(self, rows: Array) -> None:
        """Keep these sentences of the batch, in this order; one may be there several times."""
        for part in self._parts():
            part.select(rows)

    def truncate(self, length: int) -> None:
        """Forget the tokens after the first `length`."""
        if not 0 <= length <= self.length:
            raise ValueError(f"Cache.truncate(): length is {length}; it must be 0 to {self.length}, what is there.")
        for part in self._parts():
            part.truncate(length)
        self.length = length

    def _parts(self) -> list[KeysAndValues]:
        return [part for layer in self.layers for part in layer]


class Segment(KeysAndValues):
    """For a long text in segments: a layer also looks at what it read in those before     (Dai et al. 2019, 3.2).

        h~ = concat(stop-gradient(h of the last segments), h),   k = W_K h~,   v = W_V h~

    Of the past, the inputs of the attention are kept, (B, memory_len, D), without a graph: the next segment uses them,
    but its gradient ends there.
    """

    def __init__(self, memory_len: int) -> None:
        super().__init__()
        self.memory_len = memory_len
        self.memory: mg.Tensor | None = None

    def __call__(self, project: Project, key: mg.Tensor, value: mg.Tensor) -> Pair:
        """Project this segment and what is kept of the ones before; then keep the last of both."""
        if self.memory is not None:
            if len(self.memory) != len(key):
                raise mg.ShapeError(
                    f"Segment: {len(key)} texts, and a memory of {len(self.memory)}. Make a new memory."
                )
            key = mg.cat([self.memory, key], dim=1)
        self.memory = key[:, max(0, key.shape[1] - self.memory_len) :].detach()
        return project(key, key, 0)

    def select(self, rows: Array) -> None:
        """Keep these texts of the batch, in this order."""
        self.memory = None if self.memory is None else self.memory[rows]

    def truncate(self, length: int) -> None:
        """Raise ValueError: what has been pushed out cannot come back."""
        raise ValueError("Segment.truncate(): what came before the memory is gone. Use a Cache to take tokens back.")


class Segments(Cache):
    """What the layers of a language model remember of the earlier segments of a text: the last `memory_len` tokens.

    Its length is that of the memory. So distances are right, but places are counted from the beginning of the memory:
    it is for schemes of positions that act inside attention. Raises ValueError for a negative memory_len.
    """

    def __init__(self, num_layers: int, memory_len: int) -> None:
        check_sizes("Segments", 0, memory_len=memory_len)
        super().__init__(num_layers, lambda: Segment(memory_len))
        self.memory_len = memory_len

    def grow(self, tokens: int) -> None:
        """Note that the layers have seen so many more tokens."""
        self.length = min(self.length + tokens, self.memory_len)
