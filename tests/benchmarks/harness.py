"""How the benchmarks measure.

Each contender is a process of its own (`Contender`), because two pools of threads in one process, or awake in two,
take the processors from each other. It is started once, warmed up, and then measures blocks of many calls, in turn with
the others: A/B/A/B. So a machine that is slow for a while is slow for all.

A block counts as clean if its threads waited for a processor for less than 3 % of it (Linux counts that); disturbed
blocks are measured again. A result is the median of the clean blocks, with their quartiles. Where there were fewer
than three, it is the median of the three that were disturbed least, and marked with ~.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.table import Table as RichTable

from . import ENVIRONMENT
from .worker import MOST_DELAY

ROOT = Path(__file__).parents[2]
PACKAGES = ("numpy", "numba", "torch", "jax")
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# minigrad tells glibc to keep the memory that it gets; a peer gets the same setting from here.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**30)}

console = Console(width=132, highlight=False)


K = TypeVar("K", bound=Hashable)


class Failed(Exception):
    """A contender could not do what it was asked to."""


# ---------------------------------------------------------------------------------------------------------- contenders
def environment(threads: int, peer: bool) -> dict[str, str]:
    """The environment of a contender with so many threads; pools read it when they are loaded."""
    one_thread = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
    return {
        **ENVIRONMENT,
        **dict.fromkeys(POOLS, str(threads)),
        **(KEEP_MEMORY if peer else {}),
        **(one_thread if threads == 1 else {}),
    }


class Contender:
    """A process that measures what it is told to, when it is told to, and sleeps in between."""

    def __init__(self, name: str, threads: int) -> None:
        """`name` is a module of this package, whose jobs the process makes."""
        self.name, self.threads = name, threads
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", f"{__package__}.{name}"],
            cwd=ROOT,
            env=environment(threads, peer=not name.startswith("ours")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, *command: Any) -> Any:
        """Give a command of `worker`, and wait for the answer; Failed if that is an error, or none comes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and there is no answer
            print(json.dumps(command), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise Failed(f"{self.name} ended with status {self._process.wait()}; what it said is above")
        answer = json.loads(answer)
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer["result"]

    def prepare(self, block: float = 0.03, **case: Any) -> Job:
        """Make a job, warm it up, and choose how often to call it in a block of so many seconds."""
        return Job(self, self.send("prepare", case, block))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.__exit__(*error)  # closes its input, at which it ends, and waits for that


@dataclass(frozen=True)
class Job:
    """Something that a contender can measure."""

    contender: Contender
    number: int

    def measure(self) -> tuple[float, float]:
        """Measure one block: seconds per call, share of the block spent waiting for a processor."""
        return self.contender.send("measure", self.number)

    def ask(self, name: str, *arguments: Any) -> Any:
        """What the method `name` of the job returns."""
        return self.contender.send("ask", self.number, name, *arguments)

    def forget(self) -> None:
        self.contender.send("forget", self.number)


# -------------------------------------------------------------------------------------------------------------- timing
@dataclass(frozen=True)
class Timing:
    """Seconds per call: median, quartiles and minimum over the blocks."""

    median: float
    lower: float
    upper: float
    best: float
    clean: bool

    def show(self, unit: float, digits: int = 3) -> str:
        """The median, in a unit of so many seconds, and the quartiles behind it."""
        mark = "" if self.clean else "~"
        median, lower, upper = (significant(x / unit, digits) for x in (self.median, self.lower, self.upper))
        return f"{mark}{median} ({lower}-{upper})"

    def show_rate(self, amount: float, digits: int = 3) -> str:
        """So much work per second: at the median, and at the quartiles behind it."""
        mark = "" if self.clean else "~"
        median, lower, upper = (significant(amount / x, digits) for x in (self.median, self.upper, self.lower))
        return f"{mark}{median} ({lower}-{upper})"


def summarise(blocks: Iterable[tuple[float, float]]) -> Timing:
    """From blocks of (seconds, share of delay) to their median and quartiles.

    >>> summarise([(1.0, 0.0), (3.0, 0.01), (2.0, 0.0), (9.0, 0.5)])
    Timing(median=2.0, lower=1.5, upper=2.5, best=1.0, clean=True)
    """
    blocks = sorted(blocks, key=lambda block: block[1])
    clean = [seconds for seconds, delay in blocks if delay < MOST_DELAY]
    chosen = clean if len(clean) >= 3 else [seconds for seconds, _ in blocks[:3]]
    lower, median, upper = statistics.quantiles(chosen * 2 if len(chosen) == 1 else chosen, n=4, method="inclusive")
    return Timing(median, lower, upper, min(chosen), len(clean) >= 3)


def alternate(jobs: Mapping[K, Job], rounds: int = 7, patience: float = 10.0) -> dict[K, Timing]:
    """Measure blocks of the jobs in turn until each has `rounds` clean ones, or `patience` seconds are over."""
    blocks: dict[K, list[tuple[float, float]]] = {name: [] for name in jobs}
    end = time.monotonic() + patience
    while True:
        wanting = [n for n, done in blocks.items() if sum(delay < MOST_DELAY for _, delay in done) < rounds]
        if not wanting or (time.monotonic() > end and min(map(len, blocks.values())) >= 3):
            return {name: summarise(done) for name, done in blocks.items()}
        for name in wanting:
            blocks[name].append(jobs[name].measure())


def compare(
    case: Mapping[str, Any], contenders: Mapping[str, tuple[Contender, Mapping[str, Any]]], rounds: int, patience: float
) -> dict[str, Timing]:
    """Measure a case with several contenders, given by name, with what each adds to the case, in turn."""
    jobs = {name: contender.prepare(**case, **more) for name, (contender, more) in contenders.items()}
    timings = alternate(jobs, rounds, patience)
    for job in jobs.values():
        job.forget()
    return timings


def best(timings: Mapping[str, Timing], prefix: str = "") -> str:
    """The name of the fastest, among those that begin with `prefix`."""
    return min((name for name in timings if name.startswith(prefix)), key=lambda name: timings[name].median)


def as_row(timings: Mapping[str, Timing]) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "seconds": {name: timing.median for name, timing in timings.items()},
        "quartiles": {name: [timing.lower, timing.upper] for name, timing in timings.items()},
        "clean": all(timing.clean for timing in timings.values()),
    }


