"""Who runs a kernel: one thread, or all of them.

A kernel is written as a function over a range of independent items: `serial(*arguments, first, last)` does the items
first..last-1. If the work is worth it, the range is cut into chunks, one for each thread. An item is computed the same
way wherever it is computed, so results do not depend on the number of threads, bit for bit.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from time import perf_counter_ns, thread_time_ns
from typing import Any

# A thread of OpenMP that has nothing to do spins or sleeps. To wake it costs up to 60 us, and a step of training shares
# its work 250 times. If it spins, then on a busy machine it takes the processor from the very thread that it waits for.
# So let it spin for about 0.2 ms, then sleep. OpenMP reads this when Numba loads it; what the user has set is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # GNU's OpenMP, the usual one on Linux, puts this above the policy

MOST = 1024  # threads: each is one of the system, with a stack of its own
WORTH_SHARING = 30_000  # nanoseconds of work below which waking the other threads costs more than it brings

# Where processors are short, sharing costs more than it brings. One sees it: this thread has long done its part, and
# waits for another one that does not get to run. Then kernels run alone for some time, PATIENCE times what was lost.
# To ask how long this thread was busy is a call of the system, which takes as long as a small kernel: so it is asked
# only for a WATCH after a kernel took longer than one thread should need for all of it.
HICCUP = 200_000  # nanoseconds that it may wait; for so long it may also spin before it sleeps
PATIENCE = 8
WATCH = 100_000_000  # nanoseconds

_alone_until = _watched_until = 0  # on the clock of time.perf_counter_ns
_pool = threading.Lock()  # one parallel region at a time: not every threading layer of Numba survives two
_compiling = threading.RLock()
_forked = False


# ----------------------------------------------------------------------------------------------------- how many threads
def _asked_for() -> int | None:
    """The number of threads that the environment asks for: Numba's variable, or else OpenMP's."""
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").strip()
        number = value.split(",")[0]  # OpenMP allows "4,2": four threads, and two for each of them
        if number.isascii() and number.isdecimal() and 0 < int(number) <= MOST:
            return int(number)
        if value:
            warnings.warn(f"minigrad: {name}={value} is no number of threads and is ignored", RuntimeWarning, 2)
    return None


def _processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_asked = _asked_for()
_threads = _asked or _processors()
if (_asked or "NUMBA_NUM_THREADS" in os.environ) and "numba" not in sys.modules:
    os.environ["NUMBA_NUM_THREADS"] = str(_threads)  # Numba does not know OpenMP's variable, and wants a good one


def get_num_threads() -> int:
    """The number of threads that a kernel may use.

    At first it is what the environment variable NUMBA_NUM_THREADS says, or else OMP_NUM_THREADS, or else the number of
    processors that the process may use.
    """
    return _threads


def set_num_threads(n: int) -> None:
    """Let kernels use `n` threads. In a forked child it stays 1, because OpenMP's threads do not survive a fork.

    Raises ValueError if n is not an integer from 1 to 1024.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    global _threads
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST:
        raise ValueError(f"set_num_threads(): n is {n!r}; it must be an integer from 1 (serial work) to {MOST}.")
    _threads = 1 if _forked else n


# ----------------------------------------------------------------------------------------------------------------- fork
def _in_child() -> None:
    global _forked, _threads
    _forked = True
    _threads = 1
    _compiling.release()


if hasattr(os, "register_at_fork"):  # a child of a thread that compiles would wait for it, and it is not there
    os.register_at_fork(before=_compiling.acquire, after_in_parent=_compiling.release, after_in_child=_in_child)


# -------------------------------------------------------------------------------------------------------------- kernels
def _judge(took: int, busy: int) -> None:
    """Give up sharing for a while if this thread has mostly waited in what a kernel `took`."""
    global _alone_until
    lost = took - 2 * busy - HICCUP
    if lost > 0:
        _alone_until = perf_counter_ns() + PATIENCE * lost


class Kernel:
    """A Numba function over a range of items, compiled for one signature when it is first called.

    Left alone, Numba compiles anew for every memory layout that it meets. Here the signature says "any strides,
    read-only", to which every array converts, and compilation on other terms is switched off.
    """

    def __init__(self, serial: Any, signature: tuple[Any, ...]) -> None:
        from . import cache, share

        self.signature = signature  # of `serial`: the arguments and two whole numbers
        self.dispatcher = share.kernel(serial)
        self.dispatcher._cache = cache.Cache(serial)
        self.pool, self.lightly_optimised = share.pool, share.lightly_optimised
        self.run = self._first

    def __call__(self, nanoseconds: float, items: int, *arguments: Any) -> None:
        """Run the kernel over `items` items, which would take one thread about `nanoseconds`."""
        global _watched_until
        start = perf_counter_ns() if nanoseconds >= WORTH_SHARING and _threads > 1 else 0
        if start <= _alone_until or not _pool.acquire(False):  # also while another Python thread keeps the others busy
            self.run(*arguments, 0, items, 1, 0)
            return
        try:
            most, address = self.pool()
            busy = thread_time_ns() if start < _watched_until else 0
            self.run(*arguments, 0, items, max(1, min(_threads, most, items)), address)
            took = perf_counter_ns() - start
            if busy:
                _judge(took, thread_time_ns() - busy)
            elif took > nanoseconds + HICCUP:
                _watched_until = start + took + WATCH
        finally:
            _pool.release()

    def _first(self, *arguments: Any) -> None:
        """Stands in for the compiled function at the first call."""
        with _compiling, self.lightly_optimised():
            self.dispatcher.disable_compile(False)
            self.dispatcher.compile((*self.signature, *self.signature[-2:]))
            self.dispatcher.disable_compile()
        self.run = self.dispatcher
        self.run(*arguments)
