"""Half a Transformer each: a decoder without an encoder writes texts, an encoder without a decoder judges them.

Nothing here is new. A decoder layer that has no encoder to look at is an encoder layer whose mask hides the future.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

from .cache import Cache, Segments
from .checks import check_kind, check_sizes
from .config import TransformerConfig
from .masks import causal_mask, padding_mask
from .model import Encoder, TokenEmbedding, start_linear_layers, tokens
from .positions import INSIDE_ATTENTION, Added


class LanguageModel(nn.Module):
    """Decoder-only: logits for the next token at every place of a text          (Radford et al. 2018; Dai et al. 2019).

    config: as for a Transformer; the vocabulary is src_vocab_size, the layers num_decoder_layers. With `tie_weights`
    the output layer has the embedding as its weight. Submodules: embed, decoder, generator. Tap: `logits` (B, T, V).

    A long text may be read in segments: with positions="transformer_xl" and the memory of `new_memory`, each segment
    sees the last tokens of those before, but no gradient goes there.

    >>> model = LanguageModel(TransformerConfig(src_vocab_size=20, d_model=8, nhead=2, positions="transformer_xl"))
    >>> memory = model.new_memory(4)
    >>> for segment in [[5, 6, 7]], [[8, 9, 2]]:
    ...     logits = model(segment, memory)
    >>> logits.shape, memory.length
    ((1, 3, 20), 4)
    """

    taps = ("logits",)

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        check_kind("LanguageModel", config, TransformerConfig)
        self.config = config
        self.embed = TokenEmbedding(config.src_vocab_size, config)
        self.decoder = Encoder(config, config.num_decoder_layers, causal=True)
        self.generator = nn.Linear(config.d_model, config.src_vocab_size, bias=config.bias)
        start_linear_layers(self)
        if config.tie_weights:
            self.generator.weight = self.embed.weight

    def forward(self, ids: Any, cache: Cache | None = None) -> mg.Tensor:
        """From tokens (B, T) to logits (B, T, V); those at t depend on ids[:, : t + 1] and what is in the cache only.

        With a cache, `ids` are the tokens after those in it, and it grows by them. Padding is not attended to; with a
        cache there must be none, else ValueError.
        """
        ids = tokens("ids", ids)
        done = 0 if cache is None else cache.length
        real = ids != self.config.pad_id  # (B, T)
        if cache is not None and not real.all():
            raise ValueError(
                "LanguageModel(): there is padding in what goes into a cache, where it would count as text. Give texts "
                "of one length, or let decoding go on with prompts of several: greedy(model, prompts, step=Continue)."
            )
        before = np.ones((len(ids), 1, 1, done), bool)  # all of it is text
        mask = np.concatenate([before, padding_mask(ids, self.config.pad_id).data], axis=3)
        mask = causal_mask(ids.shape[1], offset=done).data & mask  # (B, 1, T, done + T)
        x = self.decoder(self.decoder.embed(self.embed, ids, done, real), mask, real, cache)
        return self.tap("logits", self.generator(x))  # (B, T, V)

    def new_cache(self) -> Cache:
        """Make an empty cache, for texts that are written token by token."""
        return Cache(len(self.decoder.layers))

    def new_memory(self, memory_len: int) -> Segments:
        """Make an empty memory of the last `memory_len` tokens, for texts that are read in segments.

        Raises ValueError if positions are counted from the beginning of the text: a memory does not know it.
        """
        if isinstance(self.decoder.positions, Added):
            raise ValueError(
                f"LanguageModel: {self.config.positions} positions count from the beginning of a text, which a memory "
                f"forgets. Use one of {', '.join(map(repr, INSIDE_ATTENTION))}."
            )
        return Segments(len(self.decoder.layers), memory_len)

    @property
    def max_len(self) -> int | None:
        """The longest text that it can read, None if there is no limit."""
        return self.decoder.positions.max_len


class Classifier(nn.Module):
    """Encoder-only: one of `num_classes` for a text, from the mean of the encoder's output over its tokens.

    config: as for a Transformer; the vocabulary is src_vocab_size, the layers num_encoder_layers. For two sentences,
    put a token between them that occurs nowhere else. Submodules: embed, encoder, head. Tap: `logits` (B, C).

    >>> model = Classifier(TransformerConfig(src_vocab_size=20, d_model=8, nhead=2), num_classes=3)
    >>> model([[5, 6, 7], [8, 0, 0]]).shape
    (2, 3)
    """

    taps = ("logits",)

    def __init__(self, config: TransformerConfig, num_classes: int) -> None:
        super().__init__()
        check_kind("Classifier", config, TransformerConfig)
        check_sizes("Classifier", num_classes=num_classes)
        self.config = config
        self.embed = TokenEmbedding(config.src_vocab_size, config)
        self.encoder = Encoder(config)
        self.head = nn.Linear(config.d_model, num_classes, bias=config.bias)
        start_linear_layers(self)

    def forward(self, ids: Any) -> mg.Tensor:
        """From tokens (B, S) to logits (B, C). Padding changes nothing; of a text without a token the mean is 0."""
        ids = tokens("ids", ids)
        real = ids != self.config.pad_id  # (B, S)
        x = self.encoder.embed(self.embed, ids, real=real)
        x = self.encoder(x, padding_mask(ids, self.config.pad_id), real)  # (B, S, D)
        share = real / np.maximum(real.sum(axis=1, keepdims=True), 1)  # (B, S)
        mean = mg.from_numpy(share[:, None, :]).type_as(x) @ x  # (B, 1, D)
        return self.tap("logits", self.head(mean.squeeze(1)))  # (B, C)
