"""Files of torch.save come back as PyTorch reads them; hostile, damaged and foreign ones say so, and run nothing."""

import io
import math
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import torchfile
from minigrad.checkpoint import CheckpointError
from tests import oracle
from tests.pickles import (
    BRANCHES,
    HOOKS,
    HUGE,
    NUMBERS,
    PARAMETER,
    TENSOR,
    Call,
    Code,
    Name,
    Stored,
    pickled,
    tensor,
    write,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.pt"


# --------------------------------------------------------------------------------------------------- what is read
def test_tensors_in_containers(path):
    value = {
        "w": tensor(),
        "turned": tensor((3, 2), (1, 3)),
        "column": tensor((2,), (3,), 2),
        "p": Call(PARAMETER, (tensor(), True, HOOKS)),
        "one": tensor((), (), 5),
        "none": tensor((0, 7), (7, 1)),
        "odd stride of a single row": tensor((1, 2), (10**9, 1)),
    }
    loaded = mg.torchfile.load(write(path, value))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = {"w": x, "turned": x.T, "column": x[:, 2], "p": x, "one": x[1, 2], "none": np.zeros((0, 7))}
    expected["odd stride of a single row"] = x[:1, :2]
    assert list(loaded) == list(value)
    for name, array in expected.items():
        assert loaded[name].dtype == np.float32
        np.testing.assert_array_equal(loaded[name], array, strict=name != "none")
    loaded["w"][1, 2] = 7.0
    assert loaded["column"][1] == loaded["p"][1, 2] == 7.0  # they share memory, as in PyTorch


def test_plain_values(path):
    value = {
        "numbers": [0, 255, -1, 2**200, -(2**63)],
        "texts": ("", "ä", "a" * 300),
        "others": [None, True, False, {}, [], ()],
        "bytes": [Call(Name("_codecs", "encode"), ("\xff", "latin1")), Call(Name("__builtin__", "bytes"), ())],
        "set": Call(Name("__builtin__", "set"), ([1, (2, "x")],)),
        3: HOOKS,
    }
    read = {"bytes": [b"\xff", b""], "set": {1, (2, "x")}, 3: {}}
    assert torchfile.load(write(path, value)) == value | read


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(path, protocol):
    value = {"a": [1, 300, 70000, -5, 2**70, 1.5, math.inf], "b": (1, 2, 3, 4), "c": {"x", ("y", 2)}, "d": b"z" * 300}
    value |= {"e": "é" * 300, "f": [[], {}, (), (1,), (1, 2)], "g": [True, False, None], "h": value["b"], "i": set()}
    code = pickle.dumps(value, protocol=protocol)
    assert torchfile.load(write(path, entries={"data.pkl": code})) == value


def test_bytes_in_the_other_order_and_bools_that_are_neither(path):
    turned = np.arange(6, dtype=">f4").tobytes()
    loaded = torchfile.load(write(path, tensor(), **{"byteorder": b"big", "data/0": turned}))
    np.testing.assert_array_equal(loaded, np.arange(6, dtype=np.float32).reshape(2, 3), strict=True)
    loaded = torchfile.load(write(path, tensor((2,), (1,), kind="BoolStorage", size=2), **{"data/0": b"\x02\x00"}))
    assert loaded.view(np.uint8).tolist() == [1, 0]


def test_bfloat16(path):
    numbers = np.array([1.0, -2.5, np.inf, 2.0**-126], np.float32)
    half = (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
    loaded = torchfile.load(write(path, tensor((4,), (1,), 0, 4, "BFloat16Storage"), **{"data/0": half}))
    np.testing.assert_array_equal(loaded, numbers, strict=True)


# --------------------------------------------------------------------------------------------- as PyTorch reads it
DTYPES = ["float64", "float32", "float16", "bfloat16", "complex64", "complex128", "bool", "uint8", "int8", "int16"]
DTYPES += ["int32", "int64", "uint16", "uint32", "uint64"]
plain = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)),
    st.sets(st.integers(), max_size=3),
)


