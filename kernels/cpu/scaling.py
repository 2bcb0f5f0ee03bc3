"""Gradients multiplied by a number, and a look whether they are finite. See ``kernels/reference/scaling.py``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._compiler import check_writeable

__all__ = ["scale_all"]


def scale_all(arrays: Sequence[np.ndarray], factor: float) -> np.ndarray:
    """See reference. By NumPy, whose passes over memory take a small part of the time of a step."""
    for array in arrays:
        check_writeable(array=array)
    found = np.zeros((), np.int32)
    with np.errstate(invalid="ignore", over="ignore"):
        for array in arrays:
            np.multiply(array, factor, out=array, casting="same_kind")
            found |= not np.isfinite(array).all()
    return found
