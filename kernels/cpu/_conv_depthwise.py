"""Depthwise convolution: a window of its own for every channel. There is nothing to multiply but vectors of channels.

The loops follow the memory: pixels outside, channels inside. Four pixels at a time share the weights, and the columns of the
image that their windows have in common; sums stay in registers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..geometry import ConvGeometry
from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._product import Filters
from ._sweep import Sweep
from ._vector import clear, fma, lanes, load, load_first, load_if, load_three, store, store_first

__all__ = ["input_gradient", "sweep", "weight_gradient"]

RANGES = 32  # of lines whose weight gradients are summed apart, at most
PIXELS = 8  # for which the sums of a weight gradient are in registers, where windows are not three wide


def sweep(x: np.ndarray, filters: Filters, bias: np.ndarray | None, y: np.ndarray, s: Sweep) -> None:
    """Fill the pixels of y (N, H', W', C) that belong to a sweep over x (N, H, W, C). bias: (C,) or None."""
    channels = y.shape[3]
    weight = np.ascontiguousarray(filters.array().reshape(channels, -1).T).reshape(-1)  # (taps, C)
    work = y.shape[0] * s.oh * s.ow * weight.size // 4
    _sweep(
        x.reshape(-1), weight, _start(bias, channels, x.dtype), y.reshape(-1), y.shape[0] * s.oh, channels, tuple(s), work=work
    )


def input_gradient(gy: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, gx: np.ndarray, g: ConvGeometry) -> None:
    """Fill gx (N, H, W, C) from gy (N, oh, ow, C) in one go, where several sweeps would each touch a part of the pixels."""
    weight = np.ascontiguousarray(weight.reshape(g.c, -1).T).reshape(-1)
    rows = _seen_by(g.h, g.oh, g.kh, g.sh, g.dh, g.top)
    columns = _seen_by(g.w, g.ow, g.kw, g.sw, g.dw, g.left)
    sizes = g.n * g.h, g.oh, g.ow, g.kw, g.c
    work = gy.size * g.kh * g.kw // 2
    _gather(gy.reshape(-1), weight, _start(bias, g.c, gy.dtype), gx.reshape(-1), rows, columns, sizes, work=work)


@lru_cache(maxsize=256)
def _seen_by(size: int, out: int, taps: int, stride: int, dilation: int, before: int) -> np.ndarray:
    """For each of ``size`` lines (rows or columns) of an image: how many windows see it, and (tap, window) for each of them."""
    pairs = [
        [(tap, place // stride) for tap in range(taps) if (place := at + before - tap * dilation) % stride == 0]
        for at in range(size)
    ]
    pairs = [[(tap, window) for tap, window in some if 0 <= window < out] for some in pairs]
    table = np.zeros((size, 1 + 2 * max(map(len, pairs))), np.int64)
    for line, some in zip(table, pairs, strict=True):
        line[0] = len(some)
        line[1 : 1 + 2 * len(some)] = np.array(some, np.int64).reshape(-1)
    return table


def weight_gradient(gy: np.ndarray, x: np.ndarray, s: Sweep) -> np.ndarray:
    """gw (C, 1, th, tw) from gy (N, oh, ow, C) and the x (N, H, W, C) that the sweep was over.

    The lines of gy are cut into ranges, whose number depends on the sizes only. A task sums one of them; then the ranges are
    added in their order.
    """
    n, channels, taps = gy.shape[0], gy.shape[3], s.th * s.tw
    ranges = min(RANGES, n * s.oh)
    sums, gw = empty((ranges, taps * channels), x.dtype), empty((channels, taps), x.dtype)
    work = n * s.oh * s.ow * taps * channels // 4
    _weight_gradient(x.reshape(-1), gy.reshape(-1), sums, n * s.oh, channels, tuple(s), work=work)
    _add_ranges(sums, gw, work=2 * sums.size)
    return gw.reshape(channels, 1, s.th, s.tw)


def _start(bias: np.ndarray | None, channels: int, dtype) -> np.ndarray:
    return np.zeros(channels, dtype) if bias is None else np.ascontiguousarray(bias)


# ---- over the image --------------------------------------------------------------------------------------------------


@kernel(reassociate=False)
def _sweep(x, weight, start, y, lines, channels, s):
    for line in prange(lines):
        h, w, height, width, oh, ow, ay, ax, py, px, sy, sx, y0, x0, dy, dx, th, tw = s
        image, p = line // oh, line % oh
        at = ((image * height + ay + p * py) * width + ax) * channels
        begin, end = _inside(x0, sx, dx, tw, w, ow)
        places, window, steps = (image * h, p * sy + y0, h, w, channels), (th, tw, dy, dx), (sx, px * channels)
        whole, q = channels - channels % lanes(x), 0
        while q < ow:
            left, into = q * sx + x0, at + q * px * channels
            three = tw == 3 and dx == 1 and sx <= 2 and left >= -1 and left + 3 * sx + 2 <= w
            number = 4 if q + 4 <= ow and (three or (begin <= q and q + 4 <= end)) else 1
            for c in range(0, whole, lanes(x)):
                if number == 1:
                    _one_pixel(x, weight, start, y, into + c, left, places, window, c, lanes(x))
                elif three:
                    _four_of_three(x, weight, start, y, into + c, left, places, window, c, steps)
                else:
                    _four_pixels(x, weight, start, y, into + c, left, places, window, c, steps)
            if whole < channels:
                for k in range(number):
                    _one_pixel(
                        *(x, weight, start, y, into + k * steps[1] + whole, left + k * sx),
                        *(places, window, whole, channels - whole),
                    )
            q += number


@device_function(reassociate=False, inline=True)
def _inside(left, step, dilation, taps, w, ow):
    """The pixels of a line whose windows lie between the left and the right border."""
    begin = min(ow, max(0, -(left // step)))
    return begin, max(begin, min(ow, (w - 1 - (taps - 1) * dilation - left) // step + 1))


@device_function(reassociate=False, inline=True)
def _four_of_three(x, weight, start, y, at, left, places, window, c, steps):
    """Four pixels of a 3x3 window with stride 1 or 2. The first may begin, and the last end, one pixel outside the image."""
    first, top, h, w, channels = places
    stride, pixel = steps
    t0 = load(start, c)
    t1, t2, t3 = t0, t0, t0
    for i in range(window[0]):
        row = top + i * window[2]
        if 0 <= row < h:
            k = ((first + row) * w + left) * channels + c
            w0, w1, w2 = load_three(weight, 3 * i * channels + c, channels)
            d0 = load_if(x, k, left >= 0)
            d1, d2, d3 = load_three(x, k + channels, channels)
            t0 = fma(w2, d2, fma(w1, d1, fma(w0, d0, t0)))
            if stride == 1:
                d4, d5 = load_if(x, k + 4 * channels, True), load_if(x, k + 5 * channels, left + 5 < w)
                t1 = fma(w2, d3, fma(w1, d2, fma(w0, d1, t1)))
                t2 = fma(w2, d4, fma(w1, d3, fma(w0, d2, t2)))
                t3 = fma(w2, d5, fma(w1, d4, fma(w0, d3, t3)))
            else:
                d4, d5, d6 = load_three(x, k + 4 * channels, channels)
                d7, d8 = load_if(x, k + 7 * channels, True), load_if(x, k + 8 * channels, left + 8 < w)
                t1 = fma(w2, d4, fma(w1, d3, fma(w0, d2, t1)))
                t2 = fma(w2, d6, fma(w1, d5, fma(w0, d4, t2)))
                t3 = fma(w2, d8, fma(w1, d7, fma(w0, d6, t3)))
    store(y, at, t0)
    store(y, at + pixel, t1)
    store(y, at + 2 * pixel, t2)
    store(y, at + 3 * pixel, t3)


@device_function(reassociate=False, inline=True)
def _four_pixels(x, weight, start, y, at, left, places, window, c, steps):
    """A whole vector of channels of four pixels that see no border on the left and on the right."""
    first, top, h, w, channels = places
    th, tw, dy, dx = window
    step = steps[0] * channels
    t0 = load(start, c)
    t1, t2, t3 = t0, t0, t0
    for i in range(th):
        row = top + i * dy
        if 0 <= row < h:
            k, tap = ((first + row) * w + left) * channels + c, i * tw * channels + c
            for _ in range(tw):
                factor = load(weight, tap)
                t0 = fma(factor, load(x, k), t0)
                t1 = fma(factor, load(x, k + step), t1)
                t2 = fma(factor, load(x, k + 2 * step), t2)
                t3 = fma(factor, load(x, k + 3 * step), t3)
                k, tap = k + dx * channels, tap + channels
    store(y, at, t0)
    store(y, at + steps[1], t1)
    store(y, at + 2 * steps[1], t2)
    store(y, at + 3 * steps[1], t3)


@device_function(reassociate=False, inline=True)
def _one_pixel(x, weight, start, y, at, left, places, window, c, count):
    """Any pixel, and any number of channels."""
    first, top, h, w, channels = places
    th, tw, dy, dx = window
    begin, end = max(0, -left), min(tw, w - left)  # the taps between the borders
    if dx > 1:
        begin, end = max(0, -(left // dx)), min(tw, (w - 1 - left) // dx + 1)
    total = load_first(start, c, count)
    for i in range(th):
        row = top + i * dy
        if 0 <= row < h:
            k, tap = ((first + row) * w + left + begin * dx) * channels + c, (i * tw + begin) * channels + c
            for _ in range(begin, end):
                total = fma(load_first(weight, tap, count), load_first(x, k, count), total)
                k, tap = k + dx * channels, tap + channels
    store_first(y, at, total, count)


# ---- the gradient of the input, where the stride is not 1 ------------------------------------------------------------


@kernel(reassociate=False)
def _gather(gy, weight, start, gx, rows, columns, sizes):
    """Every pixel gathers from the windows that see it."""
    for line in prange(sizes[0]):
        _, oh, ow, kw, channels = sizes
        h, w = rows.shape[0], columns.shape[0]
        image, row = line // h, line % h
        for column in range(w):
            at, fresh, count = (line * w + column) * channels, True, 0
            t0, t1, t2, t3 = 0, 0, 0, 0
            k0, k1, k2, k3 = 0, 0, 0, 0
            for i in range(1, 1 + 2 * rows[row, 0], 2):
                tap, first = rows[row, i] * kw, (image * oh + rows[row, i + 1]) * ow
                for j in range(1, 1 + 2 * columns[column, 0], 2):
                    if count == 4:
                        _add_taps(gy, (k0, k1, k2, k3), weight, (t0, t1, t2, t3), count, start, gx, at, channels, fresh)
                        fresh, count = False, 0
                    t3, t2, t1, t0 = t2, t1, t0, (tap + columns[column, j]) * channels
                    k3, k2, k1, k0 = k2, k1, k0, (first + columns[column, j + 1]) * channels
                    count += 1
            if fresh or count:
                _add_taps(gy, (k0, k1, k2, k3), weight, (t0, t1, t2, t3), count, start, gx, at, channels, fresh)


@device_function(reassociate=False)
def _add_taps(gy, seen, weight, taps, count, start, gx, at, channels, fresh):
    """gx[c] = the sum of up to four products of weights and gradients + gx[c], or start[c] at first."""
    k0, k1, k2, k3 = seen
    t0, t1, t2, t3 = taps
    for c in range(0, channels, lanes(gy)):
        number = min(lanes(gy), channels - c)
        total = load_first(start, c, number) if fresh else load_first(gx, at + c, number)
        if count > 3:
            total = fma(load_first(weight, t3 + c, number), load_first(gy, k3 + c, number), total)
        if count > 2:
            total = fma(load_first(weight, t2 + c, number), load_first(gy, k2 + c, number), total)
        if count > 1:
            total = fma(load_first(weight, t1 + c, number), load_first(gy, k1 + c, number), total)
        if count > 0:
            total = fma(load_first(weight, t0 + c, number), load_first(gy, k0 + c, number), total)
        store_first(gx, at + c, total, number)


# ---- the gradient of the weights -------------------------------------------------------------------------------------


@kernel(reassociate=False)
def _weight_gradient(x, gy, sums, lines, channels, s):
    for index in prange(sums.shape[0]):
        ranges = sums.shape[0]
        clear(sums[index], 0, sums.shape[1])
        for line in range(lines * index // ranges, lines * (index + 1) // ranges):
            _line_gradient(x, gy, sums[index], line, channels, s)


@device_function(reassociate=False)
def _line_gradient(x, gy, sums, line, channels, s):
    """sums[tap, c] += the sum over the pixels of a line of gy * x."""
    h, w, _, _, oh, ow, _, _, _, _, sy, sx, y0, x0, dy, dx, th, tw = s
    image, p = line // oh, line % oh
    three, q = tw == 3 and dx == 1 and sx <= 2, 0
    while q < ow:
        left, given = q * sx + x0, (line * ow + q) * channels
        four = three and q + 4 <= ow and left >= -1 and left + 3 * sx + 2 <= w
        number = 4 if four else min(PIXELS, ow - q)
        for i in range(th):
            row, tap = p * sy + y0 + i * dy, i * tw * channels
            if 0 <= row < h:
                seen = ((image * h + row) * w + left) * channels
                if four:
                    _add_four_of_three(gy, given, x, seen, sums, tap, channels, sx, left, w)
                else:
                    for j in range(tw):
                        begin, end = _inside(left + j * dx, sx, 1, 1, w, number)  # pixels that see the image through this tap
                        g, k = given + begin * channels, seen + (begin * sx + j * dx) * channels
                        _add_pixels(gy, g, x, k, sums, tap + j * channels, channels, sx * channels, end - begin)
        q += number


@device_function(reassociate=False, inline=True)
def _add_four_of_three(gy, given, x, seen, sums, tap, channels, stride, left, w):
    """The products of four pixels with a row of three taps. The first may begin, and the last end, one pixel outside."""
    for c in range(0, channels, lanes(x)):
        count = min(lanes(x), channels - c)
        g, k, t = given + c, seen + c, tap + c
        if count < lanes(x):
            for j in range(3):
                total = load_first(sums, t + j * channels, count)
                for q in range(4):
                    if 0 <= left + q * stride + j < w:
                        at = k + (q * stride + j) * channels
                        total = fma(load_first(gy, g + q * channels, count), load_first(x, at, count), total)
                store_first(sums, t + j * channels, total, count)
            continue
        g0, (g1, g2, g3) = load(gy, g), load_three(gy, g + channels, channels)
        d0, (d1, d2, d3) = load_if(x, k, left >= 0), load_three(x, k + channels, channels)
        t0, t1, t2 = load_three(sums, t, channels)
        if stride == 1:
            d4, d5 = load_if(x, k + 4 * channels, True), load_if(x, k + 5 * channels, left + 5 < w)
            t0 = fma(g3, d3, fma(g2, d2, fma(g1, d1, fma(g0, d0, t0))))
            t1 = fma(g3, d4, fma(g2, d3, fma(g1, d2, fma(g0, d1, t1))))
            t2 = fma(g3, d5, fma(g2, d4, fma(g1, d3, fma(g0, d2, t2))))
        else:
            d4, d5, d6 = load_three(x, k + 4 * channels, channels)
            d7, d8 = load_if(x, k + 7 * channels, True), load_if(x, k + 8 * channels, left + 8 < w)
            t0 = fma(g3, d6, fma(g2, d4, fma(g1, d2, fma(g0, d0, t0))))
            t1 = fma(g3, d7, fma(g2, d5, fma(g1, d3, fma(g0, d1, t1))))
            t2 = fma(g3, d8, fma(g2, d6, fma(g1, d4, fma(g0, d2, t2))))
        store(sums, t, t0)
        store(sums, t + channels, t1)
        store(sums, t + 2 * channels, t2)


@device_function(reassociate=False)
def _add_pixels(gy, given, x, seen, sums, tap, channels, step, number):
    """The products of some pixels with one tap."""
    for c in range(0, channels, lanes(x)):
        count = min(lanes(x), channels - c)
        total = load_first(sums, tap + c, count)
        for q in range(number):
            total = fma(load_first(gy, given + q * channels + c, count), load_first(x, seen + q * step + c, count), total)
        store_first(sums, tap + c, total, count)


@kernel(reassociate=False)
def _add_ranges(sums, gw):
    """gw[c, tap] = the sum over the ranges, which is made in the first one."""
    for tap in prange(gw.shape[1]):
        channels = gw.shape[0]
        total = sums[0]
        for k in range(tap * channels, (tap + 1) * channels, lanes(sums)):
            count = min(lanes(sums), (tap + 1) * channels - k)
            value = load_first(total, k, count)
            for index in range(1, sums.shape[0]):
                value = value + load_first(sums[index], k, count)
            store_first(total, k, value, count)
        for c in range(channels):
            gw[c, tap] = total[tap * channels + c]
