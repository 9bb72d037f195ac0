"""Who runs the kernels: one thread or several, this process or a child, NumPy or Numba."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from numba import njit, types
from numba.core import config

from minigrad import kernels
from minigrad.kernels import reference, share, threads
from tests.test_kernels import factors


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    n = kernels.get_num_threads()
    with kernels.use("numba"):
        yield
    kernels.set_num_threads(n)


@pytest.fixture
def shared(monkeypatch):
    """Even the smallest work goes to several threads."""
    monkeypatch.setattr(threads, "WORTH_SHARING", 0)
    monkeypatch.setattr(threads, "PATIENCE", 0)
    kernels.set_num_threads(3)


# -------------------------------------------------------------------------------------------------------------- threads
def examples(rng, size=8):
    """Arguments for every kernel, with `size` times more rows than the smallest work has."""
    x, g = rng.standard_normal((2, 5 * size, 6, 40)).astype(np.float32)
    mask = rng.random((6, 40)) < 0.5
    y = reference.softmax(x, -1)
    return {
        "matmul": (x, g.swapaxes(-1, -2)),
        "softmax": (x, -1),
        "log_softmax": (x, -1),
        "masked_softmax": (x, mask, -1),
        "softmax_vjp": (y, g, -1),
        "log_softmax_vjp": (np.log(y), g, -1),
        "dropout": (x, 0.1, 5),
        "erf": (x,),
    }


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("name", examples(np.random.default_rng(0)))
def test_the_number_of_threads_changes_no_bit(name, rng):
    arguments = examples(rng)[name]
    several = getattr(kernels, name)(*arguments)
    kernels.set_num_threads(1)
    np.testing.assert_array_equal(several, getattr(kernels, name)(*arguments))


@pytest.mark.usefixtures("shared")
@given(factors())
def test_threads_share_any_product(pair):
    several = kernels.matmul(*pair)
    kernels.set_num_threads(1)
    alone = kernels.matmul(*pair)
    kernels.set_num_threads(3)
    np.testing.assert_array_equal(several, alone)


@pytest.fixture
def chunks(monkeypatch):
    """A kernel that does nothing, and the numbers of chunks in which it was called."""
    kernel, calls = threads.Kernel(njit(lambda first, last: None), ()), []
    monkeypatch.setattr(kernel, "run", lambda first, last, chunks, pool: calls.append(chunks))
    monkeypatch.setattr(threads, "_alone_until", 0)
    monkeypatch.setattr(threads, "_watched_until", 0)
    kernels.set_num_threads(2)
    return kernel, calls


def test_work_is_shared_from_a_size_on(chunks):
    kernel, calls = chunks
    kernel(threads.WORTH_SHARING - 1, 10)
    kernel(threads.WORTH_SHARING, 10)
    assert threads._pool.acquire(timeout=10)  # as if another thread of Python had it
    try:
        kernel(1e9, 10)
    finally:
        threads._pool.release()
    kernels.set_num_threads(1)
    kernel(1e9, 10)
    assert calls == [1, 2, 1, 1]


def clocks(monkeypatch, kernel, calls, lasts):
    """Let the calls of a kernel take so long, and this thread be busy for so long: (took, busy) for each."""
    now, busy, lasts = [10**12], [10**9], iter(lasts)
    monkeypatch.setattr(threads, "perf_counter_ns", lambda: now[0])
    monkeypatch.setattr(threads, "thread_time_ns", lambda: busy[0])

    def run(first, last, chunks, pool):
        calls.append(chunks)
        took, worked = next(lasts)
        now[0] += took
        busy[0] += worked

    monkeypatch.setattr(kernel, "run", run)
    return now


def test_work_that_lost_time_when_it_was_shared_is_not_shared_for_a_while(chunks, monkeypatch):
    kernel, calls = chunks
    quick, waited = (50_000, 40_000), (1_400_000, 100_000)  # 1 ms is lost, besides the hiccup
    now = clocks(monkeypatch, kernel, calls, [quick, waited, quick, waited, quick, quick])
    for _ in range(5):
        kernel(100_000, 10)
    assert calls == [2, 2, 2, 2, 1]  # the first wait is what makes it look for the second
    now[0] += threads.PATIENCE * 1_000_000
    kernel(100_000, 10)
    assert calls[-1] == 2


def test_work_that_takes_long_is_no_contention(chunks, monkeypatch):
    """However wrong the estimate is, and however much longer than the time before: compiling, a mask that is full."""
    kernel, calls = chunks
    long, half = (3 * 10**9, 3 * 10**9), (10**7, 6 * 10**6)
    clocks(monkeypatch, kernel, calls, [(50_000, 50_000), long, half, long, half, (50_000, 50_000)])
    for _ in range(6):
        kernel(100_000, 10)
    assert calls == [2] * 6


def test_the_clock_that_costs_time_is_read_only_after_something_took_too_long(chunks, monkeypatch):
    kernel, calls = chunks
    now = clocks(monkeypatch, kernel, calls, [(50_000, 40_000), (10**7, 10**7), (50_000, 40_000), (50_000, 40_000)])
    reads = []
    monkeypatch.setattr(threads, "thread_time_ns", lambda: reads.append(now[0]) or 10**9)
    for expected in (0, 0, 2):
        kernel(100_000, 10)
        assert len(reads) == expected
    now[0] += threads.WATCH
    kernel(100_000, 10)
    assert len(reads) == 2


@njit
def _mark(out, first, last):
    for i in range(first, last):
        out[i] += i


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("items", [0, 1, 2, 3, 7, 64, 1000])
def test_chunks_cover_every_item_once(items, n):
    kernel = threads.Kernel(_mark, (types.Array(types.int64, 1, "C"), types.intp, types.intp))
    kernels.set_num_threads(n)
    out = np.zeros(items, np.int64)
    kernel(1e9, items, out)
    np.testing.assert_array_equal(out, np.arange(items))


@njit
def _fail(first, last):
    if last > 5:
        raise ValueError("more than five")


def test_a_kernel_that_fails_in_another_thread_is_an_error():
    kernel = threads.Kernel(_fail, (types.intp, types.intp))
    kernels.set_num_threads(2)
    kernel(1e9, 5)
    with pytest.raises(MemoryError, match="for a thread"):
        kernel(1e9, 10)
    kernels.set_num_threads(1)
    with pytest.raises(ValueError, match="more than five"):
        kernel(1e9, 10)


@pytest.mark.usefixtures("shared")
def test_several_python_threads_at_once(rng):
    cases = examples(rng, 40)
    expected = {name: getattr(kernels, name)(*arguments) for name, arguments in cases.items()}
    start = threading.Barrier(4)

    def work(offset):
        start.wait()
        names = list(cases)
        return [
            np.array_equal(getattr(kernels, name)(*cases[name]), expected[name])
            for name in (names[offset:] + names[:offset]) * 5
        ]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    assert [len(r) for r in results] == [40] * 4
    assert all(all(r) for r in results)


def test_the_users_own_code_is_compiled_at_the_users_level():
    before, seen = config.OPT, []
    with share.lightly_optimised():
        seen.append(int(config.OPT))
    with pytest.raises(ZeroDivisionError), share.lightly_optimised():
        raise ZeroDivisionError
    assert seen == [min(before, 1)]
    assert config.OPT is before
    threads.Kernel(njit(lambda first, last: None), (types.intp, types.intp))(0, 1)
    assert config.OPT is before


def test_the_number_of_threads_can_be_set_and_read():
    kernels.set_num_threads(2)
    assert kernels.get_num_threads() == 2


@pytest.mark.parametrize(
    ("numba", "openmp", "expected"),
    [("3", "5", "3"), ("", "5", "5"), ("", "3,2", "3"), ("3", "x", "3"), ("", " 4 ", "4")],
)
def test_the_environment_says_how_many_threads(numba, openmp, expected):
    code = "import numba, minigrad as mg; print(mg.get_num_threads(), numba.config.NUMBA_NUM_THREADS)"
    code = f"import minigrad; {code}"  # Numba reads the variables when it is imported
    out, errors = python(code, NUMBA_NUM_THREADS=numba, OMP_NUM_THREADS=openmp)
    assert (out, errors) == (f"{expected} {expected}", "")


@pytest.mark.parametrize("name", ["NUMBA_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value", ["many", "0", "-2", "1.5", "100000"])
def test_an_environment_that_makes_no_sense_is_ignored_with_a_warning(name, value):
    code = "import minigrad as mg; mg.ones(300, 300) @ mg.ones(300, 300); print(mg.get_num_threads())"
    values = {"NUMBA_NUM_THREADS": "", "OMP_NUM_THREADS": ""} | {name: value}
    out, errors = python(code, **values)
    assert out == str(threads._processors())
    assert f"{name}={value} is no number of threads" in errors


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted as Linux does it")
def test_no_more_threads_are_started_than_were_asked_for():
    code = """
