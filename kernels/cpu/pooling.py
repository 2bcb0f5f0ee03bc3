"""Max and average pooling. See ``kernels/reference/pooling.py`` for what each function computes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..geometry import AdaptiveGeometry, PoolGeometry
from ..layout import nhwc
from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._taps import Taps, resample, taps, transposed
from ._vector import clear, fill, lanes, load, load_first, load_where, select_larger, store, store_first, store_integers

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

FEW = 12  # channels that are scattered one by one
LARGEST = 2**24  # so far float32 can count pixels


def max_pool2d_forward(x: np.ndarray, geometry: PoolGeometry) -> tuple[np.ndarray, np.ndarray]:
    """See reference. One task for each row of the output, vectorized over channels."""
    return _max_forward(x, *_max_taps(geometry))


def max_pool2d_backward(gy: np.ndarray, indices: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """See reference. One task for each row of the input, whose pixels gather what belongs to them."""
    return _max_backward(gy, indices, geometry, *_seen_by(geometry))


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
    return _max_backward(gy, indices, geometry, *_adaptive_taps(geometry)[1])


# ----- windows -----


@lru_cache(maxsize=256)
def _max_taps(g: PoolGeometry) -> tuple[Taps, Taps]:
    def axis(size, kernel_size, stride, pad, dilation, count):
        starts = [i * stride - pad for i in range(count)]
        windows = [[s + t * dilation for t in range(kernel_size) if 0 <= s + t * dilation < size] for s in starts]
        return taps(windows, windows)  # the weights are not read

    return axis(g.h, g.kh, g.sh, g.ph, g.dh, g.oh), axis(g.w, g.kw, g.sw, g.pw, g.dw, g.ow)


@lru_cache(maxsize=256)
def _seen_by(g: PoolGeometry) -> tuple[Taps, Taps]:
    """The rows and columns of windows that see each row and each column of the input."""
    rows, columns = _max_taps(g)
    return transposed(rows, g.h), transposed(columns, g.w)


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


def _max_backward(gy, indices, geometry, rows, columns):
    """``rows`` and ``columns``: the windows that see each row and each column of the input."""
    n, c, h, w = geometry.x_shape
    oh, ow = geometry.oh, geometry.ow
    gx = empty((n, h, w, c), gy.dtype)
    axes = rows.start, rows.index, columns.start, columns.index
    work = n * c * (h * w + len(rows.index) * len(columns.index))
    arrays = nhwc(gy).reshape(-1), nhwc(indices).reshape(-1), gx.reshape(-1)
    if c <= FEW:
        _scatter(*arrays, (n, oh, ow, c, h, w), work=work)
    else:
        _pick(*arrays, *axes, (n, oh, ow, c, h, w), work=work)
    return gx.transpose(0, 3, 1, 2)


@kernel
def _max_pool(x, y, indices, row_start, row_index, column_start, column_index, sizes):
    for task in prange(sizes[0] * sizes[1]):
        _, oh, ow, channels, h, w = sizes
        image, i = task // oh, task % oh
        rows = row_index[row_start[i] : row_start[i + 1]]
        for j in range(ow):
            columns = column_index[column_start[j] : column_start[j + 1]]
            into, first, c = (task * ow + j) * channels, image * h * w * channels, 0
            while c < channels:
                if c + 4 * lanes(x) <= channels:
                    _four_of_window(x, first + c, rows, columns, w, channels, y, indices, into + c)
                    c += 4 * lanes(x)
                else:
                    _max_of_window(x, first + c, rows, columns, w, channels, y, indices, into + c, min(lanes(x), channels - c))
                    c += lanes(x)


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


@device_function(reassociate=False, inline=True)
def _four_of_window(x, first, rows, columns, w, channels, y, indices, into):
    """The same for four vectors, which share the counting."""
    best0, place0, start, step = fill(x, -np.inf), fill(x, 0.0), -1, lanes(x)
    best1, best2, best3 = best0, best0, best0
    place1, place2, place3 = place0, place0, place0
    if rows.size * columns.size > 0:
        start = rows[0] * w + columns[0]
    for row in rows:
        for column in columns:
            pixel = row * w + column
            at, here = first + pixel * channels, fill(x, pixel - start)
            seen0, seen1, seen2, seen3 = load(x, at), load(x, at + step), load(x, at + 2 * step), load(x, at + 3 * step)
            place0, best0 = select_larger(seen0, best0, here, place0), select_larger(seen0, best0, seen0, best0)
            place1, best1 = select_larger(seen1, best1, here, place1), select_larger(seen1, best1, seen1, best1)
            place2, best2 = select_larger(seen2, best2, here, place2), select_larger(seen2, best2, seen2, best2)
            place3, best3 = select_larger(seen3, best3, here, place3), select_larger(seen3, best3, seen3, best3)
    store(y, into, best0)
    store(y, into + step, best1)
    store(y, into + 2 * step, best2)
    store(y, into + 3 * step, best3)
    store_integers(indices, into, place0, start, step)
    store_integers(indices, into + step, place1, start, step)
    store_integers(indices, into + 2 * step, place2, start, step)
    store_integers(indices, into + 3 * step, place3, start, step)


@kernel(reassociate=False)
def _pick(gy, indices, gx, row_start, row_index, column_start, column_index, sizes):
    """Every pixel adds up the gradients of the windows whose largest value it is, in reading order."""
    for task in prange(sizes[0] * sizes[4]):
        _, oh, ow, channels, h, w = sizes
        row, first = task % h, task // h * oh * ow
        rows = row_index[row_start[row] : row_start[row + 1]]
        for column in range(w):
            columns = column_index[column_start[column] : column_start[column + 1]]
            into, here, c = (task * w + column) * channels, row * w + column, 0
            while c < channels:
                if c + 4 * lanes(gx) <= channels:
                    _pick_four(gy, indices, gx, rows, columns, first, ow, channels, c, into + c, here)
                    c += 4 * lanes(gx)
                else:
                    count = min(lanes(gx), channels - c)
                    _pick_one(gy, indices, gx, rows, columns, first, ow, channels, c, into + c, here, count)
                    c += lanes(gx)


@device_function(reassociate=False, inline=True)
def _pick_one(gy, indices, gx, rows, columns, first, ow, channels, c, into, here, count):
    total = fill(gx, 0.0)
    for i in rows:
        for j in columns:
            total = total + load_where(gy, (first + i * ow + j) * channels + c, count, indices, here)
    store_first(gx, into, total, count)


@device_function(reassociate=False, inline=True)
def _pick_four(gy, indices, gx, rows, columns, first, ow, channels, c, into, here):
    """The same for four vectors."""
    total0, step = fill(gx, 0.0), lanes(gx)
    total1, total2, total3 = total0, total0, total0
    for i in rows:
        for j in columns:
            at = (first + i * ow + j) * channels + c
            total0 = total0 + load_where(gy, at, step, indices, here)
            total1 = total1 + load_where(gy, at + step, step, indices, here)
            total2 = total2 + load_where(gy, at + 2 * step, step, indices, here)
            total3 = total3 + load_where(gy, at + 3 * step, step, indices, here)
    store(gx, into, total0)
    store(gx, into + step, total1)
    store(gx, into + 2 * step, total2)
    store(gx, into + 3 * step, total3)


@kernel(reassociate=False)
def _scatter(gy, indices, gx, sizes):
    """The same for a few channels, which would leave vectors nearly empty: every gradient goes to the pixel it belongs to."""
    for image in prange(sizes[0]):
        _, oh, ow, channels, h, w = sizes
        clear(gx, image * h * w * channels, h * w * channels)
        for window in range(image * oh * ow, (image + 1) * oh * ow):
            for k in range(window * channels, (window + 1) * channels):
                if 0 <= indices[k] < h * w:
                    gx[(image * h * w + indices[k]) * channels + k - window * channels] += gy[k]
