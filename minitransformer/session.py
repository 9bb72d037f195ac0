"""A training session in a terminal: train into a folder, then show what the model does with what it has never seen."""

from __future__ import annotations

import os
import random
import shlex
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from rich.box import HORIZONTALS
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import minigrad as mg

from .evaluate import Scores
from .lens import attention_grid, loss_curves
from .progress import TrainingProgress
from .runs import CHECKPOINT, LOG, PICTURES, Checkpoint, Recipe, Splits, program, save, written_before
from .tasks import Pair, Task
from .train import PATIENCE, Trainer

SHOWN = 6  # translations in the table from each held-out set
MISTAKES = 3  # and as many mistakes from each, if there are any


class StopRequest:
    """Inside, the first SIGINT (Ctrl-C) or SIGTERM asks to stop at the next good moment; a second stops at once."""

    def __init__(self) -> None:
        self.made = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self.before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.made:
            raise KeyboardInterrupt
        self.made = True
        # Not print(): a signal may come in the middle of another one, and files are not re-entrant.
        os.write(2, b"\nStopping after this step. Once more to stop at once, without saving.\n")


class Stopwatch:
    """Wall time by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the phase `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def __str__(self) -> str:
        parts = [f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items()]
        return f"{', '.join(parts)}; {sum(self.seconds.values()):.1f} s in all"


class Session:
    """Trains `recipe` in `folder` and tells `console` about it."""

    def __init__(self, console: Console, folder: Path, recipe: Recipe) -> None:
        self.console = console
        self.folder = folder
        self.recipe = recipe
        self.watch = Stopwatch()
        self.replaces = False  # whether an earlier run is still in the folder, and shall go

    def say(self, text: str = "") -> None:
        """Print a line as it is."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def prepare(self, splits: Splits, checkpoint: Checkpoint | None) -> Trainer:
        """Make a trainer, a new one or the one of the checkpoint.

        It is saved at once, so that a folder that cannot be written is found out before the work, not after; but an
        earlier run is kept until this one has shown that it works.
        """
        task = self.recipe.task
        with self.watch.phase("data"):
            trainer = checkpoint.trainer(self.recipe, splits) if checkpoint else self.recipe.begin(splits)
        self.replaces = checkpoint is None and bool(written_before(self.folder))
        if self.replaces:
            tempfile.TemporaryFile(dir=self.folder).close()
        self.save(trainer)
        translator = trainer.translator
        parameters = sum(parameter.numel() for parameter in translator.model.parameters())
        self.say(
            f"{task.name}, {task.source_label} to {task.target_label}: {len(splits['train']):,} pairs to learn from, "
            f"{len(translator.source)} source and {len(translator.target)} target tokens, {parameters:,} parameters, "
            f"{mg.kernels.get_num_threads()} threads, {mg.kernels.current()} kernels."
        )
        if checkpoint:
            self.say(f"Going on after step {trainer.steps_taken}.")
        if trainer.finished:
            asked = self.recipe.training.steps
            self.say(f"There is nothing to train: {trainer.steps_taken} steps are done, and --steps is {asked}.")
        return trainer

    def save(self, trainer: Trainer) -> None:
        """Save; an earlier run in the folder gives way to the first step of this one that is saved."""
        if self.replaces and trainer.steps_taken == 0:
            return
        save(self.folder, self.recipe, trainer)
        if self.replaces:
            for name in PICTURES:
                (self.folder / name).unlink(missing_ok=True)
            self.replaces = False

    def train(self, trainer: Trainer, save_every: int) -> bool:
        """Train to the end, and save; False if somebody asked to stop before that."""
        config = trainer.config
        if mg.kernels.current() == "numba" and not trainer.finished:
            self.say("The first step compiles the kernels, unless an earlier run has done so.")
        with StopRequest() as stop, TrainingProgress(self.console, trainer.steps_taken, config.steps) as progress:
            while not (trainer.finished or stop.made):
                with self.watch.phase("training" if "first step" in self.watch.seconds else "first step"):
                    record, batch = trainer.step()
                    progress.step(record, batch.tokens)
                    if "valid" in record:
                        progress.say(f"step {record['step']}: {sentence(Scores(**record['valid']))}")
                    if trainer.steps_taken % save_every == 0:
                        self.save(trainer)
            self.save(trainer)
        if trainer.reached_target:
            self.say(
                f"Step {trainer.steps_taken}: the target, {config.target_accuracy:.2%} of the sentences right "
                f"{PATIENCE} times in a row, is reached."
            )
        return trainer.finished

    def show(self, trainer: Trainer, pictures: bool) -> None:
        """Evaluate on the sets that no decision of training depended on, and say what came out and where it is."""
        held_out = held_out_sets(self.recipe.task)
        with self.watch.phase("evaluation"):
            results = {name: trainer.translator.evaluate(pairs) for name, pairs in held_out.items()}
        written = [CHECKPOINT, LOG]
        if pictures:
            with self.watch.phase("pictures"):
                written += [path.name for path in self.draw(trainer, held_out["random"])]
        rng = random.Random(trainer.config.seed)
        samples, mistakes = [], []
        for name, pairs in held_out.items():
            rows = [(name, *pair, ours) for pair, ours in zip(pairs, results[name][1], strict=True)]
            samples += rng.sample(rows, min(SHOWN, len(rows)))
            mistakes += [row for row in rows if row[2] != row[3]][:MISTAKES]
        self.say()
        self.console.print(translations_table("Held-out translations, drawn at random", samples))
        if mistakes:
            self.console.print(translations_table(f"Mistakes, up to {MISTAKES} of each set", mistakes))
        for name, (scores, _) in results.items():
            self.say(f"{name}: {sentence(scores)}")
        self.say(f"\nWall time: {self.watch}.")
        self.say(f"Written to {self.folder}: {', '.join(written)}.")
        self.say(f'Try it: {program()} translate {shlex.quote(str(self.folder))} "{held_out["random"][0][0]}"')

    def draw(self, trainer: Trainer, pairs: Sequence[Pair]) -> list[Path]:
        """Save the pictures: the course of training, and what the decoder looks at in the longest of 100 sentences."""
        text = max((source for source, _ in pairs[:100]), key=len)
        layers, source, target = trainer.translator.attention(text)
        heads = {f"{layer}.{head}": maps[None, head] for layer, maps in layers.items() for head in range(len(maps))}
        plots = {
            "loss": loss_curves(trainer.history),
            "attention": attention_grid(heads, source=source, target=target),
        }
        return [plot.save(self.folder / f"{name}.{end}") for name, plot in plots.items() for end in ("png", "svg")]


