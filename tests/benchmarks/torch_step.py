"""The same training step in PyTorch, as fast as it goes: one projection for q, k and v, in-place where autograd allows.

Variants: attention "sdpa" (fused) or "manual" (two products and a softmax); Adam "fused" or "foreach".
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import cases, script

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))

ADAM: dict[str, dict[str, Any]] = {"fused": {"fused": True}, "foreach": {"foreach": True}}


class Attention(nn.Module):
    def __init__(self, c: cases.Config, dropout: float, cross: bool, kind: str) -> None:
        super().__init__()
        d = c.d_model
        self.heads, self.dropout, self.kind = c.heads, dropout, kind
        self.q = nn.Linear(d, d) if cross else None
        self.qkv = nn.Linear(d, 2 * d if cross else 3 * d)  # without q where the queries come from elsewhere
        self.out = nn.Linear(d, d)

    def forward(self, x: Tensor, memory: Tensor | None, mask: Tensor) -> Tensor:
        if memory is None or self.q is None:
            q, k, v = map(self.split, self.qkv(x).chunk(3, -1))
        else:
            k, v = map(self.split, self.qkv(memory).chunk(2, -1))
            q = self.split(self.q(x))
        if self.kind == "sdpa":
            z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.dropout)
        else:
            scores = torch.matmul(q * (1 / math.sqrt(q.shape[-1])), k.transpose(-2, -1))
            z = torch.matmul(F.dropout((scores + mask).softmax(-1), self.dropout), v)
        return self.out(z.transpose(1, 2).reshape(x.shape))

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self, c: cases.Config, dropout: float) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(c.d_model, c.feed_forward), nn.Linear(c.feed_forward, c.d_model)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.dropout(F.relu(self.linear1(x)), self.dropout))


class Layer(nn.Module):
    def __init__(self, c: cases.Config, dropout: float, decoder: bool, kind: str) -> None:
        super().__init__()
        self.self_attn = Attention(c, dropout, False, kind)
        self.cross_attn = Attention(c, dropout, True, kind) if decoder else None
        self.ffn = FeedForward(c, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(c.d_model) for _ in range(3 if decoder else 2))
        self.dropout = dropout

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor | None = None, memory_mask: Any = None) -> Tensor:
        x = self.norms[0](x + F.dropout(self.self_attn(x, None, mask), self.dropout))
        if self.cross_attn is not None:
            x = self.norms[1](x + F.dropout(self.cross_attn(x, memory, memory_mask), self.dropout))
        return self.norms[-1](x + F.dropout(self.ffn(x), self.dropout))


class Transformer(nn.Module):
    def __init__(self, c: cases.Config, dropout: float, kind: str) -> None:
        super().__init__()
        self.src_embed, self.tgt_embed = nn.Embedding(c.vocabulary, c.d_model), nn.Embedding(c.vocabulary, c.d_model)
        for table in (self.src_embed, self.tgt_embed):
            nn.init.normal_(table.weight, std=c.d_model**-0.5)
        self.encoder = nn.ModuleList(Layer(c, dropout, False, kind) for _ in range(c.layers))
        self.decoder = nn.ModuleList(Layer(c, dropout, True, kind) for _ in range(c.layers))
        self.bias = nn.Parameter(torch.zeros(c.vocabulary))
        self.dropout, self.scale = dropout, math.sqrt(c.d_model)
        self.positions = torch.from_numpy(cases.positions(c.length, c.d_model))
        self.future = torch.full((c.length, c.length), -torch.inf).triu(1)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        src_mask, tgt_mask = padding(src), padding(tgt) + self.future
        x = self.embed(self.src_embed, src)
        for layer in self.encoder:
            x = layer(x, src_mask)
        y = self.embed(self.tgt_embed, tgt)
        for layer in self.decoder:
            y = layer(y, tgt_mask, x, src_mask)
        return F.linear(y, self.tgt_embed.weight, self.bias)

    def embed(self, table: nn.Embedding, ids: Tensor) -> Tensor:
        return F.dropout(torch.add(self.positions, table(ids), alpha=self.scale), self.dropout)


def padding(ids: Tensor) -> Tensor:
    """0 where there is a token and -inf where there is padding, (B, 1, 1, T): what is added to the scores."""
    return torch.zeros(ids.shape).masked_fill_(ids == cases.PAD, -torch.inf)[:, None, None]


class Step:
    """Forward, loss, backward, Adam."""

    def __init__(
        self,
        config: dict[str, int],
        dropout: float,
        attention: str = "sdpa",
        adam: str = "fused",
    ) -> None:
        c = cases.Config(**config)
        torch.manual_seed(0)
        self.model = Transformer(c, dropout, attention)
        self.optimizer = torch.optim.Adam(self.model.parameters(), **cases.ADAM, **ADAM[adam])
        self.src, self.tgt, self.target = map(torch.from_numpy, c.tokens())

    def loss(self) -> Tensor:
        logits = self.model(self.src, self.tgt).flatten(0, 1)
        target = self.target.flatten()
        return F.cross_entropy(logits, target, ignore_index=cases.PAD, label_smoothing=cases.SMOOTHING)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        self.optimizer.step()

    def loss_and_norm(self) -> tuple[float, float]:
        """The loss as it is now, and the length of its gradient."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return loss.item(), torch.stack([g.double().square().sum() for g in gradients]).sum().sqrt().item()

    def load(self, path: str) -> None:
        """Take over weights of ours."""
        load(self.model, path)

    def peak_memory(self) -> int:
        return script.peak_memory()


def load(model: Transformer, path: str) -> None:
    """Take over the weights of one of our Transformers."""
    ours = {name: torch.from_numpy(array) for name, array in np.load(path).items()}

    def linear(names: list[str]) -> dict[str, Tensor]:
        return {kind: torch.cat([ours.pop(f"{name}.{kind}") for name in names]) for kind in ("weight", "bias")}

    def attention(theirs: Any, name: str) -> None:
        together = ["k_proj", "v_proj"] if theirs.q is not None else ["q_proj", "k_proj", "v_proj"]
        theirs.qkv.load_state_dict(linear([f"{name}.{part}" for part in together]))
        theirs.out.load_state_dict(linear([f"{name}.out_proj"]))
        if theirs.q is not None:
            theirs.q.load_state_dict(linear([f"{name}.q_proj"]))

    sides: dict[str, Any] = {"encoder": model.encoder, "decoder": model.decoder}
    for side, layers in sides.items():
        for i, layer in enumerate(layers):
            name = f"{side}.layers.{i}"
            attention(layer.self_attn, f"{name}.self_attn")
            if layer.cross_attn is not None:
                attention(layer.cross_attn, f"{name}.cross_attn")
            layer.ffn.linear1.load_state_dict(linear([f"{name}.ffn.linear1"]))
            layer.ffn.linear2.load_state_dict(linear([f"{name}.ffn.linear2"]))
            for n, norm in enumerate(layer.norms, 1):
                norm.load_state_dict(linear([f"{name}.add_norm{n}.norm"]))
    with torch.no_grad():
        for table, name in ((model.src_embed, "src_embed"), (model.tgt_embed, "tgt_embed")):
            table.weight.copy_(ours.pop(f"{name}.weight"))
        model.bias.copy_(ours.pop("generator.bias"))
    assert not ours, f"nobody took {sorted(ours)}"


job = Step

if __name__ == "__main__":
    script.main(Step)
