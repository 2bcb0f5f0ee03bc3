"""Normalization walked by columns: x (M, A, B, L) as M matrices of A rows and B * L columns.

The columns accumulate side by side, in vectors; sums over L are taken at the end. Where the columns are few, ``fold`` rows are
taken as one, which makes the vectors longer and changes nothing else: every statistic is a sum over rows and folds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._norm_combine import combine

__all__ = ["backward", "forward", "moments"]

BLOCK = 16384  # elements of a block, about: a block is read twice and should stay in the second-level cache
WIDTH = 128  # columns from which on a loop over columns is efficient


class _Shape(NamedTuple):
    m: int
    rows: int  # A / fold
    width: int  # fold * B * L
    block: int  # rows of a block
    blocks: int


def _shapes(x) -> tuple[_Shape, tuple[int, int, int, int]]:
    """How x is walked, and the axes (M, fold, B, L) of a row of the matrices."""
    m, a, b, length = x.shape
    fold = 1
    while 2 * fold * b * length <= WIDTH and a % (2 * fold) == 0:
        fold *= 2
    rows, width = a // fold, fold * b * length
    block = max(32, BLOCK // max(width, 1))
    return _Shape(m, rows, width, block, -(-rows // block)), (m, fold, b, length)


def moments(x):
    """Mean and biased variance (M, B)."""
    s, (m, fold, b, length) = _shapes(x)
    parts = empty((2, m, s.blocks, s.width), np.float64)
    _block_moments(x.reshape(m, s.rows, s.width), parts, *s, work=4 * x.size)
    return combine(parts.reshape(2, m, s.blocks, fold, b, length), s.rows, s.block, x.dtype)


@kernel
def _block_moments(x, parts, m, rows, width, block, blocks):
    for task in prange(m * blocks):
        i, k = task // blocks, task % blocks
        _moments_of(x[i, k * block : min(rows, (k + 1) * block)], parts[0, i, k], parts[1, i, k])


@device_function(reassociate=False)
def _moments_of(x, mean, square):
    rows, width = x.shape
    for c in range(width):
        mean[c] = 0.0
        square[c] = 0.0
    for r in range(rows):
        for c in range(width):
            mean[c] += x[r, c]
    scale = 1.0 / rows
    for c in range(width):
        mean[c] *= scale
    for r in range(rows):
        for c in range(width):
            deviation = x[r, c] - mean[c]
            square[c] += deviation * deviation


def forward(x, mean, rstd, weight, bias, addend=None, rectify=False):
    """(x - mean) * (rstd * weight) + bias (+ addend, rectified); mean, rstd (M, B); weight, bias (B, L)."""
    s, (_, _, b, length) = _shapes(x)
    y, table = empty(x.shape, x.dtype), empty((s.m, 3, s.width), x.dtype)
    _fill_table(table, mean.ravel(), rstd.ravel(), weight.ravel(), bias.ravel(), b, length, work=4 * table.size)
    matrices = (array.reshape(s.m, s.rows, s.width) for array in (y, x, x if addend is None else addend))
    _forward(*matrices, table, addend is not None, rectify, x.dtype.type(0), *s, work=2 * x.size)
    return y


@kernel
def _fill_table(table, mean, rstd, weight, bias, b, length):
    """table[i] = (mean, rstd * weight, bias) for each column of matrix i."""
    for i in prange(table.shape[0]):
        for j in range(b):
            for k in range(length):
                at = j * length + k
                for c in range(at, table.shape[2], b * length):
                    table[i, 0, c] = mean[i * b + j]
                    table[i, 1, c] = rstd[i * b + j] * weight[at]
                    table[i, 2, c] = bias[at]


@kernel
def _forward(y, x, addend, table, added, rectify, zero, m, rows, width, block, blocks):
    for task in prange(m * blocks):
        i, k = task // blocks, task % blocks
        for row in range(k * block, min(rows, (k + 1) * block)):
            if added:
                _forward_sum(y[i, row], x[i, row], addend[i, row], table[i, 0], table[i, 1], table[i, 2], rectify, zero)
            else:
                _forward_row(y[i, row], x[i, row], table[i, 0], table[i, 1], table[i, 2], rectify, zero)


@device_function(reassociate=False)
def _forward_row(y, x, mean, scale, shift, rectify, zero):
    for c in range(y.size):
        value = (x[c] - mean[c]) * scale[c] + shift[c]
        y[c] = zero if rectify and value <= zero else value


@device_function(reassociate=False)
def _forward_sum(y, x, addend, mean, scale, shift, rectify, zero):
    for c in range(y.size):
        value = (x[c] - mean[c]) * scale[c] + shift[c]
        value += addend[c]
        y[c] = zero if rectify and value <= zero else value


def backward(gy, x, mean, rstd, weight, through_statistics):
    """gx = gy * (rstd * weight) - offset - (x - mean) * slope, like x, and the gradients of weight and bias, (B, L).

    offset and slope (M, B) are rstd times the averages of g and rstd^2 times those of g * (x - mean) * rstd, g = gy * weight:
    what flows through mean and rstd.
    """
    s, (m, _, b, length) = _shapes(x)
    partials, table = empty((2, m, s.blocks, s.width), np.float64), empty((m, 4, s.width), x.dtype)
    mean, rstd, weight = mean.ravel(), rstd.ravel(), weight.ravel()
    gy, flat = gy.reshape(m, s.rows, s.width), x.reshape(m, s.rows, s.width)
    _fill_means(table, mean, b, length, work=table.size)
    _block_sums(gy, flat, table, partials, *s, work=4 * x.size)
    sums = np.empty((2, m, b * length))
    scale = x.dtype.type(1 / max(x.shape[1] * length, 1)) if through_statistics else x.dtype.type(0)
    _fold_sums(partials, sums, table, rstd, weight, scale, b, length, work=partials.size)
    gx = empty(x.shape, x.dtype)
    _backward(gx.reshape(m, s.rows, s.width), gy, flat, table, through_statistics, *s, work=4 * x.size)
    gbias, gweight = (sums[:, 0] if m == 1 else sums.sum(axis=1)).astype(x.dtype).reshape(2, b, length)
    return gx, gweight, gbias


@kernel
def _fill_means(table, mean, b, length):
    for i in prange(table.shape[0]):
        for j in range(b):
            for k in range(length):
                for c in range(j * length + k, table.shape[2], b * length):
                    table[i, 0, c] = mean[i * b + j]


@kernel
def _block_sums(gy, x, table, partials, m, rows, width, block, blocks):
    for task in prange(m * blocks):
        i, k = task // blocks, task % blocks
        start, stop = k * block, min(rows, (k + 1) * block)
        _sums_of(gy[i, start:stop], x[i, start:stop], table[i, 0], partials[0, i, k], partials[1, i, k])


@device_function(reassociate=False)
def _sums_of(gy, x, mean, gbias, gweight):
    """Sums of gy and of gy * (x - mean)."""
    rows, width = x.shape
    for c in range(width):
        gbias[c] = 0.0
        gweight[c] = 0.0
    for r in range(rows):
        for c in range(width):
            g = np.float64(gy[r, c])
            gbias[c] += g
            gweight[c] += g * (np.float64(x[r, c]) - mean[c])


@kernel
def _fold_sums(partials, sums, table, rstd, weight, scale, b, length):
    """Add up the blocks and folds of each matrix: sums (2, M, B * L) of gy and of gy * xhat; and fill the rest of its table."""
    for i in prange(partials.shape[1]):
        _add_blocks(partials[0, i], sums[0, i])
        _add_blocks(partials[1, i], sums[1, i])
        for j in range(b):
            total, projection, r = 0.0, 0.0, rstd[i * b + j]
            for at in range(j * length, (j + 1) * length):
                sums[1, i, at] *= r
                total += sums[0, i, at] * weight[at]
                projection += sums[1, i, at] * weight[at]
            for at in range(j * length, (j + 1) * length):
                for c in range(at, table.shape[2], b * length):
                    table[i, 1, c] = r * weight[at]
                    table[i, 2, c] = total * (r * scale)
                    table[i, 3, c] = projection * (r * scale) * r


@device_function(reassociate=False)
def _add_blocks(partials, sums):
    """Every block has as many columns as the first: that one becomes the sum of all."""
    total = partials[0]
    for block in range(1, partials.shape[0]):
        _add(partials[block], total)
    size = sums.size
    for first in range(size, total.size, size):
        _add(total[first : first + size], total[:size])
    for c in range(size):
        sums[c] = total[c]


@device_function(reassociate=False)
def _add(x, total):
    for c in range(total.size):
        total[c] += x[c]


@kernel
def _backward(gx, gy, x, table, through_statistics, m, rows, width, block, blocks):
    for task in prange(m * blocks):
        i, k = task // blocks, task % blocks
        for row in range(k * block, min(rows, (k + 1) * block)):
            if through_statistics:
                _backward_row(gx[i, row], gy[i, row], x[i, row], table[i, 0], table[i, 1], table[i, 2], table[i, 3])
            else:  # whatever x is: it may be infinite
                _scale_row(gx[i, row], gy[i, row], table[i, 1])


@device_function(reassociate=False)
def _backward_row(gx, gy, x, mean, scale, offset, slope):
    for c in range(gx.size):
        gx[c] = gy[c] * scale[c] - offset[c] - (x[c] - mean[c]) * slope[c]


@device_function(reassociate=False)
def _scale_row(gx, gy, scale):
    for c in range(gx.size):
        gx[c] = gy[c] * scale[c]
