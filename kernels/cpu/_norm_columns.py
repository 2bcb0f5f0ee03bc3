"""Normalization walked by columns: x (M, A, B, L) as M matrices of A rows and B * L columns.

The columns accumulate side by side, in vectors; sums over L are taken at the end. Where the columns are few, ``fold`` rows are
taken as one, which makes the vectors longer and changes nothing else: every statistic is a sum over rows and folds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._norm_combine import combine
from ._threads import get_num_threads
from ._vector import (
    clear,
    fma,
    lanes,
    load,
    load_first,
    load_narrow,
    load_wide,
    narrow,
    select_positive,
    store,
    store_first,
    widen,
)

__all__ = ["backward", "forward", "moments"]

BLOCK = 32768  # elements of a block, about
WIDTH = 128  # columns from which on a loop over columns is efficient


class _Shape(NamedTuple):
    """How x is walked."""

    m: int
    rows: int  # A / fold
    width: int  # fold * B * L
    block: int  # rows of a block
    blocks: int
    b: int
    length: int

    @property
    def fold(self) -> int:
        return self.width // max(self.b * self.length, 1)


@lru_cache(maxsize=1024)
def _shape_of(m: int, a: int, b: int, length: int) -> _Shape:
    fold = 1
    while 2 * fold * b * length <= WIDTH and a % (2 * fold) == 0:
        fold *= 2
    rows, width = a // fold, fold * b * length
    block = max(128, BLOCK // max(width, 1))
    return _Shape(m, rows, width, block, -(-rows // block), b, length)


def moments(x):
    """Mean and biased variance (M, B)."""
    s = _shape_of(*x.shape)
    parts = empty((3, s.m, s.blocks, s.width), np.float64)
    _block_moments(x.reshape(-1), parts.reshape(-1), tuple(s), work=4 * x.size)
    return combine(parts[:2].reshape(2, s.m, s.blocks, s.fold, s.b, s.length), s.rows, s.block, x.dtype)


@kernel(reassociate=False)
def _block_moments(x, parts, sizes):
    for task in prange(sizes[0] * sizes[4]):
        m, rows, width, block, blocks, _, _ = sizes
        i, k = task // blocks, task % blocks
        first, last = k * block, min(rows, (k + 1) * block)
        places = task * width, (m * blocks + task) * width, (2 * m * blocks + task) * width
        _moments_of(x, (i * rows + first) * width, last - first, width, parts, places)


@device_function(reassociate=False)
def _moments_of(x, at, rows, width, sums, places):
    """The means of the columns of some rows, and the sums of the squared deviations from them, in one pass.

    With d = x - p they are p + sum(d) / n and sum(d^2) - sum(d)^2 / n. That difference loses little if p is near to the mean: it
    is the median of the first, the middle and the last row. It is one of the n values, so even at its worst its squared distance
    from their mean is at most n times their variance.
    """
    mean, square, pivot = places
    middle, end = at + rows // 2 * width, at + (rows - 1) * width
    for c in range(width):
        value = np.float64(_median(x[at + c], x[middle + c], x[end + c]))
        sums[pivot + c] = value if value - value == 0 else 0.0  # an infinite one would make NaN of an infinite mean
    clear(sums, mean, width)
    clear(sums, square, width)
    whole = rows - rows % 8
    for r in range(0, whole, 8):
        _add_eight(x, at + r * width, width, sums, mean, square, pivot)
    for r in range(whole, rows):
        _add_one(x, at + r * width, width, sums, mean, square, pivot)
    if not _is_finite(sums, square, width):  # a square may be beyond float32: once more, each number by itself
        clear(sums, mean, width)
        clear(sums, square, width)
        for r in range(rows):
            _add_one(x, at + r * width, width, sums, mean, square, pivot)
    scale = 1.0 / rows
    for c in range(width):
        total = sums[mean + c]
        average = total * scale
        sums[mean + c] = sums[pivot + c] + average
        sums[square + c] = _not_negative(sums[square + c] - total * average)


@device_function(reassociate=False, inline=True)
def _median(a, b, c):
    low, high = (a, b) if a < b else (b, a)
    return low if c < low else high if c > high else c


@device_function(reassociate=False)
def _is_finite(sums, at, width):
    total = 0.0
    for c in range(width):
        total += sums[at + c]
    return total - total == 0


@device_function(reassociate=False, inline=True)
def _not_negative(value):
    return 0.0 if value < 0 else value


# Sums over rows are kept in memory as float64, and eight rows are added to them at a time, whose own sums are in the dtype of x:
# to widen every number would take longer than to read it. That is off by at most 3 eps times the terms' magnitudes, and less for
# many rows, whose errors differ in sign. Whole vectors go without masks.


@device_function(reassociate=False)
def _add_eight(x, at, width, sums, mean, square, pivot):
    step = lanes(sums)
    for c in range(0, width - step + 1, step):
        _add_eight_vectors(x, at + c, width, sums, mean + c, square + c, pivot + c, step)
    if width % step:
        c = width - width % step
        _add_eight_vectors(x, at + c, width, sums, mean + c, square + c, pivot + c, width % step)


@device_function(reassociate=False, inline=True)
def _add_eight_vectors(x, k, width, sums, mean, square, pivot, count):
    center, half = narrow(x, load_first(sums, pivot, count)), k + 4 * width
    d0, d1 = load_narrow(x, k, count) - center, load_narrow(x, k + width, count) - center
    d2, d3 = load_narrow(x, k + 2 * width, count) - center, load_narrow(x, k + 3 * width, count) - center
    d4, d5 = load_narrow(x, half, count) - center, load_narrow(x, half + width, count) - center
    d6, d7 = load_narrow(x, half + 2 * width, count) - center, load_narrow(x, half + 3 * width, count) - center
    total = ((d0 + d1) + (d2 + d3)) + ((d4 + d5) + (d6 + d7))
    squares = fma(d3, d3, fma(d2, d2, fma(d1, d1, d0 * d0))) + fma(d7, d7, fma(d6, d6, fma(d5, d5, d4 * d4)))
    store_first(sums, mean, load_first(sums, mean, count) + widen(total), count)
    store_first(sums, square, load_first(sums, square, count) + widen(squares), count)


@device_function(reassociate=False)
def _add_one(x, at, width, sums, mean, square, pivot):
    for c in range(0, width, lanes(sums)):
        left = width - c
        deviation = load_wide(x, at + c, left) - load_first(sums, pivot + c, left)
        store_first(sums, mean + c, load_first(sums, mean + c, left) + deviation, left)
        store_first(sums, square + c, fma(deviation, deviation, load_first(sums, square + c, left)), left)


def forward(x, mean, rstd, weight, bias, addend=None, rectify=False):
    """(x - mean) * (rstd * weight) + bias (+ addend, rectified); mean, rstd (M, B); weight, bias (B, L)."""
    s = _shape_of(*x.shape)
    y, tables = empty(x.shape, x.dtype), empty((min(get_num_threads(), s.m * s.blocks), 3 * s.width), x.dtype)
    flat = y.reshape(-1), x.reshape(-1), (x if addend is None else addend).reshape(-1)
    vectors = mean.reshape(-1), rstd.reshape(-1), weight.reshape(-1), bias.reshape(-1)
    _forward(*flat, tables, *vectors, addend is not None, rectify, tuple(s), work=2 * x.size)
    return y


@kernel(reassociate=False)
def _forward(y, x, addend, tables, mean, rstd, weight, bias, added, rectify, sizes):
    for worker in prange(tables.shape[0]):
        m, rows, width, block, blocks, b, length = sizes
        table, workers, filled = tables[worker], tables.shape[0], -1
        for task in range(worker * m * blocks // workers, (worker + 1) * m * blocks // workers):
            i, k = task // blocks, task % blocks
            if i != filled:
                filled = i
                _fill_table(table, mean, rstd, i * b, weight, bias, width, b, length)
            for row in range(i * rows + k * block, i * rows + min(rows, (k + 1) * block)):
                _forward_row(y, x, addend, row * width, table, width, added, rectify)


@device_function(reassociate=False)
def _fill_table(table, mean, rstd, at, weight, bias, width, b, length):
    """(mean, rstd * weight, bias) for each column."""
    _spread(mean, at, table, 0, b, length)
    _spread(rstd, at, table, width, b, length)
    for c in range(b * length):
        table[width + c] *= weight[c]
        table[2 * width + c] = bias[c]
    for k in range(3):
        _repeat(table, k * width, width, b * length)


@device_function(reassociate=False)
def _spread(values, at, table, to, b, length):
    """Values of channels become those of their columns."""
    if length == 1:
        for j in range(b):
            table[to + j] = values[at + j]
        return
    for j in range(b):
        for c in range(j * length, (j + 1) * length):
            table[to + c] = values[at + j]


@device_function(reassociate=False)
def _repeat(table, at, width, size):
    """The first ``size`` columns once more for every other fold."""
    for c in range(at + size, at + width):
        table[c] = table[c - size]


@device_function(reassociate=False)
def _forward_row(y, x, addend, at, table, width, added, rectify):
    step = lanes(x)
    for c in range(0, width - step + 1, step):
        value = _normalized(x, at + c, table, c, width, step)
        if added:
            value = value + load(addend, at + c)
        store(y, at + c, select_positive(value, value) if rectify else value)
    left = width % step
    if left:
        c = width - left
        value = _normalized(x, at + c, table, c, width, left)
        if added:
            value = value + load_first(addend, at + c, left)
        store_first(y, at + c, select_positive(value, value) if rectify else value, left)


@device_function(reassociate=False, inline=True)
def _normalized(x, at, table, c, width, count):
    deviation = load_first(x, at, count) - load_first(table, c, count)
    return fma(deviation, load_first(table, width + c, count), load_first(table, 2 * width + c, count))


def backward(gy, x, mean, rstd, weight, through_statistics, bias, rectify):
    """gx = gy * (rstd * weight) - offset - (x - mean) * slope, like x, and the gradients of weight and bias, (B, L).

    offset and slope (M, B) are rstd times the averages of g and rstd^2 times those of g * (x - mean) * rstd, g = gy * weight:
    what flows through mean and rstd. Where ``rectify``, both passes compute the values of ``forward`` again for their signs,
    by the same instructions: that costs less than to read them.
    """
    s = _shape_of(*x.shape)
    m, b, length, sizes, workers = s.m, s.b, s.length, tuple(s), min(get_num_threads(), s.m * s.blocks)
    partials, tables = empty((2, m, s.blocks, s.width), np.float64), empty((workers, 5 * s.width), x.dtype)
    vectors = mean.reshape(-1), rstd.reshape(-1), weight.reshape(-1), bias.reshape(-1)
    gy, flat = gy.reshape(-1), x.reshape(-1)
    _block_sums(gy, flat, tables, *vectors, partials.reshape(-1), rectify, sizes, work=4 * x.size)
    scale = x.dtype.type(1 / max(x.shape[1] * length, 1)) if through_statistics else x.dtype.type(0)
    gx, sums, totals = empty(x.shape, x.dtype), np.empty((2, m, b * length)), np.empty((workers, 2, s.width))
    arrays = gx.reshape(-1), gy, flat, tables, totals, partials, sums
    _backward(*arrays, *vectors, scale, through_statistics, rectify, sizes, work=4 * x.size)
    gbias, gweight = (sums[:, 0] if m == 1 else sums.sum(axis=1)).astype(x.dtype).reshape(2, b, length)
    return gx, gweight, gbias


@kernel(reassociate=False)
def _block_sums(gy, x, tables, mean, rstd, weight, bias, partials, rectify, sizes):
    for worker in prange(tables.shape[0]):
        m, rows, width, block, blocks, b, length = sizes
        table, workers, filled = tables[worker], tables.shape[0], -1
        for task in range(worker * m * blocks // workers, (worker + 1) * m * blocks // workers):
            i, k = task // blocks, task % blocks
            if i != filled:
                filled = i
                _fill_table(table, mean, rstd, i * b, weight, bias, width, b, length)
            first, last = k * block, min(rows, (k + 1) * block)
            at, gbias, gweight = (i * rows + first) * width, task * width, (m * blocks + task) * width
            _sums_of(gy, x, at, last - first, width, table, rectify, partials, gbias, gweight)


@device_function(reassociate=False)
def _sums_of(gy, x, at, rows, width, table, rectify, sums, gbias, gweight):
    """Sums of gy and of gy * (x - mean), of those gy that the rectifier lets through."""
    clear(sums, gbias, width)
    clear(sums, gweight, width)
    whole = rows - rows % 8
    for r in range(0, whole, 8):
        _sum_eight(gy, x, at + r * width, width, table, rectify, sums, gbias, gweight)
    for r in range(whole, rows):
        _sum_one(gy, x, at + r * width, width, table, rectify, sums, gbias, gweight)
    if not (_is_finite(sums, gbias, width) and _is_finite(sums, gweight, width)):  # as in _moments_of
        clear(sums, gbias, width)
        clear(sums, gweight, width)
        for r in range(rows):
            _sum_one(gy, x, at + r * width, width, table, rectify, sums, gbias, gweight)


@device_function(reassociate=False)
def _sum_eight(gy, x, at, width, table, rectify, sums, gbias, gweight):
    step = lanes(sums)
    for c in range(0, width - step + 1, step):
        _sum_eight_vectors(gy, x, at + c, table, c, width, rectify, sums, gbias + c, gweight + c, step)
    if width % step:
        c = width - width % step
        _sum_eight_vectors(gy, x, at + c, table, c, width, rectify, sums, gbias + c, gweight + c, width % step)


@device_function(reassociate=False, inline=True)
def _sum_eight_vectors(gy, x, k, table, c, width, rectify, sums, gbias, gweight, count):
    center, scale = load_narrow(table, c, count), load_narrow(table, width + c, count)
    offset, half = load_narrow(table, 2 * width + c, count), k + 4 * width
    g0, d0 = _passed(gy, x, k, center, scale, offset, rectify, count)
    g1, d1 = _passed(gy, x, k + width, center, scale, offset, rectify, count)
    g2, d2 = _passed(gy, x, k + 2 * width, center, scale, offset, rectify, count)
    g3, d3 = _passed(gy, x, k + 3 * width, center, scale, offset, rectify, count)
    g4, d4 = _passed(gy, x, half, center, scale, offset, rectify, count)
    g5, d5 = _passed(gy, x, half + width, center, scale, offset, rectify, count)
    g6, d6 = _passed(gy, x, half + 2 * width, center, scale, offset, rectify, count)
    g7, d7 = _passed(gy, x, half + 3 * width, center, scale, offset, rectify, count)
    total = ((g0 + g1) + (g2 + g3)) + ((g4 + g5) + (g6 + g7))
    # The sum of two products could be rounded once or twice, as the compiler likes: so there is none.
    products = fma(g3, d3, fma(g2, d2, fma(g1, d1, g0 * d0))) + fma(g7, d7, fma(g6, d6, fma(g5, d5, g4 * d4)))
    store_first(sums, gbias, load_first(sums, gbias, count) + widen(total), count)
    store_first(sums, gweight, load_first(sums, gweight, count) + widen(products), count)


@device_function(reassociate=False)
def _sum_one(gy, x, at, width, table, rectify, sums, gbias, gweight):
    for c in range(0, width, lanes(sums)):
        left = width - c
        center, scale = load_narrow(table, c, left), load_narrow(table, width + c, left)
        g, deviation = _passed(gy, x, at + c, center, scale, load_narrow(table, 2 * width + c, left), rectify, left)
        store_first(sums, gbias + c, load_first(sums, gbias + c, left) + widen(g), left)
        store_first(sums, gweight + c, fma(widen(g), widen(deviation), load_first(sums, gweight + c, left)), left)


@device_function(reassociate=False, inline=True)
def _passed(gy, x, at, center, scale, offset, rectify, count):
    """gy and x - mean; if ``rectify``, gy is 0 where the normalized x is not positive (or NaN)."""
    g, deviation = load_narrow(gy, at, count), load_narrow(x, at, count) - center
    if rectify:
        g = select_positive(g, fma(deviation, scale, offset))
    return g, deviation


@kernel(reassociate=False)
def _backward(gx, gy, x, tables, totals, partials, sums, mean, rstd, weight, bias, scale, through_statistics, rectify, sizes):
    for worker in prange(tables.shape[0]):
        m, rows, width, block, blocks, b, length = sizes
        table, total, workers, filled = tables[worker], totals[worker], tables.shape[0], -1
        for task in range(worker * m * blocks // workers, (worker + 1) * m * blocks // workers):
            i, k = task // blocks, task % blocks
            if i != filled:  # workers that share a matrix add up its blocks each for itself
                filled = i
                _add_blocks(partials[0, i], total[0], b * length)
                _add_blocks(partials[1, i], total[1], b * length)
                _fill_gradient_table(table, total, mean, rstd, i * b, weight, bias, scale, width, b, length)
                if k == 0:
                    for c in range(b * length):
                        sums[0, i, c], sums[1, i, c] = total[0, c], total[1, c]
            for row in range(i * rows + k * block, i * rows + min(rows, (k + 1) * block)):
                _backward_row(gx, gy, x, row * width, table, width, through_statistics, rectify)


@device_function(reassociate=False)
def _add_blocks(partials, total, size):
    """total[:size] = the sum of all blocks and folds."""
    for c in range(total.size):
        total[c] = partials[0, c]
    for block in range(1, partials.shape[0]):
        _add(partials[block], total)
    for first in range(size, total.size, size):
        _add(total[first : first + size], total[:size])


@device_function(reassociate=False)
def _add(x, total):
    for c in range(total.size):
        total[c] += x[c]


@device_function(reassociate=False)
def _fill_gradient_table(table, sums, mean, rstd, at, weight, bias, scale, width, b, length):
    """(mean, rstd * weight, bias, -offset, -slope) for each column.

    sums: of gy and of gy * (x - mean), which become those of gy * xhat.
    """
    _spread(mean, at, table, 0, b, length)
    _spread(rstd, at, table, width, b, length)
    for c in range(b * length):
        sums[1, c] *= table[width + c]
    for j in range(b):
        total, projection, r = 0.0, 0.0, rstd[at + j]
        for c in range(j * length, (j + 1) * length):
            total += sums[0, c] * weight[c]
            projection += sums[1, c] * weight[c]
        for c in range(j * length, (j + 1) * length):
            table[3 * width + c] = -total * (r * scale)
            table[4 * width + c] = -projection * (r * scale) * r
    for c in range(b * length):
        table[width + c] *= weight[c]
        table[2 * width + c] = bias[c]
    for k in range(5):
        _repeat(table, k * width, width, b * length)


@device_function(reassociate=False)
def _backward_row(gx, gy, x, at, table, width, through_statistics, rectify):
    step = lanes(x)
    for c in range(0, width - step + 1, step):
        store(gx, at + c, _gradient(gy, x, at + c, table, c, width, through_statistics, rectify, step))
    left = width % step
    if left:
        c = width - left
        store_first(gx, at + c, _gradient(gy, x, at + c, table, c, width, through_statistics, rectify, left), left)


@device_function(reassociate=False, inline=True)
def _gradient(gy, x, at, table, c, width, through_statistics, rectify, count):
    g = load_first(gy, at, count)
    if rectify:
        g = select_positive(g, _normalized(x, at, table, c, width, count))
    scale = load_first(table, width + c, count)
    value = g * scale
    if through_statistics:  # else whatever x is: it may be infinite
        value = fma(g, scale, load_first(table, 3 * width + c, count))
        deviation = load_first(x, at, count) - load_first(table, c, count)
        value = fma(deviation, load_first(table, 4 * width + c, count), value)
    return value
