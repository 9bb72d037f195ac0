"""What is trained: three Transformers and their batches, the same for every contender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

PAD, BOS, EOS = 0, 1, 2
SMOOTHING = 0.1
ADAM: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.98), "eps": 1e-9}


@dataclass(frozen=True)
class Config:
    """A post-norm encoder-decoder whose output layer is the target's embedding, and the size of its batch."""

    layers: int = 2
    d_model: int = 64
    heads: int = 4
    feed_forward: int = 256
    vocabulary: int = 64
    batch: int = 64
    length: int = 16

    def tokens(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Source, target and the target one token later, each (batch, length), sentences of length/2 to length."""
        rng = np.random.default_rng(0)
        src = rng.integers(3, self.vocabulary, (self.batch, self.length))
        tgt = rng.integers(3, self.vocabulary, (self.batch, self.length + 1))
        ends = rng.integers(self.length // 2, self.length + 1, (2, self.batch, 1))
        src[np.arange(self.length) >= ends[0]] = PAD
        tgt[np.arange(self.length + 1) > ends[1]] = PAD
        tgt[:, 0] = BOS
        return src, tgt[:, :-1].copy(), tgt[:, 1:].copy()

    def flops(self) -> int:
        """Operations in the matrix products of one step; the way back has two products for each one forward."""
        rows, d = self.batch * self.length, self.d_model
        encoder = 4 * d * d + 2 * d * self.feed_forward
        decoder = encoder + 4 * d * d
        attention = 3 * self.layers * 2 * rows * self.length * d  # three per layer pair; q k^T and p v
        return 3 * 2 * (rows * (self.layers * (encoder + decoder) + d * self.vocabulary) + attention)


CONFIGS = {
    1: Config(),
    2: Config(layers=3, d_model=128, heads=8, feed_forward=512, vocabulary=256, batch=64, length=24),
    3: Config(layers=6, d_model=512, heads=8, feed_forward=2048, vocabulary=8000, batch=32, length=32),
}


def positions(length: int, d_model: int) -> np.ndarray:
    """PE[t, 2i] = sin(t / 10000^(2i/d)), PE[t, 2i + 1] = cos of the same (Vaswani et al. 2017, section 3.5)."""
    angle = np.arange(length)[:, None] / 10000 ** (np.arange(0, d_model, 2) / d_model)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, d_model).astype(np.float32)


def normal(*shape: int) -> np.ndarray:
    """Normally distributed float32, the same in every process."""
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def allowed(batch: int, length: int) -> np.ndarray:
    """Which keys are no padding, (batch, 1, 1, length), in sentences of length/2 to length."""
    ends = np.random.default_rng(0).integers(length // 2, length + 1, (batch, 1, 1, 1))
    return np.arange(length) < ends


def ids(rows: int, vocabulary: int) -> np.ndarray:
    """Tokens, a fifth of them padding."""
    tokens = np.random.default_rng(0).integers(1, vocabulary, rows)
    tokens[::5] = PAD
    return tokens
