"""Which array library owns an array, and moving arrays between the processor and the graphics card.

CuPy is imported only when something is moved to or made on "cuda"; without it everything on "cpu" works.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np

from minigrad import _card, _card_memory
from minigrad.modes import state

__all__ = [
    "Device",
    "array_module",
    "bfloat16",
    "card",
    "cuda_is_available",
    "device",
    "device_of",
    "finfo",
    "is_floating",
    "module_for",
    "move",
    "new_array",
    "pinned",
    "to_numpy",
]


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


def is_floating(dtype: np.dtype) -> bool:
    """Whether numbers of this dtype have a floating point. NumPy, which does not know bfloat16, takes it for no number at all."""
    return dtype.kind == "f" or (dtype.kind == "V" and dtype.name == "bfloat16")


def bfloat16() -> np.dtype:
    """The dtype of 16-bit numbers with the exponents of float32. Raises ImportError without the package that defines it."""
    try:
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError as error:
        raise ImportError(f"bfloat16 needs the package ml_dtypes: pip install ml_dtypes ({error})") from None


def finfo(dtype) -> np.finfo:
    """The limits of a floating dtype: ``eps``, ``max``, ``min``, ``tiny``."""
    bfloat = getattr(dtype, "name", None) == "bfloat16"
    return importlib.import_module("ml_dtypes").finfo(dtype) if bfloat else np.finfo(dtype)


def device_of(x) -> Device:
    """The Device on which the array ``x`` lies."""
    return CPU if isinstance(x, (np.ndarray, np.generic)) else Device("cuda", x.device.id)


def _cupy(where: Device) -> tuple[ModuleType, int]:
    """CuPy, and the number of the card; "cuda" without a number is the current one. Raises RuntimeError that says what to do."""
    cupy = sys.modules.get("cupy")
    index = where.index
    if cupy is None or cupy not in _opened:
        cupy = _open(where)
    if index is None:
        index = cupy.cuda.runtime.getDevice()
    cards = _opened[cupy]
    if index not in cards:
        _checked(where, _card.check_card, cupy, _existing(where, index, cupy))
        cards.add(index)
    return cupy, index


_opened: dict[ModuleType, set[int]] = {}  # CuPy, once it was found to work -> the cards that were


def _open(where: Device) -> ModuleType:
    try:
        cupy = importlib.import_module("cupy")
    except Exception as error:  # a broken installation shows itself in many exception types
        raise RuntimeError(f"cannot use device {str(where)!r}: {_card.why_not_imported(error)}") from None
    _checked(where, _card.check_driver, cupy)
    _checked(where, _card.check_libraries, cupy)
    _card_memory.install(cupy)
    _opened[cupy] = set()
    return cupy


def _checked(where: Device, check: Callable, *args):
    try:
        return check(*args)
    except RuntimeError as error:
        raise RuntimeError(f"cannot use device {str(where)!r}: {error}") from None


def _existing(where: Device, index: int, cupy: ModuleType) -> int:
    count = _checked(where, _card.check_driver, cupy)
    if index >= count:
        raise RuntimeError(f"device {str(where)!r} does not exist: this machine has {count}")
    return index


def module_for(where: str | Device) -> ModuleType:
    """The array library that makes arrays on ``where``. Raises RuntimeError when CuPy or the device is missing."""
    where = device(where)
    return np if where.type == "cpu" else _cupy(where)[0]


def new_array(where: str | Device, function: str, *args):
    """``numpy.FUNCTION(*args)``, or CuPy's on the card that ``where`` names."""
    where = device(where)
    if where.type == "cpu":
        return getattr(np, function)(*args)
    cupy, index = _cupy(where)
    with cupy.cuda.Device(index):
        return getattr(cupy, function)(*args)


def card(where: str | int | Device | None = None) -> tuple[ModuleType, int]:
    """(CuPy, number of the card) of a card given as "cuda", "cuda:1", 1, a Device or None, which is the current one.

    Raises RuntimeError when CuPy or the card is missing, ValueError for what names no card.
    """
    if where is None or (isinstance(where, int) and not isinstance(where, bool) and where >= 0):
        where = Device("cuda", where)
    where = device(where)
    if where.type != "cuda":
        raise ValueError(f'device must be a card ("cuda", "cuda:1" or its number), got {str(where)!r}')
    return _cupy(where)


# ---- transfers: the only ones that there are -----------------------------------------------------------------------------


def move(x, where: str | Device):
    """The array ``x`` on ``where``: itself if it is there already, else a copy of its dtype, with its memory order."""
    where = device(where)
    if where.type == "cpu":
        return to_numpy(x)
    cupy, index = _cupy(where)
    if isinstance(x, cupy.ndarray) and x.device.id == index:
        return x
    with cupy.cuda.Device(index):
        if isinstance(x, cupy.ndarray):
            return _in_order(x, lambda a: a.copy())  # onto the current card
        if state.capture is not None:
            raise RuntimeError("a transfer to a card cannot be part of a CUDA graph, which would repeat it with old memory")
        return _in_order(np.asarray(x), cupy.asarray)


def to_numpy(x) -> np.ndarray:
    """The array ``x`` as a NumPy array (itself if it is one)."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np.asarray(x)
    return _in_order(x, lambda a: a.get())


def pinned(x: np.ndarray) -> np.ndarray:
    """A copy of x, in its memory order, in memory from which a card copies by itself while the program goes on."""
    cupy, _ = _cupy(Device("cuda"))

    def copy(a):
        memory = np.frombuffer(cupy.cuda.alloc_pinned_memory(a.nbytes), a.dtype, a.size).reshape(a.shape)
        memory[...] = a
        return memory

    return _in_order(x, copy) if x.size else x


def _in_order(x, copy: Callable):
    """``copy`` of x, made in the order in which its elements lie in memory, because CuPy's copies keep but two such orders."""
    if x.flags.c_contiguous or any(s == 0 and n > 1 for s, n in zip(x.strides, x.shape, strict=True)):
        return copy(x)
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    return copy(x.transpose(order)).transpose(sorted(range(x.ndim), key=order.__getitem__))


def cuda_is_available() -> bool:
    """Whether CuPy is installed and finds a graphics card."""
    try:
        _cupy(Device("cuda", 0))
    except RuntimeError:
        return False
    return True
