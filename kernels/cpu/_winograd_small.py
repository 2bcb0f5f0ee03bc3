"""Winograd's convolution F(2x2, 3x3), for 3x3 windows on images of few pixels: 16 multiplications instead of 36 for a tile.

    y = A^T [(G w G^T) * (B^T d B)] A      w: 3x3 weights, d: 4x4 inputs, y: 2x2 outputs  (Lavin & Gray 2016, arXiv 1509.09308)

            | 1  0 -1  0 |        |  1    0    0  |
    B^T  =  | 0  1  1  0 |   G =  | 1/2  1/2  1/2 |   A^T =  | 1  1  1  0 |
            | 0 -1  1  0 |        | 1/2 -1/2  1/2 |          | 0  1 -1 -1 |
            | 0  1  0 -1 |        |  0    0    1  |

The larger tiles of ``_conv_winograd.py`` save more, but of an image of 2x2 pixels most of such a tile lies outside. There are few
tiles then and many channels: the inputs of all tiles are transformed first, and the weights on the way, each only once.

Its numbers are sums and differences, so it rounds little more than a product: some 1e-6 of the largest output. A NaN or an
infinity spoils the outputs of the tiles that see it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._product import ROWS, Filters, multiply, panel_width
from ._sweep import Sweep
from ._threads import get_num_threads
from ._vector import fill, lanes, load, load_first, store, store_first
from ._winograd_weights import gather_weights

__all__ = ["sweep", "weight_gradient"]

TILES = 8 * ROWS  # of a task, at most
SLICE = 64  # inputs whose weights are transformed at a time
OUTPUTS = 24  # of a task of the weight gradient


def sweep(x: np.ndarray, filters: Filters, bias: np.ndarray | None, y: np.ndarray, s: Sweep) -> None:
    """Fill y (N, H', W', O) by a sweep with a 3x3 window and steps of 1 over x (N, H, W, C). bias: (O,) or None."""
    f = filters
    shapes, sizes, work = _sweep_sizes(y.shape[0], f.inputs, f.outputs, x.dtype, s, get_num_threads())
    inputs, products, slices, scratch = (empty(shape, x.dtype) for shape in shapes)
    start = np.zeros(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    _transform_inputs(x.reshape(-1), inputs, sizes, tuple(s), work=2 * inputs.size)
    source = f.values, f.taps, f.input_step, f.output_step
    _multiply_all(inputs, *source, slices, start, y.reshape(-1), products, scratch, sizes, tuple(s), work=work)


@lru_cache(maxsize=1024)
def _sweep_sizes(n, channels, outputs, dtype, s: Sweep, threads):
    """The shapes of the working memory, the integers for the kernels, and the work."""
    step, width = panel_width(1, dtype), panel_width(outputs, dtype)
    panels, row = -(-outputs // width), -(-channels // step) * step
    high, wide = -(-s.oh // 2), -(-s.ow // 2)
    tiles = n * high * wide
    blocks = -(-tiles // TILES)
    block = -(-tiles // blocks)
    workers = min(threads, blocks * panels)
    shapes = (
        (16 * (tiles * row + step),),  # inputs: a little more than they need, so that the 16 do not share cache sets
        (workers, 16 * (block * width + step)),  # products
        (workers, 16 * (SLICE + 1) * width),  # transformed weights
        (workers, 9 * 16 * width),  # weights
    )
    return shapes, (tiles, block, blocks, high, wide, row, panels, width, channels, outputs), tiles * 16 * channels * outputs // 8


# ---- the transforms, on vectors ----------------------------------------------------------------------------------------


@device_function(reassociate=False, inline=True)
def input_line(d0, d1, d2, d3):
    """B^T d."""
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


@device_function(reassociate=False, inline=True)
def weight_line(x, w0, w1, w2):
    """G w. The array x tells the type."""
    half = fill(x, 0.5)
    ends = w0 + w2
    return w0, (ends + w1) * half, (ends - w1) * half, w2


@device_function(reassociate=False, inline=True)
def output_line(m0, m1, m2, m3):
    """A^T m."""
    return m0 + (m1 + m2), (m1 - m2) - m3


@device_function(reassociate=False, inline=True)
def gradient_line(x, y0, y1):
    """A y."""
    return y0, y0 + y1, y0 - y1, fill(x, 0.0) - y1


@device_function(reassociate=False, inline=True)
def weight_gradient_line(x, u0, u1, u2, u3):
    """G^T u."""
    half = fill(x, 0.5)
    total = (u1 + u2) * half
    return u0 + total, (u1 - u2) * half, total + u3


# ---- forward -----------------------------------------------------------------------------------------------------------


@kernel(reassociate=False)
def _transform_inputs(x, inputs, sizes, s):
    """inputs[place, tile, channel] = B^T d B."""
    for tile in prange(sizes[0]):
        _, _, _, high, wide, row, _, _, channels, _ = sizes
        step = inputs.size // 16
        image, top, left = tile // (high * wide), 2 * (tile // wide % high) + s[12], 2 * (tile % wide) + s[13]
        for c in range(0, row, lanes(x)):
            count, to = min(lanes(x), channels - c), tile * row + c
            at = ((image * s[0] + top) * s[1] + left) * channels + c
            places = at, s[1] * channels, top, s[0]
            a0, a1, a2, a3 = _input_column(x, places, count, 0 <= left < s[1])
            b0, b1, b2, b3 = _input_column(x, _next(places, channels), count, 0 <= left + 1 < s[1])
            c0, c1, c2, c3 = _input_column(x, _next(places, 2 * channels), count, 0 <= left + 2 < s[1])
            d0, d1, d2, d3 = _input_column(x, _next(places, 3 * channels), count, 0 <= left + 3 < s[1])
            _store_four(inputs, to, step, input_line(a0, b0, c0, d0))
            _store_four(inputs, to + 4 * step, step, input_line(a1, b1, c1, d1))
            _store_four(inputs, to + 8 * step, step, input_line(a2, b2, c2, d2))
            _store_four(inputs, to + 12 * step, step, input_line(a3, b3, c3, d3))


@device_function(reassociate=False, inline=True)
def _next(places, step):
    return places[0] + step, places[1], places[2], places[3]


@device_function(reassociate=False, inline=True)
def _input_column(x, places, count, there):
    """B^T of a column of four pixels; pixels outside the image are zeros."""
    at, line, top, h = places
    d0 = _pixel(x, at, count, there and 0 <= top < h)
    d1 = _pixel(x, at + line, count, there and 0 <= top + 1 < h)
    d2 = _pixel(x, at + 2 * line, count, there and 0 <= top + 2 < h)
    d3 = _pixel(x, at + 3 * line, count, there and 0 <= top + 3 < h)
    return input_line(d0, d1, d2, d3)


@device_function(reassociate=False, inline=True)
def _pixel(x, at, count, there):
    return load_first(x, at if there else 0, count if there else 0)


@device_function(reassociate=False, inline=True)
def _store_four(x, at, step, numbers):
    n0, n1, n2, n3 = numbers
    store(x, at, n0)
    store(x, at + step, n1)
    store(x, at + 2 * step, n2)
    store(x, at + 3 * step, n3)


@kernel(reassociate=False)
def _multiply_all(inputs, values, taps, input_step, output_step, slices, bias, y, products, scratch, sizes, s):
    for worker in prange(products.shape[0]):
        workers, blocks, panels = products.shape[0], sizes[2], sizes[6]
        for task in range(worker * blocks * panels // workers, (worker + 1) * blocks * panels // workers):
            panel, index = task // blocks, task % blocks
            for start in range(0, sizes[8], SLICE):
                number = min(SLICE, sizes[8] - start)
                lines = slices[worker], scratch[worker]
                _transform_slice(values, taps, input_step, output_step, *lines, panel, start, number, sizes)
                _multiply_slice(inputs, slices[worker], products[worker], index, start, number, sizes)
            _finish_block(products[worker], bias, y, index, panel, sizes, s)


@device_function(reassociate=False)
def _transform_slice(values, taps, input_step, output_step, weights, lines, panel, start, number, sizes):
    """weights[place, c, o] = G w G^T for some inputs and a panel of outputs."""
    width, outputs = sizes[7], sizes[9]
    outs, step = min(width, outputs - panel * width), (SLICE + 1) * width
    for begin in range(0, number, 16):
        some, at = min(16, number - begin), (start + begin) * input_step + panel * width * output_step
        gather_weights(values, at, taps, lines, width, outs, output_step, some, input_step)
        for c in range(some):
            for o in range(0, width, lanes(lines)):
                first, to = 9 * c * width + o, (begin + c) * width + o
                a0, a1, a2, a3 = _weight_column(lines, first, 3 * width)
                b0, b1, b2, b3 = _weight_column(lines, first + width, 3 * width)
                c0, c1, c2, c3 = _weight_column(lines, first + 2 * width, 3 * width)
                _store_four(weights, to, step, weight_line(lines, a0, b0, c0))
                _store_four(weights, to + 4 * step, step, weight_line(lines, a1, b1, c1))
                _store_four(weights, to + 8 * step, step, weight_line(lines, a2, b2, c2))
                _store_four(weights, to + 12 * step, step, weight_line(lines, a3, b3, c3))


@device_function(reassociate=False, inline=True)
def _weight_column(lines, at, step):
    return weight_line(lines, load(lines, at), load(lines, at + step), load(lines, at + 2 * step))


@device_function(reassociate=False)
def _multiply_slice(inputs, weights, products, index, start, number, sizes):
    tiles, block, _, _, _, row, _, width, _, _ = sizes
    step, products_step, count = inputs.size // 16, products.size // 16, min(block, tiles - index * block)
    start_row = width if start else -1
    for place in range(16):
        at, seen = place * products_step, place * step + index * block * row + start
        into, used = (products, at, width, products, at, start_row), place * (SLICE + 1) * width
        multiply(*into, inputs, seen, row, 1, weights, used, width, count, number, width)


@device_function(reassociate=False)
def _finish_block(products, bias, y, index, panel, sizes, s):
    """A^T m A + bias, stored to at most 2x2 pixels of y."""
    tiles, block, _, high, wide, _, _, width, _, outputs = sizes
    step, valid = products.size // 16, min(width, outputs - panel * width)
    for t in range(min(block, tiles - index * block)):
        tile = index * block + t
        image, p, q = tile // (high * wide), 2 * (tile // wide % high), 2 * (tile % wide)
        for o in range(0, valid, lanes(y)):
            count, at, k = min(lanes(y), valid - o), panel * width + o, t * width + o
            added = load_first(bias, at, count) if bias.size else fill(y, 0.0)
            a0, a1 = _output_column(products, k, 4 * step)
            b0, b1 = _output_column(products, k + step, 4 * step)
            c0, c1 = _output_column(products, k + 2 * step, 4 * step)
            d0, d1 = _output_column(products, k + 3 * step, 4 * step)
            n0, n1 = output_line(a0, b0, c0, d0)
            m0, m1 = output_line(a1, b1, c1, d1)
            first = ((image * s[4] + p) * s[5] + q) * outputs + at
            below, beside = count if p + 1 < s[4] else 0, count if q + 1 < s[5] else 0
            store_first(y, first, n0 + added, count)
            store_first(y, first + outputs, n1 + added, beside)
            store_first(y, first + s[5] * outputs, m0 + added, below)
            store_first(y, first + (s[5] + 1) * outputs, m1 + added, min(below, beside))


@device_function(reassociate=False, inline=True)
def _output_column(products, at, step):
    return output_line(
        load(products, at), load(products, at + step), load(products, at + 2 * step), load(products, at + 3 * step)
    )


# ---- the gradient of the weights ---------------------------------------------------------------------------------------


def weight_gradient(gy: np.ndarray, x: np.ndarray, groups: int, s: Sweep) -> np.ndarray:
    """gw (O, C, 3, 3) = G^T [sum over tiles of (A g A^T) * (B^T d B)] G, from gy (N, oh, ow, O) and x (N, H, W, C).

    Sums run over all tiles in their order.
    """
    o, c = gy.shape[3], x.shape[3]
    shapes, sizes, parts, work = _gradient_sizes(gy.shape[0], o, c, x.dtype, s, get_num_threads())
    inputs, outputs, products, scratch = (empty(shape, x.dtype) for shape in shapes)
    gw = empty((o, c, 3, 3), x.dtype)
    _transform_inputs(x.reshape(-1), inputs, sizes, tuple(s), work=2 * inputs.size)
    _transform_gradients(gy.reshape(-1), outputs, sizes, parts, tuple(s), work=2 * outputs.size)
    _multiply_gradients(inputs, outputs, products, scratch, gw.reshape(-1), sizes, parts, work=work)
    return gw


@lru_cache(maxsize=1024)
def _gradient_sizes(n, o, c, dtype, s: Sweep, threads):
    """The shapes of the working memory, the integers for the kernels, and the work."""
    (inputs, *_), sizes, work = _sweep_sizes(n, c, o, dtype, s, threads)
    step, width, tiles = panel_width(1, dtype), panel_width(c, dtype), sizes[0]
    row, panels, parts = -(-o // step) * step, -(-c // width), -(-o // OUTPUTS)
    workers = min(threads, panels * parts)
    shapes = inputs, (16 * (tiles * row + step),), (workers, 16 * OUTPUTS * width), (workers, 9 * 2 * step + step)
    return shapes, sizes, (row, panels, parts, width), work


@kernel(reassociate=False)
def _transform_gradients(gy, outputs, sizes, parts, s):
    """outputs[place, tile, output] = A g A^T."""
    for tile in prange(sizes[0]):
        high, wide, channels, row = sizes[3], sizes[4], sizes[9], parts[0]
        step = outputs.size // 16
        image, p, q = tile // (high * wide), 2 * (tile // wide % high), 2 * (tile % wide)
        below, beside = p + 1 < s[4], q + 1 < s[5]
        for c in range(0, row, lanes(gy)):
            count, to = min(lanes(gy), channels - c), tile * row + c
            at, line = ((image * s[4] + p) * s[5] + q) * channels + c, s[5] * channels
            g0, h0 = load_first(gy, at, count), _pixel(gy, at + channels, count, beside)
            g1, h1 = _pixel(gy, at + line, count, below), _pixel(gy, at + line + channels, count, below and beside)
            a0, a1, a2, a3 = gradient_line(gy, g0, g1)
            b0, b1, b2, b3 = gradient_line(gy, h0, h1)
            _store_four(outputs, to, step, gradient_line(gy, a0, b0))
            _store_four(outputs, to + 4 * step, step, gradient_line(gy, a1, b1))
            _store_four(outputs, to + 8 * step, step, gradient_line(gy, a2, b2))
            _store_four(outputs, to + 12 * step, step, gradient_line(gy, a3, b3))


@kernel(reassociate=False)
def _multiply_gradients(inputs, outputs, products, scratch, gw, sizes, parts):
    for worker in prange(products.shape[0]):
        workers, tasks = products.shape[0], parts[1] * parts[2]
        for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
            tiles, row, channels, number = sizes[0], sizes[5], sizes[8], sizes[9]
            out_row, panels, _, width = parts
            first, column = task // panels * OUTPUTS, task % panels * width
            count, valid = min(OUTPUTS, number - first), min(width, channels - column)
            for place in range(16):
                given, seen = place * (outputs.size // 16) + first, place * (inputs.size // 16) + column
                into = products[worker], place * OUTPUTS * width, width, products[worker], 0, -1
                multiply(*into, outputs, given, 1, out_row, inputs, seen, row, count, tiles, width)
            for o in range(count):
                at = ((first + o) * channels + column) * 9
                _finish_weights(products[worker], o * width, OUTPUTS * width, scratch[worker], gw, at, valid)


@device_function(reassociate=False)
def _finish_weights(products, at, step, scratch, gw, to, count):
    """The 3x3 weights of an output and some inputs, G^T u G, each window by itself."""
    size = lanes(gw)
    for c in range(0, count, size):
        k, number = at + c, min(size, count - c)
        a0, a1, a2 = _gradient_column(products, k, 4 * step)
        b0, b1, b2 = _gradient_column(products, k + step, 4 * step)
        c0, c1, c2 = _gradient_column(products, k + 2 * step, 4 * step)
        d0, d1, d2 = _gradient_column(products, k + 3 * step, 4 * step)
        _store_three(scratch, 0, size, weight_gradient_line(gw, a0, b0, c0, d0))
        _store_three(scratch, 3 * size, size, weight_gradient_line(gw, a1, b1, c1, d1))
        _store_three(scratch, 6 * size, size, weight_gradient_line(gw, a2, b2, c2, d2))
        for channel in range(number):
            for tap in range(9):
                gw[to + 9 * (c + channel) + tap] = scratch[tap * size + channel]


@device_function(reassociate=False, inline=True)
def _gradient_column(products, at, step):
    m0, m1 = load(products, at), load(products, at + step)
    m2, m3 = load(products, at + 2 * step), load(products, at + 3 * step)
    return weight_gradient_line(products, m0, m1, m2, m3)


@device_function(reassociate=False, inline=True)
def _store_three(x, at, step, numbers):
    n0, n1, n2 = numbers
    store(x, at, n0)
    store(x, at + step, n1)
    store(x, at + 2 * step, n2)
