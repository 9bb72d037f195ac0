"""A step for models that go on with a text: what has been written so far begins with a prompt."""

from __future__ import annotations

from typing import Any

import numpy as np

from .decoding import Array, log_probabilities


class Continue:
    """log p(next token | prompt, what has been written) for a batch of prompts, of a `LanguageModel`; see `Step`.

        greedy(model, prompts, max_len=20, step=Continue)

    prompts: integers (B, P), padded at the end, or a list of lists of them, of different lengths. The batch stands at
    one place of its texts at a time, so it begins where the shortest prompt ends; the other prompts are written on,
    each token with probability 1, until they end, too. So what a search returns begins with the rest of the prompt, if
    it is longer than the shortest, and log-probabilities do not count that. max_len counts what comes after the prompt;
    unless given, it is twice the prompt and 10. Raises ValueError for a prompt that is empty, holds an end of sentence
    or is longer than what the model can read.

    >>> from minitransformer import LanguageModel, TransformerConfig, greedy
    >>> model = LanguageModel(TransformerConfig(src_vocab_size=20, d_model=8, nhead=2, num_decoder_layers=1))
    >>> greedy(model, [[1, 5, 6], [1, 7, 8, 9]], max_len=3, step=Continue)[1, 0]
    np.int64(9)
    """  # fmt: skip

    def __init__(self, model: Any, prompts: Any, use_cache: bool = True) -> None:
        config = model.config
        self.pad_id, self.eos_id = config.pad_id, config.eos_id
        rows = [[int(token) for token in prompt if token != self.pad_id] for prompt in prompts]
        for number, row in enumerate(rows):
            if not row or self.eos_id in row:
                what = "holds the end of sentence" if row else "is empty; give at least a begin of sentence"
                raise ValueError(f"decoding: prompt {number} {what}. Nothing can be written after it.")
            if model.max_len is not None and len(row) > model.max_len:
                raise ValueError(
                    f"decoding: prompt {number} has {len(row)} tokens; the model reads at most {model.max_len}. "
                    "Give its end only, or train a model with a larger max_len."
                )
        if not rows:
            raise ValueError("decoding: there are no prompts; there is nothing to go on with. Give at least one.")
        self.model = model
        self.lengths = np.array(list(map(len, rows)))  # (B,)
        self.start = min(self.lengths)
        padded = np.full((len(rows), max(self.lengths)), self.pad_id)
        for place, row in zip(padded, rows, strict=True):
            place[: len(row)] = row
        self.begin, self.rest = padded[:, : self.start], padded[:, self.start :]  # (B, start), (B, R)
        self.cache = model.new_cache() if use_cache else None
        self.never = [config.pad_id, config.bos_id]

    def limits(self, max_len: int | None) -> Array:
        """Most tokens that each text may get after the shortest prompt, (B,); at most what the model can read."""
        limits = self.lengths - self.start + (2 * self.lengths + 10 if max_len is None else max_len)
        most = self.model.max_len
        return limits if most is None else np.minimum(limits, most - self.start + 1)

    def __call__(self, written: Array, last: int = 1) -> Array:
        """From the tokens written so far, (B, t), to log-probabilities (B, last, V)."""
        texts = np.concatenate([self.begin, written], axis=1)
        logits = self.model(texts) if self.cache is None else self.model(texts[:, self.cache.length :], self.cache)
        legal = logits.numpy()[:, -last:].copy()  # (B, last, V)
        legal[..., self.never] = -np.inf
        first = written.shape[1] + 1 - last  # the place, after the shortest prompt, of the first of them
        given = self.rest[:, first : first + last]  # (B, n): what the longer prompts have there
        row, place = np.nonzero(given != self.pad_id)
        legal[row, place] = -np.inf
        legal[row, place, given[row, place]] = 0
        return log_probabilities(legal)

    def select(self, rows: Array) -> None:
        """Go on with these texts of the batch, in this order; one may be there several times."""
        self.begin, self.rest = self.begin[rows], self.rest[rows]
        if self.cache is not None:
            self.cache.select(rows)

    def truncate(self, length: int) -> None:
        """Forget what was computed for the written tokens after the first `length`."""
        if self.cache is not None:
            self.cache.truncate(int(self.start) + length)
