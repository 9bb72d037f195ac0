"""From logits to sentences, one token after the other.

Every way of decoding (`greedy` here; `sample`, `beam_search` and `jacobi` beside it) stands on one function, the step:
what has been written so far (B, t) -> log-probabilities of the next token (B, 1, V). What the step has computed for the
earlier tokens it may keep, and nobody but its clock can tell. Sentences that have ended leave the batch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

from .model import tokens
from .straight import straight

Array = np.ndarray


class KeepsPrefix(Protocol):
    """What a model keeps of the tokens that it has read: the part of `Cache` that decoding uses."""

    length: int

    def select(self, rows: Array) -> None:
        """Keep these sentences of the batch, in this order; one may be there several times."""
        ...

    def truncate(self, length: int) -> None:
        """Forget the tokens after the first `length`."""
        ...


class Translates(Protocol):
    """What decoding uses of a model that writes one text while it reads another: `Transformer`, and others like it.

    config: has pad_id, bos_id, eos_id and target_vocab_size. Memory and mask have the sentences of the batch in their
    first dimension.
    """

    config: Any

    @property
    def max_len(self) -> int | None:
        """The longest text that `decode` can read, None if there is no limit."""
        ...

    def encode(self, src: Any) -> mg.Tensor:
        """From source tokens (B, S) to the memory."""
        ...

    def padding_mask(self, ids: Any) -> mg.Tensor:
        """The mask of the memory of source tokens (B, S)."""
        ...

    def decode(self, tgt: Any, memory: Any, memory_mask: Any = None, cache: Any = None) -> mg.Tensor:
        """From target tokens (B, T) to logits (B, n, V) of the n tokens that are not in the cache."""
        ...

    def new_cache(self) -> KeepsPrefix:
        """Make an empty cache."""
        ...


class Step:
    """log p(next token | source, what has been written) for a batch of sentences.

    src: source tokens (B, S), padded; use_cache: keep what was computed, which changes nothing but the time. Then what
    is written must continue what was written at the call before, but for what `select` and `truncate` say. The next
    token is never padding nor a begin of sentence; their log-probability is -inf. Raises ValueError for an empty batch,
    TypeError for a model that reads no source, FloatingPointError where logits give no token a probability.

    With `use_cache`, a Transformer whose parts are as they were made decodes straight on arrays, see `straight`.

    This is the one place where decoding touches a model. To write in another way, after a prompt for example, give the
    search functions another class as `step`: one that is made from (model, src, use_cache) and has `pad_id`, `eos_id`,
    `limits`, `select`, `truncate` and the call. What comes before the first written token is the step's own affair.
    """

    def __init__(self, model: Translates, src: Any, use_cache: bool = True) -> None:
        if not hasattr(model, "encode"):
            raise TypeError(
                f"decoding: a {type(model).__name__} reads no source, it has no encode(). "
                "To let a LanguageModel go on with prompts, give step=Continue."
            )
        src, config = tokens("src", src), model.config
        if src.size == 0:
            raise ValueError(f"decoding: src has shape {src.shape}; there is nothing to decode. Give at least a token.")
        self.model = model
        self.pad_id, self.bos_id, self.eos_id = config.pad_id, config.bos_id, config.eos_id
        self.lengths = (src != config.pad_id).sum(axis=1)  # (B,)
        self.memory = model.encode(src)
        self.memory_mask = model.padding_mask(src)
        self.decoder = straight(model) if use_cache else model
        self.cache = self.decoder.new_cache() if use_cache else None
        self.never = np.zeros(config.target_vocab_size, bool)
        self.never[[config.pad_id, config.bos_id]] = True

    def limits(self, max_len: int | None) -> Array:
        """Most tokens that each sentence may get, (B,): max_len, or twice its source and 10; at most all positions."""
        limits = 2 * self.lengths + 10 if max_len is None else np.full_like(self.lengths, max_len)
        return limits if self.model.max_len is None else np.minimum(limits, self.model.max_len)

    def __call__(self, written: Array, last: int = 1) -> Array:
        """From the tokens written so far, (B, t), to log-probabilities (B, last, V).

        At [:, -1] they are those of the token after all of `written`, at [:, -2] after all but one, and so on.
        """
        begin = np.full((len(written), 1), self.bos_id)
        logits = self.decoder.decode(
            np.concatenate([begin, written], axis=1), self.memory, self.memory_mask, self.cache
        )
        return log_probabilities(np.where(self.never, -np.inf, logits.numpy()[:, -last:]))

    def select(self, rows: Array) -> None:
        """Go on with these sentences of the batch, in this order; one may be there several times."""
        if len(rows) == len(self.memory) and (rows == np.arange(len(rows))).all():
            return
        self.memory, self.memory_mask = self.memory[rows], self.memory_mask[rows]
        if self.cache is not None:
            self.cache.select(rows)

    def truncate(self, length: int) -> None:
        """Forget what was computed for the written tokens after the first `length`: they may change."""
        if self.cache is not None:
            self.cache.truncate(1 + length)  # the begin of sentence stays


def log_probabilities(logits: Array) -> Array:
    """log softmax of logits (B, T, V). Raises FloatingPointError where they give no token a probability."""
    log_p = F.log_softmax(mg.from_numpy(logits), dim=-1).numpy()
    if not np.isfinite(log_p).any(axis=-1).all():
        raise FloatingPointError(
            "decoding: the model's logits are nan, or infinite: no token has a probability. "
            "Look for nan in its parameters, as a training that has diverged leaves them."
        )
    return log_p


MakeStep = Callable[[Any, Any, bool], Any]  # from model, source and use_cache to a step


def greedy(
    model: nn.Module, src: Any, max_len: int | None = None, use_cache: bool = True, *, step: MakeStep = Step
) -> Array:
    """Write, for every source sentence of a batch, the most probable token, then the next, until all have ended:

        y_t = argmax_v p(v | x, y_1 ... y_{t-1})

    src: integers (B, S), padded; max_len: most tokens of an answer, the end of sentence included; unless given, twice
    the tokens of its own source sentence and 10 more; never more than the model has positions; use_cache: keep keys
    and values, which changes nothing but the time: with them, a token costs time in proportion to the length so far;
    step: what asks the model, see `Step`. Returns integers (B, L), L at most max_len: without begin of sentence, with
    the end of sentence (unless cut off by max_len) and padding after it. Runs in evaluation mode and without a graph,
    and leaves the model in the mode in which it was. Raises ValueError for an empty batch or a max_len below 1.

    >>> from minitransformer import Transformer, TransformerConfig
    >>> model = Transformer(TransformerConfig(src_vocab_size=20, d_model=8, nhead=2, num_decoder_layers=1))
    >>> greedy(model, [[5, 6, 2]], max_len=4).shape[0]
    1
    """  # fmt: skip
    with decoding(model, src, max_len, use_cache, step) as (ask, limits):
        return write(ask, limits, lambda log_p, of: log_p.argmax(axis=-1))


def write(step: Any, limits: Array, choose: Callable[[Array, Array], Array]) -> Array:
    """Write token after token until all sentences have ended; those that have leave the batch.

    choose(log-probabilities (b, V), of (b,)) -> tokens (b,), for the b sentences `of` that go on. Returns (B, L).
    """
    written = np.full((len(limits), limits.max()), step.pad_id)
    of = np.arange(len(limits))  # the sentences that go on
    length = 0
    while len(of):
        new = choose(step(written[of, :length])[:, -1], of)  # (b,)
        written[of, length] = new
        length += 1
        goes_on = (new != step.eos_id) & (length < limits[of])
        if not goes_on.all():
            of = of[goes_on]
            step.select(np.flatnonzero(goes_on))
    return written[:, :length]


@contextmanager
def decoding(
    model: nn.Module, src: Any, max_len: int | None, use_cache: bool, step: MakeStep
) -> Iterator[tuple[Any, Array]]:
    """Give the step and the limits (B,) that a search goes by, while the model is in evaluation mode."""
    if max_len is not None:
        check_count("max_len", max_len)
    with evaluating(model):
        ask = step(model, src, use_cache)
        yield ask, ask.limits(max_len)


def check_count(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is an integer of at least 1."""
    try:
        legal = operator.index(value) >= 1
    except TypeError:
        legal = False
    if not legal:
        raise ValueError(f"decoding: {name} is {value!r}; it must be an integer of at least 1.")


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
