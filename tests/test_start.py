"""What a process finds on disk: compiled kernels of earlier ones, never stale, in a place where it may write.

Each test copies the package, adds a small kernel with a helper in another module, and starts interpreters on the copy.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minigrad

HELPER = """
from numba import njit

@njit
def helped(x):
    return x + 1
"""
KERNEL = """
from numba import njit, types
from . import threads
from .probe_helper import helped

@njit(error_model="numpy")
def _probe(x, first, last):
    for i in range(first, last):
        x[i] = helped(x[i])

def number(array_of):
    return threads.Kernel(_probe, (types.Array(array_of, 1, "C"), types.intp, types.intp))

integers, reals = number(types.int64), number(types.float64)
"""
RUN = """
import numpy as np
from minigrad.kernels.probe import integers, reals
for kernel, dtype in [(integers, np.int64), (reals, np.float64)][:{kernels}]:
    x = np.zeros(3, dtype)
    kernel(1, 3, x)
    loaded = sum(kernel.dispatcher.stats.cache_hits.values())
    print("loaded" if loaded else "compiled", int(x.sum()))
"""
NOTICE = "minigrad: compiling kernels for this machine, once; usually takes "


@pytest.fixture
def project(tmp_path):
    """A copy of the package with one kernel more."""
    package = Path(minigrad.__file__).parent
    shutil.copytree(package, tmp_path / "minigrad", ignore=shutil.ignore_patterns("__pycache__"))
    kernels = tmp_path / "minigrad" / "kernels"
    (kernels / "probe_helper.py").write_text(HELPER)
    (kernels / "probe.py").write_text(KERNEL)
    return tmp_path


def start(project, code=RUN, kernels=1, **environment):
    """A process that imports the copy and runs the kernel."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "MINIGRAD_"))}
    environment = keep | {"PYTHONPATH": str(project), "HOME": str(project / "home")} | environment
    environment.setdefault("XDG_CACHE_HOME", str(project / "home"))
    return subprocess.Popen(
        [sys.executable, "-c", code.replace("{kernels}", str(kernels))],
        env=environment,
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(project, *arguments, **environment):
    """What such a process prints, and what it says on standard error."""
    out, errors = start(project, *arguments, **environment).communicate(timeout=120)
    return out.strip(), errors


def folders(project):
    return sorted(path.name for path in (project / "minigrad" / "kernels" / "__pycache__").glob("minigrad-*"))


def test_a_kernel_is_compiled_once_and_said_to_be(project):
    out, errors = run(project)
    assert out == "compiled 3"
    assert errors.startswith(NOTICE)
    assert errors.count("\n") == 1
    assert run(project) == ("loaded 3", "")
    assert len(folders(project)) == 1


def test_the_notice_can_be_switched_off(project):
    assert run(project, MINIGRAD_QUIET="1") == ("compiled 3", "")


def test_several_kernels_are_one_notice_and_several_files(project):
    out, errors = run(project, RUN, 2)
    assert out.split() == ["compiled", "3", "compiled", "3"]
    assert errors.count("minigrad:") == 1
    assert run(project, RUN, 2) == ("loaded 3\nloaded 3", "")


@pytest.mark.parametrize(
    ("file", "before", "after", "result"),
    [
        ("probe_helper.py", "x + 1", "x + 2", "compiled 6"),  # another module, whose code is part of the kernel
        ("probe.py", "helped(x[i])", "helped(x[i]) + 2", "compiled 9"),
        ("probe.py", 'error_model="numpy"', 'error_model="numpy", fastmath=True', "compiled 3"),
    ],
)
def test_an_edit_is_never_answered_with_old_code(project, file, before, after, result):
    run(project, MINIGRAD_QUIET="1")
    old = folders(project)
    path = project / "minigrad" / "kernels" / file
    state = path.stat()
    text = path.read_text()
    path.write_text(text.replace(before, after))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # a copy or a checkout need not change the time
    assert run(project, MINIGRAD_QUIET="1") == (result, "")
    assert len(folders(project)) == 1  # the old code is gone
    assert folders(project) != old


def test_a_setting_of_numba_has_code_of_its_own_beside_the_other(project):
    run(project, MINIGRAD_QUIET="1")
    assert run(project, MINIGRAD_QUIET="1", NUMBA_LOOP_VECTORIZE="0") == ("compiled 3", "")
    assert run(project, NUMBA_LOOP_VECTORIZE="0") == ("loaded 3", "")
    assert run(project, NUMBA_NUM_THREADS="1") == ("loaded 3", "")  # this one changes no code
    assert len(folders(project)) == 2


def test_an_edit_while_a_process_runs_is_not_mistaken_for_what_it_runs(project):
    edit = """
import minigrad.kernels.probe
from pathlib import Path
helper = Path("minigrad/kernels/probe_helper.py")
helper.write_text(helper.read_text().replace("x + 1", "x + 2"))
"""
    assert run(project, edit + RUN, MINIGRAD_QUIET="1") == ("compiled 3", "")
    assert run(project, MINIGRAD_QUIET="1") == ("compiled 6", "")


def test_only_what_is_ours_is_removed(project):
    run(project, MINIGRAD_QUIET="1")
    cache = project / "minigrad" / "kernels" / "__pycache__"
    (ours,) = folders(project)
    environment = ours.rpartition("-")[0]
    stay = ["minigrad-of-somebody", f"{environment}-mine", "minigrad-0123456789abcdef-0123456789abcdef"]
    for name in stay:
        (cache / name).mkdir()
        (cache / name / "file").touch()
    helper = project / "minigrad" / "kernels" / "probe_helper.py"
    helper.write_text(HELPER.replace("x + 1", "x + 2"))
    run(project, MINIGRAD_QUIET="1")
    assert all((cache / name / "file").exists() for name in stay)
    assert ours not in folders(project)


def test_processes_that_start_together(project):
    together = [start(project, RUN, 1 + i % 2, MINIGRAD_QUIET="1") for i in range(3)]
    for process in together:
        out, errors = process.communicate(timeout=120)
        assert errors == ""
        assert set(out.split()) <= {"compiled", "loaded", "3"}
    assert run(project, RUN, 2) == ("loaded 3\nloaded 3", "")
    (folder,) = (project / "minigrad" / "kernels" / "__pycache__").glob("minigrad-*")
    assert len(list(folder.iterdir())) == 2


def test_a_damaged_file_is_compiled_anew(project):
    run(project, MINIGRAD_QUIET="1")
    (file,) = (project / "minigrad" / "kernels" / "__pycache__").glob("minigrad-*/*")
    whole = file.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(damaged)
        assert run(project, MINIGRAD_QUIET="1") == ("compiled 3", "")
        assert run(project) == ("loaded 3", "")


def test_numbas_variable_says_where(project):
    place = project / "elsewhere"
    assert run(project, MINIGRAD_QUIET="1", NUMBA_CACHE_DIR=str(place)) == ("compiled 3", "")
    assert run(project, NUMBA_CACHE_DIR=str(place)) == ("loaded 3", "")
    assert [path.name.startswith("minigrad-") for path in place.iterdir()] == [True]
    assert folders(project) == []


# A file stands where a folder should be: that stops even a user who may write everywhere.
def test_a_package_that_cannot_be_written_keeps_its_code_in_the_home_directory(project):
    (project / "minigrad" / "kernels" / "__pycache__").touch()
    assert run(project, MINIGRAD_QUIET="1") == ("compiled 3", "")
    assert run(project) == ("loaded 3", "")
    assert list(project.glob("home/**/minigrad-*"))


def test_nothing_can_be_written_and_all_works(project):
    (project / "minigrad" / "kernels" / "__pycache__").touch()
    (project / "home").touch()
    out, errors = run(project)
    assert out == "compiled 3"
    assert "in each process" in errors
    assert "NUMBA_CACHE_DIR" in errors
    assert run(project, MINIGRAD_QUIET="1") == ("compiled 3", "")


def test_kernels_that_are_made_in_one_place_are_told_apart_by_what_they_bring_along(project):
    made = """
def make(n):
    @njit
    def made(x, first, last):
        for i in range(first, last):
            x[i] = n
    return threads.Kernel(made, (types.Array(types.int64, 1, "C"), types.intp, types.intp))

integers, reals = make(5), make(7)
"""
    (project / "minigrad" / "kernels" / "probe.py").write_text(KERNEL + made)
    code = RUN.replace("np.float64", "np.int64")
    assert run(project, code, 2, MINIGRAD_QUIET="1") == ("compiled 15\ncompiled 21", "")
    assert run(project, code, 2) == ("loaded 15\nloaded 21", "")


def test_no_kernel_asks_numba_for_its_own_cache():
    """Numba's would know nothing of edits in other modules."""
    files = (Path(minigrad.__file__).parent / "kernels").glob("*.py")
    asking = [path.name for path in files if '"cache": True' in path.read_text() or "cache=True" in path.read_text()]
    assert asking == []
