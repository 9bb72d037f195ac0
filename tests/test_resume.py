"""A run that is interrupted, in whatever way, and resumed ends with the same bits as one that is not."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import minigrad as mg
from minitransformer.cli import app
from minitransformer.config import TransformerConfig
from minitransformer.runs import CHECKPOINT, LOG, Recipe, open_checkpoint, save
from minitransformer.session import StopRequest
from minitransformer.tasks import make_task
from minitransformer.terminal import INTERRUPTED, OK
from minitransformer.train import TrainConfig, Trainer

TASK = make_task("copy", symbols=3, max_length=4, train_size=90)
MODEL = TransformerConfig(
    src_vocab_size=4, d_model=8, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=16, dropout=0.2
)
RECIPE = Recipe(TASK, MODEL, TrainConfig(steps=13, batch_size=16, warmup=5, eval_every=4, seed=3))

COMMAND = [sys.executable, "-m", "minitransformer", "train", "copy", "--symbols=3", "--max-length=4"]
COMMAND += ["--train-size=90", "--d-model=8", "--nhead=2", "--layers=1", "--dim-feedforward=16", "--batch-size=16"]
COMMAND += ["--warmup=20", "--eval-every=40", "--save-every=3", "--target-accuracy=2", "--no-pictures"]


def content(folder: Path) -> tuple[dict[str, tuple[str, bytes]], Any]:
    """All that a checkpoint says, to be compared bit for bit."""
    tensors, meta = mg.load(folder / CHECKPOINT)
    return {name: (str(array.dtype), array.tobytes()) for name, array in tensors.items()}, meta


def go_on(trainer: Trainer, steps: int) -> Trainer:
    for _ in range(steps):
        trainer.step()
    return trainer


# ------------------------------------------------------------------------------------------------ within this process
@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    save(folder, RECIPE, go_on(RECIPE.begin(TASK.splits), 13))
    return folder


@pytest.mark.parametrize("interruptions", [(0,), (1,), (4,), (6, 7), (12, 13), tuple(range(1, 14))])
def test_resuming_at_any_step_changes_nothing(uninterrupted, tmp_path, interruptions):
    assert len(RECIPE.begin(TASK.splits).batches) == 6  # so that some interruptions are inside an epoch, some between
    save(tmp_path, RECIPE, RECIPE.begin(TASK.splits))
    for end in (*interruptions, 13):
        mg.manual_seed(99)  # another process would not start where this one has got to
        trainer = open_checkpoint(tmp_path).trainer(RECIPE, TASK.splits)
        save(tmp_path, RECIPE, go_on(trainer, end - trainer.steps_taken))
    assert content(tmp_path) == content(uninterrupted)
    assert (tmp_path / LOG).read_text() == (uninterrupted / LOG).read_text()


@pytest.mark.parametrize("part", ["model.", "optimizer.", "random", "schedule", "history"])
def test_every_part_of_the_state_is_needed(uninterrupted, tmp_path, part):
    """With one part as it is at the start, the run ends elsewhere: the tests above do compare what matters."""
    tensors, rest = go_on(RECIPE.begin(TASK.splits), 7).state()
    trainer = go_on(RECIPE.begin(TASK.splits), 1)  # one step, because before it Adam has no state
    fresh_tensors, fresh_rest = trainer.state()
    tensors |= {name: fresh_tensors[name] for name in tensors if name.startswith(part)}
    rest |= {name: fresh_rest[name] for name in rest if name == part}
    trainer.load_state({name: np.array(getattr(tensor, "data", tensor)) for name, tensor in tensors.items()}, rest)
    save(tmp_path, RECIPE, go_on(trainer, 6))
    assert content(tmp_path)[0] != content(uninterrupted)[0]


def test_a_state_without_adam_s_moments_is_refused(uninterrupted):
    checkpoint = open_checkpoint(uninterrupted)
    checkpoint.state["optimizer"]["state"].clear()
    with pytest.raises(mg.checkpoint.CheckpointError, match="the optimiser's state is not that of these parameters"):
        checkpoint.trainer(RECIPE, TASK.splits)


def test_the_log_is_the_history(uninterrupted):
    history = open_checkpoint(uninterrupted).state["history"]
    assert [record["step"] for record in history] == list(range(1, 14))
    assert [record["step"] for record in history if "valid" in record] == [4, 8, 12]
    assert len((uninterrupted / LOG).read_text().splitlines()) == 13


def test_a_longer_run_may_go_on_from_a_shorter_one(uninterrupted):
    longer = replace(RECIPE, training=replace(RECIPE.training, steps=20))
    trainer = open_checkpoint(uninterrupted).trainer(longer, TASK.splits)
    assert not trainer.finished
    assert go_on(trainer, 7).finished


def test_a_full_disk_leaves_the_checkpoint_as_it_was(uninterrupted, tmp_path, monkeypatch):
    trainer = go_on(RECIPE.begin(TASK.splits), 2)
    save(tmp_path, RECIPE, trainer)
    before = content(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    trainer.step()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, RECIPE, trainer)
    assert content(tmp_path) == before


# ------------------------------------------------------------------------------------------------- in other processes
def start(folder: Path, steps: int) -> subprocess.Popen[str]:
    """Start training in `folder`, or go on if there is a checkpoint."""
    command = [*COMMAND, f"--steps={steps}", f"--out={folder}"]
    if (folder / CHECKPOINT).exists():
        command.append("--resume")
    # NumPy's kernels: what is tested are files and signals, and a process without Numba starts sooner
    environment = os.environ | {"MINIGRAD_KERNELS": "numpy", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a test has started; those that it leaves behind are ended."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


STEPS = 250


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    process = start(folder, STEPS)
    _, errors = process.communicate()
    assert process.returncode == OK, errors
    return folder


def wait_for(process: subprocess.Popen[str], beginning: str) -> bool:
    """Read on to a line that begins so; False if the process ends before that."""
    assert process.stdout
    return any(line.startswith(beginning) for line in process.stdout)


def test_kill_9_at_any_moment_loses_no_checkpoint(finished, tmp_path, rng, running):
    kills, reached = 0, 0
    for _ in range(100):
        process = start(tmp_path, STEPS)
        running.append(process)
        if kills < 12 and wait_for(process, "copy, sequence to copy"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=rng.uniform(0, 0.15))
            process.kill()
        _, errors = process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            checkpoint = open_checkpoint(tmp_path)
            assert checkpoint.recipe.training.steps == STEPS
            assert len(checkpoint.state["history"]) >= reached  # what was saved once is never lost again
            assert len(checkpoint.state["history"]) % 3 == 0  # and it is saved every three steps
            reached = len(checkpoint.state["history"])
            continue
        assert process.returncode == OK, errors
        assert content(tmp_path) == content(finished)
        if kills >= 12:
            break
        (tmp_path / LOG).unlink()
        (tmp_path / CHECKPOINT).unlink()  # finished too soon: once more from the start
        reached = 0
    assert kills >= 12


def test_the_second_signal_stops_at_once_and_afterwards_all_is_as_before(capfd):
    before = signal.getsignal(signal.SIGINT)

    def interrupt_twice() -> None:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.made
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err.count("Once more to stop at once, without saving.") == 1


def test_stopping_before_the_first_step_keeps_the_run_that_was_to_be_replaced(tmp_path, monkeypatch, capsys):
    save(tmp_path, RECIPE, go_on(RECIPE.begin(TASK.splits), 2))
    before = content(tmp_path)
    monkeypatch.setattr(StopRequest, "__enter__", lambda self: setattr(self, "made", True) or self)
    result = CliRunner().invoke(app, [*COMMAND[3:], f"--out={tmp_path}", "--overwrite"])
    assert result.exit_code == INTERRUPTED
    assert f"stopped before the first step; {tmp_path} is as it was." in result.stderr
    assert content(tmp_path) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits_cleanly(finished, tmp_path, running, number):
    process = start(tmp_path, STEPS)
    running.append(process)
    assert wait_for(process, "step 50/")
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in errors
    taken = len(open_checkpoint(tmp_path).state["history"])
    assert 50 <= taken < STEPS
    assert f"stopped after step {taken}; all is saved. Go on with --resume." in errors
    process = start(tmp_path, STEPS)
    running.append(process)
    process.communicate()
    assert content(tmp_path) == content(finished)
