"""Max and average pooling. See ``kernels/reference/pooling.py`` for what each function computes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..geometry import AdaptiveGeometry, PoolGeometry
from ..layout import nhwc
from ._buffers import empty, zeros
from ._compiler import device_function, kernel, prange
from ._taps import Taps, resample, taps, transposed
from ._vector import fill, lanes, load_first, select_larger, store_first, store_integers

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
LARGEST = 2**24  # so far float32 can count pixels


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
    if x.dtype == np.float32 and h * w > LARGEST:
        y, indices = _max_forward(x.astype(np.float64), rows, columns)
        return y.astype(np.float32), indices
    oh, ow = len(rows.start) - 1, len(columns.start) - 1
    y, indices = empty((n, oh, ow, c), x.dtype), empty((n, oh, ow, c), np.int64)
    axes = rows.start, rows.index, columns.start, columns.index
    work = n * c * len(rows.index) * len(columns.index) // 2
    _max_pool(nhwc(x).reshape(-1), y.reshape(-1), indices.reshape(-1), *axes, (n, oh, ow, c, h, w), work=work)
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
def _max_pool(x, y, indices, row_start, row_index, column_start, column_index, sizes):
    for task in prange(sizes[0] * sizes[1]):
        _, oh, ow, channels, h, w = sizes
        image, i = task // oh, task % oh
        rows = row_index[row_start[i] : row_start[i + 1]]
        for j in range(ow):
            columns = column_index[column_start[j] : column_start[j + 1]]
            for c in range(0, channels, lanes(x)):
                into, first = (task * ow + j) * channels + c, image * h * w * channels + c
                _max_of_window(x, first, rows, columns, w, channels, y, indices, into, min(lanes(x), channels - c))


@device_function(reassociate=False, inline=True)
def _max_of_window(x, first, rows, columns, w, channels, y, indices, into, count):
    """The largest numbers of a vector of channels; how far behind the first pixel they lie is counted in vectors as well."""
    best, place, start = fill(x, -np.inf), fill(x, 0.0), -1
    if rows.size * columns.size > 0:
        start = rows[0] * w + columns[0]
    for row in rows:
        for column in columns:
            pixel = row * w + column
            seen = load_first(x, first + pixel * channels, count)
            place = select_larger(seen, best, fill(x, pixel - start), place)
            best = select_larger(seen, best, seen, best)
    store_first(y, into, best, count)
    store_integers(indices, into, place, start, count)


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
