"""The weight gradient of Winograd's convolution: for each of the 36 places the product of gradients (O, T) and inputs (T, C).

With y = A^T [(G w G^T) * (B^T d B)] A the gradient of w is G^T [ sum over tiles of (A g A^T) * (B^T d B) ] G.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._product import multiply, panel_width
from ._sweep import PARTIALS, Sweep
from ._threads import get_num_threads
from ._vector import fill, fma, lanes, load, store
from ._winograd_tiles import RUN, gradient_row, gradient_tile, input_row, input_tile, run_of_pixels
from ._winograd_transforms import rows, weight_gradient_line

__all__ = ["weight_gradient"]

CACHE = 96 * 1024  # numbers in the transformed inputs and gradients of a block of tiles, at most
CHANNELS = 128  # channels on either side of a task of the weight gradient, at most
FEW = 48 * 48  # products of channels up to which all 36 sums of a task stay in the cache


def weight_gradient(gy: np.ndarray, x: np.ndarray, groups: int, s: Sweep) -> np.ndarray:
    """gw (O, C, 3, 3) from gy (N, oh, ow, O) and the x (N, H, W, C) that the sweep was over.

    A task sums over a range of tiles for at most 128 outputs and inputs; then the ranges are added in their order. Their numbers
    depend on the sizes only.
    """
    o, c = gy.shape[3], x.shape[3]
    shapes, sizes, numbers, work = _sizes(gy.shape[0], o, c, x.dtype, s, get_num_threads())
    *scratch, sums = (empty(shape, x.dtype) for shape in shapes)
    _weight_gradient(x.reshape(-1), gy.reshape(-1), rows(x.dtype), *scratch, sums, sizes, numbers, work=work)
    gw = empty((o, c, 9), x.dtype)
    _add_ranges(sums, gw, sizes, work=4 * sums.size)
    return gw.reshape(o, c, 3, 3)


@lru_cache(maxsize=1024)
def _sizes(n, o, c, dtype, s: Sweep, threads):
    """The shapes of the working memory, two tuples of integers for the kernels, and the work."""
    step, high, wide = panel_width(1, dtype), -(-s.oh // 4), -(-s.ow // 4)
    tiles = n * high * wide
    o_parts, c_parts = -(-o // CHANNELS), -(-c // CHANNELS)
    o_part, c_part = (-(-size // (parts * step)) * step for size, parts in ((o, o_parts), (c, c_parts)))
    o_parts, c_parts = -(-o // o_part), -(-c // c_part)
    ranges = max(1, min(16 // (o_parts * c_parts), tiles // 32, PARTIALS // (o_part * c_part * o_parts * c_parts * 9)))
    places = 36 if o_part * c_part <= FEW else 6
    block = max(32, min(192, CACHE // (places * (o_part + c_part)) // 4 * 4, -(-tiles // (ranges * 4)) * 4))
    tasks = ranges * o_parts * c_parts
    workers = min(tasks, threads)
    shapes = (
        (workers, places * (block * c_part + step)),  # transformed inputs
        (workers, places * (block * o_part + step)),  # transformed gradients
        (workers, places * o_part * c_part),  # their products
        (workers, 6 * (4 * min(RUN, wide) + 2) * max(o_part, c_part) + 36 * step),  # pixels at the edges
        (tasks, 9 * o_part * c_part),  # sums
    )
    sizes = tiles, block, ranges, high, wide, o, c, o_parts, c_parts, o_part, c_part, places
    return shapes, sizes, tuple(s), tiles * 36 * o * c // 8


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
        seen, first, pixel, line = run_of_pixels(x, corner, size, 4 * run + size - 4, channel, number, scratch, whole)
        for k in range(run):
            start, at = first + 4 * k * pixel, (t + k) * row
            if size == 6 and at_once == 36:
                input_tile(seen, start, pixel, line, whole, numbers, at, step, scratch)
            elif size == 6:
                input_row(seen, start, pixel, line, whole, rows, i, numbers, at, step)
            elif at_once == 36:
                gradient_tile(seen, start, pixel, line, whole, numbers, at, step, scratch)
            else:
                gradient_row(seen, start, pixel, line, whole, rows, i, numbers, at, step)
        t += run


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
