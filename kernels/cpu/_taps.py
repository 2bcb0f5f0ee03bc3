"""Windows as lists of taps, and the kernel that averages or interpolates over them.

A pooling or a resizing treats rows and columns alike and apart: row i of the output depends on a few rows of the input, each
with a weight, column j on a few columns. Those are the taps of one axis. So one kernel computes average pooling, adaptive
average pooling, nearest-neighbour and bilinear resizing, and, with the taps transposed, the gradient of each of them, where
every pixel gathers what it must: no two threads ever write to the same place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..layout import nhwc
from ._buffers import empty
from ._compiler import device_function, kernel, prange

__all__ = ["Taps", "resample", "taps", "transposed"]


class Taps(NamedTuple):
    """Output i reads the inputs index[start[i]:start[i + 1]] with weight[start[i]:start[i + 1]]."""

    start: np.ndarray
    index: np.ndarray
    weight: np.ndarray


def taps(windows: Sequence[Iterable[int]], weights: Sequence[Iterable[float]]) -> Taps:
    """Taps from the inputs and the weights of every output."""
    indices = [list(window) for window in windows]
    return Taps(
        np.cumsum([0] + [len(window) for window in indices], dtype=np.int64),
        np.array([i for window in indices for i in window], dtype=np.int64),
        np.array([w for window in weights for w in window], dtype=np.float64),
    )


def transposed(axis: Taps, size: int) -> Taps:
    """The same weights listed for each of the ``size`` inputs: which outputs read it, in ascending order."""
    outputs = np.repeat(np.arange(len(axis.start) - 1), np.diff(axis.start))
    order = np.argsort(axis.index, kind="stable")
    counts = np.bincount(axis.index, minlength=size)
    return Taps(np.concatenate(([0], np.cumsum(counts))), outputs[order], axis.weight[order])


def resample(x: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """y[i, j] = sum over the row taps a of i and the column taps b of j of weight_a * weight_b * x[index_a, index_b].

    x: (N, C, H, W). Returns y (N, C, oh, ow), summed in float64.
    """
    n, c = x.shape[:2]
    oh, ow = len(rows.start) - 1, len(columns.start) - 1
    y = empty((n, oh, ow, c), x.dtype)
    totals = empty((n * oh, c), np.float64)
    work = n * c * len(rows.index) * len(columns.index)
    _resample(nhwc(x), y, totals, *rows, *columns, n, oh, work=work)
    return y.transpose(0, 3, 1, 2)


@kernel
def _resample(x, y, totals, row_start, row_index, row_weight, column_start, column_index, column_weight, n, oh):
    for task in prange(n * oh):
        image, i = task // oh, task % oh
        first, last = row_start[i], row_start[i + 1]
        _resample_line(
            x[image], y[image, i], totals[task], row_index, row_weight, first, last, column_start, column_index, column_weight
        )


@device_function(reassociate=False)
def _resample_line(x, line, total, row_index, row_weight, first, last, column_start, column_index, column_weight):
    channels = total.size
    for j in range(line.shape[0]):
        for c in range(channels):
            total[c] = 0.0
        for a in range(first, last):
            for b in range(column_start[j], column_start[j + 1]):
                weight = row_weight[a] * column_weight[b]
                pixel = x[row_index[a], column_index[b]]
                for c in range(channels):
                    total[c] += weight * pixel[c]
        for c in range(channels):
            line[j, c] = total[c]
