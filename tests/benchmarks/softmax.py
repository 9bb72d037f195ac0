"""Softmax and its relatives, forward and backward, in nanoseconds per number."""

from __future__ import annotations

from typing import Any

from . import harness, physical

WIDTHS = 16, 32, 64, 128, 256, 512, 1024, 2048
IN_CACHE, BEYOND = 1 << 18, 1 << 23  # numbers
FRESH = [{"way": "fresh"}, {"way": "out"}]  # into a new array, or one that is there
ONE = [{"way": "fresh"}]
# In what ways PyTorch is asked, and how many numbers have to be read and written for each one.
KINDS: dict[str, tuple[list[dict[str, str]], float]] = {
    "softmax": (FRESH, 2),
    "softmax backward": (ONE, 3),
    "log-softmax": (FRESH, 2),
    "log-softmax backward": (ONE, 3),
    "scaled, masked": ([{"way": "fill"}, {"way": "where"}, {"way": "add"}], 2.25),
}


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    report = harness.Report()
    columns = (
        "kind",
        "numbers",
        "width",
        "threads",
        "PyTorch",
        "its way",
        "ours",
        "PyTorch / ours",
        "of a copy's speed",
    )
    table = report.table("Softmax, ns per number", *columns)
    for n in threads:
        with (
            harness.Contender("torch_ops", n) as torch,
            harness.Contender("ours_ops", n) as ours,
            physical.Machine(n) as machine,
        ):
            for numbers, widths in ((IN_CACHE, WIDTHS[:: 3 if quick else 1]), (BEYOND, (64, 1024))):
                for kind, (ways, traffic) in KINDS.items():
                    for width in widths:
                        case = {"op": "softmax", "kind": kind, "rows": numbers // width, "width": width}
                        contenders: dict[str, Any] = {"ours": (ours, {})}
                        contenders |= {way["way"]: (torch, way) for way in ways}
                        timings = harness.compare(case, contenders, rounds=5, patience=2 if quick else 4)
                        add(report, table, n, numbers, case, timings, traffic * 4 * numbers, machine)
    table.notes += [
        "its way: into a fresh array, or into one that is there (out). For scaled, masked softmax PyTorch gets the "
        "same boolean mask (fill: masked_fill_, where), and with add a mask of 0 and -1e9 in floats, made beforehand, "
        "which has a row of its own.",
        "of a copy's speed: the bytes that have to be read and written, per second, beside a copy of as many bytes.",
    ]
    return report


def add(
    report: harness.Report,
    table: harness.Table,
    threads: int,
    numbers: int,
    case: dict[str, Any],
    timings: dict[str, harness.Timing],
    traffic: float,
    machine: physical.Machine,
) -> None:
    """A row for the best way of PyTorch, and one for a prepared mask."""
    ours = timings["ours"]
    copy = traffic / ours.median / machine.bandwidth(4 * numbers)
    peers = {name: timing for name, timing in timings.items() if name not in ("ours", "add")}
    shown = [harness.best(peers), *(["add"] if "add" in timings else [])]
    for way in shown:
        ratio = timings[way].median / ours.median
        row = {key: case[key] for key in ("kind", "width")} | {"numbers": numbers, "threads": threads, "way": way}
        report.rows.append(row | {"ratio": ratio, "of_copy": copy} | harness.as_row(timings))
        cells = (case["kind"], f"{numbers:,}", str(case["width"]), str(threads))
        unit = numbers * 1e-9
        table.add(*cells, timings[way].show(unit), way, ours.show(unit), f"{ratio:.2f}", f"{copy:.0%}")


if __name__ == "__main__":
    harness.main(__doc__, run)
