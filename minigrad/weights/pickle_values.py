"""What the pickles of PyTorch's files may ask for: a list of names, and for each a function that makes a plain value.

Each function checks its arguments, and tells the machine (``pickles.py``) what it copies before it does so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.weights.tensor_file import CheckpointError

if TYPE_CHECKING:
    from minigrad.weights.pickles import Machine

__all__ = ["ELEMENTS", "GLOBALS", "MAX_DIMS", "Global", "NumPyArray", "NumPyDType", "Storage", "View", "value_of_dtype"]

# Element types by PyTorch's names: bytes of one, and the class of its storages.
ELEMENTS = {
    "float32": (4, "FloatStorage"),
    "float64": (8, "DoubleStorage"),
    "float16": (2, "HalfStorage"),
    "bfloat16": (2, "BFloat16Storage"),
    "int8": (1, "CharStorage"),
    "int16": (2, "ShortStorage"),
    "int32": (4, "IntStorage"),
    "int64": (8, "LongStorage"),
    "uint8": (1, "ByteStorage"),
    "bool": (1, "BoolStorage"),
    "uint16": (2, None),  # these three have no class of storages: they are stored as bytes
    "uint32": (4, None),
    "uint64": (8, None),
}
MAX_DIMS = 64
MAX_KEY = 1 << 61  # integers below have different hashes: nobody can make a dictionary slow with them
NUMPY_CODES = {kind + size for kind in "iuf" for size in "248"} | {"i1", "u1", "b1"}


# ---- what a program can make besides Python's plain values ---------------------------------------------------------------


class Storage:
    """The elements that several tensors may share: ``numel`` of the element type ``dtype``, whose bytes are read later."""

    def __init__(self, dtype: str, numel: int, root: Storage | None = None, start: int = 0):
        self.dtype, self.numel = dtype, check_size(numel, "a storage's number of elements")
        self.nbytes = numel * ELEMENTS[dtype][0]
        self.root, self.start = root, start  # a part of another storage begins at its byte ``start`` (files of before 2018)
        self.content: Any = None  # for who reads the bytes

    def part(self, offset: int, numel: int) -> Storage:
        item = ELEMENTS[self.dtype][0]
        if check_size(offset, "an offset") + check_size(numel, "a size") > self.numel:
            raise CheckpointError(f"a part of a storage reaches to element {offset + numel} of {self.numel}")
        return Storage(self.dtype, numel, self.root or self, self.start + offset * item)


class View:
    """A tensor: ``size`` and ``stride`` in elements of ``dtype``, from element ``offset`` of a storage. Checked when made."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, dtype: Any = None):
        if type(storage) is not Storage:
            raise CheckpointError(f"a tensor is made of a {type(storage).__name__} instead of a storage")
        self.storage, self.dtype = storage, dtype or storage.dtype
        self.size, self.stride = sizes(size, "the shape of a tensor"), sizes(stride, "the strides of a tensor")
        self.offset, self.requires_grad = check_size(offset, "the offset of a tensor"), requires_grad is True
        self.made: Any = None  # for who makes the tensor, once
        if len(self.size) != len(self.stride):
            raise CheckpointError(f"a tensor of shape {short(self.size)} has strides {short(self.stride)}")
        item = ELEMENTS[self.dtype][0]
        if prod(max(n, 1) for n in self.size) * item >= 1 << 48:
            raise CheckpointError(f"a tensor claims the shape {short(self.size)}, which is too large")
        end = self.offset + 1 + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if 0 not in self.size and end * item > storage.nbytes:
            raise CheckpointError(
                f"a tensor of shape {short(self.size)} with strides {short(self.stride)} "
                f"reaches to element {end} of a storage of {storage.nbytes // item}"
            )

    def with_grad(self, requires_grad: Any) -> View:
        view = copy.copy(self)
        view.requires_grad = requires_grad is True
        return view


