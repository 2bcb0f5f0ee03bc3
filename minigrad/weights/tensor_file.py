"""Files of named arrays in the safetensors format, with a checksum.

The format (https://github.com/huggingface/safetensors) holds names, dtypes, shapes and bytes, and nothing that could run as code.
Its metadata are strings; minigrad keeps one JSON document there, under "minigrad":

    {"format": 1, "metadata": {...}, "structure": ..., "sha256": the checksum of this document and of every array}
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.device import to_numpy
from minigrad.tensor import Tensor
from minigrad.weights.atomic import write_atomically

__all__ = ["CheckpointError", "load_file", "read_metadata", "save_file"]

FORMAT = 1
BEGINNING = '{"format": '  # of the document
DTYPES = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}


class CheckpointError(ValueError):
    """A file of weights that cannot be used: truncated, damaged, foreign. The message names the file and what is wrong."""


def save_file(tensors: Mapping[str, Any], path: str | os.PathLike, metadata: dict[str, Any] | None = None) -> None:
    """Write tensors (or arrays) by name to the safetensors file ``path``, replacing it in one step.

    ``metadata``: anything that JSON can hold, given back by ``read_metadata``. Arrays of any memory order are written right.
    Raises TypeError for what is not an array of numbers, OSError (the old file is unchanged) if the file cannot be written.
    """
    write(tensors, path, {"metadata": metadata or {}})


def load_file(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, minigrad's own or another program's.

    bfloat16, which NumPy lacks, becomes float32, which holds every bfloat16 exactly.
    A file that minigrad wrote is compared with its checksum. Raises FileNotFoundError or CheckpointError.
    """
    return read(path)[0]


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """The metadata that ``save_file`` was given; an empty dictionary for another program's file. The arrays are not checked."""
    with _opened(path) as file:
        document = _document(file.metadata(), path)
    return {} if document is None else document.get("metadata", {})


def write(tensors: Mapping[str, Any], path: str | os.PathLike, document: dict[str, Any]) -> None:
    """``save_file`` with the whole JSON document."""
    from safetensors.numpy import save

    arrays = {name: _writable(name, value) for name, value in tensors.items()}
    document = json.loads(json.dumps({"format": FORMAT, **document}))  # as it will be read back
    document["sha256"] = _checksum(document, arrays)
    write_atomically(path, save(arrays, metadata={"minigrad": json.dumps(document)}))


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """The arrays and the JSON document of a file, verified; the document is None for another program's file."""
    with _opened(path) as file:
        document = _document(file.metadata(), path)
        arrays = {}
        for name in file.keys():  # noqa: SIM118 (not a dictionary)
            kind = file.get_slice(name).get_dtype()
            if kind == "BF16":
                arrays[name] = _read_bfloat16(path, name, file.get_slice(name).get_shape())
                continue
            if kind not in DTYPES:
                raise CheckpointError(f"{path}: array {name!r} has the element type {kind}, which NumPy does not have")
            arrays[name] = file.get_tensor(name)
    if document is not None:
        expected = document.pop("sha256")
        if _checksum(document, arrays) != expected:
            raise CheckpointError(f"{path} is damaged: its content does not match its checksum; use another copy")
    return arrays, document


def _read_bfloat16(path: str | os.PathLike, name: str, shape: list[int]) -> np.ndarray:
    """An array of bfloat16 as float32: its two bytes are the upper half of the four. The file's header was verified before."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(size))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + size + begin)
        halves = np.frombuffer(file.read(end - begin), "<u2")
    if halves.size != prod(shape):
        raise CheckpointError(f"{os.fspath(path)} is damaged: array {name!r} has {halves.size} elements instead of {prod(shape)}")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(shape)


def _writable(name: str, value: Any) -> np.ndarray:
    """The array in C order and the machine's byte order: the writer of safetensors trusts its input to be so.

    bfloat16, which is read as float32, is written so too.
    """
    if not isinstance(name, str) or name == "__metadata__":
        raise TypeError(f"the name of a tensor must be a string other than '__metadata__', got {name!r}")
    array = to_numpy(value.data if isinstance(value, Tensor) else value) if hasattr(value, "dtype") else None
    if array is not None and array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array is None or array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        found = f"{type(value).__name__} {getattr(value, 'dtype', '')}".rstrip()
        raise TypeError(f"{name!r} must be a tensor of numbers, got {found}")
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


class _opened:
    """``with _opened(path) as file``: a safetensors reader whose errors are CheckpointErrors that name the file."""

    def __init__(self, path: str | os.PathLike):
        self.path = path

    def __enter__(self):
        from safetensors import safe_open

        if not Path(self.path).exists():
            raise FileNotFoundError(f"there is no file {os.fspath(self.path)}")
        if not Path(self.path).is_file():
            raise CheckpointError(f"{os.fspath(self.path)} is not a file")
        try:
            self.file = safe_open(self.path, framework="np")
        except Exception as error:
            self._translate(error)
        return self.file.__enter__()

    def __exit__(self, kind, error, traceback) -> None:
        self.file.__exit__(kind, error, traceback)
        if error is not None:
            self._translate(error)

    def _translate(self, error: BaseException) -> None:
        from safetensors import SafetensorError

        if isinstance(error, SafetensorError):
            raise CheckpointError(
                f"{os.fspath(self.path)} is not a whole safetensors file ({error}): truncated, damaged, or of another kind"
            ) from None
        if isinstance(error, OSError):
            raise CheckpointError(f"{os.fspath(self.path)} cannot be read: {error.strerror or error}") from None
        raise error


def _document(metadata: dict[str, str] | None, path: str | os.PathLike) -> dict[str, Any] | None:
    """The JSON document of minigrad, or None if there is none."""
    metadata = metadata or {}
    if "minigrad" not in metadata:
        if any(value.startswith(BEGINNING) and '"sha256": ' in value for value in metadata.values()):
            raise CheckpointError(f"{path} is damaged: its metadata have lost their name")
        return None
    try:
        document = json.loads(metadata["minigrad"])
        version = document["format"]
        document["sha256"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path} is damaged: its metadata cannot be read") from None
    if version != FORMAT:
        raise CheckpointError(f"{path} has format {version!r}, this version of minigrad reads {FORMAT}: update minigrad")
    return document


def _checksum(document: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(document).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8) if array.size else b"")
    return digest.hexdigest()
