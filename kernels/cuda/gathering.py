"""Sums of rows that belong together. See ``kernels/reference/gathering.py``."""

from __future__ import annotations

import cupy
import numpy as np

from ._compiler import FLOATS, THREADS, Kernel, blocks, c_type, on_device

__all__ = ["sums_by_position"]

_sums_by_position = Kernel("gathering.cu", "sums_by_position", [(t,) for t in (*FLOATS, "index_t")])


@on_device
def sums_by_position(rows: cupy.ndarray, position: cupy.ndarray, count: int) -> cupy.ndarray:
    """See reference. Positions are sorted; a thread adds up one element. (CuPy's reduceat takes differences of running sums.)"""
    whole, dtype = rows.dtype.kind in "iub", rows.dtype
    rows = cupy.ascontiguousarray(rows, np.int64 if whole else None)
    sums = cupy.empty((count, rows.shape[1]), rows.dtype)
    order = cupy.argsort(position, kind="stable")
    values = (rows, position[order], order, sums, *(np.int64(n) for n in (*position.shape, *sums.shape)))
    _sums_by_position(("index_t" if whole else c_type(dtype),), blocks(sums.size), THREADS, values)
    return sums.astype(dtype, copy=False)
