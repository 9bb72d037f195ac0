"""What an operation costs before it computes anything: forward, node and backward on arrays of 8 x 8, on one thread."""

from __future__ import annotations

from typing import Any

from . import harness

KINDS = "add", "mul", "matmul", "softmax", "layer_norm"


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    report = harness.Report()
    columns = ("operation", "PyTorch", "ours", "PyTorch / ours")
    tables = {
        True: report.table("Overhead of an operation, forward and backward, us", *columns),
        False: report.table("Overhead of an operation, forward only, recorded, us", *columns),
    }
    for n in threads:
        with harness.Contender("torch_ops", n) as torch, harness.Contender("ours_ops", n) as ours:
            for backward, table in tables.items():
                for kind in KINDS:
                    case = {"op": "tiny", "kind": kind, "backward": backward}
                    ways = ("grad", "backward") if backward else ("forward",)
                    contenders: dict[str, Any] = {"ours": (ours, {})}
                    contenders |= {way: (torch, {"way": way}) for way in ways}
                    timings = harness.compare(case, contenders, rounds=5 if quick else 9, patience=5)
                    peer, mine = timings[min(ways, key=lambda way: timings[way].median)], timings["ours"]
                    ratio = peer.median / mine.median
                    row = {"operation": kind, "backward": backward, "threads": n, "ratio": ratio}
                    report.rows.append(row | harness.as_row(timings))
                    table.add(kind, peer.show(1e-6), mine.show(1e-6), f"{ratio:.2f}")
    tables[True].notes.append(
        "PyTorch: the faster of autograd.grad() and backward(), after which .grad is set to None."
    )
    return report


if __name__ == "__main__":
    harness.main(__doc__, run, threads=[1])