def held_out_sets(task: Task) -> dict[str, list[Pair]]:
    """The splits of a task that have no part in training, by name."""
    return {name: pairs for name, pairs in task.splits.items() if name not in ("train", "valid")}


def sentence(scores: Scores) -> str:
    """Scores in words."""
    return (
        f"{percent(scores.exact_match)} of {scores.sentences:,} held-out sentences exactly right, "
        f"{percent(scores.token_accuracy)} of the tokens, loss {scores.loss:.4f}"
    )


def percent(share: float) -> str:
    """A share in percent; 100.00% is all, and nothing less.

    >>> percent(0.5), percent(0.99998), percent(1.0)
    ('50.00%', '99.99%', '100.00%')
    """
    return f"{share if share == 1 else min(share, 0.9999):.2%}"


def translations_table(title: str, rows: Sequence[tuple[str, str, str, str]]) -> Table:
    """Make a table of (set, source, expected, the model's)."""
    table = Table(title=title, title_justify="left", title_style="bold", show_lines=True, box=HORIZONTALS)
    for header in ("set", "source", "expected", "the model's", ""):
        table.add_column(header, overflow="fold")
    for name, source, expected, ours in rows:
        verdict = "[green]right[/]" if ours == expected else "[bold red]WRONG[/]"
        table.add_row(name, *(escape(text) for text in (source, expected, ours)), verdict)
    return table
