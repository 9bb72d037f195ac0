"""The most memory that a process needs for training steps: ours and PyTorch's, three configurations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from . import cases, harness

STEPS = 3
MB = 1e6


def trained(module: str, threads: int, steps: int, environment: dict[str, str], **case: Any) -> dict[str, float]:
    """What a fresh process says about itself after so many steps: see `script.main`."""
    command = [sys.executable, "-m", f"{__package__}.{module}", json.dumps(case), str(steps)]
    done = subprocess.run(
        command,
        cwd=harness.ROOT,
        env={**os.environ, **dict.fromkeys(harness.POOLS, str(threads)), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise harness.Failed(f"{module} ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    report = harness.Report()
    columns = ("config", "dropout", "PyTorch, peak", "ours, peak", "PyTorch, for training", "ours, for training")
    table = report.table("Memory of a training step, MB", *columns)
    for n in threads:
        for config in (1, 2) if quick else (1, 2, 3):
            for dropout in (0.1, 0.0):
                case = {"config": asdict(cases.CONFIGS[config]), "dropout": dropout}
                peers = [
                    trained("torch_step", n, STEPS, environment, attention=attention, **case)
                    for attention in ("sdpa", "manual")
                    for environment in ({}, harness.KEEP_MEMORY)
                ]
                peer = min(peers, key=lambda found: found["peak_bytes"])
                ours = trained("ours_step", n, STEPS, {}, **case)
                row: dict[str, Any] = {"config": config, "dropout": dropout, "threads": n}
                for name, found in (("peer", peer), ("ours", ours)):
                    peak, imported = found["peak_bytes"] / MB, found["imported_bytes"] / MB
                    row |= {f"{name}_mb": peak, f"{name}_training_mb": peak - imported}
                report.rows.append(row)
                keys = ("peer_mb", "ours_mb", "peer_training_mb", "ours_training_mb")
                table.add(str(config), f"{dropout:g}", *(f"{row[key]:.0f}" for key in keys))
    table.notes.append(
        f"The most that a fresh process has had in memory during {STEPS} steps, and the same without what it had after "
        "its imports. PyTorch: the smallest of attention sdpa and manual, with its own and with our setting of the "
        "allocator. Ours loads Numba, and the compiled kernels, after its imports."
    )
    return report


if __name__ == "__main__":
    harness.main(__doc__, run, threads=[max(harness.default_threads())])
