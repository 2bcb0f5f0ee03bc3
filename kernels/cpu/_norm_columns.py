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

__all__ = ["backward", "forward", "moments", "sums"]

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


def _row(values, axes):
    """Values that broadcast to (M, fold, B, L), written out as one row for each of the M matrices."""
    row = np.empty(axes, values.dtype)
    row[...] = values
    return row.reshape(axes[0], axes[1] * axes[2] * axes[3])


def moments(x):
    """Mean and biased variance (M, B)."""
    s, (m, fold, b, length) = _shapes(x)
    means, squares = empty((2, m, s.blocks, s.width), np.float64)
    _block_moments(x.reshape(m, s.rows, s.width), means, squares, *s, work=4 * x.size)
    mean, var = np.empty((2, m, b), x.dtype)
    parts = (array.reshape(m, s.blocks, fold, b, length) for array in (means, squares))
    combine(mean, var, *parts, m, b, s.rows, s.block, work=4 * means.size)
    return mean, var


@kernel
def _block_moments(x, means, squares, m, rows, width, block, blocks):
    for task in prange(m * blocks):
        i, k = task // blocks, task % blocks
        _moments_of(x[i, k * block : min(rows, (k + 1) * block)], means[i, k], squares[i, k])


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
    s, axes = _shapes(x)
    y = empty(x.shape, x.dtype)
    scale = _row((rstd[:, :, None] * weight)[:, None], axes)
    matrices = (array.reshape(s.m, s.rows, s.width) for array in (y, x, x if addend is None else addend))
    factors = _row(mean[:, None, :, None], axes), scale, _row(bias, axes)
    _forward(*matrices, *factors, addend is not None, rectify, x.dtype.type(0), *s, work=2 * x.size)
    return y


@kernel
def _forward(y, x, addend, mean, scale, shift, added, rectify, zero, m, rows, width, block, blocks):
    for task in prange(m * blocks):
        i, k = task // blocks, task % blocks
        for row in range(k * block, min(rows, (k + 1) * block)):
            if added:
                _forward_sum(y[i, row], x[i, row], addend[i, row], mean[i], scale[i], shift[i], rectify, zero)
            else:
                _forward_row(y[i, row], x[i, row], mean[i], scale[i], shift[i], rectify, zero)


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


def sums(gy, x, mean, rstd, weight):
    """Sums of gy * xhat and of gy over M and A, both (B, L); of g and of g * xhat over A and L, both (M, B), g = gy * weight."""
    s, axes = _shapes(x)
    m, fold, b, length = axes
    gbias, gweight = empty((2, m, s.blocks, s.width), np.float64)
    matrices = (array.reshape(m, s.rows, s.width) for array in (gy, x))
    _block_sums(*matrices, _row(mean[:, None, :, None], axes), gbias, gweight, *s, work=4 * x.size)
    gbias, gweight = (array.reshape(m, s.blocks * fold, b, length).sum(axis=1) for array in (gbias, gweight))
    gweight *= rstd[:, :, None]
    return gweight.sum(axis=0), gbias.sum(axis=0), (gbias * weight).sum(axis=2), (gweight * weight).sum(axis=2)


@kernel
def _block_sums(gy, x, mean, gbias, gweight, m, rows, width, block, blocks):
    for task in prange(m * blocks):
        i, k = task // blocks, task % blocks
        start, stop = k * block, min(rows, (k + 1) * block)
        _sums_of(gy[i, start:stop], x[i, start:stop], mean[i], gbias[i, k], gweight[i, k])


@device_function(reassociate=False)
def _sums_of(gy, x, mean, gbias, gweight):
    rows, width = x.shape
    for c in range(width):
        gbias[c] = 0.0
        gweight[c] = 0.0
    for r in range(rows):
        for c in range(width):
            g = np.float64(gy[r, c])
            gbias[c] += g
            gweight[c] += g * (np.float64(x[r, c]) - mean[c])


def backward(gy, x, mean, rstd, weight, offset, slope):
    """gy * (rstd * weight) - offset - (x - mean) * slope; mean, rstd, offset, slope (M, B); weight (B, L)."""
    s, axes = _shapes(x)
    gx = empty(x.shape, x.dtype)
    scale = _row((rstd[:, :, None] * weight)[:, None], axes)
    tables = (_row(values[:, None, :, None], axes) for values in (mean, offset, slope))
    matrices = (array.reshape(s.m, s.rows, s.width) for array in (gx, gy, x))
    _backward(*matrices, scale, *tables, *s, work=4 * x.size)
    return gx


@kernel
def _backward(gx, gy, x, scale, mean, offset, slope, m, rows, width, block, blocks):
    for task in prange(m * blocks):
        i, k = task // blocks, task % blocks
        for row in range(k * block, min(rows, (k + 1) * block)):
            _backward_row(gx[i, row], gy[i, row], x[i, row], scale[i], mean[i], offset[i], slope[i])


@device_function(reassociate=False)
def _backward_row(gx, gy, x, scale, mean, offset, slope):
    for c in range(gx.size):
        gx[c] = gy[c] * scale[c] - offset[c] - (x[c] - mean[c]) * slope[c]
