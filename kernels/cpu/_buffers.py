"""Memory for results and for work in between, which is used again and again.

A fresh array of some megabytes costs more than the kernel that fills it: the system hands it out page by page, each zeroed first.
So memory is kept when its array is gone, and the next array of the same size gets it. Whether an array, or a view of it, or
anything that shares its memory is still there, is what Python counts anyway: all of them hold a reference to the owner of the
memory. Only the owner is kept here, and when nobody else refers to it, it is free.

Memory that a program has stopped using goes back to the system when other sizes are asked for, or with ``empty_cache()``.
Arrays begin at a cache line, so that no vector lies across two.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

__all__ = ["BufferStats", "buffer_stats", "empty", "empty_cache", "is_alone", "zeros"]

LINE = 64  # bytes of a cache line
SMALLEST = 16 * 1024  # bytes from which on memory is kept
MOST = 4  # times as much free memory as was ever in use at once is kept, and ...
FLOOR = 64 * 2**20  # ... at least so many bytes: beyond that, what was used least recently is given back
STALE = 4  # memory is given back when so many times as many arrays as are kept were made since it was last used


class _Owner:
    """A piece of memory, where its first cache line begins, and when it was last handed out."""

    __slots__ = ("memory", "offset", "used")

    def __init__(self, size: int):
        self.memory = np.empty(size + LINE, np.uint8)
        self.offset = -self.memory.__array_interface__["data"][0] % LINE
        self.used = 0

    def references(self) -> int:
        return sys.getrefcount(self.memory)


IDLE = _Owner(1).references()  # what Python counts when only its owner refers to memory
# Without the global interpreter lock the counts of other threads' references are not exact at any moment.
RELIABLE = getattr(sys, "_is_gil_enabled", lambda: True)() and sys.implementation.name == "cpython"

_kept: dict[int, list[_Owner]] = {}  # bytes -> owners; the one used last is at the end
_clock = 0
_peak = 0  # bytes in use at once, at most, as seen when new memory was needed


def empty(shape: tuple[int, ...], dtype) -> np.ndarray:
    """A new array of any content, as ``np.empty`` makes it."""
    global _clock
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALLEST or not RELIABLE:
        return np.empty(shape, dtype)
    _clock += 1
    owners = _kept.get(size)
    if owners is None:
        owners = _kept.setdefault(size, [])
    owner, busy = None, []
    while owners:  # taken out of the list while it is looked at, so that no other thread can take it too
        candidate = owners.pop()
        if candidate.references() == IDLE:
            owner = candidate
            break
        busy.append(candidate)
    owners.extend(reversed(busy))
    if owner is None:
        _discard_stale()
        owner = _Owner(size)
    owner.used = _clock
    array = np.ndarray(shape, dtype, owner.memory, owner.offset)
    owners.append(owner)
    return array


def is_alone(array: np.ndarray) -> bool:
    """Whether ``array`` lies in memory that is kept here, and nothing else refers to that memory."""
    for owner in list(_kept.get(array.nbytes, ())):
        if owner.memory is array.base:
            return owner.references() == IDLE + 1
    return False


def zeros(shape: tuple[int, ...], dtype) -> np.ndarray:
    """A new array of zeros."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def _discard_stale(age: int | None = None) -> None:
    """Give back free memory that was not used for the last ``age`` arrays (default: a few times as many as are kept)."""
    if age is None:
        age = STALE * sum(map(len, list(_kept.values()))) + 100
    for owners in list(_kept.values()):
        for owner in list(owners):
            if owner.references() == IDLE and owner.used <= _clock - age:
                try:
                    owners.remove(owner)
                except ValueError:  # another thread has just taken it
                    continue
    _discard_surplus()


def _discard_surplus() -> None:
    """Give back the free memory that was used least recently where much more is free than was ever in use at once."""
    global _peak
    pairs = [(owner, owners) for owners in list(_kept.values()) for owner in list(owners)]
    free = [(owner, owners) for owner, owners in pairs if owner.references() == IDLE]
    total = sum(owner.memory.nbytes for owner, _ in free)
    _peak = max(_peak, sum(owner.memory.nbytes for owner, _ in pairs) - total)
    for owner, owners in sorted(free, key=lambda pair: pair[0].used):
        if total <= max(FLOOR, MOST * _peak):
            break
        total -= owner.memory.nbytes
        try:
            owners.remove(owner)
        except ValueError:  # another thread has just taken it
            continue


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
    owners = [owner for owners in list(_kept.values()) for owner in list(owners)]
    free = sum(owner.memory.nbytes for owner in owners if owner.references() == IDLE)
    return BufferStats(sum(owner.memory.nbytes for owner in owners) - free, free)
