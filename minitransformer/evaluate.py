"""A model with its vocabularies: text in, text out, and how often that is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import minigrad as mg

from .batching import Batches, encode_pairs, pad
from .decoding import evaluating, greedy
from .model import Transformer
from .tasks import Pair
from .vocab import BOS, EOS, PAD, Vocab

BATCH_SIZE = 128


@dataclass(frozen=True)
class Scores:
    """How well a model does on held-out sentences.

    exact_match: the share of sentences that greedy decoding gets right to the last letter. token_accuracy: the share
    of target tokens, the end of sentence included, that the model puts first when it is shown the true ones before.
    loss: the mean of -ln p over these tokens, without label smoothing.
    """

    exact_match: float
    token_accuracy: float
    loss: float
    sentences: int


@dataclass(frozen=True)
class Translator:
    """A trained model and the vocabularies of its two sides."""

    model: Transformer
    source: Vocab
    target: Vocab

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Translate normalised texts by greedy decoding, in batches of similar length; an empty text stays empty."""
        order = sorted((i for i, text in enumerate(texts) if text), key=lambda i: len(texts[i]))
        translations = [""] * len(texts)
        for start in range(0, len(order), BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            rows = self.source.encode_batch([texts[i] for i in chosen])
            written = greedy(self.model, pad([[*row, EOS] for row in rows]))
            for i, translation in zip(chosen, self.target.decode_batch(written), strict=True):
                translations[i] = translation
        return translations

    def evaluate(self, pairs: Sequence[Pair]) -> tuple[Scores, list[str]]:
        """Score the model on `pairs`; also return its translations, in their order."""
        batches = Batches(encode_pairs(list(pairs), self.source, self.target), BATCH_SIZE, seed=0)
        translations = [""] * len(pairs)
        loss, right, tokens = 0.0, 0, 0
        with evaluating(self.model):
            for batch in batches.in_order():
                logits = self.model(batch.src, batch.tgt_in)  # (B, T, V)
                loss += mg.ops.cross_entropy(logits, batch.tgt_out, ignore_index=PAD, reduction="sum").item()
                best = logits.numpy().argmax(axis=-1)  # (B, T)
                right += int(np.sum((best == batch.tgt_out) & (batch.tgt_out != PAD)))
                tokens += batch.tokens
                written = self.target.decode_batch(greedy(self.model, batch.src))
                for i, translation in zip(batch.index, written, strict=True):
                    translations[i] = translation
        exact = sum(translation == target for translation, (_, target) in zip(translations, pairs, strict=True))
        return Scores(exact / len(pairs), right / tokens, loss / tokens, len(pairs)), translations

    def attention(self, text: str) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
        """Cross-attention while the model translates a normalised text.

        Returns a pattern (H, T, S) for every decoder layer by its name, the S source tokens and the T tokens that the
        model writes, each at the row of the pattern from which it was written.
        """
        src = pad([[*self.source.encode(text), EOS]])
        written = greedy(self.model, src)  # (1, T)
        with evaluating(self.model), mg.nn.capture(self.model, "decoder.layers.*.cross_attn.pattern") as seen:
            self.model(src, np.concatenate([[[BOS]], written[:, :-1]], axis=1))
        patterns = {f"layer {name.split('.')[2]}": pattern.numpy()[0] for name, pattern in seen.items()}
        source = [*self.source.tokeniser.split(text), self.source.tokens[EOS]]
        return patterns, source, [self.target.tokens[i] for i in written[0]]
