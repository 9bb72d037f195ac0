"""Schemes that act inside attention, where what counts is how far apart a query and a key are.

Each of them can store any position: none has a table of places, only one of distances, or a formula.
"""

from __future__ import annotations

import math

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

from ..checks import check_sizes
from .absolute import sinusoids
from .base import Array, Positions


def distances(q_pos: Array, k_pos: Array) -> Array:
    """k_pos[s] - q_pos[t], (T, S): negative for keys before the query.

    >>> distances(np.array([0, 1]), np.array([0, 1, 2]))
    array([[ 0,  1,  2],
           [-1,  0,  1]])
    """
    return k_pos[None, :] - q_pos[:, None]


def all_distances(q_pos: Array, k_pos: Array) -> Array:
    """The different distances k_pos[s] - q_pos[t] of places that follow each other, (T + S - 1,), in order.

    >>> all_distances(np.array([0, 1]), np.array([0, 1, 2]))
    array([-1,  0,  1,  2])
    """
    first = k_pos[:1].sum() - q_pos[-1:].sum()
    return np.arange(first, first + max(len(q_pos) + len(k_pos) - 1, len(k_pos)))


def by_place(x: mg.Tensor, keys: int) -> mg.Tensor:
    """From (B, H, T, U), by distance, to (B, H, T, S), by place of the key: y[t, s] = x[t, s - t + T - 1], S = keys.

    The shift of Dai et al. 2019, appendix B: with one more column, row t begins at t (U + 1), and s - t + T - 1 places
    further is t U + s + T - 1. So from T - 1 on, in rows of U, every row begins where it should.
    """
    *batch, T, U = x.shape
    first = max(T - 1, 0)
    return F.pad(x, (0, 1)).flatten(-2)[..., first : first + T * U].reshape(*batch, T, U)[..., :keys]


def by_distance(y: mg.Tensor) -> mg.Tensor:
    """The way back of `by_place`: from (B, H, T, S) to (B, H, T, T + S - 1), 0 where there is no such key."""
    *batch, T, S = y.shape
    U = max(T + S - 1, S)
    rows = F.pad(F.pad(y, (0, U - S)).flatten(-2), (max(T - 1, 0), min(T, 1)))
    return rows.reshape(*batch, T, U + 1)[..., :U]


class Relative(Positions):
    """Vectors for the distance between query and key, clipped to -k..k       (Shaw, Uszkoreit and Vaswani 2018).

        e_ij = q_i . (k_j + a^K_ij) / sqrt(K),   z_i = sum_j alpha_ij (v_j + a^V_ij),   a_ij = w_clip(j - i, -k, k)

    The tables of keys and values, w^K and w^V (2k + 1, K), are shared by the heads; every layer has its own. Beyond k
    all distances look alike.

    head_dim: K; max_distance: k; scale: what scores are multiplied by, 1/sqrt(K) unless given.

    >>> scheme, q, pos = Relative(head_dim=4, max_distance=2), mg.randn(1, 2, 3, 4), np.arange(3)
    >>> scheme.bias(q, pos, pos).shape
    (1, 2, 3, 3)
    """

    def __init__(self, head_dim: int, max_distance: int = 16, scale: float | None = None) -> None:
        super().__init__()
        check_sizes("Relative", head_dim=head_dim, max_distance=max_distance)
        self.max_distance = max_distance
        self.scale = 1 / math.sqrt(head_dim) if scale is None else scale
        self.keys = nn.Parameter(mg.empty(2 * max_distance + 1, head_dim))
        self.values = nn.Parameter(mg.empty(2 * max_distance + 1, head_dim))
        for table in (self.keys, self.values):
            nn.init.normal_(table, std=head_dim**-0.5)

    def bias(self, q: mg.Tensor, q_pos: Array, k_pos: Array) -> mg.Tensor:
        """q_i . a^K_ij / sqrt(K), (B, H, T, S)."""
        return by_place(q @ self._vectors(self.keys, q_pos, k_pos).mT, len(k_pos)) * self.scale

    def mix(self, z: mg.Tensor, weights: mg.Tensor, q_pos: Array, k_pos: Array) -> mg.Tensor:
        """z_i + sum_j alpha_ij a^V_ij, (B, H, T, K)."""
        return z + by_distance(weights) @ self._vectors(self.values, q_pos, k_pos)

    def _vectors(self, table: mg.Tensor, q_pos: Array, k_pos: Array) -> mg.Tensor:
        """The vectors of all distances, (U, K)."""
        clipped = np.clip(all_distances(q_pos, k_pos), -self.max_distance, self.max_distance)
        return F.embedding(clipped + self.max_distance, table)

    def extra_repr(self) -> str:
        """The largest distance."""
        return f"max_distance={self.max_distance}"


