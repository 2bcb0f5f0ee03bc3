"""Max and average pooling. See ``kernels/reference/pooling.py`` for what each function computes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..geometry import AdaptiveGeometry, PoolGeometry
from ..layout import nhwc
from ._buffers import empty, zeros
from ._compiler import device_function, kernel, prange
from ._taps import Taps, resample, taps, transposed

__all__ = [
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool2d_forward",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool2d_forward",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
]

# Few images share out their channels in groups of this many (a cache line of float32), so that all threads have work.
CHANNELS = 16


def max_pool2d_forward(x: np.ndarray, geometry: PoolGeometry) -> tuple[np.ndarray, np.ndarray]:
    """See reference. One task for each row of the output, vectorized over channels."""
    return _max_forward(x, *_max_taps(geometry))


def max_pool2d_backward(gy: np.ndarray, indices: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """See reference. Each thread owns images, or groups of channels of them, and adds in reading order."""
    return _max_backward(gy, indices, geometry)


def avg_pool2d_forward(x: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """See reference. A separable resampling, see ``_taps.py``."""
    return resample(x, *_average_taps(geometry)[0])


def avg_pool2d_backward(gy: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """See reference. The transposed resampling."""
    return resample(gy, *_average_taps(geometry)[1])


def adaptive_avg_pool2d_forward(x: np.ndarray, geometry: AdaptiveGeometry) -> np.ndarray:
    """See reference. A separable resampling, see ``_taps.py``."""
    return resample(x, *_adaptive_taps(geometry)[0])


def adaptive_avg_pool2d_backward(gy: np.ndarray, geometry: AdaptiveGeometry) -> np.ndarray:
    """See reference. The transposed resampling."""
    return resample(gy, *_adaptive_taps(geometry)[1])


def adaptive_max_pool2d_forward(x: np.ndarray, geometry: AdaptiveGeometry) -> tuple[np.ndarray, np.ndarray]:
    """See reference. As ``max_pool2d_forward``."""
    return _max_forward(x, *_adaptive_taps(geometry)[0])


def adaptive_max_pool2d_backward(gy: np.ndarray, indices: np.ndarray, geometry: AdaptiveGeometry) -> np.ndarray:
    """See reference. As ``max_pool2d_backward``."""
    return _max_backward(gy, indices, geometry)


# ----- windows -----


@lru_cache(maxsize=256)
def _max_taps(g: PoolGeometry) -> tuple[Taps, Taps]:
    def axis(size, kernel_size, stride, pad, dilation, count):
        starts = [i * stride - pad for i in range(count)]
        windows = [[s + t * dilation for t in range(kernel_size) if 0 <= s + t * dilation < size] for s in starts]
        return taps(windows, windows)  # the weights are not read

    return axis(g.h, g.kh, g.sh, g.ph, g.dh, g.oh), axis(g.w, g.kw, g.sw, g.pw, g.dw, g.ow)


@lru_cache(maxsize=256)
def _average_taps(g: PoolGeometry) -> tuple[tuple[Taps, Taps], tuple[Taps, Taps]]:
    """Taps of rows and columns, forward and transposed. The divisor of a window is that of its rows times that of its columns."""

    def axis(size, kernel_size, stride, pad, count, divisor):
        windows, weights = [], []
        for i in range(count):
            start = i * stride - pad
            stop = min(start + kernel_size, size + pad)
            window = range(max(start, 0), min(stop, size))
            windows.append(window)
            weights.append([1 / (divisor or (stop - start if g.count_include_pad else len(window)))] * len(window))
        return taps(windows, weights)

    rows = axis(g.h, g.kh, g.sh, g.ph, g.oh, g.divisor)
    columns = axis(g.w, g.kw, g.sw, g.pw, g.ow, 1 if g.divisor else 0)
    return (rows, columns), (transposed(rows, g.h), transposed(columns, g.w))


@lru_cache(maxsize=256)
def _adaptive_taps(g: AdaptiveGeometry) -> tuple[tuple[Taps, Taps], tuple[Taps, Taps]]:
    def axis(starts, stops):
        windows = [range(start, stop) for start, stop in zip(starts, stops, strict=True)]
        return taps(windows, [[1 / len(window)] * len(window) for window in windows])

    rows, columns = axis(*g.rows()), axis(*g.columns())
    return (rows, columns), (transposed(rows, g.h), transposed(columns, g.w))


# ----- maximum -----


def _max_forward(x, rows, columns):
    n, c, h, w = x.shape
    oh, ow = len(rows.start) - 1, len(columns.start) - 1
    y, indices = empty((n, oh, ow, c), x.dtype), empty((n, oh, ow, c), np.int64)
    largest = int(np.diff(rows.start).max(initial=0) * np.diff(columns.start).max(initial=0))
    pixels = empty((n * oh, largest), np.int64)
    work = n * c * len(rows.index) * len(columns.index)
    axes = rows.start, rows.index, columns.start, columns.index
    _max_pool(nhwc(x).reshape(n, h * w, c), y, indices, pixels, *axes, n, oh, w, work=work)
    return y.transpose(0, 3, 1, 2), indices.transpose(0, 3, 1, 2)


def _max_backward(gy, indices, geometry):
    n, c, h, w = geometry.x_shape
    pixels = geometry.oh * geometry.ow
    gx = zeros((n, h, w, c), gy.dtype)
    group = c if n >= CHANNELS else min(c, CHANNELS)
    _scatter(
        gx.reshape(n, h * w, c),
        nhwc(gy).reshape(n, pixels, c),
        nhwc(indices).reshape(n, pixels, c),
        n,
        group,
        -(-c // max(group, 1)),
        work=gx.size + 4 * gy.size,
    )
    return gx.transpose(0, 3, 1, 2)


@kernel
def _max_pool(x, y, indices, pixels, row_start, row_index, column_start, column_index, n, oh, w):
    for task in prange(n * oh):
        image, i = task // oh, task % oh
        rows = row_index[row_start[i] : row_start[i + 1]]
        _max_line(x[image], y[image, i], indices[image, i], pixels[task], rows, column_start, column_index, w)


@device_function(reassociate=False)
def _max_line(x, line, winners, pixels, rows, column_start, column_index, w):
    for j in range(line.shape[0]):
        count = 0
        for row in rows:
            for b in range(column_start[j], column_start[j + 1]):
                pixels[count] = row * w + column_index[b]
                count += 1
        if count == 0:
            line[j] = -np.inf
            winners[j] = -1
        for t in range(0, count, 4):  # at the end of a window its last pixel may come several times, which changes nothing
            last = count - 1
            p, q, r, s = pixels[t], pixels[min(t + 1, last)], pixels[min(t + 2, last)], pixels[min(t + 3, last)]
            _max_of_four(x, p, q, r, s, line[j], winners[j], t == 0)


@device_function(reassociate=False)
def _max_of_four(x, p, q, r, s, best, winner, first):
    """Four pixels at once, so that the largest value so far stays in a register for four comparisons."""
    xp, xq, xr, xs = x[p], x[q], x[r], x[s]
    for c in range(best.size):
        value = xp[c] if first else best[c]
        where = p if first else winner[c]
        value, where = _larger(value, where, xp[c], p)
        value, where = _larger(value, where, xq[c], q)
        value, where = _larger(value, where, xr[c], r)
        value, where = _larger(value, where, xs[c], s)
        best[c] = value
        winner[c] = where


@device_function(reassociate=False)
def _larger(value, where, new, new_where):
    wins = (new > value) | (new != new)
    return new if wins else value, new_where if wins else where


@kernel
def _scatter(gx, gy, indices, n, group, groups):
    for task in prange(n * groups):
        image, start = task // groups, task % groups * group
        _scatter_image(gx[image], gy[image], indices[image], start, min(start + group, gx.shape[2]))


@device_function(reassociate=False)
def _scatter_image(gx, gy, indices, start, stop):
    for pixel in range(gy.shape[0]):
        for c in range(start, stop):
            winner = indices[pixel, c]
            if 0 <= winner < gx.shape[0]:
                gx[winner, c] += gy[pixel, c]
