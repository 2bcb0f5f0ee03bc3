"""Graphics cards: how many there are and what they are called."""

from __future__ import annotations

from minigrad.device import cuda_is_available, module_for

__all__ = [
    "device_count",
    "empty_cache",
    "get_device_name",
    "is_available",
    "manual_seed",
    "manual_seed_all",
    "synchronize",
]


def is_available() -> bool:
    """Whether CuPy is installed and finds a graphics card."""
    return cuda_is_available()


def device_count() -> int:
    """The number of graphics cards that CuPy finds; 0 without CuPy."""
    return module_for("cuda").cuda.runtime.getDeviceCount() if cuda_is_available() else 0


def get_device_name(index: int = 0) -> str:
    """The name of a graphics card. Raises RuntimeError if there is none with this index."""
    return module_for(f"cuda:{index}").cuda.runtime.getDeviceProperties(index)["name"].decode()


def synchronize() -> None:
    """Wait until the current graphics card has finished everything that was asked of it. Needed before reading a clock."""
    module_for("cuda").cuda.Device().synchronize()


def empty_cache() -> None:
    """Give the memory that CuPy keeps for later back to the graphics card. No effect without one."""
    if cuda_is_available():
        module_for("cuda").get_default_memory_pool().free_all_blocks()


def manual_seed(seed: int) -> None:
    """No effect: all random numbers are drawn on the processor, from ``mg.manual_seed``, and are the same on every device."""


manual_seed_all = manual_seed