class TransformerXL(Positions):
    """Distances as sinusoids, projected, and two vectors in the place of the query's own position    (Dai et al. 2019).

        A_ij = q_i . k_j + q_i . W_R R_(i-j) + u . k_j + v . W_R R_(i-j),   all over sqrt(K)

    The first and third terms are about the content of the key, the second and fourth about its distance; R are the
    sinusoids of Vaswani et al. For the segments of a long text see `Segments`, which lets layers look back beyond
    their own.

    d_model: size of the sinusoids; nhead: H; head_dim: K; scale as in Relative. Parameters: W_R (H K, D), u and v
    (H, 1, K). In the paper all layers share u and v; here, as in the authors' code if told so, each has its own.
    Raises ValueError if d_model is odd.
    """

    def __init__(self, d_model: int, nhead: int, head_dim: int, scale: float | None = None) -> None:
        super().__init__()
        check_sizes("TransformerXL", d_model=d_model, nhead=nhead, head_dim=head_dim)
        sinusoids(np.zeros(1), d_model)  # complains of an odd d_model now, not later
        self.d_model, self.nhead = d_model, nhead
        self.scale = 1 / math.sqrt(head_dim) if scale is None else scale
        self.proj = nn.Linear(d_model, nhead * head_dim, bias=False)
        self.u = nn.Parameter(mg.empty(nhead, 1, head_dim))
        self.v = nn.Parameter(mg.empty(nhead, 1, head_dim))
        for vector in (self.u, self.v):
            nn.init.normal_(vector, std=0.02)

    def rotate(self, q: mg.Tensor, pos: Array) -> mg.Tensor:
        """q + u, so that the scores hold the terms of the content, (q + u) . k."""
        return q + self.u

    def bias(self, q: mg.Tensor, q_pos: Array, k_pos: Array) -> mg.Tensor:
        """(q_i + v) . W_R R_(i-j) / sqrt(K): the terms of the distance."""
        table = mg.from_numpy(sinusoids(-all_distances(q_pos, k_pos), self.d_model)).type_as(q)  # (U, D)
        vectors = mg.ops.split_heads(self.proj(table), heads=self.nhead)  # (H, U, K)
        return by_place((q + self.v) @ vectors.mT, len(k_pos)) * self.scale

    def extra_repr(self) -> str:
        """The sizes."""
        return f"d_model={self.d_model}, nhead={self.nhead}"


