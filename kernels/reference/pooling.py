"""Max and average pooling, with fixed windows and adaptive. N, C, H, W, kh, kw, ... are explained in ``kernels/geometry.py``."""

from __future__ import annotations

import numpy as np

from ..geometry import AdaptiveGeometry, PoolGeometry
from ..layout import channels_last

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


def max_pool2d_forward(x: np.ndarray, geometry: PoolGeometry) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of every window, and where it was.

    Padding counts as -inf: it never wins, also where all of x is negative. Of equal values the first in reading order wins.
    A NaN wins over every number (over an earlier NaN too), as in PyTorch.

    x: (N, C, H, W). Returns y (N, C, oh, ow) and indices, int64 of the same shape: h * W + w of the winner in its input plane.
    A window that lies on padding alone, which only dilation makes possible, gives -inf and the index -1.
    """
    g = geometry
    rows = [[i * g.sh - g.ph + t * g.dh for t in range(g.kh)] for i in range(g.oh)]
    columns = [[j * g.sw - g.pw + t * g.dw for t in range(g.kw)] for j in range(g.ow)]
    inside_rows = [[r for r in window if 0 <= r < g.h] for window in rows]
    inside_columns = [[c for c in window if 0 <= c < g.w] for window in columns]
    return _max_of_windows(x, inside_rows, inside_columns)


def max_pool2d_backward(gy: np.ndarray, indices: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """Every gy[n, c, i, j] is added to the input pixel that ``indices`` names; the other pixels get 0.

    gy, indices: (N, C, oh, ow). Returns gx (N, C, H, W). An index of -1 is left out.
    """
    return _scatter_to_winners(gy, indices, geometry.h, geometry.w)


def avg_pool2d_forward(x: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """The mean of every window.

    The sum over the pixels inside the input is divided by ``geometry.divisor`` if that is not 0; else by the size of the
    window including its padding (``count_include_pad``) or by the number of pixels inside the input. A window that
    ``ceil_mode`` lets reach beyond the trailing padding is cut there first, so what lies beyond never counts.

    x: (N, C, H, W). Returns y (N, C, oh, ow).
    """
    return _mean_of_windows(x, *_average_windows(geometry), geometry.divisor)


def avg_pool2d_backward(gy: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """Every gy[n, c, i, j], divided by its window's divisor, is added to all pixels of the window.

    gy: (N, C, oh, ow). Returns gx (N, C, H, W).
    """
    return _spread_over_windows(gy, *_average_windows(geometry), geometry.h, geometry.w, geometry.divisor)


def adaptive_avg_pool2d_forward(x: np.ndarray, geometry: AdaptiveGeometry) -> np.ndarray:
    """The means of oh x ow bins that cover the input: rows floor(i H / oh) to ceil((i + 1) H / oh) - 1, columns likewise.

    x: (N, C, H, W). Returns y (N, C, oh, ow). oh = ow = 1 is global average pooling (Lin et al. 2013, section 3.2).
    """
    return _mean_of_windows(x, *_adaptive_windows(geometry))


def adaptive_avg_pool2d_backward(gy: np.ndarray, geometry: AdaptiveGeometry) -> np.ndarray:
    """Every gy[n, c, i, j], divided by the size of its bin, is added to all pixels of the bin.

    gy: (N, C, oh, ow). Returns gx (N, C, H, W).
    """
    return _spread_over_windows(gy, *_adaptive_windows(geometry), geometry.h, geometry.w)


def adaptive_max_pool2d_forward(x: np.ndarray, geometry: AdaptiveGeometry) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of every bin of ``adaptive_avg_pool2d_forward``, and where it was; ties and NaN as in max pooling.

    x: (N, C, H, W). Returns y (N, C, oh, ow) and indices, int64 of the same shape: h * W + w in the input plane.
    """
    rows = [range(start, stop) for start, stop in zip(*geometry.rows(), strict=True)]
    columns = [range(start, stop) for start, stop in zip(*geometry.columns(), strict=True)]
    return _max_of_windows(x, rows, columns)


