"""Small models for small tasks, which several lessons train: a reader of tokens, ways to train and to judge it, tasks.

A task is a function from a random generator to a batch: tokens (B, T), and labels (B, T, M), M questions about every
place. A label of NOTHING is not asked for. Tokens begin at 1, as 0 is padding. In a task of writing the tokens are a
pair, source and target.

>>> mg.manual_seed(0)
>>> reader = Reader(small(vocab=8, nhead=2), questions=2)
>>> losses = train(reader, look_back(1, 3, vocab=8), steps=3)
>>> len(losses), accuracy(reader, look_back(1, 3, vocab=8)).shape
(3, (2,))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
import minitransformer as mt
from minigrad import nn

Array = np.ndarray
Task = Callable[[np.random.Generator], tuple[Any, Array]]
NOTHING = -100  # a label that does not count


def small(vocab: int = 8, **changes: Any) -> mt.TransformerConfig:
    """One layer of attention without a feed-forward network, D = 32, no dropout; `changes` are fields of the config."""
    settings = {"d_model": 32, "nhead": 1, "num_encoder_layers": 1, "dim_feedforward": 64, "dropout": 0.0}
    settings |= {"activation": "none", "positions": "learned", "max_len": 64}
    return mt.TransformerConfig(src_vocab_size=vocab + 1, **(settings | changes))


class Reader(nn.Module):
    """An encoder that answers M questions about every place of a text: from tokens (B, T) to logits (B, T, M, V).

    causal: a place sees itself and what was before. Submodules: embed, encoder, head.

    >>> Reader(small(vocab=8), questions=2)([[5, 6, 7]]).shape
    (1, 3, 2, 9)
    """

    def __init__(self, config: mt.TransformerConfig, questions: int = 1, causal: bool = True) -> None:
        super().__init__()
        self.config, self.questions, self.causal = config, questions, causal
        self.embed = mt.TokenEmbedding(config.src_vocab_size, config)
        self.encoder = mt.Encoder(config, causal=causal)
        self.head = nn.Linear(config.d_model, questions * config.src_vocab_size)

    def forward(self, ids: Any, mask: Any = None) -> mg.Tensor:
        """`mask`, boolean, True = may attend, broadcasts to (B, H, T, T); without one, as `causal` says."""
        ids = np.asarray(ids)
        x = self.encoder(self.encoder.embed(self.embed, ids), mask)  # (B, T, D)
        return self.head(x).reshape(*ids.shape, self.questions, -1)


def look_back(*offsets: int, vocab: int = 8, T: int = 12, batch: int = 32) -> Task:
    """Make the task "which token stood k places before?", one question for every offset k; random tokens 1 to vocab.

    >>> ids, labels = look_back(1, 3, vocab=8, T=5, batch=1)(np.random.default_rng(0))
    >>> ids[0].tolist(), labels[0].T.tolist()
    ([7, 6, 5, 3, 3], [[-100, 7, 6, 5, 3], [-100, -100, -100, 7, 6]])
    """

    def task(rng: np.random.Generator) -> tuple[Array, Array]:
        ids = rng.integers(1, vocab + 1, (batch, T))
        labels = np.full((batch, T, len(offsets)), NOTHING)
        for number, k in enumerate(offsets):
            labels[:, k:, number] = ids[:, : T - k]
        return ids, labels

    return task


class Pair(nn.Module):
    """A model that reads a source and a target, given both as one argument: so `train` can train it.

    >>> model = mt.Transformer(small(num_decoder_layers=1))
    >>> Pair(model)(([[5, 6, 7]], [[1, 4]])).shape
    (1, 2, 9)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pair: tuple[Any, Any]) -> mg.Tensor:
        """From tokens ((B, S), (B, T)) to logits (B, T, V)."""
        return self.model(*pair)


def writing(rule: Callable[[Array], Array], vocab: int = 8, T: int = 6, batch: int = 32) -> Task:
    """Make the task "write what a rule makes of the source", whose words are random numbers below vocab, plus 3.

    rule: from numbers (B, T) to numbers (B, T). The target is one word late, as 1 begins it; 2 ends what is to be
    written.

    >>> (source, target), labels = writing(lambda x: x[:, ::-1], T=3, batch=1)(np.random.default_rng(0))
    >>> source[0].tolist(), target[0].tolist(), labels[0].tolist()
    ([9, 8, 7], [1, 7, 8, 9], [7, 8, 9, 2])
    """

    def task(rng: np.random.Generator) -> tuple[tuple[Array, Array], Array]:
        numbers = rng.integers(0, vocab, (batch, T))
        words, border = rule(numbers) + 3, np.ones((batch, 1), int)
        return (numbers + 3, np.concatenate([border, words], axis=1)), np.concatenate([words, 2 * border], axis=1)

    return task


def critical_path(rec: mg.trace.Recording) -> int:
    """How many operations of a recording are in the longest chain, of which each waits for the one before.

    >>> x = mg.ones(3, requires_grad=True)
    >>> with mg.record() as rec:
    ...     y = x.exp() + x.exp().exp()
    >>> critical_path(rec)
    3
    """
    longest = {}  # for each step, the longest chain that ends there
    for step in rec.steps:
        own = 0 if step.is_leaf or step.outside else 1
        longest[step] = own + max((longest[edge.parent] for edge in step.inputs), default=0)
    return max(longest.values())


def train(
    model: nn.Module, task: Task, steps: int, *, lr: float = 3e-3, warmup: int = 20, seed: int = 0, mask: Any = None
) -> list[float]:
    """Train by Adam on a fresh batch each step, and return the losses.

    lr: reached after `warmup` steps, and from then on lowered to 0 in a straight line. seed: of the batches; the
    parameters are those that the model has. mask: given to the model after the tokens, unless None.
    """
    rng = np.random.default_rng(seed)
    optimizer = mg.optim.Adam(model.parameters(), lr=lr)
    schedule = mg.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(steps - warmup, 1), 1.0)
    )
    model.train()
    losses = []
    for _ in range(steps):
        ids, labels = task(rng)
        logits = model(ids) if mask is None else model(ids, mask)
        loss = mg.ops.cross_entropy(logits.flatten(0, -2), labels.reshape(-1), ignore_index=NOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def accuracy(model: nn.Module, task: Task, *, batches: int = 8, seed: int = 1_000, mask: Any = None) -> Array:
    """Which share of the answers to each of the M questions is right, (M,), on batches that training has not seen."""
    rng = np.random.default_rng(seed)
    right, asked = 0, 0
    with mt.evaluating(model):
        for _ in range(batches):
            ids, labels = task(rng)
            answers = (model(ids) if mask is None else model(ids, mask)).data.argmax(axis=-1)  # (B, T, M)
            right = right + (answers == labels).sum(axis=(0, 1))
            asked = asked + (labels != NOTHING).sum(axis=(0, 1))
    return np.asarray(right) / asked
