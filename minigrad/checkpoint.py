"""Checkpoints: named tensors and JSON in one safetensors file, which is replaced as a whole or not at all.

A run that is interrupted at any moment, or whose disk is full, leaves the previous checkpoint as it was. Reading one
runs no code, whoever wrote it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .arguments import unwrap
from .core import Array

VERSION = 1  # of what is in the metadata; a reader must refuse versions that it does not know
_VERSION_KEY, _META_KEY = "minigrad_checkpoint", "meta"


class CheckpointError(ValueError):
    """A file that cannot be read as a checkpoint."""


def save(path: str | os.PathLike[str], tensors: Mapping[str, Any], meta: Any = None) -> None:
    """Write tensors (or arrays) and `meta`, anything that fits into JSON, into one file.

    It is written beside `path`, brought to the disk and then renamed, so that at any moment there is either the old
    file or the new one. Raises TypeError for what cannot be stored, OSError if it cannot be written; the old file
    survives.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "model.safetensors")
    >>> save(path, {"w": np.eye(2)}, {"step": 7})
    >>> load(path)
    ({'w': array([[1., 0.],
           [0., 1.]])}, {'step': 7})
    """
    if isinstance(path, Mapping):
        raise TypeError("save(): the path comes first, unlike in PyTorch: save(path, tensors, meta)")
    path = Path(path)
    arrays = {name: _storable(name, unwrap(tensor)) for name, tensor in tensors.items()}
    metadata = {_VERSION_KEY: str(VERSION), _META_KEY: json.dumps(meta)}
    data = safetensors.numpy.save(arrays, metadata)
    temporary = path.with_name(f"{path.name}.tmp")  # in the same folder: a rename is atomic within one file system
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Array], Any]:
    """The arrays and the `meta` of a checkpoint; as always with JSON, tuples have become lists and keys strings.

    Raises FileNotFoundError if there is no such file, CheckpointError if it is not a whole checkpoint.
    """
    with open(path, "rb"):
        pass  # whatever the operating system has to say about the file, it says here
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_version(path, metadata)
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, json.loads(metadata[_META_KEY])
    except (safetensors.SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint, or only a part of one ({error}). It was cut short while it was copied, or was "
            "never a checkpoint. Give another file, or train anew."
        ) from None


def _storable(name: str, value: Any) -> Array:
    array = np.asarray(value, order="C")
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise TypeError(
            f"save(): {name!r} is of dtype {array.dtype}; save floats and integers of up to 64 bits, or bool"
        )
    return array


def _check_version(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
    version = metadata.get(_VERSION_KEY)
    if version is None:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a checkpoint of minigrad: the metadata has no {_VERSION_KEY!r}. "
            "Read it with safetensors.numpy.load_file, and pass the arrays to load_state_dict()."
        )
    if version != str(VERSION):
        raise CheckpointError(
            f"{path}: a checkpoint in version {version} of the format; this minigrad reads version {VERSION}. "
            "Install the minigrad that wrote it."
        )


def _sync_folder(folder: Path) -> None:
    """Bring the renaming itself to the disk, as far as system and file system can; it has been done in any case."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