import os, numba
from minigrad.kernels import threads
from numba import njit, types
from numba.core import config
kernel = threads.Kernel(njit(lambda first, last: None), (types.intp, types.intp))
before = len(os.listdir("/proc/self/task"))
kernel(1e9, 10)
print(len(os.listdir("/proc/self/task")) - before)
"""
    started = [int(python(code, NUMBA_NUM_THREADS="", OMP_NUM_THREADS=str(n))[0]) for n in (1, 2, 5)]
    assert started[0] == 0
    assert started[2] - started[1] == 3


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2", 1025, 2**32])
def test_a_number_of_threads_that_makes_no_sense_is_an_error(n):
    with pytest.raises(ValueError, match=r"set_num_threads\(\): n is .*; it must be an integer from 1"):
        kernels.set_num_threads(n)


# ------------------------------------------------------------------------------------------------------ other processes
def python(code, **environment):
    """Standard output of a new interpreter, and its standard error."""
    environment = os.environ | {"MINIGRAD_KERNELS": "numba", "MINIGRAD_QUIET": "1"} | environment
    environment = {name: value for name, value in environment.items() if value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    return done.stdout.strip(), done.stderr


PRODUCT = """
import os, signal, sys, threading
import numpy as np
from minigrad import kernels
kernels.set_num_threads(2)
a = np.random.default_rng(0).standard_normal((400, 400)).astype(np.float32)
expected = kernels.matmul(a, a)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is fenced off as Linux does it")
def test_matmul_reads_nothing_beyond_its_arguments():
    code = """
import ctypes, mmap
def at_the_end(x):
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, (-(-x.nbytes // page) + 1) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fence = len(memory) - page
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + fence), page, 0) == 0
    y = np.frombuffer(memory, x.dtype, x.size, fence - x.nbytes).reshape(x.shape)
    y[...] = x
    return y
for m, k, n in [(1, 1, 1), (7, 20, 65), (70, 33, 31), (7, 33, 31), (30, 5, 40), (3, 17, 100)]:
    a, b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
    first, second, first_t, second_t = [at_the_end(x) for x in (a, b, a.T.copy(), b.T.copy())]
    for x in (first, first_t.T):
        for y in (second, second_t.T):
            assert (kernels.matmul(x, y) == k).all()
print("read")
"""
    assert python(PRODUCT + code) == ("read", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_alone():
    child = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on every fork of a threaded process warns
pid = os.fork()
if pid == 0:
    signal.alarm(30)  # a child that hangs is killed
    right = np.array_equal(kernels.matmul(a, a), expected)
    kernels.set_num_threads(2)
    os._exit(0 if right and kernels.get_num_threads() == 1 else 3)
print(os.waitpid(pid, 0)[1], kernels.get_num_threads())
"""
    assert python(PRODUCT + child) == ("0 2", "")


def test_the_simplest_threading_layer_survives_several_python_threads():
    code = """
import numba
wrong = []
def work():
    for _ in range(20):
        if not np.array_equal(kernels.matmul(a, a), expected):
            wrong.append(1)
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
print(len(wrong), numba.threading_layer())
"""
    assert python(PRODUCT + code, NUMBA_THREADING_LAYER="workqueue") == ("0 workqueue", "")


def test_numba_is_imported_at_the_first_call_only():
    code = """
import json, os, sys
import numpy as np
from minigrad import kernels
seen = [kernels.current(), "numba" in sys.modules]
with kernels.use("numpy"):
    kernels.matmul(np.ones((2, 2)), np.ones((2, 2)))
seen += [kernels.current(), "numba" in sys.modules]
kernels.matmul(np.ones((2, 2)), np.ones((2, 2)))
seen += ["numba" in sys.modules, os.environ["OMP_WAIT_POLICY"]]
print(json.dumps(seen))
"""
    out, errors = python(code)
    assert errors == ""
    assert json.loads(out) == ["numba", False, "numba", False, True, "passive"]


def test_the_environment_chooses_the_kernels():
    code = "import sys; from minigrad import kernels; print(kernels.current(), 'numba' in sys.modules)"
    assert python(code, MINIGRAD_KERNELS="numpy") == ("numpy False", "")


def test_an_unknown_name_in_the_environment_is_an_error():
    _, errors = python("import minigrad.kernels", MINIGRAD_KERNELS="cuda")
    assert "ValueError: MINIGRAD_KERNELS: there are no kernels named 'cuda'; the names are \"numpy\" and" in errors


def test_without_numba_the_error_names_the_way_out():
    code = """
import sys
sys.modules["numba"] = None
import numpy as np
from minigrad import kernels
try:
    kernels.matmul(np.ones((2, 2)), np.ones((2, 2)))
except ImportError as error:
    print(error)
"""
    out, _ = python(code)
    assert out.startswith("minigrad.kernels: Numba cannot be imported")
    assert "MINIGRAD_KERNELS=numpy" in out


# -------------------------------------------------------------------------------------------------------------- switch
def test_use_switches_at_once_and_back():
    with kernels.use("numpy"):
        assert kernels.current() == "numpy"
        with kernels.use("numba"):
            assert kernels.current() == "numba"
        assert kernels.current() == "numpy"
    assert kernels.current() == "numba"
    switch = kernels.use("numpy")
    assert kernels.current() == "numpy"
    with switch:
        pass
    assert kernels.current() == "numba"


def test_use_of_an_unknown_name_is_an_error_and_changes_nothing():
    with pytest.raises(
        ValueError, match=r"use\(\): there are no kernels named 'nonsense'; the names are \"numpy\" and"
    ):
        kernels.use("nonsense")
    assert kernels.current() == "numba"
