"""The Transformer: an encoder reads the source, a decoder writes the target one token after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

from .cache import Cache, LayerCache, Segments
from .checks import check_kind
from .config import TransformerConfig
from .layers import NORMS, DecoderLayer, EncoderLayer, normalise
from .masks import causal_mask, padding_mask
from .positions import POSITIONS, Added

Array = np.ndarray


class TokenEmbedding(nn.Embedding):
    """A vector for every token, times sqrt(d_model)                              (Vaswani et al. 2017, section 3.4).

    The table starts normal with variance 1/d_model: as the weight of the output layer it needs small numbers, as
    embedding numbers near 1, and the factor sqrt(d_model) lets one table be both. `scale_embedding` and `embedding_std`
    change the two. The row of padding starts at 0 and, as an embedding, gets no gradient.

    Tap: `embed`, the scaled vectors (B, T, D).
    """

    taps = ("embed",)

    def __init__(self, vocab_size: int, config: TransformerConfig) -> None:
        self.std = config.d_model**-0.5 if config.embedding_std is None else config.embedding_std
        super().__init__(vocab_size, config.d_model, padding_idx=config.pad_id)
        self.scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        super().reset_parameters()  # normal with variance 1, padding 0
        with mg.no_grad():
            self.weight *= self.std

    def forward(self, input: Any, added: mg.Tensor | None = None, dropout: float = 0.0) -> mg.Tensor:
        """From tokens (B, T) to vectors (B, T, D).

        While nobody looks, vectors (T, D) to be `added` and dropout of the sum can be had in the same go.
        """
        if not nn.may_fuse():
            return self.tap("embed", super().forward(input) * self.scale)
        seed = mg.random.next_seed() if dropout > 0 else None
        return mg.ops.embed_tokens(
            input, self.weight, added, scale=self.scale, padding_idx=self.padding_idx, p=dropout, seed=seed
        )


class Stack(nn.Module):
    """What encoder and decoder have in common: positions, dropout, layers, and a final norm where it is wanted."""

    def __init__(
        self, config: TransformerConfig, make_layer: Callable[[TransformerConfig], nn.Module], n: int, both: bool
    ) -> None:
        super().__init__()
        self.positions = POSITIONS[config.positions](config, n, both)
        self.embed_norm = NORMS[config.norm](config) if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(make_layer(config) for _ in range(n))
        self.norm = NORMS[config.norm](config) if config.ends_with_norm else nn.Identity()

    def embed(self, table: TokenEmbedding, ids: Array, offset: int = 0, real: Any = None) -> mg.Tensor:
        """Make the vectors (B, T, D) that enter the first layer of tokens (B, T), of which the first is at `offset`.

        dropout(norm(positions(scale table[ids]))): what is added at the very bottom of the paper's figure; the norm
        only with `embedding_norm`.
        """
        pos = np.arange(offset, offset + ids.shape[1])
        positions, dropout = self.positions, self.dropout
        as_made = nn.as_made(nn.Dropout, dropout) and nn.as_made(TokenEmbedding, table)
        as_made = as_made and nn.as_made(nn.Identity, self.embed_norm) and type(positions).embed is Added.embed
        if isinstance(positions, Added) and as_made and nn.may_fuse():
            added = positions.encoding(pos).type_as(table.weight)  # (T, D)
            return table(ids, added, dropout.p if dropout.training else 0.0)
        return self.dropout(normalise(self.embed_norm, self.positions.embed(table(ids), pos), real))

    def resume(self, cache: Cache | None) -> tuple[int, Sequence[LayerCache | None]]:
        """The place of the first token, and what each layer has kept. Raises ValueError for another model's cache."""
        n = len(self.layers)
        if cache is not None and len(cache.layers) != n:
            raise ValueError(f"{type(self).__name__}(): the cache is for {len(cache.layers)} layers; there are {n}.")
        return (0, [None] * n) if cache is None else (cache.length, cache.layers)


