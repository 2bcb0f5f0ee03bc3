"""Winograd's convolution F(4x4, 3x3) for 3x3 windows with stride 1: a quarter of the multiplications.

Tiles of 6x6 inputs, which overlap by two, become 36 numbers each (``_winograd_transforms.py``); so do the weights. For each of
the 36 places the tiles (T, C) times the weights (C, O) are one matrix product, and its results become tiles of 4x4 outputs.
Transformed tiles are made for a few dozen tiles at a time and stay in the second-level cache, unless there are so many channels
that not enough tiles would fit: then they are made for all tiles first, and shared by all panels of outputs.

The input gradient is the same over mirrored weights. For the weight gradient see ``_winograd_gradient.py``.

Float32 results are off by up to 2e-5 of the largest, most often 2e-6, where a sum of products in order is off by 5e-7. A NaN or
an infinity spoils all outputs of the tiles that see it: ``exact`` convolution (see ``_algorithms.py``) spoils only its own.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._product import ROWS, Filters, multiply, panel_width
from ._sweep import Sweep
from ._threads import get_num_threads
from ._vector import fill, lanes, load, load_first, prefetch, store, store_first
from ._winograd_gradient import weight_gradient
from ._winograd_tiles import RUN, input_tile, run_of_pixels, store_six
from ._winograd_transforms import output_line, weight_line
from ._winograd_weights import gather_weights

__all__ = ["sweep", "weight_gradient"]

CACHE = 192 * 1024  # numbers in the transformed inputs of a block of tiles and in one panel of its outputs, at most
SLICE = 64  # inputs whose weights are transformed at a time, where not all are first
FEWEST = 24  # tiles of a block, below which the inputs are transformed for all tiles first


def sweep(x: np.ndarray, filters: Filters, bias: np.ndarray | None, y: np.ndarray, s: Sweep) -> None:
    """Fill y (N, H', W', O) by a sweep with a 3x3 window and steps of 1 over x (N, H, W, C). bias: (O,) or None."""
    f = filters
    start = np.zeros(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    apart, shapes, sizes, numbers, work = _sweep_sizes(y.shape[0], f.inputs, f.outputs, x.dtype, s, get_num_threads())
    inputs, products, scratch, *more = (empty(shape, x.dtype) for shape in shapes)
    if apart:
        lines, slices = more
        source = f.values, f.taps, f.input_step, f.output_step
        _transform_all(x.reshape(-1), inputs, scratch, sizes, numbers, work=inputs.size)
        _multiply_all(inputs, *source, slices, start, y.reshape(-1), products, lines, sizes, numbers, work=work)
    else:
        weights = _transformed(f, sizes[6], panel_width(f.outputs, x.dtype))
        _sweep(x.reshape(-1), weights, start, y.reshape(-1), inputs, products, scratch, sizes, numbers, work=work)


@lru_cache(maxsize=1024)
def _sweep_sizes(n, channels, outputs, dtype, s: Sweep, threads):
    """Whether the inputs are transformed first, the shapes of the working memory, tuples of integers for the kernels, work."""
    step, width = panel_width(1, dtype), panel_width(outputs, dtype)
    panels, row = -(-outputs // width), -(-channels // step) * step
    high, wide = -(-s.oh // 4), -(-s.ow // 4)
    tiles = n * high * wide
    most = CACHE // (36 * (row + width)) // ROWS * ROWS
    apart = most < FEWEST  # inputs first, then products
    blocks = -(-tiles // min(8 * ROWS if apart else 16 * ROWS, max(most, FEWEST)))
    if not apart:
        blocks = -(-blocks // threads) * threads  # a whole number for every thread
    block = -(-tiles // (blocks * 4)) * 4
    blocks = -(-tiles // block)
    workers = min(threads, blocks * panels if apart else blocks)
    first = blocks if apart else workers
    shapes = [
        (first, 36 * (block * row + step)),  # inputs: a little more than they need,
        (workers, 36 * (block * width + step)),  # products: so that the 36 do not share cache sets
        (first, 6 * (4 * min(RUN, wide) + 2) * row + 36 * step),
    ]
    if apart:
        shapes += (workers, 36 * step), (workers, (36 * (SLICE + 1) + 9 * 16 + 18) * width)
    sizes = tiles, block, blocks, high, wide, row, panels, width, channels, outputs
    return apart, shapes, sizes, tuple(s), tiles * 36 * channels * outputs // 8


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
        gather_weights(values, at, taps, scratch[task], width, outs, output_step, number, input_step)
        for c in range(number):
            to = (panel * inputs + part * 16 + c) * width
            _transform_window(scratch[task], 9 * c * width, width, weights, to, panels * inputs * width)


@device_function(reassociate=False)
def _transform_window(lines, first, width, weights, at, step):
    """weights[at + (6 i + j) step + o] = number (i, j) of G w G^T; w begins at lines[first], and the end of lines is free."""
    free = lines.size - 18 * width
    for o in range(0, width, lanes(lines)):
        for b in range(3):
            tap = first + b * width + o
            w0, w1, w2 = load(lines, tap), load(lines, tap + 3 * width), load(lines, tap + 6 * width)
            store_six(lines, free + b * width + o, 3 * width, weight_line(lines, w0, w1, w2))
        for i in range(6):
            tap = free + 3 * i * width + o
            w0, w1, w2 = load(lines, tap), load(lines, tap + width), load(lines, tap + 2 * width)
            store_six(weights, at + 6 * i * step + o, step, weight_line(lines, w0, w1, w2))


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
        gather_weights(values, at, taps, lines, width, outs, output_step, some, input_step)
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
        seen, first, pixel, line = run_of_pixels(x, corner, 6, 4 * run + 2, 0, channels, scratch, row)
        for k in range(run):
            input_tile(seen, first + 4 * k * pixel, pixel, line, row, inputs, (t + k) * row, step, scratch)
        t += run


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
        for pixel in range(16):  # of the tile after the next one, if it lies beside it
            after = ((image * s[4] + 4 * p + pixel // 4) * s[5] + 4 * q + 8 + pixel % 4) * outputs + panel * width
            for o in range(0, valid, lanes(y)):
                prefetch(y, after + o)
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
