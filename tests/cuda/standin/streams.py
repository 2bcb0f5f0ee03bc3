"""Streams, events and graphs of the stand-in. There is one thread: what is asked for is done at once, or noted in a capture."""

from __future__ import annotations

import numpy as np

__all__ = ["CUDARuntimeError", "Event", "Graph", "Stream", "change"]


class CUDARuntimeError(RuntimeError):
    """What CuPy's runtime raises."""


class Stream:
    """A stream. While it captures, launches are noted and not run, and whatever would wait for the card is an error."""

    current: Stream

    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.ptr = 0 if null else id(self)
        self.notes: list | None = None
        self.before: list[Stream] = []

    def __enter__(self):
        self.before.append(Stream.current)
        Stream.current = self
        return self

    def __exit__(self, *exc_info):
        Stream.current = self.before.pop()

    def use(self):
        Stream.current = self
        return self

    @staticmethod
    def wait() -> None:
        if Stream.current.notes is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")

    def synchronize(self) -> None:
        if self.notes is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")

    def is_capturing(self) -> bool:
        return self.notes is not None

    def begin_capture(self, mode=None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the legacy default stream")
        self.notes = []

    def end_capture(self):
        notes, self.notes = self.notes, None
        return Graph(notes)

    @property
    def done(self) -> bool:
        return True

    def record(self, event=None):
        return event or Event()

    def wait_event(self, event) -> None:
        pass


class Graph:
    """What a stream has captured."""

    def __init__(self, notes: list):
        self.notes = notes

    def launch(self, stream=None) -> None:
        for note in self.notes:
            note()


class Event:
    """A place in a stream."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.done = True

    def record(self, stream=None) -> None:
        pass

    def synchronize(self) -> None:
        pass


Stream.null = Stream(null=True)
Stream.current = Stream.null


def change(function, *args, **kwargs) -> None:
    """function(...), which writes into an array; while a graph is captured, only noted."""

    def change():
        with np.errstate(all="ignore"):
            function(*args, **kwargs)

    if Stream.current.notes is None:
        change()
    else:
        Stream.current.notes.append(change)
