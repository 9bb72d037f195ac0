"""What each part of the model learns: `numbers`, English to French, default recipe, one part changed at a time.

Training ends at 99.9 % of the validation split or after 3,000 steps; the accuracy is that of the random held-out set:
sentences that are right to the last letter. One run each, with seed 0.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from minitransformer import ATTENTIONS, FEED_FORWARDS, NORMS, POSITIONS, TrainConfig, TransformerConfig
from minitransformer.positions import INSIDE_ATTENTION
from minitransformer.runs import Recipe
from minitransformer.session import percent
from minitransformer.tasks import make_task

from . import harness

START = TransformerConfig(
    src_vocab_size=4, d_model=64, nhead=4, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=256
)
PARTS: dict[str, Any] = {"positions": POSITIONS, "attention": ATTENTIONS, "norm": NORMS, "activation": FEED_FORWARDS}
CHANGES = [{part: name} for part, names in PARTS.items() for name in names]
CHANGES += [{"attention_scale": "none"}, {"attention_scale": "d_k"}, {"norm_first": True}, {"residual": False}]
CHANGES += [{"positions": name, "cross_positions": True} for name in INSIDE_ATTENTION]


def train(changes: dict[str, Any], steps: int = TrainConfig.steps) -> dict[str, Any]:
    """Train once, and say how well and how long."""
    training = TrainConfig(steps=steps)
    recipe = Recipe(make_task("numbers", source="en", target="fr"), replace(START, **changes), training)
    trainer = recipe.begin(recipe.task.splits)
    began = time.perf_counter()
    while not trainer.finished:
        trainer.step()
    seconds = time.perf_counter() - began
    scores, _ = trainer.translator.evaluate(recipe.task.splits["random"])
    parameters = sum(p.numel() for p in trainer.translator.model.parameters())
    return {
        "part": ", ".join(changes),
        "value": ", ".join(map(str, changes.values())),
        "accuracy": scores.exact_match,
        "token_accuracy": scores.token_accuracy,
        "steps": trainer.steps_taken,
        "seconds": seconds,
        "parameters": parameters,
    }


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    report = harness.Report()
    columns = ("part", "value", "sentences right", "tokens right", "steps", "parameters")
    table = report.table("Accuracy on numbers, default recipe", *columns)
    for changes in CHANGES:
        row = train(changes, steps=250 if quick else TrainConfig.steps)
        report.rows.append(row)
        shares = percent(row["accuracy"]), percent(row["token_accuracy"])
        table.add(row["part"], row["value"], *shares, str(row["steps"]), f"{row['parameters']:,}")
    return report


if __name__ == "__main__":
    harness.main(__doc__, run, threads=[max(harness.default_threads())])
