"""Normalization walked by rows: x (M, 1, B, L) as M * B vectors of length L, each with its own statistics.

The vectors are cut into chunks of L, and a task takes one chunk of several vectors of the same b: so the sums over M, which the
gradients of weight and bias are, have one owner for each block of vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._norm_combine import combine

__all__ = ["backward", "forward", "moments"]

BLOCK = 16384  # elements of a task, at least
LANES = 16  # partial sums side by side: a sum of its own for each makes vector code, in an order that is written here
CHUNK = 2048  # elements of a vector in a task, at most


class _Shape(NamedTuple):
    m: int
    b: int
    length: int
    block: int  # vectors of a task
    chunk: int  # their elements in a task
    blocks: int
    chunks: int


def _shape(x) -> _Shape:
    m, _, b, length = x.shape
    chunk = max(1, min(length, CHUNK))
    block = max(16, BLOCK // chunk)
    return _Shape(m, b, length, block, chunk, -(-m // block), -(-length // chunk))


def moments(x):
    """Mean and biased variance (M, B)."""
    s = _shape(x)
    parts = np.empty((2, s.m, s.chunks, 1, s.b, 1))
    lanes = np.empty((s.blocks * s.b * s.chunks, LANES))
    _chunk_moments(x.reshape(s.m, s.b, s.length), parts[0], parts[1], lanes, *s, work=4 * x.size)
    return combine(parts, s.length, s.chunk, x.dtype)


@kernel
def _chunk_moments(x, means, squares, lanes, m, b, length, block, chunk, blocks, chunks):
    for task in prange(blocks * b * chunks):
        i, j, k = task // (b * chunks), task // chunks % b, task % chunks
        start, stop = k * chunk, min(length, (k + 1) * chunk)
        for v in range(i * block, min(m, (i + 1) * block)):
            means[v, k, 0, j, 0], squares[v, k, 0, j, 0] = _moments_of(x[v, j, start:stop], lanes[task])


@device_function(reassociate=False)
def _moments_of(x, lanes):
    lanes[:] = 0.0
    for start in range(0, x.size, LANES):
        part = x[start : start + LANES]
        for i in range(part.size):
            lanes[i] += part[i]
    mean = _total(lanes) * (1.0 / x.size)
    lanes[:] = 0.0
    for start in range(0, x.size, LANES):
        part = x[start : start + LANES]
        for i in range(part.size):
            deviation = part[i] - mean
            lanes[i] += deviation * deviation
    return mean, _total(lanes)


@device_function(reassociate=False)
def _total(lanes):
    total = 0.0
    for i in range(LANES):
        total += lanes[i]
    return total


def forward(x, mean, rstd, weight, bias):
    """(x - mean) * (rstd * weight) + bias; mean, rstd (M, B); weight, bias (B, L)."""
    s = _shape(x)
    y = empty(x.shape, x.dtype)
    vectors = (array.reshape(s.m, s.b, s.length) for array in (y, x))
    factors = (np.ascontiguousarray(array) for array in (mean, rstd, weight, bias))
    _forward(*vectors, *factors, *s, work=2 * x.size)
    return y


@kernel
def _forward(y, x, mean, rstd, weight, bias, m, b, length, block, chunk, blocks, chunks):
    for task in prange(blocks * b * chunks):
        i, j, k = task // (b * chunks), task // chunks % b, task % chunks
        start, stop = k * chunk, min(length, (k + 1) * chunk)
        w, shift = weight[j, start:stop], bias[j, start:stop]
        for v in range(i * block, min(m, (i + 1) * block)):
            _forward_chunk(y[v, j, start:stop], x[v, j, start:stop], mean[v, j], rstd[v, j], w, shift)


@device_function(reassociate=False)
def _forward_chunk(y, x, mean, rstd, weight, bias):
    for c in range(y.size):
        y[c] = (x[c] - mean) * (rstd * weight[c]) + bias[c]


def backward(gy, x, mean, rstd, weight, through_statistics):
    """gx = gy * (rstd * weight) - offset - (x - mean) * slope, and the gradients of weight and bias; see ``_norm_columns.py``."""
    gweight, gbias, total, projection = _sums(gy, x, mean, rstd, weight)
    if through_statistics:
        scale = rstd / max(x.shape[1] * x.shape[3], 1)
        offset, slope = (total * scale).astype(x.dtype), (projection * scale * rstd).astype(x.dtype)
        gx = _input_gradient(gy, x, mean, rstd, weight, offset, slope)
    else:
        gx = forward(gy, np.zeros_like(mean), rstd, weight, np.zeros_like(weight))
    return gx, gweight.astype(x.dtype), gbias.astype(x.dtype)


def _sums(gy, x, mean, rstd, weight):
    """Sums of gy * xhat and of gy over M and A, both (B, L); of g and of g * xhat over A and L, both (M, B), g = gy * weight."""
    s = _shape(x)
    gbias, gweight = np.zeros((2, s.blocks, s.b, s.length))
    totals, projections = np.empty((2, s.m, s.b, s.chunks))
    vectors = (array.reshape(s.m, s.b, s.length) for array in (gy, x))
    factors = (np.ascontiguousarray(array) for array in (mean, rstd, weight))
    lanes = np.empty((s.blocks * s.b * s.chunks, 2, LANES))
    _chunk_sums(*vectors, *factors, gbias, gweight, totals, projections, lanes, *s, work=6 * x.size)
    return gweight.sum(axis=0), gbias.sum(axis=0), totals.sum(axis=2), projections.sum(axis=2)


@kernel
def _chunk_sums(
    gy, x, mean, rstd, weight, gbias, gweight, totals, projections, lanes, m, b, length, block, chunk, blocks, chunks
):
    for task in prange(blocks * b * chunks):
        i, j, k = task // (b * chunks), task // chunks % b, task % chunks
        start, stop = k * chunk, min(length, (k + 1) * chunk)
        gradients = gbias[i, j, start:stop], gweight[i, j, start:stop]
        for v in range(i * block, min(m, (i + 1) * block)):
            vectors = gy[v, j, start:stop], x[v, j, start:stop], weight[j, start:stop]
            statistics = np.float64(mean[v, j]), np.float64(rstd[v, j])
            totals[v, j, k], projections[v, j, k] = _sums_of(*vectors, *statistics, *gradients, lanes[task, 0], lanes[task, 1])


@device_function(reassociate=False)
def _sums_of(gy, x, weight, mean, rstd, gbias, gweight, total, projection):
    total[:] = 0.0
    projection[:] = 0.0
    for start in range(0, x.size, LANES):
        stop = start + LANES
        parts = gy[start:stop], x[start:stop], weight[start:stop], gbias[start:stop], gweight[start:stop]
        _add_products(*parts, mean, rstd, total, projection)
    return _total(total), _total(projection)


@device_function(reassociate=False)
def _add_products(gy, x, weight, gbias, gweight, mean, rstd, total, projection):
    for i in range(gy.size):
        g = np.float64(gy[i])
        xhat = (x[i] - mean) * rstd
        gbias[i] += g
        gweight[i] += g * xhat
        g *= weight[i]
        total[i] += g
        projection[i] += g * xhat


def _input_gradient(gy, x, mean, rstd, weight, offset, slope):
    """gy * (rstd * weight) - offset - (x - mean) * slope; mean, rstd, offset, slope (M, B); weight (B, L)."""
    s = _shape(x)
    gx = empty(x.shape, x.dtype)
    vectors = (array.reshape(s.m, s.b, s.length) for array in (gx, gy, x))
    factors = (np.ascontiguousarray(array) for array in (weight, mean, rstd, offset, slope))
    _backward(*vectors, *factors, *s, work=4 * x.size)
    return gx


@kernel
def _backward(gx, gy, x, weight, mean, rstd, offset, slope, m, b, length, block, chunk, blocks, chunks):
    for task in prange(blocks * b * chunks):
        i, j, k = task // (b * chunks), task // chunks % b, task % chunks
        start, stop = k * chunk, min(length, (k + 1) * chunk)
        w = weight[j, start:stop]
        for v in range(i * block, min(m, (i + 1) * block)):
            vectors = gx[v, j, start:stop], gy[v, j, start:stop], x[v, j, start:stop]
            _backward_chunk(*vectors, w, mean[v, j], rstd[v, j], offset[v, j], slope[v, j])


@device_function(reassociate=False)
def _backward_chunk(gx, gy, x, weight, mean, rstd, offset, slope):
    for c in range(gx.size):
        gx[c] = gy[c] * (rstd * weight[c]) - offset - (x[c] - mean) * slope
