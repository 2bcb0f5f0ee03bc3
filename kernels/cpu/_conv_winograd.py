"""Winograd's convolution F(4x4, 3x3) for 3x3 windows with stride 1: a quarter of the multiplications.

Tiles of 6x6 inputs, which overlap by two, become 36 numbers each (``_winograd_transforms.py``); so do the weights. For each of
the 36 places the tiles (T, C) times the weights (C, O) are one matrix product, and its results become tiles of 4x4 outputs.
Transformed tiles are made for a few dozen tiles at a time and stay in the second-level cache, unless there are so many channels
that not enough tiles would fit: then they are made for all tiles first, and shared by all panels of outputs.

The input gradient is the same over mirrored weights. For the weight gradient the products are (O, T) times (T, C).

Float32 results are off by up to 2e-5 of the largest, most often 2e-6, where a sum of products in order is off by 5e-7. A NaN or
an infinity spoils all outputs of the tiles that see it: ``exact`` convolution (see ``_algorithms.py``) spoils only its own.
"""

from __future__ import annotations

import numpy as np

from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._product import ROWS, Filters, multiply, panel_width
from ._sweep import Sweep
from ._threads import get_num_threads
from ._vector import clear, copy, fill, fma, lanes, load, load_first, store, store_first, transpose
from ._winograd_transforms import (
    gradient_line,
    input_line,
    output_line,
    rows,
    weight_gradient_line,
    weight_line,
)

__all__ = ["sweep", "weight_gradient"]

CACHE = 192 * 1024  # numbers in the transformed inputs of a block of tiles and in one panel of its outputs, at most
SLICE = 64  # inputs whose weights are transformed at a time, where not all are first
RUN = 8  # tiles of a line whose pixels are looked up together, at most
FEWEST = 24  # tiles of a block, below which the inputs are transformed for all tiles first
CHANNELS = 128  # channels on either side of a task of the weight gradient, at most
FEW = 48 * 48  # products of channels up to which all 36 sums of a task stay in the cache
PARTIALS = 4 * 2**20  # numbers in all partial sums of a weight gradient together


