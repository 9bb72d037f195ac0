"""The first page of the site: the lessons by their titles, and every claim card that they wrote."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from tutorials.boxes import SIGNS, badge, measured

FOLDER = Path(__file__).parents[1]
LESSONS = "[aqc][0-9][0-9]_*.py"
TRACKS = {
    "a": ("The engine", "How gradients are computed: tensors, graphs, kernels, and how to look inside."),
    "q": ("Questions about the Transformer", "What people are asked about it. Each is answered by an experiment."),
    "c": ("Capstones", "A whole model, with every instrument."),
}
WELCOME = """\
# Lessons on minigrad and minitransformer

A complete Transformer, the encoder-decoder of *Attention Is All You Need*, on an automatic-differentiation engine of
its own. Each lesson asks a question, says what is usually answered, lets you predict a number, measures it with several
seeds, and says where the usual answer is right, and when. The lessons are scripts of cells in `tutorials/`; these pages
are what they show when they are run.
"""
RULE = "Mean ± standard deviation over the seeds. A claim is supported if every seed says so, refuted if none does."


def lessons(folder: Path = FOLDER) -> list[Path]:
    """The files of all lessons, track by track."""
    return sorted(folder.glob(LESSONS), key=lambda path: ("aqc".index(path.name[0]), path.name))


def title(path: Path) -> str:
    """The first heading of a lesson."""
    heading = re.search(r"^# # (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if heading is None:
        raise ValueError(f"title(): {path.name} has no heading. Begin its first cell with '# # Question 4. Why ...?'.")
    return heading[1].strip()


def read_cards(path: Path, claims: Path) -> list[dict[str, Any]]:
    """The cards that a lesson wrote into the folder `claims`, (parts of) the usual answer first."""
    file = claims / f"{path.name[:3]}.json"
    cards = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return sorted(cards, key=lambda card: not card["usual"])


def tally(cards: Sequence[dict[str, Any]]) -> str:
    """How many claims have which verdict: "✓ 3  ✗ 2"."""
    counts = Counter(card["verdict"] for card in cards)
    return "  ".join(f"{sign} {counts[verdict]}" for verdict, sign in SIGNS.items() if counts[verdict])


def row(card: dict[str, Any], page: str) -> str:
    """A card in a line or two, linked to where its lesson settles it."""
    usual = '<span class="usual">usual answer</span> ' if card["usual"] else ""
    why = f" <em>{escape(card['reason'])}</em>" if card["verdict"] == "NOT SETTLED" else ""
    return (
        f'<li class="card" data-verdict="{card["verdict"]}" data-usual="{str(card["usual"]).lower()}">'
        f'{badge(card["verdict"])}<div><a href="{page}#{escape(card["id"])}">{escape(card["statement"])}</a> '
        f'{usual}<div class="measured">{escape(measured(card))}{why}</div></div></li>'
    )


def filters(cards: Sequence[dict[str, Any]]) -> str:
    """Buttons that show some of the cards; cards.js makes them work, and without it all cards are there."""
    counts = Counter(card["verdict"] for card in cards)
    usual = sum(card["usual"] for card in cards)
    choices = [("", f"all {len(cards)}"), ("usual", f"usual answers {usual}")]
    choices += [(verdict, f"{sign} {verdict} {counts[verdict]}") for verdict, sign in SIGNS.items()]
    buttons = "".join(f'<button type="button" data-show="{show}">{text}</button>' for show, text in choices)
    return f'<div class="filters" role="group" aria-label="Which claims to show" hidden>{buttons}</div>'


def first_page(paths: Sequence[Path], claims: Path, documents: Sequence[str], note: str) -> str:
    """The page in MyST Markdown. `documents`: other pages of the site; `note`: when and how the lessons were run."""
    found = {path: read_cards(path, claims) for path in paths}
    every = [card for cards in found.values() for card in cards]
    page = [WELCOME]
    for track, (name, about) in TRACKS.items():
        members = [path for path in paths if path.name[0] == track]
        if members:
            page += [f"## {name}\n", f"{about}\n"]
            page += [f"- [{title(path)}](tutorials/{path.stem}.ipynb) {tally(found[path])}" for path in members]
            page += ["", *toctree(name, [f"tutorials/{path.stem}" for path in members])]
    page += toctree("More", [document.removesuffix(".md") for document in documents])
    page += ["## Claims\n", f"What is said about these things, and what {len(every)} measurements say. {note}\n"]
    page += [f"{RULE}\n", f"{filters(every)}\n"]
    for path, cards in found.items():
        if cards:
            rows = "\n".join(row(card, f"tutorials/{path.stem}.html") for card in cards)
            page += [f"### {title(path)}\n", f'<ul class="cards">\n{rows}\n</ul>\n']
    return "\n".join(page)


def toctree(caption: str, pages: Sequence[str]) -> list[str]:
    """A part of the list that stands beside every page."""
    return ["```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""]
