"""Writing files that ``torch.load`` reads, without PyTorch: a zip archive of a pickle and the bytes of each tensor."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from minigrad.device import to_numpy
from minigrad.tensor import Tensor
from minigrad.weights.atomic import write_atomically
from minigrad.weights.pickle_values import ELEMENTS, Storage, View
from minigrad.weights.torch_tensors import MAX_DEPTH

__all__ = ["save_torch_file"]


def save_torch_file(state: Any, path: str | os.PathLike) -> None:
    """Write a state dict, or nested dictionaries, lists and tuples of tensors, numbers, texts and None, for PyTorch.

    ``torch.load(path)`` reads the file (a zip archive), also with ``weights_only=True``. The old file, if any, is replaced in
    one step. Every tensor is written in C order, as one without gradients; one that appears twice is stored once.

    Raises TypeError, which names the place, for anything else; OSError (the old file is unchanged) if writing fails.
    """
    arrays: list[tuple[Any, np.ndarray]] = []
    content = dump(_prepare(state, "", arrays, {}))
    entries: dict[str, Any] = {"data.pkl": content, "byteorder": b"little"}
    for i, (_, array) in enumerate(arrays):
        flat = array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1)
        entries[f"data/{i}"] = flat.view(np.uint8).data
    entries["version"] = b"3\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)  # dated 1980: the same content gives the same bytes
    write_atomically(path, buffer.getvalue())


def _prepare(value: Any, place: str, arrays: list[tuple[Any, np.ndarray]], known: dict[tuple, int], depth: int = 0) -> Any:
    """``value`` of plain dictionaries, lists, tuples and values, its tensors moved into ``arrays`` and replaced by Views."""
    here = place or "the top"
    if value is None or isinstance(value, (bool, int, float, str)):
        return _plain(value, here)
    if isinstance(value, np.generic):
        return _plain(value.item(), here)
    if isinstance(value, Tensor) or (hasattr(value, "dtype") and hasattr(value, "strides")):
        return _view(value, here, arrays, known)
    if depth == MAX_DEPTH:
        raise TypeError(f"save_torch_file: more than {MAX_DEPTH} dictionaries and lists in one another")
    inner = place + "." if place else ""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, (str, int)) or isinstance(key, bool):
                raise TypeError(f"save_torch_file: the keys at {here} must be texts or integers, got {key!r}")
        return {_plain(k, here): _prepare(v, f"{inner}{k}", arrays, known, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_prepare(v, f"{inner}{i}", arrays, known, depth + 1) for i, v in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    hint = ": save its state_dict()" if hasattr(value, "state_dict") else ""
    raise TypeError(f"save_torch_file: cannot save the {type(value).__name__} at {here}{hint}")


def _plain(value: Any, here: str) -> Any:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise TypeError(f"save_torch_file: the text at {here} cannot be written as UTF-8") from None
    if isinstance(value, int) and value.bit_length() > 2000:
        raise TypeError(f"save_torch_file: the integer at {here} is too large")
    if not isinstance(value, (type(None), bool, int, float, str)):
        raise TypeError(f"save_torch_file: cannot save the {type(value).__name__} at {here}")
    return value


def _view(value: Any, here: str, arrays: list[tuple[Any, np.ndarray]], known: dict[tuple, int]) -> View:
    array = to_numpy(value.data if isinstance(value, Tensor) else value)
    if array.dtype.name == "bfloat16":  # which is read as float32
        array = array.astype(np.float32)
    name = array.dtype.newbyteorder("=").name
    if ELEMENTS.get(name, (0, None))[1] is None:
        raise TypeError(f"save_torch_file: PyTorch has no tensors of {array.dtype}, the dtype at {here}")
    memory = array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str
    i = known.setdefault(memory, len(arrays)) if array.size else len(arrays)
    if i == len(arrays):
        arrays.append((array, np.ascontiguousarray(array)))  # the first keeps its memory, by which it is known
    storage = Storage(name, array.size)
    storage.content = str(i)
    return View(storage, 0, array.shape, tuple(prod(array.shape[k + 1 :]) for k in range(array.ndim)))


# ---- the pickle -------------------------------------------------------------------------------------------------------


def dump(value: Any) -> bytes:
    """The pickle (version 2) of nested dictionaries, lists and tuples of plain values and Views, whose storages have their
    names in the file as their content."""
    parts = [b"\x80\x02"]
    _write(value, parts.append)
    parts.append(b".")
    return b"".join(parts)


def _write(value: Any, put: Callable[[bytes], None]) -> None:
    if value is None or isinstance(value, bool):
        put({None: b"N", True: b"\x88", False: b"\x89"}[value])
    elif isinstance(value, int):
        data = int(value).to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        put(struct.pack("<ci", b"J", value) if len(data) <= 4 else b"\x8a" + bytes([len(data)]) + data)
    elif isinstance(value, float):
        put(struct.pack(">cd", b"G", value))
    elif isinstance(value, str):
        put(struct.pack("<cI", b"X", len(value.encode())) + value.encode())
    elif isinstance(value, View):
        _write_view(value, put)
    elif isinstance(value, dict):
        put(b"}(")
        for key, item in value.items():
            _write(key, put)
            _write(item, put)
        put(b"u")
    else:
        put(b"](" if isinstance(value, list) else b"(")
        for item in value:
            _write(item, put)
        put(b"e" if isinstance(value, list) else b"t")


def _write_view(view: View, put: Callable[[bytes], None]) -> None:
    put(b"ctorch._utils\n_rebuild_tensor_v2\n((")
    _write("storage", put)
    put(f"ctorch\n{ELEMENTS[view.storage.dtype][1]}\n".encode())
    for item in (view.storage.content, "cpu", view.storage.numel):
        _write(item, put)
    put(b"tQ")
    for item in (view.offset, view.size, view.stride, view.requires_grad):
        _write(item, put)
    put(b"ccollections\nOrderedDict\n)RtR")  # no hooks
