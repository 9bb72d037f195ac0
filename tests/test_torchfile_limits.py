"""Files that ask for much more than they contain are refused before it is done: counted, not timed."""

import tracemalloc
import zipfile
from contextlib import suppress
from typing import Any

import pytest

from minigrad import torchfile
from minigrad.checkpoint import CheckpointError
from tests import oracle
from tests.pickles import HOOKS, NUMBERS, Call, Code, Name, pickled, tensor, write

SET, BYTES = Name("builtins", "set"), Name("_codecs", "encode")
LARGE = 2**2000 - 1


def refused(path) -> str:
    with pytest.raises(CheckpointError) as error:
        torchfile.load(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value).removeprefix(f"{path}: ")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


# --------------------------------------------------------------------------------------------- numbers of a tensor
@pytest.mark.parametrize(
    ("shape", "stride", "offset"),
    [
        ((0, *[LARGE] * 60), (1,) * 61, 0),
        ((1,), (LARGE,), 0),
        ((1,), (1,), LARGE),
        ((0,) * 5000, (0,) * 5000, 0),
        ((0,), (0,) * 5000, 0),
    ],
)
def test_nothing_is_computed_or_printed_of_absurd_numbers(shape, stride, offset, path, monkeypatch):
    write(path, tensor(shape, stride, offset))
    monkeypatch.setattr(torchfile, "prod", None)  # not even called
    message = refused(path)
    assert "is no view of a storage: they must be as many, 64 at most" in message
    assert len(message) < 250


def test_the_largest_numbers_that_are_computed_with(path):
    assert torchfile.load(write(path, tensor((1,) * 64, (2**63 - 1,) * 64))).shape == (1,) * 64
    message = refused(write(path, tensor((2**63 - 1,) * 64, (2**63 - 1,) * 64)))
    assert "is no view of the 6 numbers" in message
    assert len(message) < 3000


@pytest.mark.parametrize(
    "value",
    [tensor(key="k" * 10**5), Name("os", "n" * 10**5), Code(b"X\xa0\x86\x01\x00" + b"\xff" * 10**5)],
    ids=["storage", "name", "text"],
)
def test_long_texts_are_not_printed(value, path):
    assert len(refused(write(path, value))) < 500


def test_tensors_are_paid(path):
    code = pickled(tensor((1,) * 64, (1,) * 64))[:-1]  # its name and arguments, then again and again
    name, arguments = pickled(Name("torch._utils", "_rebuild_tensor_v2")), code[code.index(b"(") :]
    once = name + b"q\x00" + arguments + b"q\x01R"
    assert len(torchfile.load(write(path, Code(b"](" + once + b"e")))) == 1
    assert "makes more than it contains" in refused(write(path, Code(b"](" + once + b"h\x00h\x01R" * 99 + b"e")))


# ------------------------------------------------------------------------------------------------- keys that collide
def program(value: Any) -> torchfile._Program:
    interpreter = torchfile._Program({"data.pkl": pickled(value) + b"."})
    interpreter.run()
    return interpreter


@pytest.mark.parametrize("keys", [range(300), [f"{i}" for i in range(300)], [(f"{i}", "x") for i in range(300)]])
def test_usual_keys_are_not_counted(keys):
    assert program([dict.fromkeys(keys), dict.fromkeys(keys), Call(SET, (list(keys),))]).compared == 0


@pytest.mark.parametrize(
    "keys",
    [
        [k * (2**61 - 1) for k in range(1, 301)],  # all of hash 0
        [k << 40 for k in range(1, 301)],  # all of the same lowest bits
        [("x", k) for k in range(300)],
    ],
)
def test_other_keys_are_counted_with_all_that_are_there(keys):
    pairs = 300 * 299 // 2
    assert program(dict.fromkeys(keys)).compared == pairs
    assert program(Call(SET, (keys,))).compared == pairs
    assert program(Code(b"\x8f(" + b"".join(map(pickled, keys)) + b"\x90")).compared == pairs


@pytest.mark.parametrize("key", [b"N", b"\x88", b")", b"X\x00\x00\x00\x00", b"K\x00"])
def test_one_key_again_and_again_is_counted(key):
    filled = pickled({"a": 1, "b": 2})
    assert program(Code(filled + (key + b"Ns") * 5)).compared == 2 + 4 * 3
    assert program(Code(pickled({1: 1, 2: 2}) + b"K\x02Ns" * 5)).compared == 1 + 5 * 2  # not the next one of 0, 1, 2


