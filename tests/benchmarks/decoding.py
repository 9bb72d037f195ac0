"""Greedy decoding: tokens per second with a cache, ours and PyTorch's, and how the time of a token grows.

The same weights, and before anything is timed, the same tokens. The time includes reading the source.
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from . import cases, harness

TOKENS = 32  # written for each sentence, from sources of half as many
BATCHES = 1, 64
LENGTHS = 32, 64, 128, 256


def same_tokens(ours: harness.Job, peers: list[harness.Job]) -> None:
    """Give the peers our weights; Failed if they write something else."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "weights.npz"))
        ours.ask("save", path)
        for peer in peers:
            peer.ask("load", path)
    expected = ours.ask("tokens")
    for peer in peers:
        if peer.ask("tokens") != expected:
            raise harness.Failed("not the same work: on the same weights, PyTorch writes other tokens")


def compare(config: int, batch: int, threads: int, quick: bool) -> dict[str, Any]:
    """Tokens per second, measured in turn."""
    block = 0.2 if config < 3 else 0.5
    with contextlib.ExitStack() as stack:
        torch, ours = (stack.enter_context(harness.Contender(f"{who}_decoding", threads)) for who in ("torch", "ours"))
        case = {"config": asdict(replace(cases.CONFIGS[config], batch=batch, length=TOKENS // 2)), "tokens": TOKENS}
        jobs = {"ours": ours.prepare(block, **case)}
        jobs |= {kind: torch.prepare(block, **case, attention=kind) for kind in ("sdpa", "manual")}
        same_tokens(jobs["ours"], [jobs["sdpa"], jobs["manual"]])
        timings = harness.alternate(jobs, rounds=5 if quick else 9, patience=8 if quick else 25)
    ours_took = timings.pop("ours")
    variant = harness.best(timings)
    row = {
        "config": config,
        "batch": batch,
        "threads": threads,
        "variant": variant,
        "timings": (ours_took, timings[variant]),
    }
    return row | {"tokens": TOKENS, **harness.as_row({"ours": ours_took, "peer": timings[variant]})}


def growth(threads: int, quick: bool) -> list[dict[str, Any]]:
    """Seconds for the tokens between one length and the next, each, by contender; without a cache one length less."""
    lengths = LENGTHS[:3] if quick else LENGTHS
    config = asdict(replace(cases.CONFIGS[1], batch=16))
    with harness.Contender("torch_decoding", threads) as torch, harness.Contender("ours_decoding", threads) as ours:
        jobs: dict[tuple[str, int], harness.Job] = {}
        for n in lengths:
            jobs["ours", n] = ours.prepare(0.2, config=config, tokens=n)
            jobs["without a cache", n] = ours.prepare(0.2, config=config, tokens=n, use_cache=False)
            jobs["PyTorch", n] = torch.prepare(0.2, config=config, tokens=n)
        timings = harness.alternate(jobs, rounds=3 if quick else 5, patience=15 if quick else 60)
    rows = []
    for before, n in zip((0, *lengths), lengths, strict=False):
        names = ("PyTorch", "ours", "without a cache")
        took = {name: timings[name, n].median - (timings[name, before].median if before else 0) for name in names}
        clean = all(timings[name, m].clean for name in names for m in (before, n) if m)
        each = {name: seconds / (n - before) for name, seconds in took.items()}
        rows.append({"from": before + 1, "to": n, "threads": threads, "seconds_per_token": each, "clean": clean})
    return rows


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    report = harness.Report()
    columns = ("config", "batch", "threads", "PyTorch", "ours", "ours / PyTorch", "its variant")
    table = report.table(f"Tokens per second, {TOKENS} for each sentence, with a cache", *columns)
    for n in threads:
        for config in (1, 2) if quick else (1, 2, 3):
            for batch in BATCHES:
                row = compare(config, batch, n, quick)
                ours, peer = row.pop("timings")
                written = batch * TOKENS
                row |= {"tokens_per_second": {"ours": written / ours.median, "peer": written / peer.median}}
                row["ratio"] = peer.median / ours.median
                report.rows.append(row)
                shown = peer.show_rate(written), ours.show_rate(written)
                table.add(str(config), str(batch), str(n), *shown, f"{row['ratio']:.2f}", row["variant"])
    table.notes.append("PyTorch: inference_mode, keys and values in memory allocated before; not compiled.")
    columns = ("tokens", "threads", "PyTorch", "ours", "ours without a cache")
    table = report.table("Milliseconds for one more token of 16 sentences, by their length; configuration 1", *columns)
    for row in growth(max(threads), quick):
        report.rows.append(row)
        mark = "" if row["clean"] else "~"
        shown = [f"{mark}{harness.significant(x * 1e3)}" for x in row["seconds_per_token"].values()]
        table.add(f"{row['from']} to {row['to']}", str(row["threads"]), *shown)
    return report


if __name__ == "__main__":
    harness.main(__doc__, run, quick_threads=[2])