def sweep(x: np.ndarray, filters: Filters, bias: np.ndarray | None, y: np.ndarray, s: Sweep) -> None:
    """Fill y (N, H', W', O) by a sweep with a 3x3 window and steps of 1 over x (N, H, W, C). bias: (O,) or None."""
    f, threads, step = filters, get_num_threads(), panel_width(1, x.dtype)
    width = panel_width(f.outputs, x.dtype)
    panels, row = -(-f.outputs // width), -(-f.inputs // step) * step
    high, wide = -(-s.oh // 4), -(-s.ow // 4)
    tiles = y.shape[0] * high * wide
    most = CACHE // (36 * (row + width)) // ROWS * ROWS
    apart = most < FEWEST  # inputs first, then products
    blocks = -(-tiles // min(8 * ROWS if apart else 16 * ROWS, max(most, FEWEST)))
    if not apart:
        blocks = -(-blocks // threads) * threads  # a whole number for every thread
    block = -(-tiles // (blocks * 4)) * 4
    blocks = -(-tiles // block)
    start = np.zeros(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    workers = min(threads, blocks * panels if apart else blocks)
    inputs = empty((blocks if apart else workers, 36 * (block * row + step)), x.dtype)  # a little more than they need,
    products = empty((workers, 36 * (block * width + step)), x.dtype)  # so that the 36 do not share cache sets
    scratch = empty((len(inputs), 6 * (4 * min(RUN, wide) + 2) * row + 36 * step), x.dtype)
    sizes = tiles, block, blocks, high, wide, row, panels, width, f.inputs, f.outputs
    work = tiles * 36 * f.inputs * f.outputs // 8
    if apart:
        lines = empty((workers, 36 * step), x.dtype)
        slices = empty((workers, (36 * (SLICE + 1) + 9 * 16 + 18) * width), x.dtype)
        source = f.values, f.taps, f.input_step, f.output_step
        _transform_all(x.reshape(-1), inputs, scratch, sizes, tuple(s), work=tiles * 36 * row)
        _multiply_all(inputs, *source, slices, start, y.reshape(-1), products, lines, sizes, tuple(s), work=work)
    else:
        weights = _transformed(f, panels, width)
        _sweep(x.reshape(-1), weights, start, y.reshape(-1), inputs, products, scratch, sizes, tuple(s), work=work)


def weight_gradient(gy: np.ndarray, x: np.ndarray, groups: int, s: Sweep) -> np.ndarray:
    """gw (O, C, 3, 3) from gy (N, oh, ow, O) and the x (N, H, W, C) that the sweep was over.

    A task sums over a range of tiles for at most 128 outputs and inputs; then the ranges are added in their order. Their numbers
    depend on the sizes only.
    """
    o, c, step = gy.shape[3], x.shape[3], panel_width(1, x.dtype)
    high, wide = -(-s.oh // 4), -(-s.ow // 4)
    tiles = gy.shape[0] * high * wide
    o_parts, c_parts = -(-o // CHANNELS), -(-c // CHANNELS)
    o_part, c_part = (-(-size // (parts * step)) * step for size, parts in ((o, o_parts), (c, c_parts)))
    o_parts, c_parts = -(-o // o_part), -(-c // c_part)
    ranges = max(1, min(16 // (o_parts * c_parts), tiles // 32, PARTIALS // (o_part * c_part * o_parts * c_parts * 9)))
    places = 36 if o_part * c_part <= FEW else 6
    block = max(32, min(192, CACHE // 2 // (places * (o_part + c_part)) // 4 * 4, -(-tiles // (ranges * 4)) * 4))
    tasks = ranges * o_parts * c_parts
    workers = min(tasks, get_num_threads())
    inputs = empty((workers, places * (block * c_part + step)), x.dtype)
    outputs = empty((workers, places * (block * o_part + step)), x.dtype)
    products = empty((workers, places * o_part * c_part), x.dtype)
    patches = empty((workers, 6 * (4 * min(RUN, wide) + 2) * max(o_part, c_part) + 36 * step), x.dtype)
    sums = empty((tasks, 9 * o_part * c_part), x.dtype)
    sizes = tiles, block, ranges, high, wide, o, c, o_parts, c_parts, o_part, c_part, places
    scratch, work = (inputs, outputs, products, patches), tiles * 36 * o * c // 8
    _weight_gradient(x.reshape(-1), gy.reshape(-1), rows(x.dtype), *scratch, sums, sizes, tuple(s), work=work)
    gw = empty((o, c, 9), x.dtype)
    _add_ranges(sums, gw, sizes, work=4 * sums.size)
    return gw.reshape(o, c, 3, 3)


# ---- weights ---------------------------------------------------------------------------------------------------------


def _transformed(filters: Filters, panels: int, width: int) -> np.ndarray:
    """The transformed weights as panels (36, panels, C, width), whose last columns may be zeros."""
    f = filters
    parts = -(-f.inputs // 16)
    weights = empty((36 * panels * f.inputs * width,), f.values.dtype)
    scratch = empty((panels * parts, (9 * 16 + 18) * width), f.values.dtype)
    sizes = panels, parts, width, f.inputs, f.outputs, f.input_step, f.output_step
    _transform_weights(f.values, f.taps, weights, scratch, sizes, work=4 * weights.size)
    return weights


@kernel(reassociate=False)
def _transform_weights(values, taps, weights, scratch, sizes):
    for task in prange(scratch.shape[0]):
        panels, parts, width, inputs, outputs, input_step, output_step = sizes
        panel, part = task // parts, task % parts
        number, outs = min(16, inputs - part * 16), min(width, outputs - panel * width)
        at = part * 16 * input_step + panel * width * output_step
        _gather_weights(values, at, taps, scratch[task], width, outs, output_step, number, input_step)
        for c in range(number):
            to = (panel * inputs + part * 16 + c) * width
            _transform_window(scratch[task], 9 * c * width, width, weights, to, panels * inputs * width)


@device_function(reassociate=False)
def _gather_weights(values, at, taps, lines, width, outs, output_step, number, input_step):
    """lines[(9 c + t) * width + o] = the weight of tap t and input c for output o; 0 for o >= outs."""
    size = lanes(lines)
    if size > 8 and output_step == 9 and taps[0] == 8 and taps[8] == 0:  # windows backwards, outputs beside each other
        for c in range(number):
            for o in range(0, width, size):
                first, to = at + c * input_step + o * 9, (9 * c + 8) * width + o
                transpose(values, first, 9, outs - o, lines, to, -width, 9)
        return
    if input_step == 9 and taps[0] == 0 and taps[8] == 8:  # the windows of an output, one after another
        for k in range(0, 9 * number, size):
            for o in range(0, width, size):
                transpose(
                    values,
                    at + o * output_step + k,
                    output_step,
                    outs - o,
                    lines,
                    k * width + o,
                    width,
                    min(size, 9 * number - k),
                )
        return
    across, along, row = np.uintp(output_step), np.uintp(input_step), np.uintp(9 * width)
    for o in range(np.uintp(outs)):
        for t in range(9):
            first, to = np.uintp(at + taps[t]) + o * across, np.uintp(t * width) + o
            for c in range(np.uintp(number)):
                lines[to + c * row] = values[first + c * along]
    for o in range(outs, width):
        for t in range(9 * number):
            lines[t * width + o] = 0


@device_function(reassociate=False)
def _transform_window(lines, first, width, weights, at, step):
    """weights[at + (6 i + j) step + o] = number (i, j) of G w G^T; w begins at lines[first], and the end of lines is free."""
    free = lines.size - 18 * width
    for o in range(0, width, lanes(lines)):
        for b in range(3):
            tap = first + b * width + o
            w0, w1, w2 = load(lines, tap), load(lines, tap + 3 * width), load(lines, tap + 6 * width)
            _store_six(lines, free + b * width + o, 3 * width, weight_line(lines, w0, w1, w2))
        for i in range(6):
            tap = free + 3 * i * width + o
            w0, w1, w2 = load(lines, tap), load(lines, tap + width), load(lines, tap + 2 * width)
            _store_six(weights, at + 6 * i * step + o, step, weight_line(lines, w0, w1, w2))


@device_function(reassociate=False, inline=True)
def _store_six(x, at, step, numbers):
    n0, n1, n2, n3, n4, n5 = numbers
    store(x, at, n0)
    store(x, at + step, n1)
    store(x, at + 2 * step, n2)
    store(x, at + 3 * step, n3)
    store(x, at + 4 * step, n4)
    store(x, at + 5 * step, n5)


# ---- forward ---------------------------------------------------------------------------------------------------------


@kernel(reassociate=False)
def _sweep(x, weights, bias, y, inputs, products, scratch, sizes, s):
    """Blocks of tiles, each from its inputs to its outputs."""
    for worker in prange(inputs.shape[0]):
        workers, blocks, panels = inputs.shape[0], sizes[2], sizes[6]
        for index in range(worker * blocks // workers, (worker + 1) * blocks // workers):
            _transform_block(x, inputs[worker], scratch[worker], index, sizes, s)
            for panel in range(panels):
                _multiply_block(inputs[worker], weights, products[worker], index, panel, sizes)
                _finish_block(products[worker], bias, y, scratch[worker], index, panel, sizes, s)


@kernel(reassociate=False)
def _transform_all(x, inputs, scratch, sizes, s):
    for index in prange(inputs.shape[0]):
        _transform_block(x, inputs[index], scratch[index], index, sizes, s)


@kernel(reassociate=False)
def _multiply_all(inputs, values, taps, input_step, output_step, slices, bias, y, products, scratch, sizes, s):
    """The weights are transformed on the way, some inputs at a time: written out they would be four times as many."""
    for worker in prange(products.shape[0]):
        workers, blocks, panels = products.shape[0], sizes[2], sizes[6]
        for task in range(worker * blocks * panels // workers, (worker + 1) * blocks * panels // workers):
            panel, index = task // blocks, task % blocks
            for start in range(0, sizes[8], SLICE):
                number = min(SLICE, sizes[8] - start)
                _transform_slice(values, taps, input_step, output_step, slices[worker], panel, start, number, sizes)
                _multiply_slice(inputs[index], slices[worker], products[worker], index, start, number, sizes)
            _finish_block(products[worker], bias, y, scratch[worker], index, panel, sizes, s)


@device_function(reassociate=False)
def _transform_slice(values, taps, input_step, output_step, weights, panel, start, number, sizes):
    width, outputs = sizes[7], sizes[9]
    lines, outs = weights[36 * (SLICE + 1) * width :], min(width, outputs - panel * width)
    for begin in range(0, number, 16):
        some, at = min(16, number - begin), (start + begin) * input_step + panel * width * output_step
        _gather_weights(values, at, taps, lines, width, outs, output_step, some, input_step)
        for c in range(some):
            _transform_window(lines, 9 * c * width, width, weights, (begin + c) * width, (SLICE + 1) * width)


@device_function(reassociate=False)
def _multiply_slice(inputs, weights, products, index, start, number, sizes):
    tiles, block, _, _, _, row, _, width, _, _ = sizes
    step, products_step, count = inputs.size // 36, products.size // 36, min(block, tiles - index * block)
    start_row = width if start else -1
    for place in range(36):
        at = place * products_step
        seen, used = place * step + start, place * (SLICE + 1) * width
        multiply(products, at, width, products, at, start_row, inputs, seen, row, 1, weights, used, width, count, number, width)


@device_function(reassociate=False)
def _transform_block(x, inputs, scratch, index, sizes, s):
    tiles, block, _, high, wide, row, _, _, channels, _ = sizes
    step, count, t = inputs.size // 36, min(block, tiles - index * block), 0
    while t < count:
        tile = index * block + t
        image, p, q = tile // (high * wide), tile // wide % high, tile % wide
        run = min(RUN, min(wide - q, count - t))  # neighbours, whose pixels are looked up together
        corner = image, 4 * p + s[12], 4 * q + s[13], s[0], s[1], channels
        seen, first, pixel, line = _run_of_pixels(x, corner, 6, 4 * run + 2, 0, channels, scratch, row)
        for k in range(run):
            _transform_tile(seen, first + 4 * k * pixel, pixel, line, row, inputs, (t + k) * row, step, scratch)
        t += run


@device_function(reassociate=False, inline=True)
def _run_of_pixels(x, corner, lines, columns, channel, count, scratch, row):
    """Where lines * columns pixels from a corner on are found: (array, first place, steps to the next pixel and line).

    In x itself, or as a copy in scratch where some of them lie outside the image (0 there) or the channels are no whole vectors.
    """
    image, top, left, h, w, channels = corner
    if top >= 0 and left >= 0 and top + lines <= h and left + columns <= w and count == row:
        return x, ((image * h + top) * w + left) * channels + channel, channels, w * channels
    _copy_pixels(x, corner, lines, columns, channel, count, scratch, row)
    return scratch, 0, row, columns * row


@device_function(reassociate=False)
def _copy_pixels(x, corner, lines, columns, channel, count, scratch, row):
    """scratch[(i columns + j) row + c] = pixel (i, j) from a corner on; 0 outside the image and from channel ``count`` on."""
    image, top, left, h, w, channels = corner
    before = min(columns, max(0, -left))
    after = min(columns - before, max(0, left + columns - w))
    for i in range(lines):
        at = i * columns * row
        seen = columns - before - after if 0 <= top + i < h else 0
        first = ((image * h + top + i) * w + left + before) * channels + channel
        if seen == 0:
            clear(scratch, at, columns * row)
            continue
        clear(scratch, at, before * row)
        clear(scratch, at + (before + seen) * row, after * row)
        if count == channels == row:  # one piece of memory
            copy(x, first, scratch, at + before * row, seen * row)
        else:
            for j in range(seen):
                into = at + (before + j) * row
                copy(x, first + j * channels, scratch, into, count)
                clear(scratch, into + count, row - count)


@device_function(reassociate=False)
def _transform_tile(x, first, pixel, line, channels, inputs, at, step, scratch):
    """inputs[at + (6 i + j) step + c] = number (i, j) of B^T d B for the 6x6 pixels d from x[first] on."""
    size = lanes(x)
    free = scratch.size - 36 * size
    for c in range(0, channels, size):
        for j in range(6):
            p = first + j * pixel + c
            d0, d1, d2 = load(x, p), load(x, p + line), load(x, p + 2 * line)
            d3, d4, d5 = load(x, p + 3 * line), load(x, p + 4 * line), load(x, p + 5 * line)
            _store_six(scratch, free + j * size, 6 * size, input_line(x, d0, d1, d2, d3, d4, d5))
        for i in range(6):
            k = free + 6 * i * size
            e0, e1, e2 = load(scratch, k), load(scratch, k + size), load(scratch, k + 2 * size)
            e3, e4, e5 = load(scratch, k + 3 * size), load(scratch, k + 4 * size), load(scratch, k + 5 * size)
            _store_six(inputs, at + 6 * i * step + c, step, input_line(x, e0, e1, e2, e3, e4, e5))


@device_function(reassociate=False)
def _multiply_block(inputs, weights, products, index, panel, sizes):
    tiles, block, _, _, _, row, panels, width, channels, _ = sizes
    step, products_step, count = inputs.size // 36, products.size // 36, min(block, tiles - index * block)
    for place in range(36):
        at, into = (place * panels + panel) * channels * width, place * products_step
        multiply(
            *(products, into, width, products, into, -1, inputs, place * step, row, 1, weights, at, width, count, channels, width)
        )


@device_function(reassociate=False)
def _finish_block(products, bias, y, scratch, index, panel, sizes, s):
    """The outputs of a panel for a block of tiles."""
    tiles, block, _, high, wide, _, _, width, _, outputs = sizes
    step, valid = products.size // 36, min(width, outputs - panel * width)
    for t in range(min(block, tiles - index * block)):
        tile = index * block + t
        image, p, q = tile // (high * wide), tile // wide % high, tile % wide
        rows, columns = min(4, s[4] - 4 * p), min(4, s[5] - 4 * q)
        for o in range(0, valid, lanes(y)):
            number, channel = min(lanes(y), valid - o), panel * width + o
            added = load_first(bias, channel, number) if bias.size else fill(y, 0.0)
            at = ((image * s[4] + 4 * p) * s[5] + 4 * q) * outputs + channel
            to = y, at, outputs, s[5] * outputs, rows, columns, number
            _finish_tile(products, t * width + o, step, added, *to, scratch)


@device_function(reassociate=False)
def _finish_tile(products, at, step, added, y, first, pixel, line, rows, columns, count, scratch):
    """A^T m A + added for the 36 products m of a tile, stored to at most 4x4 pixels of y."""
    size = lanes(y)
    for j in range(6):
        k = at + j * step
        m0, m1, m2 = load(products, k), load(products, k + 6 * step), load(products, k + 12 * step)
        m3, m4, m5 = load(products, k + 18 * step), load(products, k + 24 * step), load(products, k + 30 * step)
        n0, n1, n2, n3 = output_line(y, m0, m1, m2, m3, m4, m5)
        store(scratch, j * size, n0)
        store(scratch, (6 + j) * size, n1)
        store(scratch, (12 + j) * size, n2)
        store(scratch, (18 + j) * size, n3)
    for a in range(rows):
        k = 6 * a * size
        m0, m1, m2 = load(scratch, k), load(scratch, k + size), load(scratch, k + 2 * size)
        m3, m4, m5 = load(scratch, k + 3 * size), load(scratch, k + 4 * size), load(scratch, k + 5 * size)
        n0, n1, n2, n3 = output_line(y, m0, m1, m2, m3, m4, m5)
        p = first + a * line
        store_first(y, p, n0 + added, count)
        store_first(y, p + pixel, n1 + added, count if columns > 1 else 0)
        store_first(y, p + 2 * pixel, n2 + added, count if columns > 2 else 0)
        store_first(y, p + 3 * pixel, n3 + added, count if columns > 3 else 0)


# ---- weight gradient -------------------------------------------------------------------------------------------------


@kernel(reassociate=False)
def _weight_gradient(x, gy, rows, inputs, outputs, products, patches, sums, sizes, s):
    for worker in prange(inputs.shape[0]):
        workers, tasks = inputs.shape[0], sums.shape[0]
        for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
            scratch = inputs[worker], outputs[worker], products[worker], patches[worker]
            _sum_range(x, gy, rows, *scratch, sums[task], task, sizes, s)


@device_function(reassociate=False)
def _sum_range(x, gy, rows, inputs, outputs, products, patch, sums, task, sizes, s):
    """The part of the gradient that belongs to a range of tiles, some outputs and some inputs.

    All 36 numbers of a tile at once, or one row of six after another, so that the sums of their products stay in the cache.
    """
    tiles, block, ranges, _, _, o, c, o_parts, c_parts, o_part, c_part, places = sizes
    index, part = task // (o_parts * c_parts), task % (o_parts * c_parts)
    first_o, first_c = part // c_parts * o_part, part % c_parts * c_part
    number_o, number_c = min(o_part, o - first_o), min(c_part, c - first_c)
    first, last = tiles * index // ranges, tiles * (index + 1) // ranges
    for i in range(36 // places):
        for begin in range(first, last, block):
            count = min(block, last - begin)
            _transform_range(
                x, inputs, rows, patch, (begin, count, i), (6, s[12], s[13], s[0], s[1], c), (first_c, number_c, c_part), sizes
            )
            _transform_range(
                gy, outputs, rows, patch, (begin, count, i), (4, 0, 0, s[4], s[5], o), (first_o, number_o, o_part), sizes
            )
            _multiply_places(inputs, outputs, products, count, begin == first, (number_o, number_c, o_part, c_part, places))
        for k in range(places // 6):
            _fold(products, 6 * k * o_part * c_part, sums, rows, i + k, number_o, number_c, o_part, c_part)


@device_function(reassociate=False)
def _transform_range(x, numbers, rows, scratch, places, image_sizes, part, sizes):
    """The numbers of a range of tiles, all or row i of them: of inputs (6x6 pixels a tile) or of gradients (4x4)."""
    begin, count, i = places
    size, top, left, h, w, channels = image_sizes
    channel, number, row = part
    _, _, _, high, wide, _, _, _, _, _, _, at_once = sizes
    step, whole, t = numbers.size // at_once, -(-number // lanes(x)) * lanes(x), 0
    while t < count:
        image, p, q = (begin + t) // (high * wide), (begin + t) // wide % high, (begin + t) % wide
        run = min(RUN, min(wide - q, count - t))
        corner = image, 4 * p + top, 4 * q + left, h, w, channels
        seen, first, pixel, line = _run_of_pixels(x, corner, size, 4 * run + size - 4, channel, number, scratch, whole)
        for k in range(run):
            start, at = first + 4 * k * pixel, (t + k) * row
            if size == 6 and at_once == 36:
                _transform_tile(seen, start, pixel, line, whole, numbers, at, step, scratch)
            elif size == 6:
                _input_row(seen, start, pixel, line, whole, rows, i, numbers, at, step)
            elif at_once == 36:
                _gradient_tile(seen, start, pixel, line, whole, numbers, at, step, scratch)
            else:
                _gradient_row(seen, start, pixel, line, whole, rows, i, numbers, at, step)
        t += run


@device_function(reassociate=False)
def _gradient_tile(gy, first, pixel, line, channels, outputs, at, step, scratch):
    """outputs[at + (6 i + j) step + o] = number (i, j) of A g A^T. The end of scratch is free."""
    size = lanes(gy)
    free = scratch.size - 36 * size
    for o in range(0, channels, size):
        for j in range(4):
            p = first + j * pixel + o
            g0, g1, g2, g3 = load(gy, p), load(gy, p + line), load(gy, p + 2 * line), load(gy, p + 3 * line)
            _store_six(scratch, free + j * size, 4 * size, gradient_line(gy, g0, g1, g2, g3))
        for i in range(6):
            k = free + 4 * i * size
            g0, g1, g2, g3 = load(scratch, k), load(scratch, k + size), load(scratch, k + 2 * size), load(scratch, k + 3 * size)
            _store_six(outputs, at + 6 * i * step + o, step, gradient_line(gy, g0, g1, g2, g3))


@device_function(reassociate=False, inline=True)
def _input_row(x, first, pixel, line, channels, rows, i, inputs, at, step):
    r0, r1, r2 = fill(x, rows[i, 0]), fill(x, rows[i, 1]), fill(x, rows[i, 2])
    r3, r4, r5 = fill(x, rows[i, 3]), fill(x, rows[i, 4]), fill(x, rows[i, 5])
    for c in range(0, channels, lanes(x)):
        p = first + c
        e0 = _six(x, p, line, r0, r1, r2, r3, r4, r5)
        e1 = _six(x, p + pixel, line, r0, r1, r2, r3, r4, r5)
        e2 = _six(x, p + 2 * pixel, line, r0, r1, r2, r3, r4, r5)
        e3 = _six(x, p + 3 * pixel, line, r0, r1, r2, r3, r4, r5)
        e4 = _six(x, p + 4 * pixel, line, r0, r1, r2, r3, r4, r5)
        e5 = _six(x, p + 5 * pixel, line, r0, r1, r2, r3, r4, r5)
        _store_six(inputs, at + c, step, input_line(x, e0, e1, e2, e3, e4, e5))


@device_function(reassociate=False, inline=True)
def _six(x, p, line, r0, r1, r2, r3, r4, r5):
    """One column of a tile, weighted."""
    upper = fma(r2, load(x, p + 2 * line), fma(r1, load(x, p + line), r0 * load(x, p)))
    return fma(r5, load(x, p + 5 * line), fma(r4, load(x, p + 4 * line), fma(r3, load(x, p + 3 * line), upper)))


@device_function(reassociate=False, inline=True)
def _gradient_row(gy, first, pixel, line, channels, rows, i, outputs, at, step):
    r0, r1, r2, r3 = fill(gy, rows[i, 6]), fill(gy, rows[i, 7]), fill(gy, rows[i, 8]), fill(gy, rows[i, 9])
    for c in range(0, channels, lanes(gy)):
        p = first + c
        z0 = _four(gy, p, line, r0, r1, r2, r3)
        z1 = _four(gy, p + pixel, line, r0, r1, r2, r3)
        z2 = _four(gy, p + 2 * pixel, line, r0, r1, r2, r3)
        z3 = _four(gy, p + 3 * pixel, line, r0, r1, r2, r3)
        _store_six(outputs, at + c, step, gradient_line(gy, z0, z1, z2, z3))


@device_function(reassociate=False, inline=True)
def _four(x, p, line, r0, r1, r2, r3):
    upper = fma(r1, load(x, p + line), r0 * load(x, p))
    return fma(r3, load(x, p + 3 * line), fma(r2, load(x, p + 2 * line), upper))


@device_function(reassociate=False)
def _multiply_places(inputs, outputs, products, count, fresh, parts):
    """products[j, o, c] += sum over t of outputs[j, t, o] * inputs[j, t, c] for all places j."""
    number_o, number_c, o_part, c_part, places = parts
    width = min(c_part, 2 * lanes(inputs))
    start_row = -1 if fresh else c_part
    for j in range(places):
        seen, given = j * (inputs.size // places), j * (outputs.size // places)
        for column in range(0, number_c, width):
            at, valid = j * o_part * c_part + column, min(width, number_c - column)
            into = products, at, c_part, products, at, start_row
            multiply(*into, outputs, given, 1, o_part, inputs, seen + column, c_part, number_o, count, valid)


@device_function(reassociate=False)
def _fold(products, first, sums, rows, i, number_o, number_c, o_part, c_part):
    """sums[a, b, o, c] += G[i, a] * (sum over j of products[j, o, c] * G[j, b]); i = 0 comes first."""
    step, size = o_part * c_part, lanes(products)
    for o in range(number_o):
        for c in range(0, number_c, size):
            p = first + o * c_part + c
            u0, u1, u2 = load(products, p), load(products, p + step), load(products, p + 2 * step)
            u3, u4, u5 = load(products, p + 3 * step), load(products, p + 4 * step), load(products, p + 5 * step)
            w0, w1, w2 = weight_gradient_line(products, u0, u1, u2, u3, u4, u5)
            for a in range(3):
                factor, q = fill(products, rows[i, 10 + a]), o * c_part + c + 3 * a * step
                if i == 0:
                    store(sums, q, w0 * factor)
                    store(sums, q + step, w1 * factor)
                    store(sums, q + 2 * step, w2 * factor)
                else:
                    store(sums, q, fma(w0, factor, load(sums, q)))
                    store(sums, q + step, fma(w1, factor, load(sums, q + step)))
                    store(sums, q + 2 * step, fma(w2, factor, load(sums, q + 2 * step)))


@kernel(reassociate=False)
def _add_ranges(sums, gw, sizes):
    """gw[o, c, tap] = the sum over the ranges, which ends up in the first range first."""
    for output in prange(gw.shape[0]):
        _, _, ranges, _, _, _, c, o_parts, c_parts, o_part, c_part, _ = sizes
        for part in range(c_parts):
            task, at = output // o_part * c_parts + part, output % o_part * c_part
            for tap in range(9):
                for index in range(1, ranges):
                    _add(sums[index * o_parts * c_parts + task], sums[task], tap * o_part * c_part + at, c_part)
            for channel in range(part * c_part, min(c, (part + 1) * c_part)):
                for tap in range(9):
                    gw[output, channel, tap] = sums[task, tap * o_part * c_part + at + channel - part * c_part]


@device_function(reassociate=False, inline=True)
def _add(x, total, at, size):
    for k in range(at, at + size, lanes(x)):
        store(total, k, load(total, k) + load(x, k))
