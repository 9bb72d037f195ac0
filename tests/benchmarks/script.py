"""Training as a script: a fresh process that imports, builds, trains, and says what it took, as one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _status(name: str) -> int:
    """A size in /proc/self/status, in bytes; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    return _status("VmHWM")


def main(step: Callable[..., Any]) -> None:
    """`python -m MODULE CASE STEPS`: train so many steps of a case, given as JSON."""
    case, steps = json.loads(sys.argv[1]), int(sys.argv[2])
    imported = _status("VmRSS")
    start = time.perf_counter()
    train = step(**case)
    train()
    first = time.perf_counter() - start
    for _ in range(steps - 1):
        train()
    print(
        json.dumps(
            {"first": first, "imported_bytes": imported, "peak_bytes": peak_memory(), "loss": train.loss_and_norm()[0]}
        )
    )
