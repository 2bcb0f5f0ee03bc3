"""Sums of rows that belong together. See ``kernels/reference/gathering.py``."""

from __future__ import annotations

import numpy as np

__all__ = ["sums_by_position"]


def sums_by_position(rows: np.ndarray, position: np.ndarray, count: int) -> np.ndarray:
    """See reference. NumPy's own sums of rows that were sorted by their position."""
    sums = np.zeros((count, rows.shape[1]), rows.dtype)
    if not position.size:
        return sums
    order = np.argsort(position, kind="stable")
    position = position[order]
    first = np.concatenate([np.ones(1, bool), position[1:] != position[:-1]])
    if first.all():  # every position occurs once
        sums[position] = rows[order]
        return sums
    starts = first.nonzero()[0]
    wide = np.int64 if rows.dtype.kind in "iub" else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        sums[position[starts]] = np.add.reduceat(rows[order], starts, axis=0, dtype=wide)
    return sums
