"""Run every lesson in full, and put all claim cards into one table: python -m tutorials.claims

It takes a quarter of an hour, and writes tutorials/CLAIMS.md. A lesson whose verdict has flipped is named, and the exit
code is 1.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tutorials import boxes
from tutorials.pages.first import FOLDER, lessons

TABLE = FOLDER / "CLAIMS.md"


def run(path: Path, build: Path) -> tuple[list[dict[str, Any]], float, str]:
    """Run a lesson in full: its cards, the seconds it took, and what went wrong, "" if nothing did."""
    settings = {"TUTORIALS_FAST": "0", "TUTORIALS_BUILD": str(build), "PYTHONPATH": str(FOLDER.parent)}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, path], env=os.environ | settings, capture_output=True, text=True, check=False
    )
    cards = build / "claims" / f"{path.stem[:3]}.json"
    found = json.loads(cards.read_text(encoding="utf-8")) if cards.exists() else []
    return found, time.monotonic() - began, done.stderr.strip() if done.returncode else ""


def table(found: dict[str, tuple[list[dict[str, Any]], float]]) -> str:
    """All cards as a page of Markdown."""
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    rows = [
        "# Claims, and what the lessons measured",
        "",
        f"Each number is the mean over the seeds, or over what is named instead, and the standard deviation. "
        f"{datetime.date.today()}, {machine}. `python -m tutorials.claims` runs all lessons in full and writes this "
        "page. *usual*: the claim is (a part of) the answer that is usually given.",
    ]
    for name, (cards, seconds) in found.items():
        rows += ["", f"## {name} ({seconds:.0f} s)", "", "| | claim | usual | measured | over | needs | verdict |"]
        rows.append("|---|---|---|---|---|---|---|")
        for c in cards:
            over = f"{len(c['seeds'])} {c['over']}" if c["over"] else "exact"
            cells = [c["id"], c["statement"], "yes" if c["usual"] else "", f"{c['statistic']}: {boxes.numbers(c)}"]
            cells += [over, f"{c['relation']} {c['threshold']:g}", f"**{c['verdict']}** {c['reason']}"]
            rows.append("| " + " | ".join(cell.strip().replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def main() -> int:
    """Run the command."""
    TABLE.open("a", encoding="utf-8").close()  # if it cannot be written, better to know now
    found, failed = {}, False
    with tempfile.TemporaryDirectory() as build:
        for path in lessons():
            cards, seconds, error = run(path, Path(build))
            print(f"{path.stem}: {len(cards)} cards in {seconds:.0f} s {error[-400:]}", flush=True)
            found[path.stem], failed = (cards, seconds), failed or bool(error)
    TABLE.write_text(table(found), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
