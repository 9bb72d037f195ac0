"""A Transformer's decoder for tokens that come one after the other, straight on arrays.

While a model writes, each of its steps is so small that modules and operations cost several times what the kernels do.
A `Straight` takes the same steps as the model and calls the same kernels, on arrays, so that it gives the same logits:
with the Numba kernels to the bit. It stands in for a model whose parts are all as this package made them, while nobody
looks inside; the rest decode by themselves. What it keeps is in memory that was allocated before.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import kernels, nn

from .attention import MultiHeadAttention
from .layers import AddNorm, DecoderLayer, FeedForward, PreNorm, fused_activation
from .model import Decoder, TokenEmbedding, Transformer
from .positions import Added, Positions

Array = np.ndarray


def straight(model: Any) -> Any:
    """The model's decoder straight on arrays, or the model itself where some part of it is a different one."""
    return Straight(model) if nn.may_fuse() and not model.training and as_made(model) else model


def as_made(model: Any) -> bool:
    """Whether the decoder consists of what `Straight` knows, all in evaluation mode and of one type of numbers."""
    if not (nn.as_made(Transformer, model) and nn.as_made(Decoder, model.decoder)):
        return False
    decoder = model.decoder
    own, across = decoder.positions, decoder.cross_positions
    return (
        all(map(is_plain, (model, model.generator, *model.tgt_embed.modules(), *decoder.modules())))
        and len({parameter.dtype for parameter in model.parameters()}) == 1
        and nn.as_made(nn.Linear, model.generator)
        and nn.as_made(nn.Dropout, decoder.dropout)
        and (nn.as_made(nn.Identity, decoder.norm) or nn.as_made(nn.LayerNorm, decoder.norm))
        and nn.as_made(nn.ModuleList, decoder.layers)
        and nn.as_made(DecoderLayer, *decoder.layers)
        and all(
            is_layer(layer, own.of_layer(number), across.of_layer(number))
            for number, layer in enumerate(decoder.layers)
        )
    )


def is_plain(part: nn.Module) -> bool:
    """Whether it is in evaluation mode, and nobody has given it a method of its own."""
    return not part.training and not any(callable(getattr(type(part), name, None)) for name in vars(part))


def is_layer(layer: Any, own: Positions, across: Positions) -> bool:
    """Whether `Layer` knows all parts of this DecoderLayer."""
    look_back, look_across, ffn = layer.self_attn, layer.cross_attn, layer.ffn
    return (
        nn.as_made(MultiHeadAttention, look_back, look_across)
        and look_back.is_as_made(own)
        and look_across.is_as_made(across)
        and are_alike(look_back.q_proj, look_back.k_proj, look_back.v_proj)
        and are_alike(look_across.k_proj, look_across.v_proj)
        and all(map(is_add_norm, (layer.add_norm1, layer.add_norm2, layer.add_norm3)))
        and nn.as_made(FeedForward, ffn)
        and nn.as_made(nn.Linear, ffn.linear1, ffn.linear2)
        and nn.as_made(nn.Dropout, ffn.dropout)
        and fused_activation(ffn.activation) is not None
    )


def is_add_norm(part: Any) -> bool:
    """Whether this is an AddNorm or PreNorm with a LayerNorm, a Dropout and a residual connection."""
    kind = PreNorm if type(part) is PreNorm else AddNorm
    known = nn.as_made(kind, part) and nn.as_made(nn.LayerNorm, part.norm) and nn.as_made(nn.Dropout, part.dropout)
    return known and part.residual


def are_alike(*layers: Any) -> bool:
    """Whether linear layers can be computed side by side: of one shape, and all with a bias or all without."""
    return len({(layer.weight.shape, layer.bias is None) for layer in layers}) == 1


