"""Convolution by loops over the window: launches of ``conv_direct.cu``."""

from __future__ import annotations

import cupy
import numpy as np

from ..geometry import ConvGeometry
from ._compiler import FLOATS, THREADS, WIDTHS, Kernel, blocks, c_type, vector_width
from ._window import window

__all__ = ["forward", "input_gradient", "weight_gradient"]

INSTANCES = [(t, n) for t in FLOATS for n in (1, WIDTHS[t])]

_forward = Kernel("conv_direct.cu", "direct_forward", INSTANCES)
_backward_input = Kernel("conv_direct.cu", "direct_backward_input", INSTANCES)
_backward_weight = Kernel("conv_direct.cu", "direct_backward_weight", [(t,) for t in FLOATS])
_weight_sum = Kernel("conv_direct.cu", "direct_weight_sum", [(t,) for t in FLOATS])


def forward(x: cupy.ndarray, weight: cupy.ndarray, bias: cupy.ndarray | None, y: cupy.ndarray, g: ConvGeometry) -> None:
    """Write y (N, oh, ow, O) from x (N, H, W, C) and weight (O, C/groups, kh, kw)."""
    filters = cupy.ascontiguousarray(weight.transpose(2, 3, 1, 0))
    _launch(_forward, x, filters, bias, y, g)


def input_gradient(gy: cupy.ndarray, weight: cupy.ndarray, bias: cupy.ndarray | None, gx: cupy.ndarray, g: ConvGeometry) -> None:
    """Write gx (N, H, W, C) from gy (N, oh, ow, O); ``bias`` (C,) or None is added."""
    grouped = weight.reshape(g.groups, g.o // g.groups, g.c // g.groups, g.kh, g.kw)
    filters = cupy.ascontiguousarray(grouped.transpose(3, 4, 1, 0, 2))
    _launch(_backward_input, gy, filters, bias, gx, g)


def _launch(kernel: Kernel, read, filters, bias, written, g: ConvGeometry) -> None:
    depthwise = g.c == g.o == g.groups
    width = vector_width(read, filters, written, multiple_of=g.c) if depthwise else 1
    count = blocks(written.size, THREADS * width)
    kernel((c_type(read.dtype), width), count, THREADS, (read, filters, bias, written, window(g)))


def weight_gradient(gy: cupy.ndarray, x: cupy.ndarray, gw: cupy.ndarray, g: ConvGeometry) -> None:
    """Write gw (O, C/groups, kh, kw), contiguous, from gy (N, oh, ow, O) and x (N, H, W, C)."""
    lines = g.n * g.oh
    across = blocks(gw.size)
    parts_wanted = min(lines, max(1, 2048 // across), 1024)
    height = blocks(lines, parts_wanted)
    count = blocks(lines, height)
    parts = cupy.empty((count, gw.size), np.float64)
    kind = (c_type(x.dtype),)
    _backward_weight(kind, (across, count), THREADS, (gy, x, parts, window(g), np.int32(height)))
    sizes = count, g.o, g.kh * g.kw, g.c // g.groups
    _weight_sum(kind, across, THREADS, (parts, gw, *map(np.int32, sizes)))
