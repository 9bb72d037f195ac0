"""A claim card as HTML: a box that a notebook shows, and a page. A card is a `lesson.Claim`, or read from its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

Card = Mapping[str, Any]

# Verdicts have Okabe and Ito's colours, under black text; the sign and the word say the same without colour.
SIGNS = {"SUPPORTED": "✓", "REFUTED": "✗", "NOT SETTLED": "?"}
COLOURS = {"SUPPORTED": "#009e73", "REFUTED": "#d55e00", "NOT SETTLED": "#56b4e9"}
BADGE = "color:#000;padding:0 .5em;border-radius:.25em;font-weight:bold;font-size:.8em;white-space:nowrap"
BOX = "border:1px solid #8888;border-radius:.3em;padding:.4em .8em;margin:.6em 0;text-align:left;line-height:1.45"


def badge(verdict: str) -> str:
    """The verdict in its colour, with its sign.

    >>> ">✗ REFUTED<" in badge("REFUTED")
    True
    """
    return f'<span style="background:{COLOURS[verdict]};{BADGE}">{SIGNS[verdict]} {verdict}</span>'


def numbers(card: Card, sign: str = "±") -> str:
    """The mean of what was measured and its spread, or the one exact number.

    >>> numbers({"mean": 0.5, "spread": 0.1, "over": "seeds"}), numbers({"mean": 32, "spread": 0, "over": ""})
    ('0.5 ± 0.1', '32')
    """
    return f"{card['mean']:.4g}" + (f" {sign} {card['spread']:.2g}" if card["over"] else "")


def measured(card: Card, sign: str = "±") -> str:
    """What was measured, and what the claim needs, as plain text."""
    over = f" over {len(card['seeds'])} {card['over']}" if card["over"] else ""
    needs = f"the claim needs {card['relation']} {card['threshold']:g}"
    return f"{card['statistic']}: {numbers(card, sign)}{over}; {needs}"


def box(card: Card) -> str:
    """The card as a box, to be linked to by its id. It brings its style along: a notebook has no other."""
    reason = f"<div><em>{escape(card['reason'])}</em></div>" if card["reason"] else ""
    return (
        f'<div class="claim" id="{escape(card["id"])}" style="{BOX};border-left:.5em solid {COLOURS[card["verdict"]]}">'
        f"<div>{badge(card['verdict'])} <small>{escape(card['id'])}{', usual answer' if card['usual'] else ''}</small>"
        f"</div><div><strong>{escape(card['statement'])}</strong></div>"
        f"<div>{escape(measured(card))}</div>{reason}</div>"
    )