class Encoder(Stack):
    """The left half of the paper's figure 1, above the embedding.

    `causal`: no token looks at a later one, as in a `LanguageModel`; masks that are given have to hide it, too.
    """

    def __init__(self, config: TransformerConfig, num_layers: int | None = None, causal: bool = False) -> None:
        n = config.num_encoder_layers if num_layers is None else num_layers
        super().__init__(config, EncoderLayer, n, both=not causal)
        self.causal = causal

    def forward(self, x: mg.Tensor, mask: Any = None, real: Any = None, cache: Cache | None = None) -> mg.Tensor:
        """From what `embed` made, (B, S, D), to (B, S, D).

        The mask broadcasts to (B, H, S, cache.length + S); `real` (B, S) says what is no padding. With a cache, x
        are the tokens after those in the cache, which grows by them.
        """
        offset, caches = self.resume(cache)
        if mask is None and self.causal:
            mask = causal_mask(x.shape[1], offset=offset)
        for number, (layer, layer_cache) in enumerate(zip(self.layers, caches, strict=True)):
            x = layer(x, mask, self.positions.of_layer(number), real, offset, layer_cache)
        if cache is not None:
            cache.grow(x.shape[1])
        return normalise(self.norm, x, real)


class Decoder(Stack):
    """The right half of the paper's figure 1, above the embedding; its layers look at the encoder's output."""

    def __init__(self, config: TransformerConfig) -> None:
        n = config.num_decoder_layers
        super().__init__(config, DecoderLayer, n, both=False)
        across = config.positions if config.cross_positions else "none"
        self.cross_positions = POSITIONS[across](config, n, True)

    def forward(
        self,
        x: mg.Tensor,
        memory: mg.Tensor,
        mask: Any = None,
        memory_mask: Any = None,
        real: Any = None,
        cache: Cache | None = None,
    ) -> mg.Tensor:
        """From what `embed` made of the tokens, x (B, T, D), and the encoder's output, memory (B, S, D), to (B, T, D).

        With a cache, x are the tokens after those in the cache, which grows by them. The masks broadcast to
        (B, H, T, cache.length + T) and (B, H, T, S); `real` (B, T) says what is no padding.
        """
        offset, caches = self.resume(cache)
        for number, (layer, layer_cache) in enumerate(zip(self.layers, caches, strict=True)):
            positions, across = self.positions.of_layer(number), self.cross_positions.of_layer(number)
            x = layer(x, memory, mask, memory_mask, positions, across, real, offset, layer_cache)
        if cache is not None:
            cache.grow(x.shape[1])
        return normalise(self.norm, x, real)


