"""Tiles of Winograd's convolution: where the pixels of a tile are found, and the numbers that they become.

A tile has 6x6 inputs, of which neighbours share two lines or columns, or 4x4 gradients of outputs. All 36 numbers of a tile are
made at once, or one row of six.
"""

from __future__ import annotations

from ._compiler import device_function
from ._vector import clear, copy, fill, fma, lanes, load, store
from ._winograd_transforms import gradient_line, input_line

__all__ = ["RUN", "gradient_row", "gradient_tile", "input_row", "input_tile", "run_of_pixels", "store_six"]

RUN = 8  # tiles of a line whose pixels are looked up together, at most


@device_function(reassociate=False, inline=True)
def run_of_pixels(x, corner, lines, columns, channel, count, scratch, row):
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
def input_tile(x, first, pixel, line, channels, inputs, at, step, scratch):
    """inputs[at + (6 i + j) step + c] = number (i, j) of B^T d B for the 6x6 pixels d from x[first] on."""
    size = lanes(x)
    free = scratch.size - 36 * size
    for c in range(0, channels, size):
        for j in range(6):
            p = first + j * pixel + c
            d0, d1, d2 = load(x, p), load(x, p + line), load(x, p + 2 * line)
            d3, d4, d5 = load(x, p + 3 * line), load(x, p + 4 * line), load(x, p + 5 * line)
            store_six(scratch, free + j * size, 6 * size, input_line(x, d0, d1, d2, d3, d4, d5))
        for i in range(6):
            k = free + 6 * i * size
            e0, e1, e2 = load(scratch, k), load(scratch, k + size), load(scratch, k + 2 * size)
            e3, e4, e5 = load(scratch, k + 3 * size), load(scratch, k + 4 * size), load(scratch, k + 5 * size)
            store_six(inputs, at + 6 * i * step + c, step, input_line(x, e0, e1, e2, e3, e4, e5))


@device_function(reassociate=False)
def gradient_tile(gy, first, pixel, line, channels, outputs, at, step, scratch):
    """outputs[at + (6 i + j) step + o] = number (i, j) of A g A^T. The end of scratch is free."""
    size = lanes(gy)
    free = scratch.size - 36 * size
    for o in range(0, channels, size):
        for j in range(4):
            p = first + j * pixel + o
            g0, g1, g2, g3 = load(gy, p), load(gy, p + line), load(gy, p + 2 * line), load(gy, p + 3 * line)
            store_six(scratch, free + j * size, 4 * size, gradient_line(gy, g0, g1, g2, g3))
        for i in range(6):
            k = free + 4 * i * size
            g0, g1, g2, g3 = load(scratch, k), load(scratch, k + size), load(scratch, k + 2 * size), load(scratch, k + 3 * size)
            store_six(outputs, at + 6 * i * step + o, step, gradient_line(gy, g0, g1, g2, g3))


@device_function(reassociate=False, inline=True)
def input_row(x, first, pixel, line, channels, rows, i, inputs, at, step):
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
        store_six(inputs, at + c, step, input_line(x, e0, e1, e2, e3, e4, e5))


@device_function(reassociate=False, inline=True)
def _six(x, p, line, r0, r1, r2, r3, r4, r5):
    """One column of a tile, weighted."""
    upper = fma(r2, load(x, p + 2 * line), fma(r1, load(x, p + line), r0 * load(x, p)))
    return fma(r5, load(x, p + 5 * line), fma(r4, load(x, p + 4 * line), fma(r3, load(x, p + 3 * line), upper)))


@device_function(reassociate=False, inline=True)
def gradient_row(gy, first, pixel, line, channels, rows, i, outputs, at, step):
    r0, r1, r2, r3 = fill(gy, rows[i, 6]), fill(gy, rows[i, 7]), fill(gy, rows[i, 8]), fill(gy, rows[i, 9])
    for c in range(0, channels, lanes(gy)):
        p = first + c
        z0 = _four(gy, p, line, r0, r1, r2, r3)
        z1 = _four(gy, p + pixel, line, r0, r1, r2, r3)
        z2 = _four(gy, p + 2 * pixel, line, r0, r1, r2, r3)
        z3 = _four(gy, p + 3 * pixel, line, r0, r1, r2, r3)
        store_six(outputs, at + c, step, gradient_line(gy, z0, z1, z2, z3))


@device_function(reassociate=False, inline=True)
def _four(x, p, line, r0, r1, r2, r3):
    upper = fma(r1, load(x, p + line), r0 * load(x, p))
    return fma(r3, load(x, p + 3 * line), fma(r2, load(x, p + 2 * line), upper))


@device_function(reassociate=False, inline=True)
def store_six(x, at, step, numbers):
    n0, n1, n2, n3, n4, n5 = numbers
    store(x, at, n0)
    store(x, at + step, n1)
    store(x, at + 2 * step, n2)
    store(x, at + 3 * step, n3)
    store(x, at + 4 * step, n4)
    store(x, at + 5 * step, n5)
