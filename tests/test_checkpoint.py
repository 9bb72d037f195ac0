"""Checkpoints come back exactly; a failed save leaves the old one; a file that is none says so."""

import errno
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

import minigrad as mg
from minigrad import checkpoint, nn
from minigrad.checkpoint import CheckpointError, load, save

INTEGERS = ["int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"]
DTYPES = ["float64", "float32", "float16", *INTEGERS, "bool"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def assert_same(loaded, arrays):
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype, name
        assert loaded[name].shape == array.shape, name
        assert loaded[name].tobytes() == array.tobytes(), name  # NaN and -0.0 too


# ---------------------------------------------------------------------------------------------------- it comes back
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (5,), (2, 3, 4)])
def test_every_dtype_and_shape(shape, dtype, path, rng):
    array = np.asarray(rng.integers(0, 100, shape)).astype(dtype)
    save(path, {"x": array})
    assert_same(load(path)[0], {"x": array})


def test_bits_are_kept(path, rng):
    arrays = {
        "special": np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1.7976931348623157e308]),
        "large": np.array([2**63 - 1, -(2**63)]),
        "random": rng.integers(0, 2**63, 100).view(np.float64),
    }
    save(path, arrays)
    assert_same(load(path)[0], arrays)


def test_layouts_become_plain(path, rng):
    x = rng.standard_normal((4, 6))
    arrays = {
        "transposed": x.T,
        "sliced": x[::2, ::-1],
        "repeated": np.broadcast_to(x[0], (3, 6)),
        "big": x.astype(">f8"),
    }
    save(path, arrays)
    loaded, _ = load(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == np.float64


def test_tensors_parameters_and_names(path):
    names = ["", "a", "a.b", "ä/ö ü\n", '"', "__x__", "A" * 300]
    tensors = {name: mg.full((2,), float(i)) for i, name in enumerate(names)}
    tensors["p"] = nn.Parameter(mg.ones(2))
    save(path, tensors)
    assert_same(load(path)[0], {name: tensor.detach().numpy() for name, tensor in tensors.items()})


def test_loaded_arrays_can_be_written_and_outlive_the_file(path):
    save(path, {"x": np.ones(3)})
    x = load(path)[0]["x"]
    path.write_bytes(b"")
    x += 1
    assert x.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "meta",
    [
        None,
        {},
        "text with ümlaut and \u2028 and \x00",
        {"nested": [{"a": [1, 2.5, None, True]}, "b"], "": ""},
        [0.1, 1e-300, 2**64 + 1, -0.0, float("inf")],
        mg.random.get_state(),
    ],
)
def test_meta_comes_back(meta, path):
    save(path, {}, meta)
    tensors, loaded = load(path)
    assert tensors == {}
    assert loaded == meta
    assert json.dumps(loaded) == json.dumps(meta)


def test_model_and_optimizer_come_back(path, rng):
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    save(str(path), model.state_dict(), {"step": 3})
    other = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    tensors, meta = mg.load(str(path))
    other.load_state_dict(tensors)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name].numpy(), tensor.numpy())
    assert meta == {"step": 3}


def test_names_at_the_top():
    assert mg.save is save
    assert mg.load is load


def test_anybody_can_read_the_tensors(path):
    save(path, {"x": np.arange(3)}, {"a": 1})
    assert safetensors.numpy.load_file(path)["x"].tolist() == [0, 1, 2]


# ------------------------------------------------------------------------------------------------- a save that fails
def disk_is_full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("failure", [disk_is_full, interrupted])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_old_checkpoint_survives(function, failure, path, monkeypatch):
    save(path, {"x": np.ones(3)}, "old")
    with monkeypatch.context() as patched:
        patched.setattr(os, function, failure)
        with pytest.raises((OSError, KeyboardInterrupt)):
            save(path, {"x": np.zeros(3)}, "new")
    assert os.listdir(path.parent) == [path.name]
    tensors, meta = load(path)
    assert (tensors["x"].tolist(), meta) == ([1, 1, 1], "old")
    save(path, {"x": np.zeros(3)}, "new")
    assert load(path)[1] == "new"


