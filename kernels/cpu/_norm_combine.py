"""Combining the means and variances of parts."""

from __future__ import annotations

import numpy as np

from ._compiler import device_function, kernel, prange

__all__ = ["combine"]

CHANNELS = 64  # of a task


def combine(parts: np.ndarray, size: int, block: int, dtype) -> np.ndarray:
    """Mean and biased variance (2, M, B) of parts whose means and sums of squared deviations are (2, M, parts, fold, B, L).

    The parts cut ``size`` elements into blocks of ``block`` (the last one may be smaller); each has ``fold`` * L columns.
    The squared deviations of all elements are those inside the parts plus those of the parts' means (Chan, Golub and
    LeVeque 1983): sums of positive terms, which cannot cancel.
    """
    _, m, number, fold, b, length = parts.shape
    totals, moments = np.empty((2, m, b)), np.empty((2, m, b), dtype)
    groups = -(-b // CHANNELS)
    rows = parts.reshape(2, m, number * fold, b * length)
    _combine(moments, totals, rows, length, fold, groups, size, block, work=4 * parts.size)
    return moments


@kernel
def _combine(moments, totals, rows, length, fold, groups, size, block):
    for task in prange(totals.shape[1] * groups):
        i, first = task // groups, task % groups * CHANNELS
        last = min(totals.shape[2], first + CHANNELS)
        mean, var = totals[0, i, first:last], totals[1, i, first:last]
        means, squares = rows[0, i, :, first * length : last * length], rows[1, i, :, first * length : last * length]
        scale = 1.0 / (size * fold * length)
        mean[:] = 0.0
        var[:] = 0.0
        for row in range(rows.shape[2]):
            _add_means(means[row], mean, np.float64(min(block, size - row // fold * block)), length)
        for c in range(mean.size):
            mean[c] *= scale
        for row in range(rows.shape[2]):
            _add_squares(means[row], squares[row], mean, var, np.float64(min(block, size - row // fold * block)), length)
        for c in range(mean.size):
            moments[0, i, first + c] = mean[c]
            moments[1, i, first + c] = var[c] * scale


@device_function(reassociate=False)
def _add_means(means, total, count, length):
    if length == 1:  # vector code
        for c in range(total.size):
            total[c] += count * means[c]
        return
    for c in range(total.size):
        for t in range(length):
            total[c] += count * means[c * length + t]


@device_function(reassociate=False)
def _add_squares(means, squares, mean, total, count, length):
    if length == 1:
        for c in range(total.size):
            deviation = means[c] - mean[c]
            total[c] += squares[c] + count * deviation * deviation
        return
    for c in range(total.size):
        for t in range(length):
            deviation = means[c * length + t] - mean[c]
            total[c] += squares[c * length + t] + count * deviation * deviation
