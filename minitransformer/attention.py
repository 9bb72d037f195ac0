"""Attention: every query looks at all keys and takes home a mean of the values, weighted by how well the keys match."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

from .cache import KeysAndValues
from .checks import check_sizes, choose
from .positions import NO_POSITIONS, Positions
from .scores import ATTENTIONS, ScaledDotProduct, has_methods_of


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each on projections of its own, so that a query can look at several things.

        out = concat(z_1, ..., z_H) W_O^T + b_O,   z_h = attention(q W_Qh^T + b, k W_Kh^T + b, v W_Vh^T + b)
                                                                               (Vaswani et al. 2017, section 3.2.2)

    d_model: size of inputs and output; nhead: the number H of heads; head_dim: the size K of each head, d_model / nhead
    unless given; dropout: on the attention weights; bias: whether the projections have one; share_qk: one projection
    for queries and keys (a weakness, there to be measured); attention: the score module, a name in ATTENTIONS; scale:
    what its scores are multiplied by, a number or a name in SCALES.
    Raises ValueError if d_model is not a multiple of nhead and no head_dim is given.

    Taps: `q` (B, H, T, K), `k` and `v` (B, H, S, K) as projected, with a cache those of the new tokens; `scores` and
    `pattern` (B, H, T, S), before and after the softmax; `z` (B, H, T, K) per head; `out` (B, T, D).

    >>> x = mg.randn(2, 5, 8)
    >>> attention = MultiHeadAttention(d_model=8, nhead=2)
    >>> with nn.capture(attention, "pattern") as seen:
    ...     attention(x, x, x).shape
    (2, 5, 8)
    >>> seen["pattern"].shape
    (2, 2, 5, 5)
    """

    taps = ("q", "k", "v", "scores", "pattern", "z", "out")

    def __init__(
        self,
        d_model: int,
        nhead: int,
        *,
        head_dim: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        share_qk: bool = False,
        attention: str = "scaled_dot",
        scale: str | float = "sqrt",
    ) -> None:
        super().__init__()
        check_sizes("MultiHeadAttention", d_model=d_model, nhead=nhead, head_dim=1 if head_dim is None else head_dim)
        if head_dim is None and d_model % nhead:
            raise ValueError(
                f"MultiHeadAttention(): nhead is {nhead}; it must divide d_model = {d_model}, unless head_dim is given."
            )
        self.nhead = nhead
        self.head_dim = d_model // nhead if head_dim is None else head_dim
        self.dropout = dropout
        inner = nhead * self.head_dim
        self.q_proj = nn.Linear(d_model, inner, bias=bias)
        self.k_proj = self.q_proj if share_qk else nn.Linear(d_model, inner, bias=bias)
        self.v_proj = nn.Linear(d_model, inner, bias=bias)
        self.out_proj = nn.Linear(inner, d_model, bias=bias)
        make_score = choose("MultiHeadAttention", "attention", ATTENTIONS, attention)
        self.score = make_score(self.head_dim, nhead, scale)

    def forward(
        self,
        query: mg.Tensor,
        key: mg.Tensor,
        value: mg.Tensor,
        mask: Any = None,
        *,
        positions: Positions = NO_POSITIONS,
        offset: int = 0,
        cache: KeysAndValues | None = None,
    ) -> mg.Tensor:
        """From query (B, T, D), key and value (B, S, D) to (B, T, D).

        mask: boolean, True = may attend, broadcasts to (B, H, T, S); offset: position of the first query; cache: holds
        the keys and values of earlier calls. A query that may attend to nothing gets z = 0.
        """
        for name, x in (("query", query), ("key", key), ("value", value)):
            if x.ndim != 3:
                raise mg.ShapeError(
                    f"MultiHeadAttention(): {name} has shape {x.shape}; it must be (batch, length, d_model). "
                    f"For one sentence try {name}.unsqueeze(0)."
                )
        as_usual = cache is None and key is value and len(query) == len(key)
        if as_usual and nn.may_fuse() and self.is_as_made(positions):
            return self._fused(query, None if key is query else key, mask)
        q = self.tap("q", self._split(self.q_proj(query)))  # (B, H, T, K)
        project = partial(self.keys_and_values, positions)
        k, v = project(key, value) if cache is None else cache(project, key, value)  # (B, H, S, K)
        q_pos, k_pos = np.arange(offset, offset + q.shape[2]), np.arange(k.shape[2])
        bias = positions.bias(q, q_pos, k_pos)
        q = positions.rotate(q, q_pos)
        mixes = type(positions).mix is not Positions.mix
        z = self.score(
            q,
            k,
            v,
            mask,
            bias,
            dropout_p=self.dropout if self.training else 0.0,
            tap=self.tap if self.watched("scores", "pattern") else None,
            mix=partial(positions.mix, q_pos=q_pos, k_pos=k_pos) if mixes else None,
        )
        z = mg.ops.join_heads(self.tap("z", z))  # (B, T, H K)
        return self.tap("out", self.out_proj(z))  # (B, T, D)

    def is_as_made(self, positions: Positions) -> bool:
        """Whether all parts are of the kinds that one op computes together."""
        return (
            nn.as_made(ScaledDotProduct, self.score)
            and has_methods_of(ScaledDotProduct, self.score, "asked", "scores", "attend")
            and nn.as_made(nn.Linear, self.q_proj, self.k_proj, self.v_proj, self.out_proj)
            and has_methods_of(MultiHeadAttention, self, "keys_and_values", "_split")
            and has_methods_of(Positions, positions, "rotate", "rotate_keys", "bias", "mix")
        )

    def _fused(self, x: mg.Tensor, memory: mg.Tensor | None, mask: Any) -> mg.Tensor:
        score: Any = self.score
        q, k, v, out = self.q_proj, self.k_proj, self.v_proj, self.out_proj
        p = self.dropout if self.training else 0.0
        return mg.ops.multi_head_attention(
            *(x, q.weight, k.weight, v.weight, out.weight, q.bias, k.bias, v.bias, out.bias, memory, mask),
            heads=self.nhead,
            scale=score.scale,
            dropout_p=p,
            seed=mg.random.next_seed() if p > 0 else None,
        )

    def keys_and_values(
        self, positions: Positions, key: mg.Tensor, value: mg.Tensor, start: int = 0
    ) -> tuple[mg.Tensor, mg.Tensor]:
        """Project key and value (B, S, D) to k and v (B, H, S, K); the first of them stands at `start`."""
        k, v = self.tap("k", self._split(self.k_proj(key))), self.tap("v", self._split(self.v_proj(value)))
        return positions.rotate_keys(k, np.arange(start, start + k.shape[2])), v

    def _split(self, x: mg.Tensor) -> mg.Tensor:
        """Cut the last dimension into heads: (B, T, H K) to (B, H, T, K)."""
        return mg.ops.split_heads(x, heads=self.nhead)

    def extra_repr(self) -> str:
        """The settings that the submodules do not show."""
        return f"nhead={self.nhead}, head_dim={self.head_dim}, dropout={self.dropout}"