def test_file_that_grows_too_large_is_no_loss(path):
    resource = pytest.importorskip("resource", reason="file size limits are POSIX")
    save(path, {"x": np.ones(3)}, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            save(path, {"x": np.zeros(100_000)}, "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(path.parent) == [path.name]
    assert load(path)[1] == "old"


def test_process_that_dies_before_the_rename_is_no_loss(path):
    save(path, {"x": np.ones(3)}, "old")
    code = (
        "import os, sys, numpy as np; from minigrad import save;"
        "os.replace = lambda *_: os._exit(9); save(sys.argv[1], {'x': np.zeros(3)}, 'new')"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 9
    assert load(path)[1] == "old"
    save(path, {"x": np.zeros(3)}, "newer")  # what the dead process left is in nobody's way
    assert os.listdir(path.parent) == [path.name]
    assert load(path)[1] == "newer"


def test_data_is_on_the_disk_before_the_rename(path, monkeypatch):
    events = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, original=original: (events.append(name), original(*a)))
    save(path, {"x": np.ones(3)})
    assert events == ["fsync", "replace", "fsync"]  # the file, the rename, the folder


@pytest.mark.parametrize(
    "value", [np.array(["a"]), np.array([1j]), np.array([None]), np.zeros(2, np.longdouble), "text"]
)
def test_what_cannot_be_stored_touches_nothing(value, path):
    save(path, {"x": np.ones(3)}, "old")
    with pytest.raises(TypeError, match=r"save\(\): 'y' is of dtype .*; save floats and integers"):
        save(path, {"x": np.zeros(3), "y": value}, "new")
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(path, {"x": np.zeros(3)}, {"array": np.zeros(3)})
    assert load(path)[1] == "old"
    assert os.listdir(path.parent) == [path.name]


def test_arguments_in_the_order_of_torch_are_an_error(path):
    with pytest.raises(TypeError, match=r"the path comes first, unlike in PyTorch: save\(path, tensors, meta\)"):
        save({"x": np.ones(3)}, path)  # pyright: ignore
    assert not path.exists()


def test_folder_that_cannot_be_synced_is_no_failure(path, monkeypatch):
    calls, fsync = [], os.fsync

    def files_only(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    save(path, {"x": np.ones(3)}, "new")
    assert len(calls) == 2
    assert load(path)[1] == "new"


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save(tmp_path / "nowhere" / "x", {})


# ---------------------------------------------------------------------------------------------- a file that is none
def test_no_part_of_a_checkpoint_is_one(path):
    save(path, {"x": np.arange(50), "y": np.ones(())}, {"step": 1})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="not a checkpoint, or only a part of one") as error:
            load(path)
        assert str(path) in str(error.value)
    path.write_bytes(whole)
    assert load(path)[1] == {"step": 1}


FOREIGN = {
    "text": b"epoch,loss\n" * 100,
    "zip": b"PK\x03\x04" + bytes(500),
    "zeros": bytes(500),
    "longer": None,
    "pickle": pickle.dumps({"x": np.ones(3)}),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_file_is_an_error_that_names_it(content, path):
    if content is None:
        save(path, {"x": np.ones(3)})
        content = path.read_bytes() + b"\0"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="Give another file, or train anew") as error:
        load(path)
    assert str(error.value).startswith(f"{path}: not a checkpoint")
    assert isinstance(error.value, ValueError)


def test_pickle_is_never_opened(path):
    class Trap:
        def __reduce__(self):
            return (os.remove, (str(path),))

    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        load(path)
    assert path.exists()


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_others_say_how_to_read_them(metadata, path):
    safetensors.numpy.save_file({"x": np.ones(3)}, path, metadata)
    with pytest.raises(CheckpointError, match=r"not a checkpoint of minigrad.*safetensors.numpy.load_file"):
        load(path)


def test_version_from_the_future(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    save(path, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"in version 2 of the format; this minigrad reads version 1\. Install"):
        load(path)


@pytest.mark.parametrize("meta", [{}, {"meta": "{"}])
def test_damaged_metadata(meta, path):
    safetensors.numpy.save_file({}, path, {"minigrad_checkpoint": "1", **meta})
    with pytest.raises(CheckpointError, match="not a checkpoint, or only a part of one"):
        load(path)


def test_missing_file(path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load(path)


def test_folder_is_not_a_file(tmp_path):
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
