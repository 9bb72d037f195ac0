"""Check an exercise, or give a hint.

python -m tutorials.check q04                the answer in tutorials/exercises/q04.py
python -m tutorials.check q04 my_answer.py   the answer in another file
python -m tutorials.check q04 --hint 1       a first hint; 2 and 3 say more
python -m tutorials.check                    all exercises

Every property is tried with several random shapes and seeds; the first that fails is named, with the numbers.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

CHECKS = Path(__file__).with_name("checks")
TIMES = 5  # that each property is tried


class Failed(AssertionError):
    """An answer does not have a property."""


def expect(condition: Any, message: str) -> None:
    """Raise `Failed` unless the condition holds; the message says what was found and what was expected."""
    if not condition:
        raise Failed(message)


def close(found: Any, expected: Any, what: str, tolerance: float = 1e-9) -> None:
    """Raise `Failed` unless two arrays agree; the message names the first element that differs."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    expect(found.shape == expected.shape, f"{what} has shape {found.shape}, expected {expected.shape}")
    wrong = ~np.isclose(found, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    if wrong.any():
        where = tuple(map(int, np.argwhere(wrong)[0]))
        place = f" at {where}" if where else ""
        expect(False, f"{what}{place} is {found[where]:.9g}, expected {expected[where]:.9g}")


def lessons() -> list[str]:
    """All lessons that have an exercise."""
    return sorted(path.stem for path in CHECKS.glob("*.py") if path.stem != "__init__")


def properties(lesson: str) -> Iterator[Callable[[Any, np.random.Generator], object]]:
    """The properties that an answer is held to, in order: functions of (answer, random generator)."""
    module = importlib.import_module(f"tutorials.checks.{lesson}")
    for name, thing in vars(module).items():
        if callable(thing) and not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__:
            yield thing


def first_failure(lesson: str, answer: Any, seed: int | None = None) -> str | None:
    """What the first property says that the answer does not have; None if it has all."""
    seeds = np.random.SeedSequence(seed).spawn(TIMES)
    for check in properties(lesson):
        for each in seeds:
            try:
                check(answer, np.random.default_rng(each))
            except NotImplementedError:
                return f"{lesson}: nothing is written there yet. It is in tutorials/exercises/{lesson}.py."
            except Failed as error:
                return f"{lesson}: {check.__name__.replace('_', ' ')}: {error}"
            except Exception as error:
                changed = ", as an answer changes no argument; make a new array" if "read-only" in str(error) else ""
                return f"{lesson}: {check.__name__.replace('_', ' ')}: {type(error).__name__}: {error}{changed}"
    return None


def answer_in(path: Path) -> ModuleType:
    """The module in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"check: there is no Python file {path}. Give the file with your answer.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all is right, 1 if something fails, 2 if there is no such exercise or hint."""
    parser = argparse.ArgumentParser(prog="python -m tutorials.check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lesson", nargs="?", help="q04, say; all unless given")
    parser.add_argument("file", nargs="?", type=Path, help="where the answer is")
    parser.add_argument("--hint", type=int, choices=(1, 2, 3), help="say something helpful instead")
    asked = parser.parse_args(arguments)
    known = lessons()
    if asked.lesson is not None and asked.lesson not in known:
        print(f"check: there is no exercise {asked.lesson!r}; there are {', '.join(known)}.", file=sys.stderr)
        return 2
    if asked.hint:
        if asked.lesson is None:
            print("check: a hint for which lesson? Try: python -m tutorials.check q04 --hint 1", file=sys.stderr)
            return 2
        print(importlib.import_module(f"tutorials.checks.{asked.lesson}").HINTS[asked.hint - 1])
        return 0
    failed = 0
    for lesson in known if asked.lesson is None else [asked.lesson]:
        try:
            answer = answer_in(asked.file or Path(__file__).with_name("exercises") / f"{lesson}.py")
        except Exception as error:  # whatever an answer does when it is read
            print(f"{lesson}: {type(error).__name__}: {error}", file=sys.stderr)
            return 2
        failure = first_failure(lesson, answer)
        print(failure or f"{lesson}: right")
        failed += failure is not None
    return 1 if failed else 0


if __name__ == "__main__":  # the module that the checks import, so that what they raise is the `Failed` of `main`
    sys.exit(importlib.import_module("tutorials.check").main())
