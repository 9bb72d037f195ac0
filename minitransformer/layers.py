"""The layers of encoder and decoder: attention and feed-forward, each wrapped in a residual connection and a norm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

from .attention import MultiHeadAttention
from .cache import LayerCache
from .checks import choose
from .positions import NO_POSITIONS, Positions

if TYPE_CHECKING:
    from .config import TransformerConfig

Sublayer = Callable[[mg.Tensor], mg.Tensor]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
}


def fused_activation(module: Any) -> str | None:
    """What `ops.feed_forward` calls this activation, None if it does not have it."""
    if nn.as_made(nn.GELU, module):
        return {"none": "gelu", "tanh": "gelu_tanh"}.get(module.approximate)
    return "relu" if nn.as_made(nn.ReLU, module) else None


class BatchNorm(nn.BatchNorm1d):
    """Every feature normalised over all tokens of a batch: y = (x - mean) / sqrt(var + eps) w + b.

    (Ioffe and Szegedy 2015.) In training, mean and variance are taken over all sentences and all places, so that what
    comes later in a sentence changes what came before; with `padding`, over padding, too. In evaluation they are the
    running ones. Shapes: x and the result (B, T, D).
    """

    def __init__(self, d_model: int, eps: float, padding: bool) -> None:
        super().__init__(d_model, eps=eps)
        self.padding = padding

    def forward(self, x: mg.Tensor, real: Any = None) -> mg.Tensor:
        """From x (B, T, D); `real` (B, T) says what is no padding, None: everything."""
        counts = None if self.padding or real is None else real.reshape(-1)
        return super().forward(x.flatten(0, 1), counts).reshape(x.shape)


NORMS: dict[str, Callable[[TransformerConfig], nn.Module]] = {
    "layer": lambda config: nn.LayerNorm(config.d_model, eps=config.layer_norm_eps, bias=config.bias),
    "rms": lambda config: nn.RMSNorm(config.d_model, eps=config.layer_norm_eps),
    "batch": lambda config: BatchNorm(config.d_model, config.layer_norm_eps, config.batch_norm_padding),
    "none": lambda config: nn.Identity(),
}


def normalise(norm: nn.Module, x: mg.Tensor, real: Any) -> mg.Tensor:
    """norm(x); one that averages over tokens is told which places hold one, (B, T)."""
    return norm(x, real) if isinstance(norm, BatchNorm) else norm(x)


class AddNorm(nn.Module):
    """Residual connection and norm around a sublayer: norm(x + dropout(sublayer(x)))        (Vaswani et al. 2017, 3.1).

    **The residual tag**: the sublayer, dropout and norm are modules, so the addition x + f(x) is the one operation of
    the graph that an AddNorm makes itself. A node whose `module` is an AddNorm *is* a residual connection; its first
    parent is x, the identity, and its second f(x), the branch. While nobody looks inside, one fused op takes the place
    of everything after the sublayer; it has the same module and the same two first arguments. Without `residual` there
    is no such node.

    config: uses norm, layer_norm_eps, bias, dropout, residual. Shapes: x, sublayer(x) and the result (B, T, D).

    >>> from minitransformer import TransformerConfig
    >>> add_norm = AddNorm(TransformerConfig(src_vocab_size=10, d_model=4, nhead=1, dropout=0.0))
    >>> add_norm(mg.tensor([[[0.0, 0.0, 1.0, 1.0]]]), lambda x: -x)
    tensor([[[0., 0., 0., 0.]]], op=add_layer_norm)
    """

    is_residual = True

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = NORMS[config.norm](config)
        self.dropout = nn.Dropout(config.dropout)
        self.residual = config.residual

    def forward(self, x: mg.Tensor, sublayer: Sublayer, real: Any = None) -> mg.Tensor:
        """norm(x + dropout(sublayer(x))); `real` (B, T) says what is no padding, to norms that want to know."""
        branch, dropout = sublayer(x), self.dropout
        norm: Any = self.norm
        as_made = nn.as_made(nn.LayerNorm, norm) and nn.as_made(nn.Dropout, dropout) and type(self)._add is AddNorm._add
        if self.residual and branch.shape == x.shape and as_made and nn.may_fuse():
            return F.add_layer_norm(
                x, branch, norm.normalized_shape, norm.weight, norm.bias, norm.eps, dropout.p, dropout.training
            )
        return normalise(norm, self._add(x, dropout(branch)), real)

    def _add(self, x: mg.Tensor, branch: mg.Tensor) -> mg.Tensor:
        return x + branch if self.residual else branch

    def extra_repr(self) -> str:
        """Whether there is a residual connection."""
        return f"residual={self.residual}"


class PreNorm(AddNorm):
    """The norm moved to the start of the branch: x + dropout(sublayer(norm(x)))        (Xiong et al. 2020).

    The stream of residuals passes by all norms untouched, from the embedding to the final norm.
    """

    def forward(self, x: mg.Tensor, sublayer: Sublayer, real: Any = None) -> mg.Tensor:
        """x + dropout(sublayer(norm(x)))."""
        return self._add(x, self.dropout(sublayer(normalise(self.norm, x, real))))


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, the same for every position:

        FFN(x) = activation(x W_1^T + b_1) W_2^T + b_2                          (Vaswani et al. 2017, equation 2)

    d_model: size D of inputs and outputs; dim_feedforward: size F between; activation: a name in ACTIVATIONS;
    dropout: after the activation, as in PyTorch; the paper has none there.
    Taps: `pre` and `post` (B, T, F), before and after the activation.

    >>> FeedForward(4, 16)(mg.randn(2, 5, 4)).shape
    (2, 5, 4)
    """  # fmt: skip

    taps = ("pre", "post")

    def __init__(
        self, d_model: int, dim_feedforward: int, activation: str = "relu", bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias)
        self.activation = choose("FeedForward", "activation", ACTIVATIONS, activation)()
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias=bias)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        """From (B, T, D) to (B, T, D)."""
        first, second, dropout = self.linear1, self.linear2, self.dropout
        name = fused_activation(self.activation)
        as_made = nn.as_made(nn.Linear, first, second) and nn.as_made(nn.Dropout, dropout)
        if name is not None and as_made and nn.may_fuse():
            p = dropout.p if dropout.training else 0.0
            return mg.ops.feed_forward(
                *(x, first.weight, second.weight, first.bias, second.bias),
                activation=name,
                p=p,
                seed=mg.random.next_seed() if p > 0 else None,
            )
        pre = self.tap("pre", self.linear1(x))  # (B, T, F)
        return self.linear2(self.dropout(self.tap("post", self.activation(pre))))  # (B, T, D)


