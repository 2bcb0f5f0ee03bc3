"""Max and average pooling. See ``kernels/reference/pooling.py`` for what each function computes.

A thread reads one window of neighbouring channels, 16 bytes of them where they allow it. Where windows are large and few, a block
of threads shares each of them. In the backward pass every pixel gathers its gradient from the windows that hold it.
"""

from __future__ import annotations

import cupy
import numpy as np

from ..geometry import AdaptiveGeometry, PoolGeometry
from ..layout import nhwc
from ._compiler import FLOATS, THREADS, WIDTHS, Kernel, blocks, c_type, on_device, struct, vector_width

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

PACKS = [(t, n) for t in FLOATS for n in (1, WIDTHS[t])]
EITHER = [(*pack, adaptive) for pack in PACKS for adaptive in (False, True)]

_max_pool = Kernel("pooling_max.cu", "max_pool", PACKS)
_adaptive_max_pool = Kernel("pooling_max.cu", "adaptive_max_pool", PACKS)
_adaptive_max_pool_large = Kernel("pooling_max.cu", "adaptive_max_pool_large", PACKS)
_max_pool_backward = Kernel("pooling_max.cu", "max_pool_backward", EITHER)
_average_pool = Kernel("pooling_average.cu", "average_pool", EITHER)
_average_pool_large = Kernel("pooling_average.cu", "average_pool_large", EITHER)
_average_pool_backward = Kernel("pooling_average.cu", "average_pool_backward", EITHER)

LARGE, HUGE = 32, 1024  # pixels of a window
ENOUGH = 2**17  # threads that fill a large card


@on_device
def max_pool2d_forward(x: cupy.ndarray, geometry: PoolGeometry) -> tuple[cupy.ndarray, cupy.ndarray]:
    """See reference. One pass over x."""
    y, indices = _empty(geometry.y_shape, x.dtype), _empty(geometry.y_shape, np.int64)
    _launch(_max_pool, (), (nhwc(x), y, indices), geometry, y)
    return _nchw(y), _nchw(indices)


@on_device
def max_pool2d_backward(gy: cupy.ndarray, indices: cupy.ndarray, geometry: PoolGeometry) -> cupy.ndarray:
    """See reference. A pixel looks at the windows that may hold it; what an index names elsewhere is left out."""
    return _max_backward(gy, indices, geometry)


@on_device
def avg_pool2d_forward(x: cupy.ndarray, geometry: PoolGeometry) -> cupy.ndarray:
    """See reference. Sums are float64, for 16-bit numbers float32."""
    return _average_forward(x, geometry, geometry.kh * geometry.kw)


@on_device
def avg_pool2d_backward(gy: cupy.ndarray, geometry: PoolGeometry) -> cupy.ndarray:
    """See reference. Sums are float64, for 16-bit numbers float32."""
    return _average_backward(gy, geometry)


@on_device
def adaptive_avg_pool2d_forward(x: cupy.ndarray, geometry: AdaptiveGeometry) -> cupy.ndarray:
    """See reference. Sums are float64, for 16-bit numbers float32."""
    return _average_forward(x, geometry, _pixels_of_bin(geometry))


@on_device
def adaptive_avg_pool2d_backward(gy: cupy.ndarray, geometry: AdaptiveGeometry) -> cupy.ndarray:
    """See reference. Sums are float64, for 16-bit numbers float32."""
    return _average_backward(gy, geometry)


@on_device
def adaptive_max_pool2d_forward(x: cupy.ndarray, geometry: AdaptiveGeometry) -> tuple[cupy.ndarray, cupy.ndarray]:
    """See reference. One pass over x, and more only over pixels that several bins hold."""
    y, indices = _empty(geometry.y_shape, x.dtype), _empty(geometry.y_shape, np.int64)
    arrays = nhwc(x), y, indices
    if _is_large(y, _pixels_of_bin(geometry)):
        _launch_large(_adaptive_max_pool_large, (), arrays, geometry, _pixels_of_bin(geometry))
    else:
        _launch(_adaptive_max_pool, (), arrays, geometry, y)
    return _nchw(y), _nchw(indices)


