"""Memory for results and for work in between, which is used again and again.

A fresh array of some megabytes costs more than the kernel that fills it: the system hands it out page by page, each zeroed first.
So memory is kept when its array is gone, and the next array of the same size, or of nearly the same, gets it. Whether an array,
or a view of it, or anything that shares its memory is still there, is what Python knows anyway: all of them hold a reference to
one object, the loan, and when nobody does, Python says so (a weak reference calls back).

Memory that a program has stopped using goes back to the system when other sizes are asked for, or with ``empty_cache()``.
Arrays begin at a cache line, so that no vector lies across two.
"""

from __future__ import annotations

import bisect
import ctypes
import math
import sys
import weakref
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

__all__ = ["BufferStats", "buffer_stats", "empty", "empty_cache", "is_alone", "zeros"]

LINE = 64  # bytes of a cache line
SMALLEST = 32 * 1024  # bytes from which on memory is kept
SHARED = 2**20  # bytes from which on memory is also used for arrays that are smaller, ...
WASTE = 1.3  # ... up to such a factor
MOST = 4  # times as much free memory as was ever in use at once is kept, and ...
FLOOR = 64 * 2**20  # ... at least so many bytes: beyond that, what was used least recently is given back
STALE = 4  # memory is given back when so many times as many arrays as are kept were made since it was last used

# Whether references are counted exactly: without the global interpreter lock those of other threads are not.
COUNTED = getattr(sys, "_is_gil_enabled", lambda: True)() and sys.implementation.name == "cpython"


class _Memory:
    """A piece of memory. It is lent to one array at a time: the loan is the ``base`` of that array and of all its views."""

    __slots__ = ("free", "loan", "offset", "size", "used", "view")

    def __init__(self, size: int, free: list[_Loan]):
        memory = np.empty(size + LINE, np.uint8)
        # NumPy makes the first array behind a view its base, but stops where something else is in between.
        self.view = (ctypes.c_ubyte * len(memory)).from_buffer(memory)
        self.offset = -memory.__array_interface__["data"][0] % LINE
        self.size = size
        self.used = 0  # when it was last lent
        self.free = free  # where its loan waits when it is gone
        self.loan: _Loan | None = None

    def lend(self, shape, dtype) -> np.ndarray:
        loan = np.ndarray(self.size, np.uint8, self.view, self.offset)
        array = np.ndarray(shape, dtype, loan)
        # What is called back is not Python code: Ctrl-C, which is lost in a finalizer, cannot come while it runs.
        self.loan = _Loan(loan, self.free.append)
        self.loan.memory = self
        _kept.add(self)
        return array

    def is_lent(self) -> bool:
        return self.loan is not None and self.loan() is not None


class _Loan(weakref.ref):
    """A weak reference to a loan, which knows the memory."""

    __slots__ = ("memory",)


_kept: set[_Memory] = set()
_free: dict[int, list[_Loan]] = {}  # bytes -> loans that are gone; what was used last is at the end
_sizes: list[int] = []  # the keys of _free, in order
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
        memory = _free[size].pop().memory
    except (KeyError, IndexError):
        memory = _larger(size) if size >= SHARED else None
        if memory is None:
            _discard_stale()
            memory = _Memory(size, _free_list(size))
    memory.used = _clock
    return memory.lend(shape, dtype)


def _larger(size: int) -> _Memory | None:
    """Free memory that is a little larger than asked for, if there is any."""
    for place in range(bisect.bisect_right(_sizes, size), len(_sizes)):
        if _sizes[place] > WASTE * size:
            break
        with suppress(IndexError):  # another thread may take the last one
            return _free[_sizes[place]].pop().memory
    return None


def _free_list(size: int) -> list[_Loan]:
    if size not in _free:
        _free[size] = []
        _sizes[:] = sorted(_free)
    return _free[size]


def is_alone(array: np.ndarray) -> bool:
    """Whether ``array`` is a view of memory that is kept here, or of an array of NumPy's, and nothing else refers to that."""
    base = array.base
    if type(base) is not np.ndarray or not COUNTED or sys.getrefcount(base) != ALONE:
        return False
    return base.flags.owndata or any(type(reference) is _Loan for reference in weakref.getweakrefs(base))


def zeros(shape: tuple[int, ...], dtype) -> np.ndarray:
    """A new array of zeros."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def _discard_stale(age: int | None = None) -> None:
    """Give back free memory that was not used for the last ``age`` arrays (default: a few times as many as are kept)."""
    if age is None:
        age = STALE * len(_kept) + 100
    for memory in _all_free():
        if memory.used <= _clock - age:
            _discard(memory)
    _discard_surplus()


def _discard_surplus() -> None:
    """Give back the free memory that was used least recently where much more is free than was ever in use at once."""
    global _peak
    free = _all_free()
    total = sum(memory.size for memory in free)
    _peak = max(_peak, sum(memory.size for memory in list(_kept)) - total)
    for memory in sorted(free, key=lambda memory: memory.used):
        if total <= max(FLOOR, MOST * _peak):
            break
        total -= memory.size
        _discard(memory)


def _all_free() -> list[_Memory]:
    return [memory for memory in list(_kept) if not memory.is_lent()]


def _discard(memory: _Memory) -> None:
    _kept.discard(memory)  # it comes back if another thread is just taking it
    with suppress(ValueError):
        memory.free.remove(memory.loan)
        memory.loan = None  # which refers to the memory: nothing must be left for the garbage collector


def empty_cache() -> None:
    """Give all memory that no array uses back to the system."""
    _discard_stale(0)


@dataclass(frozen=True)
class BufferStats:
    """Bytes that are kept: in arrays that exist, and for arrays to come."""

    used: int
    free: int


def buffer_stats() -> BufferStats:
    """How much memory the arrays of at least 32 KiB that kernels made hold, and how much waits to be used again."""
    kept = list(_kept)
    used = sum(memory.size for memory in kept if memory.is_lent())
    return BufferStats(used, sum(memory.size for memory in kept) - used)


def _references() -> int:
    """How many references to a loan ``is_alone`` counts where there is one array."""
    memory = _Memory(SMALLEST, [])
    array = memory.lend((SMALLEST,), np.uint8)
    _kept.discard(memory)
    base = array.base
    return sys.getrefcount(base)


ALONE = _references()
