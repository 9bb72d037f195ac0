"""Start-up: from the start of the process to the first step, with and without a cache, and a short training in all."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from . import cases, harness
from .memory import trained

MANY = 200


def wall(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    report = harness.Report()
    columns = ("from start to end of the process, config 1, dropout 0.1", "PyTorch", "ours", "PyTorch / ours")
    table = report.table("Starting, s", *columns)
    case = {"config": asdict(cases.CONFIGS[1]), "dropout": 0.1}
    repeat = 3 if quick else 5

    def add(name: str, peer: list[float], ours: list[float]) -> None:
        row: dict[str, Any] = {"what": name, "threads": n, "ours_s": statistics.median(ours)}
        if peer:
            row |= {"peer_s": statistics.median(peer), "ratio": statistics.median(peer) / row["ours_s"]}
        report.rows.append(row)
        shown = [f"{statistics.median(t):.2f} ({min(t):.2f}-{max(t):.2f})" if t else "" for t in (peer, ours)]
        table.add(name, *shown, f"{row['ratio']:.2f}" if peer else "")

    for n in threads:

        def imported(module: str) -> float:
            return wall(
                lambda: subprocess.run([sys.executable, "-c", f"import {module}"], cwd=harness.ROOT, check=True)
            )

        def ours(steps: int, cache: str, threads: int = n) -> float:
            return wall(lambda: trained("ours_step", threads, steps, {"NUMBA_CACHE_DIR": cache}, **case))

        def peer(steps: int, threads: int = n) -> float:
            return wall(lambda: trained("torch_step", threads, steps, harness.KEEP_MEMORY, **case))

        pairs = [(imported("torch"), imported("minigrad")) for _ in range(repeat)]
        add("import", *map(list, zip(*pairs, strict=True)))
        with tempfile.TemporaryDirectory() as cache:
            add("1 step, nothing compiled yet", [], [ours(1, cache)])
            for name, steps in (("1 step", 1), (f"{MANY} steps", MANY)):
                pairs = [(peer(steps), ours(steps, cache)) for _ in range(repeat)]
                add(name, *map(list, zip(*pairs, strict=True)))
    table.notes.append(
        "Median, and the fastest and slowest process, in turn. Each but the first finds compiled kernels."
    )
    return report


if __name__ == "__main__":
    harness.main(__doc__, run, threads=[max(harness.default_threads())])