class SwiGLU(nn.Module):
    """A feed-forward network in which one linear layer is a gate for another one           (Shazeer 2020, equation 6):

        FFN(x) = (swish(x W_1^T + b_1) * (x W_g^T + b_g)) W_2^T + b_2,   swish(u) = u sigmoid(u)

    It has a third matrix: at the same dim_feedforward half as many parameters again as `FeedForward`.
    Arguments, shapes and taps as there, and one more tap: `gate` (B, T, F).

    >>> SwiGLU(4, 16)(mg.randn(2, 5, 4)).shape
    (2, 5, 4)
    """

    taps = ("pre", "gate", "post")

    def __init__(self, d_model: int, dim_feedforward: int, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear1 = nn.Linear(d_model, dim_feedforward, bias=bias)
        self.linear_gate = nn.Linear(d_model, dim_feedforward, bias=bias)
        self.activation = nn.SiLU()
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(dim_feedforward, d_model, bias=bias)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        """From (B, T, D) to (B, T, D)."""
        pre, gate = self.tap("pre", self.linear1(x)), self.tap("gate", self.linear_gate(x))  # (B, T, F)
        return self.linear2(self.dropout(self.tap("post", self.activation(pre) * gate)))  # (B, T, D)


def ffn_of_the_paper(config: TransformerConfig) -> nn.Module:
    """Make the feed-forward network of the paper."""
    sizes = config.d_model, config.dim_feedforward
    return FeedForward(*sizes, config.activation, config.bias, config.activation_dropout)


FEED_FORWARDS: dict[str, Callable[[TransformerConfig], nn.Module | None]] = {
    **dict.fromkeys(ACTIVATIONS, ffn_of_the_paper),
    "swiglu": lambda config: SwiGLU(config.d_model, config.dim_feedforward, config.bias, config.activation_dropout),
    "none": lambda config: None,
}


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward (the left half of the paper's figure 1).

    With a mask that hides the future it is the layer of a decoder that has no encoder to look at. If `activation` is
    "none", there is no feed-forward network, and no second AddNorm.

    Taps: the stream of residuals (B, S, D) where it enters, after the attention and where it leaves: `resid_pre`,
    `resid_mid`, `resid_post`.
    """

    taps = ("resid_pre", "resid_mid", "resid_post")

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attn = make_attention(config)
        self.add_norm1 = make_add_norm(config)
        self.ffn = FEED_FORWARDS[config.activation](config)
        self.add_norm2 = make_add_norm(config) if self.ffn else None

    def forward(
        self,
        x: mg.Tensor,
        mask: Any,
        positions: Positions,
        real: Any = None,
        offset: int = 0,
        cache: LayerCache | None = None,
    ) -> mg.Tensor:
        """From x (B, S, D), which begins at position `offset`, to (B, S, D).

        The mask broadcasts to (B, H, S, offset + S); `real` (B, S) says what is no padding.
        """
        past = cache and cache.self_attn
        x = self.tap("resid_pre", x)
        attend = partial(self.self_attn, mask=mask, positions=positions, offset=offset, cache=past)
        x = self.tap("resid_mid", self.add_norm1(x, lambda x: attend(x, x, x), real))
        return self.tap("resid_post", x if self.add_norm2 is None else self.add_norm2(x, self.ffn, real))


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's output, feed-forward (the right half of the paper's figure 1).

    If `activation` is "none", there is no feed-forward network, and no third AddNorm.

    Taps: the stream of residuals (B, T, D) where it enters, after each attention and where it leaves: `resid_pre`,
    `resid_mid`, `resid_mid_cross`, `resid_post`.
    """

    taps = ("resid_pre", "resid_mid", "resid_mid_cross", "resid_post")

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attn = make_attention(config)
        self.cross_attn = make_attention(config)
        self.ffn = FEED_FORWARDS[config.activation](config)
        self.add_norm1 = make_add_norm(config)
        self.add_norm2 = make_add_norm(config)
        self.add_norm3 = make_add_norm(config) if self.ffn else None

    def forward(
        self,
        x: mg.Tensor,
        memory: mg.Tensor,
        mask: Any,
        memory_mask: Any,
        positions: Positions,
        cross_positions: Positions = NO_POSITIONS,
        real: Any = None,
        offset: int = 0,
        cache: LayerCache | None = None,
    ) -> mg.Tensor:
        """From x (B, T, D), which begins at position `offset`, and memory (B, S, D) to (B, T, D).

        The masks broadcast to (B, H, T, offset + T) and (B, H, T, S); `real` (B, T) says what is no padding.
        """
        past, source = cache or (None, None)
        look_back = partial(self.self_attn, mask=mask, positions=positions, offset=offset, cache=past)
        look_across = partial(self.cross_attn, mask=memory_mask, positions=cross_positions, offset=offset, cache=source)
        x = self.tap("resid_pre", x)
        x = self.tap("resid_mid", self.add_norm1(x, lambda x: look_back(x, x, x), real))
        x = self.tap("resid_mid_cross", self.add_norm2(x, lambda x: look_across(x, memory, memory), real))
        return self.tap("resid_post", x if self.add_norm3 is None else self.add_norm3(x, self.ffn, real))


def make_attention(config: TransformerConfig) -> MultiHeadAttention:
    """Make an attention as the configuration wants it."""
    return MultiHeadAttention(
        config.d_model,
        config.nhead,
        head_dim=config.head_dim,
        dropout=config.dropout,
        bias=config.bias,
        share_qk=config.share_qk,
        attention=config.attention,
        scale=config.attention_scale,
    )


def make_add_norm(config: TransformerConfig) -> AddNorm:
    """Make what goes around a sublayer, with the norm where the configuration wants it."""
    return PreNorm(config) if config.norm_first else AddNorm(config)
