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

from minigrad import kernels
from minigrad.kernels import gemm, reference, threads
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


def test_work_is_shared_from_a_size_on(monkeypatch, rng):
    kernels.set_num_threads(2)
    calls = []
    a = rng.standard_normal((300, 300))
    kernels.matmul(a, a)  # so that it is compiled
    kernel = gemm._kernels[a.dtype]
    monkeypatch.setattr(kernel, "serial", lambda *arguments: calls.append("alone"))
    monkeypatch.setattr(kernel, "parallel", lambda *arguments: calls.append("shared"))
    kernels.matmul(a[:2, :2], a[:2, :2])
    kernels.matmul(a, a)
    assert threads._pool.acquire(timeout=10)  # as if another thread of Python had it
    try:
        kernels.matmul(a, a)
    finally:
        threads._pool.release()
    kernels.set_num_threads(1)
    kernels.matmul(a, a)
    assert calls == ["alone", "shared", "alone", "alone"]


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


def test_the_number_of_threads_can_be_set_and_read():
    kernels.set_num_threads(2)
    assert kernels.get_num_threads() == 2


def test_no_more_threads_are_woken_than_were_asked_for():
    code = "import numba; print(numba.config.NUMBA_NUM_THREADS, numba.get_num_threads())"
    assert python(PRODUCT + code, NUMBA_NUM_THREADS="3") == ("3 2", "")


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
def test_a_number_of_threads_that_makes_no_sense_is_an_error(n):
    with pytest.raises(ValueError, match=r"set_num_threads\(\): n is .*; it must be an integer of at least 1"):
        kernels.set_num_threads(n)


# ------------------------------------------------------------------------------------------------------ other processes
def python(code, **environment):
    """Standard output of a new interpreter, and its standard error."""
    environment = os.environ | {"MINIGRAD_KERNELS": "numba"} | environment
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