class Kept:
    """Keys and values of the first `length` tokens of a batch, by layer, and those of the source."""

    def __init__(self, layers: int) -> None:
        self.length = 0
        self.past: list[Any] = [None] * layers  # (B, 2, H, room, K) each
        self.source: list[Any] = [None] * layers  # (B, 2, H, S, K) each

    def grow(self, layer: int, new: Array) -> Array:
        """Put keys and values (B, T, 2, H, K) of a layer behind those of the tokens before; return all."""
        batch, count, _, heads, size = new.shape
        end, past = self.length + count, self.past[layer]
        if past is None or end > past.shape[3]:
            self.past[layer] = np.empty((batch, 2, heads, max(32, 2 * end), size), new.dtype)
            if past is not None:
                self.past[layer][:, :, :, : self.length] = past[:, :, :, : self.length]
            past = self.past[layer]
        past[:, :, :, self.length : end] = new.transpose(0, 2, 3, 1, 4)
        return past[:, :, :, :end]

    def select(self, rows: Array) -> None:
        """Keep these sentences of the batch, in this order; one may be there several times."""
        for kept in (self.past, self.source):
            kept[:] = [x if x is None else x[rows] for x in kept]

    def truncate(self, length: int) -> None:
        """Forget the tokens after the first `length`."""
        if not 0 <= length <= self.length:
            raise ValueError(f"Kept.truncate(): length is {length}; it must be 0 to {self.length}, what is there.")
        self.length = length


