"""Graphics cards: which there are, their memory, streams and events. PyTorch's ``torch.cuda``.

``device`` is always a card's number, its name ("cuda:1") or ``mg.device``; None is the current card. Functions that need a card
raise RuntimeError, which says what is missing, where there is none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minigrad import _card_memory
from minigrad._card_memory import OutOfMemoryError
from minigrad.capture import graph
from minigrad.device import Device, card, cuda_is_available

__all__ = [
    "DeviceProperties",
    "Event",
    "OutOfMemoryError",
    "Stream",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "empty_cache",
    "get_device_capability",
    "get_device_name",
    "get_device_properties",
    "graph",
    "is_available",
    "is_bf16_supported",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "reset_peak_memory_stats",
    "set_device",
    "stream",
    "synchronize",
]

Card = int | str | Device | None


# ---- cards -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeviceProperties:
    """What ``get_device_properties`` gives."""

    name: str
    major: int  # of the compute capability
    minor: int
    total_memory: int  # bytes
    multi_processor_count: int


def is_available() -> bool:
    """Whether CuPy is installed and finds a graphics card that the kernels run on."""
    return cuda_is_available()


def device_count() -> int:
    """The number of graphics cards that CuPy finds; 0 without CuPy."""
    return card(0)[0].cuda.runtime.getDeviceCount() if cuda_is_available() else 0


def current_device() -> int:
    """The number of the card on which "cuda" makes tensors in this thread."""
    return card()[1]


def set_device(device: Card) -> None:
    """Make this card the current one of this thread; ``with mg.cuda.device(1):`` does so for a block."""
    cupy, index = card(device)
    cupy.cuda.Device(index).use()


class device:
    """``with mg.cuda.device(1):`` makes this card the current one inside the block."""

    def __init__(self, device: Card):
        self._cupy, self.idx = card(device)
        self._before: list[int] = []

    def __enter__(self) -> device:
        self._before.append(self._cupy.cuda.runtime.getDevice())
        self._cupy.cuda.Device(self.idx).use()
        return self

    def __exit__(self, *exc_info) -> None:
        self._cupy.cuda.Device(self._before.pop()).use()


def get_device_properties(device: Card = None) -> DeviceProperties:
    """The name, compute capability, memory and number of multiprocessors of a card."""
    cupy, index = card(device)
    found = cupy.cuda.runtime.getDeviceProperties(index)
    sizes = found["totalGlobalMem"], found["multiProcessorCount"]
    return DeviceProperties(found["name"].decode(), found["major"], found["minor"], *sizes)


def get_device_name(device: Card = None) -> str:
    """The name of a card."""
    return get_device_properties(device).name


def get_device_capability(device: Card = None) -> tuple[int, int]:
    """The compute capability of a card: (8, 0) for 8.0."""
    found = get_device_properties(device)
    return found.major, found.minor


def is_bf16_supported() -> bool:
    """Whether the current card multiplies matrices of bfloat16 by itself; others compute them too, but slowly."""
    return cuda_is_available() and get_device_capability() >= (8, 0)


def synchronize(device: Card = None) -> None:
    """Wait until the card has finished everything that was asked of it. Needed before reading a clock."""
    cupy, index = card(device)
    cupy.cuda.Device(index).synchronize()


# ---- memory ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _pool(device: Card) -> Iterator[tuple[Any, _card_memory.Peak]]:
    """CuPy's memory pool, which speaks of the current card, and the peak of that card."""
    cupy, index = card(device)
    with cupy.cuda.Device(index):
        yield cupy.get_default_memory_pool(), _card_memory.peaks(cupy, index)


def memory_allocated(device: Card = None) -> int:
    """Bytes that arrays of this process take on the card."""
    with _pool(device) as (pool, _):
        return pool.used_bytes()


def max_memory_allocated(device: Card = None) -> int:
    """The most bytes that arrays took on the card, since the program began or ``reset_peak_memory_stats()``."""
    with _pool(device) as (pool, peak):
        return max(peak.bytes, pool.used_bytes())


def memory_reserved(device: Card = None) -> int:
    """Bytes on the card that this process holds for arrays, those that it keeps for later included."""
    with _pool(device) as (pool, _):
        return pool.total_bytes()


