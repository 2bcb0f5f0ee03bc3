"""Convolution by im2col, a slice at a time: the columns of a few pixels are written, multiplied and forgotten.

The whole column matrix of a layer is kh*kw times as large as its input and would pass through the main memory twice. A block of
some hundred pixels has columns that stay in the second-level cache.
"""

from __future__ import annotations

import numpy as np

from ._compiler import device_function, kernel, prange
from ._product import add_product, padded_width
from ._sweep import Sweep
from ._threads import get_num_threads

__all__ = ["sweep", "weight_gradient"]

BLOCK = 48 * 1024  # numbers that the columns and sums of a block of pixels may fill: they fit the second-level cache
TILE = 128  # output channels that are summed at a time: the sums of a block fit the first-level cache
PARTIALS = 4 * 2**20  # numbers in all partial sums of a weight gradient together


def sweep(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, s: Sweep) -> None:
    """Fill the pixels of y (N, H', W', O) that belong to a sweep over x (N, H, W, C).

    weight: (G, O/G, C/G, th, tw); bias: (O,) or None.
    """
    n, o = y.shape[0], y.shape[3]
    groups, o_group, c_group = weight.shape[:3]
    tiles = -(-o_group // TILE)
    tile = padded_width(-(-o_group // tiles))
    depth = s.th * s.tw * c_group
    packed = np.zeros((groups, tiles, s.th, s.tw, c_group, tile), x.dtype)
    for t in range(tiles):
        part = weight[:, t * tile : (t + 1) * tile]
        packed[:, t, ..., : part.shape[1]] = part.transpose(0, 3, 4, 2, 1)
    packed = packed.reshape(groups, tiles, depth, tile)
    start = np.zeros((groups, tiles * tile), x.dtype)
    if bias is not None:
        start[:, :o_group] = bias.reshape(groups, o_group)

    pixels = n * s.oh * s.ow
    block = _block(pixels, depth + tile)
    workers = min(-(-pixels // block), 4 * get_num_threads())
    columns = np.empty((workers, block, depth), x.dtype)
    sums = np.empty((workers, block, tile), x.dtype)
    start = start.reshape(groups, tiles, tile)
    _sweep(
        x.reshape(-1), packed, start, y.reshape(-1), columns, sums, pixels, o_group, c_group, tuple(s), work=pixels * depth * o
    )


def weight_gradient(gy: np.ndarray, x: np.ndarray, groups: int, s: Sweep) -> np.ndarray:
    """gw (G, O/G, C/G, th, tw) from gy (N, oh, ow, O) and the x (N, H, W, C) that the sweep was over.

    The pixels are cut into ranges, whose number depends on the sizes only. One task sums over one range, for the whole
    window or, where there are many channels, for one tap; then the ranges are added in their order.
    """
    o, c = gy.shape[3], x.shape[3]
    o_group, c_group = o // groups, c // groups
    pixels, depth = gy.size // o, s.th * s.tw * c_group
    taps = s.th * s.tw if c_group >= 32 else 1  # tasks that share a range
    depth //= taps
    ranges = max(1, min(32, pixels // 256, PARTIALS // (o * depth * taps)))
    columns = np.empty((ranges * taps, _block(pixels, depth), depth), x.dtype)
    sums = np.zeros((ranges * taps, groups, o_group, depth), x.dtype)
    _weight_gradient(
        x.reshape(-1), gy.reshape(pixels, o), columns, sums, taps, c_group, tuple(s), work=pixels * sums[0].size * taps
    )
    total = sums.reshape(ranges, taps, groups, o_group, depth).sum(axis=0)
    if taps == 1:
        total = total.reshape(groups, o_group, s.th, s.tw, c_group)
        return total.transpose(0, 1, 4, 2, 3)
    return total.reshape(s.th, s.tw, groups, o_group, c_group).transpose(2, 3, 4, 0, 1)


def _block(pixels: int, numbers: int) -> int:
    """Pixels in a block, a multiple of 8: not too many for the cache (each has ``numbers`` in it), nor to share the work."""
    return max(8, min(256, max(32, BLOCK // max(numbers, 1) // 8 * 8), -(-pixels // 128) * 8))


@kernel(reassociate=False)
def _sweep(x, weight, start, y, columns, sums, pixels, o_group, c_group, s):
    workers, block = columns.shape[:2]
    blocks = -(-pixels // block)
    for worker in prange(workers):
        for index in range(worker * blocks // workers, (worker + 1) * blocks // workers):
            first = index * block
            count = min(block, pixels - first)
            for group in range(weight.shape[0]):
                _fill_columns(x, columns[worker], first, count, group * c_group, c_group, weight.shape[0] * c_group, s)
                for tile in range(weight.shape[1]):
                    _fill_rows(sums[worker], count, start[group, tile])
                    add_product(columns[worker][:count], weight[group, tile], sums[worker])
                    _store(sums[worker], y, first, count, group * o_group, tile, o_group, weight.shape[0] * o_group, s)


@kernel(reassociate=False)
def _weight_gradient(x, gy, columns, sums, taps, c_group, s):
    pixels = gy.shape[0]
    tasks, block = columns.shape[:2]
    groups, o_group, depth = sums.shape[1:]
    ranges = tasks // taps
    rows = max(8, 8192 // depth)  # of the gradient, which then fit the first-level cache
    for task in prange(tasks):
        window = _tap(s, task % taps) if taps > 1 else s
        last = pixels * (task // taps + 1) // ranges
        for first in range(pixels * (task // taps) // ranges, last, block):
            count = min(block, last - first)
            for group in range(groups):
                _fill_columns(x, columns[task], first, count, group * c_group, c_group, groups * c_group, window)
                for o in range(0, o_group, rows):
                    end = min(o + rows, o_group)
                    seen = gy[first : first + count, group * o_group + o : group * o_group + end]
                    add_product(seen.T, columns[task][:count], sums[task, group, o:end])


@device_function(reassociate=False)
def _tap(s, tap):
    """The sweep with one tap of its window left."""
    h, w, height, width, oh, ow, ay, ax, py, px, sy, sx, y0, x0, dy, dx, _, tw = s
    return h, w, height, width, oh, ow, ay, ax, py, px, sy, sx, y0 + tap // tw * dy, x0 + tap % tw * dx, dy, dx, 1, 1


@device_function(reassociate=False)
def _fill_columns(x, columns, first, count, channel, c_group, channels, s):
    """columns[r, (i, j, c)]: what tap (i, j) of pixel first + r sees in channel ``channel + c``; 0 outside the image."""
    h, w, _, _, oh, ow, _, _, _, _, sy, sx, y0, x0, dy, dx, th, tw = s
    image, p, q = first // (oh * ow), first // ow % oh, first % ow
    for r in range(count):
        row = columns[r]
        left = q * sx + x0
        whole = dx == 1 and c_group == channels and left >= 0 and left + tw <= w  # a row of taps lies in one piece
        for i in range(th):
            line = p * sy + y0 + i * dy
            start = ((image * h + line) * w + left) * channels + channel
            if line < 0 or line >= h:
                _clear(row, i * tw * c_group, tw * c_group)
            elif whole:
                _copy(x, start, row, i * tw * c_group, tw * c_group)
            else:
                for j in range(tw):
                    if 0 <= left + j * dx < w:
                        _copy(x, start + j * dx * channels, row, (i * tw + j) * c_group, c_group)
                    else:
                        _clear(row, (i * tw + j) * c_group, c_group)
        q += 1
        if q == ow:
            q = 0
            p += 1
            if p == oh:
                p = 0
                image += 1


@device_function(reassociate=False)
def _fill_rows(target, count, row):
    for r in range(count):
        _copy(row, 0, target[r], 0, row.size)


@device_function(reassociate=False)
def _store(sums, y, first, count, channel, tile, o_group, channels, s):
    """Put the sums of the block's pixels where the sweep has them in y."""
    _, _, height, width, oh, ow, ay, ax, py, px, _, _, _, _, _, _, _, _ = s
    size = min(sums.shape[1], o_group - tile * sums.shape[1])
    image, p, q = first // (oh * ow), first // ow % oh, first % ow
    for r in range(count):
        pixel = (image * height + ay + p * py) * width + ax + q * px
        _copy(sums[r], 0, y, pixel * channels + channel + tile * sums.shape[1], size)
        q += 1
        if q == ow:
            q = 0
            p += 1
            if p == oh:
                p = 0
                image += 1


@device_function(reassociate=False, inline=True)
def _copy(source, start, target, at, size):
    # Unsigned indices: a signed one could be negative and count from the end, and the check for it keeps loops scalar.
    start, at = np.uintp(start), np.uintp(at)
    for k in range(np.uintp(size)):
        target[at + k] = source[start + k]


@device_function(reassociate=False, inline=True)
def _clear(target, at, size):
    at = np.uintp(at)
    for k in range(np.uintp(size)):
        target[at + k] = 0
