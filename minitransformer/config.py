"""What a Transformer is like: every choice in one place, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

from .checks import is_integer, is_number
from .layers import FEED_FORWARDS, NORMS
from .positions import INSIDE_ATTENTION, POSITIONS
from .scores import ATTENTIONS, SCALES, scale_of

CHOICES: dict[str, Mapping[str, Any]] = {
    "activation": FEED_FORWARDS,
    "attention": ATTENTIONS,
    "norm": NORMS,
    "positions": POSITIONS,
}
SIZES = (
    "src_vocab_size",
    "d_model",
    "nhead",
    "num_encoder_layers",
    "num_decoder_layers",
    "dim_feedforward",
    "max_len",
    "max_relative_distance",
    "t5_buckets",
    "t5_max_distance",
)
OPTIONAL_SIZES = ("tgt_vocab_size", "head_dim")
FLAGS = (
    "norm_first",
    "bias",
    "residual",
    "tie_weights",
    "scale_embedding",
    "embedding_norm",
    "share_qk",
    "cross_positions",
    "batch_norm_padding",
)


class Config:
    """What the configurations of all models have in common: vocabularies, checks, and the way to JSON and back."""

    src_vocab_size: int
    tgt_vocab_size: int | None
    pad_id: int
    bos_id: int
    eos_id: int

    def check(self, field: str, legal: bool, rule: str) -> None:
        """Raise ValueError for a field that is not legal, with the rule that it breaks."""
        if not legal:
            raise ValueError(f"{type(self).__name__}: {field} is {getattr(self, field)!r}; it must be {rule}.")

    def check_tokens(self) -> None:
        """Padding, begin and end of sentence are three different tokens of both vocabularies."""
        tokens = min(self.src_vocab_size, self.target_vocab_size)
        ids = (self.pad_id, self.bos_id, self.eos_id)
        for field, value in zip(("pad_id", "bos_id", "eos_id"), ids, strict=True):
            legal = is_integer(value, 0) and value < tokens and ids.count(value) == 1
            self.check(field, legal, f"a token, 0 to {tokens - 1}, unlike the other two of pad_id, bos_id, eos_id")

    @property
    def target_vocab_size(self) -> int:
        """The tokens of the target, also where it has those of the source."""
        return self.src_vocab_size if self.tgt_vocab_size is None else self.tgt_vocab_size

    def to_dict(self) -> dict[str, Any]:
        """All fields, as plain JSON."""
        return {name: getattr(self, name) for name in self._names()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the configuration that `to_dict` described. Raises ValueError for a field that does not exist."""
        names = cls._names()
        for name in values:
            if name not in names:
                near = get_close_matches(name, names, n=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"The fields are {', '.join(names)}."
                raise ValueError(f"{cls.__name__}: there is no field {name!r}. {hint}")
        return cls(**values)

    @classmethod
    def _names(cls) -> list[str]:
        return list(cls.__dataclass_fields__)  # pyright: ignore[reportAttributeAccessIssue]  # all are dataclasses


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(Config):
    """The settings of a Transformer; the defaults are the paper's base model, as in torch.nn.Transformer.

    With PyTorch's names: d_model, the size of every vector between the layers; nhead, the heads of each attention;
    num_encoder_layers, num_decoder_layers; dim_feedforward, the size inside the feed-forward networks; dropout, on the
    attention weights, on the output of each sublayer and on the sum of embedding and position; activation, "relu",
    "gelu", and also "gelu_tanh", "swiglu" (a gated network) or "none" (no feed-forward network at all); norm_first, the
    norm before each sublayer instead of after the addition; layer_norm_eps, of whatever norm; bias, whether linear
    layers and LayerNorm have one.

    And with ours:

    src_vocab_size, tgt_vocab_size: tokens of the two sides; None: the target has the source's vocabulary.
    positions: "sinusoidal", "learned", "sinusoidal_init", "axial", "relative", "transformer_xl", "rotary", "alibi",
    "t5" or "none". max_len: how many positions "learned", "sinusoidal_init" and "axial" have. max_relative_distance:
    where "relative" clips. t5_buckets, t5_max_distance: of "t5". cross_positions: the schemes that act inside attention
    do so in cross-attention, too, between places in target and source.
    activation_dropout: dropout after the activation of the feed-forward networks. The paper has none there, PyTorch's
    layers the same as elsewhere.
    attention: how scores are made; "scaled_dot", "additive" or "general". attention_scale: what the scores of
    "scaled_dot" and "general" are multiplied by; "sqrt" (1/sqrt(head size)), "d_k" (1/head size), "none" or a number.
    head_dim: size of a head; None: d_model / nhead. share_qk: one projection for queries and keys.
    norm: "layer", "rms", "batch" or "none". batch_norm_padding: whether padding counts in the means of "batch".
    residual: x + f(x), or f(x) only.
    final_norm: one more norm after the last layer of encoder and decoder, as nn.Transformer has it; None: only with
    norm_first, where nothing else would normalise the output. The paper's model has none.
    tie_weights: the output layer uses the embedding of the target as its weight, and where the vocabulary is shared
    (tgt_vocab_size is None) the source is embedded by it, too: the paper's section 3.4.
    scale_embedding: embeddings times sqrt(d_model), also section 3.4. embedding_std: standard deviation of the
    embeddings at the start; None: 1/sqrt(d_model). embedding_norm: a norm on the sum of embedding and position, before
    dropout, as in BERT.
    pad_id, bos_id, eos_id: padding, begin and end of sentence, in both vocabularies.

    Raises ValueError for a value that is not legal, naming the field and what would be.

    >>> config = TransformerConfig(src_vocab_size=1000, d_model=64, nhead=4)
    >>> TransformerConfig.from_dict(config.to_dict()) == config
    True
    >>> TransformerConfig(src_vocab_size=1000, positions="absolute")
    Traceback (most recent call last):
    ValueError: TransformerConfig: positions is 'absolute'; it must be one of 'alibi', 'axial', 'learned', ...
    """

    src_vocab_size: int
    tgt_vocab_size: int | None = None
    d_model: int = 512
    nhead: int = 8
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    dim_feedforward: int = 2048
    dropout: float = 0.1
    activation_dropout: float = 0.0
    activation: str = "relu"
    norm_first: bool = False
    layer_norm_eps: float = 1e-5
    bias: bool = True
    positions: str = "sinusoidal"
    max_len: int = 512
    max_relative_distance: int = 16
    t5_buckets: int = 32
    t5_max_distance: int = 128
    cross_positions: bool = False
    attention: str = "scaled_dot"
    attention_scale: str | float = "sqrt"
    head_dim: int | None = None
    share_qk: bool = False
    norm: str = "layer"
    batch_norm_padding: bool = False
    residual: bool = True
    final_norm: bool | None = None
    tie_weights: bool = False
    scale_embedding: bool = True
    embedding_std: float | None = None
    embedding_norm: bool = False
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2

    def __post_init__(self) -> None:
        for field in SIZES:
            self.check(field, is_integer(getattr(self, field), 1), "an integer of at least 1")
        for field in OPTIONAL_SIZES:
            value = getattr(self, field)
            self.check(field, value is None or is_integer(value, 1), "an integer of at least 1, or None")
        for field in FLAGS:
            self.check(field, isinstance(getattr(self, field), bool), "True or False")
        self.check("final_norm", self.final_norm is None or isinstance(self.final_norm, bool), "True, False or None")
        for field, registry in CHOICES.items():
            value = getattr(self, field)
            legal = isinstance(value, str) and value in registry
            self.check(field, legal, f"one of {', '.join(map(repr, sorted(registry)))}")
        for field in ("dropout", "activation_dropout"):
            value = getattr(self, field)
            self.check(field, is_number(value) and 0 <= value < 1, "at least 0 and below 1")
        self.check("layer_norm_eps", is_number(self.layer_norm_eps) and self.layer_norm_eps > 0, "positive")
        std = self.embedding_std
        self.check("embedding_std", std is None or (is_number(std) and std > 0), "positive, or None")
        additive = self.attention == "additive"
        self.check(
            "attention_scale",
            self.attention_scale == "sqrt" or not additive,
            "'sqrt', for additive scores: they are not multiplied by anything",
        )
        known = isinstance(self.attention_scale, str) and self.attention_scale in SCALES
        self.check(
            "attention_scale",
            known or is_number(self.attention_scale),
            f"a number, or one of {', '.join(map(repr, sorted(SCALES)))}",
        )
        self._check_positions()
        if self.head_dim is None:
            self.check(
                "nhead", self.d_model % self.nhead == 0, f"a divisor of d_model = {self.d_model}, or give head_dim"
            )
        self.check_tokens()

    def _check_positions(self) -> None:
        """Some schemes need pairs of numbers, or enough buckets; some have no part in attention."""
        inside = self.positions in INSIDE_ATTENTION
        self.check("cross_positions", inside or not self.cross_positions, f"False, for {self.positions} positions")
        if self.positions in ("sinusoidal", "sinusoidal_init", "transformer_xl"):
            self.check("d_model", self.d_model % 2 == 0, f"even, for {self.positions} positions")
        if self.positions == "axial":
            self.check("d_model", self.d_model > 1, "at least 2, for axial positions")
        if self.positions == "rotary":
            name = "d_model" if self.head_dim is None else "head_dim"
            self.check(name, self.size_of_head % 2 == 0, "such that heads have an even size, for rotary positions")
        if self.positions == "t5":
            self.check("t5_buckets", self.t5_buckets % 2 == 0 and self.t5_buckets > 3, "even, and at least 4")
            self.check("t5_max_distance", self.t5_max_distance > self.t5_buckets // 2, "above half of t5_buckets")

    @property
    def places(self) -> int | None:
        """For how many tokens there are positions, None if there is no limit."""
        return self.max_len if self.positions in ("learned", "sinusoidal_init", "axial") else None

    @property
    def size_of_head(self) -> int:
        """The size of queries and keys."""
        return self.d_model // self.nhead if self.head_dim is None else self.head_dim

    @property
    def scale_of_scores(self) -> float:
        """What scores are multiplied by, as a number."""
        return scale_of(self.attention_scale, self.size_of_head)

    @property
    def ends_with_norm(self) -> bool:
        """Whether encoder and decoder have a norm after their last layer."""
        return self.norm_first if self.final_norm is None else self.final_norm
