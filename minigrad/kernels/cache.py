"""Compiled kernels on disk, for the next process: where they are kept, and under which name.

Numba has a cache too, but the name under which it looks there for a function holds neither the options nor the
functions of other modules that were compiled into it: edit one of those, and the old code runs. Here the name of the
folder holds everything that the code depends on, in two parts,

    minigrad-<this place, these versions, this processor, Numba's settings>-<the text of all kernels>

so an edit leads to another folder, and the folders of earlier texts, which nobody can want any more, go away. A file is
written under another name first and then renamed, so that processes that start together do each other no harm.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

PACKAGE = Path(__file__).parent
USUALLY = 13  # seconds for the kernels of a training step, measured on two processors of 2022
NO_MATTER = ("THREAD", "CACHE", "CUDA", "COLOR")  # settings of Numba with these words in their names change no code


def _sources() -> list[Path]:
    return sorted(PACKAGE.glob("*.py"))


def _states() -> list[tuple[int, int]]:
    return [(state.st_mtime_ns, state.st_size) for state in map(os.stat, _sources())]


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


# The kernels are imported now. Code that is compiled later is theirs, even if somebody edits the files meanwhile.
_TEXTS = _digest([(path.name, path.read_bytes()) for path in _sources()])
_STATES = _states()
_noticed = False


def _environment(context: Any) -> str:
    """What compiled code depends on, besides the text."""
    settings = {
        name: value
        for name, value in sorted(vars(config).items())
        if name.isupper() and isinstance(value, int | float | str | None) and not any(x in name for x in NO_MATTER)
    }
    versions = sys.version, numba.__version__, llvmlite.__version__, np.__version__
    return _digest(str(PACKAGE), versions, context.codegen().magic_tuple(), settings)


def _parents() -> Iterator[Path]:
    """Where Numba would keep its own: where the user says, else beside the source, else in the home directory."""
    if config.CACHE_DIR:  # pyright: ignore[reportAttributeAccessIssue]  # made from the environment
        yield Path(config.CACHE_DIR)  # pyright: ignore[reportAttributeAccessIssue]
        return
    yield PACKAGE / "__pycache__"
    yield Path(AppDirs("minigrad", appauthor=False).user_cache_dir)


def _identity(x: Any) -> Any:
    """What tells a function from others of its name: also the values that it brings along from where it was made."""
    function = getattr(x, "py_func", None) or getattr(x, "_defn", None) or x
    if isinstance(function, FunctionType):
        brought = [cell.cell_contents for cell in function.__closure__ or ()], function.__defaults__
        return function.__module__, function.__qualname__, function.__code__.co_firstlineno, _identity(brought)
    if isinstance(x, list | tuple):
        return [_identity(item) for item in x]
    if " at 0x" in repr(x):
        raise TypeError(f"{x!r} would have another name in the next process")
    return repr(x)


class Cache:
    """Takes the place of Numba's cache of one function, for the kernel that is made from `serial`."""

    cache_path = None  # Numba shows it in the statistics

    def __init__(self, serial: Any) -> None:
        function = serial.py_func
        self.function = function.__name__.strip("_")
        try:
            self.identity = _identity(serial), _identity(list(serial.targetoptions.items()))
            self.usable = Path(function.__code__.co_filename).parent == PACKAGE
        except TypeError:
            self.usable = False

    def _places(self, signature: Any, context: Any) -> list[Path]:
        """Where the code may be; nowhere, if the text of the kernels is not known."""
        if not self.usable or not _STATES or _states() != _STATES:
            return []
        folder = f"minigrad-{_environment(context)}-{_TEXTS}"
        return [parent / folder / f"{self.function}-{_digest(self.identity, signature)}" for parent in _parents()]

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The code for a signature, or None."""
        context.refresh()
        places = self._places(signature, context)
        for place in places:
            try:
                content = place.read_bytes()
            except OSError:
                continue
            if hashlib.sha256(content[32:]).digest() == content[:32]:
                return CompileResult._rebuild(context, *pickle.loads(content[32:]))
        if places:
            _notice(any(_ready(place.parent) for place in places))
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep the code for a signature, if there is a place to keep it in."""
        if result.library.has_dynamic_globals:  # addresses, which are others in the next process
            return
        data = dumps(result._reduce())
        for place in self._places(signature, result.target_context):
            if _ready(place.parent) and _write(place, hashlib.sha256(data).digest() + data):
                return


def _ready(folder: Path) -> bool:
    """Make the folder if it is missing, in the place of those for earlier texts; False if that is not allowed."""
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            environment = folder.name.rpartition("-")[0]
            for other in folder.parent.glob(f"{environment}-{'[0-9a-f]' * 16}"):
                if other != folder:
                    shutil.rmtree(other, ignore_errors=True)
    except FileExistsError:  # another process was faster
        pass
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _write(place: Path, content: bytes) -> bool:
    temporary = place.with_name(uuid.uuid4().hex)
    try:
        temporary.write_bytes(content)
        temporary.replace(place)
    except OSError:
        temporary.unlink(missing_ok=True)
        return False
    return True


def _notice(kept: bool) -> None:
    """Say once why nothing seems to happen for some seconds."""
    global _noticed
    if _noticed or os.environ.get("MINIGRAD_QUIET") == "1" or sys.stderr is None:
        return
    _noticed = True
    once = "once" if kept else "in each process, as no folder can be written to keep them (set NUMBA_CACHE_DIR)"
    print(f"minigrad: compiling kernels for this machine, {once}; usually takes {USUALLY} s", file=sys.stderr)
