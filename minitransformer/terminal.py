"""What the commands of the command line have in common: errors, arguments, input."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperCommand

import minigrad as mg
from minigrad.checkpoint import CheckpointError

from .positions import PlaceError
from .train import TrainingError
from .vocab import Vocab

OK, ERROR, USAGE, INTERRUPTED = 0, 1, 2, 130
CHUNK = 128  # lines of standard input that are translated together

CheckpointPath = Annotated[
    Path, typer.Argument(help="The folder of a training run, or the checkpoint file in it.", metavar="CHECKPOINT")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads to compute with.", show_default="all cores")]


def fail(message: str, code: int = ERROR) -> NoReturn:
    """Say what is wrong and what to do about it, and exit."""
    typer.echo(message if code == INTERRUPTED else f"error: {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def errors_without_traceback(remedy: str = "Give the folder of a run that can be read.") -> Iterator[None]:
    """Turn what can go wrong in a sound program into a message and an exit code; `remedy` is for trouble with files."""
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    except (CheckpointError, FloatingPointError) as error:
        fail(str(error))
    except PlaceError as error:
        fail(f"{error} That is --max-len; or take positions without a table.")
    except TrainingError as error:
        fail(f"{error} These are --lr-factor and --warmup; start anew with --overwrite.")
    except MemoryError:
        fail("this is too large for the memory. Take shorter text, a smaller --d-model or a smaller --batch-size.")
    except UnicodeDecodeError as error:
        fail(f"the input is not text in {error.encoding}. Convert it to UTF-8.")
    except UnicodeEncodeError as error:
        fail(f"the output cannot be written in {error.encoding}. Set the environment variable PYTHONIOENCODING=utf-8.")
    except BrokenPipeError:  # whoever reads our output has had enough, and needs no message
        raise
    except OSError as error:
        if error.filename is None:  # not a file that we have opened
            remedy = "Free some space, or write somewhere else."
        fail(f"{error.filename or 'output'}: {error.strerror or error}. {remedy}")


@contextmanager
def usage_errors() -> Iterator[None]:
    """A ValueError inside is about what was asked for."""
    try:
        yield
    except ValueError as error:
        fail(str(error), USAGE)


def use(threads: int | None) -> None:
    """Compute with so many threads; None leaves it as it is."""
    if threads is not None:
        with usage_errors():
            mg.kernels.set_num_threads(threads)


class TextCommand(TyperCommand):
    """A command to which -5 may be meant as text."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments."""
        options = args[: args.index("--")] if "--" in args else args
        for argument in options:
            if re.match(r"-\d", argument):
                raise typer.BadParameter(
                    f"{argument} looks like an option. Put -- before a TEXT that begins with -, "
                    f"and = before a number that belongs to an option: --length-penalty={argument}."
                )
        return super().parse_args(ctx, args)


def check_texts(texts: Sequence[str]) -> None:
    """Say so if a TEXT holds no words, or is not UTF-8."""
    if not all(text.strip() for text in texts):
        fail("an empty TEXT cannot be translated. Give words in quotes.", USAGE)
    if any("\ud800" <= letter <= "\udfff" for text in texts for letter in text):
        fail("TEXT holds bytes that are not UTF-8. Convert it to UTF-8.", USAGE)


def standard_input() -> TextIO:
    """The standard input, as UTF-8 whatever the locale says."""
    if sys.stdin is None:
        fail("the standard input is closed. Give TEXT, or lines on the standard input.")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    return sys.stdin


def chunks(lines: TextIO) -> Iterator[list[str]]:
    """Cut into lists of CHUNK lines, the last one shorter; what is typed, into single lines."""
    while chunk := list(islice(lines, 1 if lines.isatty() else CHUNK)):
        yield chunk


def warn_of_unknown(vocab: Vocab, texts: Sequence[str]) -> None:
    """Name the tokens that the model has never seen."""
    for text in texts:
        for token in vocab.unknown(text):
            typer.echo(
                f"warning: {token.strip()!r} was never seen in training and is read as <unk>; "
                "its translation may be wrong.",
                err=True,
            )