@st.composite
def tensors(draw):
    """Described only, because torch may not be there: dtype, shape, seed, and what makes a view of it."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    view = draw(st.sampled_from(["", "T", "slice", "expand", "parameter"]))
    return ("tensor", draw(st.sampled_from(DTYPES)), shape, draw(st.integers(0, 99)), view)


states = st.recursive(
    plain | tensors(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


def made(state: Any, torch: Any) -> Any:
    match state:
        case ("tensor", str() as dtype, tuple() as shape, int() as seed, str() as view):
            numbers = np.random.default_rng(seed).integers(0, 100, shape)
            x = torch.tensor(numbers).to(getattr(torch, dtype))
            if view == "parameter" and x.is_floating_point():
                return torch.nn.Parameter(x)
            if view == "slice" and shape:
                return x[1:]
            return (
                x.permute(tuple(range(x.ndim))[::-1]) if view == "T" else x.expand(2, *shape) if view == "expand" else x
            )
        case dict():
            return {key: made(value, torch) for key, value in state.items()}
        case list() | tuple():
            return type(state)(made(value, torch) for value in state)
    return state


def assert_same(ours: Any, theirs: Any, torch: Any) -> None:
    if isinstance(theirs, torch.Tensor):
        theirs = theirs.detach()
        theirs = (theirs.float() if theirs.dtype == torch.bfloat16 else theirs).numpy()
        np.testing.assert_array_equal(ours, theirs, strict=True)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key], torch)
    elif isinstance(theirs, list | tuple):
        assert type(ours) is type(theirs)
        for mine, their in zip(ours, theirs, strict=True):
            assert_same(mine, their, torch)
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs or (math.isnan(ours) and math.isnan(theirs))


@given(states, st.sampled_from([2, 2, 3]))
def test_equals_torch_load(tmp_path_factory, state, protocol):
    torch = oracle.torch()
    path = tmp_path_factory.mktemp("state") / "state.pt"
    torch.save(made(state, torch), path, pickle_protocol=protocol)
    assert_same(torchfile.load(path), torch.load(path, weights_only=False), torch)  # True refuses b""


def test_a_module_and_its_optimiser(path, rng):
    torch = oracle.torch()
    model = torch.nn.TransformerEncoderLayer(8, 2, 16)
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3, 8)).backward(torch.from_numpy(rng.standard_normal((1, 3, 8))).float())
    optimiser.step()
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": 9}
    torch.save(state, path)
    assert_same(torchfile.load(path), state, torch)


# ---------------------------------------------------------------------------------------------- what is not read
def refused(path) -> str:
    with pytest.raises(CheckpointError) as error:
        torchfile.load(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def hostile(marker) -> dict[str, Any]:
    """Pickles that make the file `marker` where somebody runs them."""
    text, command = f"open({str(marker)!r}, 'w').close()", f"touch {marker}"
    exec_, system = Name("builtins", "exec"), Name("posix", "system")
    return {
        "REDUCE": Call(exec_, (text,)),
        "another": Call(system, (command,)),
        "within": {"w": [Call(exec_, (text,))]},
        "NEWOBJ": Code(pickled(exec_) + pickled((text,)) + b"\x81"),
        "INST": Code(b"(" + pickled(text) + b"ibuiltins\nexec\n"),
        "OBJ": Code(b"(" + pickled(exec_) + pickled(text) + b"o"),
        "STACK_GLOBAL": Code(pickled("builtins") + pickled("exec") + b"\x93" + pickled((text,)) + b"R"),
        "BUILD": Code(pickled(HOOKS) + pickled((None, {"__setstate__": exec_})) + b"b"),
        "a method": Call(Name("torch._utils", "_rebuild_tensor_v2.__globals__.get"), ("exec",)),
        "through bytes": Call(Name("_codecs", "encode"), (text, "exec")),
        "EXT1": Code(b"\x82\x01"),
    }


@pytest.mark.parametrize("kind", hostile(""))
def test_nothing_runs(kind, path, tmp_path):
    marker = tmp_path / "marker"
    message = refused(write(path, hostile(marker)[kind]))
    assert "needs builtins.exec" in message or kind not in ("REDUCE", "within", "NEWOBJ", "STACK_GLOBAL")
    assert not marker.exists()


def test_the_hostile_pickles_are_real(path, tmp_path):
    marker = tmp_path / "marker"
    for kind in ("REDUCE", "STACK_GLOBAL", "INST", "OBJ"):
        pickle.loads(b"\x80\x02" + pickled(hostile(marker)[kind]) + b".")
        assert marker.exists(), kind
        marker.unlink()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Name("os", "system"), "needs os.system, and nothing is read but tensors"),
        (Call(Name("torch._utils", "_rebuild_sparse_tensor"), ()), "needs torch._utils._rebuild_sparse_tensor"),
        (Name("torch", "FloatStorage"), "contains a class or a storage"),
        ([Stored(("storage", Name("torch", "FloatStorage"), "0", "cpu", 6))], "contains a class or a storage"),
        (Stored(("module", "x")), "refers to something that is not a storage"),
        (tensor(more=({"conj": True},)), "calls torch._utils._rebuild_tensor_v2 in a way that is not read"),
        (Call(Name("collections", "OrderedDict"), ([],)), "calls collections.OrderedDict in a way"),
        (Call(7, ()), "calls int in a way"),
        (tensor(kind="LongStorage"), "the storage '0' should be 48 bytes, but is 24 bytes"),
        (tensor(size=10**15), "should be 4000000000000000 bytes, but is 24 bytes"),
        (tensor(size=-6), "should be -24 bytes"),
        (tensor(key="../../etc/passwd"), "the storage '../../etc/passwd' should be 24 bytes, but is missing"),
        (tensor(offset=1), "shape (2, 3) with strides (3, 1) at offset 1 is no view of the 6 numbers"),
        (tensor(offset=-1), "is no view"),
        (tensor((3, 3)), "is no view"),
        (tensor((-2, 3)), "is no view"),
        (tensor((2, 3), (-3, 1)), "is no view"),
        (tensor((2, 3), (4, 1)), "is no view"),
        (tensor((2, True)), "shape of a tensor is not made of integers"),
        (tensor((10**9,), ([0],)), "not made of integers"),  # and not a list of 10**9 elements
        (tensor(BRANCHES), "not made of integers"),
        (tensor(HUGE), "not made of integers"),
        (Call(Name("_codecs", "encode"), ("x", HUGE)), "calls _codecs.encode in a way"),
        (Stored((HUGE, Name("torch", "FloatStorage"), "0", "cpu", 6)), "refers to something that is not a storage"),
        (Stored(BRANCHES), "refers to something that is not a storage"),
        (Code(pickled(BRANCHES) + pickled("x") + b"\x93"), "a name in it is not a text"),
        (Code(pickled("torch") + pickled(HUGE) + b"\x93"), "a name in it is not a text"),
        ({BRANCHES: 1}, "a key of it is a tuple"),
        (Code(b"}" + pickled(HUGE) + b"Ns"), "a key of it is a ndarray"),
        (tensor((2**40, 2**40), (0, 0)), "is no view"),
        (tensor((0, 2**62, 2**62), (1, 1, 1)), "damaged"),
        (tensor((1,) * 65, (1,) * 65), "a tensor with 65 dimensions and 65 strides is no view"),
        (tensor((2, 3), (3,)), "a tensor with 2 dimensions and 1 strides is no view"),
        (tensor("ab", "cd"), "not made of integers"),
        (Call(PARAMETER, ([1], True, HOOKS)), "calls torch._utils._rebuild_parameter in a way"),
        ({(1, (2,)): 3}, "a key of it is a tuple"),
        (Code(b"}" + pickled([]) + b"Ns"), "a key of it is a list"),
        (Code(b"}Na"), "fills a dict as if it was a list"),
        (Code(b")]b"), "restores an object"),
        (Code(b"I1\n"), "has the opcode b'I', which torch.save does not need"),
        (Code(b"a"), "damaged"),
        (Code(b"h\x07"), "damaged"),
        (Code(b"NN"), "damaged"),
        (Code(b"t"), "damaged"),
        (Code(b"X\xff\xff\xff\xffabc"), "ends too early; only a part of a file"),
        (Code(b"\x8d" + b"\xff" * 8 + b"abc"), "ends too early"),
        (Code(b"X\x01\x00\x00\x00\xff"), "damaged"),
        (Code(b"r\xff\xff\xff\xff"), "leaves out numbers of its memo"),
        (Code(b"]q\x00h\x00a"), "nested too deeply, or in themselves"),
        (Code(b"]" * 101 + b"a" * 100), "nested too deeply"),
        (Code(b"](" + b")" + b"\x85" * 100_000 + b"e"), "nested too deeply"),
        (Code(b"}(" + b")" + b"\x85" * 100_000 + b"Nu"), "a key of it is a tuple"),
        (Code(b"N0"), "opcode b'0'"),
        (BRANCHES, "shared too often"),
        (
            Code(b"](c_codecs\nencode\n" + pickled(("x" * 999, "latin1")) + b"q\x00Rc_codecs\nencode\nh\x00Re"),
            "makes more than it contains",
        ),
    ],
)  # fmt: skip
def test_contradictions(value, message, path):
    assert message in refused(write(path, value))


def test_expanded_tensors_are_views(path):
    loaded = torchfile.load(write(path, HUGE))
    assert loaded.shape == (10**8, 10**8)
    assert loaded.base.nbytes == 24  # they cost nothing, until somebody copies them


def test_other_files(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        torchfile.load(path)
    for data in (b"", b"hello", b"\x80\x02}.", b"PK", b"PK\x03\x04" + bytes(100)):
        path.write_bytes(data)
        assert ("so not one of torch.save" in refused(path)) == (data[:2] != b"PK")
    path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
    assert "in the format that torch.save had before PyTorch 1.6" in refused(path)
    assert "a zip file with 0 entries data.pkl" in refused(write(path, entries={"x": b""}))
    assert "2 entries data.pkl" in refused(write(path, 1, **{"x/data.pkl": b""}))
    assert "damaged" in refused(write(path, 1, byteorder=b"middle"))


def test_legacy_files_of_torch(path):
    torch = oracle.torch()
    torch.save({"x": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert "before PyTorch 1.6" in refused(path)


def test_zip_bombs(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model/data.pkl", pickled("x" * 10**6) + b".")
    assert "its entries are compressed" in refused(path)
    write(path, tensor())
    data = path.read_bytes()
    for width in (1, 2, 3):  # the sizes in the directory at the end, larger than they are
        at = data.rindex(b"PK\x01\x02") + 20
        path.write_bytes(data[:at] + bytes([0xF0] * width) + data[at + width : at + 4] + data[at + 4 :])
        refused(path)
        path.write_bytes(data[: at + 4] + bytes([0xF0] * width) + data[at + 4 + width :])
        refused(path)


def test_a_name_that_is_there_twice(path):
    with zipfile.ZipFile(write(path, tensor()), "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("model/data/0", b"")
    assert "each name once" in refused(path)


def test_every_truncation(path):
    data = write(path, {"w": tensor()}).read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        refused(path)


# ------------------------------------------------------------------------------------------------------ at random
def example_entries() -> dict[str, bytes]:
    value = {"w": tensor(), "p": Call(PARAMETER, (tensor((3, 2), (1, 3)), True, HOOKS)), "set": [1, ("x", 2.5 > 2)]}
    return {"data.pkl": b"\x80\x02" + pickled(value) + b".", "byteorder": b"little", "data/0": NUMBERS}


def torch_entries() -> dict[str, bytes]:
    torch = oracle.torch()
    buffer = io.BytesIO()
    x = torch.arange(6.0).reshape(2, 3)
    layer = torch.nn.Linear(2, 2)
    torch.save({"layer": layer.state_dict(), "x": [x, x.T, x.bfloat16(), layer.weight], "b": b"ab", "s": {1}}, buffer)
    with zipfile.ZipFile(buffer) as file:
        return {name.partition("/")[2]: file.read(name) for name in file.namelist()}


def read_or_refuse(path, marker) -> None:
    try:
        torchfile.load(path)
    except CheckpointError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017 - reading is as good
    assert not marker.exists()


change = st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3), st.integers(0, 3))
changes = st.lists(change, min_size=1, max_size=4)


def changed(data: bytes, changes: list[tuple[float, bytes, int]]) -> bytes:
    """At some places some bytes instead of some others."""
    for place, new, removed in changes:
        at = int(place * len(data))
        data = data[:at] + new + data[at + removed :]
    return data


@pytest.mark.parametrize("entries", [example_entries, torch_entries])
@pytest.mark.parametrize("part", ["data.pkl", "byteorder", "data/0", "all"])
def test_changed_files(entries, part, tmp_path):
    path, marker = tmp_path / "model.pt", tmp_path / "marker"
    originals = entries()

    @given(changes)
    def check(changes):
        if part == "all":
            path.write_bytes(changed(write(path, entries=originals).read_bytes(), changes))
        else:
            write(path, entries=originals | {part: changed(originals[part], changes)})
        read_or_refuse(path, marker)

    check()


def pieces(marker) -> st.SearchStrategy[bytes]:
    """Opcodes and values, hostile ones among them, of which any order may come."""
    values = [tensor(), tensor(key="1"), Call(PARAMETER, (tensor(), True, HOOKS)), HOOKS, Name("torch", "LongStorage")]
    values += [Name("collections", "OrderedDict"), TENSOR, PARAMETER, Name("_codecs", "encode"), "latin1", 2**62, -1]
    values += [Name("builtins", "set"), *hostile(marker).values(), HUGE, BRANCHES]
    opcodes = [bytes([i]) for i in (*b"N\x88\x89}])(\x8f\x85\x86\x87taesu\x90\x94QRb02", 0x81, 0x93)]
    memo = [b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"K\x07", b"J\xff\xff\xff\xff"]
    return st.lists(st.sampled_from([*opcodes, *opcodes, *memo, *map(pickled, values)]), max_size=30).map(b"".join)


def test_random_programs(tmp_path):
    path, marker = tmp_path / "model.pt", tmp_path / "marker"

    @given(pieces(marker))
    def check(code):
        read_or_refuse(write(path, entries={"data.pkl": code + b".", "data/0": NUMBERS}), marker)

    check()


def test_random_numbers_for_a_tensor(tmp_path):
    path = tmp_path / "model.pt"
    numbers = st.integers(-2, 7) | st.sampled_from([2**31, 2**62, 2**63, -(2**63)])
    geometry = st.lists(st.tuples(numbers, numbers), max_size=3)

    @given(geometry, numbers)
    def check(geometry, offset):
        shape, stride = tuple(n for n, _ in geometry), tuple(s for _, s in geometry)
        try:
            array = torchfile.load(write(path, tensor(shape, stride, offset)))
        except CheckpointError:
            return
        low, high = np.lib.array_utils.byte_bounds(array)
        assert array.shape == shape
        assert array.size == 0 or high - low <= 24 - 4 * offset

    check()
