"""A model and one sentence under test: where tokens go in, where results come out, and how to run it undisturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import nn

from ..attention import MultiHeadAttention
from ..language import Classifier, LanguageModel
from ..model import tokens

Array = np.ndarray
Pair = tuple[str, str]  # an output and an input


class Run(NamedTuple):
    """What went in, by input (N, C, D), as leaves of the graph, and what came out, by output (N, R, V)."""

    entered: dict[str, mg.Tensor]
    outputs: dict[str, mg.Tensor]


class Probe:
    """Runs a model on batches like one sentence.

    sentences: the tokens of each input, (C,); output_of: for each input, the output whose rows are its tokens, or the
    only one. Three kinds of models: with `src_embed`, `tgt_embed` and `encoder`, as a Transformer; LanguageModel and
    Classifier; and any other module that takes tokens to a tensor through an nn.Embedding, the first one in it.
    """

    tables: dict[str, Any]  # the embedding of each input
    memory: str | None  # what capture() calls the result of the encoder, if there is one

    def __init__(self, model: nn.Module, src: Any, tgt: Any = None) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"dependency(): the model is a {type(model).__name__}; give a Module, such as mt.load(folder).model."
            )
        self.model = model
        paths = {module: path for path, module in model.named_modules()}
        parts: list[Any] = [getattr(model, name, None) for name in ("src_embed", "tgt_embed", "encoder")]
        self.memory = None
        if all(isinstance(part, nn.Module) for part in parts):
            if tgt is None:
                raise ValueError(
                    f"dependency(): a {type(model).__name__} reads a source and a target, tgt is None. Give both."
                )
            self.sentences = {"source": one_sentence("src", src), "target": one_sentence("tgt", tgt)}
            self.tables = dict(zip(self.sentences, parts, strict=False))
            self.output_of = {"source": "encoder", "target": "decoder"}
            self.memory = "memory" if "memory" in model.taps else paths[parts[2]]  # what the decoder looks at
        else:
            if tgt is not None:
                raise ValueError(
                    f"dependency(): a {type(model).__name__} reads one text, and tgt is given, too. Give src only."
                )
            table = next((module for module in model.modules() if isinstance(module, nn.Embedding)), None)
            if table is None:
                raise ValueError(
                    f"dependency(): there is no nn.Embedding in this {type(model).__name__}, so nothing to tell where "
                    "tokens go in. Wrap the model and its embedding into one module."
                )
            if isinstance(model, LanguageModel | Classifier):
                name, output = "text", "class" if isinstance(model, Classifier) else "decoder"
            else:
                name, output = "input", "output"
            self.sentences, self.tables, self.output_of = (
                {name: one_sentence("src", src)},
                {name: table},
                {name: output},
            )
        self.paths = {name: paths[table] for name, table in self.tables.items()}
        self.real = {name: ids != self.pad(name) for name, ids in self.sentences.items()}

    def pad(self, name: str) -> int:
        """The token of padding of an input; -1, which is none, if it has no such token."""
        pad = self.tables[name].padding_idx
        return -1 if pad is None else pad

    def width(self, name: str) -> int:
        """The size of the vectors of an input."""
        return self.tables[name].embedding_dim

    def alone(self) -> dict[str, Array]:
        """The sentence as a batch of one."""
        return {name: ids[None] for name, ids in self.sentences.items()}

    def quiet(self, count: int = 1) -> dict[str, Array]:
        """No noise, for a batch of this size."""
        return {name: np.zeros((count, len(ids), self.width(name))) for name, ids in self.sentences.items()}

    def disturbed(self, name: str, column: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """One input with another token in one place, (C,), and what is to be added to its vectors, (C, D).

        Padding stays padding, since it decides what the masks are; there the vector is changed.
        Raises ValueError if there is no other token.
        """
        ids, noise = self.sentences[name].copy(), np.zeros((len(self.sentences[name]), self.width(name)))
        if self.real[name][column]:
            others = np.setdiff1d(np.arange(self.tables[name].num_embeddings), [ids[column], self.pad(name)])
            if not len(others):
                raise ValueError(
                    f"dependency(): the vocabulary of the {name} has no other token to put in the place of "
                    f"{ids[column]}. Give the embedding a second row."
                )
            ids[column] = rng.choice(others)
        else:
            noise[column] = rng.standard_normal(self.width(name))
        return ids, noise

    def rows_of(self, output: str, count: int) -> str | None:
        """The input whose tokens the `count` results of an output stand for, if there is one."""
        mine = [name for name, theirs in self.output_of.items() if theirs == output]
        return next((name for name in mine if output != "class" and len(self.sentences[name]) == count), None)

    def run(self, ids: Mapping[str, Array], noise: Mapping[str, Array] | None = None, everything: bool = False) -> Run:
        """Run on ids (N, C) by input; noise (N, C, D) is added to the vectors of the tokens.

        With `everything`, all values are shown to a listener, so that no attention hides its softmax in a fused op.
        """
        entered: dict[str, mg.Tensor] = {}
        waiting = list(ids)  # a table that serves both sides is asked for the source first

        def enter(path: str, x: mg.Tensor) -> mg.Tensor:
            name = next((name for name in waiting if self.paths[name] == path), None)
            if name is None or x.shape[:-1] != ids[name].shape:
                raise ValueError(
                    f"dependency(): the embedding {path!r} was asked for something else than the "
                    f"vectors (B, T, D) of the text, once; it gave {x.shape}. Let the first nn.Embedding be the one "
                    "that the tokens go through."
                )
            waiting.remove(name)
            x = x.detach()
            if noise is not None:
                x = x + mg.from_numpy(noise[name]).type_as(x)
            entered[name] = x.requires_grad_()
            return x

        patches: dict[str, Callable[[Any], Any]] = {path: partial(enter, path) for path in self.paths.values()}
        wanted = [] if everything else [self.memory or next(iter(patches))]
        with nn.patch(self.model, patches), nn.capture(self.model, *wanted) as seen:
            result = self.model(*ids.values())
        if waiting:
            raise ValueError(
                f"dependency(): the vectors of {', '.join(waiting)} were never asked for; nothing to test."
            )
        outputs = {} if self.memory is None else {"encoder": seen[self.memory]}
        outputs[list(self.output_of.values())[-1]] = result
        return Run(entered, {name: self._rows(name, x) for name, x in outputs.items()})

    def _rows(self, name: str, x: Any) -> mg.Tensor:
        """An output as (N, R, V): one vector is one row."""
        if not isinstance(x, mg.Tensor) or x.ndim not in (2, 3):
            shape = x.shape if isinstance(x, mg.Tensor) else type(x).__name__
            raise ValueError(f"dependency(): the {name} gave {shape}; it must be a tensor (B, T, V) or (B, V).")
        return x if x.ndim == 3 else x.unsqueeze(1)


def one_sentence(name: str, ids: Any) -> Array:
    """Tokens (T,) of ids (T,) or (1, T). Raises ShapeError for others."""
    array = ids.numpy() if isinstance(ids, mg.Tensor) else np.asarray(ids)
    array = tokens(name, array[None] if array.ndim == 1 else array)
    if len(array) != 1 or array.size == 0:
        raise mg.ShapeError(
            f"dependency(): {name} has shape {array.shape}; it must be one sentence, (T,) or (1, T), with at least one "
            f"token. For the first of a batch try {name}[0]."
        )
    return array[0]


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """Inside, nothing drops out; afterwards modes, buffers and gradients are as they were.

    All else stays in its mode: a norm that takes its means over the batch in training goes on doing so.
    """
    modes = [(m, m.training) for m in model.modules() if isinstance(m, nn.Dropout | nn.GRU | MultiHeadAttention)]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    for module, _ in modes:
        module.training = False
    try:
        with mg.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with mg.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
