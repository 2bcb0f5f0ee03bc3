"""The input gradient of a convolution with few input channels, whose pixels do not fill a vector.

What one gradient gives to one line of the image lies in one piece of memory in channels-last order: the taps of a row of the
window, with all their channels. So a line of gradients times one row of the window is a matrix product whose columns are
(j, c), and together they fill vectors. Its rows overlap in the image, where every pixel gathers its part of each.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..geometry import ConvGeometry
from . import _machine
from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._product import multiply_lines, panel_width
from ._threads import get_num_threads
from ._vector import copy, lanes, load, load_first, store

__all__ = ["fits", "input_gradient"]


def fits(g: ConvGeometry, dtype) -> bool:
    """Whether this is for a convolution: stride and dilation 1, one group, fewer input channels than a vector has numbers."""
    return (g.sh, g.sw, g.dh, g.dw, g.groups) == (1, 1, 1, 1, 1) and g.kw > 1 and g.c < _machine.lanes(dtype)


def input_gradient(gy: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, gx: np.ndarray, g: ConvGeometry) -> None:
    """Fill gx (N, H, W, C) from gy (N, oh, ow, O) and the weight (O, C, kh, kw). bias: (C,) or None, is added to every pixel."""
    shapes, row, sizes, work = _sizes(g, gx.dtype, get_num_threads())
    columns = np.zeros((g.kh, g.o, row), gx.dtype)
    columns[..., : g.kw * g.c] = weight.transpose(2, 0, 3, 1).reshape(g.kh, g.o, -1)
    start = np.zeros(_machine.lanes(gx.dtype), gx.dtype)
    if bias is not None:
        start[: g.c] = bias
    products, lines = (empty(shape, gx.dtype) for shape in shapes)
    _gather_lines(gy.reshape(-1), columns.reshape(-1), start, gx.reshape(-1), products, lines, sizes, work=work)


@lru_cache(maxsize=1024)
def _sizes(g: ConvGeometry, dtype, threads):
    """The shapes of the products and of a line, the length of a row of products, integers for the kernel, and the work."""
    width = panel_width(g.kw * g.c, dtype)
    row = -(-g.kw * g.c // width) * width
    workers, spare = min(threads, g.n * g.h), _machine.lanes(dtype)
    shapes = (workers, g.ow * row + spare), (workers, g.w * g.c + spare)
    sizes = g.n, g.h, g.w, g.oh, g.ow, g.c, g.o, g.kh, g.kw, g.top, g.left, width, row
    return shapes, row, sizes, g.n * g.oh * g.ow * g.kh * row * g.o // 8


@kernel(reassociate=False)
def _gather_lines(gy, columns, start, gx, products, lines, sizes):
    for worker in prange(products.shape[0]):
        n, h, w, oh, ow, c, o, kh, kw, top, left, width, row = sizes
        workers = products.shape[0]
        for task in range(worker * n * h // workers, (worker + 1) * n * h // workers):
            image, p = task // h, task % h + top  # row i of the window lies on this line where it stands at line p - i
            first, last = max(0, p - oh + 1), min(kh, p + 1)
            seen = ((image * oh + p - first) * ow * o, o, 1, -ow * o)
            for column in range(0, kw * c, width):
                right = first * o * row + column, row, o * row
                to = products[worker], column, row, products[worker], column, -1
                multiply_lines(*to, gy, columns, seen, right, ow, max(0, last - first), o, min(width, kw * c - column))
            _gather_line(products[worker], start, lines[worker], w, ow, c, kw, left, row)
            copy(lines[worker], 0, gx, task * w * c, w * c)


@device_function(reassociate=False)
def _gather_line(products, start, line, w, ow, c, kw, left, row):
    """line[q c + k] = start[k] + the sum over j of what tap j gives to channel k of pixel q."""
    for q in range(w):
        place = q + left
        total = load_first(start, 0, lanes(start))
        for j in range(max(0, place - ow + 1), min(kw, place + 1)):
            total = total + load(products, (place - j) * row + j * c)
        store(line, q * c, total)  # what is behind its channels, the next pixel overwrites
