"""The report of all instruments on one sentence: what is in the folder, and what the command says."""

import csv
import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import minigrad as mg
import minitransformer as mt
from minigrad.draw import DrawError, Exhibit, exhibit
from minitransformer import inspection
from minitransformer.cli import app
from minitransformer.runs import Recipe
from minitransformer.tasks import make_task
from minitransformer.terminal import ERROR, OK, USAGE
from tests.test_page import read

TINY = {"src_vocab_size": 4, "d_model": 8, "nhead": 2, "num_encoder_layers": 1, "num_decoder_layers": 2}
TEXT = "0 1 2 0"


def untrained(config):
    recipe = Recipe(make_task("copy", symbols=4), config, mt.TrainConfig())
    return recipe.begin(recipe.task.splits).translator


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def translator():
    recipe = Recipe(
        make_task("copy", symbols=4), mt.TransformerConfig(**TINY, dim_feedforward=12), mt.TrainConfig(steps=3)
    )
    return recipe.begin(recipe.task.splits).translator


@pytest.fixture(scope="module")
def report(translator, tmp_path_factory):
    """The folder of a report, and what `inspect` returned."""
    folder = tmp_path_factory.mktemp("report")
    mg.manual_seed(0)
    return folder, inspection.inspect(translator, TEXT, folder, target="2 1 0")


def test_the_page_holds_every_exhibit_and_all_its_files_are_there(report):
    folder, seen = report
    reader = read(seen["page"].read_text(encoding="utf-8"))
    titles = [f"Graph: {what}" for _, what in inspection.LEVELS.values()] + [e.title for e in inspection.EXHIBITS]
    assert [title for title in titles if title not in reader.text] == []
    assert sum(tag == "section" for tag, _ in reader.tags) == len(titles)
    addresses = {a[key] for _, a in reader.tags for key in ("href", "src") if key in a} - {None}
    files = {address for address in addresses if not address.startswith("#")}
    assert {
        f"graph-{level}.{suffix}" for level in inspection.LEVELS for suffix in ("svg", "dot", "json", "mmd")
    } <= files
    assert {"ledger.csv", "residual-ledger.csv", "residuals.svg", "saturation.svg", "dependency.svg"} <= files
    assert {"attention-encoder.svg", "attention-decoder.svg", "attention-cross.svg"} <= files
    assert all((folder / name).stat().st_size > 0 for name in files)
    assert "Nothing to show" not in reader.text


def test_the_page_needs_no_network(report):
    page = report[1]["page"].read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|<script|//", page)
    for path in report[0].glob("*.svg"):
        links = re.findall(r'(?:href|src)="([^"]*)"', path.read_text(encoding="utf-8"))
        assert all(link.startswith(("#", "data:")) for link in links), path.name


def test_the_numbers_are_those_of_the_sentence(report, translator):
    folder, seen = report
    src = [[*translator.source.encode(TEXT), 2]]
    out = np.array([[*translator.target.encode("2 1 0"), 2]])
    logits = translator.model.eval()(src, [[1, *out[0][:-1]]])
    assert seen["loss"] == pytest.approx(mg.ops.cross_entropy(logits, out).item(), rel=1e-6)
    with (folder / "residual-ledger.csv").open(encoding="utf-8", newline="") as file:
        ledger = list(csv.DictReader(file))
    assert len(ledger) == 2 + 2 * 3
    assert all(float(row["identity_share"]) + float(row["branch_share"]) == pytest.approx(1) for row in ledger)
    assert json.loads((folder / "trace.json").read_text(encoding="utf-8"))
    assert json.loads((folder / "speedscope.json").read_text(encoding="utf-8"))


def test_the_model_is_left_as_it_was(translator, tmp_path):
    model = translator.model.train()
    for parameter in model.parameters():
        parameter.grad = mg.ones_like(parameter)
    state = mg.random.get_state()
    inspection.inspect(translator, TEXT, tmp_path)
    assert model.training
    assert mg.random.get_state() == state
    assert all((parameter.grad == 1).all() for parameter in model.parameters())


def test_without_a_program_that_draws_the_graphs_are_there_as_text(translator, tmp_path, monkeypatch):
    def nothing(picture):
        raise DrawError("draw: nothing is installed")

    monkeypatch.setattr("minigrad.draw.render.render", lambda *_: nothing(None))
    seen = inspection.inspect(translator, TEXT, tmp_path)
    assert (tmp_path / "graph-op.dot").exists()
    assert not (tmp_path / "graph-op.svg").exists()
    assert "draw: nothing is installed" in seen["page"].read_text(encoding="utf-8")


