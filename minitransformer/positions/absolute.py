"""Schemes that add a vector to every token, by the place where it stands."""

from __future__ import annotations

import math

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

from ..checks import check_sizes
from .base import Added, Array


def sinusoids(pos: Array, d_model: int) -> Array:
    """The paper's positions, in float64: (T, D) for positions (T,), which may be negative or lie between integers.

    PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos(pos / 10000^(2i / d_model)).
    Raises ValueError if d_model is odd: the paper does not say what the last one would be.
    """
    if d_model % 2:
        raise ValueError(
            f"Sinusoidal(): d_model is {d_model}; sines and cosines come in pairs, it must be even. "
            "Use an even d_model, or learned positions."
        )
    angles = pos[:, None] / 10000.0 ** (np.arange(0, d_model, 2) / d_model)  # (T, D/2)
    pairs = np.stack([np.sin(angles), np.cos(angles)], axis=-1)  # (T, D/2, 2)
    return pairs.reshape(len(pos), d_model)


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
        self.d_model = d_model
        self.last = np.empty(0, int), sinusoids(np.empty(0, int), d_model)

    def encoding(self, pos: Array) -> mg.Tensor:
        """Give the vectors (T, D) for the positions (T,), in float64; those of the last call are kept."""
        known, vectors = self.last
        if not np.array_equal(pos, known):
            vectors = sinusoids(pos, self.d_model)
            self.last = pos.copy(), vectors
        return mg.from_numpy(vectors.copy())  # (T, D)

    def extra_repr(self) -> str:
        """The size."""
        return f"d_model={self.d_model}"


class Learned(Added):
    """A table with one vector for each position, trained like any other parameter (Gehring et al. 2017).

    It starts normal with variance 1/d_model, as the embeddings of the tokens do. Raises PlaceError for a position
    that the table does not have.

    >>> Learned(max_len=10, d_model=4).encoding(np.array([0, 1])).shape
    (2, 4)
    """

    def __init__(self, max_len: int, d_model: int) -> None:
        super().__init__()
        check_sizes("Learned", max_len=max_len, d_model=d_model)
        self.max_len = max_len
        self.weight = nn.Parameter(mg.empty(max_len, d_model))
        nn.init.normal_(self.weight, std=d_model**-0.5)

    def encoding(self, pos: Array) -> mg.Tensor:
        """Give the vectors (T, D) for the positions (T,)."""
        self.check(pos)
        return F.embedding(pos, self.weight)  # (T, D)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"max_len={self.max_len}, d_model={self.weight.shape[1]}"


class SinusoidalInit(Learned):
    """A table like `Learned`'s that starts as the sinusoids, and is then trained: the best of both, or so one hopes.

    Raises ValueError if d_model is odd.

    >>> SinusoidalInit(max_len=10, d_model=2).encoding(np.array([0]))
    tensor([[0., 1.]], op=embedding)
    """

    def __init__(self, max_len: int, d_model: int) -> None:
        super().__init__(max_len, d_model)
        self.weight = nn.Parameter(mg.from_numpy(sinusoids(np.arange(max_len), d_model)).type_as(self.weight))


class Axial(Added):
    """Two small tables in the place of a long one: position p stands in row p // C, column p % C    (Ho et al. 2019).

        encoding(p) = concat(row[p // C], column[p % C])

    as Kitaev, Kaiser and Levskaya (2020) use it: the first half of the vector says which row, the second which column.
    R C positions, the least such that R and C are about equal and R C >= max_len, cost (R + C) D / 2 numbers. Both
    tables start as Learned's. Raises PlaceError for a position beyond R C.

    >>> scheme = Axial(max_len=100, d_model=8)
    >>> scheme.max_len, sum(p.numel() for p in scheme.parameters())
    (100, 80)
    """

    def __init__(self, max_len: int, d_model: int) -> None:
        super().__init__()
        check_sizes("Axial", max_len=max_len, d_model=d_model)
        rows = math.ceil(math.sqrt(max_len))
        columns = math.ceil(max_len / rows)
        self.max_len = rows * columns
        self.row = nn.Parameter(mg.empty(rows, d_model // 2))
        self.column = nn.Parameter(mg.empty(columns, d_model - d_model // 2))
        for table in (self.row, self.column):
            nn.init.normal_(table, std=d_model**-0.5)

    def encoding(self, pos: Array) -> mg.Tensor:
        """Give the vectors (T, D) for the positions (T,)."""
        self.check(pos)
        row, column = np.divmod(pos, len(self.column))
        return mg.cat([F.embedding(row, self.row), F.embedding(column, self.column)], dim=-1)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"rows={len(self.row)}, columns={len(self.column)}, d_model={self.row.shape[1] + self.column.shape[1]}"
