"""The training loop: the paper's recipe, one step at a time, with a state that can be saved and continued exactly.

What the next step does depends on the parameters, Adam's moments, the number of steps taken (which gives the learning
rate and the place in the data) and the state of the random generator (which gives the dropout). `Trainer.state` is all
of that, so a run that was interrupted and resumed ends with the same bits as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import optim

from .batching import Batch, Batches, encode_pairs
from .evaluate import Translator
from .schedule import noam
from .tasks import Pair
from .vocab import PAD

PATIENCE = 2  # evaluations in a row that must reach the target: a single good one may be luck

Record = dict[str, Any]


@dataclass(frozen=True)
class TrainConfig:
    """How to train: the paper's recipe (section 5) with a shorter warm-up, a smaller factor and clipped gradients.

    steps: at most so many. batch_size: sentence pairs in a batch. warmup: steps until the learning rate is at its
    peak, lr_factor times (d_model warmup)^-0.5. With a factor of 1 and this warm-up the peak is so high that accuracy
    jumps up and down from evaluation to evaluation. max_norm: longer gradients are scaled down to this norm.
    eval_every: steps between evaluations on the split "valid". target_accuracy: training ends when this share of exact
    matches is reached in two evaluations in a row.
    """

    steps: int = 3000
    batch_size: int = 64
    warmup: int = 400
    lr_factor: float = 0.3
    label_smoothing: float = 0.1
    max_norm: float = 1.0
    seed: int = 0
    eval_every: int = 125
    target_accuracy: float = 0.999

    def __post_init__(self) -> None:
        for field in ("steps", "batch_size", "warmup", "eval_every"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")
        for field in ("lr_factor", "max_norm"):
            require(0 < getattr(self, field) < math.inf, field, getattr(self, field), "positive and finite")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "at least 0 and below 1")
        require(0 <= self.target_accuracy < math.inf, "target_accuracy", self.target_accuracy, "at least 0 and finite")
        require(0 <= self.seed < 2**64, "seed", self.seed, "at least 0 and below 2**64")


def require(condition: bool, field: str, value: object, rule: str) -> None:
    """Raise a ValueError that names the field unless `condition`."""
    if not condition:
        raise ValueError(f"{field} is {value}; it must be {rule}.")


class TrainingError(RuntimeError):
    """Training cannot go on."""


class Trainer:
    """A translator in training.

    `history` has one record for every step that was taken: step (counted from 1), loss, learning_rate and
    gradient_norm (before clipping); after an evaluation also valid, the `Scores` on the held-out split as a dict.
    """

    def __init__(self, translator: Translator, train: list[Pair], valid: list[Pair], config: TrainConfig) -> None:
        self.translator = translator
        self.config = config
        self.valid = valid
        self.batches = Batches(
            encode_pairs(train, translator.source, translator.target), config.batch_size, config.seed
        )
        self.optimizer = optim.Adam(translator.model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
        rate = noam(translator.model.config.d_model, config.warmup, config.lr_factor)
        self.schedule = optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.history: list[Record] = []
        self.coming = self._coming()

    @property
    def steps_taken(self) -> int:
        """How many steps have been taken, before and since resuming."""
        return len(self.history)

    @property
    def reached_target(self) -> bool:
        """Whether the last evaluations were all at the target accuracy or above."""
        recent = [record["valid"]["exact_match"] for record in self.history if "valid" in record][-PATIENCE:]
        return len(recent) == PATIENCE and min(recent) >= self.config.target_accuracy

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.steps_taken >= self.config.steps or self.reached_target

    def _coming(self) -> Iterator[Batch]:
        """The batches from the present place in the data on, without end."""
        epoch, start = divmod(self.steps_taken, len(self.batches))
        for number in count(epoch):
            yield from self.batches.epoch(number, start)
            start = 0

    def step(self) -> tuple[Record, Batch]:
        """Take one step, and evaluate if it is time to; return the new record of the history and the batch.

        Raises TrainingError if the loss is not finite; the parameters are then those before the step.
        """
        model, config = self.translator.model, self.config
        batch = next(self.coming)
        model.train()
        self.optimizer.zero_grad()
        logits = model(batch.src, batch.tgt_in)  # (B, T, V)
        loss = mg.ops.cross_entropy(logits, batch.tgt_out, ignore_index=PAD, label_smoothing=config.label_smoothing)
        loss.backward()
        norm = mg.nn.utils.clip_grad_norm_(model.parameters(), config.max_norm)
        record = {
            "step": self.steps_taken + 1,
            "loss": float(loss.item()),
            "learning_rate": float(self.schedule.get_last_lr()[0]),
            "gradient_norm": float(norm),
        }
        if not (math.isfinite(record["loss"]) and math.isfinite(record["gradient_norm"])):
            raise TrainingError(
                f"the loss of step {record['step']} is {record['loss']} and the norm of its gradient "
                f"{record['gradient_norm']}. Train with a smaller lr_factor or a longer warmup."
            )
        self.optimizer.step()
        self.schedule.step()
        if record["step"] % config.eval_every == 0:
            try:
                scores, _ = self.translator.evaluate(self.valid)
            except FloatingPointError as error:
                raise TrainingError(
                    f"after step {record['step']} the model's logits are no numbers. "
                    "Train with a smaller lr_factor or a longer warmup."
                ) from error
            record["valid"] = asdict(scores)
        self.history.append(record)
        return record, batch

    # ------------------------------------------------------------------------------------------------ stop and go on
    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All that the coming steps depend on: tensors by name, and the rest as plain JSON.

        The place in the data is there for people; it follows from the number of steps.
        """
        optimizer = self.optimizer.state_dict()
        model = self.translator.model.state_dict()
        tensors = {f"model.{name}": tensor for name, tensor in model.items()}
        counts: dict[int, dict[str, int]] = {}
        for number, values in optimizer["state"].items():
            counts[number] = {name: value for name, value in values.items() if isinstance(value, int)}
            arrays = {name: value for name, value in values.items() if name not in counts[number]}
            tensors |= {f"optimizer.{number}.{name}": array for name, array in arrays.items()}
        epoch, batch = divmod(self.steps_taken, len(self.batches))
        return tensors, {
            "optimizer": {"state": counts, "param_groups": optimizer["param_groups"]},
            "schedule": self.schedule.state_dict(),
            "random": mg.random.get_state(),
            "position": {"epoch": epoch, "batch": batch},
            "history": self.history,
        }

    def load_state(self, tensors: Mapping[str, np.ndarray], rest: Mapping[str, Any]) -> None:
        """Go on from a `state()` of a trainer with the same model, data and recipe."""
        if rest["history"] and len(rest["optimizer"]["state"]) != len(list(self.translator.model.parameters())):
            raise ValueError("the optimiser's state is not that of these parameters")
        self.translator.model.load_state_dict(below("model", tensors))
        state = {
            number: counts | below(f"optimizer.{number}", tensors)
            for number, counts in rest["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({"state": state, "param_groups": rest["optimizer"]["param_groups"]})
        self.schedule.load_state_dict(rest["schedule"])
        mg.random.set_state(rest["random"])
        self.history = list(rest["history"])
        self.coming = self._coming()


def below(prefix: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Select the tensors whose names start with `prefix` and a dot, and leave that out.

    >>> below("model", {"model.a": np.zeros(1), "optimizer.0.a": np.ones(1)})
    {'a': array([0.])}
    """
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
