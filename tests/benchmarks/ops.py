"""Fused operations, forward and backward: attention, AddNorm, bias and activation, cross-entropy, embedding, Adam."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

from . import harness, physical

ATTENTION = [{"way": way} for way in ("sdpa", "sdpa, added mask", "manual")]


class Case(NamedTuple):
    """What is measured, PyTorch's ways to do it, and the least work: operations, and bytes to be read and written."""

    name: str
    case: dict[str, Any]
    ways: list[dict[str, str]]
    flops: float
    bytes: float

    def limit(self, machine: physical.Machine) -> float:
        """Seconds below which it cannot be done."""
        return max(self.flops / machine.flops(), self.bytes / machine.bandwidth(int(self.bytes / 2)))


def selection(quick: bool) -> list[Case]:
    """All cases; the bytes of each are those of inputs, results and gradients, each read or written once."""
    found = []
    for (b, h, t, k), p, padded in product(
        ((64, 4, 16, 16), (64, 8, 24, 16), (32, 8, 32, 64), (16, 8, 64, 64)), (0, 0.1), (False, True)
    ):
        if quick and (t in (24, 64) or (padded and p)):
            continue
        case = {"op": "attention", "batch": b, "heads": h, "length": t, "size": k, "p": p, "padded": padded}
        name = f"attention B{b} H{h} T{t} K{k}, {'padded' if padded else 'full'}, dropout {p}"
        keys = 0.75 if padded else 1  # sentences are of T/2 to T tokens
        found.append(Case(name, case, ATTENTION, 12 * b * h * t * t * k * keys, 11 * 4 * b * h * t * k))
    for (rows, d), p in product(((1024, 64), (1536, 128), (1024, 512)), (0, 0.1)):
        case = {"op": "add_norm", "rows": rows, "width": d, "p": p}
        found.append(Case(f"AddNorm {rows},{d}, dropout {p}", case, [{}], 0, 7 * 4 * rows * d))
    for (rows, d), p, kind in product(((1024, 256), (1536, 512), (1024, 2048)), (0, 0.1), ("relu", "gelu")):
        if kind == "relu" or d == 512:
            case = {"op": "activation", "rows": rows, "width": d, "p": p, "kind": kind}
            found.append(Case(f"bias, {kind} {rows},{d}, dropout {p}", case, [{}], 0, 5 * 4 * rows * d))
    for rows, v in ((1024, 64), (1536, 256), (1024, 8000)):
        case = {"op": "cross_entropy", "rows": rows, "vocabulary": v}
        found.append(Case(f"cross-entropy {rows},{v}", case, [{}], 0, 2 * 4 * rows * v))
    for (b, t, v, d), p in product(((64, 16, 64, 64), (32, 32, 8000, 512)), (0, 0.1)):
        case = {"op": "embedding", "batch": b, "length": t, "vocabulary": v, "width": d, "p": p}
        found.append(Case(f"embedding {b * t} of {v},{d}, dropout {p}", case, [{}], 0, 4 * (3 * b * t + v) * d))
    adam = [{"way": way} for way in ("foreach", "fused", "fused, flat")]
    norm = [{"way": way} for way in ("foreach", "for", "flat")]
    for n in (241_664, 1_454_080) if quick else (241_664, 1_454_080, 52_000_000):
        found.append(Case(f"Adam {n:,} in 64 tensors", {"op": "adam", "numbers": n}, adam, 0, 7 * 4 * n))
        found.append(Case(f"gradient norm {n:,}", {"op": "gradient_norm", "numbers": n}, norm, 0, 4 * n))
    return found


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    report = harness.Report()
    columns = ("operation", "threads", "limit", "PyTorch", "its best way", "ours", "PyTorch / ours")
    table = report.table("Fused operations, forward and backward, us", *columns)
    for n in threads:
        with (
            harness.Contender("torch_ops", n) as torch,
            harness.Contender("ours_ops", n) as ours,
            physical.Machine(n) as machine,
        ):
            for case in selection(quick):
                contenders: dict[str, Any] = {"ours": (ours, {})}
                contenders |= {way.get("way", ""): (torch, way) for way in case.ways}
                timings = harness.compare(case.case, contenders, rounds=5, patience=3 if quick else 5)
                peers = {way: timing for way, timing in timings.items() if way != "ours"}
                way, mine, limit = harness.best(peers), timings["ours"], case.limit(machine)
                ratio = timings[way].median / mine.median
                row = {"operation": case.name, "threads": n, "way": way, "ratio": ratio, "limit": limit}
                report.rows.append(row | harness.as_row(timings))
                shown = timings[way].show(1e-6), way, mine.show(1e-6), f"{ratio:.2f}"
                table.add(case.name, str(n), harness.significant(limit * 1e6), *shown)
    table.notes.append(
        "limit: the operations of the products at the peak of the multiply-add units, or inputs, results and gradients "
        "read or written once, at the speed of a copy of their size, whichever takes longer. "
        "Adam and gradient norm: the step only; ours has 64 tensors, PyTorch's 64 or one flat one."
    )
    return report


if __name__ == "__main__":
    harness.main(__doc__, run)
