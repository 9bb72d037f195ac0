"""The page of the instruments: its Python runs, and every feature and trap has tests that exist."""

import ast
import doctest
import re
from functools import cache, reduce
from pathlib import Path

import pytest

import minigrad
import minitransformer
import minitransformer.lens

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "minitransformer" / "INSTRUMENTS.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if "::" in line]
NAMES = sorted({name for row in ROWS for name in row[-1].split(", ")})


@cache
def names_in(file):
    tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_its_python_runs():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    together = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "INSTRUMENTS.md", "INSTRUMENTS.md", 0)
    assert len(together.examples) > 30
    report: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(together, out=report.append)
    assert "".join(report) == ""


def test_there_are_all_features_and_traps():
    assert [len([row for row in ROWS if len(row) == columns]) for columns in (3, 2)] == [19, 15]


@pytest.mark.parametrize("name", NAMES)
def test_its_tests_are_there(name):
    file, test = name.split("::")
    assert test in names_in(file)


@pytest.mark.parametrize("row", [row for row in ROWS if len(row) == 3], ids=lambda row: row[0])
def test_its_parts_are_there(row):
    names = re.findall(r"`([^`(]+)[^`]*`", row[1])
    assert names
    for name in names:
        home = minigrad if name.startswith("minigrad.") else minitransformer
        found = reduce(getattr, name.removeprefix("minigrad.").split("."), home)
        assert found is not None
