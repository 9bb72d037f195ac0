"""The command line: what it prints and where, what it writes, exit codes, and errors that name the remedy."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import minigrad as mg
from minitransformer import cli, runs
from minitransformer.cli import app
from minitransformer.progress import TrainingProgress
from minitransformer.runs import CHECKPOINT, LOG, open_checkpoint
from minitransformer.terminal import ERROR, OK, USAGE

TINY = ["--symbols=4", "--max-length=3", "--d-model=8", "--nhead=2", "--layers=1", "--dim-feedforward=16"]
TINY += ["--steps=6", "--warmup=3", "--eval-every=3"]


def run(*arguments: object, stdin: str | None = None) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a tiny run, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "copy"
    result = run("train", "copy", *TINY, "--out", folder)
    assert result.exit_code == OK, result.output
    return folder, result.stdout


@pytest.fixture
def folder(trained) -> Path:
    return trained[0]


# --------------------------------------------------------------------------------------------------------------- train
def test_train_writes_everything_into_one_folder(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {CHECKPOINT, LOG, "loss.png", "loss.svg", "attention.png", "attention.svg"}
    records = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "learning rate" in (folder / "loss.svg").read_text()
    assert all(text in (folder / "attention.svg").read_text() for text in (">layer 0<", ">head 1<"))


def test_numbers_are_learnt_into_a_folder_named_after_the_languages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("train", "numbers", "--target=de", "--high=400", "--train-size=100", "--no-pictures", *TINY[2:])
    assert result.exit_code == OK, result.output
    result = run("evaluate", "runs/numbers-en-de", "--json")
    scores = json.loads(result.stdout)
    assert set(scores) == {"splits"}
    assert set(scores["splits"]) == {"random", "range"}
    for split in scores["splits"].values():
        assert set(split) == {"exact_match", "token_accuracy", "loss", "sentences"}
        assert split["sentences"] > 0
    result = run("translate", "runs/numbers-en-de", "Seventy-one", "two hundred, and three")
    assert result.exit_code == OK
    assert len(result.stdout.splitlines()) == 2
    assert "never seen" not in result.stderr


def test_train_ends_with_translations_accuracy_time_and_where_all_is(trained):
    folder, text = trained
    assert "step 6/6  loss" in text
    assert re.search(r"step 3: [\d.]+% of 8 held-out sentences exactly right", text)
    assert "Held-out translations, drawn at random" in text
    assert text.count("right") + text.count("WRONG") >= 12
    assert re.search(r"^random: [\d.]+% of 8 held-out sentences exactly right, [\d.]+% of the tokens", text, re.M)
    assert re.search(r"^longer: [\d.]+% of \d+ held-out sentences", text, re.M)
    assert re.search(r"Wall time: data [\d.]+ s, first step [\d.]+ s, training .*evaluation .*pictures .*in all", text)
    assert f"Written to {folder}: {CHECKPOINT}, {LOG}, loss.png" in text
    assert f"Try it: minitransformer translate {folder}" in text


@pytest.mark.parametrize(
    ("started", "command"),
    [
        (".venv/bin/minitransformer", ".venv/bin/minitransformer"),
        ("/a b/minitransformer", "'/a b/minitransformer'"),
        ("minitransformer/__main__.py", f"{sys.executable} -m minitransformer"),
    ],
)
def test_commands_are_shown_as_the_user_started_this_one(monkeypatch, started, command):
    monkeypatch.setattr(sys, "argv", [started])
    assert f"Train one with: {command} train" in run("translate", "nowhere", "1").stderr


def test_a_terminal_gets_a_bar_with_loss_learning_rate_speed_and_time_left():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with TrainingProgress(console, done=4, steps=30) as progress:
        for step in (5, 6, 7):
            progress.step({"step": step, "loss": 0.5, "learning_rate": 1e-3}, tokens=100)
        progress.say("a line [with brackets] above")
    text = console.file.getvalue()
    assert re.search(r"7/30.*loss 0.5000  lr 1.00e-03  [\d,]+ tokens/s  \d:\d\d left", text)
    assert "a line [with brackets] above" in text
    assert "step 7" not in text


def test_an_existing_checkpoint_is_neither_overwritten_nor_resumed_unasked(folder):
    before = (folder / CHECKPOINT).read_bytes()
    result = run("train", "copy", *TINY, "--out", folder)
    assert result.exit_code == ERROR
    assert "--resume" in result.stderr
    assert "--overwrite" in result.stderr
    assert (folder / CHECKPOINT).read_bytes() == before


def test_overwrite_starts_anew_and_removes_only_what_was_ours(tmp_path):
    short = [*TINY, "--steps=2", "--out", tmp_path]
    assert run("train", "copy", *short).exit_code == OK
    (tmp_path / "mine.png").write_text("a picture of somebody")
    assert run("train", "copy", *short, "--overwrite", "--no-pictures", "--steps=1").exit_code == OK
    assert open_checkpoint(tmp_path).recipe.training.steps == 1
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, LOG, "mine.png"}


def test_files_with_the_names_of_ours_are_not_overwritten_unasked(tmp_path):
    (tmp_path / LOG).write_text("mine")
    result = run("train", "copy", *TINY, "--out", tmp_path)
    assert result.exit_code == ERROR
    assert f"{tmp_path} holds {LOG} already. Choose another --out, or replace them with --overwrite." in result.stderr
    assert (tmp_path / LOG).read_text() == "mine"
    assert run("train", "copy", *TINY, "--out", tmp_path, "--overwrite", "--no-pictures").exit_code == OK
    assert (tmp_path / LOG).read_text().startswith('{"step": 1')


def test_overwriting_with_a_recipe_that_fails_keeps_the_run(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = run("train", "copy", *TINY, "--out", folder, "--overwrite", "--lr-factor=1e30")
    assert result.exit_code == ERROR
    assert "loss of step 2" in result.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_without_matplotlib_it_says_so_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    result = run("train", "copy", *TINY, "--out", tmp_path / "run")
    assert result.exit_code == ERROR
    assert "matplotlib is not installed" in result.stderr
    assert "--no-pictures" in result.stderr
    assert not (tmp_path / "run").exists()


def test_too_little_memory_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    def full(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr(runs.Trainer, "step", full)
    result = run("train", "copy", *TINY, "--out", tmp_path)
    assert result.exit_code == ERROR
    assert "too large for the memory. Take shorter text, a smaller --d-model or" in result.stderr


def test_resuming_what_is_done_says_so(tmp_path):
    assert run("train", "copy", *TINY, "--out", tmp_path, "--no-pictures").exit_code == OK
    result = run("train", "copy", "--resume", "--steps=5", "--out", tmp_path, "--no-pictures")
    assert "There is nothing to train: 6 steps are done, and --steps is 5." in result.stdout


def test_resume_takes_the_options_of_the_checkpoint(tmp_path):
    assert run("train", "copy", *TINY, "--out", tmp_path, "--no-pictures").exit_code == OK
    result = run("train", "copy", "--out", tmp_path, "--resume", "--steps=8", "--no-pictures")
    assert result.exit_code == OK, result.output
    assert "Going on after step 6." in result.stdout
    saved = open_checkpoint(tmp_path)
    assert len(saved.state["history"]) == 8
    assert saved.recipe.model.d_model == 8


def test_resume_with_other_options_names_them(folder):
    result = run("train", "copy", "--resume", "--out", folder, "--d-model=16", "--seed=1", "--steps=9", "--nhead=2")
    assert result.exit_code == ERROR
    assert "--d-model is 8 there, not 16" in result.stderr
    assert "--seed is 0 there, not 1" in result.stderr
    assert "steps" not in result.stderr
    assert "nhead" not in result.stderr


def test_resume_of_another_task_is_refused(folder):
    result = run("train", "sort", "--resume", "--out", folder)
    assert result.exit_code == ERROR
    assert result.stderr.count("copy, not sort") == 1
    assert "another TASK: copy, not sort. Choose another --out." in result.stderr
    assert "--task" not in result.stderr


def test_a_full_disk_is_found_out_before_training(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "checkpoint.safetensors.tmp")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(runs.Trainer, "step", lambda self: pytest.fail("a step was taken"))
    result = run("train", "copy", *TINY, "--out", tmp_path)
    assert result.exit_code == ERROR
    assert result.stderr.startswith("error: checkpoint.safetensors.tmp: No space left on device. ")
    assert "Free some space, or choose another folder with --out." in result.stderr


def test_threads_do_not_change_the_result(folder, tmp_path):
    before = mg.kernels.get_num_threads()
    assert run("train", "copy", *TINY, "--out", tmp_path, "--threads=1", "--no-pictures").exit_code == OK
    mg.kernels.set_num_threads(before)
    one, all_ = (open_checkpoint(path).tensors for path in (tmp_path, folder))
    assert {name: one[name].tobytes() for name in one} == {name: all_[name].tobytes() for name in all_}


# ----------------------------------------------------------------------------------------------- translate and evaluate
def test_translate_prints_one_line_for_each_text(folder):
    given = run("translate", folder, "1 2", "3", "2  2, 1")
    assert given.exit_code == OK
    assert len(given.stdout.splitlines()) == 3
    assert given.stderr == ""
    piped = run("translate", folder / CHECKPOINT, stdin="1 2\n3\n\n2 2 1\n")
    lines = piped.stdout.splitlines()
    assert [lines[0], lines[1], lines[3]] == given.stdout.splitlines()
    assert lines[2] == ""


def test_translate_says_which_token_it_has_never_seen(folder):
    result = run("translate", folder, "1 x 2")
    assert result.exit_code == OK
    assert "'x' was never seen in training and is read as <unk>" in result.stderr
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("stdin", ["", "\n \n"])
def test_translating_nothing_is_an_error(folder, stdin):
    result = run("translate", folder, stdin=stdin)
    assert result.exit_code == ERROR
    assert "nothing to translate. Give TEXT, or lines on the standard input." in result.stderr


def test_a_closed_standard_input_is_an_error(folder):
    command = [sys.executable, "-m", "minitransformer", "translate", str(folder)]
    done = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *command], capture_output=True, text=True)
    assert done.returncode == ERROR
    assert done.stderr == "error: the standard input is closed. Give TEXT, or lines on the standard input.\n"


def test_the_standard_input_is_utf_8_whatever_the_locale_says(folder):
    command = [sys.executable, "-m", "minitransformer", "translate", str(folder)]
    latin = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, input=b"1 \xff\n", capture_output=True, env=latin)
    assert done.returncode == ERROR
    assert b"error: the input is not text in utf-8. Convert it to UTF-8." in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_an_output_that_is_full_is_an_error_with_its_own_remedy(folder):
    command = [sys.executable, "-m", "minitransformer", "translate", str(folder), "1 2"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == ERROR
    assert "error: output: No space left on device. Free some space, or write somewhere else." in done.stderr


def test_text_may_begin_with_a_dash_behind_two(folder):
    assert run("translate", folder, "--", "-5").exit_code == OK


def test_an_empty_text_is_an_error(folder):
    result = run("translate", folder, "1", " ")
    assert result.exit_code == USAGE
    assert "an empty TEXT cannot be translated" in result.stderr


def test_evaluate_prints_one_json_object(folder):
    result = run("evaluate", folder, "--json")
    assert result.exit_code == OK
    splits = json.loads(result.stdout)["splits"]
    assert list(splits) == ["random", "longer"]
    assert set(splits["random"]) == {"exact_match", "token_accuracy", "loss", "sentences"}
    task = open_checkpoint(folder).recipe.task
    assert splits["random"]["sentences"] == len(task.splits["random"])
    assert splits["random"]["loss"] > 0


def test_evaluate_says_the_same_in_words(folder):
    splits = json.loads(run("evaluate", folder, "--json").stdout)["splits"]
    text = run("evaluate", folder).stdout
    for name, scores in splits.items():
        assert f"{name}: {scores['exact_match']:.2%} of {scores['sentences']} held-out sentences" in text


# ---------------------------------------------------------------------------------------------------------- small ones
def test_tasks_lists_them_all():
    lines = run("tasks").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["copy", "reverse", "sort", "numbers"]


def test_version(monkeypatch):
    monkeypatch.setattr(cli, "version", lambda name: f"1.2.3 of {name}")
    assert run("--version").stdout == "minitransformer 1.2.3 of minitransformer\n"


def test_version_where_nothing_is_installed(monkeypatch):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cli, "version", missing)
    result = run("--version")
    assert (result.exit_code, result.stdout) == (OK, "minitransformer, not installed but run from its source\n")


@pytest.mark.parametrize("command", ["train", "translate", "evaluate", "tasks"])
def test_every_option_has_help(command):
    def described(parameter: Any) -> bool:
        return bool(parameter.help) or parameter.name == "help"

    group: Any = typer.main.get_command(app)
    assert all(described(parameter) for parameter in group.commands[command].params)
    assert run(command, "--help").exit_code == OK


def test_importing_the_command_line_is_quick():
    code = "import sys, minitransformer.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "minitransformer.cli" in loaded
    assert set(loaded).isdisjoint({"numba", "matplotlib", "graphviz", "num2words", "torch"})


# --------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "copie"], USAGE, r"no task 'copie'. Did you mean copy\? Choose one of: copy"),
        (["train", "numbers", "--target=xx"], USAGE, r"target is 'xx', which num2words does not have"),
        (
            ["train", "copy", "--high=3"],
            USAGE,
            r"copy has no --high. .* --symbols, --min-length, --max-length, --train-size\.$",
        ),
        (["train", "copy", "--nhead=3"], USAGE, r"nhead"),
        (["train", "copy", "--steps=0"], USAGE, r"--steps"),
        (["train", "copy", "--steps=many"], USAGE, r"--steps"),
        (["train", "copy", "--dropout=1.5"], USAGE, r"--dropout"),
        (["train", "copy", "--lr-factor=0"], USAGE, r"lr_factor is 0.0; it must be positive"),
        (["train", "copy", "--lr-factor=inf"], USAGE, r"lr_factor is inf; it must be positive and finite"),
        (["train", "copy", f"--seed={2**64}"], USAGE, r"seed is \d+; it must be at least 0 and below 2\*\*64"),
        (["train", "copy", "--max-length=100000"], USAGE, r"max_length <= 200"),
        (["train", "numbers", f"--high={10**32}"], USAGE, r"high < 1,000,000,000,000,000"),
        (["train", "copy", "--out="], USAGE, r"--out is empty. Give the name of a folder"),
        (["train", "copy", "--out=file"], ERROR, r"file is a file, not a folder. Choose another --out"),
        (["train", "copy", "--out=gap", "--overwrite", "--d-model=0"], USAGE, r"--d-model"),
        (["translate", "gap", "-5"], USAGE, r"-5 looks like an option. Put -- before a TEXT"),
        (["translate", "whole", "1 \udcff"], USAGE, r"TEXT holds bytes that are not UTF-8"),
        (["train", "copy", "--threads=0"], USAGE, r"--threads"),
        (["train", "copy", "--symbols=1"], USAGE, r"symbols is 1. Choose from 2"),
        (["train", "numbers", "--low=5", "--high=5"], USAGE, r"Choose 0 <= low < high"),
        (["train", "copy", "--resume", "--overwrite"], USAGE, r"exclude each other"),
        (
            ["train", "copy", "--resume", "--out=nowhere"],
            ERROR,
            r"there is no checkpoint in nowhere. Leave out --resume",
        ),
        (["train", "copy", "--out=file/below"], ERROR, r"file/below: .*choose another folder"),
        (
            ["train", "copy", "--lr-factor=1e30", *TINY],
            ERROR,
            r"loss of step \d is nan.*smaller lr_factor.*--lr-factor and --warmup; start anew with --overwrite",
        ),
        (["translate", "nowhere", "1"], ERROR, r"there is no checkpoint nowhere"),
        (["translate", "file", "1"], ERROR, r"file: not a checkpoint"),
        (["translate", "truncated", "1"], ERROR, r"truncated: not a checkpoint, or only a part of one"),
        (["translate", "foreign", "1"], ERROR, r"foreign: a checkpoint, but not of"),
        (["evaluate", "gaps"], ERROR, r"gaps: what is in the checkpoint does not fit together .*missing: .*Train anew"),
        (["train", "copy", "--resume", "--out=gap"], ERROR, r"gap/.*: what is in the checkpoint does not fit together"),
        (["evaluate", "empty"], ERROR, r"there is no checkpoint empty"),
        (["evaluate"], USAGE, r"(?i)missing argument 'checkpoint'"),
        (["nonsense"], USAGE, r"nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_have_a_code_and_a_remedy_and_no_traceback(folder, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("not a checkpoint")
    whole = (folder / CHECKPOINT).read_bytes()
    (tmp_path / "whole").write_bytes(whole)
    (tmp_path / "truncated").write_bytes(whole[: len(whole) // 2])
    mg.save(tmp_path / "foreign", {"x": np.zeros(3)}, {"recipe": "another"})
    tensors, meta = mg.load(folder / CHECKPOINT)
    mg.save(tmp_path / "gaps", {name: tensor for name, tensor in tensors.items() if "bias" not in name}, meta)
    (tmp_path / "gap").mkdir()
    (tmp_path / "gap" / CHECKPOINT).write_bytes((tmp_path / "gaps").read_bytes())
    result = run(*arguments)
    assert result.exit_code == code
    assert re.search(message, " ".join(result.stderr.split()))
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
