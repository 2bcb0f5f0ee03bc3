"""Rectifiers and sums, element by element. See ``kernels/reference/elementwise.py``."""

from __future__ import annotations

import cupy
import numpy as np

from ..layout import empty_like, flat_views
from ._compiler import FLOATS, THREADS, WIDTHS, Kernel, blocks, c_type, on_device, vector_width

__all__ = ["add", "relu_backward", "relu_forward"]

INSTANCES = [(t, n) for t in FLOATS for n in (1, WIDTHS[t])]

_relu_forward = Kernel("elementwise.cu", "relu_forward", INSTANCES)
_relu_backward = Kernel("elementwise.cu", "relu_backward", INSTANCES)
_relu_backward_sum = Kernel("elementwise.cu", "relu_backward_sum", INSTANCES)
_add = Kernel("elementwise.cu", "add", INSTANCES)


@on_device
def relu_forward(x: cupy.ndarray, out: cupy.ndarray | None = None) -> cupy.ndarray:
    """See reference. One pass over memory."""
    y = empty_like(x, cupy.empty) if out is None else out
    _launch(_relu_forward, y, x)
    return y


@on_device
def relu_backward(gy: cupy.ndarray, y: cupy.ndarray, other: cupy.ndarray | None = None) -> cupy.ndarray:
    """See reference. One pass over memory."""
    gx = empty_like(y, cupy.empty)
    if other is None:
        _launch(_relu_backward, gx, gy, y)
    else:
        _launch(_relu_backward_sum, gx, gy, other, y)
    return gx


@on_device
def add(x: cupy.ndarray, y: cupy.ndarray, out: cupy.ndarray | None = None) -> cupy.ndarray:
    """See reference. One pass over memory."""
    total = empty_like(x, cupy.empty) if out is None else out
    _launch(_add, total, x, y)
    return total


def _launch(kernel: Kernel, result: cupy.ndarray, *arrays: cupy.ndarray) -> None:
    """Write ``result``; arrays of other memory orders than its own, or with gaps, are copied into that order first."""
    flat = flat_views(result, *arrays)
    if flat is not None:
        _pass(kernel, *flat)
        return
    target = result if flat_views(result) else empty_like(result, cupy.empty)
    if flat_views(target) is None:
        target = cupy.empty(result.shape, result.dtype)
    _pass(kernel, *flat_views(target, *(_like(target, a) for a in arrays)))
    if target is not result:
        result[...] = target


def _like(target: cupy.ndarray, array: cupy.ndarray) -> cupy.ndarray:
    """``array``, or a copy, in the memory order of ``target``."""
    if flat_views(target, array) is not None:
        return array
    copy = cupy.empty_like(target)
    copy[...] = array
    return copy


def _pass(kernel: Kernel, result: cupy.ndarray, *arrays: cupy.ndarray) -> None:
    width = vector_width(result, *arrays)
    values = (*arrays, result, np.int64(result.size))
    kernel((c_type(result.dtype), width), blocks(result.size, THREADS * width), THREADS, values)
