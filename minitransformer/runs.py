"""The folder of a training run: what is written there, and how to use it or go on from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg

from .config import TransformerConfig
from .evaluate import Translator
from .model import Transformer
from .tasks import Pair, Task, task_from_dict
from .train import TrainConfig, Trainer
from .vocab import Vocab

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
PICTURES = ("loss", "attention")
FORMAT = "minitransformer 1"


@dataclass(frozen=True)
class Recipe:
    """All that decides what a run computes: two runs of one recipe end with the same bits."""

    task: Task
    model: dict[str, Any]  # fields of TransformerConfig, the sizes of the vocabularies left out
    training: TrainConfig

    def begin(self, splits: Mapping[str, list[Pair]]) -> Trainer:
        """Make the trainer of a new run. `splits` are those of the task."""
        sides = zip(*splits["train"], strict=True)
        source, target = (Vocab.build(texts) for texts in sides)
        mg.manual_seed(self.training.seed)
        return Trainer(translator(self.model, source, target), splits["train"], splits["valid"], self.training)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON."""
        return {"task": self.task.to_dict(), "model": self.model, "training": asdict(self.training)}

    @classmethod
    def from_dict(cls, description: dict[str, Any]) -> Recipe:
        """Build the recipe that `to_dict` described."""
        task, training = task_from_dict(description["task"]), TrainConfig(**description["training"])
        return cls(task, description["model"], training)


def translator(model: Mapping[str, Any], source: Vocab, target: Vocab) -> Translator:
    """Make an untrained translator."""
    return Translator(Transformer(TransformerConfig(**model), len(source), len(target)), source, target)
