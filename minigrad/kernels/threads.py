"""Who runs a kernel: one thread, or all of them.

A kernel is written twice over the same range of independent items: `serial(*arguments, first, last)` does the items
first..last-1, and `parallel(*arguments, items, chunks)` cuts the range into chunks and gives each to a thread. An item
is computed the same way wherever it is computed, so results do not depend on the number of threads, bit for bit.
"""

from __future__ import annotations

import os
import threading
from typing import Any

# A thread of OpenMP that has nothing to do spins or sleeps. To wake it costs up to 60 us. If it spins, then on a busy
# machine it takes the processor from the very thread that it waits for: with the default, 4 to 12 ms at a time. So let
# it spin for about 0.1 ms, then sleep. OpenMP reads this when Numba loads it; what the user has set is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # GNU's OpenMP, the usual one on Linux, puts this above the policy

WORTH_SHARING = 30_000  # nanoseconds of work below which waking the other threads costs more than it brings

_pool = threading.Lock()  # one parallel region at a time: not every threading layer of Numba survives two
_compiling = threading.Lock()
_forked = False


def _processors() -> int:
    wanted = os.environ.get("NUMBA_NUM_THREADS")
    if wanted:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_threads = _processors()


def get_num_threads() -> int:
    """The number of threads that a kernel may use."""
    return _threads


def set_num_threads(n: int) -> None:
    """Let kernels use `n` threads. In a forked child it stays 1, because OpenMP's threads do not survive a fork.

    Raises ValueError if n is not a positive integer.
    """
    global _threads
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"set_num_threads(): n is {n!r}; it must be an integer of at least 1. Use 1 for serial work.")
    _threads = 1 if _forked else n


class _Mask(threading.local):
    """How many of Numba's threads the running Python thread uses; Numba keeps that for each Python thread."""

    threads = _threads  # what Numba starts from

    def apply(self) -> None:
        from numba import config, set_num_threads

        most = config.NUMBA_NUM_THREADS  # pyright: ignore[reportAttributeAccessIssue]  # made from the environment
        set_num_threads(min(_threads, most))
        self.threads = _threads


_mask = _Mask()


def _in_child() -> None:
    global _forked, _threads
    _forked = True
    _threads = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Kernel:
    """A pair of Numba functions over a range of items, compiled for one signature when they are first called.

    Left alone, Numba compiles anew for every memory layout that it meets. Here the signature says "any strides,
    read-only", to which every array converts, and compilation on other terms is switched off.
    """

    def __init__(self, serial: Any, parallel: Any, signature: tuple[Any, ...]) -> None:
        self.dispatchers = serial, parallel
        self.signature = signature  # of both: the arguments and two whole numbers
        self.serial = self.compile_serial
        self.parallel = self.compile_parallel

    def __call__(self, nanoseconds: float, items: int, *arguments: Any) -> None:
        """Run the kernel over `items` items, which would take one thread about `nanoseconds`."""
        if nanoseconds < WORTH_SHARING or _threads == 1 or not _pool.acquire(blocking=False):
            self.serial(*arguments, 0, items)  # also while another Python thread keeps all the others busy
            return
        try:
            if _mask.threads != _threads:
                _mask.apply()
            self.parallel(*arguments, items, _threads)
        finally:
            _pool.release()

    def compile_serial(self, *arguments: Any) -> None:
        """Stands in for `serial` at its first call."""
        self.serial = self._compile(0)
        self.serial(*arguments)

    def compile_parallel(self, *arguments: Any) -> None:
        """Stands in for `parallel` at its first call."""
        self._compile(0)  # which it calls
        self.parallel = self._compile(1)
        self.parallel(*arguments)

    def _compile(self, which: int) -> Any:
        dispatcher = self.dispatchers[which]
        with _compiling:
            dispatcher.disable_compile(False)
            dispatcher.compile(self.signature)
            dispatcher.disable_compile()
        return dispatcher