class Rotary(Positions):
    """Queries and keys turn with their position, so that q . k depends on the distance only           (Su et al. 2021).

        (x_2i, x_2i+1) turned by the angle pos * theta_i,   theta_i = 10000^(-2i / K)

    Nothing is learnt. head_dim: K. Raises ValueError if it is odd.

    >>> q = Rotary(head_dim=2).rotate(mg.tensor([[[[1.0, 0.0]]]]), np.array([1]))
    >>> bool(np.allclose(q.numpy(), [np.cos(1), np.sin(1)]))
    True
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        check_sizes("Rotary", head_dim=head_dim)
        if head_dim % 2:
            raise ValueError(f"Rotary(): head_dim is {head_dim}; pairs of numbers are turned, it must be even.")
        self.head_dim = head_dim
        self.quarter = np.kron(np.eye(head_dim // 2), [[0.0, 1.0], [-1.0, 0.0]])  # turns every pair by 90 degrees

    def rotate(self, q: mg.Tensor, pos: Array) -> mg.Tensor:
        """Turn the queries."""
        return self._turned(q, pos)

    def rotate_keys(self, k: mg.Tensor, pos: Array) -> mg.Tensor:
        """Turn the keys."""
        return self._turned(k, pos)

    def _turned(self, x: mg.Tensor, pos: Array) -> mg.Tensor:
        """x cos + x' sin, x' = x turned by 90 degrees."""
        theta = 10000.0 ** (-np.arange(0, self.head_dim, 2) / self.head_dim)
        angles = np.repeat(pos[:, None] * theta, 2, axis=1)  # (T, K)
        cos, sin, quarter = (mg.from_numpy(a).type_as(x) for a in (np.cos(angles), np.sin(angles), self.quarter))
        return x * cos + (x @ quarter) * sin

    def extra_repr(self) -> str:
        """The size."""
        return f"head_dim={self.head_dim}"


class ALiBi(Positions):
    """A penalty on distance, for every head its own, fixed slope: -m_h |i - j| on the score    (Press et al. 2022).

    For a power of two of heads, m_h = 2^(-8h / H), h = 1..H; for other numbers the slopes of the power below, then
    every other one of the power above. Nothing is learnt. The paper has decoders, where j <= i; here the penalty is
    the same in both directions. nhead: H.

    >>> ALiBi(nhead=2).slopes
    array([0.0625    , 0.00390625])
    """

    def __init__(self, nhead: int) -> None:
        super().__init__()
        check_sizes("ALiBi", nhead=nhead)
        below = 2 ** int(math.log2(nhead))
        more = 2.0 ** (-8 * np.arange(1, 2 * below, 2) / (2 * below))
        self.slopes = np.concatenate([2.0 ** (-8 * np.arange(1, below + 1) / below), more])[:nhead]

    def bias(self, q: mg.Tensor, q_pos: Array, k_pos: Array) -> mg.Tensor:
        """-m_h |i - j|, (H, T, S)."""
        return mg.from_numpy(-self.slopes[:, None, None] * np.abs(distances(q_pos, k_pos))).type_as(q)

    def extra_repr(self) -> str:
        """The number of heads."""
        return f"nhead={len(self.slopes)}"


class T5Bias(Positions):
    """A learnt number for every head and bucket of distances, added to the score             (Raffel et al. 2020, 2.1).

    Small distances have buckets of their own, larger ones share them, the wider the farther, up to `max_distance`; all
    beyond share the last. If `bidirectional`, half of the buckets are for keys after the query; else those look like
    distance 0, and a causal mask hides them. The table (buckets, H) is shared by all layers, as the paper has it. The
    paper's scores are not divided by sqrt(K); here they are, unless the configuration says otherwise.

    d_model: decides how it starts, normal with variance 1/d_model; nhead: H. Raises ValueError for too few buckets.

    >>> T5Bias(d_model=8, nhead=2, buckets=8, max_distance=16).bucket(np.array([-20, -3, -2, -1, 0, 1, 2, 3, 20]))
    array([3, 2, 2, 1, 0, 5, 6, 6, 7])
    """

    def __init__(
        self, d_model: int, nhead: int, buckets: int = 32, max_distance: int = 128, bidirectional: bool = True
    ) -> None:
        super().__init__()
        check_sizes("T5Bias", d_model=d_model, nhead=nhead, buckets=buckets, max_distance=max_distance)
        sides = 2 if bidirectional else 1
        if buckets % sides or buckets < 2 * sides:
            even = "even, and " if bidirectional else ""
            raise ValueError(f"T5Bias(): buckets is {buckets}; it must be {even}at least {2 * sides}.")
        if max_distance <= buckets // sides // 2:
            raise ValueError(
                f"T5Bias(): max_distance is {max_distance}; it must be above {buckets // sides // 2}, the distances "
                f"that have one of the {buckets} buckets to themselves."
            )
        self.max_distance, self.bidirectional = max_distance, bidirectional
        self.weight = nn.Parameter(mg.empty(buckets, nhead))
        nn.init.normal_(self.weight, std=d_model**-0.5)

    def bucket(self, distance: Array) -> Array:
        """The bucket of each distance, key minus query."""
        buckets = len(self.weight)
        first = np.zeros_like(distance)
        if self.bidirectional:
            buckets //= 2
            first = np.where(distance > 0, buckets, 0)
            far = np.abs(distance)
        else:
            far = np.maximum(-distance, 0)
        alone = buckets // 2  # so many distances have a bucket of their own
        share = np.log(np.maximum(far, alone) / alone) / math.log(self.max_distance / alone)
        shared = np.minimum(alone + (share * (buckets - alone)).astype(distance.dtype), buckets - 1)
        return first + np.where(far < alone, far, shared)

    def bias(self, q: mg.Tensor, q_pos: Array, k_pos: Array) -> mg.Tensor:
        """weight[bucket(j - i), h], (H, T, S)."""
        return F.embedding(self.bucket(distances(q_pos, k_pos)), self.weight).permute(2, 0, 1)

    def extra_repr(self) -> str:
        """The sizes."""
        buckets, nhead = self.weight.shape
        return f"nhead={nhead}, buckets={buckets}, max_distance={self.max_distance}, bidirectional={self.bidirectional}"
