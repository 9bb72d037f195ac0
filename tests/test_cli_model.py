"""The command line chooses the parts of the model, and what was chosen is what is trained, saved and asked."""

import re
from typing import Any

import pytest
from typer.testing import CliRunner

import minitransformer as mt
from minigrad.checkpoint import CheckpointError
from minitransformer import FEED_FORWARDS, NORMS, POSITIONS, TransformerConfig
from minitransformer.cli import app
from minitransformer.model_options import MODEL_OPTIONS
from minitransformer.runs import open_checkpoint
from minitransformer.terminal import ERROR, OK, USAGE

TINY = ["--symbols=4", "--max-length=3", "--steps=2", "--warmup=3", "--eval-every=2", "--no-pictures", "--layers=1"]
SMALL = ["--d-model=8", "--nhead=2", "--dim-feedforward=8"]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train(folder: Any, *arguments: object) -> Any:
    result = run("train", "copy", *TINY, *SMALL, *arguments, "--out", folder)
    assert result.exit_code == OK, result.output
    return open_checkpoint(folder)


def test_every_option_arrives(tmp_path):
    options = [
        *("--positions=relative", "--cross-positions", "--max-len=33", "--attention=general", "--attention-scale=0.3"),
        *(
            "--head-dim=6",
            "--share-qk",
            "--norm=rms",
            "--norm-first",
            "--activation=swiglu",
            "--activation-dropout=0.2",
        ),
        *("--no-residual", "--no-bias", "--no-scale-embedding", "--tie-weights", "--dropout=0.3"),
    ]
    assert train(tmp_path, *options).recipe.model == TransformerConfig(
        src_vocab_size=4,
        d_model=8,
        nhead=2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        dim_feedforward=8,
        dropout=0.3,
        activation_dropout=0.2,
        positions="relative",
        cross_positions=True,
        max_len=33,
        attention="general",
        attention_scale=0.3,
        head_dim=6,
        share_qk=True,
        norm="rms",
        norm_first=True,
        activation="swiglu",
        residual=False,
        bias=False,
        scale_embedding=False,
        tie_weights=True,
    )
    given = {re.sub("^--(no-)?|=.*", "", option).replace("-", "_") for option in [*options, *TINY, *SMALL]}
    assert set(MODEL_OPTIONS["transformer"]) <= given


def test_without_options_it_is_the_paper_in_small(tmp_path):
    model = train(tmp_path).recipe.model
    usual = TransformerConfig(src_vocab_size=4)
    fields = ("positions", "attention", "attention_scale", "norm", "activation", "residual", "bias", "scale_embedding")
    assert {name: getattr(model, name) for name in fields} == {name: getattr(usual, name) for name in fields}


@pytest.mark.parametrize(
    "option",
    [
        *(f"--positions={name}" for name in POSITIONS),
        *(f"--norm={name}" for name in NORMS),
        *(f"--activation={name}" for name in FEED_FORWARDS),
        "--attention=additive",
        "--attention-scale=none",
    ],
)
def test_whatever_was_chosen_it_translates_and_goes_on(option, tmp_path):
    train(tmp_path, option)
    assert len(run("translate", tmp_path, "1 2", "3").stdout.splitlines()) == 2
    result = run("train", "copy", "--resume", "--steps=3", "--no-pictures", "--out", tmp_path)
    assert result.exit_code == OK, result.output
    assert len(open_checkpoint(tmp_path).state["history"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--positions=absolute"], "positions is 'absolute'; it must be one of 'alibi', 'axial', 'learned', 'none'"),
        (["--attention=dot"], "attention is 'dot'; it must be one of 'additive', 'general', 'scaled_dot'"),
        (["--attention-scale=half"], "attention_scale is 'half'; it must be a number, or one of 'd_k', 'none', 'sqrt'"),
        (["--norm=group"], "norm is 'group'; it must be one of 'batch', 'layer', 'none', 'rms'"),
        (["--activation=tanh"], "activation is 'tanh'; it must be one of 'gelu', "),
        (
            ["--positions=learned", "--cross-positions"],
            "cross_positions is True; it must be False, for learned positions",
        ),
        (["--positions=rotary", "--head-dim=3"], "head_dim is 3; it must be such that heads have an even size"),
        (
            ["--model=gru", "--positions=rotary"],
            r"gru has no --nhead, --dim-feedforward, --positions\. Its options are",
        ),
    ],
)
def test_what_is_not_legal_is_told_before_anything_is_done(arguments, message, tmp_path):
    result = run("train", "copy", *TINY, *SMALL, *arguments, "--out", tmp_path / "run")
    assert result.exit_code == USAGE
    assert re.search(message, result.stderr), result.stderr
    assert not (tmp_path / "run").exists()


