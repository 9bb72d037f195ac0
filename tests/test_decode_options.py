"""The options of decoding on the command line: each does what its function does, and not all go together."""

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import minigrad as mg
from minitransformer import beam_search, greedy, jacobi, sample
from minitransformer.cli import app
from minitransformer.decode_options import Decoding
from minitransformer.runs import CHECKPOINT, open_checkpoint
from minitransformer.terminal import ERROR, USAGE
from tests.models import Fickle, unpadded

TINY = ["--symbols=5", "--max-length=4", "--d-model=8", "--nhead=2", "--layers=1", "--dim-feedforward=16", "--steps=4"]
TEXTS = ["1 2", "4 3 1 2", "2"]
SRC = np.array([[3, 4, 5], [6, 7, 0], [8, 0, 0]])


def run(*arguments, stdin=None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    result = run("train", "copy", *TINY, "--no-pictures", "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


def texts(rows):
    return [unpadded(np.asarray(row)) for row in rows]


def test_without_options_it_is_greedy():
    assert texts(Decoding()(Fickle(), SRC)) == texts(greedy(Fickle(), SRC))


@pytest.mark.parametrize("length_penalty", [None, -2.0, 3.0])
def test_beam_takes_the_best_hypothesis(length_penalty):
    given = {} if length_penalty is None else {"length_penalty": length_penalty}
    expected = [hypotheses[0].tokens for hypotheses in beam_search(Fickle(), SRC, beam_size=3, **given)]
    assert texts(Decoding(beam=3, length_penalty=length_penalty)(Fickle(), SRC)) == texts(expected)


def test_sampling_passes_its_settings_on_and_is_repeatable_text_by_text():
    model, src = Fickle(vocab_size=12), np.arange(3, 43)[:, None]
    settings = {"temperature": 0.7, "top_k": 6, "top_p": 0.9}
    decoding = Decoding(sampled=True, seed=5, **settings)
    drawn = decoding(model, src)
    assert texts(drawn) == texts(sample(model, src, seed=[(5, *row) for row in src.tolist()], **settings))
    assert texts(decoding(model, src[7:9])) == texts(drawn[7:9])
    assert texts(Decoding(sampled=True, seed=6, **settings)(model, src)) != texts(drawn)
    unseeded = Decoding(sampled=True)
    assert texts(unseeded(model, src)) != texts(unseeded(model, src))


def test_jacobi_says_what_it_has_saved():
    model, decoding = Fickle(), Decoding(jacobi=True)
    for src in (SRC, SRC[:1]):
        assert texts(decoding(model, src)) == texts(greedy(Fickle(), src))
    calls = [jacobi(Fickle(), src).calls for src in (SRC, SRC[:1])]
    lengths = [greedy(Fickle(), src).shape[1] for src in (SRC, SRC[:1])]
    assert decoding.saved() == f"jacobi: {sum(calls)} calls of the model; token by token, {sum(lengths)}"


# ----------------------------------------------------------------------------------------------------- the command line
def test_translate_with_a_beam_of_one_and_with_jacobi_is_translate(folder):
    plain = run("translate", folder, *TEXTS)
    assert run("translate", folder, *TEXTS, "--beam=1").stdout == plain.stdout
    result = run("translate", folder, *TEXTS, "--jacobi")
    assert result.stdout == plain.stdout
    assert re.fullmatch(r"jacobi: \d+ calls of the model; token by token, \d+\n", result.stderr)
    assert run("translate", folder, *TEXTS, "--sample", "--top-k=1").stdout == plain.stdout


def test_n_best_prints_scores_and_translations(folder):
    result = run("translate", folder, "--beam=4", "--n-best=3", "--length-penalty=1.5", stdin="1 2\n\n4 3 1 2\n")
    lines = result.stdout.splitlines()
    assert len(lines) == 3 + 1 + 3
    assert lines[3] == ""  # of an empty line
    translator = open_checkpoint(folder).translator()
    for text, found in (("1 2", lines[:3]), ("4 3 1 2", lines[4:])):
        src = [[*translator.source.encode(text), 2]]
        (expected,) = beam_search(translator.model, src, beam_size=4, n_best=3, length_penalty=1.5)
        assert found == [f"{y.score:.4f}\t{translator.target.decode(y.tokens)}" for y in expected]


def test_evaluate_decodes_as_it_is_told(folder):
    plain = run("evaluate", folder)
    result = run("evaluate", folder, "--jacobi")
    assert result.stdout == plain.stdout
    assert "jacobi: " in result.stderr
    for options, words in ((["--beam=1"], " (beam search with 1)"), (["--sample", "--top-k=1"], " (sampled)")):
        assert run("evaluate", folder, *options).stdout.replace(words, "") == plain.stdout


@pytest.mark.parametrize("command", ["translate", "evaluate"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--beam=4", "--jacobi"], r"--beam and --jacobi exclude each other\. Choose one\."),
        (["--beam=4", "--sample"], r"--beam and --sample exclude each other"),
        (["--top-k=4", "--seed=1"], r"--top-k, --seed only with --sample\. Add that, or leave them out\."),
        (["--temperature=0.5", "--beam=2"], r"--temperature only with --sample"),
        (["--length-penalty=1"], r"--length-penalty only with --beam"),
        (["--beam=2", "--length-penalty=nan"], r"--length-penalty is nan\. It must be from -10 to 10\."),
        (["--sample", "--temperature=0"], r"temperature is 0\.0; it must be above 0"),
        (["--sample", "--top-p=2"], r"top_p is 2\.0; it must be above 0 and at most 1"),
        (["--sample", "--top-k=0"], r"--top-k"),
        (["--beam=0"], r"--beam"),
    ],
)
def test_options_that_make_no_sense_are_errors(folder, command, options, message):
    result = run(command, folder, *options)
    assert result.exit_code == USAGE
    assert re.search(message, " ".join(result.stderr.split()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n-best=2"], r"--n-best only with --beam\."),
        (["--beam=2", "--n-best=3"], r"--n-best is 3, and --beam keeps 2\. Let it keep as many or more\."),
    ],
)
def test_n_best_needs_a_beam_that_is_wide_enough(folder, options, message):
    result = run("translate", folder, "1", *options)
    assert result.exit_code == USAGE
    assert re.search(message, result.stderr)


@pytest.mark.parametrize("command", [("translate", "1 2"), ("evaluate",)])
def test_a_model_that_holds_no_numbers_is_an_error_without_traceback(folder, tmp_path, command):
    tensors, meta = mg.load(folder / CHECKPOINT)
    mg.save(tmp_path / CHECKPOINT, {name: np.full_like(x, np.nan) for name, x in tensors.items()}, meta)
    name, *texts = command
    result = run(name, tmp_path, *texts)
    assert result.exit_code == ERROR
    assert "error: decoding: the model's logits are nan" in result.stderr
