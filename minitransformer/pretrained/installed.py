"""The files of packages that are installed, without importing these packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def folder_of(package: str, requirement: str) -> Path:
    """Give the folder of a package by the name it is imported by; `requirement` is what pip calls it.

    Raises ModuleNotFoundError, with the command that installs it, if it is not there.

    >>> folder_of("minitransformer", "minitransformer").name
    'minitransformer'
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the weights are in the package {requirement}, which is not installed. Try: {command(requirement)}",
            name=package,
        )
    return Path(spec.submodule_search_locations[0])


def command(requirement: str) -> str:
    """Give the command that installs a package and not what it asks for, which is PyTorch and more.

    >>> command("anarcii==2.0.8")
    'pip install --no-deps anarcii==2.0.8'
    """
    return f"pip install --no-deps {requirement}"
