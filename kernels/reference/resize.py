"""Up- and down-sampling by nearest neighbour and by bilinear interpolation."""

from __future__ import annotations

import numpy as np

from ..geometry import ResizeGeometry
from ..layout import channels_last

__all__ = [
    "upsample_bilinear2d_backward",
    "upsample_bilinear2d_forward",
    "upsample_nearest2d_backward",
    "upsample_nearest2d_forward",
]


def upsample_nearest2d_forward(x: np.ndarray, geometry: ResizeGeometry) -> np.ndarray:
    """y[i, j] = x[floor(i * scale_h), floor(j * scale_w)], at most the last row and column.

    The products are float32, as in PyTorch: with other roundings a few sizes would pick a neighbouring pixel. An axis that
    keeps its size is copied, whatever its scale (a ``scale_factor`` of 1.1 on 5 pixels), also as in PyTorch.

    x: (N, C, H, W). Returns y (N, C, oh, ow).
    """
    g = geometry
    rows, columns = _nearest(g.oh, g.h, g.scale_h), _nearest(g.ow, g.w, g.scale_w)
    return channels_last(x[:, :, rows[:, None], columns])


def upsample_nearest2d_backward(gy: np.ndarray, geometry: ResizeGeometry) -> np.ndarray:
    """Every gy[n, c, i, j] is added to the pixel that y[n, c, i, j] was copied from.

    gy: (N, C, oh, ow). Returns gx (N, C, H, W).
    """
    g = geometry
    rows, columns = _nearest(g.oh, g.h, g.scale_h), _nearest(g.ow, g.w, g.scale_w)
    gx = np.zeros(g.x_shape)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is NaN, as it should be
        np.add.at(gx, (slice(None), slice(None), rows[:, None], columns), gy)
        return channels_last(gx.astype(gy.dtype))


def upsample_bilinear2d_forward(x: np.ndarray, geometry: ResizeGeometry) -> np.ndarray:
    """Linear interpolation between the two nearest rows, then between the two nearest columns.

    Output row i lies at the height s of the input: s = i * scale_h with ``align_corners`` (the first and last rows of input and
    output coincide), else s = max((i + 1/2) * scale_h - 1/2, 0) (pixels are little squares, their edges coincide). It is
    (1 - t) * row floor(s) + t * row floor(s) + 1 with t = s - floor(s); past the last row that row counts twice. An axis that
    keeps its size is copied.

    x: (N, C, H, W). Returns y (N, C, oh, ow).
    """
    g = geometry
    top, bottom, down = _linear(g.oh, g.h, g.scale_h, g.align_corners)
    left, right, across = _linear(g.ow, g.w, g.scale_w, g.align_corners)
    x64 = x.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        lines = x64[:, :, top] * (1 - down)[:, None] + x64[:, :, bottom] * down[:, None]  # (N, C, oh, W)
        y = lines[:, :, :, left] * (1 - across) + lines[:, :, :, right] * across  # (N, C, oh, ow)
        return channels_last(y.astype(x.dtype))


def upsample_bilinear2d_backward(gy: np.ndarray, geometry: ResizeGeometry) -> np.ndarray:
    """Every gy[n, c, i, j] is shared among the four pixels that y[n, c, i, j] was mixed from, with the same weights.

    gy: (N, C, oh, ow). Returns gx (N, C, H, W).
    """
    g = geometry
    top, bottom, down = _linear(g.oh, g.h, g.scale_h, g.align_corners)
    left, right, across = _linear(g.ow, g.w, g.scale_w, g.align_corners)
    lines, gx = np.zeros((g.n, g.c, g.oh, g.w)), np.zeros(g.x_shape)
    every = slice(None)
    with np.errstate(invalid="ignore", over="ignore"):
        np.add.at(lines, (every, every, every, left), gy * (1 - across))
        np.add.at(lines, (every, every, every, right), gy * across)
        np.add.at(gx, (every, every, top), lines * (1 - down)[:, None])
        np.add.at(gx, (every, every, bottom), lines * down[:, None])
        return channels_last(gx.astype(gy.dtype))


def _nearest(count, size, scale):
    """The input index of every output index."""
    source = np.arange(count, dtype=np.float32) * np.float32(1.0 if count == size else scale)
    return np.minimum(np.floor(source).astype(np.int64), size - 1)


def _linear(count, size, scale, align_corners):
    """For every output index: the two input indices it lies between, and how far it is from the first (0 to 1)."""
    i = np.arange(count)
    if count == size:
        return i, i, np.zeros(count)
    source = i * scale if align_corners else np.maximum((i + 0.5) * scale - 0.5, 0.0)
    first = np.minimum(source.astype(np.int64), size - 1)
    return first, np.minimum(first + 1, size - 1), np.clip(source - first, 0.0, 1.0)