def test_with_resume_the_model_cannot_become_another(tmp_path):
    train(tmp_path, "--positions=alibi")
    result = run("train", "copy", "--resume", "--positions=rotary", "--no-pictures", "--out", tmp_path)
    assert "--positions is alibi there, not rotary" in result.stderr


@pytest.mark.parametrize("positions", ["learned", "sinusoidal_init", "axial"])
def test_too_few_places_are_told_before_training_and_in_translation(positions, tmp_path):
    """Sequences of up to 3, in the harder split longer, and an end of sentence."""
    arguments = ["train", "copy", *TINY, *SMALL, f"--positions={positions}", "--out", tmp_path / "run"]
    result = run(*arguments, "--max-len=3")
    assert re.search(
        rf"copy: the longest text has (\d+) tokens, and {positions} positions have 3 places", result.stderr
    )
    assert not (tmp_path / "run").exists()
    needed = re.findall(r"a max_len of at least (\d+)\. That is --max-len", result.stderr)[0]
    assert run(*arguments, f"--max-len={needed}").exit_code == OK
    result = run("translate", tmp_path / "run", " ".join("1" * 30))
    assert result.exit_code == ERROR
    assert re.search(r"error: \w+\(\): the text has 31 tokens, the table \d+ positions.*--max-len", result.stderr)


def test_evaluate_decodes_as_it_is_told(tmp_path):
    train(tmp_path, "--steps=150", "--warmup=20", "--d-model=16", "--eval-every=75")
    cold, hot = (
        run("evaluate", tmp_path, "--sample", f"--temperature={t}", "--seed=1", "--json").stdout for t in ("0.01", "50")
    )
    assert cold == run("evaluate", tmp_path, "--sample", "--temperature=0.01", "--seed=2", "--json").stdout
    assert cold != hot


def test_what_was_trained_is_loaded_by_its_folder(tmp_path):
    train(tmp_path)
    translator = mt.load(str(tmp_path))
    assert translator.translate(["1 2"]) == run("translate", tmp_path, "1 2").stdout.splitlines()
    assert not translator.model.training
    with pytest.raises(TypeError, match=r"Translator.translate\(\) takes several texts, but got a single one"):
        translator.translate("1 2")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        mt.load(tmp_path / "elsewhere")


def test_numbers_that_cannot_be_are_told(tmp_path):
    train(tmp_path)
    result = run("translate", tmp_path, "1", "--threads=5000")
    assert (result.exit_code, "n is 5000; it must be" in result.stderr) == (USAGE, True)
    result = run("translate", tmp_path, "1", "--beam=2", "--length-penalty", "-1")
    assert "--length-penalty=-1" in result.stderr
    assert run("translate", tmp_path, "1", "--beam=2", "--length-penalty=-1").exit_code == OK


@pytest.mark.parametrize(
    ("option", "words"),
    [("--sample", " (sampled)"), ("--beam=2", " (beam search with 2)"), ("--jacobi", ""), (None, "")],
)
def test_evaluate_says_how_it_decoded(option, words, tmp_path):
    train(tmp_path)
    lines = run("evaluate", tmp_path, *([option] if option else [])).stdout.splitlines()
    assert [re.sub(r".*loss \d+\.\d+", "", line) for line in lines] == [words, words]
