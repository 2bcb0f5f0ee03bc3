"""Convolution by im2col, a slice at a time (implicit GEMM): the columns of a few pixels are written, multiplied and forgotten.

The whole column matrix of a layer is kh*kw times as large as its input and would pass through the main memory twice. A block of
some dozen pixels, and of a large window only some taps at a time, has columns that stay in the second-level cache. Of a 1x1
window with stride 1 the columns are the image itself, and only its weight gradient copies them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from . import _machine
from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._product import ROWS, Filters, multiply, pack, panel_width
from ._sweep import PARTIALS, Sweep
from ._threads import get_num_threads
from ._vector import clear, copy, fill, lanes, load, load_first, store, store_first

__all__ = ["add_ranges", "sweep", "weight_gradient"]

BLOCK = 96 * 1024  # numbers in the columns of a block of pixels and in its outputs, at most: half of a second-level cache
PIXELS = 192  # of a block of a weight gradient, at most: a panel of them stays in the first-level cache
OUTPUTS = 1024  # whose gradients are sorted at a time, at most
PIECE = 256  # channels whose columns are made at a time for the weight gradient of a 1x1 window
TURN = 64  # columns from which on it pays to sort gy
SLICE = 768  # columns that are made at a time, about: a whole number of taps


def sweep(x: np.ndarray, filters: Filters, bias: np.ndarray | None, y: np.ndarray, s: Sweep) -> None:
    """Fill the pixels of y (N, H', W', O) that belong to a sweep over x (N, H, W, C). bias: (O,) or None."""
    f = filters
    weights = pack(f)
    steps = weights[0].size, weights[0, 0].size, f.inputs * weights.shape[3], weights.shape[3]
    shapes, sizes, panelling, numbers, work = _sweep_sizes(
        y.shape[0], f.groups, f.inputs, f.outputs, x.dtype, s, get_num_threads()
    )
    columns, sums = (empty(shape, x.dtype) for shape in shapes)
    start = np.zeros(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    arrays = x.reshape(-1), weights.reshape(-1), start, y.reshape(-1), columns, sums
    _sweep(*arrays, sizes, (*panelling, *steps), numbers, work=work)


@lru_cache(maxsize=1024)
def _sweep_sizes(n, groups, inputs, outputs, dtype, s: Sweep, threads):
    """The shapes of the columns and of the outputs of a block, three tuples of integers for the kernel, and the work."""
    width = panel_width(outputs, dtype)
    panels = -(-outputs // width)
    pixels, taps = n * s.oh * s.ow, s.th * s.tw
    step = max(1, min(taps, SLICE // max(inputs, 1)))  # taps at a time
    row = 0 if _is_plain(s) else step * inputs + _machine.lanes(dtype)
    dense = s.py == s.px == 1 and (s.oh, s.ow) == (s.height, s.width)
    kept = 0 if dense else panels * width
    most = max(1, BLOCK // (step * inputs + outputs + 1) // ROWS) * ROWS
    few = 4 if step * inputs * outputs <= 2 * BLOCK else 40  # where all panels stay in the cache, pixels are written one by one
    blocks = -(-pixels // min(most, few * ROWS))
    blocks = -(-blocks // threads) * threads  # a whole number for every thread
    block = -(-pixels // (blocks * ROWS)) * ROWS
    blocks = -(-pixels // block)
    parts = 1 if blocks >= threads else min(panels, -(-threads // blocks))  # few pixels: the panels are shared out as well
    workers = min(blocks * parts, threads)
    sizes = pixels, block, blocks, parts, row, step, groups, outputs, inputs
    work = pixels * taps * inputs * outputs * groups // 8
    return ((workers, block * row), (workers, block * kept)), sizes, (panels, width), tuple(s), work


def weight_gradient(gy: np.ndarray, x: np.ndarray, groups: int, s: Sweep) -> np.ndarray:
    """gw (O, C/G, th, tw) from gy (N, oh, ow, O) and the x (N, H, W, C) that the sweep was over.

    A task sums over a range of pixels for some outputs and some taps of the window; then the ranges are added in their order.
    The number of ranges depends on the sizes only.
    """
    o, c_group, taps = gy.shape[3], x.shape[3] // groups, s.th * s.tw
    scratch, sizes, width, numbers, work = _gradient_sizes(gy.shape[0], groups, o, c_group, x.dtype, s, get_num_threads())
    _, _, ranges, _, slices, _, step, _, o_group, _ = sizes
    sums = empty((ranges, slices, groups, o_group, step * c_group), x.dtype)
    columns, turned = (empty(shape, x.dtype) for shape in scratch)
    _weight_gradient(x.reshape(-1), gy.reshape(-1), columns, turned, sums.reshape(-1), sizes, width, numbers, work=work)
    if ranges == 1 and taps == 1:
        return sums.reshape(o, c_group, s.th, s.tw)
    return add_ranges(sums, ranges, slices, o, step, c_group, taps).reshape(o, c_group, s.th, s.tw)


@lru_cache(maxsize=1024)
def _gradient_sizes(n, groups, o, c_group, dtype, s: Sweep, threads):
    """The shapes of the columns and of gy's rows, the sizes and the width of a panel for the kernel, the sweep, and the work."""
    o_group, pixels, taps = o // groups, n * s.oh * s.ow, s.th * s.tw
    step = max(1, min(taps, SLICE // c_group))
    slices = -(-taps // step)
    ranges = max(1, min(32 // min(slices, 16), pixels // 256, PARTIALS // (o * c_group * taps)))
    piece = min(PIECE, c_group) if taps == 1 else step * c_group
    row = (-(-piece // _machine.lanes(dtype)) + 1) * _machine.lanes(dtype)
    parts = _parts_of(ranges * slices, threads, -(-o_group // OUTPUTS), o_group // (4 * ROWS)) if groups == 1 else 1
    most = max(64, min(PIXELS, 2 * BLOCK // (piece + min(o_group, OUTPUTS))))
    block = -(-pixels // ranges)
    block = -(-block // -(-block // most))  # blocks of nearly the same size
    workers = min(ranges * parts * slices, threads)
    sizes = pixels, block, ranges, parts, slices, piece, step, groups, o_group, c_group
    outputs = -(-o_group // parts)  # of a part
    turned = -(-outputs // ROWS) * (block * ROWS + _machine.lanes(dtype)) if step * c_group >= TURN else 0
    scratch, work = ((workers, block * row), (workers, turned)), pixels * o * c_group * taps // 8
    return scratch, sizes, panel_width(step * c_group, dtype), tuple(s), work


def _parts_of(tasks: int, threads: int, least: int, most: int) -> int:
    """Into how many parts the outputs are divided, so that every thread has as much to do: each copies the columns once more.

    That changes no sum, so it may depend on the number of threads.
    """
    wanted = (parts for parts in range(least, most) if tasks * parts % threads == 0 or tasks * parts >= 4 * threads)
    return next(wanted, max(1, least, most))


def _is_plain(s: Sweep) -> bool:
    """Whether every output pixel sees the one input pixel in its own place: the columns are the image."""
    return s.th == s.tw == s.sy == s.sx == 1 and s.y0 == s.x0 == 0 and (s.oh, s.ow) == (s.h, s.w)


@kernel(reassociate=False)
def _sweep(x, weight, bias, y, columns, sums, sizes, panelling, s):
    for worker in prange(columns.shape[0]):
        pixels, block, blocks, parts, row, step, groups, outputs, inputs = sizes
        workers, panels = columns.shape[0], panelling[0]
        for task in range(worker * blocks * parts // workers, (worker + 1) * blocks * parts // workers):
            first, part = task // parts * block, task % parts
            some = panels * part // parts, panels * (part + 1) // parts
            count = min(block, pixels - first)
            for group in range(groups):
                numbers = first, count, group, row, step, groups, outputs, inputs
                _sweep_block(x, weight, bias, y, columns[worker], sums[worker], numbers, some, panelling, s)


@device_function(reassociate=False)
def _sweep_block(x, weight, bias, y, columns, sums, numbers, some, panelling, s):
    """The outputs of a block of pixels, for the panels ``some`` of a group."""
    first, count, group, row, step, groups, outputs, inputs = numbers
    panels, width, group_step, panel_step, tap_step, weight_row = panelling
    taps = s[16] * s[17]
    dense = sums.size == 0
    target, target_row = (y, groups * outputs) if dense else (sums, panels * width)
    for tap in range(0, max(taps, 1), step):
        number = min(step, taps - tap)
        depth = number * inputs
        if row:
            fill_columns(x, columns, row, first, count, group * inputs, inputs, groups * inputs, tap, number, s)
        seen, seen_at, seen_row = (columns, 0, row) if row else (x, first * groups * inputs + group * inputs, groups * inputs)
        for panel in range(some[0], some[1]):
            place = panel * width
            at = first * target_row + group * outputs + place if dense else place
            begin, begin_at, begin_row = target, at, target_row
            if tap == 0:
                begin, begin_at, begin_row = bias, group * outputs + place, 0 if bias.size else -1
            panel_at = group * group_step + panel * panel_step + tap * tap_step
            valid = min(width, outputs - place)
            multiply(
                *(target, at, target_row, begin, begin_at, begin_row, seen, seen_at, seen_row, 1),
                *(weight, panel_at, weight_row, count, depth, valid),
            )
    if not dense:
        start, stop = some[0] * width, min(some[1] * width, outputs)
        _store_pixels(sums, target_row, y, first, count, start, stop, group * outputs, groups * outputs, s)


@kernel(reassociate=False)
def _weight_gradient(x, gy, columns, turned, sums, sizes, width, s):
    for worker in prange(columns.shape[0]):
        workers, tasks = columns.shape[0], sizes[2] * sizes[3] * sizes[4]
        for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
            _sum_range(x, gy, columns[worker], turned[worker], sums, task, sizes, width, s)


@device_function(reassociate=False)
def _sum_range(x, gy, columns, turned, sums, task, sizes, width, s):
    """The products of a range of pixels, some outputs, and some taps of the window.

    Also where the image is its own columns they are copied, some channels at a time: read in the order of memory, and no longer
    a power of two apart.
    """
    pixels, block, ranges, parts, slices, piece, step, groups, o_group, c_group = sizes
    index, part, some = task // (parts * slices), task // slices % parts, task % slices
    tap, begin_o, end_o = some * step, o_group * part // parts, o_group * (part + 1) // parts
    number = min(step, s[16] * s[17] - tap)
    depth, sums_row, row = number * c_group, step * c_group, columns.size // block
    first, last = pixels * index // ranges, pixels * (index + 1) // ranges
    for group in range(groups):
        at = (((index * slices + some) * groups + group) * o_group + begin_o) * sums_row
        for begin in range(first, last, block):
            count = min(block, last - begin)
            given = begin * groups * o_group + group * o_group + begin_o
            if turned.size:
                _turn(gy, given, groups * o_group, count, end_o - begin_o, turned)
            for start in range(0, depth, piece):
                channels = min(piece, depth - start) if number == 1 else c_group
                seen = group * c_group + start
                fill_columns(x, columns, row, begin, count, seen, channels, groups * c_group, tap, number, s)
                for column in range(0, min(piece, depth - start), width):
                    to = sums, at + start + column, sums_row, begin > first
                    right = columns, column, row, count, min(width, depth - start - column)
                    _add_products(*to, gy, given, groups * o_group, turned, end_o - begin_o, *right)


@device_function(reassociate=False)
def _add_products(sums, at, sums_row, more, gy, given, gy_row, turned, outputs, columns, column, row, count, width):
    """sums[o, k] (+)= the sum over some pixels of gy[pixel, o] * columns[pixel, k], for one panel of columns."""
    start_row = sums_row if more else -1
    if turned.size == 0:
        left = gy, given, 1, gy_row
        multiply(sums, at, sums_row, sums, at, start_row, *left, columns, column, row, outputs, count, width)
        return
    for o in range(0, outputs, ROWS):
        into, left = at + o * sums_row, (turned, o // ROWS * (count * ROWS + lanes(turned)), 1, ROWS)
        rows = min(ROWS, outputs - o)
        multiply(sums, into, sums_row, sums, into, start_row, *left, columns, column, row, rows, count, width)


@device_function(reassociate=False)
def _turn(gy, at, step, count, outputs, turned):
    """The gradients of some pixels, sorted by dozens of outputs, so that what a tile reads follows each other."""
    size = lanes(gy)
    for k in range(count):
        for o in range(0, outputs, ROWS):
            into = o // ROWS * (count * ROWS + size) + k * ROWS  # dozens are no power of two apart
            for part in range(0, ROWS, size):  # what is too much, the next pixel overwrites
                store(turned, into + part, load_first(gy, at + k * step + o + part, outputs - o - part))


def add_ranges(sums: np.ndarray, ranges: int, slices: int, outputs: int, step: int, channels: int, taps: int) -> np.ndarray:
    """gw[o, c, tap] = the sum over the ranges of sums[range, slice, o, tap of the slice, c], made in the first range."""
    gw = empty((outputs, channels, taps), sums.dtype)
    _add_ranges(sums.reshape(-1), gw.reshape(-1), outputs, ranges, slices, step, channels, taps, work=4 * sums.size)
    return gw


@kernel(reassociate=False)
def _add_ranges(sums, gw, outputs, ranges, slices, step, channels, taps):
    for o in prange(outputs):
        for part in range(slices):
            number, first = min(step, taps - part * step), (part * outputs + o) * step * channels
            for k in range(0, number * channels, lanes(sums)):
                count = min(lanes(sums), number * channels - k)
                total = load_first(sums, first + k, count)
                for index in range(1, ranges):
                    total = total + load_first(sums, first + k + index * slices * outputs * step * channels, count)
                if taps == 1:
                    store_first(gw, o * channels + k, total, count)
                else:
                    store_first(sums, first + k, total, count)
            if taps > 1:
                for t in range(number):
                    into = np.uintp(o * channels * taps + part * step + t)
                    for c in range(np.uintp(channels)):
                        gw[into + c * np.uintp(taps)] = sums[np.uintp(first + t * channels) + c]


@device_function(reassociate=False)
def fill_columns(x, columns, row, first, count, channel, c_group, channels, tap, taps, s):
    """columns[r * row + t * c_group + c]: what tap ``tap + t`` of pixel first + r sees in channel ``channel + c``; 0 outside.

    A row has room for one vector more than it needs: what is copied last may end behind it.
    """
    h, w, _, _, oh, ow, _, _, _, _, sy, sx, y0, x0, dy, dx, th, tw = s
    # What a row of taps sees, inside the image.
    in_one_piece = dx == 1 and (c_group == channels or tw == 1) and taps == th * tw
    r = 0
    while r < count:
        image, p, q = (first + r) // (oh * ow), (first + r) // ow % oh, (first + r) % ow
        run = min(ow - q, count - r)  # pixels on one line
        begin, end = q, q
        if in_one_piece:
            begin, end = _range_inside(x0, sx, w - tw + 1, q, run)
            for i in range(th):
                line = p * sy + y0 + i * dy
                seen = ((image * h + line) * w + begin * sx + x0) * channels + channel
                into = (r + begin - q) * row + i * tw * c_group
                _copy_rows(x, seen, sx * channels, columns, into, row, end - begin, tw * c_group, 0 <= line < h)
        for pixel in range(q, q + run):
            into, left = (r + pixel - q) * row, pixel * sx + x0
            if in_one_piece and not begin <= pixel < end:
                before, after = min(tw, max(0, -left)), min(tw, max(0, left + tw - w))
                for i in range(th):
                    line, at = p * sy + y0 + i * dy, into + i * tw * c_group
                    seen = max(0, tw - before - after) if 0 <= line < h else 0
                    clear(columns, at, before * c_group)
                    inside = ((image * h + line) * w + left + before) * channels + channel
                    copy(x, inside, columns, at + before * c_group, seen * c_group)
                    clear(columns, at + (before + seen) * c_group, (tw - before - seen) * c_group)
            elif not in_one_piece:
                i, j = tap // tw, tap % tw
                for t in range(taps):
                    line, column = p * sy + y0 + i * dy, left + j * dx
                    at = ((image * h + line) * w + column) * channels + channel
                    _copy_rows(x, at, 0, columns, into + t * c_group, row, 1, c_group, 0 <= line < h and 0 <= column < w)
                    j += 1
                    if j == tw:
                        i, j = i + 1, 0
        r += run


@device_function(reassociate=False, inline=True)
def _range_inside(left, step, width, q, run):
    """The pixels of q, ..., q + run - 1 for which 0 <= left + pixel * step < width, as a range."""
    low = max(q, min(q + run, -(left // step)))
    return low, max(low, min(q + run, -((left - width) // step)))


@device_function(reassociate=False, inline=True)
def _copy_rows(source, start, source_step, target, at, target_step, count, size, inside):
    """target[at + r target_step + k] = source[start + r source_step + k], or 0 if not inside. Up to a vector more is written."""
    step = lanes(source)
    if not inside:
        for r in range(count):
            for k in range(0, size, step):
                store(target, at + r * target_step + k, fill(target, 0.0))
        return
    whole = size - size % step
    for r in range(count):
        for k in range(0, whole, step):
            store(target, at + r * target_step + k, load(source, start + r * source_step + k))
        if whole < size:
            value = load_first(source, start + r * source_step + whole, size - whole)
            store(target, at + r * target_step + whole, value)


@device_function(reassociate=False)
def _store_pixels(sums, row, y, first, count, start, stop, channel, channels, s):
    """Put the sums of the block's pixels, from column ``start`` to ``stop``, where the sweep has them in y."""
    _, _, height, width, oh, ow, ay, ax, py, px, _, _, _, _, _, _, _, _ = s
    image, p, q = first // (oh * ow), first // ow % oh, first % ow
    for r in range(count):
        pixel = (image * height + ay + p * py) * width + ax + q * px
        copy(sums, r * row + start, y, pixel * channels + channel + start, stop - start)
        q += 1
        if q == ow:
            q = 0
            p += 1
            if p == oh:
                p = 0
                image += 1
