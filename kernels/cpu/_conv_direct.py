"""Convolution by plain loops over the window, for any groups; with one channel a group see ``_conv_depthwise.py``."""

from __future__ import annotations

import numpy as np

from . import _conv_depthwise
from ._buffers import zeros
from ._compiler import device_function, kernel, prange
from ._product import Filters
from ._sweep import PARTIALS, Sweep

__all__ = ["sweep", "weight_gradient"]


def sweep(x: np.ndarray, filters: Filters, bias: np.ndarray | None, y: np.ndarray, s: Sweep) -> None:
    """Fill the pixels of y (N, H', W', O) that belong to a sweep over x (N, H, W, C). bias: (O,) or None."""
    n, o = y.shape[0], y.shape[3]
    if filters.inputs == filters.outputs == 1:
        _conv_depthwise.sweep(x, filters, bias, y, s)
        return
    weight = filters.array()
    groups, o_group, c_group = weight.shape[:3]
    taps = np.ascontiguousarray(weight.transpose(3, 0, 2, 1)).reshape(-1)  # (taps, G, C/G, O/G)
    start = np.zeros(o, x.dtype) if bias is None else np.ascontiguousarray(bias)
    work = n * s.oh * s.ow * weight.size
    _sweep(x.reshape(-1), taps, start, y.reshape(-1), n * s.oh, groups, c_group, o_group, tuple(s), work=work)


def weight_gradient(gy: np.ndarray, x: np.ndarray, groups: int, s: Sweep) -> np.ndarray:
    """gw (O, C/G, th, tw) from gy (N, oh, ow, O) and the x (N, H, W, C) that the sweep was over.

    The lines of gy are cut into ranges, whose number depends on the sizes only. A task sums one of them; then the ranges are
    added in their order.
    """
    n, o, c = gy.shape[0], gy.shape[3], x.shape[3]
    if c == o == groups:
        return _conv_depthwise.weight_gradient(gy, x, s)
    size = s.th * s.tw * c * (o // groups)
    ranges = max(1, min(32, n * s.oh, PARTIALS // size))
    sums = zeros((ranges, size), x.dtype)
    work = n * s.oh * s.ow * size
    sizes = n * s.oh, groups, c // groups, o // groups
    _weight_gradient(x.reshape(-1), gy.reshape(-1), sums, *sizes, tuple(s), work=work)
    total = sums.sum(axis=0).reshape(s.th, s.tw, groups, c // groups, o // groups).transpose(2, 4, 3, 0, 1)
    return np.ascontiguousarray(total).reshape(o, c // groups, s.th, s.tw)


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
    outputs = np.uintp(o_group)
    for _ in range(groups):
        for _ in range(c_group):
            value = x[seen]
            for o in range(outputs):
                sums[tap + o] += value * gy[at + o]
            seen += np.uintp(1)
            tap += outputs
        at += outputs
