"""Models, recordings of them, and their pictures, for the tests of pictures."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.draw import Graph
from minigrad.draw.levels import LEVELS
from minigrad.nn import functional as F
from minitransformer import LanguageModel, Transformer, TransformerConfig
from minitransformer.recurrent import GRUConfig, GRUSeq2Seq

SIX = {
    "src_vocab_size": 13,
    "tgt_vocab_size": 11,
    "d_model": 8,
    "nhead": 2,
    "num_encoder_layers": 6,
    "num_decoder_layers": 6,
    "dim_feedforward": 12,
    "dropout": 0.1,
}
SRC, TGT = [[3, 4, 5, 2], [6, 7, 2, 0]], [[1, 3, 4], [1, 5, 0]]


class Block(nn.Module):
    """x + W2 relu(W1 x), with any size between."""

    def __init__(self, hidden: int = 5) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, hidden), nn.Linear(hidden, 4)

    def forward(self, x):
        return x + self.second(self.first(x).relu())


class Blocks(nn.Module):
    def __init__(self, *hidden: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(size) for size in hidden)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Skipping(Blocks):
    """The input of block 3 is not the output of block 2 alone."""

    def forward(self, x):
        outputs = [x]
        for number, block in enumerate(self.blocks):
            outputs.append(block(outputs[-1] * 1.0 if number != 3 else outputs[-2] * 1.0))
        return outputs[-1] + outputs[3]


class Watched(Blocks):
    """A second loss looks at the output of block 3."""

    def forward(self, x):
        outputs = [x]
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        return outputs[-1] + outputs[4].mean()


class Remembering(Blocks):
    """Block 3 is followed by something else than the others; the ops are the same."""

    def forward(self, x):
        same, other = x.tanh(), x.exp().tanh()
        for number, block in enumerate(self.blocks):
            x = block(x) + (other if number == 3 else same)
        return x + other


class Compared(nn.Module):
    """Layers beside each other; the second half of each needs the mean of all first halves."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(6))

    def forward(self, x):
        halves = [layer[0](x) for layer in self.layers]
        mean = mg.stack(halves).mean(0)
        return mg.stack([layer[1](mean) * half for layer, half in zip(self.layers, halves, strict=True)])


class Again(nn.Module):
    """One block, several times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.block, self.times = Block(), times

    def forward(self, x):
        for _ in range(self.times):
            x = self.block(x)
        return x


class Case(NamedTuple):
    make: Callable[[], Any]
    run: Callable[[Any], mg.Tensor]


def token_loss(logits: mg.Tensor) -> mg.Tensor:
    return F.cross_entropy(logits.flatten(0, 1), mg.tensor(np.arange(logits.shape[0] * logits.shape[1]) % 7))


def translate(model: Any) -> mg.Tensor:
    return token_loss(model(SRC, TGT))


def regress(model: Any) -> mg.Tensor:
    x = mg.tensor(np.random.default_rng(3).standard_normal((2, 4)), requires_grad=True)
    return (model(x) ** 2).mean()


def bare(_: None) -> mg.Tensor:
    a, b = (mg.tensor([value], requires_grad=True) for value in (2.0, -3.0))
    return (a * b + (a + a).tanh()).sum()


CASES = {
    "post-norm": Case(lambda: Transformer(TransformerConfig(**SIX)), translate),
    "pre-norm": Case(lambda: Transformer(TransformerConfig(**SIX, norm_first=True)), translate),
    "tied": Case(lambda: Transformer(TransformerConfig(**SIX, tie_weights=True)), translate),
    "one projection": Case(lambda: Transformer(TransformerConfig(**SIX, share_qk=True, residual=False)), translate),
    "language model": Case(lambda: LanguageModel(TransformerConfig(**SIX)), lambda m: token_loss(m(SRC))),
    "recurrent": Case(lambda: GRUSeq2Seq(GRUConfig(src_vocab_size=13, d_model=8, hidden_size=6)), translate),
    "shared layer": Case(lambda: Again(6).double(), regress),
    "compared": Case(lambda: Compared().double(), regress),
    "blocks": Case(lambda: Blocks(*[5] * 6).double(), regress),
    "sequential": Case(
        lambda: nn.Sequential(*(m for _ in range(9) for m in (nn.Linear(4, 4), nn.Tanh()))).double(), regress
    ),
    "one layer": Case(lambda: nn.Linear(4, 3).double(), regress),
    "no model": Case(lambda: None, bare),
}


@cache
def recorded(name: str, detail: str = "op", backward: bool = True, keep: str = "stats") -> Any:
    mg.manual_seed(0)
    make, run = CASES[name]
    model = make()
    with mg.record(model, detail=detail, keep=keep) as recording:
        loss = run(model)
        if backward:
            loss.backward()
    recording.still_alive = model  # its parameters, too
    return recording


def record_blocks(model: nn.Module, backward: bool = True) -> Any:
    with mg.record(model.double()) as recording:
        loss = regress(model)
        if backward:
            loss.backward()
    return recording


def titles(graph: Graph, kind: str | None = None) -> list[str]:
    return [box.title for box in graph.picture.boxes if kind in (None, box.kind)]


def box(graph: Graph, key: str) -> Any:
    return next(box for box in graph.picture.boxes if box.key == key)


def arrow(graph: Graph, tail: str, head: str) -> Any:
    (found,) = [a for a in graph.picture.arrows if (a.tail, a.head) == (tail, head)]
    return found


@cache
def drawn(name: str, detail: str = "op", level: str | None = None) -> Graph:
    """For the tests that look at all of them."""
    return mg.graph(recorded(name, detail), level=level)


every_case = pytest.mark.parametrize("name", CASES)
every_detail = pytest.mark.parametrize("detail", ["op", "definition"])
every_level = pytest.mark.parametrize("level", [None, *LEVELS])


def more(graph: Graph) -> list[str]:
    return titles(graph, "more")
