"""Convolutions as sweeps: one form for the forward pass, the input gradient and the transposed convolution.

In a sweep every output pixel (p, q) gathers one input pixel for each tap (i, j) of the window:

    y[ay + p*py, ax + q*px] = sum over i < th, j < tw of  weight[i, j] * x[p*sy + y0 + i*dy, q*sx + x0 + j*dx]

The forward pass is one sweep. The input gradient of a convolution with stride s is s*s of them: the input pixels whose row and
column leave the same remainders when divided by the stride are reached by the same taps, in the same order, so they form a sweep
of their own (with stride 1 there is one, over the mirrored window). Every pixel gathers what belongs to it; nothing is scattered,
so threads never meet, and no multiplication is spent on the zeros between strides.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

from ..geometry import ConvGeometry

__all__ = ["PARTIALS", "Sweep", "backward_sweeps", "forward_sweep"]

PARTIALS = 2**20  # numbers in all partial sums of a weight gradient together, at most


class Sweep(NamedTuple):
    """The integers of one sweep (h, w: input size; oh, ow: output pixels of the sweep; height, width: of the whole output)."""

    h: int
    w: int
    height: int
    width: int
    oh: int
    ow: int
    ay: int
    ax: int
    py: int
    px: int
    sy: int
    sx: int
    y0: int
    x0: int
    dy: int
    dx: int
    th: int
    tw: int


@lru_cache(maxsize=1024)
def forward_sweep(g: ConvGeometry) -> Sweep:
    """The sweep of a convolution over its input."""
    return Sweep(g.h, g.w, g.oh, g.ow, g.oh, g.ow, 0, 0, 1, 1, g.sh, g.sw, -g.top, -g.left, g.dh, g.dw, g.kh, g.kw)


@lru_cache(maxsize=1024)
def backward_sweeps(g: ConvGeometry) -> list[tuple[Sweep, list[int], list[int]]]:
    """The sweeps over the output gradient that make the input gradient, each with the window's rows and columns it uses."""
    sweeps = []
    for ay, oh, y0, dy, rows in _phases(g.h, g.kh, g.sh, g.dh, g.top):
        for ax, ow, x0, dx, columns in _phases(g.w, g.kw, g.sw, g.dw, g.left):
            sweep = Sweep(
                *(g.oh, g.ow, g.h, g.w, oh, ow, ay, ax, g.sh, g.sw, 1, 1, y0, x0, dy, dx, len(rows), len(columns)),
            )
            sweeps.append((sweep, rows, columns))
    return sweeps


def _phases(size: int, kernel: int, stride: int, dilation: int, before: int):
    """For each remainder: the first input pixel, how many there are, the first tap's place, the step between taps, the taps.

    Pixel a + stride*u of the input is seen through tap i by output pixel (a + stride*u + before - i*dilation) / stride, if that
    is a whole number.
    """
    for a in range(min(stride, size)):
        taps = [i for i in reversed(range(kernel)) if (a + before - i * dilation) % stride == 0]  # ascending places
        first = (a + before - taps[0] * dilation) // stride if taps else 0
        yield a, -(-(size - a) // stride), first, dilation // gcd(dilation, stride), taps
