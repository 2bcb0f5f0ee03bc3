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
    columns, moments = np.empty((m, fold * b * length)), np.empty((2, m, b), dtype)
    channels = CHANNELS if fold == 1 else b  # of a task
    sizes = b, length, fold, channels, -(-b // channels), size, block
    _combine(moments, columns, parts.reshape(2, m, number, fold * b * length), sizes, work=4 * parts.size)
    return moments


@kernel
def _combine(moments, columns, parts, sizes):
    for task in prange(columns.shape[0] * sizes[4]):
        b, length, fold, channels, groups, size, block = sizes
        i, first = task // groups, task % groups * channels
        last, scale = min(b, first + channels), 1.0 / (size * fold * length)
        begin, end = first * length, columns.shape[1] if fold > 1 else last * length
        totals = columns[i, begin:end]
        totals[:] = 0.0
        for part in range(parts.shape[2]):
            _add_means(parts[0, i, part, begin:end], totals, np.float64(min(block, size - part * block)))
        _fold(totals, moments[0, i, first:last], length, scale, True)
        for part in range(parts.shape[2]):
            count = np.float64(min(block, size - part * block))
            _move_deviations(parts[0, i, part, begin:end], parts[1, i, part, begin:end], totals, count)
        totals[:] = 0.0
        for part in range(parts.shape[2]):
            _add_means(parts[1, i, part, begin:end], totals, 1.0)
        _fold(totals, moments[1, i, first:last], length, scale, False)


@device_function(reassociate=False)
def _add_means(means, totals, count):
    for c in range(totals.size):
        totals[c] += count * means[c]


@device_function(reassociate=False)
def _move_deviations(means, squares, mean, count):
    """The squared deviations of a part become those from the mean of all."""
    for c in range(mean.size):
        deviation = means[c] - mean[c]
        squares[c] += count * deviation * deviation


@device_function(reassociate=False)
def _fold(totals, results, length, scale, spread):
    """The sums over folds and L, times scale, one for each channel; where ``spread``, all columns of a channel get it as well."""
    width = results.size * length
    for channel in range(results.size):
        total = 0.0
        for first in range(channel * length, totals.size, width):
            for column in range(first, first + length):
                total += totals[column]
        total *= scale
        results[channel] = total
        if spread:
            for first in range(channel * length, totals.size, width):
                for column in range(first, first + length):
                    totals[column] = total
