"""From logits to sentences.

Every way of decoding stands on one function, the step: prefixes (B, t) -> log-probabilities of the next token (B, V).
What it has computed for the earlier tokens it may keep, and nobody but its clock can tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

from .model import Transformer, tokens

Array = np.ndarray


class Step:
    """log p(next token | source, prefix) for a batch of sentences.

    src: source tokens (B, S). The prefixes (B, t) begin with the begin of sentence, and with `use_cache` each must
    continue the one of the call before: then keys and values are computed for its new tokens only. The next token is
    never padding nor a begin of sentence; their log-probability is -inf.
    """

    def __init__(self, model: Transformer, src: Array, use_cache: bool = True) -> None:
        self.model = model
        self.memory = model.encode(src)
        self.memory_mask = model.padding_mask(src)
        self.cache = model.new_cache() if use_cache else None
        self.never = np.zeros(model.config.target_vocab_size, bool)
        self.never[[model.config.pad_id, model.config.bos_id]] = True

    def __call__(self, prefix: Array) -> Array:
        """From prefixes (B, t) to log-probabilities (B, V)."""
        logits = self.model.decode(prefix, self.memory, self.memory_mask, self.cache)[:, -1]  # (B, V)
        return F.log_softmax(logits.masked_fill(self.never, -np.inf), dim=-1).numpy()


def greedy(model: Transformer, src: Any, max_len: int | None = None, use_cache: bool = True) -> Array:
    """Write, for every source sentence of a batch, the most probable token, then the next, until all have ended.

    src: integers (B, S), padded; max_len: most tokens of an answer, the end of sentence included; unless given, twice
    the tokens of its own source sentence and 10 more; never more than the model has positions; use_cache: keep keys
    and values, which changes nothing but the time. Returns integers (B, L), L at most max_len: without begin of
    sentence, with the end of sentence (unless cut off by max_len) and padding after it. Runs in evaluation mode and
    without a graph, and leaves the model in the mode in which it was. Raises ValueError for an empty batch or a max_len
    below 1.

    >>> from minitransformer import TransformerConfig
    >>> model = Transformer(TransformerConfig(src_vocab_size=20, d_model=8, nhead=2, num_decoder_layers=1))
    >>> greedy(model, [[5, 6, 2]], max_len=4).shape[0]
    1
    """
    config = model.config
    src = tokens("src", src)
    if src.size == 0:
        raise ValueError(f"greedy(): src has shape {src.shape}; there is nothing to decode. Give at least one token.")
    if max_len is not None and max_len < 1:
        raise ValueError(f"greedy(): max_len is {max_len}; it must be at least 1.")
    limits = 2 * (src != config.pad_id).sum(axis=1) + 10 if max_len is None else np.full(len(src), max_len)  # (B,)
    if model.max_len is not None:
        limits = np.minimum(limits, model.max_len)
    written = np.full((len(src), 1), config.bos_id)
    ended = np.zeros(len(src), bool)
    with evaluating(model):
        step = Step(model, src, use_cache)
        for length in range(1, limits.max() + 1):
            best = np.where(ended, config.pad_id, step(written).argmax(axis=-1))  # (B,)
            written = np.concatenate([written, best[:, None]], axis=1)
            ended |= (best == config.eos_id) | (length == limits)
            if ended.all():
                break
    return written[:, 1:]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout and without a graph; afterwards every module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with mg.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
