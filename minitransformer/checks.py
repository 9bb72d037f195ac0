"""What a user gives, checked with a clear answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def is_integer(value: object, least: int) -> bool:
    """Whether `value` is an integer of at least `least`, and not True or False."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> bool:
    """Whether `value` is a finite number, and not True or False."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_sizes(who: str, least: int = 1, **sizes: Any) -> None:
    """Raise ValueError for a size that is not an integer of at least `least`."""
    for name, size in sizes.items():
        if not is_integer(size, least):
            raise ValueError(f"{who}(): {name} is {size!r}; it must be an integer of at least {least}.")


def check_kind(who: str, config: Any, kind: type) -> None:
    """Raise TypeError for a configuration of another kind."""
    if not isinstance(config, kind):
        raise TypeError(f"{who}(): config is a {type(config).__name__}; it must be a {kind.__name__}.")


def check_texts(who: str, texts: Any) -> None:
    """Raise TypeError for a single text where many are wanted: it would be taken for as many texts as it has letters.

    >>> check_texts("encode", ["one"])
    """
    if isinstance(texts, str | bytes):
        raise TypeError(f"{who}() takes several texts, but got a single one. Try {who}([text]).")


def choose(who: str, field: str, choices: Mapping[str, T], name: Any) -> T:
    """What is called `name`. Raises ValueError, with all names, if there is no such choice."""
    if not isinstance(name, str) or name not in choices:
        legal = ", ".join(map(repr, sorted(choices)))
        raise ValueError(f"{who}(): {field} is {name!r}; it must be one of {legal}.")
    return choices[name]
