"""Normalization. See ``kernels/reference/normalization.py`` for what each function computes.

A view x (M, A, B, L) is walked in one of two ways, so that the inner loop is long and contiguous:

* by columns, where A > 1 (batch, instance and group normalization): x is (M, rows, columns) with B * L columns, which all
  accumulate at once; the sums over L are taken at the end. A few columns are widened by taking several rows as one.
* by rows, where A = 1 (layer normalization): x is (M, B, L), and a statistic is a sum along contiguous memory.

Sums are float64. A task is a block whose size depends on the shape of x alone, and the results of the blocks are combined in
a fixed order: the bits of a result do not depend on the number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._compiler import device_function, kernel, prange
from ._local_response import local_response_norm_backward, local_response_norm_forward

__all__ = [
    "local_response_norm_backward",
    "local_response_norm_forward",
    "moments",
    "normalize_backward",
    "normalize_forward",
]

BLOCK = 16384  # elements of a block, about: blocks are read twice and should stay in the second-level cache
WIDTH = 128  # columns for which a loop over columns is efficient
CHUNK = 2048  # elements of a row that are summed at once


class _Columns(NamedTuple):
    """x (M, A, B, L) as (m, rows, width), with ``fold`` rows of B * L columns taken as one, in blocks of ``block`` rows."""

    m: int
    rows: int
    fold: int
    width: int
    block: int
    blocks: int


class _Rows(NamedTuple):
    """x (M, 1, B, L) in blocks of ``block`` entries of M and ``chunk`` of L."""

    m: int
    b: int
    length: int
    block: int
    blocks: int
    chunk: int
    chunks: int


def _columns(shape) -> _Columns:
    m, a, b, length = shape
    fold = 1
    while 2 * fold * b * length <= WIDTH and a % (2 * fold) == 0:
        fold *= 2
    rows, width = a // fold, fold * b * length
    block = max(32, BLOCK // max(width, 1))
    return _Columns(m, rows, fold, width, block, -(-rows // block))


def _rows(shape) -> _Rows:
    m, _, b, length = shape
    chunk = max(1, min(length, CHUNK))
    block = max(16, BLOCK // chunk)
    return _Rows(m, b, length, block, -(-m // block), chunk, -(-length // chunk))


# ----- moments -----


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See reference. Each block is read twice, for its mean and for the squared deviations from that; then they are combined."""
    m, a, b, length = x.shape
    mean, var = np.full((m, b), np.nan, x.dtype), np.full((m, b), np.nan, x.dtype)
    if x.size == 0:
        return mean, var
    if a > 1:
        s = _columns(x.shape)
        means, squares = np.empty((2, m, s.blocks, s.fold, b, length))
        tables = means.reshape(m, s.blocks, s.width), squares.reshape(m, s.blocks, s.width)
        _column_moments(x.reshape(m, s.rows, s.width), *tables, m, s.rows, s.block, s.blocks, work=4 * x.size)
        _combine(mean, var, means, squares, m, b, s.rows, s.block, work=4 * means.size)
    else:
        s = _rows(x.shape)
        means, squares = np.empty((2, m, s.chunks, 1, b, 1))
        _row_moments(x.reshape(m, b, length), means, squares, *s, work=4 * x.size)
        _combine(mean, var, means, squares, m, b, length, s.chunk, work=4 * means.size)
    return mean, var


@kernel
def _column_moments(x, means, squares, m, rows, block, blocks):
    for task in prange(m * blocks):
        i, k = task // blocks, task % blocks
        _block_moments(x[i, k * block : min(rows, (k + 1) * block)], means[i, k], squares[i, k])


@device_function
def _block_moments(x, mean, square):
    rows, columns = x.shape
    for c in range(columns):
        mean[c] = 0.0
        square[c] = 0.0
    for r in range(rows):
        for c in range(columns):
            mean[c] += x[r, c]
    for c in range(columns):
        mean[c] *= 1.0 / rows
    for r in range(rows):
        for c in range(columns):
            deviation = x[r, c] - mean[c]
            square[c] += deviation * deviation


@kernel
def _row_moments(x, means, squares, m, b, length, block, blocks, chunk, chunks):
    for task in prange(blocks * b * chunks):
        i, j, k = task // (b * chunks), task // chunks % b, task % chunks
        for row in range(i * block, min(m, (i + 1) * block)):
            mean, square = _vector_moments(x[row, j, k * chunk : min(length, (k + 1) * chunk)])
            means[row, k, 0, j, 0] = mean
            squares[row, k, 0, j, 0] = square


@device_function
def _vector_moments(x):
    mean = 0.0
    for i in range(x.size):
        mean += x[i]
    mean *= 1.0 / x.size
    square = 0.0
    for i in range(x.size):
        deviation = x[i] - mean
        square += deviation * deviation
    return mean, square


@kernel
def _combine(mean, var, means, squares, m, b, size, block):
    """Mean and variance from those of parts: (m, part, fold, b, l), a part holding ``block`` of ``size`` elements."""
    for task in prange(m * b):
        i, j = task // b, task % b
        mean[i, j], var[i, j] = _combined(means[i, :, :, j], squares[i, :, :, j], size, block)


