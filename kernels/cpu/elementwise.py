"""Rectifiers and sums, element by element. See ``kernels/reference/elementwise.py``.

Arrays that lie in memory in one and the same order without gaps are walked as vectors, on all threads; others are NumPy's.
"""

from __future__ import annotations

import numpy as np

from ..layout import empty_like, flat_views
from ._buffers import empty
from ._compiler import check_writeable, device_function, kernel, prange
from ._vector import lanes, load, load_first, select_positive, store, store_first

__all__ = ["add", "relu_backward", "relu_forward"]

BLOCK = 16384  # elements of a task
SMALL = 2048  # elements up to which NumPy is as fast


def relu_forward(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """See reference."""
    if out is not None:
        check_writeable(out=out)
    y = empty_like(x, empty) if out is None else out
    flat = _vectors(x, y)
    if flat is None:
        return np.maximum(x, 0, out=y)
    _select(flat[0], flat[0], flat[1], -(-x.size // BLOCK), work=x.size)
    return y


def relu_backward(gy: np.ndarray, y: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
    """See reference."""
    gx = empty_like(y, empty)
    given = (gy,) if other is None else (gy, other)
    flat = _vectors(*given, y, gx)
    if flat is None:
        np.copyto(gx, gy if other is None else gy + other)
        np.copyto(gx, 0, where=y <= 0)
        return gx
    (_select if other is None else _select_sum)(*flat, -(-y.size // BLOCK), work=y.size)
    return gx


def add(x: np.ndarray, y: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """See reference."""
    if out is not None:
        check_writeable(out=out)
    total = empty_like(x, empty) if out is None else out
    flat = _vectors(x, y, total)
    if flat is None:
        return np.add(x, y, out=total)
    _add(*flat, -(-x.size // BLOCK), work=x.size)
    return total


def _vectors(*arrays):
    """Large arrays of float32 or float64 as vectors; None if NumPy does it as well."""
    if arrays[0].size <= SMALL or arrays[0].dtype.itemsize < 4:
        return None
    return flat_views(*arrays)


@kernel
def _select(x, y, out, blocks):
    for block in prange(blocks):
        _select_block(x, y, out, block * BLOCK, min(x.size, (block + 1) * BLOCK))


@device_function(reassociate=False)
def _select_block(x, y, out, start, stop):
    step = lanes(x)
    for i in range(start, stop - step + 1, step):
        store(out, i, select_positive(load(x, i), load(y, i)))
    tail = (stop - start) % step
    if tail:
        i = stop - tail
        store_first(out, i, select_positive(load_first(x, i, tail), load_first(y, i, tail)), tail)


@kernel
def _select_sum(x, other, y, out, blocks):
    for block in prange(blocks):
        _select_sum_block(x, other, y, out, block * BLOCK, min(x.size, (block + 1) * BLOCK))


@device_function(reassociate=False)
def _select_sum_block(x, other, y, out, start, stop):
    step = lanes(x)
    for i in range(start, stop - step + 1, step):
        store(out, i, select_positive(load(x, i) + load(other, i), load(y, i)))
    tail = (stop - start) % step
    if tail:
        i = stop - tail
        total = load_first(x, i, tail) + load_first(other, i, tail)
        store_first(out, i, select_positive(total, load_first(y, i, tail)), tail)


@kernel
def _add(x, y, out, blocks):
    for block in prange(blocks):
        _add_block(x, y, out, block * BLOCK, min(x.size, (block + 1) * BLOCK))


@device_function(reassociate=False)
def _add_block(x, y, out, start, stop):
    step = lanes(x)
    for i in range(start, stop - step + 1, step):
        store(out, i, load(x, i) + load(y, i))
    tail = (stop - start) % step
    if tail:
        i = stop - tail
        store_first(out, i, load_first(x, i, tail) + load_first(y, i, tail), tail)
