"""What a recording costs: a training step inside of `mg.record` and the same step outside, in turn in one process."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from . import cases, harness

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what is measured, and beside what
    "stats": ({}, {"record": {}}),
    "values": ({}, {"record": {"keep": "values"}}),
    "stats, definitions": ({"definitions": True}, {"record": {"detail": "definition"}}),
}


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    report = harness.Report()
    columns = ("kept", "config", "threads", "step, ms", "recorded, ms", "recorded / step")
    table = report.table("A recorded training step, dropout 0.1", *columns)
    for n in threads:
        with harness.Contender("ours_step", n) as ours:
            for number in (1,) if quick else (1, 2):
                for name, (plain, recorded) in CASES.items():
                    case = {"config": asdict(cases.CONFIGS[number]), "dropout": 0.1}
                    contenders = {"plain": (ours, plain), "recorded": (ours, recorded)}
                    timings = harness.compare(case, contenders, rounds=7 if quick else 15, patience=20)
                    ratio = timings["recorded"].median / timings["plain"].median
                    row = {"kept": name, "config": number, "threads": n, "ratio": ratio}
                    report.rows.append(row | harness.as_row(timings))
                    shown = [timings[key].show(1e-3) for key in ("plain", "recorded")]
                    table.add(name, str(number), str(n), *shown, f"{ratio:.2f}")
    table.notes.append("With definitions, the step beside it runs them, too; the recorded numbers are bit for bit its.")
    return report


if __name__ == "__main__":
    harness.main(__doc__, run)
