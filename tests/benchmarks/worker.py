"""The inside of a contender's process: it makes jobs and measures one block of one of them whenever it is told to.

`python -m tests.benchmarks.worker MODULE` reads commands, one line of JSON each, and answers each with one line.
MODULE has a function job(**case), which returns what is to be measured: something to call without arguments.
"""

from __future__ import annotations

import glob
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

SETTLE = 0.03  # seconds for idle threads, ours and those of the contender before us, to stop spinning
MOST_DELAY = 0.03  # share of a block that our threads may have waited for a processor


def run_delay() -> float:
    """Seconds that the threads of this process could have run and did not get a processor; 0 where nobody counts."""
    total = 0
    for path in glob.glob("/proc/self/task/*/schedstat"):
        try:
            with open(path) as file:
                total += int(file.read().split()[1])
        except OSError:  # a thread that has ended meanwhile
            pass
    return total * 1e-9


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def calls_per_block(function: Callable[[], Any], block: float) -> int:
    """Warm up, and find how many calls fill `block` seconds."""
    function()
    one = seconds(function)
    if one < block:
        one = min(seconds(function) for _ in range(3))
    return max(1, round(block / max(one, 1e-7)))


def measure(function: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Seconds per call, and the share of the time in which our threads waited for a processor."""
    time.sleep(SETTLE)
    for _ in range(3 if calls > 3 else 1):
        function()
    repeat = range(calls)
    delay, start = run_delay(), time.perf_counter()
    for _ in repeat:
        function()
    wall = time.perf_counter() - start
    return wall / calls, (run_delay() - delay) / wall


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed must not look like an answer
    module = importlib.import_module(sys.argv[1])
    jobs: dict[int, tuple[Any, int]] = {}

    def prepare(case: dict[str, Any], block: float) -> int:
        function = module.job(**case)
        number = max(jobs, default=0) + 1
        jobs[number] = function, calls_per_block(function, block)
        return number

    def ask(number: int, name: str, *arguments: Any) -> Any:
        return getattr(jobs[number][0], name)(*arguments)

    commands: dict[str, Callable[..., Any]] = {
        "prepare": prepare,
        "measure": lambda number: measure(*jobs[number]),
        "forget": lambda number: jobs.pop(number) and None,
        "ask": ask,
    }
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"result": commands[name](*arguments)}
        except Exception as error:  # the contender cannot do this case; what to make of it is decided outside
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
