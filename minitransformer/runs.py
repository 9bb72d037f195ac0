"""The folder of a training run: what is written there, and how to use it or go on from it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad.checkpoint import CheckpointError

from .config import TransformerConfig
from .evaluate import Translator
from .model import Transformer
from .positions import PlaceError
from .recurrent import GRUConfig, GRUSeq2Seq
from .tasks import Pair, Task, task_from_dict
from .train import TrainConfig, Trainer, below
from .vocab import Vocab

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
PICTURES = ("loss.png", "loss.svg", "attention.png", "attention.svg")

Splits = Mapping[str, list[Pair]]


class Architecture(NamedTuple):
    """A kind of model, and the class of its settings."""

    model: type[Transformer | GRUSeq2Seq]
    config: type[TransformerConfig | GRUConfig]


ARCHITECTURES = {
    "transformer": Architecture(Transformer, TransformerConfig),
    "gru": Architecture(GRUSeq2Seq, GRUConfig),
}


@dataclass(frozen=True)
class Recipe:
    """All that decides what a run computes: two runs of one recipe end with the same bits.

    The sizes of the vocabularies in `model` do not count: they follow from the task.
    """

    task: Task
    model: TransformerConfig | GRUConfig
    training: TrainConfig

    @property
    def architecture(self) -> str:
        """What kind of model it is, a name in ARCHITECTURES."""
        return next(name for name, kind in ARCHITECTURES.items() if isinstance(self.model, kind.config))

    def check_lengths(self, splits: Splits) -> None:
        """Raise PlaceError if the model does not have a place for every token of the texts of the task."""
        if isinstance(self.model, GRUConfig) or self.model.places is None:
            return
        vocabularies = [Vocab.build(texts) for texts in zip(*splits["train"], strict=True)]
        texts = [text for pairs in splits.values() for pair in pairs for text in zip(vocabularies, pair, strict=True)]
        longest = 1 + max(len(vocabulary.encode(text)) for vocabulary, text in texts)  # and the end of sentence
        if longest > self.model.places:
            raise PlaceError(
                f"{self.task.name}: the longest text has {longest} tokens, and {self.model.positions} positions have "
                f"{self.model.places} places. Use a max_len of at least {longest}."
            )

    def begin(self, splits: Splits) -> Trainer:
        """Make the trainer of a new run; `splits` are those of the task."""
        source, target = (Vocab.build(texts) for texts in zip(*splits["train"], strict=True))
        mg.manual_seed(self.training.seed)
        return self.trainer(self.translator(source, target), splits)

    def translator(self, source: Vocab, target: Vocab) -> Translator:
        """Make an untrained translator."""
        config: Any = replace(self.model, src_vocab_size=len(source), tgt_vocab_size=len(target))
        return Translator(ARCHITECTURES[self.architecture].model(config), source, target)

    def trainer(self, translator: Translator, splits: Splits) -> Trainer:
        """Make a trainer that has taken no step."""
        return Trainer(translator, splits["train"], splits["valid"], self.training)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON."""
        parts = {"task": self.task.to_dict(), "model": self.model.to_dict(), "training": asdict(self.training)}
        return {"architecture": self.architecture, **parts}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Recipe:
        """Build the recipe that `to_dict` described; one that names no architecture is from before there were two."""
        description = {"architecture": "transformer", **description}
        kind = ARCHITECTURES[description["architecture"]]
        model, training = kind.config.from_dict(description["model"]), TrainConfig(**description["training"])
        return cls(task_from_dict(description["task"]), model, training)


@dataclass(frozen=True)
class Checkpoint:
    """A recipe and how far it has got."""

    file: Path
    recipe: Recipe
    source: Vocab
    target: Vocab
    tensors: dict[str, np.ndarray]
    state: dict[str, Any]

    def translator(self) -> Translator:
        """Make the translator as it was. Raises CheckpointError if the tensors are not those of the recipe."""
        translator = self.recipe.translator(self.source, self.target)
        with self._misfits():
            translator.model.load_state_dict(below("model", self.tensors))
        translator.model.eval()
        return translator

    def trainer(self, recipe: Recipe, splits: Splits) -> Trainer:
        """Make a trainer that goes on where this one stopped; `recipe` may differ in how long to train.

        Raises CheckpointError if the state is not one of the recipe.
        """
        trainer = recipe.trainer(recipe.translator(self.source, self.target), splits)
        with self._misfits():
            trainer.load_state(self.tensors, self.state)
        return trainer

    @contextmanager
    def _misfits(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.file}: what is in the checkpoint does not fit together ({error}). Train anew with --overwrite."
            ) from None


def save(folder: Path, recipe: Recipe, trainer: Trainer) -> None:
    """Write checkpoint and log; at any moment there is a whole checkpoint in the folder, the old one or the new one.

    Raises OSError if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors, state = trainer.state()
    translator = trainer.translator
    vocabularies = {"source": translator.source.to_dict(), "target": translator.target.to_dict()}
    meta = {"recipe": recipe.to_dict(), "vocabularies": vocabularies, "state": state}
    mg.save(folder / CHECKPOINT, tensors, meta)
    lines = "".join(f"{json.dumps(record)}\n" for record in trainer.history)
    temporary = folder / f"{LOG}.tmp"
    temporary.write_text(lines, encoding="utf-8")
    os.replace(temporary, folder / LOG)


def written_before(folder: Path) -> list[str]:
    """The files in `folder` that have the names of ours."""
    return [name for name in (CHECKPOINT, LOG, *PICTURES) if (folder / name).exists()]


def program() -> str:
    """The command that started this program, to be typed again."""
    started = Path(sys.argv[0])
    if started.parts[-2:] == ("minitransformer", "__main__.py"):
        return f"{shlex.quote(sys.executable)} -m minitransformer"
    if started.stem != "minitransformer" or shutil.which(started.name) == str(started):
        return "minitransformer"
    return shlex.quote(str(started))


def load(path: str | os.PathLike[str]) -> Translator:
    """Load what was trained: the model, in evaluation mode, and its vocabularies, from a folder or its checkpoint.

    Raises CheckpointError if there is none, or if it is damaged.
    """
    return open_checkpoint(path).translator()


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read the checkpoint of a folder, or the file itself.

    Raises CheckpointError if there is none, or if it is damaged or not one of `save`.
    """
    path = Path(path)
    file = path / CHECKPOINT if path.is_dir() else path
    if not file.exists():
        raise CheckpointError(f"there is no checkpoint {file}. Train one with: {program()} train, or give its folder.")
    tensors, meta = mg.load(file)
    try:
        recipe = Recipe.from_dict(meta["recipe"])
        source, target = (Vocab.from_dict(meta["vocabularies"][side]) for side in ("source", "target"))
        return Checkpoint(file, recipe, source, target, tensors, meta["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file}: a checkpoint, but not of a minitransformer that this version knows ({error!r}). "
            "Train anew, or use the version that wrote it."
        ) from None
