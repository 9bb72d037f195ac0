"""What the machine can do: multiply-adds in registers, and copies, in the caches and beyond them.

No program can be faster. Both are measured with kernels of our own, on as many threads as the benchmark has.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numba import njit, prange, set_num_threads

from minigrad.kernels import simd

from . import harness

fma: Any = simd.fma
lanes: Any = simd.lanes
load: Any = simd.load
store: Any = simd.store

SUMS = 12  # independent sums: enough to keep two units busy that take four or five cycles for each multiply-add
TURNS = 20_000
SIZES = {"in cache": 1 << 18, "in memory": 1 << 27}  # bytes of an array that a core's own cache holds, and of one
# that no cache does


@njit(nogil=True)
def _multiply_add(x, turns):
    n = lanes(x)
    a, b = load(x, 0), load(x, n)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = s10 = s11 = a
    for _ in range(turns):
        s0, s1, s2, s3 = fma(s0, a, b), fma(s1, a, b), fma(s2, a, b), fma(s3, a, b)
        s4, s5, s6, s7 = fma(s4, a, b), fma(s5, a, b), fma(s6, a, b), fma(s7, a, b)
        s8, s9, s10, s11 = fma(s8, a, b), fma(s9, a, b), fma(s10, a, b), fma(s11, a, b)
    store(x, 2 * n, s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11)


@njit(parallel=True)
def _multiply_add_shared(x, turns):
    for t in prange(len(x)):
        _multiply_add(x[t], turns)


@njit(nogil=True)
def _copy(x, y, turns):
    for _ in range(turns):
        for i in range(0, len(x), lanes(x)):
            store(y, i, load(x, i))


@njit(parallel=True)
def _copy_shared(x, y, turns):
    for t in prange(len(x)):
        _copy(x[t], y[t], turns)


@njit
def _lanes(x):
    return lanes(x)


class Limit:
    """Calls one of the kernels; `amount` is what a call does, in operations or in bytes read and written."""

    def __init__(self, threads: int, size: int = 0) -> None:
        """A copy of so many bytes altogether; without a size, multiply-adds."""
        set_num_threads(threads)
        if size:
            turns = max(1, (1 << 23) // size)
            x = np.ones((threads, -(-size // 4 // threads // 16) * 16), np.float32)
            self.call: tuple[Any, ...] = _copy_shared, x, np.zeros_like(x), turns
            self.work = 2 * x.nbytes * turns
        else:
            x = np.full((threads, 64), 0.5, np.float32)
            self.call = _multiply_add_shared, x, TURNS
            self.work = threads * TURNS * SUMS * 2 * _lanes(x[0])

    def __call__(self) -> None:
        kernel, *arguments = self.call
        kernel(*arguments)

    def amount(self) -> int:
        return self.work


job = Limit


class Machine:
    """A process that measures limits with so many threads; the limit is what the best block reached."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.contender = harness.Contender("physical", threads)
        self.known: dict[int, float] = {}

    def _measure(self, size: int) -> float:
        if size not in self.known:
            limit = self.contender.prepare(threads=self.threads, size=size)
            best = harness.alternate({"": limit}, rounds=7, patience=3)[""].best
            self.known[size] = limit.ask("amount") / best
            limit.forget()
        return self.known[size]

    def flops(self) -> float:
        """Operations per second, where a multiply-add is two."""
        return self._measure(0)

    def bandwidth(self, size: int) -> float:
        """Bytes read and written per second by a copy of about `size` bytes, each core its part."""
        return self._measure(1 << max(14, size.bit_length() - 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.contender.__exit__(*error)


def run(threads: harness.Threads, quick: bool) -> harness.Report:
    """The limits as a table."""
    report = harness.Report()
    table = report.table("Limits of this machine", "threads", "GFLOP/s", *(f"copy {name}, GB/s" for name in SIZES))
    for n in threads:
        with Machine(n) as machine:
            flops = machine.flops() / 1e9
            copies = {name: machine.bandwidth(n * size) / 1e9 for name, size in SIZES.items()}
        report.rows.append({"threads": n, "gflops": flops, **copies})
        table.add(str(n), *map(harness.significant, (flops, *copies.values())))
    return report


if __name__ == "__main__":
    harness.main(__doc__, run)