class Transformer(nn.Module):
    """The model of Vaswani et al. 2017 (figure 1), and its variants, as `config` says.

    Parameters start as the paper's code has it: weights of linear layers by Xavier's rule (queries, keys and values
    each by their own), biases at 0, norms at 1 and 0, embeddings normal with variance 1/d_model.

    With `tie_weights` the output layer has the embedding table of the target as its weight; if the vocabulary is
    shared, that is the embedding table of the source as well. A tied table gets one gradient, the sum of all its uses.

    Submodules: src_embed, tgt_embed, encoder, decoder, generator (the output layer). Tap: `logits` (B, T, V).

    >>> model = Transformer(TransformerConfig(src_vocab_size=20, d_model=8, nhead=2, dim_feedforward=16))
    >>> src, tgt = mg.tensor([[5, 6, 7, 2], [8, 2, 0, 0]]), mg.tensor([[1, 9, 4], [1, 5, 0]])
    >>> model(src, tgt).shape
    (2, 3, 20)
    """

    taps = ("logits",)

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        check_kind("Transformer", config, TransformerConfig)
        self.config = config
        shared = config.tie_weights and config.tgt_vocab_size is None
        self.src_embed = TokenEmbedding(config.src_vocab_size, config)
        self.tgt_embed = self.src_embed if shared else TokenEmbedding(config.target_vocab_size, config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.generator = nn.Linear(config.d_model, config.target_vocab_size, bias=config.bias)
        start_linear_layers(self)
        if config.tie_weights:
            self.generator.weight = self.tgt_embed.weight

    def forward(self, src: Any, tgt: Any) -> mg.Tensor:
        """From source and target tokens, integers (B, S) and (B, T), to logits (B, T, V).

        The logits at t are for the token after tgt[:, t] and depend on tgt[:, : t + 1] only. Padding, wherever
        it is, is not attended to.
        """
        return self.decode(tgt, self.encode(src), self.padding_mask(src))

    def encode(self, src: Any) -> mg.Tensor:
        """From source tokens (B, S) to the memory that the decoder looks at, (B, S, D)."""
        src = tokens("src", src)
        mask, real = self.padding_mask(src), src != self.config.pad_id
        return self.encoder(self.encoder.embed(self.src_embed, src, real=real), mask, real)

    def decode(self, tgt: Any, memory: mg.Tensor, memory_mask: Any = None, cache: Cache | None = None) -> mg.Tensor:
        """From target tokens (B, T), memory (B, S, D) and its mask (B, 1, 1, S) to logits (B, T, V).

        With a cache, which should hold what was computed for the first tokens of `tgt`, only the others are computed,
        and the logits are for them.
        """
        tgt = tokens("tgt", tgt)
        if isinstance(cache, Segments):
            raise ValueError(
                "Transformer(): the cache is the memory of a language model, Segments; make one by new_cache()."
            )
        if len(tgt) != len(memory):
            raise mg.ShapeError(
                f"Transformer(): tgt has shape {tgt.shape}, the memory of src {memory.shape}; one target per source."
            )
        done = 0 if cache is None else cache.length
        mask = causal_mask(tgt.shape[1] - done, offset=done).data & self.padding_mask(tgt).data  # (B, 1, T, done + T)
        new = tgt[:, done:]
        real = new != self.config.pad_id
        x = self.decoder.embed(self.tgt_embed, new, done, real)
        x = self.decoder(x, memory, mask, memory_mask, real, cache)
        return self.tap("logits", self.generator(x))  # (B, T, V)

    def new_cache(self) -> Cache:
        """Make an empty cache for `decode`, for one batch of sentences."""
        return Cache(len(self.decoder.layers))

    @property
    def max_len(self) -> int | None:
        """The longest text that `decode` can read, None if there is no limit."""
        return self.decoder.positions.max_len

    def padding_mask(self, ids: Any) -> mg.Tensor:
        """Where `ids` (B, S) are tokens and not padding: (B, 1, 1, S)."""
        return padding_mask(ids, self.config.pad_id)

    def num_parameters(self) -> dict[str, int]:
        """Count the parameters of every part, tied ones where they occur first, and under "total" all of them.

        >>> model = Transformer(TransformerConfig(src_vocab_size=20, d_model=8, nhead=2, tie_weights=True))
        >>> counts = model.num_parameters()
        >>> counts["src_embed"], counts["generator"]
        (160, 20)
        """
        return count_parameters(self)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Count the parameters of every part of a model, and under "total" all of them."""
    counts = {name: 0 for name, part in model.named_children() if list(part.parameters())}
    for name, parameter in model.named_parameters():
        counts[name.partition(".")[0]] += parameter.numel()
    return counts | {"total": sum(counts.values())}


def start_linear_layers(model: nn.Module) -> None:
    """Let the weights of all linear layers start by Xavier's rule, their biases at 0."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def tokens(name: str, ids: Any) -> Array:
    """`ids`, a tensor, array or nested list, as an array (B, T) of integers. Raises ShapeError if it is none."""
    try:
        array = ids.numpy() if isinstance(ids, mg.Tensor) else np.asarray(ids)
    except ValueError:  # rows of several lengths
        raise mg.ShapeError(
            f"the model: the rows of {name} have different lengths. Fill them up with pad_id."
        ) from None
    if array.ndim == 2 and array.size == 0:
        array = array.astype(int)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        hint = f"For one sentence try {name}[None]" if array.ndim == 1 else "Give the numbers of tokens"
        raise mg.ShapeError(
            f"the model: {name} has shape {array.shape}, dtype {array.dtype}; it must be integers, "
            f"(batch, length). {hint}."
        )
    return array
