"""Convolution by plain loops over the window.

With one input and one output a group (depthwise convolution) the channels are vectors, and the sums of four pixels stay in
registers while the taps of the window pass by.
"""

from __future__ import annotations

import numpy as np

from ._buffers import zeros
from ._compiler import device_function, kernel, prange
from ._product import Filters
from ._sweep import PARTIALS, Sweep
from ._vector import fill, fma, lanes, load, load_first, store, store_first

__all__ = ["sweep", "weight_gradient"]


def sweep(x: np.ndarray, filters: Filters, bias: np.ndarray | None, y: np.ndarray, s: Sweep) -> None:
    """Fill the pixels of y (N, H', W', O) that belong to a sweep over x (N, H, W, C). bias: (O,) or None."""
    n, o = y.shape[0], y.shape[3]
    weight = filters.array()
    groups, o_group, c_group = weight.shape[:3]
    taps = np.ascontiguousarray(weight.transpose(3, 0, 2, 1)).reshape(-1)  # (taps, G, C/G, O/G)
    start = np.zeros(o, x.dtype) if bias is None else np.ascontiguousarray(bias)
    work = n * s.oh * s.ow * weight.size
    if c_group == o_group == 1:
        _depthwise(x.reshape(-1), taps, start, y.reshape(-1), n * s.oh, groups, tuple(s), work=work // 4)
        return
    _sweep(x.reshape(-1), taps, start, y.reshape(-1), n * s.oh, groups, c_group, o_group, tuple(s), work=work)


def weight_gradient(gy: np.ndarray, x: np.ndarray, groups: int, s: Sweep) -> np.ndarray:
    """gw (O, C/G, th, tw) from gy (N, oh, ow, O) and the x (N, H, W, C) that the sweep was over.

    The lines of gy are cut into ranges, whose number depends on the sizes only. A task sums one of them; then the ranges are
    added in their order.
    """
    n, o, c = gy.shape[0], gy.shape[3], x.shape[3]
    size = s.th * s.tw * c * (o // groups)
    ranges = max(1, min(32, n * s.oh, PARTIALS // size))
    sums = zeros((ranges, size), x.dtype)
    work = n * s.oh * s.ow * size
    if c == o == groups:
        _depthwise_gradient(x.reshape(-1), gy.reshape(-1), sums, n * s.oh, groups, tuple(s), work=work // 4)
    else:
        sizes = n * s.oh, groups, c // groups, o // groups
        _weight_gradient(x.reshape(-1), gy.reshape(-1), sums, *sizes, tuple(s), work=work)
    total = sums.sum(axis=0).reshape(s.th, s.tw, groups, c // groups, o // groups).transpose(2, 4, 3, 0, 1)
    return np.ascontiguousarray(total).reshape(o, c // groups, s.th, s.tw)


# ---- one channel a group ---------------------------------------------------------------------------------------------


@kernel(reassociate=False)
def _depthwise(x, weight, start, y, lines, channels, s):
    for line in prange(lines):
        h, w, height, width, oh, ow, ay, ax, py, px, sy, sx, y0, x0, dy, dx, th, tw = s
        image, p = line // oh, line % oh
        top, first = p * sy + y0, image * h
        at = ((image * height + ay + p * py) * width + ax) * channels
        begin, end = _inside(x0, sx, dx, tw, w, ow)
        for c in range(0, channels, lanes(x)):
            count = min(lanes(x), channels - c)
            places, window = (first, top, h, w, channels, c, count), (th, tw, dy, dx)
            q = 0
            if tw == 3 and dx == 1 and sx <= 2 and x0 >= -1 and count == lanes(x):
                while q + 4 <= ow and q * sx + x0 + 3 * sx + 2 <= w:
                    _four_of_three(
                        x, weight, start, y, at + q * px * channels + c, q * sx + x0, places, window, (sx, px * channels)
                    )
                    q += 4
            whole = begin if count == lanes(x) else ow
            for pixel in range(q, whole):
                _one_pixel(x, weight, start, y, at + pixel * px * channels + c, pixel * sx + x0, places, window)
            q = max(q, whole)
            while q + 4 <= end:
                steps = sx * channels, px * channels
                _four_pixels(x, weight, start, y, at + q * px * channels + c, q * sx + x0, places, window, steps)
                q += 4
            for pixel in range(q, ow):
                _one_pixel(x, weight, start, y, at + pixel * px * channels + c, pixel * sx + x0, places, window)


@device_function(reassociate=False, inline=True)
def _four_of_three(x, weight, start, y, at, left, places, window, steps):
    """Four pixels of a 3x3 window with stride 1 or 2. The first may begin, and the last end, one pixel outside the image."""
    first, top, h, w, channels, c, _ = places
    stride, pixel = steps
    t0 = load(start, c)
    t1, t2, t3 = t0, t0, t0
    for i in range(window[0]):
        row = top + i * window[2]
        if 0 <= row < h:
            k, tap = ((first + row) * w + left) * channels + c, 3 * i * channels + c
            w0, w1, w2 = load(weight, tap), load(weight, tap + channels), load(weight, tap + 2 * channels)
            d0 = load(x, k) if left >= 0 else fill(x, 0.0)
            d1, d2, d3 = load(x, k + channels), load(x, k + 2 * channels), load(x, k + 3 * channels)
            d4 = load(x, k + 4 * channels)
            t0 = fma(w2, d2, fma(w1, d1, fma(w0, d0, t0)))
            if stride == 1:
                d5 = load(x, k + 5 * channels) if left + 5 < w else fill(x, 0.0)
                t1 = fma(w2, d3, fma(w1, d2, fma(w0, d1, t1)))
                t2 = fma(w2, d4, fma(w1, d3, fma(w0, d2, t2)))
                t3 = fma(w2, d5, fma(w1, d4, fma(w0, d3, t3)))
            else:
                d5, d6, d7 = load(x, k + 5 * channels), load(x, k + 6 * channels), load(x, k + 7 * channels)
                d8 = load(x, k + 8 * channels) if left + 8 < w else fill(x, 0.0)
                t1 = fma(w2, d4, fma(w1, d3, fma(w0, d2, t1)))
                t2 = fma(w2, d6, fma(w1, d5, fma(w0, d4, t2)))
                t3 = fma(w2, d8, fma(w1, d7, fma(w0, d6, t3)))
    store(y, at, t0)
    store(y, at + pixel, t1)
    store(y, at + 2 * pixel, t2)
    store(y, at + 3 * pixel, t3)


@device_function(reassociate=False, inline=True)
def _inside(left, step, dilation, taps, w, ow):
    """The pixels of a line whose windows lie between the left and the right border."""
    begin = min(ow, max(0, -(left // step)))
    return begin, max(begin, min(ow, (w - 1 - (taps - 1) * dilation - left) // step + 1))


@device_function(reassociate=False, inline=True)
def _four_pixels(x, weight, start, y, at, left, places, window, steps):
    """A whole vector of channels of four pixels that see no border on the left and on the right."""
    first, top, h, w, channels, c, _ = places
    th, tw, dy, dx = window
    step = steps[0]
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
def _one_pixel(x, weight, start, y, at, left, places, window):
    """Any pixel, and any number of channels."""
    first, top, h, w, channels, c, count = places
    th, tw, dy, dx = window
    begin, end = max(0, -left), min(tw, w - left)  # the taps between the borders
    if dx > 1:
        begin, end = max(0, -(left // dx)), min(tw, (w - 1 - left) // dx + 1)
    total = load_first(start, c, count)
    for i in range(th):
        row = top + i * dy
        if 0 <= row < h:
            k, tap = ((first + row) * w + left + begin * dx) * channels + c, (i * tw + begin) * channels + c
            if end - begin == 2 and count == lanes(x):  # what is most frequent at the borders of small windows
                total = fma(load(weight, tap), load(x, k), total)
                total = fma(load(weight, tap + channels), load(x, k + dx * channels), total)
                continue
            for _ in range(begin, end):
                total = fma(load_first(weight, tap, count), load_first(x, k, count), total)
                k, tap = k + dx * channels, tap + channels
    store_first(y, at, total, count)


@kernel(reassociate=False)
def _depthwise_gradient(x, gy, sums, lines, channels, s):
    ranges = sums.shape[0]
    for index in prange(ranges):
        for line in range(lines * index // ranges, lines * (index + 1) // ranges):
            for c in range(0, channels, lanes(x)):
                _line_gradient(x, gy, sums[index], line, c, min(lanes(x), channels - c), channels, s)


@device_function(reassociate=False, inline=True)
def _line_gradient(x, gy, sums, line, c, count, channels, s):
    """sums[tap, c] += the sum over the pixels of a line of gy * x, for one vector of channels."""
    h, w, _, _, oh, ow, _, _, _, _, sy, sx, y0, x0, dy, dx, th, tw = s
    image, p = line // oh, line % oh
    given = line * ow * channels + c
    for j in range(tw):
        left, step = x0 + j * dx, sx * channels
        begin, end = max(0, -left), max(0, min(ow, w - left))  # pixels that see the image through this tap
        if sx > 1:
            begin, end = _inside(left, sx, 1, 1, w, ow)
        number, g = end - begin, given + begin * channels
        for i in range(th):
            row, tap = p * sy + y0 + i * dy, (i * tw + j) * channels + c
            k = ((image * h + row) * w + left + begin * sx) * channels + c
            if not 0 <= row < h:
                continue
            if count == lanes(x):
                store(sums, tap, load(sums, tap) + _products(gy, g, x, k, channels, step, number))
            else:
                total = fill(x, 0.0)
                for q in range(number):
                    total = fma(load_first(gy, g + q * channels, count), load_first(x, k + q * step, count), total)
                store_first(sums, tap, load_first(sums, tap, count) + total, count)


@device_function(reassociate=False, inline=True)
def _products(gy, g, x, k, gy_step, x_step, number):
    """The sum of ``number`` products of vectors, in four partial sums, so that none waits for another."""
    t0, t1, t2, t3 = fill(x, 0.0), fill(x, 0.0), fill(x, 0.0), fill(x, 0.0)
    for _ in range(number // 4):
        t0 = fma(load(gy, g), load(x, k), t0)
        t1 = fma(load(gy, g + gy_step), load(x, k + x_step), t1)
        t2 = fma(load(gy, g + 2 * gy_step), load(x, k + 2 * x_step), t2)
        t3 = fma(load(gy, g + 3 * gy_step), load(x, k + 3 * x_step), t3)
        g, k = g + 4 * gy_step, k + 4 * x_step
    for _ in range(number % 4):
        t0 = fma(load(gy, g), load(x, k), t0)
        g, k = g + gy_step, k + x_step
    return (t0 + t1) + (t2 + t3)


# ---- several channels a group ----------------------------------------------------------------------------------------


@kernel(reassociate=False)
def _sweep(x, weight, start, y, lines, groups, c_group, o_group, s):
    for line in prange(lines):
        h, w, height, width, oh, ow, ay, ax, py, px, sy, sx, y0, x0, dy, dx, th, tw = s
        image, p = line // oh, line % oh
        for q in range(ow):
            at = ((image * height + ay + p * py) * width + ax + q * px) * groups * o_group
            for k in range(np.uintp(start.size)):
                y[np.uintp(at) + k] = start[k]
            for i in range(th):
                row = p * sy + y0 + i * dy
                if 0 <= row < h:
                    for j in range(tw):
                        column = q * sx + x0 + j * dx
                        if 0 <= column < w:
                            seen = ((image * h + row) * w + column) * groups * c_group
                            tap = (i * tw + j) * groups * c_group * o_group
                            _add_tap(x, seen, weight, tap, y, at, groups, c_group, o_group)


@kernel(reassociate=False)
def _weight_gradient(x, gy, sums, lines, groups, c_group, o_group, s):
    ranges = sums.shape[0]
    for index in prange(ranges):
        h, w, _, _, oh, ow, _, _, _, _, sy, sx, y0, x0, dy, dx, th, tw = s
        for line in range(lines * index // ranges, lines * (index + 1) // ranges):
            image, p = line // oh, line % oh
            for q in range(ow):
                at = (line * ow + q) * groups * o_group
                for i in range(th):
                    row = p * sy + y0 + i * dy
                    if 0 <= row < h:
                        for j in range(tw):
                            column = q * sx + x0 + j * dx
                            if 0 <= column < w:
                                seen = ((image * h + row) * w + column) * groups * c_group
                                tap = (i * tw + j) * groups * c_group * o_group
                                _add_outer(x, seen, gy, at, sums[index], tap, groups, c_group, o_group)


@device_function(reassociate=False, inline=True)
def _add_tap(x, seen, weight, tap, y, at, groups, c_group, o_group):
    """y[g, o] += sum over c of x[g, c] * weight[g, c, o], at one pixel and for one tap."""
    seen, tap, at = np.uintp(seen), np.uintp(tap), np.uintp(at)  # unsigned: loops with signed indices stay scalar
    if c_group == 1 and o_group == 1:
        for g in range(np.uintp(groups)):
            y[at + g] += x[seen + g] * weight[tap + g]
    else:
        outputs = np.uintp(o_group)
        for _ in range(groups):
            for _ in range(c_group):
                value = x[seen]
                for o in range(outputs):
                    y[at + o] += value * weight[tap + o]
                seen += np.uintp(1)
                tap += outputs
            at += outputs


@device_function(reassociate=False, inline=True)
def _add_outer(x, seen, gy, at, sums, tap, groups, c_group, o_group):
    """sums[g, c, o] += x[g, c] * gy[g, o], at one pixel and for one tap."""
    seen, tap, at = np.uintp(seen), np.uintp(tap), np.uintp(at)
    if c_group == 1 and o_group == 1:
        for g in range(np.uintp(groups)):
            sums[tap + g] += x[seen + g] * gy[at + g]
    else:
        outputs = np.uintp(o_group)
        for _ in range(groups):
            for _ in range(c_group):
                value = x[seen]
                for o in range(outputs):
                    sums[tap + o] += value * gy[at + o]
                seen += np.uintp(1)
                tap += outputs
            at += outputs
