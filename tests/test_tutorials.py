"""Lessons: each runs as a script, in fast mode, says what the cards say, and keeps to the form of a lesson."""

import doctest
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad import draw, kernels
from tutorials import boxes, check, claims, lesson, planted, toys
from tutorials.pages.first import lessons

ROOT = Path(__file__).parents[1]
LESSONS = lessons()
SECONDS = 300  # that a lesson may take here; on an idle machine with two processors it is below 60


def cells(path):
    """The cells of a lesson: (is text, source)."""
    parts = re.split(r"^# %%(.*)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return [("[markdown]" in head, body) for head, body in zip(parts[::2], parts[1::2], strict=True)]


@pytest.mark.skipif(kernels.current() == "numpy", reason="lessons run once, with the compiled kernels")
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_it_runs_and_its_claims_hold(path, tmp_path):
    environment = os.environ | {"TUTORIALS_FAST": "1", "TUTORIALS_BUILD": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(path)], env=environment, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    name = path.stem[:3]
    cards = json.loads((tmp_path / "claims" / f"{name}.json").read_text(encoding="utf-8"))
    assert all(card["id"].startswith(f"{name}.") for card in cards)
    assert all(card["reason"] for card in cards if card["verdict"] == lesson.NOT_SETTLED)
    assert all(len(card["seeds"]) >= 3 for card in cards if card["over"] == "seeds")
    assert name[0] in "ac" or any(card["usual"] for card in cards)
    table = claims.TABLE.read_text(encoding="utf-8")
    rows = re.findall(rf"^\| ({name}\.\d+) \|.*\| \*\*([A-Z ]+)\*\*", table, re.MULTILINE)
    assert rows == [(card["id"], card["verdict"]) for card in cards], "CLAIMS.md is an older one: make claims"
    assert list((tmp_path / "lessons").glob("*.svg"))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_it_has_the_form_of_a_lesson(path):
    text = path.read_text(encoding="utf-8")
    code = [body for is_text, body in cells(path) if not is_text]
    pictures = [number for number, body in enumerate(code) if "show(" in body]
    assert len(text.splitlines()) <= 250
    assert pictures
    assert pictures[0] < 8
    assert cells(path)[0][0], "begins with words"
    assert re.search(rf"python -m tutorials.check {path.stem[:3]}\b", text)
    for module in re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE):
        ours = {"minigrad", "minitransformer", "tutorials"}
        assert module in {"numba", "numpy", *ours, *sys.stdlib_module_names}
    assert not re.search(r"tutorials\.[aqc]\d\d", text), "no lesson needs another one"


