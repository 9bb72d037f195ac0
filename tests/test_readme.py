"""What the README shows is true: its Python runs, its commands are the Makefile's, its links lead somewhere."""

import doctest
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_python_blocks_run():
    assert all(block.startswith(">>> ") for block in blocks("python"))
    together = doctest.DocTestParser().get_doctest("\n".join(blocks("python")), {}, "README.md", "README.md", 0)
    assert together.examples
    report: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(together, out=report.append)
    assert "".join(report) == ""


def test_commands_without_make_are_those_of_the_makefile():
    recipes = dict(re.findall(r"^(demo|test):.*\n\t(.*)$", MAKEFILE, re.MULTILINE))
    commands = "".join(blocks("sh")).splitlines()
    assert set(recipes) == {"demo", "test"}
    for recipe in recipes.values():
        assert recipe.replace("$(BIN)", ".venv/bin").removesuffix(" $(ARGS)") in commands


def test_nothing_is_left_to_be_filled_in():
    assert "PLACEHOLDER" not in README
    assert not re.search(r"^\|[-|]+\|\n(?!\|)", README, re.MULTILINE)  # a table without rows


def test_links_to_files_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert "LICENSE" in links
    assert [link for link in links if not (ROOT / link).exists()] == []
