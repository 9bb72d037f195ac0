"""All benchmarks, one after the other."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from . import (
    accuracy,
    decoding,
    gemm,
    growth,
    harness,
    memory,
    ops,
    overhead,
    physical,
    recording,
    softmax,
    start,
    step,
)

ALL = {
    "physical": physical,
    "gemm": gemm,
    "softmax": softmax,
    "ops": ops,
    "overhead": overhead,
    "step": step,
    "recording": recording,
    "decoding": decoding,
    "growth": growth,
    "memory": memory,
    "start": start,
    "accuracy": accuracy,
}
ONE_THREAD, MOST_THREADS = {"overhead"}, {"growth", "memory", "start", "accuracy"}
RESULTS = Path(__file__).with_name("RESULTS.md")


def threads_of(name: str, threads: list[int]) -> list[int]:
    """How many threads a benchmark gets, of those that were asked for."""
    return [1] if name in ONE_THREAD else [max(threads)] if name in MOST_THREADS else threads


def page(heading: str, reports: dict[str, harness.Report]) -> str:
    """All tables as markdown."""
    parts = [
        "# Results of the benchmarks",
        f"{heading}.",
        "Each figure is the median of blocks measured in turn with the peer's, with quartiles in parentheses; ~ marks "
        "those that something else on the machine disturbed. A ratio above 1 means that ours is faster. What is "
        "measured and how: `harness.py` and the docstring of each benchmark. `python -m tests.benchmarks --results` "
        "writes this page.",
    ]
    for name, report in reports.items():
        parts += [f"## {name}", (ALL[name].__doc__ or "").strip(), *(table.markdown() for table in report.tables)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(ALL)}; all unless given")
    parser.add_argument("--threads", type=int, nargs="+", default=harness.default_threads())
    parser.add_argument("--quick", action="store_true", help="less of each")
    parser.add_argument("--json", metavar="FOLDER", help="write the rows of each benchmark to NAME.json in this folder")
    parser.add_argument(
        "--results", action="store_true", help=f"write all tables to {RESULTS.name}, beside the benchmarks"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(ALL):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    heading = harness.heading(arguments.threads)
    harness.console.print(heading)
    reports = {}
    for name in arguments.names or ALL:
        began = time.monotonic()
        harness.console.rule(name)
        reports[name] = report = ALL[name].run(threads_of(name, arguments.threads), arguments.quick)
        for table in report.tables:
            table.print()
        harness.console.print(f"{name}: {time.monotonic() - began:.0f} s")
        if arguments.json:
            Path(arguments.json).mkdir(parents=True, exist_ok=True)
            report.write(str(Path(arguments.json, f"{name}.json")))
        if arguments.results:  # after each one, so that nothing is lost if a later one fails
            RESULTS.write_text(page(heading, reports), encoding="utf-8")


if __name__ == "__main__":
    main()
