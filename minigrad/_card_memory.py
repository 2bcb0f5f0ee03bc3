"""The memory of graphics cards: CuPy's pool behind an allocator that knows the peak, and that says what to do when it ends."""

from __future__ import annotations

from types import ModuleType

__all__ = ["OutOfMemoryError", "Peak", "install", "peaks"]


class OutOfMemoryError(RuntimeError):
    """A graphics card has no room for an array. What was asked, what is there and what helps stands in the message.

    Nothing that the failed operation was to change has changed: training goes on with a smaller batch.
    """


class Peak:
    """The largest number of bytes that arrays took of one card.

    The pool can say exactly how many are taken, but adds up all of its blocks for that. So here a bound is kept, which only
    grows: what was taken when the pool was last asked, and all that was given out since. The pool is asked again when the bound
    passes the peak.
    """

    def __init__(self):
        self.bytes = self.bound = 0

    def count(self, size: int, pool) -> None:
        """``size`` more bytes were given out."""
        self.bound += size + 511  # the pool rounds up
        if self.bound > self.bytes:
            self.bound = pool.used_bytes()
            self.bytes = max(self.bytes, self.bound)

    def reset(self, pool) -> None:
        """Begin again at what is taken now."""
        self.bytes = self.bound = pool.used_bytes()


_peaks: dict[ModuleType, dict[int, Peak]] = {}


def peaks(cupy: ModuleType, index: int) -> Peak:
    """The peak of card number ``index``."""
    return _peaks.setdefault(cupy, {}).setdefault(index, Peak())


def install(cupy: ModuleType) -> None:
    """Make CuPy take memory for arrays through here, unless somebody has given it another allocator or this one already."""
    pool = cupy.get_default_memory_pool()
    if cupy in _peaks or cupy.cuda.get_allocator() != pool.malloc:
        return
    of_card = _peaks[cupy] = {}
    exhausted, current = cupy.cuda.memory.OutOfMemoryError, cupy.cuda.runtime.getDevice

    def allocate(size: int):
        try:
            memory = pool.malloc(size)
        except exhausted:
            memory = None
        if memory is None:  # outside: CuPy's exception, and what it refers to, is let go
            memory = _once_more(cupy, pool, size)
        if size:
            peak = of_card.get(index := current())
            (peak if peak is not None else peaks(cupy, index)).count(size, pool)
        return memory

    cupy.cuda.set_allocator(allocate)


def _once_more(cupy: ModuleType, pool, size: int):
    """The memory, now that the pool has given back what nobody uses. Raises OutOfMemoryError."""
    pool.free_all_blocks()
    try:
        return pool.malloc(size)
    except cupy.cuda.memory.OutOfMemoryError:
        message = _message(cupy, pool, size)
    raise OutOfMemoryError(message)


def _message(cupy: ModuleType, pool, size: int) -> str:
    free, total = cupy.cuda.runtime.memGetInfo()
    return (
        f"CUDA out of memory: asked for {_amount(size)} on card {cupy.cuda.runtime.getDevice()}, which has {_amount(total)}, "
        f"of which {_amount(free)} are free; arrays of this process take {_amount(pool.used_bytes())} there, and its pool holds "
        f"{_amount(pool.total_bytes())}. Use smaller batches or images, evaluate inside `with mg.no_grad():`, keep losses "
        "as loss.item(), or end other programs on the card; mg.cuda.empty_cache() gives back what the pool holds unused"
    )


def _amount(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"