@on_device
def adaptive_max_pool2d_backward(gy: cupy.ndarray, indices: cupy.ndarray, geometry: AdaptiveGeometry) -> cupy.ndarray:
    """See reference. As ``max_pool2d_backward``."""
    return _max_backward(gy, indices, geometry)


# ---- launches --------------------------------------------------------------------------------------------------------


def _max_backward(gy, indices, geometry) -> cupy.ndarray:
    gx = _empty(geometry.x_shape, gy.dtype)
    _launch(_max_pool_backward, (_is_adaptive(geometry),), (nhwc(gy), nhwc(indices), gx), geometry, gx)
    return _nchw(gx)


def _average_forward(x, geometry, pixels: int) -> cupy.ndarray:
    """``pixels``: of a window."""
    y = _empty(geometry.y_shape, x.dtype)
    arrays, adaptive = (nhwc(x), y), (_is_adaptive(geometry),)
    if _is_large(y, pixels):
        _launch_large(_average_pool_large, adaptive, arrays, geometry, pixels)
    else:
        _launch(_average_pool, adaptive, arrays, geometry, y)
    return _nchw(y)


def _average_backward(gy, geometry) -> cupy.ndarray:
    gx = _empty(geometry.x_shape, gy.dtype)
    _launch(_average_pool_backward, (_is_adaptive(geometry),), (nhwc(gy), gx), geometry, gx)
    return _nchw(gx)


def _launch(kernel: Kernel, options: tuple, arrays: tuple, geometry, result: cupy.ndarray) -> None:
    """A thread for every pack of channels of ``result``."""
    width = vector_width(*arrays, multiple_of=geometry.c)
    grid = blocks(result.size // width, THREADS)
    kernel((c_type(arrays[0].dtype), width, *options), grid, THREADS, (*arrays, _sizes(geometry)))


def _launch_large(kernel: Kernel, options: tuple, arrays: tuple, geometry, pixels: int) -> None:
    """A block for every window and group of packs: groups are small where a window alone has work enough for a block."""
    width = vector_width(*arrays, multiple_of=geometry.c)
    packs = geometry.c // width
    across = min(1 << max(packs - 1, 0).bit_length(), 8 if pixels >= HUGE else 32)
    grid = geometry.n * geometry.oh * geometry.ow * blocks(packs, across)
    values = (*arrays, _sizes(geometry))
    kernel((c_type(arrays[0].dtype), width, *options), grid, (across, THREADS // across), values)


def _is_large(y: cupy.ndarray, pixels: int) -> bool:
    """Whether windows of so many pixels are each shared by a block: they are large, and too few for a thread each."""
    threads = y.size * y.itemsize // 16
    return pixels >= HUGE or (pixels >= LARGE and threads < ENOUGH)


def _is_adaptive(geometry: PoolGeometry | AdaptiveGeometry) -> bool:
    return isinstance(geometry, AdaptiveGeometry)


def _pixels_of_bin(g: AdaptiveGeometry) -> int:
    return -(-g.h // g.oh) * -(-g.w // g.ow)


def _sizes(g: PoolGeometry | AdaptiveGeometry) -> np.ndarray:
    """The structure Pooling of windows.cuh."""
    if _is_adaptive(g):
        return struct(g.n, g.c, g.h, g.w, g.oh, g.ow, *[0] * 10)
    window = g.kh, g.kw, g.sh, g.sw, g.ph, g.pw, g.dh, g.dw
    return struct(g.n, g.c, g.h, g.w, g.oh, g.ow, *window, g.count_include_pad, g.divisor)


def _empty(shape, dtype) -> cupy.ndarray:
    n, c, h, w = shape
    return cupy.empty((n, h, w, c), dtype)


def _nchw(x: cupy.ndarray) -> cupy.ndarray:
    return x.transpose(0, 3, 1, 2)
