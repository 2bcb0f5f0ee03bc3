"""The weights of a Winograd convolution, brought into the order in which they are transformed."""

from __future__ import annotations

import numpy as np

from ._compiler import device_function
from ._vector import lanes, transpose

__all__ = ["gather_weights"]


@device_function(reassociate=False)
def gather_weights(values, at, taps, lines, width, outs, output_step, number, input_step):
    """lines[(9 c + t) * width + o] = the weight of tap t and input c for output o; 0 for o >= outs."""
    size = lanes(lines)
    if size > 8 and output_step == 9 and taps[0] == 8 and taps[8] == 0:  # windows backwards, outputs beside each other
        for c in range(number):
            for o in range(0, width, size):
                first, to = at + c * input_step + o * 9, (9 * c + 8) * width + o
                transpose(values, first, 9, outs - o, lines, to, -width, 9)
        return
    if input_step == 9 and taps[0] == 0 and taps[8] == 8:  # the windows of an output, one after another
        for k in range(0, 9 * number, size):
            for o in range(0, width, size):
                transpose(
                    values,
                    at + o * output_step + k,
                    output_step,
                    outs - o,
                    lines,
                    k * width + o,
                    width,
                    min(size, 9 * number - k),
                )
        return
    across, along, row = np.uintp(output_step), np.uintp(input_step), np.uintp(9 * width)
    for o in range(np.uintp(outs)):
        for t in range(9):
            first, to = np.uintp(at + taps[t]) + o * across, np.uintp(t * width) + o
            for c in range(np.uintp(number)):
                lines[to + c * row] = values[first + c * along]
    for o in range(outs, width):
        for t in range(9 * number):
            lines[t * width + o] = 0