def test_too_many_of_them_are_refused(path, monkeypatch):
    write(path, {k * (2**61 - 1): 1 for k in range(1, 301)})
    assert len(torchfile.load(path)) == 300
    monkeypatch.setattr(torchfile, "MAX_COMPARED", 300 * 299 // 2 - 1)
    assert "too many keys that are numbers, which could take forever. Save them as a tensor" in refused(path)


def test_long_tuples_are_no_keys(path):
    assert torchfile.load(write(path, {(1,) * 8: 2})) == {(1,) * 8: 2}
    assert "a key of it is a tuple of 9 parts; not more than 8 are read" in refused(write(path, {(1,) * 9: 2}))


def test_equal_texts_are_the_same(path):
    text, data = "x" * 1000, Call(BYTES, ("y" * 1000, "latin1"))
    a, b, c, d, e = torchfile.load(write(path, [text, text, data, data, Code(b"B\xe8\x03\x00\x00" + b"y" * 1000)]))
    assert a is b
    assert c is d is e


def test_numbers_of_the_memo_are_those_of_a_list(path):
    assert torchfile.load(write(path, Code(b"](K\x01q\x00K\x02q\x01K\x03q\x00h\x00h\x01e"))) == [1, 2, 3, 3, 2]
    assert "leaves out numbers of its memo" in refused(write(path, Code(b"Nq\x00q\x02")))


# -------------------------------------------------------------------------------------------------------- memory
def test_sets_are_paid(path):
    once = pickled(SET) + b"q\x00" + pickled(([None] * 999,)) + b"q\x01R"
    assert torchfile.load(write(path, Code(b"](" + once + b"e"))) == [{None}]
    assert "makes more than it contains" in refused(write(path, Code(b"](" + once + b"h\x00h\x01Re")))
    assert "makes more than it contains" in refused(write(path, Code(b"](" + b"\x8f" * 100 + b"e")))
    assert torchfile.load(write(path, Code(b"](" + b"\x8fNN\x86" * 100 + b"e")))[-2:] == [set(), (None, None)]


MEMO = pickled(("storage", Name("torch", "FloatStorage"), "0", "cpu", 6)) + b"q\x00"
MEMO += pickled("torch") + b"q\x01" + pickled("FloatStorage") + b"q\x02" + pickled(HOOKS.name) + b"q\x03"
REPEATED = {
    "sets": b"\x8f",
    "sets, paid": b"\x8fNNN",
    "lists": b"]",
    "dicts": b"}",
    "full dicts": b"}NNs",
    "full lists": b"]Na",
    "tuples": b"N\x85",
    "deep tuples": b"\x85",
    "marks": b"(",
    "memo": b"\x94",
    "texts": b"\x8c\x01x",
    "storages": b"h\x00Q",
    "names": b"h\x01h\x02\x93",
    "calls": b"h\x03)R",
}


@pytest.mark.parametrize("code", REPEATED.values(), ids=REPEATED)
def test_memory_is_in_proportion(code):
    code = b"](" + (MEMO if b"h" in code else b"N") + code * (20_000 // len(code)) + b"e."
    interpreter = torchfile._Program({"data.pkl": code})
    tracemalloc.start()
    try:
        with suppress(CheckpointError, *torchfile.DAMAGE):
            interpreter.run()
        assert tracemalloc.get_traced_memory()[1] < 160 * len(code)
    finally:
        tracemalloc.stop()


def test_many_values_of_torch_are_paid_for(path):
    torch = oracle.torch()
    x = torch.ones(2, 3, 4)
    value = {"views": [x[0, 0, 0] for _ in range(999)], "own": [torch.ones(1, 1, 1, 1) for _ in range(999)]}
    value |= {
        "sets": [{i} for i in range(999)],
        "empty": [set() for _ in range(999)],
        "b": [bytes([i]) for i in range(256)],
    }
    value |= {"pairs": [(i, i) for i in range(999)], "lists": [[] for _ in range(999)], "x": [x[:] for _ in range(999)]}
    for protocol in (2, 3):
        torch.save(value, path, pickle_protocol=protocol)
        loaded = torchfile.load(path)
        assert {name: len(values) for name, values in loaded.items()} == {k: len(v) for k, v in value.items()}
        assert loaded["sets"] + loaded["empty"] + loaded["b"] == value["sets"] + value["empty"] + value["b"]


def test_entries_that_are_larger_together_than_the_file(path):
    data = bytearray(write(path, tensor(), **{"data/1": NUMBERS * 9}).read_bytes())
    claimed = (len(data) * 4 // 5).to_bytes(4, "little")  # each of them could be in it
    at = -1
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        data[at + 20 : at + 28] = claimed * 2
    path.write_bytes(data)
    with zipfile.ZipFile(path) as file:
        assert max(info.file_size for info in file.infolist()) < len(data)
    assert "declared larger than the file" in refused(path)


def test_a_folder_cannot_be_opened(tmp_path):
    with pytest.raises(OSError, match=r"directory|denied"):
        torchfile.load(tmp_path)
