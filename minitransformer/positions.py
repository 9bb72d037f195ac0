"""Where a token stands. Attention alone does not know: permute the tokens, and its outputs are permuted with them.

A scheme plugs in at three places, and each of them does nothing unless the scheme says otherwise:

| method                           | called                            | for schemes that                        |
|----------------------------------|-----------------------------------|-----------------------------------------|
| `embed(x, pos)`                  | once, before the first layer      | add a vector to every token             |
| `rotate(q, k, q_pos, k_pos)`     | in every self-attention           | turn queries and keys by their position |
| `bias(q, q_pos, k_pos)`          | in every self-attention           | add a number to every score             |

`pos`, `q_pos` (T,) and `k_pos` (S,) are arrays of integers. They are arguments, not 0, 1, 2, ..., because in decoding
with a cache the first query does not stand at position 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

if TYPE_CHECKING:
    from .config import TransformerConfig

Array = np.ndarray


class Positions(nn.Module):
    """No information about positions at all, and the base of the schemes that have some.

    `max_len` is the number of positions that the scheme has, None if there is no limit.
    """

    max_len: int | None = None

    def embed(self, x: mg.Tensor, pos: Array) -> mg.Tensor:
        """Change the embedded tokens x (B, T, D), which stand at `pos`."""
        return x

    def rotate(self, q: mg.Tensor, k: mg.Tensor, q_pos: Array, k_pos: Array) -> tuple[mg.Tensor, mg.Tensor]:
        """Change queries q (B, H, T, K) and keys k (B, H, S, K)."""
        return q, k

    def bias(self, q: mg.Tensor, q_pos: Array, k_pos: Array) -> mg.Tensor | None:
        """Give what is added to the scores, of a shape that broadcasts to (B, H, T, S)."""
        return None


class Added(Positions):
    """A scheme that adds the vector `encoding(pos)` to every token. Tap: `pos`, these vectors."""

    taps = ("pos",)

    def embed(self, x: mg.Tensor, pos: Array) -> mg.Tensor:
        """x + encoding(pos), the same for every sentence of the batch."""
        return x + self.tap("pos", self.encoding(pos).type_as(x))  # (B, T, D) + (T, D)

    def encoding(self, pos: Array) -> mg.Tensor:
        """Give the vectors (T, D) for the positions (T,)."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it adds; define encoding()")


class Sinusoidal(Added):
    """The paper's positions: d_model / 2 clocks, from fast to slow, each read off as a sine and a cosine.

        PE(pos, 2i)     = sin(pos / 10000^(2i / d_model))
        PE(pos, 2i + 1) = cos(pos / 10000^(2i / d_model))                          (Vaswani et al. 2017, section 3.5)

    Nothing is learnt, and there is a vector for every position: computed in float64 when asked for, then rounded to
    the dtype of the model. Raises ValueError if d_model is odd: the paper does not say what the last one would be.

    >>> Sinusoidal(4).encoding(np.array([0]))
    tensor([[0., 1., 0., 1.]], dtype=float64)
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        if d_model % 2:
            raise ValueError(
                f"Sinusoidal(): d_model is {d_model}; sines and cosines come in pairs, it must be even. "
                "Use an even d_model, or learned positions."
            )
        self.d_model = d_model
        self.last = np.empty(0, int), np.empty((0, d_model))

    def encoding(self, pos: Array) -> mg.Tensor:
        """Give the vectors (T, D) for the positions (T,), in float64; those of the last call are kept."""
        known, vectors = self.last
        if not np.array_equal(pos, known):
            two_i = np.arange(0, self.d_model, 2)
            angles = pos[:, None] / 10000.0 ** (two_i / self.d_model)  # (T, D/2)
            pairs = np.stack([np.sin(angles), np.cos(angles)], axis=-1)  # (T, D/2, 2)
            vectors = pairs.reshape(len(pos), self.d_model)
            self.last = pos.copy(), vectors
        return mg.from_numpy(vectors.copy())  # (T, D)

    def extra_repr(self) -> str:
        """The size."""
        return f"d_model={self.d_model}"


class Learned(Added):
    """A table with one vector for each position, trained like any other parameter (Gehring et al. 2017).

    It starts normal with variance 1/d_model, as the embeddings of the tokens do. Raises IndexError for a position
    that the table does not have.

    >>> Learned(max_len=10, d_model=4).encoding(np.array([0, 1])).shape
    (2, 4)
    """

    def __init__(self, max_len: int, d_model: int) -> None:
        super().__init__()
        self.max_len = max_len
        self.weight = nn.Parameter(mg.empty(max_len, d_model))
        nn.init.normal_(self.weight, std=d_model**-0.5)

    def encoding(self, pos: Array) -> mg.Tensor:
        """Give the vectors (T, D) for the positions (T,)."""
        length = int(pos.max(initial=-1)) + 1
        if length > len(self.weight):
            raise IndexError(
                f"Learned(): the text has {length} tokens, the table {len(self.weight)} positions. "
                "Use shorter texts, or train a model with a larger max_len."
            )
        return F.embedding(pos, self.weight)  # (T, D)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"max_len={self.max_len}, d_model={self.weight.shape[1]}"


POSITIONS: dict[str, Callable[[TransformerConfig], Positions]] = {
    "sinusoidal": lambda config: Sinusoidal(config.d_model),
    "learned": lambda config: Learned(config.max_len, config.d_model),
    "none": lambda config: Positions(),
}