def adaptive_max_pool2d_backward(gy: np.ndarray, indices: np.ndarray, geometry: AdaptiveGeometry) -> np.ndarray:
    """Every gy[n, c, i, j] is added to the input pixel that ``indices`` names.

    gy, indices: (N, C, oh, ow), the indices as the forward pass gave them. Returns gx (N, C, H, W).
    """
    return _scatter_to_winners(gy, indices, geometry.h, geometry.w)


# ----- windows: rows and columns of the input, one list for each row and each column of the output -----


def _max_of_windows(x, rows, columns):
    n, c, _, w = x.shape
    y = np.full((n, c, len(rows), len(columns)), -np.inf)
    indices = np.full(y.shape, -1, np.int64)
    for i, window_rows in enumerate(rows):
        for j, window_columns in enumerate(columns):
            best, where = y[:, :, i, j], indices[:, :, i, j]  # views: what is written here is written into y and indices
            for row in window_rows:
                for column in window_columns:
                    value = x[:, :, row, column]
                    wins = (where < 0) | (value > best) | np.isnan(value)
                    best[wins] = value[wins]
                    where[wins] = row * w + column
    return channels_last(y.astype(x.dtype)), channels_last(indices)


def _scatter_to_winners(gy, indices, h, w):
    n, c = gy.shape[:2]
    gx = np.zeros((n, c, h * w))
    image, channel, i, j = np.nonzero(indices >= 0)
    with np.errstate(invalid="ignore"):
        np.add.at(gx, (image, channel, indices[image, channel, i, j]), gy[image, channel, i, j].astype(np.float64))
    return channels_last(_cast(gx.reshape(n, c, h, w), gy.dtype))


def _average_windows(g: PoolGeometry):
    """For rows and for columns: (first pixel, pixel after the last one, length that counts) of every window."""

    def axis(size, kernel, stride, pad, count):
        windows = []
        for i in range(count):
            start = i * stride - pad
            stop = min(start + kernel, size + pad)
            inside = max(start, 0), min(stop, size)
            windows.append((*inside, stop - start if g.count_include_pad else inside[1] - inside[0]))
        return windows

    return axis(g.h, g.kh, g.sh, g.ph, g.oh), axis(g.w, g.kw, g.sw, g.pw, g.ow)


def _adaptive_windows(g: AdaptiveGeometry):
    return tuple([(start, stop, stop - start) for start, stop in zip(*axis, strict=True)] for axis in (g.rows(), g.columns()))


def _mean_of_windows(x, rows, columns, divisor=0):
    n, c = x.shape[:2]
    y = np.empty((n, c, len(rows), len(columns)))
    for i, (top, bottom, height) in enumerate(rows):
        for j, (left, right, width) in enumerate(columns):
            with np.errstate(invalid="ignore"):  # inf - inf is NaN, as it should be
                total = x[:, :, top:bottom, left:right].sum(axis=(2, 3), dtype=np.float64)
            y[:, :, i, j] = total / (divisor or max(height * width, 1))
    return channels_last(_cast(y, x.dtype))


def _spread_over_windows(gy, rows, columns, h, w, divisor=0):
    n, c = gy.shape[:2]
    gx = np.zeros((n, c, h, w))
    for i, (top, bottom, height) in enumerate(rows):
        for j, (left, right, width) in enumerate(columns):
            share = gy[:, :, i, j, None, None].astype(np.float64) / (divisor or max(height * width, 1))
            with np.errstate(invalid="ignore"):
                gx[:, :, top:bottom, left:right] += share
    return channels_last(_cast(gx, gy.dtype))


def _cast(array, dtype):
    """``array`` as ``dtype``; what is too large for it becomes infinite without a warning."""
    with np.errstate(over="ignore"):
        return array.astype(dtype)
