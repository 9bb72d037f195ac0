"""The command line with the other model: a GRU is trained, resumed, asked and drawn as a Transformer is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import minigrad as mg
from minitransformer import GRUConfig, GRUSeq2Seq, Transformer
from minitransformer.cli import app
from minitransformer.runs import CHECKPOINT, LOG, open_checkpoint
from minitransformer.terminal import ERROR, OK, USAGE

TINY = ["--symbols=4", "--max-length=3", "--steps=6", "--warmup=3", "--eval-every=3"]
GRU = ["--model=gru", "--d-model=8", "--hidden-size=7", "--attention-size=6", "--dropout=0.2"]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "gru"
    result = run("train", "reverse", *TINY, *GRU, "--out", folder)
    assert result.exit_code == OK, result.output
    return folder


def test_everything_is_written_and_drawn(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {CHECKPOINT, LOG, "loss.png", "loss.svg", "attention.png", "attention.svg"}
    assert all(text in (folder / "attention.svg").read_text() for text in (">layer 0<", ">head 0<"))
    saved = open_checkpoint(folder)
    assert isinstance(saved.translator().model, GRUSeq2Seq)
    sizes = (saved.recipe.model.d_model, saved.recipe.model.hidden_size, saved.recipe.model.num_layers)
    assert (saved.recipe.architecture, *sizes) == ("gru", 8, 7, 1)


def test_it_translates_and_is_evaluated(folder):
    greedy = run("translate", folder, "1 2", "3").stdout
    assert len(greedy.splitlines()) == 2
    assert run("translate", folder, "1 2", "3", "--beam=1").stdout == greedy
    splits = json.loads(run("evaluate", folder, "--json").stdout)["splits"]
    assert list(splits) == ["random", "longer"]


def test_interrupted_and_resumed_it_ends_with_the_same_bits(folder, tmp_path):
    """And what is left out, the model too, is that of the checkpoint."""
    short = ["--steps=4", "--no-pictures", "--out", tmp_path]
    assert run("train", "reverse", *TINY, *GRU, *short).exit_code == OK
    result = run("train", "reverse", "--resume", "--hidden-size=7", "--steps=6", "--no-pictures", "--out", tmp_path)
    assert result.exit_code == OK, result.output
    assert "Going on after step 4." in result.stdout
    ours, whole = (open_checkpoint(path) for path in (tmp_path, folder))
    assert ours.state == whole.state
    assert {name: x.tobytes() for name, x in ours.tensors.items()} == {
        name: x.tobytes() for name, x in whole.tensors.items()
    }


def test_its_folder_is_not_that_of_the_transformer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("train", "reverse", *TINY, *GRU, "--no-pictures").exit_code == OK
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["reverse-gru"]
    assert "nothing to train" in run("train", "reverse", "--model=gru", "--resume", "--steps=6", "--no-pictures").stdout


def test_the_number_of_layers_is_asked_for_or_usual(tmp_path):
    assert run("train", "reverse", *TINY, *GRU, "--layers=2", "--no-pictures", "--out", tmp_path).exit_code == OK
    assert open_checkpoint(tmp_path).recipe.model == GRUConfig(
        src_vocab_size=4, d_model=8, hidden_size=7, attention_size=6, num_layers=2, dropout=0.2
    )
    small = ["--d-model=8", "--nhead=2", "--dim-feedforward=8", "--steps=1", "--no-pictures"]
    assert run("train", "reverse", *TINY, *small, "--out", tmp_path, "--overwrite").exit_code == OK
    model = open_checkpoint(tmp_path).recipe.model
    assert (model.num_encoder_layers, model.num_decoder_layers) == (2, 2)


def test_a_checkpoint_from_before_there_were_two_models_is_one_of_a_transformer(tmp_path):
    small = ["--d-model=8", "--nhead=2", "--layers=1", "--dim-feedforward=8", "--steps=1", "--no-pictures"]
    assert run("train", "copy", *TINY, *small, "--out", tmp_path).exit_code == OK
    tensors, meta = mg.load(tmp_path / CHECKPOINT)
    assert meta["recipe"].pop("architecture") == "transformer"
    mg.save(tmp_path / CHECKPOINT, tensors, meta)
    assert isinstance(open_checkpoint(tmp_path).translator().model, Transformer)
    result = run("train", "copy", "--resume", "--steps=2", "--no-pictures", "--out", tmp_path)
    assert result.exit_code == OK, result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model=lstm"], USAGE, r"there is no model 'lstm'. Choose one of: transformer, gru\.$"),
        (["--hidden-size=9"], USAGE, r"transformer has no --hidden-size. Its options are --d-model, --nhead, --layers"),
        (
            ["--model=gru", "--nhead=2", "--tie-weights", "--d-model=8"],
            USAGE,
            r"gru has no --nhead, --tie-weights. Its options are --d-model, --hidden-size, --attention-size, --layers,",
        ),
        (["--resume", "--out=there", "--nhead=2"], USAGE, r"gru has no --nhead"),
        (["--resume", "--out=there", "--hidden-size=9"], ERROR, r"other options: --hidden-size is 7 there, not 9"),
        (["--resume", "--out=there", "--layers=2"], ERROR, r"other options: --layers is 1 there, not 2"),
        (
            ["--resume", "--out=there", "--model=transformer", "--d-model=8", "--nhead=2"],
            ERROR,
            r"other options: --model is gru there, not transformer. Leave them out",
        ),
        (["--out=strange", "--resume"], ERROR, r"a checkpoint, but not of a minitransformer .*'lstm'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_apply_is_a_clear_error(folder, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").symlink_to(folder)
    tensors, meta = mg.load(folder / CHECKPOINT)
    (tmp_path / "strange").mkdir()
    meta["recipe"]["architecture"] = "lstm"
    mg.save(tmp_path / "strange" / CHECKPOINT, tensors, meta)
    result = run("train", "reverse", *arguments, "--no-pictures")
    assert result.exit_code == code, result.output
    assert re.search(message, " ".join(result.stderr.split()))
