"""Memory of the card that is not there: a pool that counts, and allocations between borders."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np

from tests.cuda.standin.streams import Stream, change

__all__ = [
    "POOL",
    "Device",
    "Memory",
    "MemoryHook",
    "MemoryPointer",
    "MemoryPool",
    "OutOfMemoryError",
    "allocate",
    "get_allocator",
    "set_allocator",
]

BORDER = 512  # bytes on both sides of an allocation, and its alignment
PATTERN = 0xFF  # of every byte: NaN, as a floating-point number


class OutOfMemoryError(MemoryError):
    """What CuPy raises; its message is like this."""


class MemoryPool:
    """Counts bytes. What is freed it keeps for later, as CuPy's does. ``limit``: where the card is full."""

    def __init__(self):
        self.used, self.kept, self.limit = 0, 0, 1 << 40

    def take(self, size: int) -> None:
        if size > self.kept and self.used + self.kept + size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: {self.total_bytes():,} bytes).")
        self.kept -= size if size <= self.kept else 0
        self.used += size

    def give_back(self, size: int) -> None:
        self.used -= size
        self.kept += size

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.used + self.kept

    def free_all_blocks(self, stream=None) -> None:
        self.kept = 0

    def set_limit(self, size=None, fraction=None) -> None:
        self.limit = size or 1 << 40

    def malloc(self, size: int) -> MemoryPointer:
        memory = Memory(size, self)
        return MemoryPointer(memory.array((size,), np.uint8), memory)


POOL = MemoryPool()
_allocator: list[Callable] = [POOL.malloc]


def set_allocator(allocator=None) -> None:
    _allocator[0] = allocator


def get_allocator():
    return _allocator[0]


def allocate(size: int) -> MemoryPointer:
    """Memory from whoever gives it out at present."""
    return _allocator[0](size)


_HOOKS: dict[str, MemoryHook] = {}


class MemoryHook:
    """Its methods are told of every allocation inside its block; the stand-in takes each of them from the card."""

    name = "MemoryHook"

    def __enter__(self):
        if self.name in _HOOKS:
            raise KeyError(f"memory hook {self.name} already exists")
        _HOOKS[self.name] = self
        return self

    def __exit__(self, *exc_info):
        del _HOOKS[self.name]

    def alloc_postprocess(self, **kwargs):
        pass

    def malloc_postprocess(self, **kwargs):
        pass

    def free_postprocess(self, **kwargs):
        pass


class Memory:
    """An allocation between two borders."""

    def __init__(self, size: int, pool: MemoryPool):
        self.size = 0
        pool.take(size)
        self.size, self.pool = size, pool
        self.buffer = np.full(size + 3 * BORDER, PATTERN, np.uint8)
        self.start = BORDER + -self.buffer.ctypes.data % BORDER
        for hook in _HOOKS.values():
            sizes = {"device_id": 0, "mem_size": size, "mem_ptr": self.buffer.ctypes.data}
            hook.alloc_postprocess(**sizes)
            hook.malloc_postprocess(size=size, pmem_id=id(self), **sizes)

    def array(self, shape, dtype) -> np.ndarray:
        return self.buffer[self.start : self.start + self.size].view(dtype).reshape(shape)

    def check(self) -> bool:
        """Whether the borders are as they were."""
        edges = self.buffer[self.start - BORDER : self.start], self.buffer[self.start + self.size :][:BORDER]
        return all((edge == PATTERN).all() for edge in edges)

    def __del__(self):
        if self.size:
            self.pool.give_back(self.size)
        for hook in _HOOKS.values() if self.size else ():
            hook.free_postprocess(device_id=0, mem_size=self.size, mem_ptr=self.buffer.ctypes.data, pmem_id=id(self))


class MemoryPointer:
    """Where an array begins."""

    def __init__(self, array: np.ndarray, memory: Memory | None):
        self.ptr, self.mem = array.ctypes.data, memory

    def __add__(self, offset: int) -> MemoryPointer:
        moved = MemoryPointer.__new__(MemoryPointer)
        moved.ptr, moved.mem = self.ptr + offset, self.mem
        return moved

    def copy_from_device_async(self, src: MemoryPointer, size: int, stream=None) -> None:
        change(ctypes.memmove, self.ptr, src.ptr, size)


class Device:
    """The one card, number 0."""

    def __init__(self, index: int = 0):
        self.id = int(index)
        self.mem_info = (POOL.limit - POOL.total_bytes(), POOL.limit)
        self.compute_capability = "90"

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        return None

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return self.id

    def use(self):
        return self

    def synchronize(self) -> None:
        Stream.wait()
