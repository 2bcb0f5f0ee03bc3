"""Up- and down-sampling. See ``kernels/reference/resize.py`` for what each function computes.

A thread writes 16 bytes of neighbouring channels of a pixel. In the backward pass a pixel finds the outputs that were made of it.
"""

from __future__ import annotations

import cupy
import numpy as np

from ..geometry import ResizeGeometry
from ..layout import nhwc
from ._compiler import FLOATS, THREADS, WIDTHS, Kernel, blocks, c_type, on_device, struct, vector_width

__all__ = [
    "upsample_bilinear2d_backward",
    "upsample_bilinear2d_forward",
    "upsample_nearest2d_backward",
    "upsample_nearest2d_forward",
]

PACKS = [(t, n) for t in FLOATS for n in (1, WIDTHS[t])]

_nearest = Kernel("resize.cu", "nearest", PACKS)
_bilinear = Kernel("resize.cu", "bilinear", [(*pack, mode) for pack in PACKS for mode in ("BILINEAR", "ALIGNED")])
_backward = Kernel(
    "resize.cu", "resize_backward", [(*pack, mode) for pack in PACKS for mode in ("NEAREST", "BILINEAR", "ALIGNED")]
)


@on_device
def upsample_nearest2d_forward(x: cupy.ndarray, geometry: ResizeGeometry) -> cupy.ndarray:
    """See reference. A copy, whose rows and columns are found by the float32 products of the reference."""
    return _launch(_nearest, (), x, geometry, geometry.y_shape)


@on_device
def upsample_nearest2d_backward(gy: cupy.ndarray, geometry: ResizeGeometry) -> cupy.ndarray:
    """See reference. Sums are float64, for 16-bit numbers float32."""
    return _launch(_backward, ("NEAREST",), gy, geometry, geometry.x_shape)


@on_device
def upsample_bilinear2d_forward(x: cupy.ndarray, geometry: ResizeGeometry) -> cupy.ndarray:
    """See reference. Float64, for 16-bit numbers float32."""
    return _launch(_bilinear, (_mode(geometry),), x, geometry, geometry.y_shape)


@on_device
def upsample_bilinear2d_backward(gy: cupy.ndarray, geometry: ResizeGeometry) -> cupy.ndarray:
    """See reference. Sums are float64, for 16-bit numbers float32."""
    return _launch(_backward, (_mode(geometry),), gy, geometry, geometry.x_shape)


def _mode(geometry: ResizeGeometry) -> str:
    return "ALIGNED" if geometry.align_corners else "BILINEAR"


def _launch(kernel: Kernel, options: tuple, x: cupy.ndarray, g: ResizeGeometry, shape: tuple[int, ...]) -> cupy.ndarray:
    """A thread for every pack of channels of the result, which has ``shape`` (N, C, H, W)."""
    n, c, h, w = shape
    x, y = nhwc(x), cupy.empty((n, h, w, c), x.dtype)
    width = vector_width(x, y, multiple_of=c)
    values = (x, y, struct(g.n, g.c, g.h, g.w, g.oh, g.ow), np.float64(g.scale_h), np.float64(g.scale_w))
    kernel((c_type(x.dtype), width, *options), blocks(y.size // width), THREADS, values)
    return y.transpose(0, 3, 1, 2)
