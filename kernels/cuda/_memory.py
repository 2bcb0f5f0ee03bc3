"""Memory of results: which arrays belong to the framework alone."""

from __future__ import annotations

import math
import sys

import cupy
import numpy as np

__all__ = ["empty_result", "is_alone"]


def empty_result(shape: tuple[int, ...], dtype: np.dtype) -> cupy.ndarray:
    """A new contiguous array, recognizable as a kernel's: it is a view of bytes.

    What is computed later from such an array (normalization together with its rectifier, see ``minigrad/ops/_pending.py``) may
    rely on it; an array that the caller made may change at any time.
    """
    size = math.prod(shape)
    if not size:
        return cupy.empty(shape, dtype)
    return cupy.empty(size * dtype.itemsize, np.uint8).view(dtype).reshape(shape)


def is_alone(array: cupy.ndarray) -> bool:
    """Whether no other array shares the memory of a view."""
    base = array.base
    # Referred to by the view, the name here, and the argument of getrefcount.
    return base is not None and base.nbytes == array.nbytes and sys.getrefcount(base) <= 3
