"""The pickles inside PyTorch's files, read and written without Python's pickle module: nothing in a file is ever run.

A pickle is a program for a small stack machine, which may ask for any function of any module and call it. The machine here
knows only the instructions that a file of weights needs, and only the names in ``GLOBALS``; each stands for a function of this
module that checks its arguments and makes a plain value. Every length is compared with what is left of the file before anything
is allocated, and what a program may do in all is limited by the size of the file that it came in.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable
from math import prod
from operator import methodcaller
from typing import Any, BinaryIO

import numpy as np

from minigrad.weights.tensor_file import CheckpointError

__all__ = ["ELEMENTS", "Global", "NumPyArray", "Source", "Storage", "View", "dump", "load", "value_of_dtype"]

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


class Source:
    """The bytes of an open file from where it stands, ``size`` of them in all; asks for more are refused, not tried."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.left, self.size = file, size, size

    def read(self, n: int) -> bytes:
        if n > self.left:
            raise CheckpointError(f"it ends too early: {n} more bytes are announced, {self.left} are left")
        self.left -= n
        data = self.file.read(n)
        if len(data) != n:
            raise CheckpointError("it ends too early")
        return data

    def line(self) -> bytes:
        """A line without its end, at most 256 bytes."""
        data = self.file.readline(min(256, self.left))
        self.left -= len(data)
        if not data.endswith(b"\n"):
            raise CheckpointError("a name in its pickle has no end")
        return data[:-1]

    def integer(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.read(size), "little", signed=signed)


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


# ---- the machine ---------------------------------------------------------------------------------------------------------


