"""The transforms of Winograd's convolution F(4x4, 3x3), one line at a time, on vectors of channels.

With the polynomials of degree 5 evaluated at 0, 1, -1, 1/2, -2 and infinity, four outputs of a window of three need six
multiplications instead of twelve (Winograd 1980; Lavin & Gray 2016, arXiv 1509.09308):

    y = A^T [ (G w) * (B^T d) ]      w: 3 weights, d: 6 inputs, y: 4 outputs

with the matrices below, and a tile of 4x4 outputs 36 instead of 144, when they are applied to its rows and its columns. These
points round about half as much as the textbook's 0, 1, -1, 2, -2.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ._compiler import device_function
from ._vector import fill, fma

__all__ = ["gradient_line", "input_line", "output_line", "rows", "weight_gradient_line", "weight_line"]

INPUT = [  # B^T
    [1, -3 / 2, -2, 3 / 2, 1, 0],
    [0, -1, 1 / 2, 5 / 2, 1, 0],
    [0, 1, -5 / 2, 1 / 2, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 1 / 2, -1, -1 / 2, 1, 0],
    [0, 1, -3 / 2, -2, 3 / 2, 1],
]
WEIGHT = [  # G
    [1, 0, 0],
    [1 / 3, 1 / 3, 1 / 3],
    [-1 / 3, 1 / 3, -1 / 3],
    [-16 / 15, -8 / 15, -4 / 15],
    [1 / 15, -2 / 15, 4 / 15],
    [0, 0, 1],
]
OUTPUT = [  # A
    [1, 0, 0, 0],
    [1, 1, 1, 1],
    [1, -1, 1, -1],
    [1, 1 / 2, 1 / 4, 1 / 8],
    [1, -2, 4, -8],
    [0, 0, 0, 1],
]


@lru_cache(maxsize=2)
def rows(dtype) -> np.ndarray:
    """The rows of B^T, A and G beside each other (6, 6 + 4 + 3): what makes one row of the numbers of a tile."""
    return np.concatenate([INPUT, OUTPUT, WEIGHT], axis=1).astype(dtype)


@device_function(reassociate=False, inline=True)
def input_line(x, d0, d1, d2, d3, d4, d5):
    """B^T d. The array x tells the type."""
    even, odd = d4 - d2, d3 - d1
    half, more = fill(x, 0.5), fill(x, 1.5)
    return (
        fma(more, odd, (d0 - d2) + even),
        fma(fill(x, 2.5), d3, fma(half, d2, d4 - d1)),
        fma(half, d3, fma(fill(x, -2.5), d2, d4 + d1)),
        fma(fill(x, 2.0), odd, even),
        fma(fill(x, -0.5), odd, even),
        fma(more, even, (d5 - d3) - odd),
    )


@device_function(reassociate=False, inline=True)
def output_line(x, m0, m1, m2, m3, m4, m5):
    """A^T m."""
    total, difference = m1 + m2, m1 - m2
    return (
        (m0 + total) + (m3 + m4),
        fma(fill(x, -2.0), m4, fma(fill(x, 0.5), m3, difference)),
        fma(fill(x, 4.0), m4, fma(fill(x, 0.25), m3, total)),
        fma(fill(x, -8.0), m4, fma(fill(x, 0.125), m3, difference + m5)),
    )


@device_function(reassociate=False, inline=True)
def weight_line(x, w0, w1, w2):
    """G w."""
    ends = w0 + w2
    return (
        w0,
        (ends + w1) * fill(x, 1 / 3),
        (w1 - ends) * fill(x, 1 / 3),
        fma(fill(x, 4.0), w0, fma(fill(x, 2.0), w1, w2)) * fill(x, -4 / 15),
        fma(fill(x, 4.0), w2, fma(fill(x, -2.0), w1, w0)) * fill(x, 1 / 15),
        w2,
    )


@device_function(reassociate=False, inline=True)
def gradient_line(x, y0, y1, y2, y3):
    """A y: the gradient of an output line carried back through A^T."""
    even, odd = y0 + y2, y1 + y3
    return (
        y0,
        even + odd,
        even - odd,
        fma(fill(x, 0.125), y3, fma(fill(x, 0.25), y2, fma(fill(x, 0.5), y1, y0))),
        fma(fill(x, -8.0), y3, fma(fill(x, 4.0), y2, fma(fill(x, -2.0), y1, y0))),
        y3,
    )


@device_function(reassociate=False, inline=True)
def weight_gradient_line(x, u0, u1, u2, u3, u4, u5):
    """G^T u."""
    third, fifteenth = fill(x, 1 / 3), fill(x, 1 / 15)
    total, difference = (u1 + u2) * third, (u1 - u2) * third
    return (
        fma(fifteenth, fma(fill(x, -16.0), u3, u4), u0 + difference),
        fma(fifteenth, fma(fill(x, -8.0), u3, u4 * fill(x, -2.0)), total),
        fma(fifteenth, fma(fill(x, -4.0), u3, u4 * fill(x, 4.0)), u5 + difference),
    )
