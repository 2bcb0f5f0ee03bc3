"""Sums of rows that belong together: the gradient of picking rows, which may pick one several times."""

from __future__ import annotations

import numpy as np

__all__ = ["sums_by_position"]


def sums_by_position(rows: np.ndarray, position: np.ndarray, count: int) -> np.ndarray:
    """sums[p] = the sum of all rows[i] with position[i] = p, in the order of i; 0 where there is none.

    Sums of floating numbers are float64, of others int64, and rounded to the dtype of ``rows`` at the end.

    rows: (M, K). position: (M,) int64, in 0 ... count - 1. Returns sums (count, K).
    """
    wide = np.int64 if rows.dtype.kind in "iub" else np.float64
    sums = np.zeros((count, rows.shape[1]), wide)
    with np.errstate(invalid="ignore", over="ignore"):
        np.add.at(sums, position, rows.astype(wide))
        return sums.astype(rows.dtype)