class Straight:
    """Stands in for a Transformer in decoding, as long as its weights stay as they are."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.layers = model, [Layer(layer) for layer in model.decoder.layers]
        decoder, positions = model.decoder, model.decoder.positions
        as_made = nn.as_made(TokenEmbedding, model.tgt_embed) and nn.as_made(nn.Identity, decoder.embed_norm)
        self.adds = as_made and isinstance(positions, Added) and type(positions).embed is Added.embed
        self.added = np.empty((0, 0))  # the vectors of the first positions

    def new_cache(self) -> Kept:
        """Make an empty cache."""
        return Kept(len(self.layers))

    def decode(self, tgt: Array, memory: mg.Tensor, memory_mask: mg.Tensor, cache: Kept) -> mg.Tensor:
        """See `Transformer.decode`: from tokens (B, T) to the logits of those after `cache.length`.

        Raises RuntimeError while somebody looks inside the model, who would see nothing.
        """
        if not nn.may_fuse():
            raise RuntimeError(
                "decoding: the step was made before the capture(), patch() or definitions() in which it is called; "
                "those see nothing of it. Make the step inside, or with use_cache=False."
            )
        model, done = self.model, cache.length
        new, real = tgt[:, done:], tgt != model.config.pad_id
        mask = None
        if new.shape[1] > 1 or not real.all():
            mask = np.tri(new.shape[1], tgt.shape[1], done, dtype=bool) & real[:, None, None]  # (B, 1, T, done + T)
        x = self.embed(new, done, real[:, done:])  # (B, T, D)
        batch, count, size = x.shape
        x = x.reshape(batch * count, size)
        with np.errstate(all="ignore"):
            for number, layer in enumerate(self.layers):
                x = layer(x, batch, mask, memory.data, memory_mask.data, cache, number)
            cache.length += count
            if isinstance(norm := model.decoder.norm, nn.LayerNorm):
                x = kernels.layer_norm(x, data(norm.weight), data(norm.bias), norm.eps)[0]
            logits = linear(model.generator)(x)
        return mg.from_numpy(logits.reshape(batch, count, -1))

    def embed(self, new: Array, done: int, real: Array) -> Array:
        """See `Decoder.embed`; the vectors of positions are made for many at a time."""
        decoder, table, end = self.model.decoder, self.model.tgt_embed, done + new.shape[1]
        if not self.adds:
            return decoder.embed(table, new, done, real).data
        if end > len(self.added):
            positions: Any = decoder.positions
            some = max(end, min(32 + 2 * end, positions.max_len or math.inf))
            self.added = positions.encoding(np.arange(some)).type_as(table.weight).data
        settings = {"scale": table.scale, "padding_idx": table.padding_idx}
        return mg.ops.embed_tokens(new, table.weight, self.added[done:end], p=0.0, seed=None, **settings).data


class Layer:
    """A DecoderLayer on rows of tokens, x (B T, D)."""

    def __init__(self, layer: Any) -> None:
        own, cross, ffn = layer.self_attn, layer.cross_attn, layer.ffn
        self.heads = own.nhead, cross.nhead
        self.scales = own.score.scale, cross.score.scale
        self.qkv, self.out = linear(own.q_proj, own.k_proj, own.v_proj), linear(own.out_proj)
        self.q, self.kv, self.cross_out = (
            linear(cross.q_proj),
            linear(cross.k_proj, cross.v_proj),
            linear(cross.out_proj),
        )
        self.first, self.second = Linear(data(ffn.linear1.weight), None), linear(ffn.linear2)
        self.bias, self.activation = data(ffn.linear1.bias), str(fused_activation(ffn.activation))
        self.norms = layer.add_norm1, layer.add_norm2, layer.add_norm3

    def __call__(
        self, x: Array, batch: int, mask: Array | None, memory: Array, memory_mask: Array, cache: Kept, number: int
    ) -> Array:
        """From the rows that enter the layer to those that leave it."""

        def split(x: Array, parts: int, heads: int) -> Array:
            return x.reshape(batch, len(x) // batch, parts, heads, -1)

        def look_back(x: Array) -> Array:
            qkv = split(self.qkv(x), 3, self.heads[0])
            kv = cache.grow(number, qkv[:, :, 1:])
            return self.out(attend(qkv[:, :, 0], kv, mask, self.scales[0]))

        def look_across(x: Array) -> Array:
            if cache.source[number] is None:
                kv = split(self.kv(memory.reshape(-1, memory.shape[2])), 2, self.heads[1])
                cache.source[number] = np.ascontiguousarray(kv.transpose(0, 2, 3, 1, 4))
            q = split(self.q(x), 1, self.heads[1])[:, :, 0]
            return self.cross_out(attend(q, cache.source[number], memory_mask, self.scales[1]))

        def feed_forward(x: Array) -> Array:
            u = self.first(x)
            return self.second(kernels.bias_activation(u, self.bias, self.activation, 0.0, 0, False, out=u)[0])

        for around, sublayer in zip(self.norms, (look_back, look_across, feed_forward), strict=True):
            weight, bias, eps = data(around.norm.weight), data(around.norm.bias), around.norm.eps
            if type(around) is PreNorm:
                x = x + sublayer(kernels.layer_norm(x, weight, bias, eps)[0])
            else:
                x = kernels.add_layer_norm(x, sublayer(x), weight, bias, eps, 0.0, 0)[0]
        return x


def attend(q: Array, kv: Array, mask: Array | None, scale: float) -> Array:
    """From q (B, T, H, K) and keys and values (B, 2, H, S, K) to what the heads found, side by side, (B T, H K)."""
    batch, count, heads, size = q.shape
    z = np.empty((batch, count, heads, size), q.dtype)
    kernels.attention(q.swapaxes(1, 2), kv[:, 0], kv[:, 1], mask, False, scale, 0.0, 0, out=z.swapaxes(1, 2))
    return z.reshape(batch * count, heads * size)


class Linear:
    """y = x W^T + b."""

    def __init__(self, weight: Array, bias: Array | None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Array) -> Array:
        """From (R, I) to (R, O)."""
        return kernels.linear(x, self.weight, self.bias)


def linear(*layers: Any) -> Linear:
    """Linear layers that read the same x, as one: their results side by side."""
    if len(layers) == 1:
        return Linear(data(layers[0].weight), data(layers[0].bias))
    biases = None if layers[0].bias is None else np.concatenate([data(layer.bias) for layer in layers])
    return Linear(np.concatenate([data(layer.weight) for layer in layers]), biases)


def data(parameter: mg.Tensor | None) -> Any:
    """The array of a parameter, if there is one."""
    return None if parameter is None else parameter.data
