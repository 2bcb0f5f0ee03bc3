"""Up- and down-sampling. See ``kernels/reference/resize.py`` for what each function computes, ``_taps.py`` for how."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..geometry import ResizeGeometry
from ._taps import Taps, resample, taps, transposed

__all__ = [
    "upsample_bilinear2d_backward",
    "upsample_bilinear2d_forward",
    "upsample_nearest2d_backward",
    "upsample_nearest2d_forward",
]


def upsample_nearest2d_forward(x: np.ndarray, geometry: ResizeGeometry) -> np.ndarray:
    """See reference. A separable resampling with one tap for each row and column."""
    return resample(x, *_nearest_taps(geometry)[0])


def upsample_nearest2d_backward(gy: np.ndarray, geometry: ResizeGeometry) -> np.ndarray:
    """See reference. The transposed resampling."""
    return resample(gy, *_nearest_taps(geometry)[1])


def upsample_bilinear2d_forward(x: np.ndarray, geometry: ResizeGeometry) -> np.ndarray:
    """See reference. A separable resampling with two taps for each row and column."""
    return resample(x, *_bilinear_taps(geometry)[0])


def upsample_bilinear2d_backward(gy: np.ndarray, geometry: ResizeGeometry) -> np.ndarray:
    """See reference. The transposed resampling."""
    return resample(gy, *_bilinear_taps(geometry)[1])


@lru_cache(maxsize=256)
def _nearest_taps(g: ResizeGeometry) -> tuple[tuple[Taps, Taps], tuple[Taps, Taps]]:
    """Taps of rows and columns, forward and transposed."""

    def axis(count, size, scale):
        source = np.arange(count, dtype=np.float32) * np.float32(1.0 if count == size else scale)
        first = np.minimum(np.floor(source).astype(np.int64), size - 1)
        return taps(first[:, None], np.ones((count, 1)))

    rows, columns = axis(g.oh, g.h, g.scale_h), axis(g.ow, g.w, g.scale_w)
    return (rows, columns), (transposed(rows, g.h), transposed(columns, g.w))


@lru_cache(maxsize=256)
def _bilinear_taps(g: ResizeGeometry) -> tuple[tuple[Taps, Taps], tuple[Taps, Taps]]:
    def axis(count, size, scale):
        i = np.arange(count)
        if count == size:
            source = i.astype(np.float64)
        else:
            source = i * scale if g.align_corners else np.maximum((i + 0.5) * scale - 0.5, 0.0)
        first = np.minimum(source.astype(np.int64), size - 1)
        second = first if count == size else np.minimum(first + 1, size - 1)
        t = np.clip(source - first, 0.0, 1.0)
        return taps(np.stack([first, second], axis=1), np.stack([1 - t, t], axis=1))

    rows, columns = axis(g.oh, g.h, g.scale_h), axis(g.ow, g.w, g.scale_w)
    return (rows, columns), (transposed(rows, g.h), transposed(columns, g.w))