def reset_peak_memory_stats(device: Card = None) -> None:
    """Let ``max_memory_allocated`` begin again at what is allocated now."""
    with _pool(device) as (pool, peak):
        peak.reset(pool)


def mem_get_info(device: Card = None) -> tuple[int, int]:
    """(free, all) bytes of the card, whoever uses them."""
    cupy, index = card(device)
    with cupy.cuda.Device(index):
        return cupy.cuda.runtime.memGetInfo()


def empty_cache() -> None:
    """Give the memory that this process keeps for later back to the cards. No effect without one."""
    if cuda_is_available():
        cupy = card(0)[0]
        cupy.get_default_memory_pool().free_all_blocks()
        cupy.get_default_pinned_memory_pool().free_all_blocks()


# ---- streams and events ------------------------------------------------------------------------------------------------


class Event:
    """A place in a stream: it can be waited for, and two of them measure the time between them.

    start, end = mg.cuda.Event(enable_timing=True), mg.cuda.Event(enable_timing=True)
    start.record()
    ...
    end.record()
    end.synchronize()
    print(start.elapsed_time(end), "ms")
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False):
        self._cupy = card()[0]
        self.enable_timing = bool(enable_timing)
        self.event = self._cupy.cuda.Event(block=bool(blocking), disable_timing=not enable_timing)

    def record(self, stream: Stream | None = None) -> None:
        """Put the event at the present end of a stream (by default the current one)."""
        self.event.record(current_stream().stream if stream is None else stream.stream)

    def wait(self, stream: Stream | None = None) -> None:
        """Let what follows in a stream (by default the current one) wait for the event."""
        (current_stream() if stream is None else stream).wait_event(self)

    def query(self) -> bool:
        """Whether everything before the event is done."""
        return self.event.done

    def synchronize(self) -> None:
        """Wait until everything before the event is done."""
        self.event.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to ``end_event``; both must have been made with ``enable_timing=True`` and be done."""
        if not (self.enable_timing and end_event.enable_timing):
            raise ValueError("elapsed_time: make both events with Event(enable_timing=True)")
        return self._cupy.cuda.get_elapsed_time(self.event, end_event.event)


class Stream:
    """A queue of work for a card; what is in one stream runs in order, several streams run beside one another.

    Work is put into the current stream: ``with mg.cuda.stream(s):``. Arrays that one stream makes and another reads need
    ``wait_stream``, and must not be freed before the other is done with them.
    """

    def __init__(self, device: Card = None):
        cupy, index = card(device)
        with cupy.cuda.Device(index):
            self.stream = cupy.cuda.Stream(non_blocking=True)

    @classmethod
    def _of(cls, stream: Any) -> Stream:
        self = cls.__new__(cls)
        self.stream = stream
        return self

    def synchronize(self) -> None:
        """Wait until everything in the stream is done."""
        self.stream.synchronize()

    def query(self) -> bool:
        """Whether everything in the stream is done."""
        return self.stream.done

    def record_event(self, event: Event | None = None) -> Event:
        """An event (by default a new one) at the present end of the stream."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Let what follows in this stream wait for the event."""
        self.stream.wait_event(event.event)

    def wait_stream(self, stream: Stream) -> None:
        """Let what follows in this stream wait for what is in another one now."""
        self.wait_event(stream.record_event())

    def __eq__(self, other) -> bool:
        return isinstance(other, Stream) and self.stream.ptr == other.stream.ptr

    def __hash__(self) -> int:
        return hash(self.stream.ptr)


def current_stream() -> Stream:
    """The stream of this thread into which work is put."""
    return Stream._of(card()[0].cuda.get_current_stream())


def default_stream() -> Stream:
    """The stream into which work is put where no other was chosen."""
    return Stream._of(card()[0].cuda.Stream.null)


@contextlib.contextmanager
def stream(stream: Stream | None) -> Iterator[None]:
    """Inside ``with mg.cuda.stream(s):`` work is put into ``s``; None changes nothing."""
    with contextlib.nullcontext() if stream is None else stream.stream:
        yield


# ---- random numbers ----------------------------------------------------------------------------------------------------


def manual_seed(seed: int) -> None:
    """No effect: random numbers come from ``mg.manual_seed``, and are the same on every device."""


manual_seed_all = manual_seed
