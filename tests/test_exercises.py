"""Exercises: each check passes the solution, and fails the stub and every wrong answer."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tutorials import check

ROOT = Path(__file__).parents[1]
LESSONS = check.lessons()


def solution(lesson):
    return importlib.import_module(f"tutorials.solutions.{lesson}")


def wrong_answers():
    for lesson in LESSONS:
        for name, functions in importlib.import_module(f"tests.wrong_answers.{lesson}").WRONG.items():
            yield pytest.param(lesson, functions, id=f"{lesson} {name}")


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_solution_is_right(lesson):
    assert [check.first_failure(lesson, solution(lesson), seed) for seed in (None, 1)] == [None, None]


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_stub_is_to_be_written(lesson):
    stub = importlib.import_module(f"tutorials.exercises.{lesson}")
    assert check.first_failure(lesson, stub) == (
        f"{lesson}: nothing is written there yet. It is in tutorials/exercises/{lesson}.py."
    )


@pytest.mark.parametrize(("lesson", "functions"), [*wrong_answers()])
def test_a_wrong_answer_is_named(lesson, functions):
    right = {name: thing for name, thing in vars(solution(lesson)).items() if callable(thing)}
    failures = {check.first_failure(lesson, SimpleNamespace(**right | functions), seed) for seed in range(3)}
    assert None not in failures


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_exercise_has_hints_and_wrong_answers(lesson):
    hints = importlib.import_module(f"tutorials.checks.{lesson}").HINTS
    assert len(hints) == len(set(hints)) == 3
    assert len(importlib.import_module(f"tests.wrong_answers.{lesson}").WRONG) >= 2


def test_the_command(tmp_path, capsys):
    lesson = LESSONS[0]
    assert check.main([lesson]) == 1
    assert "nothing is written there yet" in capsys.readouterr().out
    assert check.main([lesson, str(ROOT / "tutorials" / "solutions" / f"{lesson}.py")]) == 0
    assert check.main([lesson, "--hint", "2"]) == 0
    assert importlib.import_module(f"tutorials.checks.{lesson}").HINTS[1] in capsys.readouterr().out
    assert check.main(["q99"]) == 2
    assert "there is no exercise 'q99'" in capsys.readouterr().err
    assert check.main([lesson, str(tmp_path / "none.py")]) == 2
    assert "there is no Python file" in capsys.readouterr().err
    (tmp_path / "broken.py").write_text("import nothing_of_this_name", encoding="utf-8")
    assert check.main([lesson, str(tmp_path / "broken.py")]) == 2
    assert f"{lesson}: ModuleNotFoundError: No module named" in capsys.readouterr().err
    assert check.main(["--hint", "1"]) == 2
    command = [sys.executable, "-m", "tutorials.check", "a02"]
    assert subprocess.run([*command, "--hint", "1"], cwd=ROOT, check=True).returncode == 0
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def unbroadcast(g, shape):\n    return g\n")
    said = subprocess.run([*command, str(wrong)], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert said.startswith("a02: a bias gets the sum of its column: of g with shape"), "the property, and what it says"


def test_failures_name_the_element():
    with pytest.raises(check.Failed, match="x is 2, expected 3"):
        check.close(2.0, 3.0, "x")
    check.close([1.0, 2.0], [1.0, 2.0], "x")
    with pytest.raises(check.Failed, match=r"x at \(1,\) is 2, expected 3"):
        check.close(np.array([1.0, 2.0]), [1.0, 3.0], "x")
    with pytest.raises(check.Failed, match=r"x has shape \(2,\), expected \(1,\)"):
        check.close(np.array([1.0, 2.0]), [1.0], "x")


def test_a_changed_argument_is_said():
    in_place = SimpleNamespace(log_softmax=lambda x: x.__isub__(1.0))
    assert "as an answer changes no argument; make a new array" in check.first_failure("a03", in_place)