class NumPyDType:
    """A NumPy element type, whose byte order is told later."""

    def __init__(self, code: str):
        self.code, self.order = code, "="

    def build(self, state: Any, machine: Machine) -> None:
        if type(state) is not tuple or not 3 <= len(state) <= 9 or text(state[1]) not in ("<", ">", "|", "="):
            raise CheckpointError("a NumPy dtype has an unknown state")
        self.order = text(state[1]).replace("|", "=")

    def array(self, data: Any, machine: Machine) -> np.ndarray:
        dtype = np.dtype(self.order + self.code)
        flat = np.frombuffer(as_bytes(data, machine), np.uint8)
        if flat.size % dtype.itemsize:
            raise CheckpointError("the bytes of a NumPy array are no whole elements")
        if dtype.kind == "b":
            return flat != 0  # a byte that is neither 0 nor 1 would be no boolean for NumPy
        return flat.view(dtype).astype(dtype.newbyteorder("="))


class NumPyArray:
    """A NumPy array, whose content is told later."""

    array: np.ndarray | None = None

    def build(self, state: Any, machine: Machine) -> None:
        if type(state) is not tuple or len(state) != 5 or type(state[2]) is not NumPyDType or type(state[3]) is not bool:
            raise CheckpointError("a NumPy array has an unknown state")
        shape, array = sizes(state[1], "the shape of a NumPy array"), state[2].array(state[4], machine)
        if len(shape) > 32 or prod(shape) != array.size or prod(max(n, 1) for n in shape) >= 1 << 48:
            raise CheckpointError(f"a NumPy array claims the shape {short(shape)} and has {array.size} elements")
        self.array = array.reshape(shape, order="F" if state[3] else "C")


class Global:
    """A name of another module that a program asked for; ``make(machine, *arguments)`` is what calling it does here."""

    def __init__(self, name: str, make: Callable | None = None, value: Any = None):
        self.name, self.make, self.value = name, make, value


# ---- checks of arguments -------------------------------------------------------------------------------------------------