@device_function
def _combined(means, squares, size, block):
    parts, fold, length = means.shape
    total = 0.0
    for part in range(parts):
        count = min(block, size - part * block)
        for f in range(fold):
            for t in range(length):
                total += count * means[part, f, t]
    scale = 1.0 / (size * fold * length)
    mean = total * scale
    total = 0.0
    for part in range(parts):
        count = min(block, size - part * block)
        for f in range(fold):
            for t in range(length):
                deviation = means[part, f, t] - mean
                total += squares[part, f, t] + count * deviation * deviation
    return mean, total * scale


# ----- forward -----


def normalize_forward(
    x: np.ndarray, mean: np.ndarray, rstd: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None
) -> np.ndarray:
    """See reference. y = (x - mean) * (rstd * weight) + bias, in the dtype of x."""
    m, a, b, length = x.shape
    y = np.empty_like(x)
    weight = np.ones((b, length), x.dtype) if weight is None else weight
    bias = np.zeros((b, length), x.dtype) if bias is None else bias
    if a > 1:
        s = _columns(x.shape)
        center, shift = _table(mean[:, None, :, None], x.shape, s), _table(bias, x.shape, s)
        with np.errstate(invalid="ignore", over="ignore"):
            scale = _table(rstd[:, None, :, None] * weight, x.shape, s)
        shape = m, s.rows, s.width
        arrays = y.reshape(shape), x.reshape(shape), center, scale, shift
        _column_forward(*arrays, m, s.rows, s.block, s.blocks, work=2 * x.size)
    else:
        s, shape = _rows(x.shape), (m, b, length)
        arrays = (np.ascontiguousarray(array) for array in (mean, rstd, weight, bias))
        _row_forward(y.reshape(shape), x.reshape(shape), *arrays, *s, work=2 * x.size)
    return y


def _table(values, shape, columns):
    """Values that broadcast to (M, fold, B, L), as a row of ``width`` entries for each m."""
    m, _, b, length = shape
    table = np.empty((m, columns.fold, b, length), values.dtype)
    table[...] = values
    return table.reshape(m, columns.width)


@kernel
def _column_forward(y, x, mean, scale, shift, m, rows, block, blocks):
    for task in prange(m * blocks):
        i, k = task // blocks, task % blocks
        for row in range(k * block, min(rows, (k + 1) * block)):
            _shift_and_scale(y[i, row], x[i, row], mean[i], scale[i], shift[i])


@device_function
def _shift_and_scale(y, x, mean, scale, shift):
    for c in range(y.size):
        y[c] = (x[c] - mean[c]) * scale[c] + shift[c]


@kernel
def _row_forward(y, x, mean, rstd, weight, bias, m, b, length, block, blocks, chunk, chunks):
    for task in prange(blocks * b * chunks):
        i, j, k = task // (b * chunks), task // chunks % b, task % chunks
        part = slice(k * chunk, min(length, (k + 1) * chunk))
        for row in range(i * block, min(m, (i + 1) * block)):
            _standardize(y[row, j, part], x[row, j, part], mean[row, j], rstd[row, j], weight[j, part], bias[j, part])


@device_function
def _standardize(y, x, mean, rstd, weight, bias):
    for c in range(y.size):
        y[c] = (x[c] - mean) * (rstd * weight[c]) + bias[c]


# ----- backward -----


def normalize_backward(
    gy: np.ndarray, x: np.ndarray, mean: np.ndarray, rstd: np.ndarray, weight: np.ndarray | None, through_statistics: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See reference. One pass for all sums, one for gx = gy * scale - offset - (x - mean) * slope."""
    m, a, b, length = x.shape
    weight = np.ones((b, length), x.dtype) if weight is None else np.ascontiguousarray(weight)
    by_columns = a > 1
    s = _columns(x.shape) if by_columns else _rows(x.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        sums = _column_sums_of if by_columns else _row_sums_of
        gweight, gbias, total, projection = sums(gy, x, mean, rstd, weight, s)
        gweight, gbias = gweight.astype(x.dtype), gbias.astype(x.dtype)
        if not through_statistics:
            zero = np.zeros((m, b), x.dtype)
            return normalize_forward(gy, zero, rstd, weight, None), gweight, gbias
        rstd64 = rstd.astype(np.float64)
        offset = (rstd64 * total / max(a * length, 1)).astype(x.dtype)  # (M, B)
        slope = (rstd64 * rstd64 * projection / max(a * length, 1)).astype(x.dtype)
        gx = np.empty_like(x)
        if by_columns:
            scale = _table(rstd[:, None, :, None] * weight, x.shape, s)
            tables = [_table(values[:, None, :, None], x.shape, s) for values in (mean, offset, slope)]
            shape = m, s.rows, s.width
            arrays = gx.reshape(shape), gy.reshape(shape), x.reshape(shape), scale, *tables
            _column_backward(*arrays, m, s.rows, s.block, s.blocks, work=4 * x.size)
        else:
            shape = m, b, length
            arrays = gx.reshape(shape), gy.reshape(shape), x.reshape(shape), weight
            vectors = (np.ascontiguousarray(array) for array in (mean, rstd, offset, slope))
            _row_backward(*arrays, *vectors, *s, work=4 * x.size)
    return gx, gweight, gbias
