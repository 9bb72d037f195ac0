"""A model with its vocabularies: text in, text out, and how often that is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg

from .batching import Batches, encode_pairs, pad
from .beam import beam_search
from .checks import check_texts
from .decoding import evaluating, greedy
from .tasks import Pair
from .vocab import BOS, EOS, PAD, Vocab

BATCH_SIZE = 128
CROSS_ATTENTION = re.compile(r"decoder\.(layers\.\d+\.cross_attn\.)?pattern")  # of a Transformer, of a GRUSeq2Seq
Search = Callable[[Any, np.ndarray], Any]  # from source tokens (B, S) to a sequence for each: tokens


@dataclass(frozen=True)
class Scores:
    """How well a model does on held-out sentences.

    exact_match: the share of sentences that decoding, greedy unless told otherwise, gets right to the last letter.
    token_accuracy: the share of target tokens, the end of sentence included, that the model puts first when it is shown
    the true ones before. loss: the mean of -ln p over these tokens, without label smoothing.
    """

    exact_match: float
    token_accuracy: float
    loss: float
    sentences: int


@dataclass(frozen=True)
class Translator:
    """A trained model, a `Transformer` or one with its interface, and the vocabularies of its two sides."""

    model: Any
    source: Vocab
    target: Vocab

    def translate(self, texts: Sequence[str], search: Search = greedy) -> list[str]:
        """Translate normalised texts, in batches of similar length; an empty text stays empty."""
        return self.target.decode_batch(self._found(texts, search))

    def n_best(self, texts: Sequence[str], search: Search = beam_search) -> list[list[tuple[float, str]]]:
        """Translate normalised texts in several ways each: scores and translations, the best first."""
        found = self._found(texts, search)
        return [[(y.score, self.target.decode(y.tokens)) for y in hypotheses] for hypotheses in found]

    def _found(self, texts: Sequence[str], search: Search) -> list[Any]:
        """What the search finds for each text, nothing for an empty one."""
        check_texts("Translator.translate", texts)
        order = sorted((i for i, text in enumerate(texts) if text), key=lambda i: len(texts[i]))
        found: list[Any] = [()] * len(texts)
        for start in range(0, len(order), BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            rows = self.source.encode_batch([texts[i] for i in chosen])
            for i, written in zip(chosen, search(self.model, pad([[*row, EOS] for row in rows])), strict=True):
                found[i] = written
        return found

    def evaluate(self, pairs: Sequence[Pair], search: Search = greedy) -> tuple[Scores, list[str]]:
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
                written = self.target.decode_batch(search(self.model, batch.src))
                for i, translation in zip(batch.index, written, strict=True):
                    translations[i] = translation
        exact = sum(translation == target for translation, (_, target) in zip(translations, pairs, strict=True))
        return Scores(exact / len(pairs), right / tokens, loss / tokens, len(pairs)), translations

    def attention(self, text: str) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
        """Cross-attention while the model translates a normalised text.

        Returns a pattern (H, T, S) for every decoder layer by its name, the S source tokens and the T tokens that the
        model writes, each at the row of the pattern from which it was written. A GRUSeq2Seq has one, with H = 1.
        """
        src = pad([[*self.source.encode(text), EOS]])
        written = greedy(self.model, src)  # (1, T)
        names = [name for name in mg.nn.tap_names(self.model) if CROSS_ATTENTION.fullmatch(name)]
        with evaluating(self.model), mg.nn.capture(self.model, *names) as seen:
            self.model(src, np.concatenate([[[BOS]], written[:, :-1]], axis=1))
        shape = (-1, written.shape[1], src.shape[1])  # (H, T, S)
        patterns = {f"layer {i}": seen[name].numpy().reshape(shape) for i, name in enumerate(names)}
        source = [*self.source.tokeniser.split(text), self.source.tokens[EOS]]
        return patterns, source, [self.target.tokens[i] for i in written[0]]
