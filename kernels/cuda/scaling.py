"""Gradients multiplied by a number, and a look whether they are finite. See ``kernels/reference/scaling.py``."""

from __future__ import annotations

from collections.abc import Sequence

import cupy
import numpy as np

from ..layout import flat_views
from ._compiler import FLOATS, THREADS, WIDTHS, Kernel, blocks, c_type, on_device

__all__ = ["scale_all"]

LIMIT, PIECE = 192, 2048  # as in scaling.cu and many.cuh: arrays of a launch, numbers of a block

_scale_all = Kernel("scaling.cu", "scale_all", [(t, WIDTHS[t]) for t in FLOATS])


def scale_all(arrays: Sequence[cupy.ndarray], factor: float) -> cupy.ndarray:
    """See reference. One launch for some two hundred arrays of a dtype; those with gaps in memory are copied."""
    return _scaled(arrays, factor) if len(arrays) else cupy.zeros((), np.int32)


@on_device
def _scaled(arrays: Sequence[cupy.ndarray], factor: float) -> cupy.ndarray:
    found = cupy.zeros((), np.int32)
    groups, copies = {}, []
    for array in arrays:
        flat = flat_views(array)
        if flat is None:
            flat = [array.flatten()]
            copies.append((array, flat[0]))
        if array.size:
            groups.setdefault(array.dtype, []).append(flat[0])
    for dtype, group in groups.items():
        number = np.float64(factor) if dtype == np.float64 else np.float32(factor)
        for start in range(0, len(group), LIMIT):
            _launch(group[start : start + LIMIT], number, found)
    for array, values in copies:
        array[...] = values.reshape(array.shape)
    return found


def _launch(group: list[cupy.ndarray], factor: np.floating, found: cupy.ndarray) -> None:
    """One launch for arrays of one dtype, whose table is a value of the launch: nothing is copied to the card."""
    value = np.zeros(2 * LIMIT + LIMIT // 2, np.int64)  # the structure Table of scaling.cu
    table, end = value[: 2 * LIMIT].reshape(2, LIMIT), value[2 * LIMIT :].view(np.int32)
    total = 0
    for row, array in enumerate(group):
        total += blocks(array.size, PIECE)
        table[:, row] = array.data.ptr, 2 * array.size + (array.data.ptr % 16 == 0)
        end[row] = total
    kind = c_type(group[0].dtype)
    _scale_all((kind, WIDTHS[kind]), total, THREADS, (value, np.int32(len(group)), factor, found))
