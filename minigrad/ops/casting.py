"""Changing dtype and device; differentiable between floating dtypes."""

from __future__ import annotations

import numpy as np

from minigrad.creation import check_dtype
from minigrad.device import Device, device, device_of, move
from minigrad.ops._base import check_tensor, op, record
from minigrad.ops.shape import contiguous
from minigrad.tensor import Tensor

__all__ = ["cast", "to", "type_as"]


@op
def cast(x: Tensor, dtype=None, device: str | Device | None = None, copy: bool = False) -> Tensor:
    """x as ``dtype`` on ``device``; x itself if nothing changes, unless ``copy``. Keeps the memory order.

    The gradient returns to x's dtype and device; into integers and booleans none flows.
    Raises TypeError for a dtype that tensors cannot have, RuntimeError if the device is missing.
    """
    before, place = check_tensor(x).dtype, device_of(x.data)
    dtype = before if dtype is None else check_dtype(dtype)
    y = x.data if device is None else move(x.data, device)
    if y is x.data and dtype == before and not copy:
        return x
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes infinite; NaN has no integer
        y = y.astype(dtype, copy=y is x.data)

    def backward(gy):
        return move(gy.astype(before, copy=False), place)

    return record(y, (x,), backward)


@op
def to(x: Tensor, *args, dtype=None, device=None, non_blocking: bool = False, copy: bool = False, memory_format=None) -> Tensor:
    """x converted: ``x.to(mg.float64)``, ``x.to("cuda")``, ``x.to("cuda", mg.float16)`` or ``x.to(other_tensor)``.

    x itself if nothing changes. ``memory_format=mg.channels_last`` gives that memory order; ``non_blocking`` is accepted: copies
    to a card never wait for it, and are made from where the tensor lies if a loader with ``pin_memory=True`` made it.
    """
    check_tensor(x)
    for arg in args:
        if isinstance(arg, Tensor):
            dtype, device = arg.dtype, arg.device
        elif _names_device(arg):
            device = arg
        elif isinstance(arg, str):
            dtype = _dtype_named(arg)
        elif not isinstance(arg, bool):  # a boolean there is PyTorch's non_blocking
            dtype = check_dtype(arg)
    y = cast(x, dtype, device, copy)
    return y if memory_format is None else contiguous(y, memory_format)


def _names_device(value) -> bool:
    if isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda"):
        value = device(value)
    return isinstance(value, Device)


def _dtype_named(name: str) -> np.dtype:
    try:
        return check_dtype(name)
    except TypeError:
        raise TypeError(f"{name!r} names no device (cpu, cuda, cuda:1) and no dtype (float32, int64, ...)") from None


@op
def type_as(x: Tensor, other: Tensor) -> Tensor:
    """x with the dtype and on the device of ``other``."""
    check_tensor(other, "other")
    return cast(x, other.dtype, other.device)