@pytest.mark.parametrize("module", [boxes, check, claims, lesson, planted, toys], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_hold(module):
    assert doctest.testmod(module).failed == 0


# ---------------------------------------------------------------------------------------------------------- claim cards
@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(lesson, "BUILD", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("values", "verdict"), [([0.95, 0.99], "SUPPORTED"), ([0.2, 0.9], "REFUTED"), ([0.5, 0.95], "NOT SETTLED")]
)
def test_a_verdict_is_what_all_seeds_say(values, verdict, build):
    card = lesson.claim("q99.1", "it learns", "accuracy", values, "> 0.9", verdict, reason="it depends", usual=True)
    assert (card["verdict"], card["seeds"], card["usual"]) == (verdict, [0, 1], True)
    assert json.loads((build / "claims" / "q99.json").read_text(encoding="utf-8")) == [card]
    assert verdict in repr(card)
    for other in set(lesson.VERDICTS) - {verdict}:
        with pytest.raises(lesson.VerdictFlipped, match=rf"The lesson says {other}"):
            lesson.claim("q99.1", "it learns", "accuracy", values, "> 0.9", other)


def test_cards_of_a_lesson_are_kept_in_order_and_replaced(build):
    (build / "claims").mkdir()
    (build / "claims" / "q99.json").write_text("what an earlier run wrote does not stay", encoding="utf-8")
    for name, value in (("q99.10", 1.0), ("q99.2", 2.0), ("q99.10", 3.0)):
        lesson.claim(name, "s", "t", [value], ">= 1", "SUPPORTED", seeds=[7])
    cards = json.loads((build / "claims" / "q99.json").read_text(encoding="utf-8"))
    found = [(card["id"], card["values"], card["seeds"]) for card in cards]
    assert found == [("q99.2", [2.0], [7]), ("q99.10", [3.0], [7])]


@pytest.mark.parametrize(
    ("over", "said"),
    [("seeds", "size: 2 +- 1.4 over 2 seeds;"), ("lengths", "2 +- 1.4 over 2 lengths;"), ("", "size: 2; the")],
)
def test_a_card_says_what_its_numbers_stand_for(over, said, build):
    assert said in repr(lesson.claim("q99.1", "it is so", "size", [1.0, 3.0], "> 0", "SUPPORTED", over=over))


@pytest.mark.parametrize("change", [{"needs": "0.9"}, {"verdict": "TRUE"}, {"values": []}])
def test_a_claim_that_cannot_be_settled_is_refused(change, build):
    arguments = {"values": [1.0], "needs": "> 0.9", "verdict": "SUPPORTED"} | change
    with pytest.raises(ValueError, match=r"claim\(\): q99.1 needs"):
        lesson.claim("q99.1", "s", "t", **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [1.0, math.nan]}, r"claim\(\): q99.1 has the numbers \[1.0, nan\]; all must be finite"),
        ({"values": [math.inf]}, "all must be finite"),
        ({"values": [1.0, 2.0], "seeds": [0]}, r"claim\(\): q99.1 has 2 numbers and 1 seeds"),
    ],
)
def test_numbers_without_meaning_are_refused(change, message, build):
    with pytest.raises(ValueError, match=message):
        lesson.claim("q99.1", "s", "t", needs="> 0", verdict="SUPPORTED", **change)
    assert not (build / "claims").exists()


# ------------------------------------------------------------------------------------------------------------- pictures
@pytest.mark.parametrize(
    ("numbers", "printed"),
    [
        ({"loss": np.array([1 / 3, 2.0]), "seed": [np.float64(0.5)]}, ["loss: [0.333 2.   ]", "seed: [0.5]"]),
        ({"table": np.eye(2)}, ["table:", "[[1. 0.]", " [0. 1.]]"]),
        (np.arange(3), ["[0 1 2]"]),
        ({seed: np.zeros(3) for seed in range(lesson.LINES + 1)}, []),
    ],
)
def test_a_script_prints_the_numbers_of_a_figure_if_they_are_few(numbers, printed, build, capsys):
    with draw.figure(2, 2) as fig:
        fig.subplots()
    assert lesson.show(draw.Plot(fig, numbers), "q99-x") is None
    path = build / "lessons" / "q99-x.svg"
    assert capsys.readouterr().out.splitlines() == [f"q99-x: {path}", *printed]
    assert path.exists()


# -------------------------------------------------------------------------------------------------- the table of claims
def test_the_table_holds_every_card(tmp_path):
    path = tmp_path / "q99_x.py"
    path.write_text(
        "from tutorials.lesson import claim\n"
        'claim("q99.1", "a | b", "size", [1.0, 3.0], "> 0", "SUPPORTED", usual=True)\n'
        'claim("q99.2", "x", "size", [7.0], "> 2", "SUPPORTED", over="")\n'
        'claim("q99.3", "no", "size", [1.0], "> 2", "SUPPORTED")\n',
        encoding="utf-8",
    )
    cards, seconds, error = claims.run(path, tmp_path)
    assert [card["id"] for card in cards] == ["q99.1", "q99.2", "q99.3"]
    assert "The lesson says SUPPORTED" in error
    page = claims.table({"q99_x": (cards, seconds)})
    assert "| q99.1 | a \\| b | yes | size: 2 ± 1.4 | 2 seeds | > 0 | **SUPPORTED** |" in page
    assert "| q99.2 | x |  | size: 7 | exact | > 2 | **SUPPORTED** |" in page
    assert "**REFUTED**" in page
