"""What kernels need to know while a training step is captured into a CUDA graph.

During a capture nothing is computed: launches are noted, with the values of their parameters, and every replay repeats them with
those. What must be another value at every replay (a learning rate, the state of a random generator) therefore lies in memory of
the card, and is written anew before each replay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cupy
import numpy as np

__all__ = [
    "Capture",
    "before_replay",
    "fault",
    "faults_are_looked_for",
    "is_capturing",
    "needs_own_products",
    "number_of_replay",
    "rehearsal",
    "set_capture",
]


class Capture:
    """A capture under way, and what belongs to its graph afterwards."""

    def __init__(self):
        self.refreshes: list[Callable[[], None]] = []
        self.fault = cupy.zeros(1, np.int32)  # 1 after a replay met a wrong label; then no parameter changes any more
        self.looks_for_faults = False

    def refresh(self) -> None:
        """Write what the next replay needs."""
        for function in self.refreshes:
            function()


class _Local(threading.local):
    capture: Capture | None = None
    rehearses = False


_local = _Local()


def set_capture(value: Capture | None) -> None:
    """Begin or end a capture of this thread, as far as the kernels are concerned."""
    _local.capture = value


def fault() -> cupy.ndarray | None:
    """The flag of the capture that is under way, if there is one."""
    return None if _local.capture is None else _local.capture.fault


def faults_are_looked_for() -> None:
    """The graph that is being captured may raise its flag."""
    _local.capture.looks_for_faults = True


@contextmanager
def rehearsal() -> Iterator[None]:
    """Inside it the kernels are those that a capture would take: they are compiled then, and the numbers are the same."""
    before, _local.rehearses = _local.rehearses, True
    try:
        yield
    finally:
        _local.rehearses = before


def needs_own_products() -> bool:
    """Whether products take the project's own kernel, because CuPy refuses cuBLAS while a graph is captured."""
    return _local.rehearses or _local.capture is not None


def is_capturing() -> bool:
    """Whether this thread captures its launches into a graph."""
    return _local.capture is not None


def before_replay(refresh: Callable[[], None]) -> None:
    """Call ``refresh()`` before every replay of the graph that is being captured, also before the first one."""
    _local.capture.refreshes.append(refresh)


def number_of_replay(current: Callable[[], float]) -> cupy.ndarray:
    """A float64 array without dimensions that holds ``current()`` at every replay."""
    value, last = cupy.empty((), np.float64), [None]

    def refresh() -> None:
        number = float(current())
        if number != last[0]:
            value.set(np.array(number))
            last[0] = number

    before_replay(refresh)
    return value
