"""Convolution by im2col, a slice at a time: the columns of a few pixels are written, multiplied and forgotten.

The whole column matrix of a layer is kh*kw times its input and would travel through the main memory twice. A block of some hundred
pixels has columns that stay in the second-level cache.
"""

from __future__ import annotations

import numpy as np

from ._compiler import device_function, kernel, prange
from ._product import add_product, padded_width
from ._sweep import Sweep
from ._threads import get_num_threads

__all__ = ["sweep", "weight_gradient"]

BLOCK = 48 * 1024  # elements of columns and sums that a block of pixels may fill
PARTIALS = 4 * 2**20  # elements of all partial sums of a weight gradient
TILE = 16 * 1024  # elements of a weight gradient that are summed at a time


def sweep(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, y: np.ndarray, s: Sweep) -> None:
    """Fill the pixels of y (N, H', W', O) that belong to a sweep over x (N, H, W, C).

    weight: (G, C/G, O/G, th, tw); bias: (O,) or None.
    """
    n, o = y.shape[0], y.shape[3]
    groups, c_group, o_group = weight.shape[:3]
    depth, width = s.th * s.tw * c_group, padded_width(o_group)
    pixels = n * s.oh * s.ow
    packed = np.zeros((groups, depth, width), x.dtype)
    packed[:, :, :o_group] = weight.transpose(0, 3, 4, 1, 2).reshape(groups, depth, o_group)
    start = np.zeros((groups, width), x.dtype)
    if bias is not None:
        start[:, :o_group] = bias.reshape(groups, o_group)
    block = _block_size(pixels, depth + width)
    blocks = -(-pixels // block)
    workers = min(blocks, 4 * get_num_threads())
    columns = np.empty((workers, block, depth), x.dtype)
    sums = np.empty((workers, block, width), x.dtype)
    lines, out = x.reshape(n * s.h, s.w * x.shape[3]), y.reshape(n * s.height, s.width * o)
    _sweep(lines, packed, start, out, columns, sums, pixels, o_group, c_group, tuple(s), work=pixels * depth * o)


def _block_size(pixels: int, elements: int) -> int:
    """Pixels in a block, from the elements of scratch that each needs: a multiple of 8, with some blocks for each thread."""
    return max(8, min(256, max(32, BLOCK // max(elements, 1) // 8 * 8), -(-pixels // 128) * 8))


@kernel(reassociate=False)
def _sweep(x, weight, start, y, columns, sums, pixels, o_group, c_group, s):
    workers, block = columns.shape[:2]
    blocks = -(-pixels // block)
    for worker in prange(workers):
        for b in range(worker * blocks // workers, (worker + 1) * blocks // workers):
            first = b * block
            count = min(block, pixels - first)
            for group in range(weight.shape[0]):
                _fill_columns(x, columns[worker], first, count, group * c_group, c_group, s)
                _fill_rows(sums[worker], count, start[group])
                add_product(columns[worker][:count, :], weight[group], sums[worker])
                _store(sums[worker], y, first, count, group * o_group, o_group, s)


@device_function(reassociate=False)
def _fill_columns(x, columns, first, count, channel, c_group, s):
    """columns[r, (i, j, c)]: what tap (i, j) of pixel first + r sees in channel ``channel + c``; 0 outside the image."""
    h, w, _, _, oh, ow, _, _, _, _, sy, sx, y0, x0, dy, dx, th, tw = s
    stride = x.shape[1] // w  # all channels
    run = tw * c_group
    image, p, q = first // (oh * ow), first // ow % oh, first % ow
    for r in range(count):
        row = columns[r]
        left = q * sx + x0
        whole = dx == 1 and c_group == stride and left >= 0 and left + tw <= w  # the taps of a row lie in one piece
        for i in range(th):
            line = p * sy + y0 + i * dy
            part = row[i * run : i * run + run]
            if line < 0 or line >= h:
                for k in range(run):
                    part[k] = 0
            elif whole:
                _copy(x[image * h + line], left * stride, part, run)
            else:
                _copy_taps(x[image * h + line], left, dx, tw, w, stride, channel, part, c_group)
        q += 1
        if q == ow:
            q = 0
            p += 1
            if p == oh:
                p = 0
                image += 1


@device_function(reassociate=False)
def _copy(source, start, target, size):
    source = source[start : start + size]
    for k in range(size):
        target[k] = source[k]


@device_function(reassociate=False)
def _copy_taps(line, left, dx, taps, w, stride, channel, target, c_group):
    for j in range(taps):
        column = left + j * dx
        part = target[j * c_group : j * c_group + c_group]
        if column < 0 or column >= w:
            for k in range(c_group):
                part[k] = 0
        else:
            _copy(line, column * stride + channel, part, c_group)


@device_function(reassociate=False)
def _fill_rows(target, count, row):
    for r in range(count):
        line = target[r]
        for k in range(row.size):
            line[k] = row[k]


@device_function(reassociate=False)
def _store(sums, y, first, count, channel, o_group, s):
    """Put the sums of the block's pixels where the sweep has them in y."""
    _, _, height, width, oh, ow, ay, ax, py, px, _, _, _, _, _, _, _, _ = s
    stride = y.shape[1] // width
    image, p, q = first // (oh * ow), first // ow % oh, first % ow
    for r in range(count):
        start = (ax + q * px) * stride + channel
        out = y[image * height + ay + p * py][start : start + o_group]
        row = sums[r]
        for k in range(o_group):
            out[k] = row[k]
        q += 1
        if q == ow:
            q = 0
            p += 1
            if p == oh:
                p = 0
                image += 1


def weight_gradient(gy: np.ndarray, x: np.ndarray, groups: int, s: Sweep) -> np.ndarray:
    """gw (O, C/G, th, tw) from gy (N, oh, ow, O) and the x (N, H, W, C) that the sweep was over.

    The pixels are cut into ranges, whose number depends on the sizes only; each is summed by one thread, and then the sums are
    added in their order. Where the weight is large there are few ranges, and one thread for each row of the window instead.
    """
    n, o, c = x.shape[0], gy.shape[3], x.shape[3]
    o_group, c_group = o // groups, c // groups
    pixels, depth = n * s.oh * s.ow, s.th * s.tw * c_group
    parts = s.th if o * depth > PARTIALS // 16 else 1
    ranges = max(1, min(32, pixels // 256, PARTIALS // (o * depth)))
    block = _block_size(pixels, depth // parts)
    columns = np.empty((ranges * parts, block, depth // parts), x.dtype)
    sums = np.zeros((ranges * parts, groups, o_group, depth // parts), x.dtype)
    lines = x.reshape(n * s.h, s.w * c)
    _weight_gradient(lines, gy.reshape(pixels, o), columns, sums, parts, c_group, tuple(s), work=pixels * depth * o)
    sums = sums.reshape(ranges, parts, o, s.th // parts, s.tw, c_group).sum(axis=0)
    return np.ascontiguousarray(sums.transpose(1, 4, 0, 2, 3)).reshape(o, c_group, s.th, s.tw)


@kernel(reassociate=False)
def _weight_gradient(x, gy, columns, sums, parts, c_group, s):
    pixels = gy.shape[0]
    tasks, block = columns.shape[:2]
    groups, o_group, depth = sums.shape[1:]
    ranges = tasks // parts
    tile = max(8, TILE // depth)
    for task in prange(tasks):
        index, part = task // parts, task % parts
        h, w, height, width, oh, ow, ay, ax, py, px, sy, sx, y0, x0, dy, dx, th, tw = s
        rows = th // parts
        window = (h, w, height, width, oh, ow, ay, ax, py, px, sy, sx, y0 + part * rows * dy, x0, dy, dx, rows, tw)
        last = pixels * (index + 1) // ranges
        for first in range(pixels * index // ranges, last, block):
            count = min(block, last - first)
            for group in range(groups):
                _fill_columns(x, columns[task], first, count, group * c_group, c_group, window)
                for o in range(0, o_group, tile):
                    end = min(o + tile, o_group)
                    seen = gy[first : first + count, group * o_group + o : group * o_group + end].T
                    add_product(seen, columns[task][:count], sums[task, group, o:end])
