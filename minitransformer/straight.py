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
from .positions import Added

Array = np.ndarray


def straight(model: Any) -> Any:
    """The model's decoder straight on arrays, or the model itself where some part of it is a different one."""
    return Straight(model) if nn.may_fuse() and not model.training and as_made(model) else model


def as_made(model: Any) -> bool:
    """Whether the decoder consists of what `Straight` knows."""
    if not (nn.as_made(Transformer, model) and nn.as_made(Decoder, model.decoder) and "decode" not in vars(model)):
        return False
    decoder = model.decoder
    own, across = decoder.positions, decoder.cross_positions
    if own.of_layer(0) is not own or across.of_layer(0) is not across:
        return False
    return (
        nn.as_made(nn.Linear, model.generator)
        and (nn.as_made(nn.Identity, decoder.norm) or nn.as_made(nn.LayerNorm, decoder.norm))
        and nn.as_made(DecoderLayer, *decoder.layers)
        and all(
            nn.as_made(MultiHeadAttention, layer.self_attn, layer.cross_attn)
            and layer.self_attn._as_made(own)
            and layer.cross_attn._as_made(across)
            and all(map(is_add_norm, (layer.add_norm1, layer.add_norm2, layer.add_norm3)))
            and nn.as_made(FeedForward, layer.ffn)
            and nn.as_made(nn.Linear, layer.ffn.linear1, layer.ffn.linear2)
            and fused_activation(layer.ffn.activation) is not None
            for layer in decoder.layers
        )
    )


def is_add_norm(part: Any) -> bool:
    """Whether this is an AddNorm or PreNorm with a LayerNorm and a residual connection."""
    kind = PreNorm if type(part) is PreNorm else AddNorm
    return nn.as_made(kind, part) and part.residual and nn.as_made(nn.LayerNorm, part.norm)


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
        """See `Transformer.decode`: from tokens (B, T) to the logits of those after `cache.length`."""
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
        self.heads, self.size = own.nhead, own.head_dim
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
        cut = (batch, -1, 1, self.heads, self.size)

        def look_back(x: Array) -> Array:
            qkv = self.qkv(x).reshape(batch, -1, 3, self.heads, self.size)
            kv = cache.grow(number, qkv[:, :, 1:])
            return self.out(attend(qkv[:, :, 0], kv, mask, self.scales[0]))

        def look_across(x: Array) -> Array:
            if cache.source[number] is None:
                kv = self.kv(memory.reshape(-1, memory.shape[2])).reshape(batch, -1, 2, self.heads, self.size)
                cache.source[number] = np.ascontiguousarray(kv.transpose(0, 2, 3, 1, 4))
            return self.cross_out(
                attend(self.q(x).reshape(cut)[:, :, 0], cache.source[number], memory_mask, self.scales[1])
            )

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
