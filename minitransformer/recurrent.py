"""The ancestor: two recurrent networks with attention between them         (Bahdanau, Cho and Bengio 2015).

The encoder reads the source in both directions, so that its output at each place, h_j, knows the whole sentence and
that place best. The decoder writes one token after the other; before each it asks which places matter now, and that
was the first attention. The Transformer kept the question and left out the recurrence.

`GRUSeq2Seq` has the interface of `Transformer`: whatever trains, decodes or draws takes either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

from .checks import check_kind, is_integer, is_number
from .config import Config
from .masks import padding_mask
from .model import count_parameters, tokens

SIZES = ("src_vocab_size", "d_model", "hidden_size", "attention_size", "num_layers")


@dataclass(frozen=True, kw_only=True)
class GRUConfig(Config):
    """The settings of a GRUSeq2Seq; the default sizes are the paper's.

    src_vocab_size, tgt_vocab_size: tokens of the two sides; None: as many as the source has. d_model: size D of the
    embeddings and of the readout; hidden_size: size H of each state; attention_size: size A inside the attention;
    num_layers: recurrent layers of the encoder, and of the decoder; dropout: on embeddings, between layers and on the
    readout; pad_id, bos_id, eos_id: padding, begin and end of sentence, in both vocabularies.

    Raises ValueError for a value that is not legal, naming the field and what would be.

    >>> config = GRUConfig(src_vocab_size=1000, hidden_size=64)
    >>> GRUConfig.from_dict(config.to_dict()) == config
    True
    >>> GRUConfig(src_vocab_size=1000, num_layers=0)
    Traceback (most recent call last):
    ValueError: GRUConfig: num_layers is 0; it must be an integer of at least 1.
    """

    src_vocab_size: int
    tgt_vocab_size: int | None = None
    d_model: int = 620
    hidden_size: int = 1000
    attention_size: int = 1000
    num_layers: int = 1
    dropout: float = 0.0
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2

    def __post_init__(self) -> None:
        for field in SIZES:
            self.check(field, is_integer(getattr(self, field), 1), "an integer of at least 1")
        legal = self.tgt_vocab_size is None or is_integer(self.tgt_vocab_size, 1)
        self.check("tgt_vocab_size", legal, "an integer of at least 1, or None")
        self.check("dropout", is_number(self.dropout) and 0 <= self.dropout < 1, "at least 0 and below 1")
        self.check_tokens()


class AdditiveAttention(nn.Module):
    """Which places of the source matter to a state s: a small network compares it with each h_j.

        e_j = v^T tanh(W s + U h_j),   pattern = softmax(e),   c = sum_j pattern_j h_j
                                                                         (Bahdanau et al. 2015, sections 3.1 and A.1.2)

    hidden_size: of s, H; memory_size: of each h_j, M; attention_size: of what tanh is taken of, A. W has a bias.
    Taps, at every step: `scores` and `pattern` (B, S), before and after the softmax.

    >>> attention, memory = AdditiveAttention(4, 6, 5), mg.randn(2, 3, 6)
    >>> context, pattern = attention(mg.randn(2, 4), attention.key(memory), memory)
    >>> context.shape, pattern.shape
    ((2, 6), (2, 3))
    """

    taps = ("scores", "pattern")

    def __init__(self, hidden_size: int, memory_size: int, attention_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, attention_size)
        self.key = nn.Linear(memory_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def forward(
        self, state: mg.Tensor, keys: mg.Tensor, memory: mg.Tensor, mask: Any = None
    ) -> tuple[mg.Tensor, mg.Tensor]:
        """From s (B, H), keys U h (B, S, A), memory h (B, S, M) and a mask (B, S) to (c (B, M), pattern (B, S)).

        mask: boolean, True = may attend. Where nothing may be attended to, c and pattern are 0. The keys are an
        argument because they are the same for every s: they are made once, by `key`.
        """
        hidden = (self.query(state).unsqueeze(1) + keys).tanh()  # (B, S, A)
        scores = self.tap("scores", self.score(hidden).squeeze(2))  # (B, S)
        pattern = F.softmax(scores, dim=-1) if mask is None else F.masked_softmax(scores, mask)
        pattern = self.tap("pattern", pattern)
        return (pattern.unsqueeze(1) @ memory).squeeze(1), pattern


class GRUCache:
    """What a decoder has computed for the first tokens of a batch of sentences: all its states.

    keys: those of the attention (B, S, A), None before the first token; states: after each token the state (B, H) of
    every layer. The last would do to go on; the others are there to go back to.
    """

    def __init__(self) -> None:
        self.keys: mg.Tensor | None = None
        self.states: list[list[mg.Tensor]] = []

    @property
    def length(self) -> int:
        """How many tokens have been read."""
        return len(self.states)

    def select(self, rows: np.ndarray) -> None:
        """Keep these sentences of the batch, in this order; one may be there several times."""
        self.keys = None if self.keys is None else self.keys[rows]
        self.states = [[state[rows] for state in layers] for layers in self.states]

    def truncate(self, length: int) -> None:
        """Forget the tokens after the first `length`."""
        if not 0 <= length <= self.length:
            raise ValueError(f"GRUCache.truncate(): length is {length}; it must be 0 to {self.length}, what is there.")
        del self.states[length:]


class GRUDecoder(nn.Module):
    """Writes while it looks at the source: with y the embedding of the token before,

        c_i = attention(s_{i-1}, h),   s_i = GRU([y; c_i], s_{i-1}),   s_0 = tanh(W_s h_1 backward),
        t_i = maxout(W_t [y; s_i; c_i])                                   (Bahdanau et al. 2015, sections 3.1 and A.2.2)

    The backward state of the first place has read the whole source. Maxout is the larger of two halves: (..., 2D) to
    (..., D). With several layers each reads the states of the one below, and the uppermost asks the attention. The
    paper's t_i has s_{i-1} in its appendix and s_i in its equation (4), as here.

    Taps, of all steps at once: `states` (B, T, H) and `contexts` (B, T, 2H), as the readout sees them, and `pattern`
    (B, T, S). To change what the decoder looks at, patch `attention.pattern`, which is of one step.
    """  # fmt: skip

    taps = ("states", "contexts", "pattern")

    def __init__(self, config: GRUConfig) -> None:
        super().__init__()
        D, H, M = config.d_model, config.hidden_size, 2 * config.hidden_size
        self.start = nn.Linear(H, config.num_layers * H)
        self.attention = AdditiveAttention(H, M, config.attention_size)
        self.cells = nn.ModuleList(nn.GRUCell(H if layer else D + M, H) for layer in range(config.num_layers))
        self.dropout = nn.Dropout(config.dropout)
        self.readout = nn.Linear(D + H + M, 2 * D)

    def forward(self, y: mg.Tensor, memory: mg.Tensor, mask: Any = None, cache: GRUCache | None = None) -> mg.Tensor:
        """From embedded tokens y (B, T, D), memory (B, S, 2H) and its mask (B, S) to the readout (B, T, D).

        With a cache, y are the tokens after those in the cache, which grows by them.
        """
        cache = GRUCache() if cache is None else cache
        keys = cache.keys = self.attention.key(memory) if cache.keys is None else cache.keys  # (B, S, A)
        states = cache.states[-1] if cache.states else self._begin(memory)
        tops, contexts, patterns = [], [], []
        for t in range(y.shape[1]):
            context, pattern = self.attention(states[-1], keys, memory, mask)
            states = self._step(mg.cat([y[:, t], context], dim=-1), states)
            cache.states.append(states)
            tops.append(states[-1])
            contexts.append(context)
            patterns.append(pattern)
        if self.watched("pattern"):
            self.tap("pattern", mg.stack(patterns, dim=1))  # (B, T, S)
        states, contexts = self.tap("states", mg.stack(tops, dim=1)), self.tap("contexts", mg.stack(contexts, dim=1))
        one, other = self.readout(mg.cat([y, states, contexts], dim=-1)).split(y.shape[2], dim=-1)
        return mg.maximum(one, other)  # (B, T, D)

    def _begin(self, memory: mg.Tensor) -> list[mg.Tensor]:
        """The state (B, H) of every layer before the first token."""
        size = memory.shape[2] // 2
        return list(self.start(memory[:, 0, size:]).tanh().split(size, dim=-1))

    def _step(self, x: mg.Tensor, states: list[mg.Tensor]) -> list[mg.Tensor]:
        """The states (B, H) after an input x (B, D + 2H)."""
        new: list[mg.Tensor] = []
        for cell, state in zip(self.cells, states, strict=True):
            x = cell(self.dropout(x) if new else x, state)
            new.append(x)
        return new


class GRUSeq2Seq(nn.Module):
    """The model of Bahdanau et al. 2015, with the interface of `Transformer`.

    Parameters start as those of PyTorch's layers do. Submodules: src_embed, tgt_embed, encoder, decoder, generator (the
    output layer). Taps: `memory` (B, S, 2H) and `logits` (B, T, V).

    >>> model = GRUSeq2Seq(GRUConfig(src_vocab_size=20, d_model=8, hidden_size=6, attention_size=5))
    >>> src, tgt = mg.tensor([[5, 6, 7, 2], [8, 2, 0, 0]]), mg.tensor([[1, 9, 4], [1, 5, 0]])
    >>> model(src, tgt).shape
    (2, 3, 20)
    """

    taps = ("memory", "logits")
    max_len = None  # texts of any length can be written

    def __init__(self, config: GRUConfig) -> None:
        super().__init__()
        check_kind("GRUSeq2Seq", config, GRUConfig)
        self.config = config
        self.src_embed = nn.Embedding(config.src_vocab_size, config.d_model, padding_idx=config.pad_id)
        self.tgt_embed = nn.Embedding(config.target_vocab_size, config.d_model, padding_idx=config.pad_id)
        self.encoder = nn.GRU(
            config.d_model,
            config.hidden_size,
            config.num_layers,
            batch_first=True,
            dropout=config.dropout,
            bidirectional=True,
        )
        self.decoder = GRUDecoder(config)
        self.dropout = nn.Dropout(config.dropout)
        self.generator = nn.Linear(config.d_model, config.target_vocab_size)

    def forward(self, src: Any, tgt: Any) -> mg.Tensor:
        """From source and target tokens, integers (B, S) and (B, T), to logits (B, T, V).

        The logits at t are for the token after tgt[:, t] and depend on tgt[:, : t + 1] only. Padding of the source is
        neither read nor attended to.
        """
        return self.decode(tgt, self.encode(src), self.padding_mask(src))

    def encode(self, src: Any) -> mg.Tensor:
        """From source tokens (B, S) to the memory that the decoder looks at, (B, S, 2H): forward beside backward."""
        src = tokens("src", src)
        memory, _ = self.encoder(self.dropout(self.src_embed(src)), mask=src != self.config.pad_id)
        return self.tap("memory", memory)

    def decode(self, tgt: Any, memory: mg.Tensor, memory_mask: Any = None, cache: GRUCache | None = None) -> mg.Tensor:
        """From target tokens (B, T), memory (B, S, 2H) and its mask (B, 1, 1, S) to logits (B, T, V).

        With a cache, which should hold the states after the first tokens of `tgt`, only the others are read, and the
        logits are for them. Raises ShapeError if there is not one target per source, or no token to read.
        """
        tgt = tokens("tgt", tgt)
        new = tgt[:, 0 if cache is None else cache.length :]
        if len(tgt) != len(memory) or new.shape[1] == 0:
            raise mg.ShapeError(
                f"GRUSeq2Seq(): tgt has shape {tgt.shape}, the memory of src {memory.shape}, and the cache the states "
                f"after {tgt.shape[1] - new.shape[1]} tokens; give one target per source, and at least one new token."
            )
        mask = None if memory_mask is None else memory_mask.reshape(memory.shape[:2])  # (B, S)
        readout = self.decoder(self.dropout(self.tgt_embed(new)), memory, mask, cache)
        return self.tap("logits", self.generator(self.dropout(readout)))  # (B, T, V)

    def new_cache(self) -> GRUCache:
        """Make an empty cache for `decode`, for one batch of sentences."""
        return GRUCache()

    def padding_mask(self, ids: Any) -> mg.Tensor:
        """Where `ids` (B, S) are tokens and not padding: (B, 1, 1, S)."""
        return padding_mask(ids, self.config.pad_id)

    def num_parameters(self) -> dict[str, int]:
        """Count the parameters of every part, and under "total" all of them.

        >>> counts = GRUSeq2Seq(GRUConfig(src_vocab_size=20, d_model=8, hidden_size=6)).num_parameters()
        >>> counts["src_embed"], counts["encoder"]
        (160, 576)
        """
        return count_parameters(self)
