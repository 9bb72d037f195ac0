"""Five patients: a small Transformer that learns to write digits backwards, with one mistake in one of its parts.

For lesson c02. Whoever wants to find the mistakes with the instruments should not read on.

`patient("A", seed, where=0)` is a model, and `place("A", where=0)` the path of the module with the mistake; the patient
"healthy" has none. `sentences` is what they learn from; `train` and `writes` teach and examine them.

>>> patients = [patient(name, seed=0) for name in ("healthy", *PLACES)]
>>> len({model.num_parameters()["total"] for model in patients}), place("healthy")
(1, None)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import nn

Array = np.ndarray
PAD, BOS, EOS, DIGITS, LONGEST = 0, 1, 2, 8, 6
CONFIG = mt.TransformerConfig(
    src_vocab_size=11, d_model=32, nhead=2, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=64, dropout=0.0
)
PLACES = {  # where each mistake may be
    "A": ("decoder.layers.1.self_attn", "decoder.layers.0.self_attn"),
    "B": ("decoder.layers.1.cross_attn", "encoder.layers.0.self_attn", "decoder.layers.0.self_attn"),
    "C": ("encoder.layers.1.add_norm1", "decoder.layers.1.add_norm2", "encoder.layers.0.add_norm1"),
    "D": ("encoder.layers.1", "encoder.layers.0"),
    "E": ("decoder.layers.1.cross_attn.score", "decoder.layers.0.cross_attn.score"),
}


class A(mt.MultiHeadAttention):
    """np.tri(..., k=1): each place sees itself, those before, and the one after."""

    def forward(self, query: Any, key: Any, value: Any, mask: Any = None, **settings: Any) -> mg.Tensor:
        """From (B, T, D) and (B, S, D) to (B, T, D)."""
        T, S = query.shape[1], mask.shape[-1]
        return super().forward(query, key, value, np.tri(T, S, k=S - T + 1, dtype=bool), **settings)


class C(mt.AddNorm):
    """The norm of f(x), not of x + f(x)."""

    def forward(self, x: mg.Tensor, sublayer: Any, real: Any = None) -> mg.Tensor:
        """From (B, T, D) to (B, T, D)."""
        return self.norm(self.dropout(sublayer(x)))


class D(mt.EncoderLayer):
    """What it returns is kept for later, without its past; it saves memory."""

    def forward(self, *arguments: Any) -> mg.Tensor:
        """From (B, S, D) to (B, S, D)."""
        return super().forward(*arguments).detach()


class E(mt.ScaledDotProduct):
    """A softmax over nothing but -inf, where a sentence has no token."""

    def forward(self, q: Any, k: Any, v: Any, mask: Any = None, *rest: Any, **settings: Any) -> mg.Tensor:
        """From (B, H, T, K) and (B, H, S, K) to (B, H, T, K)."""
        return self.scores(q, k).masked_fill(~mg.from_numpy(np.asarray(mask)), -math.inf).softmax(-1) @ v


def place(name: str, where: int = 0) -> str | None:
    """Where the mistake is; `where` counts the possible places, and begins again after the last one."""
    return PLACES[name][where % len(PLACES[name])] if name in PLACES else None


def patient(name: str, seed: int, where: int = 0) -> mt.Transformer:
    """Make an untrained patient: "healthy", "A", ..., "E"; those of one seed begin with the same parameters."""
    mg.manual_seed(seed)
    model, path, sizes = mt.Transformer(CONFIG), place(name, where), (CONFIG.d_model, CONFIG.nhead)
    if path is not None:
        makers = {"A": lambda: A(*sizes), "C": lambda: C(CONFIG), "D": lambda: D(CONFIG), "E": lambda: E(16)}
        # B: times the square root of the size of a head, not divided by it
        ill: nn.Module = makers.get(name, lambda: mt.MultiHeadAttention(*sizes, scale=4.0))()
        modules, (parent, _, own) = dict(model.named_modules()), path.rpartition(".")
        ill.load_state_dict(modules[path].state_dict())
        setattr(modules[parent], own, ill)
    return model


def sentences(rng: np.random.Generator, batch: int = 32, empty: float = 0.0005) -> tuple[Array, ...]:
    """Source (B, S), what the decoder reads (B, T) and what it shall answer (B, T); one line in 2,000 is empty."""
    lengths = np.where(rng.random(batch) < empty, 0, rng.integers(1, LONGEST + 1, batch))
    src = np.where(np.arange(LONGEST) < lengths[:, None], rng.integers(3, 3 + DIGITS, (batch, LONGEST)), PAD)
    answer = np.full((batch, LONGEST + 1), PAD)
    for row, text, length in zip(answer, src, lengths, strict=True):
        row[: length + 1] = [*text[:length][::-1], EOS]
    reads = np.concatenate([np.full((batch, 1), BOS), np.where(answer == EOS, PAD, answer)[:, :-1]], axis=1)
    return src, reads, answer


def train(model: mt.Transformer, steps: int, seed: int = 0, lr: float = 3e-3) -> list[float]:
    """Train by Adam at a rate that falls to 0; return the losses, of which the last one may be NaN."""
    rng, optimizer, losses = np.random.default_rng(seed), mg.optim.Adam(model.parameters(), lr=lr), []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min((step + 1) / 40, 1 - step / steps)
        src, reads, answer = sentences(rng)
        loss = mg.ops.cross_entropy(model(src, reads), answer, ignore_index=PAD)
        losses.append(loss.item())
        if math.isnan(losses[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def writes(model: mt.Transformer) -> float:
    """Which part of 256 new sentences the model writes without a mistake, reading nothing but the source."""
    src, _, answer = sentences(np.random.default_rng(99), 256, empty=0.0)
    written = mt.greedy(model, src, max_len=LONGEST + 1)  # (B, T), perhaps fewer
    missing = answer.shape[1] - written.shape[1]
    return float((np.pad(written, ((0, 0), (0, missing))) == answer).all(axis=1).mean())
