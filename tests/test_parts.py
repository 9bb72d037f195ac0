"""The page that says which part answers which question: its parts and tests exist, and no question is missing."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import minigrad
import minitransformer
import minitransformer.lens

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "minitransformer" / "PARTS.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| *\d", line)
]
FIELDS = set(minitransformer.TransformerConfig.__dataclass_fields__)


@cache
def names_in(file):
    tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_question_has_its_row():
    assert [int(row[0]) for row in ROWS] == [*range(1, 18), 19, 20]
    assert all(len(row) == 6 and all(row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_tests_are_there(row):
    for name in row[3].split(", "):
        file, test = name.split("::")
        assert test in names_in(file), name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_parts_are_there(row):
    names = re.findall(r"`([^`]+)`", row[2])
    assert names
    for name in names:
        path = re.sub(r"\(.*\)", "", name)
        home = minigrad if path.startswith("minigrad.") else minitransformer
        found = home
        for part in path.removeprefix("minigrad.").split("."):
            found = getattr(found, part, None)
        assert found is not None or path in FIELDS, name
