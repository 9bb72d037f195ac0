"""Greedy decoding in PyTorch with a cache of keys and values, as fast as it goes without compiling.

Keys and values are written into memory that was allocated before, one projection makes q, k and v, and no mask is
needed where one query sees all that is there. Variants: attention "sdpa" (fused) or "manual" (two products and a
softmax).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import cases, torch_step


class Decode:
    """Write `tokens` tokens for each sentence of a batch; none ends before."""

    def __init__(self, config: dict[str, int], tokens: int, attention: str = "sdpa") -> None:
        c = cases.Config(**config)
        self.model = torch_step.Transformer(c, 0.0, attention).eval()
        self.attend = F.scaled_dot_product_attention if attention == "sdpa" else manual
        self.src, _, _ = map(torch.from_numpy, c.tokens())
        self.positions = torch.from_numpy(cases.positions(tokens, c.d_model))
        self.never = torch.zeros(c.vocabulary)
        self.never[[cases.PAD, cases.BOS]] = -torch.inf
        self.length = tokens

    def __call__(self) -> None:
        self.write()

    @torch.inference_mode()
    def write(self) -> Tensor:
        """The tokens (B, T)."""
        model, batch = self.model, len(self.src)
        mask = torch_step.padding(self.src)
        x = model.embed(model.src_embed, self.src)
        for layer in model.encoder:
            x = layer(x, mask)
        layers: Any = model.decoder
        source, past = [], []
        for layer in layers:
            source.append([layer.cross_attn.split(y).contiguous() for y in layer.cross_attn.qkv(x).chunk(2, -1)])
            past.append(torch.empty(2, *source[-1][0].shape[:2], self.length, source[-1][0].shape[3]))
        bias = model.bias + self.never
        table, scale = model.tgt_embed.weight, model.scale
        written = torch.empty(batch, self.length, dtype=torch.long)
        token = torch.full((batch,), cases.BOS)
        for t in range(self.length):
            y = torch.add(self.positions[t], F.embedding(token, table), alpha=scale)  # (B, D)
            for layer, (keys, values), kept in zip(layers, source, past, strict=True):
                own, cross = layer.self_attn, layer.cross_attn
                q, kept[0, :, :, t], kept[1, :, :, t] = own.qkv(y).view(batch, 3, own.heads, -1).unbind(1)
                z = self.attend(q.unsqueeze(2), kept[0, :, :, : t + 1], kept[1, :, :, : t + 1])
                y = layer.norms[0](y + own.out(z.reshape(y.shape)))
                q = cross.q(y).view(batch, cross.heads, 1, -1)
                z = self.attend(q, keys, values, attn_mask=mask)
                y = layer.norms[1](y + cross.out(z.reshape(y.shape)))
                y = layer.norms[2](y + layer.ffn(y))
            token = F.linear(y, table, bias).argmax(-1)
            written[:, t] = token
        return written

    def tokens(self) -> list[list[int]]:
        """What it writes."""
        return self.write().tolist()

    def load(self, path: str) -> None:
        """Take over weights of ours."""
        torch_step.load(self.model, path)


def manual(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(K) + mask) v."""
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-2, -1))
    return torch.matmul((scores if attn_mask is None else scores + attn_mask).softmax(-1), v)


job = Decode
