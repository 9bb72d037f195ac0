"""The command `inspect`: every instrument, on one sentence, in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import inspection
from .inspection import INDEX
from .runs import open_checkpoint
from .terminal import (
    CheckpointPath,
    Threads,
    check_texts,
    errors_without_traceback,
    fail,
    usage_errors,
    use,
    warn_of_unknown,
)


def inspect(
    checkpoint: CheckpointPath,
    text: Annotated[str, typer.Argument(help="A sentence to look at; after -- if it begins with -.", metavar="TEXT")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("report"),
    target: Annotated[
        str | None, typer.Option(help="The right translation, whose loss is looked at.", show_default="the model's own")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write where files are, and replace a report there.")
    ] = False,
    threads: Threads = None,
) -> None:
    """Look inside a model while it translates TEXT: graphs, gradients, softmax, masks, attention, time.

    Writes pictures, tables and a page, index.html, that opens in a browser without a network.
    """
    with errors_without_traceback("Choose another --out."):
        check_texts([text] if target is None else [text, target])
        if out.exists() and not out.is_dir():
            fail(f"{out} is a file, not a folder. Choose another --out.")
        if out.exists() and any(out.iterdir()) and not overwrite:
            what = "holds a report already" if (out / INDEX).exists() else "is not empty"
            fail(f"{out} {what}. Choose another --out, or write into it with --overwrite.")
        saved = open_checkpoint(checkpoint)
        use(threads)
        translator, normalise = saved.translator(), saved.recipe.task.normalise
        text, target = normalise(text), None if target is None else normalise(target)
        warn_of_unknown(translator.source, [text])
        warn_of_unknown(translator.target, [] if target is None else [target])
        with usage_errors():
            seen = inspection.inspect(translator, text, out, target)
        typer.echo(seen["translation"])
        typer.echo(f"loss {seen['loss']:.4f} nats per token; open {seen['page']}", err=True)
