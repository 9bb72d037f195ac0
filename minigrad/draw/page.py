"""One page of HTML that opens offline: sections of text, code, pictures that lie beside it, and tables."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STYLE = """
:root { color-scheme: light; --ink: #222; --quiet: #666; --line: #ddd; --paper: #fff; --code: #f6f6f4; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
header, main, nav { max-width: 72rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .3rem; padding-top: .6rem; border-top: 1px solid var(--line); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .5rem 0; padding: 0; list-style: none; }
a { color: #0072b2; }
p { max-width: 46rem; margin: .4rem 0; }
pre { overflow-x: auto; padding: .6rem .8rem; background: var(--code); font: .85rem/1.4 ui-monospace, monospace; }
figure { margin: 1rem 0; overflow-x: auto; }
figure img { max-width: 100%; height: auto; }
figcaption { color: var(--quiet); font-size: .875rem; }
.table { overflow: auto; max-height: 32rem; }
table { border-collapse: collapse; font-size: .8125rem; }
caption { text-align: left; color: var(--quiet); padding-bottom: .3rem; }
th, td { padding: .15rem .6rem; border-bottom: 1px solid var(--line); text-align: left; }
th { position: sticky; top: 0; background: var(--paper); }
td { font-variant-numeric: tabular-nums; }
"""


@dataclass
class Section:
    """A part of a page. `pictures` are (path relative to the page, what it shows); `links` are files to open."""

    title: str
    text: str = ""  # paragraphs, with an empty line between two
    code: str = ""
    pictures: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Any] = field(default_factory=list)  # whatever has _repr_html_
    links: list[tuple[str, str]] = field(default_factory=list)
    output: str = ""  # text as it was printed


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole page, as HTML. Everything that is written in it is escaped; nothing is loaded from elsewhere.

    >>> text = page("A run", "What was seen.", [Section("Edges & shares", "x < y", code="rec.ledger()")])
    >>> '<h2 id="edges-shares">Edges &amp; shares</h2>' in text, "x &lt; y" in text
    (True, True)
    """
    names = [anchor(section.title) for section in sections]
    entries = "".join(
        f'<li><a href="#{name}">{html.escape(section.title)}</a></li>'
        for name, section in zip(names, sections, strict=True)
    )
    body = "".join(_section(name, section) for name, section in zip(names, sections, strict=True))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{html.escape(title)}</h1>{_paragraphs(lead)}</header>\n"
        f"<nav><ul>{entries}</ul></nav>\n<main>{body}</main>\n</body>\n</html>\n"
    )


def save_page(path: str | Path, title: str, lead: str, sections: Sequence[Section]) -> Path:
    """Write the page."""
    path = Path(path)
    path.write_text(page(title, lead, sections), encoding="utf-8")
    return path


def anchor(title: str) -> str:
    """What a section is called in an address.

    >>> anchor("Residuals, N = 6")
    'residuals-n-6'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{html.escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip())


def _section(name: str, section: Section) -> str:
    parts = [f'\n<section>\n<h2 id="{name}">{html.escape(section.title)}</h2>', _paragraphs(section.text)]
    if section.code:
        parts.append(f"<pre><code>{html.escape(section.code)}</code></pre>")
    if section.output:
        parts.append(f"<pre>{html.escape(section.output)}</pre>")
    for path, caption in section.pictures:
        where, what = html.escape(path, quote=True), html.escape(caption)
        parts.append(
            f'<figure><a href="{where}"><img src="{where}" alt="{html.escape(caption, quote=True)}" loading="lazy"></a>'
            + ("</figure>" if caption == section.title else f"<figcaption>{what}</figcaption></figure>")
        )
    parts += [f'<div class="table">{table._repr_html_()}</div>' for table in section.tables]
    if section.links:
        files = ", ".join(
            f'<a href="{html.escape(p, quote=True)}">{html.escape(what)}</a>' for p, what in section.links
        )
        parts.append(f"<p>{files}</p>")
    return "\n".join(part for part in parts if part) + "\n</section>\n"
