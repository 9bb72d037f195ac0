"""The examples in the docstrings of both packages, run.

The standard finder takes functions and classes only; ops are objects, so the registry is walked as well.
"""

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import minigrad
import minigrad.op
import minitransformer


def modules() -> Iterator[ModuleType]:
    for package in (minigrad, minitransformer):
        yield package
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(info.name)


def examples_of_ops() -> Iterator[doctest.DocTest]:
    for op in minigrad.op.registry.values():
        module = importlib.import_module(op.forward.__module__)
        yield from doctest.DocTestFinder().find(op, f"{module.__name__}.{op.name}", module)


def examples() -> list[doctest.DocTest]:
    """The docstrings that contain an example, by name."""
    found = [test for module in modules() for test in doctest.DocTestFinder().find(module)]
    by_name = {test.name: test for test in [*found, *examples_of_ops()] if test.examples}
    return [by_name[name] for name in sorted(by_name)]


def report(example: doctest.DocTest) -> str:
    """What went wrong; empty if nothing did."""
    lines: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(example, out=lines.append)
    return "".join(lines)


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_example(example):
    assert report(example) == ""


def test_examples_of_ops_are_found_and_can_fail(monkeypatch):
    monkeypatch.setattr(minigrad.op, "registry", {})

    @minigrad.op.op
    def doubled(x):
        """
        >>> doubled = 2 * 3
        >>> doubled
        5
        """
        return 2 * x, lambda g: 2 * g

    (example,) = examples_of_ops()
    assert example.name == "tests.test_doctests.doubled"
    assert "Expected:\n    5\nGot:\n    6\n" in report(example)
