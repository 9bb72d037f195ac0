"""Files of `torch.save`, read without PyTorch: arrays in plain containers, and nothing that could run.

Such a file is a zip: `data.pkl` says which tensors there are, and every storage is an entry of plain numbers. A pickle
is a program. Python's Unpickler runs it, and restricting its `find_class` restricts only what it may name: what is
named is still called, with arguments that the file chooses, and asked to restore itself. So the few opcodes that
torch.save needs are interpreted here, by hand: a name stays a name, and the only things that can be "called" are the
cases of `_Program.call`, none of which is a function of somebody else's.

What the file declares is checked before it is believed, and a file can ask for no more than in proportion to its size:
an array is made of a storage once for every dtype that is asked for, tensors are views, texts, bytes, sets and tensors
that are made of what is already there are paid with bytes of the program (`pay`), and keys that somebody could have
chosen to be slow are counted (`key`). A program of n bytes makes values of less than 256 n bytes, arrays aside.
"""

from __future__ import annotations

import os
import struct
import zipfile
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .checkpoint import CheckpointError
from .core import Array

STORAGES = {  # storage class of PyTorch -> dtype of NumPy
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.ComplexDoubleStorage": "c16",
    "torch.ComplexFloatStorage": "c8",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
UNTYPED = "torch.storage.UntypedStorage"  # its tensors say themselves of which of these dtypes they are
LATER_DTYPES = {"torch.uint16": "u2", "torch.uint32": "u4", "torch.uint64": "u8"}
CALLED = {
    "builtins.bytes",
    "builtins.set",
    "_codecs.encode",
    "collections.OrderedDict",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
}
KNOWN = CALLED | {UNTYPED, *STORAGES, *LATER_DTYPES}

LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number with which torch.save began before it wrote zip files
# What zipfile, Python and NumPy have to say about names and numbers that make no sense.
DAMAGE = (zipfile.BadZipFile, struct.error, EOFError, OSError, RuntimeError)
DAMAGE += (ArithmeticError, LookupError, TypeError, ValueError)
MAX_DEPTH = 100  # of containers in containers; whoever walks through what was read may recurse
MAX_PARTS = 8  # of a tuple that is a key; it is hashed anew whenever it is used
MAX_COMPARED = 100_000_000  # keys, in all, with which a key may have to be compared
MAX_DIMENSIONS = 64  # NumPy's
MAX_PATHS = 10_000_000  # ways from the top to a value; a container that is shared counts as often as it can be reached

# How the size of what follows such an opcode is written.
SIZES = {b"X": "<I", b"\x8c": "<B", b"\x8d": "<Q", b"B": "<I", b"C": "<B", b"\x8e": "<Q", b"\x8a": "<B"}


def load(path: str | os.PathLike[str]) -> Any:
    r"""What `torch.save` put into a file, with NumPy arrays as tensors.

    Read are tensors and parameters in dicts, OrderedDicts (which become dicts), lists, tuples and sets, with numbers,
    strings, bytes and None. Dtypes and strides are kept, tensors that share memory share it again; bfloat16, which
    NumPy does not have, becomes float32, which loses nothing. Of a module save its state_dict().

    Raises OSError if the file cannot be opened (FileNotFoundError if there is none, IsADirectoryError if it is a
    folder), CheckpointError for everything that is not read: a file that is none of torch.save or only a part of one,
    that names anything else, contradicts itself, or asks for more than its size allows. Most keys of dicts are strings,
    or count from 0; of other numbers, which can be chosen to be slow, a dict or set can have some ten thousand.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.pt")
    >>> with zipfile.ZipFile(path, "w") as file:  # what torch.save({"step": 7}, path) writes
    ...     file.writestr("model/data.pkl", b"\x80\x02}X\x04\x00\x00\x00stepK\x07s.")
    >>> load(path)
    {'step': 7}
    """
    with open(path, "rb") as file:
        head = file.read(64)
        if LEGACY in head:
            raise CheckpointError(
                f"{path}: in the format that torch.save had before PyTorch 1.6, which is not read. "
                "Write it anew, where there is PyTorch: torch.save(torch.load(path, weights_only=True), path)."
            )
        if not head.startswith(b"PK"):
            raise CheckpointError(f"{path}: not a zip file, so not one of torch.save. Give another file.")
        try:
            with zipfile.ZipFile(file) as archive:
                entries = _entries(archive, os.fstat(file.fileno()).st_size)
                return _Program(entries).run()
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        except DAMAGE as error:
            raise CheckpointError(
                f"{path}: damaged, or only a part of a file ({repr(error)[:200]}). Copy it again, or give another file."
            ) from None


def _entries(archive: zipfile.ZipFile, file_size: int) -> dict[str, bytes]:
    """All entries by their names below the one folder of a torch file."""
    infos = archive.infolist()
    compressed = any(info.compress_type or info.compress_size != info.file_size for info in infos)
    if compressed or sum(info.file_size for info in infos) > file_size:
        raise CheckpointError(
            "its entries are compressed, or declared larger than the file; torch.save does neither. Give another file."
        )
    programs = [info.filename for info in infos if info.filename.endswith("/data.pkl")]
    if len(programs) != 1 or len({info.filename for info in infos}) < len(infos):
        raise CheckpointError(
            f"a zip file with {len(programs)} entries data.pkl and {len(infos)} entries in all; torch.save writes "
            "one, and each name once. Give another file."
        )
    folder = programs[0].removesuffix("data.pkl")
    return {info.filename.removeprefix(folder): archive.read(info) for info in infos}


@dataclass(frozen=True)
class _Name:
    """Something in PyTorch or Python that the program names."""

    path: str


@dataclass(frozen=True)
class _Storage:
    """The numbers of one entry, which tensors are views of."""

    kind: str
    key: str
    size: int


class _Program:
    """The interpreter of data.pkl; what the opcodes mean is written in Python's pickletools.

    On the stack are values of the types that `load` returns, and names and storages, which it does not return.
    """

    def __init__(self, entries: dict[str, bytes]) -> None:
        self.entries = entries
        self.code = entries["data.pkl"]
        self.at = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # for every open mark the stack under it
        self.memo: list[Any] = []
        self.texts: dict[str | bytes, Any] = {}  # equal ones are the same, so that comparing them is a glance
        self.paid = 0
        self.compared = 0
        self.arrays: dict[tuple[str, str], Array] = {}
        self.swapped = {b"little": False, b"big": True}[entries.get("byteorder", b"little")]

    def run(self) -> Any:
        """Run to the end, and return what is there to return."""
        while (opcode := self.take(1)) != b".":
            self.step(opcode)
        [value] = self.stack
        _check(value, {})
        return value

    # ------------------------------------------------------------------------------------------------- the program
    def take(self, size: int) -> bytes:
        """Give the next bytes of the program."""
        start, self.at = self.at, self.at + size
        if self.at > len(self.code):
            raise CheckpointError("data.pkl ends too early; only a part of a file. Copy it again.")
        return self.code[start : self.at]

    def number(self, form: str) -> Any:
        """Give the next number of the program."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """Give the text up to the next end of line."""
        return self.take(self.code.index(b"\n", self.at) + 1 - self.at)[:-1].decode()

    def step(self, opcode: bytes) -> None:
        """Do what one opcode says."""
        push, pop = self.stack.append, self.stack.pop
        match opcode:
            # values
            case b"N":
                push(None)
            case b"\x88" | b"\x89":
                push(opcode == b"\x88")
            case b"J":
                push(self.number("<i"))
            case b"K":
                push(self.number("<B"))
            case b"M":
                push(self.number("<H"))
            case b"G":
                push(self.number(">d"))
            case b"\x8a":  # an integer of up to 255 bytes
                push(int.from_bytes(self.sized(opcode), "little", signed=True))
            case b"X" | b"\x8c" | b"\x8d":
                push(self.text(self.sized(opcode).decode("utf-8", "surrogatepass")))
            case b"B" | b"C" | b"\x8e":
                push(self.text(self.sized(opcode)))
            # containers
            case b"}":
                push({})
            case b"]":
                push([])
            case b")":
                push(())
            case b"\x8f":
                push(self.set_of([]))
            case b"\x85" | b"\x86" | b"\x87":
                n = opcode[0] - 0x84
                self.stack[-n:] = [tuple(self.stack[-n:])]
            case b"(":
                self.below.append(self.stack)
                self.stack = []
            case b"t":
                values = self.pop_mark()
                self.stack.append(tuple(values))
            case b"a" | b"e":
                values = [pop()] if opcode == b"a" else self.pop_mark()
                self.top(list).extend(values)
            case b"s" | b"u":
                values = [pop(), pop()][::-1] if opcode == b"s" else self.pop_mark()
                filled = self.top(dict)
                for key, value in zip(values[::2], values[1::2], strict=True):
                    filled[self.key(key, filled)] = value
            case b"\x90":
                values = self.pop_mark()
                self.fill(self.top(set), values)
            # the memo
            case b"q":
                self.memorise(self.number("<B"))
            case b"r":
                self.memorise(self.number("<I"))
            case b"\x94":
                self.memorise(len(self.memo))
            case b"h":
                push(self.memo[self.number("<B")])
            case b"j":
                push(self.memo[self.number("<I")])
            # names and what is made of them
            case b"c":
                push(_name(self.line(), self.line()))
            case b"\x93":
                name, module = pop(), pop()
                push(_name(module, name))
            case b"Q":
                push(_storage(pop()))
            case b"R":
                arguments, name = pop(), pop()
                push(self.call(name, arguments))
            case b"b":  # the _metadata of a state_dict(): versions of modules, nothing of which is needed
                if not type(pop()) is type(self.stack[-1]) is dict:
                    raise CheckpointError("it restores an object. Save a state_dict(): tensors in plain containers.")
            # the frame of it all
            case b"\x80":
                self.take(1)
            case b"\x95":
                self.take(8)
            case _:
                raise CheckpointError(
                    f"data.pkl has the opcode {opcode!r}, which torch.save does not need for tensors in plain "
                    "containers. Save a state_dict()."
                )

    def sized(self, opcode: bytes) -> bytes:
        """Give the next bytes, before which stands how many they are."""
        return self.take(self.number(SIZES[opcode]))

    def pop_mark(self) -> list[Any]:
        """Take off what has been put on the stack since the last mark."""
        values, self.stack = self.stack, self.below.pop()
        return values

    def top(self, kind: type) -> Any:
        """Give what is on top of the stack, which must be of this kind."""
        if type(self.stack[-1]) is not kind:
            raise CheckpointError(f"data.pkl fills a {type(self.stack[-1]).__name__} as if it was a {kind.__name__}.")
        return self.stack[-1]

    def memorise(self, i: int) -> None:
        """Keep what is on top of the stack as number i; a pickle counts from 0."""
        if i > len(self.memo):
            raise CheckpointError("data.pkl leaves out numbers of its memo. Copy the file again.")
        self.memo[i : i + 1] = [self.stack[-1]]

    # -------------------------------------------------------------------------------------------- what it may cost
    def pay(self, amount: int) -> None:
        """Pay for something that is made of what is already there: not more in all than the program has bytes."""
        self.paid += amount
        if self.paid > len(self.code):
            raise CheckpointError("it makes more than it contains. Do not trust this file.")

    def text(self, value: str | bytes) -> Any:
        """Give the one text or bytes that equal `value`."""
        return self.texts.setdefault(value, value)

    def set_of(self, values: list[Any]) -> set[Any]:
        """Make a set, which takes 4 bytes of the program (and 216 of memory) even if it is empty."""
        self.pay(4 + len(values))
        return self.fill(set(), values)

    def fill(self, made: set[Any], values: list[Any]) -> set[Any]:
        """Add the values to a set."""
        for value in values:
            made.add(self.key(value, made))
        return made

    def key(self, value: Any, container: Any) -> Any:
        """Give `value`, if it can be a key: something plain, or a tuple of that; hashing deep tuples can end Python.

        A dict looks for a key where its hash says, and goes on while there are others. Hashes of texts are not known
        beforehand, and 0, 1, 2, ... in this order do not meet; but other numbers can be chosen such that each of them
        goes past all that are there. So many are counted.
        """
        parts = value if type(value) is tuple else (value,)
        if len(parts) > MAX_PARTS:
            raise CheckpointError(f"a key of it is a tuple of {len(parts)} parts; not more than {MAX_PARTS} are read.")
        for part in parts:
            if part is not None and type(part) not in (str, bytes, int, float, bool):
                raise CheckpointError(f"a key of it is a {type(part).__name__}; keys are strings, numbers or the like.")
        known = [part for part in parts if type(part) not in (str, bytes) or not part]
        if (known or not parts) and (value != len(container) or value in container):
            self.compared += len(container)
            if self.compared > MAX_COMPARED:
                raise CheckpointError(
                    "it has dicts or sets with too many keys that are numbers, which could take forever. "
                    "Save them as a tensor, or with strings as keys."
                )
        return value

    # --------------------------------------------------------------------------------------------------- the calls
    def call(self, name: Any, arguments: Any) -> Any:
        """Do what a call of one of the CALLED would do.

        Of what comes from the file nothing is compared or printed before its type is known: it may be a view that would
        be huge as an array, or a tuple that contains another one twice, and that one another one twice, and so on.
        """
        match getattr(name, "path", None), arguments:
            case "collections.OrderedDict", ():
                return {}
            case "builtins.bytes", ():
                return b""
            case "builtins.set", (list() as values,):
                return self.set_of(values)
            case "_codecs.encode", (str() as text, str() as encoding) if encoding == "latin1":
                self.pay(len(text))
                return self.text(text.encode("latin1"))
            case "torch._utils._rebuild_parameter", (np.ndarray() as array, bool(), dict()):
                return array
            case "torch._utils._rebuild_tensor_v2", (_Storage() as storage, *view, bool(), dict()):
                if storage.kind != UNTYPED:
                    return self.tensor(storage, STORAGES[storage.kind], *view)
            case "torch._utils._rebuild_tensor_v3", (_Storage() as storage, *view, bool(), dict(), _Name(path=dtype)):
                if storage.kind == UNTYPED and dtype in LATER_DTYPES:
                    return self.tensor(storage, LATER_DTYPES[dtype], *view)
        raise CheckpointError(
            f"it calls {getattr(name, 'path', type(name).__name__)} in a way that is not read: conjugated or negated "
            "tensors, say, which are to be saved after .resolve_conj() and .resolve_neg()."
        )

    def tensor(self, storage: _Storage, dtype: str, *view: Any) -> Array:
        """The view of a storage that a tensor is: where it begins, its size and its strides, in elements."""
        kinds = [type(part) for part in view]
        if kinds != [int, tuple, tuple] or any(type(n) is not int for part in view[1:] for n in part):
            raise CheckpointError("the shape of a tensor is not made of integers. Copy the file again.")
        offset, size, stride = view
        if not len(size) == len(stride) <= MAX_DIMENSIONS or not all(0 <= n < 2**63 for n in (offset, *size, *stride)):
            raise CheckpointError(
                f"a tensor with {len(size)} dimensions and {len(stride)} strides is no view of a storage: they must be "
                f"as many, {MAX_DIMENSIONS} at most, and neither negative nor larger than 2^63. Copy the file again."
            )
        self.pay(16 + 2 * len(size))
        numbers = self.numbers(storage, dtype)
        if not (
            (0 in size or offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) < len(numbers))
            and prod(size) <= np.iinfo(np.intp).max // 16
        ):
            raise CheckpointError(
                f"a tensor of shape {size} with strides {stride} at offset {offset} is no view of the {len(numbers)} "
                "numbers of its storage. Copy the file again."
            )
        if 0 in size:
            return np.empty(size, numbers.dtype)
        # A dimension of size 1 has no use for its stride, so it can be anything.
        strides = [step * numbers.itemsize if n > 1 else 0 for n, step in zip(size, stride, strict=True)]
        return np.ndarray(size, numbers.dtype, numbers, offset * numbers.itemsize, strides)

    def numbers(self, storage: _Storage, dtype: str) -> Array:
        """All numbers of a storage, made only once, so that its tensors share them."""
        if (storage.key, dtype) not in self.arrays:
            self.arrays[storage.key, dtype] = self.read(storage, dtype)
        return self.arrays[storage.key, dtype]

    def read(self, storage: _Storage, dtype: str) -> Array:
        """A storage as an array of this machine's byte order, which can be written."""
        plain = np.dtype("<u2" if dtype == "bfloat16" else "u1" if dtype == "?" else f"<{dtype}")
        raw = self.entries.get(f"data/{storage.key}")
        bytes_declared = storage.size * (1 if storage.kind == UNTYPED else plain.itemsize)
        if raw is None or len(raw) != bytes_declared:
            there = "missing" if raw is None else f"{len(raw)} bytes"
            raise CheckpointError(
                f"the storage {storage.key[:200]!r} should be {bytes_declared} bytes, but is {there}. "
                "Copy the file again."
            )
        numbers = np.frombuffer(raw, plain.newbyteorder() if self.swapped else plain).astype(plain.newbyteorder("="))
        if dtype == "bfloat16":
            return (numbers.astype(np.uint32) << 16).view(np.float32)  # its bits are the upper half of float32's
        return numbers != 0 if dtype == "?" else numbers  # NumPy counts on it that a bool is 0 or 1


def _name(module: Any, name: Any) -> _Name:
    """Take up a name, if it is one of the KNOWN."""
    if type(module) is not str or type(name) is not str:
        raise CheckpointError("a name in it is not a text. Copy the file again.")
    path = f"{module}.{name}".replace("__builtin__.", "builtins.", 1)
    if path not in KNOWN:
        raise CheckpointError(
            f"it needs {path[:200]}, and nothing is read but tensors in dicts, lists, tuples and sets, numbers and "
            "strings. If you trust it, load it with PyTorch and save a state_dict()."
        )
    return _Name(path)


def _storage(described: Any) -> _Storage:
    """Take up a storage: ("storage", its class, its entry, its device, how many numbers it has)."""
    match described:
        case (str() as what, _Name(path=kind), str() as key, str(), int() as size):
            if what == "storage" and kind in {UNTYPED, *STORAGES}:
                return _Storage(kind, key, size)
    raise CheckpointError("it refers to something that is not a storage of numbers. Give another file.")


def _check(value: Any, known: dict[int, tuple[int, int]], depth: int = 0) -> tuple[int, int]:
    """Give depth and number of paths of what has been read, or refuse it: for size, for depth (and so for cycles)."""
    if type(value) not in (dict, list, tuple, set):
        if value is not None and type(value) not in (str, bytes, int, float, bool, np.ndarray):
            raise CheckpointError("it contains a class or a storage. Save a state_dict().")
        return 0, 1
    if not value:
        return 1, 1
    if id(value) not in known and depth <= MAX_DEPTH:
        children = value.values() if type(value) is dict else value
        below = [_check(child, known, depth + 1) for child in children]
        known[id(value)] = 1 + max((d for d, _ in below), default=0), 1 + sum(n for _, n in below)
    deep, paths = known.get(id(value), (MAX_DEPTH + 1, 0))
    if deep > MAX_DEPTH or paths > MAX_PATHS:
        raise CheckpointError("its containers are nested too deeply, or in themselves, or shared too often.")
    return deep, paths
