"""From what the pickle of a PyTorch file describes to Tensors: storages, views of them, and lists and dictionaries."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from minigrad.tensor import Tensor
from minigrad.weights.pickle_values import ELEMENTS, Global, NumPyArray, Storage, View, short, text, value_of_dtype
from minigrad.weights.tensor_file import CheckpointError

__all__ = ["MAX_DEPTH", "SPARE", "Maker", "announced", "element_of", "storage_identity"]

MAX_DEPTH = 100  # of dictionaries and lists in one another
SPARE = 64 << 20  # bytes that a small file may take more in memory than on the disk


def storage_identity(identity: Any, n: int) -> tuple[str, str, Any]:
    """(key, element type, number of elements) of ("storage", class, key, place, number of elements, ...)."""
    if type(identity) is not tuple or len(identity) != n or identity[0] not in ("storage", b"storage"):
        raise CheckpointError(f"its pickle refers to {short(identity)}, which is no storage")
    return text(identity[2]), element_of(identity[1], "Storage"), identity[4]


def element_of(kind: Any, ending: str) -> str:
    if type(kind) is not Global or kind.value is None or not kind.name.endswith(ending):
        raise CheckpointError(f"a storage is of the class {short(kind)}")
    return kind.value


def announced(storages: dict[str, Storage], key: str, dtype: str, numel: Any) -> Storage:
    """The storage ``key``, new or as it was announced before."""
    known = storages.get(key)
    if known is None:
        known = storages[key] = Storage(dtype, numel)
    if (known.dtype, known.numel) != (dtype, numel):
        raise CheckpointError(f"its storage {key!r} has {known.numel} elements of {known.dtype}, and {short(numel)} of {dtype}")
    return known


class Maker:
    """Makes what a pickle described into what is given back: Tensors for views, and new dictionaries, lists and tuples."""

    def __init__(self, order: str, length: int):
        self.order = order
        # A list that holds another twice, which holds another twice, has few bytes of pickle (``length``) and endless content.
        self.values = 200_000 + length
        self.spare = SPARE
        self.flat: dict[tuple[int, str], tuple[np.ndarray, list]] = {}

    def plain(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        self.values -= 1
        if self.values < 0 or depth > MAX_DEPTH:
            raise CheckpointError("its lists and dictionaries hold one another too often or too deep")
        if kind in (str, int, float, bool, bytes, type(None)):
            return value
        if kind is dict:
            return {key: self.plain(v, depth + 1) for key, v in value.items()}
        if kind is list:
            return [self.plain(v, depth + 1) for v in value]
        if kind is tuple:
            return tuple([self.plain(v, depth + 1) for v in value])
        if kind is View:
            return self.tensor(value)
        if kind is Storage:  # saved for itself
            return self.tensor(View(value, 0, (value.numel,), (1,)))
        if kind is NumPyArray and value.array is not None:
            return value.array
        if kind is Global and value.name.startswith("torch.") and value.name[6:] in ELEMENTS:
            return value_of_dtype(value.value)
        raise CheckpointError(f"its pickle gives {short(value)} where a value belongs")

    def tensor(self, view: View) -> Tensor:
        """The same Tensor each time that the same view comes up."""
        if view.made is None:
            flat, version = self.elements(view.storage, view.dtype)
            start = view.offset + view.storage.start // ELEMENTS[view.dtype][0]
            array = self.strided(flat, start, view.size, view.stride)
            view.made = Tensor(array, requires_grad=view.requires_grad and array.dtype.kind == "f")
            if array.base is not None:
                view.made.version = version  # tensors of the same memory notice one another's changes
        return view.made

    def strided(self, flat: np.ndarray, start: int, size: tuple[int, ...], stride: tuple[int, ...]) -> np.ndarray:
        if 0 in size:
            return np.empty(size, flat.dtype)
        item = flat.itemsize
        view = np.lib.stride_tricks.as_strided(flat[start:], size, [s * item for s in stride])
        reach = 0
        for s, n in sorted(zip(stride, size, strict=True)):
            if n > 1 and s <= reach:  # elements are named twice, as expand() does: each gets a place of its own
                self.spare -= prod(size) * item
                if self.spare < 0:
                    raise CheckpointError(f"a tensor of shape {short(size)} repeats few elements too often")
                return np.array(view)
            reach += (n - 1) * s
        return view

    def elements(self, storage: Storage, dtype: str) -> tuple[np.ndarray, list]:
        """All elements of a storage (or of that which it is a part of) as one array, made once; and its count of changes."""
        storage = storage.root or storage
        key = id(storage), dtype
        if key not in self.flat:
            self.flat[key] = _elements(storage.content, dtype, self.order), [0]
        return self.flat[key]


def _elements(content: np.ndarray, dtype: str, order: str) -> np.ndarray:
    """Bytes as an array of the machine's byte order."""
    if dtype == "bool":
        return content != 0  # a byte that is neither 0 nor 1 would be no boolean for NumPy
    code = np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<" if order == "little" else ">")
    array = content[: len(content) // code.itemsize * code.itemsize].view(code)
    array = array.astype(code.newbyteorder("="), copy=False)
    return (array.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else array
