"""Greedy decoding of ours, through the public interface."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minitransformer import Transformer, TransformerConfig, greedy

from . import cases


class Decode:
    """Write `tokens` tokens for each sentence of a batch; none ends before."""

    def __init__(self, config: dict[str, int], tokens: int, use_cache: bool = True) -> None:
        c = cases.Config(**config)
        mg.manual_seed(0)
        self.model = Transformer(
            TransformerConfig(
                src_vocab_size=c.vocabulary,
                tgt_vocab_size=c.vocabulary,
                d_model=c.d_model,
                nhead=c.heads,
                num_encoder_layers=c.layers,
                num_decoder_layers=c.layers,
                dim_feedforward=c.feed_forward,
                tie_weights=True,
            )
        )
        self.model.generator.bias.data[cases.EOS] = -1e9
        self.src, _, _ = c.tokens()
        self.length, self.use_cache = tokens, use_cache

    def __call__(self) -> None:
        greedy(self.model, self.src, max_len=self.length, use_cache=self.use_cache)

    def tokens(self) -> list[list[int]]:
        """What it writes."""
        return greedy(self.model, self.src, max_len=self.length, use_cache=self.use_cache).tolist()

    def save(self, path: str) -> None:
        """Write all weights, for a peer to have the same."""
        weights: dict[str, Any] = {name: p.data for name, p in self.model.named_parameters()}
        np.savez(path, **weights)


job = Decode
