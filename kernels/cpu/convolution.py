"""Convolution on channels-last memory. See ``kernels/reference/convolution.py`` for what is computed, and an example.

A geometry is turned into sweeps (``_sweep.py``), an algorithm is chosen for it (``_algorithms.py``), and the algorithm fills
the output (``_conv_columns.py``, ``_conv_lines.py``, ``_conv_winograd.py``, ``_winograd_small.py``, ``_conv_direct.py``,
``_conv_depthwise.py``, ``_conv_overlap.py``).
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

import numpy as np

from ..geometry import ConvGeometry
from ..layout import nhwc
from . import _conv_columns, _conv_depthwise, _conv_direct, _conv_lines, _conv_overlap, _conv_winograd, _winograd_small
from ._algorithms import choose
from ._buffers import empty
from ._compiler import kernel, prange
from ._product import Filters
from ._sweep import Sweep, backward_sweeps, forward_sweep

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

FEW = 64  # rows that NumPy sums as fast

_MODULES: dict[str, ModuleType] = {
    "direct": _conv_direct,
    "winograd": _conv_winograd,
    "small winograd": _winograd_small,
    "lines": _conv_lines,
    "im2col": _conv_columns,
}


# ---- convolution and its three gradients -----------------------------------------------------------------------------


def conv2d_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, geometry: ConvGeometry) -> np.ndarray:
    """See reference. One sweep over x."""
    g = geometry
    y = empty((g.n, g.oh, g.ow, g.o), x.dtype)
    if y.size:
        _MODULES[choose(g, x.dtype)].sweep(nhwc(x), Filters(weight.ravel(), *_forward_places(g)), bias, y, forward_sweep(g))
    return y.transpose(0, 3, 1, 2)


def conv2d_backward_input(gy: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """See reference. One sweep over gy for each remainder of the stride: every pixel gathers its gradient."""
    return _input_gradient(gy, weight, None, geometry)


def conv2d_backward_weight(gy: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """See reference. Partial sums over ranges of pixels that depend on the sizes only, added in their order."""
    g = geometry
    if not g.n:
        return np.zeros(g.weight_shape, gy.dtype)
    return _MODULES[choose(g, x.dtype)].weight_gradient(nhwc(gy), nhwc(x), g.groups, forward_sweep(g))


def conv2d_backward_bias(gy: np.ndarray) -> np.ndarray:
    """See reference. Partial sums over ranges of pixels, which are then added in float64."""
    rows = nhwc(gy).reshape(-1, gy.shape[1])
    if len(rows) == 1:
        return rows[0].copy()
    if len(rows) <= FEW:
        return np.add.reduce(rows, axis=0, dtype=np.float64).astype(gy.dtype)
    partials = np.zeros((max(1, min(256, len(rows) // 128)), gy.shape[1]), gy.dtype)
    _row_sums(rows, partials, work=rows.size)
    return partials.sum(axis=0, dtype=np.float64).astype(gy.dtype)


# ---- transposed convolution ------------------------------------------------------------------------------------------


def conv_transpose2d_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, geometry: ConvGeometry) -> np.ndarray:
    """See reference. The sweeps of the input gradient, with a bias."""
    return _input_gradient(x, weight, bias, geometry)


def conv_transpose2d_backward_input(gy: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """See reference. A convolution of gy."""
    return conv2d_forward(gy, weight, None, geometry)


def conv_transpose2d_backward_weight(gy: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """See reference. The weight gradient of a convolution whose input is gy."""
    return conv2d_backward_weight(x, gy, geometry)


@lru_cache(maxsize=1024)
def _forward_places(g: ConvGeometry) -> tuple:
    """Where the weights lie: all of ``Filters`` but the values."""
    o, c, taps = g.o // g.groups, g.c // g.groups, g.kh * g.kw
    return g.groups, o, c, o * c * taps, c * taps, taps, np.arange(taps)


@lru_cache(maxsize=1024)
def _backward_places(g: ConvGeometry) -> list[tuple[Sweep, tuple]]:
    """The sweeps of the input gradient, and where their weights lie.

    C and O change places, and a sweep uses some rows and columns of the window.
    """
    groups, o, c, group_step, output_step, input_step, _ = _forward_places(g)
    return [
        (sweep, (groups, c, o, group_step, input_step, output_step, np.array([i * g.kw + j for i in rows for j in columns])))
        for sweep, rows, columns in backward_sweeps(g)
        if rows and columns
    ]


def _input_gradient(gy: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, g: ConvGeometry) -> np.ndarray:
    gx = empty((g.n, g.h, g.w, g.c), gy.dtype)
    if gx.size:
        seen, values, module = nhwc(gy), weight.ravel(), _MODULES[choose(g, gy.dtype)]
        if module is _conv_lines and _conv_overlap.fits(g, gx.dtype):
            _conv_overlap.input_gradient(seen, weight, bias, gx, g)
            return gx.transpose(0, 3, 1, 2)
        sweeps = _backward_places(g)
        if module is _conv_direct and g.c == g.o == g.groups and len(sweeps) > 1:
            _conv_depthwise.input_gradient(seen, values, bias, gx, g)
            return gx.transpose(0, 3, 1, 2)
        if len(sweeps) < min(g.sh, g.h) * min(g.sw, g.w):  # some pixels are seen through no tap
            _fill(
                gx.reshape(g.n * g.h, -1), np.zeros(g.c, gx.dtype) if bias is None else np.ascontiguousarray(bias), work=gx.size
            )
        for sweep, places in sweeps:
            module.sweep(seen, Filters(values, *places), bias, gx, sweep)
    return gx.transpose(0, 3, 1, 2)


@kernel
def _fill(lines, values):
    """Every pixel of some lines gets the values of its channels."""
    for index in prange(lines.shape[0]):
        line, channels = lines[index], np.uintp(values.size)
        for start in range(0, np.uintp(line.size), channels):
            for c in range(channels):
                line[start + c] = values[c]


@kernel(reassociate=False)
def _row_sums(rows, partials):
    count = partials.shape[0]
    for index in prange(count):
        for r in range(rows.shape[0] * index // count, rows.shape[0] * (index + 1) // count):
            for o in range(rows.shape[1]):
                partials[index, o] += rows[r, o]


# ---- im2col and col2im -----------------------------------------------------------------------------------------------


def im2col(x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """See reference. One task for each line of output pixels."""
    g = geometry
    columns = empty((g.n * g.oh * g.ow, g.c * g.kh * g.kw), x.dtype)
    _im2col(nhwc(x), columns.reshape(g.n * g.oh, g.ow, g.c, g.kh * g.kw), tuple(forward_sweep(g)), work=columns.size)
    return columns


def col2im(columns: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """See reference. One task for each line of pixels, which gathers what belongs to it."""
    g = geometry
    x = empty((g.n, g.h, g.w, g.c), columns.dtype)
    totals = empty((g.n * g.h, g.c), np.float64)
    columns = np.ascontiguousarray(columns).reshape(g.n, g.oh, g.ow, g.c, g.kh * g.kw)
    _col2im(columns, x, totals, tuple(forward_sweep(g)), work=columns.size)
    return x.transpose(0, 3, 1, 2)


@kernel
def _im2col(x, columns, s):
    for line in prange(columns.shape[0]):
        h, w, _, _, oh, ow, _, _, _, _, sy, sx, y0, x0, dy, dx, th, tw = s
        image, p = line // oh, line % oh
        for q in range(ow):
            for tap in range(th * tw):
                row, column = p * sy + y0 + tap // tw * dy, q * sx + x0 + tap % tw * dx
                inside = 0 <= row < h and 0 <= column < w
                for c in range(columns.shape[2]):
                    columns[line, q, c, tap] = x[image, row, column, c] if inside else 0


@kernel
def _col2im(columns, x, totals, s):
    for line in prange(totals.shape[0]):
        h, w, _, _, oh, ow, _, _, _, _, sy, sx, y0, x0, dy, dx, th, tw = s
        image, row = line // h, line % h
        total = totals[line]
        for column in range(w):
            for c in range(total.size):
                total[c] = 0
            for tap in range(th * tw):
                # The window stands at (p, q) when its tap lies on this pixel: p*sy + y0 + i*dy == row, and so for columns.
                p, q = row - y0 - tap // tw * dy, column - x0 - tap % tw * dx
                if p >= 0 and q >= 0 and p % sy == 0 and q % sx == 0 and p // sy < oh and q // sx < ow:
                    for c in range(total.size):
                        total[c] += columns[image, p // sy, q // sx, c, tap]
            for c in range(total.size):
                x[image, row, column, c] = total[c]
