"""How time and memory of a training step grow with length, batch, layers and vocabulary."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

from . import harness
from .cases import Config

START = Config()  # everything but one field stays as it is here
GROWTH = {
    "length": (16, 64, 256, 512),
    "batch": (16, 64, 256, 1024),
    "layers": (1, 2, 4, 8),
    "vocabulary": (64, 512, 4096, 32768),
}


def measure(field: str, value: int, threads: int, quick: bool) -> dict[str, Any]:
    """One point: a fresh process for each contender, timed in turn, then asked for its peak."""
    config = replace(START, **{field: value}, **({"batch": 16} if field == "length" else {}))
    with harness.Contender("torch_step", threads) as torch, harness.Contender("ours_step", threads) as ours:
        case = {"config": asdict(config), "dropout": 0.1}
        jobs = {"peer": torch.prepare(0.2, **case), "ours": ours.prepare(0.2, **case)}
        timings = harness.alternate(jobs, rounds=3 if quick else 5, patience=5 if quick else 10)
        memory = {f"{name}_mb": job.ask("peak_memory") / 1e6 for name, job in jobs.items()}
    row = {"field": field, "value": value, "threads": threads, **memory, **harness.as_row(timings)}
    return row | {"ratio": timings["peer"].median / timings["ours"].median, "timings": timings}


def exponent(rows: list[dict[str, Any]], name: str) -> float:
    """How fast the time grows at the end: the e of value^e between the last two points."""
    (x0, y0), (x1, y1) = ((row["value"], row["seconds"][name]) for row in rows[-2:])
    return math.log(y1 / y0) / math.log(x1 / x0)


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    report = harness.Report()
    columns = ("field", "value", "PyTorch, ms", "ours, ms", "PyTorch / ours", "PyTorch, peak MB", "ours, peak MB")
    table = report.table("Growth of a training step, dropout 0.1", *columns)
    ends = report.table("Exponents of growth: time ~ value^e between the last two", "field", "PyTorch", "ours")
    for n in threads:
        for field, values in GROWTH.items():
            rows = [measure(field, value, n, quick) for value in (values[:3] if quick else values)]
            for row in rows:
                timings = row.pop("timings")
                shown = timings["peer"].show(1e-3), timings["ours"].show(1e-3), f"{row['ratio']:.2f}"
                table.add(field, str(row["value"]), *shown, f"{row['peer_mb']:.0f}", f"{row['ours_mb']:.0f}")
            report.rows += rows
            ends.add(field, *(f"{exponent(rows, name):.2f}" for name in ("peer", "ours")))
    start = ", ".join(f"{name} {value}" for name, value in asdict(START).items())
    table.notes.append(f"Everything else as in configuration 1: {start}; for growing length, batch 16.")
    table.notes.append("PyTorch: scaled_dot_product_attention and fused Adam.")
    return report


if __name__ == "__main__":
    harness.main(__doc__, run, threads=[max(harness.default_threads())])
