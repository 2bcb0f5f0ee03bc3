"""Gradients multiplied by a number, and a look whether they are finite: the specification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["scale_all"]


def scale_all(arrays: Sequence[np.ndarray], factor: float) -> np.ndarray:
    """Multiply some arrays by ``factor``, in place, and say whether a product is infinite or NaN.

    arrays: floating, of any shapes and strides. Returns an int32 array without dimensions: 1 if there is such a product, else 0.
    """
    found = np.zeros((), np.int32)
    with np.errstate(invalid="ignore", over="ignore"):
        for array in arrays:
            array[...] = array.astype(np.float64) * factor
            found |= not np.isfinite(array).all()
    return found
