"""Which array library owns an array, and moving arrays between the processor and the graphics card.

CuPy is imported only when something is moved to or made on "cuda"; without it everything on "cpu" works.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import numpy as np

__all__ = ["Device", "array_module", "cuda_is_available", "device", "device_of", "module_for", "move", "to_numpy"]


class Device:
    """Where an array lives: ``Device("cpu")`` or ``Device("cuda", index)``. Compares equal to its name ("cuda:0", "cpu")."""

    __slots__ = ("index", "type")

    def __init__(self, kind: str, index: int | None = None):
        self.type, self.index = kind, index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type={self.type!r}" + ("" if self.index is None else f", index={self.index}") + ")"

    def __eq__(self, other) -> bool:
        if isinstance(other, str):
            try:
                other = device(other)
            except ValueError:  # the name of another library's device, "mps"
                return False
        return isinstance(other, Device) and (self.type, self.index or 0) == (other.type, other.index or 0)

    def __hash__(self) -> int:
        return hash((self.type, self.index or 0))


CPU = Device("cpu")


def device(name: str | Device, index: int | None = None) -> Device:
    """A Device from its name: "cpu", "cuda" or "cuda:1" (also ``device("cuda", 1)``). Raises ValueError for any other name."""
    if isinstance(name, Device):
        return name
    if index is not None:
        name = f"{name}:{index}"
    kind, _, index = str(name).partition(":")
    if not isinstance(name, str) or kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ValueError(f'device must be "cpu", "cuda" or "cuda:INDEX", got {name!r}')
    if kind == "cpu":
        return CPU
    return Device(kind, int(index) if index else None)


def array_module(x) -> ModuleType:
    """The library of the array ``x``: ``numpy`` or ``cupy``."""
    return np if isinstance(x, (np.ndarray, np.generic)) else sys.modules[type(x).__module__.split(".")[0]]


def device_of(x) -> Device:
    """The Device on which the array ``x`` lies."""
    return CPU if isinstance(x, (np.ndarray, np.generic)) else Device("cuda", x.device.id)


def _cupy(where: Device) -> ModuleType:
    try:
        cupy = importlib.import_module("cupy")
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # a broken driver shows itself in many exception types
        raise RuntimeError(
            f"cannot use device {str(where)!r}: {type(error).__name__}: {error}. "
            'It needs an NVIDIA driver and CuPy: pip install "minigrad-numpy[gpu]"'
        ) from None
    if (where.index or 0) >= count:
        raise RuntimeError(f"device {str(where)!r} does not exist: this machine has {count}")
    return cupy


def module_for(where: str | Device) -> ModuleType:
    """The array library that makes arrays on ``where``. Raises RuntimeError when CuPy or the device is missing."""
    where = device(where)
    return np if where.type == "cpu" else _cupy(where)


def move(x, where: str | Device):
    """The array ``x`` on ``where``: itself if it is there already, else a copy that keeps its memory order."""
    where = device(where)
    if where.type == "cpu":
        return to_numpy(x)
    cupy = _cupy(where)
    with cupy.cuda.Device(where.index or 0):
        return cupy.asarray(x)


def to_numpy(x) -> np.ndarray:
    """The array ``x`` as a NumPy array (itself if it is one)."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np.asarray(x)
    return x.get(order="A")


def cuda_is_available() -> bool:
    """Whether CuPy is installed and finds a graphics card."""
    try:
        _cupy(Device("cuda"))
    except RuntimeError:
        return False
    return True
