"""Scores: what a query and a key have to do with each other. Three answers, which can take each other's place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import minigrad as mg
from minigrad import nn

from .checks import check_sizes, is_number

Tap = Callable[[str, Any], Any]
Mix = Callable[[Any, Any], Any]

# What scores are multiplied by, given the size K of a head.
SCALES: dict[str, Callable[[int], float]] = {
    "sqrt": lambda head_dim: 1 / math.sqrt(head_dim),
    "d_k": lambda head_dim: 1 / head_dim,
    "none": lambda head_dim: 1.0,
}


def scale_of(scale: str | float, head_dim: int) -> float:
    """The number that scores are multiplied by: `scale` itself, or what it is called in SCALES.

    Raises ValueError for anything else.

    >>> scale_of("sqrt", 16), scale_of("d_k", 16), scale_of(0.5, 16)
    (0.25, 0.0625, 0.5)
    """
    if is_number(scale):
        return float(scale)
    if not isinstance(scale, str) or scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; it must be a number or one of {', '.join(map(repr, SCALES))}.")
    return SCALES[scale](head_dim)


def has_methods_of(kind: type, thing: object, *names: str) -> bool:
    """Whether these methods are those of `kind`, overridden neither by a class nor in the thing itself."""
    return all(getattr(type(thing), name) is getattr(kind, name) and name not in vars(thing) for name in names)


class Score(nn.Module):
    """Attention from queries, keys and values on: z = dropout(softmax(scores(q, k) + bias)) v.

    A kind of score defines `scores`. It sees all heads at once, and shows scores and pattern to the `tap` of the
    attention that it belongs to.
    """

    def scores(self, q: mg.Tensor, k: mg.Tensor) -> mg.Tensor:
        """From queries (B, H, T, K) and keys (B, H, S, K) to how well they match, (B, H, T, S)."""
        raise NotImplementedError(f"{type(self).__name__} does not say how queries and keys match; define scores()")

    def forward(
        self,
        q: mg.Tensor,
        k: mg.Tensor,
        v: mg.Tensor,
        mask: Any = None,
        bias: Any = None,
        dropout_p: float = 0.0,
        tap: Tap | None = None,
        mix: Mix | None = None,
    ) -> mg.Tensor:
        """From q (B, H, T, K), k and v (B, H, S, K) to z (B, H, T, K).

        mask (boolean, True = may attend) and bias broadcast to (B, H, T, S). `mix(z, weights)` may add to z what the
        weights (B, H, T, S) choose besides the values.
        """
        settings = {"dropout_p": dropout_p, "seed": mg.random.next_seed() if dropout_p > 0 else None}
        if tap is None and mix is None:
            return self.attend(q, k, v, mask, bias, **settings)
        return mg.ops.attend(self.scores(q, k), v, mask, bias, tap=tap, mix=mix, **settings)

    def attend(self, q: mg.Tensor, k: mg.Tensor, v: mg.Tensor, mask: Any, bias: Any, **settings: Any) -> mg.Tensor:
        """From q, k and v to z while nobody watches, perhaps without the scores on the way."""
        return mg.ops.attend(self.scores(q, k), v, mask, bias, **settings)


class ScaledDotProduct(Score):
    """z = dropout(softmax(s q k^T)) v, s = 1/sqrt(K)                         (Vaswani et al. 2017, equation 1).

    head_dim: the size K of queries and keys; scale: s, a number or a name: "sqrt" for 1/sqrt(K), "d_k" for 1/K, "none"
    for 1. While nobody watches, the fused op runs, in which scores and pattern never exist as tensors.

    >>> ScaledDotProduct(16), ScaledDotProduct(16, scale="none")
    (ScaledDotProduct(scale=0.25), ScaledDotProduct(scale=1))
    """

    def __init__(self, head_dim: int, scale: str | float = "sqrt") -> None:
        super().__init__()
        check_sizes(type(self).__name__, head_dim=head_dim)
        self.scale = scale_of(scale, head_dim)

    def asked(self, q: mg.Tensor) -> mg.Tensor:
        """Change queries (B, H, T, K) before they meet the keys; here not at all."""
        return q

    def scores(self, q: mg.Tensor, k: mg.Tensor) -> mg.Tensor:
        """s q k^T."""
        return (self.asked(q) @ k.mT) * self.scale

    def attend(self, q: mg.Tensor, k: mg.Tensor, v: mg.Tensor, mask: Any, bias: Any, **settings: Any) -> mg.Tensor:
        """The fused op, unless a subclass makes other scores."""
        if not has_methods_of(ScaledDotProduct, self, "scores"):
            return super().attend(q, k, v, mask, bias, **settings)
        return mg.ops.scaled_dot_product_attention(self.asked(q), k, v, mask, bias, scale=self.scale, **settings)

    def extra_repr(self) -> str:
        """The scale."""
        return f"scale={self.scale:.4g}"


class Additive(Score):
    """score = v^T tanh(W q + U k), a small network of its own for every head    (Bahdanau, Cho and Bengio 2015, A.1.2).

    head_dim: the size K of queries and keys; nhead: H; hidden: the size A inside the network, K unless given.
    Parameters: w and u (H, A, K), v (H, A). It makes B H T S A numbers where a product makes none.

    >>> score = Additive(head_dim=4, nhead=2)
    >>> score.scores(mg.randn(1, 2, 3, 4), mg.randn(1, 2, 5, 4)).shape
    (1, 2, 3, 5)
    """

    def __init__(self, head_dim: int, nhead: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = head_dim if hidden is None else hidden
        check_sizes("Additive", head_dim=head_dim, nhead=nhead, hidden=hidden)
        self.w = nn.Parameter(mg.empty(nhead, hidden, head_dim))
        self.u = nn.Parameter(mg.empty(nhead, hidden, head_dim))
        self.v = nn.Parameter(mg.empty(nhead, hidden))
        for parameter in (self.w, self.u, self.v):  # what comes out has the variance of what goes in
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)

    def scores(self, q: mg.Tensor, k: mg.Tensor) -> mg.Tensor:
        """v^T tanh(W q + U k)."""
        w_q, u_k = q @ self.w.mT, k @ self.u.mT  # (B, H, T, A) and (B, H, S, A)
        hidden = (w_q.unsqueeze(3) + u_k.unsqueeze(2)).tanh()  # (B, H, T, S, A)
        return (hidden.flatten(2, 3) @ self.v.unsqueeze(2)).reshape(*hidden.shape[:-1])

    def extra_repr(self) -> str:
        """The sizes."""
        return f"nhead={self.v.shape[0]}, hidden={self.v.shape[1]}"


class General(ScaledDotProduct):
    """score = s q^T W k, with a matrix of its own for every head        (Luong, Pham and Manning 2015, "general").

    head_dim: the size K of queries and keys; nhead: H; scale: s, as in ScaledDotProduct; the paper's is "none".
    Parameter: w (H, K, K), which starts as the identity: as the scaled dot product, which it is with queries q W.

    >>> score, q, k = General(head_dim=4, nhead=2), mg.randn(1, 2, 3, 4), mg.randn(1, 2, 5, 4)
    >>> bool((score.scores(q, k) - ScaledDotProduct(4).scores(q, k)).abs().max() < 1e-6)
    True
    """

    def __init__(self, head_dim: int, nhead: int, scale: str | float = "sqrt") -> None:
        super().__init__(head_dim, scale)
        check_sizes("General", nhead=nhead)
        self.w = nn.Parameter(mg.eye(head_dim).expand(nhead, head_dim, head_dim).contiguous())

    def asked(self, q: mg.Tensor) -> mg.Tensor:
        """q W."""
        return q @ self.w


# By the name that a configuration gives: from the size of a head, the number of heads and the scale.
ATTENTIONS: Mapping[str, Callable[[int, int, str | float], Score]] = {
    "scaled_dot": lambda head_dim, nhead, scale: ScaledDotProduct(head_dim, scale),
    "additive": lambda head_dim, nhead, scale: Additive(head_dim, nhead),
    "general": lambda head_dim, nhead, scale: General(head_dim, nhead, scale),
}
