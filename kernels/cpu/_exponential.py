"""The exponential function as arithmetic, which the compiler turns into vector code; it cannot with a call of the library."""

from __future__ import annotations

import math

import numpy as np

from ._compiler import device_function

__all__ = ["exponential"]

LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10  # whose sum is ln 2; the first has 32 zeros at its end
SHIFT = 6755399441055744.0  # 1.5 * 2^52: a sum with it is rounded to a whole number, which is in its last bits
SMALLEST, LARGEST = -708.0, 709.0


@device_function(reassociate=False, inline=True)
def exponential(x):
    """e^x for a float64 x, to about one unit in the last place; 0 below -708, infinity above 709.

    x = n ln 2 + r with a whole n and abs(r) <= ln(2) / 2; e^r by its Taylor series, whose rest is below 1e-17; times 2^n, which
    is made of its bits.
    """
    shifted = x * LOG2_E + SHIFT
    n = shifted - SHIFT
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    series = 1 / 6227020800 * r + 1 / 479001600
    series = series * r + 1 / 39916800
    series = series * r + 1 / 3628800
    series = series * r + 1 / 362880
    series = series * r + 1 / 40320
    series = series * r + 1 / 5040
    series = series * r + 1 / 720
    series = series * r + 1 / 120
    series = series * r + 1 / 24
    series = series * r + 1 / 6
    series = series * r + 1 / 2
    series = (series * r + 1) * r + 1
    power = np.int64((np.float64(shifted).view(np.int64) << 52) + (1023 << 52)).view(np.float64)
    value = series * power
    value = 0.0 if x < SMALLEST else value
    return math.inf if x > LARGEST else value
