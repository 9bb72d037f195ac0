"""The protocol: where a scheme of positions plugs into the model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

import minigrad as mg
from minigrad import nn

Array = np.ndarray


class PlaceError(IndexError):
    """A text is longer than the scheme has places."""


class Positions(nn.Module):
    """No information about positions at all, and the base of the schemes that have some.

    `max_len` is the number of positions that the scheme can store, None if there is no limit.
    """

    max_len: int | None = None

    def embed(self, x: mg.Tensor, pos: Array) -> mg.Tensor:
        """Change the embedded tokens x (B, T, D), which stand at `pos`."""
        return x

    def rotate(self, q: mg.Tensor, pos: Array) -> mg.Tensor:
        """Change queries q (B, H, T, K), which stand at `pos`."""
        return q

    def rotate_keys(self, k: mg.Tensor, pos: Array) -> mg.Tensor:
        """Change keys k (B, H, S, K), which stand at `pos`. They may be kept, so this is done once for each."""
        return k

    def bias(self, q: mg.Tensor, q_pos: Array, k_pos: Array) -> mg.Tensor | None:
        """Give what is added to the scores, of a shape that broadcasts to (B, H, T, S); q as before `rotate`.

        The places of the queries follow each other, and so do those of the keys.
        """
        return None

    def mix(self, z: mg.Tensor, weights: mg.Tensor, q_pos: Array, k_pos: Array) -> mg.Tensor:
        """Change what the heads take home, z (B, H, T, K), given the weights (B, H, T, S) they took it with."""
        return z

    def of_layer(self, number: int) -> Positions:
        """Give the scheme as layer `number` uses it: the same for all, unless a layer has parameters of its own."""
        return self


class Added(Positions):
    """A scheme that adds the vector `encoding(pos)` to every token. Tap: `pos`, these vectors."""

    taps = ("pos",)

    def embed(self, x: mg.Tensor, pos: Array) -> mg.Tensor:
        """x + encoding(pos), the same for every sentence of the batch."""
        return x + self.tap("pos", self.encoding(pos).type_as(x))  # (B, T, D) + (T, D)

    def encoding(self, pos: Array) -> mg.Tensor:
        """Give the vectors (T, D) for the positions (T,)."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it adds; define encoding()")

    def check(self, pos: Array) -> None:
        """Raise PlaceError for a position that the scheme does not have."""
        length = int(pos.max(initial=-1)) + 1
        if self.max_len is not None and length > self.max_len:
            raise PlaceError(
                f"{type(self).__name__}(): the text has {length} tokens, the table {self.max_len} positions. "
                "Use shorter texts, or train a model with a larger max_len."
            )


class PerLayer(Positions):
    """A scheme of relative positions of which each layer has its own copy, with its own parameters."""

    def __init__(self, layers: Iterable[Positions]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def of_layer(self, number: int) -> Positions:
        """Give the copy of this layer."""
        layer = self.layers[number]
        assert isinstance(layer, Positions)
        return layer
