"""Convolution line by line, with no columns: what the window sees of a line of the image lies in one piece of memory.

In channels-last memory the taps (j, c) of one row of the window follow one another, and those of the next pixel begin a few
channels later. So a line of the image *is* the matrix of columns, whose rows overlap, and a product with the weights can be
taken from it for one row of the window after another, as long as a pixel's sums stay in registers. Only where a window reaches
beyond the image are the lines copied first, with zeros around them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from . import _machine
from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._conv_columns import add_ranges
from ._product import Filters, multiply_lines, pack, panel_width
from ._sweep import PARTIALS, Sweep
from ._threads import get_num_threads
from ._vector import clear, copy

__all__ = ["sweep", "weight_gradient"]

CACHE = 48 * 1024  # numbers in the lines of a block, at most


def sweep(x: np.ndarray, filters: Filters, bias: np.ndarray | None, y: np.ndarray, s: Sweep) -> None:
    """Fill the pixels of y (N, H', W', O) that belong to a sweep over x (N, H, W, C). One group. bias: (O,) or None."""
    f, packed = filters, pack(filters)
    scratch, sizes, numbers, work = _sweep_sizes(y.shape[0], f.inputs, f.outputs, x.dtype, s, get_num_threads())
    start = np.zeros(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    _sweep(x.reshape(-1), packed.reshape(-1), start, y.reshape(-1), empty(scratch, x.dtype), sizes, numbers, work=work)


@lru_cache(maxsize=1024)
def _sweep_sizes(n, inputs, outputs, dtype, s: Sweep, threads):
    """The shape of the copied lines, two tuples of integers for the kernel, and the work."""
    width = panel_width(outputs, dtype)
    inside, row = _layout(s, inputs)
    most = max(1, CACHE // (row * s.sy))  # lines of a block
    blocks = -(-s.oh // most)
    while n * blocks < threads and blocks < s.oh:
        blocks += 1
    tasks = n * blocks
    scratch = min(threads, tasks), 0 if inside else _height(s, -(-s.oh // blocks)) * row
    sizes = tasks, blocks, row, -(-outputs // width), width, inputs, outputs
    return scratch, sizes, tuple(s), tasks * s.oh // blocks * s.ow * s.th * s.tw * inputs * outputs // 8


def weight_gradient(gy: np.ndarray, x: np.ndarray, groups: int, s: Sweep) -> np.ndarray:
    """gw (O, C, th, tw) from gy (N, oh, ow, O) and the x (N, H, W, C) that the sweep was over.

    A task sums over some lines of gy; then the tasks' sums are added in their order. Their number depends on the sizes only.
    Where a row of the window does not fill its vectors (three channels) it is outputs that lie beside each other in the sums.
    """
    n, o, c = gy.shape[0], gy.shape[3], x.shape[3]
    scratch, ranges, sizes, numbers, work = _gradient_sizes(n, o, c, x.dtype, s, get_num_threads())
    sums = empty((ranges, o * s.th * s.tw * c), x.dtype)
    _weight_gradient(x.reshape(-1), gy.reshape(-1), empty(scratch, x.dtype), sums, sizes, numbers, work=work)
    if sizes[6]:
        return np.ascontiguousarray(np.add.reduce(sums, axis=0).reshape(s.th, s.tw, c, o).transpose(3, 2, 0, 1))
    return add_ranges(sums, ranges, 1, o, s.th * s.tw, c, s.th * s.tw).reshape(o, c, s.th, s.tw)


@lru_cache(maxsize=1024)
def _gradient_sizes(n, o, c, dtype, s: Sweep, threads):
    """The shape of the copied lines, the number of ranges, two tuples of integers for the kernel, and the work."""
    inside, row = _layout(s, c)
    taps = s.th * s.tw
    blocks = -(-s.oh // max(1, CACHE // (row * s.sy)))  # of an image
    ranges = max(1, min(16, n * blocks, PARTIALS // (o * c * taps)))
    scratch = min(ranges, threads), 0 if inside else _height(s, -(-s.oh // blocks)) * row
    step = _machine.lanes(dtype)
    turned = s.dx == 1 and o >= step and 1.25 * s.tw * c < -(-s.tw * c // step) * step
    sizes = n * blocks, blocks, row, panel_width(o if turned else s.tw * c if s.dx == 1 else c, dtype), o, c, turned
    return scratch, ranges, sizes, tuple(s), n * s.oh * s.ow * taps * o * c // 8


def _layout(s: Sweep, channels: int) -> tuple[bool, int]:
    """Whether no window reaches beyond the image, and the length of a line: of the image, or of a copy with zeros around it."""
    last_row, last_column = (s.oh - 1) * s.sy + (s.th - 1) * s.dy, (s.ow - 1) * s.sx + (s.tw - 1) * s.dx
    inside = s.y0 >= 0 and s.x0 >= 0 and s.y0 + last_row < s.h and s.x0 + last_column < s.w
    return inside, (s.w if inside else last_column + 1) * channels


def _height(s: Sweep, lines: int) -> int:
    """How many lines of the image some lines of the output see."""
    return (lines - 1) * s.sy + (s.th - 1) * s.dy + 1


@kernel(reassociate=False)
def _sweep(x, weight, bias, y, lines, sizes, s):
    for worker in prange(lines.shape[0]):
        workers, tasks, blocks = lines.shape[0], sizes[0], sizes[1]
        for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
            image, part = task // blocks, task % blocks
            _sweep_lines(x, weight, bias, y, lines[worker], image, s[4] * part // blocks, s[4] * (part + 1) // blocks, sizes, s)


@device_function(reassociate=False)
def _sweep_lines(x, weight, bias, y, lines, image, first, last, sizes, s):
    _, _, height, width, _, ow, ay, ax, py, px, sy, sx, _, _, dy, dx, th, tw = s
    _, _, row, panels, panel, inputs, outputs = sizes
    seen, at = _look_up(x, lines, image, first, last, row, inputs, s)
    start_row = 0 if bias.size else -1
    for index in range(panels):
        channel = index * panel
        columns = min(panel, outputs - channel)
        for p in range(first, last):
            into = ((image * height + ay + p * py) * width + ax) * outputs + channel
            begin, step = at + (p - first) * sy * row, sx * inputs
            weights = index * th * tw * inputs * panel
            if dx == 1:
                left = begin, step, 1, dy * row
                right = weights, panel, tw * inputs * panel
                to = y, into, px * outputs, bias, channel, start_row
                multiply_lines(*to, seen, weight, left, right, ow, th, tw * inputs, columns)
            else:  # the taps of a row are apart: one row of the window after another
                for i in range(th):
                    left = begin + i * dy * row, step, 1, dx * inputs
                    right = weights + i * tw * inputs * panel, panel, inputs * panel
                    begun, begun_at, begun_row = (bias, channel, start_row) if i == 0 else (y, into, px * outputs)
                    to = y, into, px * outputs, begun, begun_at, begun_row
                    multiply_lines(*to, seen, weight, left, right, ow, tw, inputs, columns)


@device_function(reassociate=False, inline=True)
def _look_up(x, lines, image, first, last, row, channels, s):
    """Where the pixels are that some lines of the output see: (array, place of the first)."""
    h, w, _, _, _, _, _, _, _, _, sy, _, y0, x0, dy, _, th, _ = s
    top = first * sy + y0
    if lines.size == 0:
        return x, ((image * h + top) * w + x0) * channels
    _copy_lines(x, lines, image, top, (last - first - 1) * sy + (th - 1) * dy + 1, x0, h, w, row, channels)
    return lines, 0


@device_function(reassociate=False)
def _copy_lines(x, lines, image, top, number, left, h, w, row, channels):
    before = min(row, max(0, -left) * channels)
    seen = max(0, min(row - before, (w - max(0, left)) * channels))
    for k in range(number):
        at = k * row
        if 0 <= top + k < h:
            clear(lines, at, before)
            copy(x, ((image * h + top + k) * w + max(0, left)) * channels, lines, at + before, seen)
            clear(lines, at + before + seen, row - before - seen)
        else:
            clear(lines, at, row)


@kernel(reassociate=False)
def _weight_gradient(x, gy, lines, sums, sizes, s):
    for worker in prange(lines.shape[0]):
        workers, ranges = lines.shape[0], sums.shape[0]
        for index in range(worker * ranges // workers, (worker + 1) * ranges // workers):
            tasks, blocks = sizes[0], sizes[1]
            first = tasks * index // ranges
            for task in range(first, tasks * (index + 1) // ranges):
                _add_lines(x, gy, lines[worker], sums[index], task // blocks, task % blocks, task == first, sizes, s)


@device_function(reassociate=False)
def _add_lines(x, gy, lines, sums, image, part, fresh, sizes, s):
    """sums[o, i, j, c], or sums[i, j, c, o] if ``turned``, += the products of a block of lines."""
    oh, ow, sy, sx, dy, dx, th, tw = s[4], s[5], s[10], s[11], s[14], s[15], s[16], s[17]
    _, blocks, row, width, outputs, channels, turned = sizes
    first, last = oh * part // blocks, oh * (part + 1) // blocks
    seen, at = _look_up(x, lines, image, first, last, row, channels, s)
    if turned:
        for i in range(th):
            left = at + i * dy * row, 1, sx * channels, sy * row
            for column in range(0, outputs, width):
                into, given = i * tw * channels * outputs + column, (image * oh + first) * ow * outputs + column
                to, right = (sums, into, outputs, sums, into, -1 if fresh else outputs), (given, outputs, ow * outputs)
                multiply_lines(*to, seen, gy, left, right, tw * channels, last - first, ow, min(width, outputs - column))
        return
    left = (image * oh + first) * ow * outputs, 1, outputs, ow * outputs
    sums_row = th * tw * channels
    start_row = -1 if fresh else sums_row
    pieces, piece = (1, tw * channels) if dx == 1 else (tw, channels)
    for i in range(th):
        for j in range(pieces):
            for column in range(0, piece, width):
                into = (i * pieces + j) * piece + column
                right = at + i * dy * row + j * dx * channels + column, sx * channels, sy * row
                to = sums, into, sums_row, sums, into, start_row
                multiply_lines(*to, gy, seen, left, right, outputs, last - first, ow, min(width, piece - column))