def geometric_mean(values: Iterable[float]) -> float:
    """
    >>> geometric_mean([1.0, 4.0])
    2.0
    """
    return math.exp(statistics.fmean(map(math.log, values)))


def significant(x: float, digits: int = 3) -> str:
    """`x` with so many digits and no exponent.

    >>> significant(0.012345), significant(1.2), significant(12345.6)
    ('0.0123', '1.20', '12346')
    """
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    return f"{x:.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"


# ------------------------------------------------------------------------------------------------------------- results
@dataclass
class Table:
    """A title, columns of text, and notes below."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Add a row, and print it, for those who wait."""
        self.rows.append(cells)
        console.print("  ".join(f"{name} {cell}" for name, cell in zip(self.columns, cells, strict=True)), style="dim")

    def print(self) -> None:
        table = RichTable(title=self.title, title_justify="left", title_style="bold")
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="left" if i == 0 else "right")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(note)

    def markdown(self) -> str:
        """The same for a page."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
        return "\n\n".join([f"### {self.title}", table, *self.notes])


@dataclass
class Report:
    """What a benchmark found: rows for programs, tables for people."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def table(self, title: str, *columns: str) -> Table:
        self.tables.append(Table(title, columns))
        return self.tables[-1]

    def write(self, path: str) -> None:
        """All rows as JSON."""
        Path(path).write_text(json.dumps(self.rows, indent=1) + "\n", encoding="utf-8")


def installed(package: str) -> bool:
    return version(package) != ""


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def processor() -> str:
    """The name that the processor gives itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def heading(threads: Sequence[int]) -> str:
    """Date, machine, versions and threads, in one line."""
    packages = [f"{name} {version(name)}" for name in PACKAGES if installed(name)]
    return ", ".join(
        [
            datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
            f"{processor()} ({os.cpu_count()} processors)",
            f"Python {platform.python_version()}",
            *packages,
            f"threads: {' and '.join(map(str, threads))}",
        ]
    )


# -------------------------------------------------------------------------------------------------------- command line
Threads = Sequence[int]
Run = Callable[[Threads, bool], Report]


def default_threads() -> list[int]:
    """One, and two where there are two processors."""
    return [1, 2] if (os.cpu_count() or 1) > 1 else [1]


def main(description: str | None, run: Run, threads: Sequence[int] = (), quick_threads: Sequence[int] = ()) -> None:
    """The command line of a benchmark; `threads` and `quick_threads` say how many it uses unless told otherwise."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, nargs="+", help="how many threads to use; several: one after the other")
    parser.add_argument("--quick", action="store_true", help="less of it, in a few minutes")
    parser.add_argument("--json", metavar="OUT", help="write all rows to this file")
    arguments = parser.parse_args()
    chosen = arguments.threads or (arguments.quick and quick_threads) or threads or default_threads()
    console.print(heading(chosen))
    report = run(chosen, arguments.quick)
    for table in report.tables:
        table.print()
    if arguments.json:
        report.write(arguments.json)
