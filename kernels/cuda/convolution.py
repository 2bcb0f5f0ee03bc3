"""Convolution on channels-last memory. See ``kernels/reference/convolution.py`` for what is computed, and an example.

An algorithm is chosen for a geometry (``_algorithms.py``); it is one product by cuBLAS (``_blas.py``), a product that gathers the
windows (``_implicit.py``), loops over the window (``_direct.py``), or columns and a product.
"""

from __future__ import annotations

import cupy
import numpy as np

from ..geometry import ConvGeometry
from ..layout import nhwc
from . import _direct, _implicit
from ._algorithms import choose, is_exact
from ._blas import multiply
from ._capture import needs_own_products
from ._compiler import FLOATS, THREADS, Kernel, blocks, c_type, on_device
from ._memory import empty_result
from ._window import window

__all__ = [
    "col2im",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv2d_forward",
    "conv_transpose2d_backward_input",
    "conv_transpose2d_backward_weight",
    "conv_transpose2d_forward",
    "im2col",
]

_im2col = Kernel("columns.cu", "im2col", [(t,) for t in FLOATS])
_col2im = Kernel("columns.cu", "col2im", [(t,) for t in FLOATS])
_column_sums = Kernel("columns.cu", "column_sums", [(t,) for t in FLOATS])
_column_sums_end = Kernel("columns.cu", "column_sums_end", [(t,) for t in FLOATS])


# ---- convolution and its three gradients -----------------------------------------------------------------------------


@on_device
def conv2d_forward(x: cupy.ndarray, weight: cupy.ndarray, bias: cupy.ndarray | None, geometry: ConvGeometry) -> cupy.ndarray:
    """See reference. One pass over x."""
    g = geometry
    y = empty_result((g.n, g.oh, g.ow, g.o), x.dtype)
    if y.size:
        bias = None if bias is None else cupy.ascontiguousarray(bias)
        rows, name = nhwc(x), _algorithm(g, bias)
        if name == "direct":
            _direct.forward(rows, weight, bias, y, g)
        elif name == "implicit":
            _implicit.gather(rows, weight, bias, y, g, False, is_exact())
        else:
            columns = rows.reshape(-1, g.c) if name == "product" else im2col(x, g)
            multiply(columns, weight.reshape(g.o, -1).T, y.reshape(-1, g.o), "convolution")
            if bias is not None:
                y += bias
    return y.transpose(0, 3, 1, 2)


@on_device
def conv2d_backward_input(gy: cupy.ndarray, weight: cupy.ndarray, geometry: ConvGeometry) -> cupy.ndarray:
    """See reference. One pass over gy: every pixel gathers its gradient."""
    return _input_gradient(gy, weight, None, geometry)


@on_device
def conv2d_backward_weight(gy: cupy.ndarray, x: cupy.ndarray, geometry: ConvGeometry) -> cupy.ndarray:
    """See reference. Partial sums over ranges of pixels that depend on the sizes and the card only, added in their order."""
    g = geometry
    gw = cupy.empty(g.weight_shape, gy.dtype)
    if not g.n:
        gw.fill(0)
        return gw
    gy_rows, name = nhwc(gy), _algorithm(g, None)
    if name == "direct":
        _direct.weight_gradient(gy_rows, nhwc(x), gw, g)
    elif name == "implicit":
        _implicit.weight_gradient(gy_rows, nhwc(x), gw, g, is_exact())
    else:
        columns = nhwc(x).reshape(-1, g.c) if name == "product" else im2col(x, g)
        multiply(gy_rows.reshape(-1, g.o).T, columns, gw.reshape(g.o, -1), "convolution")
    return gw


@on_device
def conv2d_backward_bias(gy: cupy.ndarray) -> cupy.ndarray:
    """See reference. Partial sums over ranges of pixels, which are then added in float64."""
    rows = nhwc(gy).reshape(-1, gy.shape[1])
    count, columns = rows.shape
    gb = cupy.empty(columns, gy.dtype)
    height = blocks(max(count, 1), min(512, blocks(max(count, 1), 256)))
    parts = cupy.empty((blocks(max(count, 1), height), columns), np.float64)
    kind = (c_type(gy.dtype),)
    values = (rows, parts, np.int64(count), np.int32(columns), np.int64(height))
    _column_sums(kind, (blocks(columns, 32), len(parts)), (32, 8), values)
    _column_sums_end(kind, blocks(columns), THREADS, (parts, gb, np.int32(len(parts)), np.int32(columns)))
    return gb


def _algorithm(g: ConvGeometry, bias) -> str:
    """cuBLAS adds no bias, and may not be called while a graph is captured: then the product takes the general kernel."""
    name = choose(g)
    return "implicit" if name == "product" and (bias is not None or needs_own_products()) else name


def _input_gradient(gy, weight, bias, g: ConvGeometry) -> cupy.ndarray:
    gx = cupy.empty((g.n, g.h, g.w, g.c), gy.dtype)
    if gx.size:
        bias = None if bias is None else cupy.ascontiguousarray(bias)
        rows, name = nhwc(gy), _algorithm(g, bias)
        if name == "direct":
            _direct.input_gradient(rows, weight, bias, gx, g)
        elif name == "implicit":
            _implicit.gather(rows, weight, bias, gx, g, True, is_exact())
        elif name == "product":
            multiply(rows.reshape(-1, g.o), weight.reshape(g.o, -1), gx.reshape(-1, g.c), "convolution")
        else:
            columns = multiply(rows.reshape(-1, g.o), weight.reshape(g.o, -1), None, "convolution")
            gx = nhwc(col2im(columns, g))
            if bias is not None:
                gx += bias
    return gx.transpose(0, 3, 1, 2)


# ---- transposed convolution ------------------------------------------------------------------------------------------


@on_device
def conv_transpose2d_forward(
    x: cupy.ndarray, weight: cupy.ndarray, bias: cupy.ndarray | None, geometry: ConvGeometry
) -> cupy.ndarray:
    """See reference. The input gradient, with a bias."""
    return _input_gradient(x, weight, bias, geometry)


def conv_transpose2d_backward_input(gy: cupy.ndarray, weight: cupy.ndarray, geometry: ConvGeometry) -> cupy.ndarray:
    """See reference. A convolution of gy."""
    return conv2d_forward(gy, weight, None, geometry)


def conv_transpose2d_backward_weight(gy: cupy.ndarray, x: cupy.ndarray, geometry: ConvGeometry) -> cupy.ndarray:
    """See reference. The weight gradient of a convolution whose input is gy."""
    return conv2d_backward_weight(x, gy, geometry)


# ---- im2col and col2im -----------------------------------------------------------------------------------------------


@on_device
def im2col(x: cupy.ndarray, geometry: ConvGeometry) -> cupy.ndarray:
    """See reference. A thread for each element of the columns."""
    g = geometry
    columns = cupy.empty((g.n * g.oh * g.ow, g.c * g.kh * g.kw), x.dtype)
    _im2col((c_type(x.dtype),), blocks(columns.size), THREADS, (nhwc(x), columns, window(g)))
    return columns


@on_device
def col2im(columns: cupy.ndarray, geometry: ConvGeometry) -> cupy.ndarray:
    """See reference. A thread for each element of the image gathers what belongs to it."""
    g = geometry
    x = cupy.empty((g.n, g.h, g.w, g.c), columns.dtype)
    _col2im((c_type(x.dtype),), blocks(x.size), THREADS, (cupy.ascontiguousarray(columns), x, window(g)))
    return x.transpose(0, 3, 1, 2)
