"""The pickles inside PyTorch's files, read without Python's pickle module: nothing in a file is ever run.

A pickle is a program for a small stack machine, which may ask for any function of any module and call it. The machine here
knows only the instructions that a file of weights needs, and only the names in ``GLOBALS`` (``pickle_values.py``). Every length
is compared with what is left of the file before anything is allocated, and what a program may do in all is limited by the
size of the file that it came in.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import methodcaller
from typing import Any, BinaryIO

from minigrad.weights.pickle_values import GLOBALS, Global, NumPyArray, NumPyDType, check_key, short, text
from minigrad.weights.tensor_file import CheckpointError

__all__ = ["Machine", "Source", "load"]


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
