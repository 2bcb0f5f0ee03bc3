"""Memory for results and for work in between, which is used again and again.

A fresh array of some megabytes costs more than the kernel that fills it: the system hands it out page by page, each zeroed first.
So memory is kept when its array is gone, and the next array of the same size gets it. Whether an array, or a view of it, or
anything that shares its memory is still there, is what Python knows anyway: all of them hold a reference to one object, the loan,
and when nobody does, Python says so (a weak reference calls back).

Memory that a program has stopped using goes back to the system when other sizes are asked for, or with ``empty_cache()``.
Arrays begin at a cache line, so that no vector lies across two.
"""

from __future__ import annotations

import ctypes
import math
import sys
import weakref
from dataclasses import dataclass

import numpy as np

__all__ = ["BufferStats", "buffer_stats", "empty", "empty_cache", "is_alone", "zeros"]

LINE = 64  # bytes of a cache line
SMALLEST = 16 * 1024  # bytes from which on memory is kept
MOST = 4  # times as much free memory as was ever in use at once is kept, and ...
FLOOR = 64 * 2**20  # ... at least so many bytes: beyond that, what was used least recently is given back
STALE = 4  # memory is given back when so many times as many arrays as are kept were made since it was last used

# Whether references are counted exactly: without the global interpreter lock those of other threads are not.
COUNTED = getattr(sys, "_is_gil_enabled", lambda: True)() and sys.implementation.name == "cpython"


class _Memory:
    """A piece of memory. It is lent to one array at a time: the loan is the ``base`` of that array and of all its views."""

    __slots__ = ("free", "gone", "lent", "loan", "offset", "size", "used", "view")

    def __init__(self, size: int, free: list):
        memory = np.empty(size + LINE, np.uint8)
        # NumPy makes the first array behind a view its base, but stops where something else is in between.
        self.view = (ctypes.c_ubyte * len(memory)).from_buffer(memory)
        self.offset = -memory.__array_interface__["data"][0] % LINE
        self.size = size
        self.used = 0  # when it was last lent
        self.free = free  # where it waits
        self.lent = _lent
        self.gone = self.take_back

    def lend(self, shape, dtype) -> np.ndarray:
        loan = np.ndarray(self.size, np.uint8, self.view, self.offset)
        array = np.ndarray(shape, dtype, loan)
        self.loan = weakref.ref(loan, self.gone), id(loan)
        self.lent[id(loan)] = self
        return array

    def take_back(self, _) -> None:
        """The loan is gone. No global name is used here: Python may be about to end."""
        self.lent.pop(self.loan[1], None)  # not there if Ctrl-C came in between
        self.free.append(self)


_free: dict[int, list[_Memory]] = {}  # bytes -> memory that waits; what was used last is at the end
_lent: dict[int, _Memory] = {}  # identity of the loan -> memory
_clock = 0
_peak = 0  # bytes in use at once, at most, as seen when new memory was needed


def empty(shape: tuple[int, ...], dtype) -> np.ndarray:
    """A new array of any content, as ``np.empty`` makes it."""
    global _clock
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALLEST:
        return np.empty(shape, dtype)
    _clock += 1
    try:
        memory = _free[size].pop()
    except (KeyError, IndexError):
        _discard_stale()
        memory = _Memory(size, _free.setdefault(size, []))
    memory.used = _clock
    return memory.lend(shape, dtype)


def is_alone(array: np.ndarray) -> bool:
    """Whether ``array`` lies in memory that is kept here, and nothing else refers to that memory."""
    return COUNTED and id(array.base) in _lent and sys.getrefcount(array.base) == ALONE


def zeros(shape: tuple[int, ...], dtype) -> np.ndarray:
    """A new array of zeros."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def _discard_stale(age: int | None = None) -> None:
    """Give back free memory that was not used for the last ``age`` arrays (default: a few times as many as are kept)."""
    free = _all_free()
    if age is None:
        age = STALE * (len(free) + len(_lent)) + 100
    for memory in free:
        if memory.used <= _clock - age:
            _discard(memory)
    _discard_surplus()


def _discard_surplus() -> None:
    """Give back the free memory that was used least recently where much more is free than was ever in use at once."""
    global _peak
    _peak = max(_peak, sum(memory.size for memory in list(_lent.values())))
    free = _all_free()
    total = sum(memory.size for memory in free)
    for memory in sorted(free, key=lambda memory: memory.used):
        if total <= max(FLOOR, MOST * _peak):
            break
        total -= memory.size
        _discard(memory)


def _all_free() -> list[_Memory]:
    return [memory for waiting in list(_free.values()) for memory in list(waiting)]


def _discard(memory: _Memory) -> None:
    try:
        memory.free.remove(memory)
    except ValueError:  # another thread has just taken it
        return
    memory.gone = None  # a bound method: without it nothing refers to the memory


def empty_cache() -> None:
    """Give all memory that no array uses back to the system."""
    _discard_stale(0)


@dataclass(frozen=True)
class BufferStats:
    """Bytes that are kept: in arrays that exist, and for arrays to come."""

    used: int
    free: int


def buffer_stats() -> BufferStats:
    """How much memory the arrays of at least 16 KiB that kernels made hold, and how much waits to be used again."""
    used, free = list(_lent.values()), _all_free()
    return BufferStats(sum(memory.size for memory in used), sum(memory.size for memory in free))


def _references() -> int:
    """How many references to a loan Python counts where there is one array."""
    array = _Memory(SMALLEST, []).lend((SMALLEST,), np.uint8)
    return sys.getrefcount(array.base)


ALONE = _references()
