"""What a decoder keeps between the steps of decoding, so that each step computes only what is new.

For the sentences of a batch, in their order: keys and values of the tokens so far, for each attention. While decoding,
sentences may end, swap places or split (`select`), and tokens that were only tried may be taken back (`truncate`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import minigrad as mg

if TYPE_CHECKING:
    from .attention import MultiHeadAttention

Array = np.ndarray
Pair = tuple[mg.Tensor, mg.Tensor]


class KeysAndValues:
    """The keys and values of one attention, (B, H, S, K) each."""

    def __init__(self) -> None:
        self.kept: Pair | None = None

    def __call__(self, attention: MultiHeadAttention, key: mg.Tensor, value: mg.Tensor) -> Pair:
        """All keys and values that there are now to attend to; key and value (B, T, D) are what is new."""
        raise NotImplementedError(f"{type(self).__name__} does not say what is kept")

    def select(self, rows: Array) -> None:
        """Keep these sentences of the batch, in this order; one may be there several times."""
        self.kept = self.kept and (self.kept[0][rows], self.kept[1][rows])

    def truncate(self, length: int) -> None:
        """Forget what came after the first `length` tokens."""


class Growing(KeysAndValues):
    """For self-attention: those of the new tokens join those of the tokens before."""

    def __call__(self, attention: MultiHeadAttention, key: mg.Tensor, value: mg.Tensor) -> Pair:
        """Project the new tokens, and return the keys and values of all."""
        new = attention.keys_and_values(key, value)
        if self.kept is not None:
            new = tuple(mg.ops.cat(old, more, dim=2) for old, more in zip(self.kept, new, strict=True))
        self.kept = new
        return self.kept

    def truncate(self, length: int) -> None:
        """Forget the keys and values of the tokens after the first `length`."""
        self.kept = self.kept and (self.kept[0][:, :, :length], self.kept[1][:, :, :length])


class Fixed(KeysAndValues):
    """For cross-attention: the source does not change, so once is enough."""

    def __call__(self, attention: MultiHeadAttention, key: mg.Tensor, value: mg.Tensor) -> Pair:
        """Project at the first call only."""
        if self.kept is None:
            self.kept = attention.keys_and_values(key, value)
        return self.kept


class LayerCache(NamedTuple):
    """What one layer keeps: of its self-attention, and of its cross-attention if it has one."""

    self_attn: KeysAndValues
    cross_attn: KeysAndValues


class Cache:
    """What a stack of layers has computed for the first `length` tokens of a batch of sentences."""

    def __init__(self, num_layers: int) -> None:
        self.length = 0
        self.layers = [LayerCache(Growing(), Fixed()) for _ in range(num_layers)]

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