def test_a_gru_has_a_report_too(tmp_path):
    seen = inspection.inspect(untrained(mt.GRUConfig(src_vocab_size=4, d_model=8)), TEXT, tmp_path, target="0 1")
    text = read(seen["page"].read_text(encoding="utf-8")).text
    assert "Nothing to show" in text  # no residual connections, no heads
    assert (tmp_path / "saturation.svg").exists()


def test_there_must_be_something_to_look_at(translator, tmp_path):
    with pytest.raises(ValueError, match=r"inspect\(\): the text is empty. Give words"):
        inspection.inspect(translator, "", tmp_path)


# ------------------------------------------------------------------------------------------------------------ exhibits
def test_what_an_exhibit_shows_is_what_its_lines_give(tmp_path):
    section = exhibit(Exhibit("t", "", "b = a + 1\nb * 2", "n"), {"a": 2}, tmp_path)
    assert (section.output, (tmp_path / "n.txt").read_text(encoding="utf-8")) == ("6", "6\n")
    with pytest.raises(SyntaxError, match=r"exhibit\(\): the last line of 'b = 1' is no expression"):
        exhibit(Exhibit("t", "", "b = 1", "n"), {}, tmp_path)
    section = exhibit(Exhibit("t", "", "int('x')", "n"), {}, tmp_path)
    assert section.output.startswith("Nothing to show: invalid literal")
    with pytest.raises(ZeroDivisionError):
        exhibit(Exhibit("t", "", "1 / 0", "n"), {}, tmp_path)


def test_a_large_graph_is_a_link(tmp_path):
    with mg.record() as rec:
        x = mg.tensor([1.0], requires_grad=True)
        for _ in range(70):
            x = (x * x).exp().sin()
    for name, code in (("small", "mg.graph(rec, level='op')"), ("large", "mg.graph(rec, level='op', fold=False)")):
        section = exhibit(Exhibit("t", "", code, name), {"mg": mg, "rec": rec}, tmp_path)
        assert (tmp_path / f"{name}.svg").exists()
        assert [path for path, _ in section.pictures] == (["small.svg"] if name == "small" else [])
        assert (f"{name}.svg" in [path for path, _ in section.links]) == (name == "large")


# ------------------------------------------------------------------------------------------------------------- command
@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "copy"
    sizes = ["--symbols=4", "--max-length=3", "--d-model=8", "--nhead=2", "--layers=1", "--dim-feedforward=16"]
    assert (
        run(
            "train", "copy", *sizes, "--steps=6", "--warmup=3", "--eval-every=3", "--no-pictures", "--out", folder
        ).exit_code
        == OK
    )
    return folder


def test_the_command_writes_a_report_and_says_where(folder, tmp_path):
    result = run("inspect", folder, "0 1", "--target", "1 0", "--out", tmp_path / "new")
    assert result.exit_code == OK, result.output
    assert f"open {tmp_path / 'new' / 'index.html'}" in result.stderr
    assert re.search(r"^loss \d+\.\d{4} nats per token", result.stderr)
    again = run("inspect", folder, "0 1", "--target", "1 0", "--out", tmp_path / "new")
    assert (again.exit_code, "holds a report already" in again.stderr) == (ERROR, True)
    assert run("inspect", folder, "1", "--target", "0", "--out", tmp_path / "new", "--overwrite").exit_code == OK


def test_a_folder_with_something_else_is_left_alone(folder, tmp_path):
    (tmp_path / "ledger.csv").write_text("mine")
    result = run("inspect", folder, "0 1", "--out", tmp_path)
    assert (result.exit_code, "is not empty. Choose another --out" in result.stderr) == (ERROR, True)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.csv"]


def test_a_text_that_would_take_forever_is_refused_at_once(folder, tmp_path):
    result = run("inspect", folder, " ".join("01" * 200), "--target", "0", "--out", tmp_path / "new")
    assert (result.exit_code, "have 401 and 2 tokens; they may have 256 together" in result.stderr) == (USAGE, True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{folder}", " "], USAGE, "an empty TEXT"),
        (["{folder}", "a", "--target", " "], USAGE, "an empty TEXT"),
        (["{folder}/nothing", "a"], ERROR, "there is no checkpoint"),
        (["{folder}", "a", "--out", "{folder}/checkpoint.safetensors"], ERROR, "is a file, not a folder"),
        (["{folder}", "-5"], USAGE, "looks like an option"),
    ],
)
def test_errors_of_the_command(folder, arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where there is no report yet
    result = run("inspect", *[argument.format(folder=folder) for argument in arguments])
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def test_an_unknown_token_is_named(folder, tmp_path):
    result = run("inspect", folder, "0 z", "--target", "q", "--out", tmp_path)
    assert [f"'{token}' was never seen" in result.stderr for token in "0zq"] == [False, True, True]
