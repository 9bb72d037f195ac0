"""A training step: forward, loss, backward, Adam; ours through its public interface, the peers at their best.

Three configurations, with and without dropout. Before anything is timed, PyTorch gets our weights, and loss and
gradient have to agree: it is the same work.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from . import cases, harness, physical

VARIANTS = [{"attention": a, "adam": o} for a, o in product(("sdpa", "manual"), ("fused", "foreach"))]
DROPOUTS = 0.1, 0.0
AGREE = 1e-4  # of loss and gradient norm, both in float32


def fastest(torch: harness.Contender, block: float, quick: bool, **case: Any) -> tuple[str, harness.Job]:
    """The best of the variants that PyTorch offers, ready to be measured against ours."""
    jobs = {", ".join(variant.values()): torch.prepare(block, **case, **variant) for variant in VARIANTS}
    winner = harness.best(harness.alternate(jobs, rounds=3 if quick else 5, patience=6))
    for other in jobs.keys() - {winner}:
        jobs[other].forget()
    return winner, jobs[winner]


def disagreement(ours: harness.Job, peer: harness.Job) -> float:
    """The relative difference of loss and gradient norm on the same weights; Failed if it is not the same work."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "weights.npz"))
        ours.ask("save", path)
        peer.ask("load", path)
    pairs = list(zip(ours.ask("loss_and_norm"), peer.ask("loss_and_norm"), strict=True))
    difference = max(abs(a - b) / abs(b) for a, b in pairs)
    if not difference < AGREE:
        raise harness.Failed(f"not the same work: loss and gradient norm, each (ours, PyTorch's), are {pairs}")
    return difference


def compare(config: int, threads: int, quick: bool) -> Iterator[dict[str, Any]]:
    """The rows of a configuration, one for each dropout, all measured in turn with each other."""
    block = 0.3 if config < 3 else 1.0
    jobs: dict[tuple[str, float], harness.Job] = {}
    rows: dict[float, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        names = ["torch_step", "ours_step", *(["jax_step"] if harness.installed("jax") and not quick else [])]
        torch, ours, *jax = (stack.enter_context(harness.Contender(name, threads)) for name in names)
        for dropout in DROPOUTS:
            case = {"config": asdict(cases.CONFIGS[config]), "dropout": dropout}
            variant, jobs["peer", dropout] = fastest(torch, block, quick, **case)
            jobs["ours", dropout] = ours.prepare(block, **case)
            for contender in jax:
                jobs["jax", dropout] = contender.prepare(block, **case)
            rows[dropout] = {"config": config, "dropout": dropout, "threads": threads, "variant": variant}
        rows[0.0]["disagreement"] = disagreement(jobs["ours", 0.0], jobs["peer", 0.0])
        timings = harness.alternate(jobs, rounds=7 if quick else 9, patience=25 if quick else 60)
        for (contender, dropout), timing in timings.items():
            rows[dropout] |= {f"{contender}_ms": timing.median * 1e3, f"{contender}_timing": timing}
        rows[0.1]["profile"] = jobs["ours", 0.1].ask("kernel_time", 20 if config < 3 else 3)
    rows[0.1]["dropout_costs"] = rows[0.1]["ours_ms"] / rows[0.0]["ours_ms"] - 1
    yield from rows.values()


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    report = harness.Report()
    columns = ("config", "dropout", "threads", "limit", "PyTorch", "ours", "PyTorch / ours", "its variant")
    table = report.table("A training step, ms", *columns, "JAX", "JAX / ours")
    for n in threads:
        with physical.Machine(n) as machine:
            peak = machine.flops()
        for config in (1, 2) if quick else (1, 2, 3):
            limit = cases.CONFIGS[config].flops() / peak * 1e3
            for row in compare(config, n, quick):
                timings = {key: row.pop(f"{key}_timing") for key in ("peer", "ours", "jax") if f"{key}_timing" in row}
                row |= {"ratio": row["peer_ms"] / row["ours_ms"], "limit_ms": limit}
                row["quartiles_ms"] = {key: [t.lower * 1e3, t.upper * 1e3] for key, t in timings.items()}
                row["clean"] = all(t.clean for t in timings.values())
                report.rows.append(row)
                table.add(
                    str(config),
                    f"{row['dropout']:g}",
                    str(n),
                    harness.significant(limit),
                    timings["peer"].show(1e-3),
                    timings["ours"].show(1e-3),
                    f"{row['ratio']:.2f}",
                    row["variant"],
                    timings["jax"].show(1e-3) if "jax" in timings else "",
                    f"{row['jax_ms'] / row['ours_ms']:.2f}" if "jax" in timings else "",
                )
    table.notes.append("limit: the operations of all matrix products at the measured peak of the multiply-add units.")
    worst = max(row.get("disagreement", 0) for row in report.rows)
    table.notes.append(f"On the same weights, loss and gradient norm differ from PyTorch's by {worst:.1g} at most.")
    inside(report)
    return report


def inside(report: harness.Report) -> None:
    """Where our time goes: the cost of dropout, and what is not kernels."""
    columns = ("config", "threads", "dropout 0.1 costs", "calls of kernels", "time not in kernels")
    table = report.table("Inside our step", *columns)
    for row in report.rows:
        if profile := row.pop("profile", None):
            row |= {"kernel_calls": profile["calls"], "outside_kernels": 1 - profile["kernels"] / profile["seconds"]}
            calls, outside = f"{row['kernel_calls']:.0f}", f"{row['outside_kernels']:.1%}"
            table.add(str(row["config"]), str(row["threads"]), f"{row['dropout_costs']:+.1%}", calls, outside)
    table.notes.append(
        "Time not in kernels is measured in separate steps with dropout 0.1, with a clock around every call of a "
        "kernel; it is all the rest: Python, NumPy, and the clock itself."
    )


if __name__ == "__main__":
    harness.main(__doc__, run, quick_threads=[2])