def load(source: Source, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The value that the pickle at the front of ``source`` describes; ``persistent`` gives what its outside names stand for.

    Raises CheckpointError for anything that is not allowed, which does not name the file.
    """
    return Machine(source, persistent).run()


class Machine:
    def __init__(self, source: Source, persistent: Callable[[Any], Any] | None):
        self.source, self.persistent = source, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        # An instruction costs 1, one that makes a container 8: what all values take in memory and in time is limited by it.
        self.work = 2_000_000 + source.size // 8
        self.bytes = (1 << 20) + source.size  # that may be copied from one value into another

    def run(self) -> Any:
        source, instructions = self.source, INSTRUCTIONS
        while True:
            code = source.read(1)
            if code == b".":
                return self.pop()
            instruction = instructions.get(code)
            if instruction is None:
                raise CheckpointError(f"its pickle has the instruction {code!r}, which no file of weights needs")
            cost, action = instruction
            self.spend(cost)
            action(self)

    def spend(self, n: int) -> None:
        self.work -= n
        if self.work < 0:
            raise CheckpointError("its pickle makes more values than a file of weights has")

    def copies(self, n: int) -> None:
        self.bytes -= n
        if self.bytes < 0:
            raise CheckpointError("its pickle copies more than the file holds")

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise CheckpointError("its pickle takes more values than it made")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            found = short(self.stack[-1]) if self.stack else "nothing"
            raise CheckpointError(f"its pickle fills {found} as if it were a {kind.__name__}")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise CheckpointError("its pickle ends a group that did not begin")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def version(self) -> None:
        if not 2 <= (version := self.source.integer(1)) <= 5:
            raise CheckpointError(f"its pickle is of version {version}; 2 to 5 can be read")

    def frame(self) -> None:
        if (size := self.source.integer(8)) > self.source.left:
            raise CheckpointError(f"it ends too early: {size} more bytes are announced, {self.source.left} are left")

    def text(self, width: int) -> None:
        try:
            self.push(self.source.read(self.source.integer(width)).decode())
        except UnicodeDecodeError:
            raise CheckpointError("a text in its pickle is not UTF-8") from None

    def data(self, width: int) -> None:
        self.push(self.source.read(self.source.integer(width)))

    def python2_text(self, width: int) -> None:
        data = self.source.read(self.source.integer(width))
        try:
            self.push(data.decode())
        except UnicodeDecodeError:
            self.push(data)

    def tuple(self, n: int | None = None) -> None:
        if n is not None:
            self.marks.append(len(self.stack) - n)
            if self.marks[-1] < (self.marks[-2] if len(self.marks) > 1 else 0):
                raise CheckpointError("its pickle takes more values than it made")
        self.push(tuple(self.since_mark()))

    def append(self) -> None:
        value = self.pop()
        self.top(list).append(value)

    def extend(self) -> None:
        items = self.since_mark()
        self.top(list).extend(items)

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.top(dict)[check_key(key)] = value

    def set_items(self) -> None:
        items = self.since_mark()
        target = self.top(dict)
        if len(items) % 2:
            raise CheckpointError("a dictionary in its pickle has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[check_key(key)] = value

    def remember(self, width: int | None) -> None:
        if not self.stack:
            raise CheckpointError("its pickle takes more values than it made")
        self.memo[len(self.memo) if width is None else self.source.integer(width)] = self.stack[-1]

    def recall(self, width: int) -> None:
        number = self.source.integer(width)
        if number not in self.memo:
            raise CheckpointError(f"its pickle refers to a value {number}, which it did not make")
        self.push(self.memo[number])

    def global_line(self) -> None:
        names = self.source.line(), self.source.line()
        self.push(_global(*(name.decode("utf-8", "replace") for name in names)))

    def global_stack(self) -> None:
        name, module = self.pop(), self.pop()
        self.push(_global(text(module), text(name)))

    def outside(self) -> None:
        if self.persistent is None:
            raise CheckpointError("its pickle refers to values outside itself")
        self.push(self.persistent(self.pop()))

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Global or function.make is None or type(arguments) is not tuple:
            raise CheckpointError(f"its pickle calls {short(function)}, which cannot be called")
        low, high = function.make.__code__.co_argcount - len(function.make.__defaults__ or ()), function.make.__code__.co_argcount
        if not low <= len(arguments) + 1 <= high:
            raise CheckpointError(f"its pickle calls {function.name} with {len(arguments)} arguments")
        self.push(function.make(self, *arguments))

    def build(self) -> None:
        state = self.pop()
        target = self.stack[-1] if self.stack else None
        if type(target) in (NumPyDType, NumPyArray):
            target.build(state, self)
        elif type(target) is not dict or type(state) is not dict:  # attributes of a state dict (its _metadata): not needed
            raise CheckpointError(f"its pickle sets the state of {short(target)}")


def _global(module: str, name: str) -> Global:
    try:
        return GLOBALS[module, name]
    except KeyError:
        raise CheckpointError(
            f"its pickle asks for {short(f'{module}.{name}')[1:-1]}, which is code and not weights, and is not run: "
            "save a state_dict() of tensors, numbers and texts instead"
        ) from None


def _number(form: str) -> Callable[[Machine], None]:
    size = struct.calcsize(form)
    return lambda machine: machine.push(struct.unpack(form, machine.source.read(size))[0])


# Code of an instruction -> its cost and what it does.
INSTRUCTIONS: dict[bytes, tuple[int, Callable[[Machine], Any]]] = {
    b"\x80": (1, Machine.version),
    b"\x95": (1, Machine.frame),
    b"(": (2, Machine.mark),
    b"0": (1, Machine.pop),
    b"1": (1, Machine.since_mark),
    b"N": (1, methodcaller("push", None)),
    b"\x88": (1, methodcaller("push", True)),
    b"\x89": (1, methodcaller("push", False)),
    b"K": (1, _number("<B")),
    b"M": (1, _number("<H")),
    b"J": (1, _number("<i")),
    b"G": (1, _number(">d")),
    b"\x8a": (2, lambda machine: machine.push(machine.source.integer(machine.source.integer(1), signed=True))),
    b"X": (2, methodcaller("text", 4)),
    b"\x8c": (2, methodcaller("text", 1)),
    b"\x8d": (2, methodcaller("text", 8)),
    b"T": (2, methodcaller("python2_text", 4)),
    b"U": (2, methodcaller("python2_text", 1)),
    b"B": (2, methodcaller("data", 4)),
    b"C": (2, methodcaller("data", 1)),
    b"\x8e": (2, methodcaller("data", 8)),
    b"}": (8, lambda machine: machine.push({})),
    b"]": (8, lambda machine: machine.push([])),
    b")": (1, methodcaller("push", ())),
    b"t": (8, Machine.tuple),
    b"\x85": (8, methodcaller("tuple", 1)),
    b"\x86": (8, methodcaller("tuple", 2)),
    b"\x87": (8, methodcaller("tuple", 3)),
    b"a": (1, Machine.append),
    b"e": (1, Machine.extend),
    b"s": (2, Machine.set_item),
    b"u": (1, Machine.set_items),
    b"q": (2, methodcaller("remember", 1)),
    b"r": (2, methodcaller("remember", 4)),
    b"\x94": (2, methodcaller("remember", None)),
    b"h": (1, methodcaller("recall", 1)),
    b"j": (1, methodcaller("recall", 4)),
    b"c": (4, Machine.global_line),
    b"\x93": (4, Machine.global_stack),
    b"Q": (8, Machine.outside),
    b"R": (16, Machine.call),
    b"b": (8, Machine.build),
}


# ---- writing -------------------------------------------------------------------------------------------------------------


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
