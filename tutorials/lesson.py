"""What every lesson uses: more or less work, pictures that are shown wherever the lesson runs, and claim cards.

A lesson is a file of cells (`# %%`, "percent format") and runs as a plain script, as a notebook, and as a page of the
site. With TUTORIALS_FAST=1 in the environment it does less: enough to see that it holds.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from minigrad.draw import Plot
from tutorials import boxes

FAST = os.environ.get("TUTORIALS_FAST") == "1"
BUILD = Path(os.environ.get("TUTORIALS_BUILD", "build"))
LINES = 12  # of numbers that are printed below a figure; where there are more, the figure has to say it
VERDICTS = SUPPORTED, REFUTED, NOT_SETTLED = "SUPPORTED", "REFUTED", "NOT SETTLED"
RELATIONS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda x, y: x > y,
    ">=": lambda x, y: x >= y,
    "<": lambda x, y: x < y,
    "<=": lambda x, y: x <= y,
    "==": lambda x, y: x == y,
}


def fast(full: Any, quick: Any) -> Any:
    """`full`, or `quick` where the lesson is to be short: numbers of steps, of seeds, sizes.

    >>> fast(3000, 300) in (3000, 300)
    True
    """
    return quick if FAST else full


_begun: set[Path] = set()  # files of cards that this process has written to; what an earlier run wrote does not stay


class VerdictFlipped(AssertionError):
    """A claim came out otherwise than the lesson says."""


class Claim(dict[str, Any]):
    """A card: what is claimed, what was measured, and what that says. It shows itself as a line of text, or a box."""

    def __repr__(self) -> str:
        reason = f"\n    {self['reason']}" if self["reason"] else ""
        return f"[{self['verdict']}] {self['id']}: {self['statement']}\n    {boxes.measured(self, '+-')}{reason}"

    def _repr_html_(self) -> str:
        return boxes.box(self)


def claim(
    id: str,
    statement: str,
    statistic: str,
    values: Iterable[Any],
    needs: str,
    verdict: str,
    *,
    seeds: Sequence[int] | None = None,
    over: str = "seeds",
    reason: str = "",
    usual: bool = False,
) -> Claim:
    """Settle a claim by numbers, one per seed, and write its card to build/claims/LESSON.json, anew in each run.

    id: "q04.1", the lesson and a number in it. statement: what is claimed; statistic: what was measured, in words.
    needs: what each number must be for the claim to hold, "> 0.9". SUPPORTED if all are so, REFUTED if none is, else
    NOT SETTLED. verdict: what the lesson says it is; reason: why, where that needs words, and always where it is NOT
    SETTLED. seeds: 0, 1, ... unless given. over: what the numbers stand for where chance has no part: "lengths", say,
    which `seeds` then lists; "" for one exact number. usual: whether it is (a part of) the usual answer.

    Raises VerdictFlipped, after writing the card, if the numbers say something else than the lesson, and ValueError for
    a claim that cannot be settled.
    """
    relation, _, threshold = needs.partition(" ")
    numbers = [float(value) for value in values]
    if relation not in RELATIONS or verdict not in VERDICTS or not numbers:
        raise ValueError(
            f"claim(): {id} needs {needs!r}, with the verdict {verdict!r} on {len(numbers)} numbers. "
            f"Write needs='> 0.9', one of {', '.join(VERDICTS)}, and at least one number."
        )
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"claim(): {id} has the numbers {numbers}; all must be finite. Claim a share of them instead.")
    if seeds is not None and len(seeds) != len(numbers):
        raise ValueError(f"claim(): {id} has {len(numbers)} numbers and {len(seeds)} seeds. Give a seed for each.")
    held = [RELATIONS[relation](number, float(threshold)) for number in numbers]
    measured = SUPPORTED if all(held) else REFUTED if not any(held) else NOT_SETTLED
    card = Claim(
        id=id,
        statement=statement,
        statistic=statistic,
        values=numbers,
        mean=mean(numbers),
        spread=stdev(numbers) if len(numbers) > 1 else 0.0,
        relation=relation,
        threshold=float(threshold),
        seeds=list(range(len(numbers)) if seeds is None else seeds),
        over=over,
        verdict=measured,
        reason=reason,
        usual=usual,
        fast=FAST,
    )
    _write(card)
    if measured != verdict:
        raise VerdictFlipped(f"{card!r}\n    The lesson says {verdict}.")
    if not in_notebook():
        print(card)
    return card


def _write(card: Claim) -> None:
    """Put the card into the file of its lesson, in the place of an earlier one with its id, in the order of numbers."""
    path = BUILD / "claims" / f"{card['id'].partition('.')[0]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    cards = json.loads(path.read_text(encoding="utf-8")) if path in _begun and path.exists() else []
    _begun.add(path)
    cards = [other for other in cards if other["id"] != card["id"]] + [card]
    path.write_text(
        json.dumps(sorted(cards, key=lambda c: int(c["id"].split(".")[1])), indent=1) + "\n", encoding="utf-8"
    )


def in_notebook() -> bool:
    """Whether cells show their last value: in a notebook, and where the site is built."""
    return "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None


def list_of_boxes(things: list[Any]) -> str | None:
    """A list of cards as HTML, one box below the other; None, so that it is shown as it always is, for other lists."""
    are_cards = bool(things) and all(isinstance(thing, Claim) for thing in things)
    return "".join(map(boxes.box, things)) if are_cards else None


def show(thing: Any, name: str) -> Any:
    """Show a figure, graph, table or card: in a notebook or on the site here, from a script in build/lessons/.

    name: of the file that a script writes, "q04-ecdf".
    """
    if in_notebook():
        return thing
    if hasattr(thing, "save"):
        folder = BUILD / "lessons"
        folder.mkdir(parents=True, exist_ok=True)
        suffix = ".csv" if hasattr(thing, "columns") else ".svg"
        print(f"{name}: {thing.save(folder / f'{name}{suffix}')}")
    if not isinstance(thing, Plot):
        print(thing)
    elif (text := _in_words(thing.numbers)).count("\n") < LINES:
        print(text)
    return None


def _in_words(numbers: Any) -> str:
    """The numbers of a figure, in three digits; those with a name on a line of their own."""
    with np.printoptions(precision=3, linewidth=100, legacy="1.25"):  # 0.5, not np.float64(0.5)
        named = [(f"{name}:", str(value)) for name, value in numbers.items()] if isinstance(numbers, dict) else []
        lines = [f"{name}\n{text}" if "\n" in text else f"{name} {text}" for name, text in named]
        return "\n".join(lines) or str(numbers)


if in_notebook():  # where a card shows itself, so does a list of them
    formatters = sys.modules["IPython"].get_ipython().display_formatter.formatters
    formatters["text/html"].for_type(list, list_of_boxes)