def check_size(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise CheckpointError(f"{what} is {short(value)}")
    return value


def sizes(value: Any, what: str) -> tuple[int, ...]:
    if type(value) not in (tuple, list) or len(value) > MAX_DIMS:
        raise CheckpointError(f"{what} is {short(value)}")
    return tuple(check_size(n, what) for n in value)


def text(value: Any) -> str:
    """A short text; that of Python 2 may come as bytes."""
    if type(value) is bytes and len(value) <= 256:
        return value.decode("latin-1")
    if type(value) is not str or len(value) > 256:
        raise CheckpointError(f"its pickle has {short(value)} where a name belongs")
    return value


def as_bytes(value: Any, machine: Machine) -> bytes:
    """Bytes that are copied; those of Python 2 come as a text where they happen to be one."""
    if type(value) not in (str, bytes):
        raise CheckpointError(f"its pickle has {short(value)} where bytes belong")
    machine.copies(len(value))
    return value.encode() if type(value) is str else value


def short(value: Any) -> str:
    """A few words for a value that may be huge, or contain itself."""
    if type(value) in (int, float, bool, type(None)):
        words = repr(value)
    elif type(value) in (str, bytes):
        return repr(value[:60])
    elif type(value) is Global:
        words = value.name
    elif type(value) in (tuple, list) and len(value) <= 8 and all(type(v) is int for v in value):
        words = repr(value)
    else:
        return f"a {type(value).__name__}"
    return words if len(words) <= 80 else f"{words[:60]}..."


# ---- what the allowed names do -------------------------------------------------------------------------------------------


def _dictionary(machine: Machine, pairs: Any = ()) -> dict:
    """collections.OrderedDict and Counter, with their content or before it."""
    if type(pairs) not in (dict, list, tuple):
        raise CheckpointError(f"its pickle makes a dictionary of {short(pairs)}")
    machine.copies(8 * len(pairs))
    made: dict = {}
    for pair in pairs.items() if type(pairs) is dict else pairs:
        if type(pair) not in (tuple, list) or len(pair) != 2:
            raise CheckpointError("its pickle makes a dictionary of what are no pairs")
        made[check_key(pair[0])] = pair[1]
    return made


def _tensor(
    machine: Machine, storage: Any, offset: Any, size: Any, stride: Any, grad: Any = False, hooks=None, flags=None
) -> View:
    if flags and (type(flags) is not dict or any(flags.values())):
        raise CheckpointError("a tensor is conjugated or negated, which minigrad's tensors cannot be")
    machine.spend(8 * len(size) if type(size) in (tuple, list) else 0)
    return View(storage, offset, size, stride, grad)


def _typed_tensor(machine: Machine, storage: Any, offset, size, stride, grad, hooks, dtype: Any, flags=None) -> View:
    if type(dtype) is not Global or dtype.value not in ELEMENTS:
        raise CheckpointError(f"a tensor has the element type {short(dtype)}")
    machine.spend(8 * len(size) if type(size) in (tuple, list) else 0)
    return View(storage, offset, size, stride, grad, dtype.value)


def _parameter(machine: Machine, data: Any, requires_grad: Any = True, hooks=None, state=None) -> View:
    if type(data) is not View:
        raise CheckpointError(f"a parameter is made of {short(data)} instead of a tensor")
    return data.with_grad(requires_grad)


def _size(machine: Machine, values: Any = ()) -> tuple[int, ...]:
    return sizes(values, "a torch.Size")


def _device(machine: Machine, kind: Any, index: Any = None) -> str:
    return text(kind)[:32] if index is None else f"{text(kind)[:32]}:{check_size(index, 'the number of a device')}"


def _encode(machine: Machine, value: Any, encoding: Any) -> bytes:
    """_codecs.encode: how bytes are written in the second version of the pickles."""
    if type(value) is not str or encoding not in ("latin1", "latin-1"):
        raise CheckpointError(f"its pickle encodes {short(value)} as {short(encoding)}")
    machine.copies(len(value))
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        raise CheckpointError("its pickle has bytes above 255") from None


def _numpy_dtype(machine: Machine, code: Any, align: Any = False, copy: Any = True) -> NumPyDType:
    code = text(code)
    if code not in NUMPY_CODES:
        raise CheckpointError(f"a NumPy array has elements of {short(code)}, which are no plain numbers")
    return NumPyDType(code)


def _numpy_scalar(machine: Machine, dtype: Any, data: Any) -> Any:
    array = dtype.array(data, machine) if type(dtype) is NumPyDType else None
    if array is None or array.size != 1:
        raise CheckpointError("a NumPy number has an unknown form")
    return array[0].item()


def _numpy_array(machine: Machine, kind: Any, shape: Any, code: Any) -> NumPyArray:
    if type(kind) is not Global or kind.name != "numpy.ndarray":
        raise CheckpointError(f"a NumPy array is a {short(kind)}")
    return NumPyArray()


def value_of_dtype(name: str) -> np.dtype:
    """The NumPy dtype of an element type; bfloat16, which NumPy lacks, is read as float32."""
    return np.dtype("float32" if name == "bfloat16" else name)


GLOBALS: dict[tuple[str, str], Global] = {}


def _allow(modules: tuple[str, ...], name: str, make: Callable | None = None, value: Any = None) -> None:
    for module in modules:
        GLOBALS[module, name] = Global(f"{module}.{name}", make, value)


_allow(("collections",), "OrderedDict", _dictionary)
_allow(("collections",), "Counter", _dictionary)
_allow(("torch._utils",), "_rebuild_tensor", _tensor)
_allow(("torch._utils",), "_rebuild_tensor_v2", _tensor)
_allow(("torch._utils",), "_rebuild_tensor_v3", _typed_tensor)
_allow(("torch._utils",), "_rebuild_parameter", _parameter)
_allow(("torch._utils",), "_rebuild_parameter_with_state", _parameter)
_allow(("torch",), "Size", _size)
_allow(("torch",), "device", _device)
_allow(("_codecs",), "encode", _encode)
_allow(("numpy",), "dtype", _numpy_dtype)
_allow(("numpy",), "ndarray")
_allow(("numpy.core.multiarray", "numpy._core.multiarray"), "scalar", _numpy_scalar)
_allow(("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct", _numpy_array)
_allow(("torch.storage", "torch"), "UntypedStorage", value="uint8")
for _element, (_, _storage) in ELEMENTS.items():
    _allow(("torch",), _element, value=_element)
    if _storage is not None:
        _allow(("torch", "torch.cuda"), _storage, value=_element)  # where it was: read into main memory all the same
        _allow(("torch", "torch.cuda"), _storage.replace("Storage", "Tensor"), value=_element)  # named in files of before 2017


def check_key(key: Any) -> Any:
    """A dictionary's key: a text, a number that cannot collide, bytes, or None."""
    if type(key) in (str, bytes, bool, type(None)) or (type(key) is int and -MAX_KEY < key < MAX_KEY):
        return key
    raise CheckpointError(f"a dictionary has the key {short(key)}: texts and integers are allowed")
