"""Run the lessons and make pages of them: python -m tutorials.pages [--quick] [--notebooks] [q04 ...]

The site is build/site/index.html. A lesson is run again only if it, or anything that it uses, has changed.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

try:
    import jupytext
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError
    from sphinx.cmd.build import build_main
except ModuleNotFoundError as missing:
    sys.exit(f"pages: {missing.name} is not installed. Try: pip install --editable '.[draw,docs]'")

from tutorials.pages.first import FOLDER, first_page, lessons

ROOT = FOLDER.parent
SECONDS = 600  # that a cell may take
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
DOCUMENTS = ("minitransformer/INSTRUMENTS.md", "minitransformer/PARTS.md", "tests/benchmarks/RESULTS.md")
CLAIMS = "tutorials/CLAIMS.md"  # written by `make claims`, and may not be there yet


def notebook(path: Path) -> nbformat.NotebookNode:
    """A lesson as a notebook that has not been run."""
    book = jupytext.read(path, fmt="py:percent")
    book.metadata["kernelspec"] = KERNEL
    for cell in book.cells:
        shown = re.search(r'show\(.*"([\w-]+)"\)', cell.source, re.DOTALL)
        if cell.cell_type == "code":  # what is read out to those who do not see the picture
            cell.metadata["mystnb"] = {"image": {"alt": f"picture {shown[1]}" if shown else "picture"}}
    return book


def fingerprint(book: nbformat.NotebookNode, quick: bool) -> str:
    """What decides what a lesson shows: its cells, all that it may import, and how much it is to do."""
    sources = [file for file in sorted(FOLDER.glob("*.py")) if file not in lessons()]
    sources += sorted(file for package in ("minigrad", "minitransformer") for file in (ROOT / package).rglob("*.py"))
    digest = hashlib.sha256(repr((quick, [(cell.source, cell.metadata) for cell in book.cells])).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def execute(path: Path, folder: Path, quick: bool) -> None:
    """Run a lesson, unless it has been run as it is, and write NAME.ipynb and claims/ into the folder.

    Raises CellExecutionError if a cell does, and CellTimeoutError.
    """
    book, done = notebook(path), folder / f"{path.stem}.ipynb"
    mark = fingerprint(book, quick)
    if done.exists() and nbformat.read(done, as_version=4).metadata.get("fingerprint") == mark:
        return
    (folder / "claims" / f"{path.name[:3]}.json").unlink(missing_ok=True)
    settings = {"TUTORIALS_FAST": str(int(quick)), "TUTORIALS_BUILD": str(folder.resolve()), "MINIGRAD_QUIET": "1"}
    began = time.monotonic()
    quiet = ["--log-level=ERROR"]  # not that a kernel can be listened to on this machine, once a lesson
    place = {"metadata": {"path": str(ROOT)}}
    client = NotebookClient(book, timeout=SECONDS, resources=place, extra_arguments=quiet)
    client.execute(env=os.environ | settings)
    book.metadata |= {"fingerprint": mark, "date": str(datetime.date.today())}
    nbformat.write(book, done)
    print(f"{path.stem}: {time.monotonic() - began:.0f} s", flush=True)


def write_sources(paths: Sequence[Path], executed: Path, sources: Path, quick: bool) -> None:
    """Put what Sphinx reads into a folder; every file where it is in the repository, so that links lead there."""
    shutil.rmtree(sources, ignore_errors=True)
    documents = [*DOCUMENTS, *([CLAIMS] if (ROOT / CLAIMS).exists() else [])]
    for name in documents:
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, sources / name)
    (sources / "tutorials").mkdir(exist_ok=True)
    for path in paths:
        shutil.copy2(executed / f"{path.stem}.ipynb", sources / "tutorials")
    amount = "In the short form, with fewer seeds and steps, run" if quick else "Run"
    books = [nbformat.read(executed / f"{path.stem}.ipynb", as_version=4) for path in paths]
    dates = [book.metadata["date"] for book in books]
    when = " to ".join(dict.fromkeys((min(dates), max(dates))))
    note = f"{amount} on {when}, {platform.machine()}, {os.cpu_count()} processors."
    (sources / "index.md").write_text(first_page(paths, executed / "claims", documents, note), encoding="utf-8")


def build_site(paths: Sequence[Path], build: Path, quick: bool) -> int:
    """Run the lessons, then render the pages; the exit code."""
    executed = build / "pages" / "executed"
    (executed / "claims").mkdir(parents=True, exist_ok=True)
    failed = False
    for path in paths:
        try:
            execute(path, executed, quick)
        except (CellExecutionError, CellTimeoutError) as error:
            print(f"{path.stem}: {error}", file=sys.stderr)
            failed = True
    if failed:
        return 1
    sources, site = build / "pages" / "sources", build / "site"
    write_sources(paths, executed, sources, quick)
    shutil.rmtree(site, ignore_errors=True)
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--conf-dir", str(Path(__file__).parent)]
    code = build_main([*options, "--fresh-env", "-d", str(build / "pages" / "doctrees"), str(sources), str(site)])
    print(f"{site / 'index.html'}" if code == 0 else "The site has not been finished.")
    return code


def write_notebooks(paths: Sequence[Path], folder: Path) -> None:
    """Write the lessons as notebooks that have not been run."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        nbformat.write(notebook(path), folder / f"{path.stem}.ipynb")
    print(f"{len(paths)} notebooks in {folder}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if everything went well."""
    parser = argparse.ArgumentParser(prog="python -m tutorials.pages", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lesson", nargs="*", help="q04, say; all unless given")
    parser.add_argument("--quick", action="store_true", help="the short form, as with TUTORIALS_FAST=1")
    parser.add_argument("--notebooks", action="store_true", help="write notebooks, and run nothing")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="the folder to write to")
    asked = parser.parse_args(arguments)
    known = {path.name[:3]: path for path in lessons()}
    if unknown := [name for name in asked.lesson if name not in known]:
        print(f"pages: there is no lesson {unknown[0]!r}; there are {', '.join(known)}.", file=sys.stderr)
        return 2
    paths = [path for name, path in known.items() if name in asked.lesson or not asked.lesson]
    if asked.notebooks:
        write_notebooks(paths, asked.build / "notebooks")
        return 0
    return build_site(paths, asked.build, asked.quick or os.environ.get("TUTORIALS_FAST") == "1")


if __name__ == "__main__":
    sys.exit(main())
