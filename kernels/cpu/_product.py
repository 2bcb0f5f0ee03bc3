"""Matrix products from register tiles (``_tile.py``), and the packing of the matrix on their right side.

A product is computed panel by panel: a panel is one or two vectors of columns, through which the rows pass a dozen at a time. The
rows of a panel lie one after the other when it is packed, or a row of the matrix apart when it is used where it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import _machine
from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._tile import tile
from ._vector import lanes, load_first, store, transpose

__all__ = ["ROWS", "Filters", "multiply", "multiply_lines", "pack", "panel_width"]

ROWS = 12  # of the largest tile


class Filters(NamedTuple):
    """Weights in memory: output o of group g multiplies input c, seen through tap t of the window, by

    values[g * group_step + o * output_step + c * input_step + taps[t]]
    """

    values: np.ndarray
    groups: int
    outputs: int  # of a group
    inputs: int  # of a group
    group_step: int
    output_step: int
    input_step: int
    taps: np.ndarray

    def array(self) -> np.ndarray:
        """The weights as a copy (G, O/G, C/G, taps)."""
        shape, size = (self.groups, self.outputs, self.inputs, len(self.values)), self.values.itemsize
        steps = [step * size for step in (self.group_step, self.output_step, self.input_step, 1)]
        last = len(self.values) - sum((n - 1) * step for n, step in zip(shape[:3], steps, strict=False)) // size
        view = np.lib.stride_tricks.as_strided(self.values, (*shape[:3], last), steps, writeable=False)
        return view[..., self.taps]


def panel_width(columns: int, dtype) -> int:
    """The width of a panel of a matrix with so many columns: two vectors, or one where that is enough."""
    return _machine.lanes(dtype) * (1 if columns <= _machine.lanes(dtype) else 2)


def pack(filters: Filters) -> np.ndarray:
    """The weights as panels (G, panels, taps * C/G, width), whose last columns may be zeros."""
    f = filters
    width = panel_width(f.outputs, f.values.dtype)
    panels = -(-f.outputs // width)
    packed = empty((f.groups * panels, len(f.taps) * f.inputs * width), f.values.dtype)
    steps = f.group_step, f.output_step, f.input_step
    _pack(f.values, f.taps, packed, panels, width, f.outputs, f.inputs, *steps, work=2 * packed.size)
    return packed.reshape(f.groups, panels, -1, width)


@kernel
def _pack(values, taps, packed, panels, width, outputs, inputs, group_step, output_step, input_step):
    for index in prange(packed.shape[0]):
        first = index % panels * width
        count = min(width, outputs - first)
        at = index // panels * group_step + first * output_step
        for start in range(0, inputs, 16):  # few enough to stay in the first-level cache
            _pack_part(
                values, at, taps, packed[index], width, count, start, min(inputs, start + 16), inputs, output_step, input_step
            )


@device_function(reassociate=False)
def _pack_part(values, at, taps, panel, width, count, start, stop, inputs, output_step, input_step):
    """Some inputs of a panel. Indices are unsigned: a signed one could count from the end, which would have to be checked."""
    size = lanes(panel)
    if taps.size == 1 and input_step == 1:  # a matrix whose rows are turned into columns
        for k in range(start, stop, size):
            for o in range(0, width, size):
                first = at + o * output_step + taps[0] + k
                transpose(values, first, output_step, count - o, panel, k * width + o, width, min(size, stop - k))
        return
    if output_step == 1:
        for t in range(taps.size):
            for c in range(start, stop):
                for o in range(0, width, size):
                    store(panel, (t * inputs + c) * width + o, load_first(values, at + o + taps[t] + c * input_step, count - o))
        return
    direction = taps[taps.size - 1] - taps[0]
    if taps.size > 1 and abs(direction) == taps.size - 1:  # taps in their order or against it: rows of them become columns
        first, row = (taps[0], inputs * width) if direction > 0 else (taps[taps.size - 1], -inputs * width)
        for c in range(start, stop):
            into = (c if direction > 0 else (taps.size - 1) * inputs + c) * width
            for o in range(0, width, size):
                seen = at + o * output_step + first + c * input_step
                for t in range(0, taps.size, size):
                    some = min(size, taps.size - t)
                    transpose(values, seen + t, output_step, count - o, panel, into + t * row + o, row, some)
        return
    along, row = np.uintp(input_step), np.uintp(width)
    for o in range(count):
        for t in range(taps.size):
            source, target = (
                np.uintp(at + o * output_step + taps[t] + start * input_step),
                np.uintp((t * inputs + start) * width + o),
            )
            for c in range(np.uintp(stop - start)):
                panel[target + c * row] = values[source + c * along]
    for o in range(count, width):
        for t in range(taps.size):
            target = np.uintp((t * inputs + start) * width + o)
            for c in range(np.uintp(stop - start)):
                panel[target + c * row] = 0


@device_function(reassociate=False)
def multiply(c, c_at, c_row, start, start_at, start_row, a, a_at, a_row, a_step, b, b_at, b_row, rows, depth, columns):
    """c[r, n] = start[r, n] + sum over k < depth of a[r, k] * b[k, n], for r < rows and n < columns; see ``tile``.

    At most two vectors of columns. Sums run in the order of k, so how the rows are divided changes nothing.
    """
    left, right = (a_at, a_row, a_step, 0), (b_at, b_row, 0)
    multiply_lines(c, c_at, c_row, start, start_at, start_row, a, b, left, right, rows, 1, depth, columns)


@device_function(reassociate=False)
def multiply_lines(c, c_at, c_row, start, start_at, start_row, a, b, left, right, rows, lines, depth, columns):
    """c[r, n] = start[r, n] + sum over i < lines and k < depth of a[r, i, k] * b[i, k, n]; see ``tile``."""
    a_at, a_row, a_step, a_line = left
    r = 0
    wide = columns > lanes(c)
    while r < rows:
        count = _next_of_two(rows - r) if wide else _next_of_one(rows - r)
        into, begin, seen = c_at + r * c_row, start_at + r * start_row, (a_at + r * a_row, a_row, a_step, a_line)
        r += count
        if wide:
            if count == 12:
                tile(12, 2, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
            elif count == 9:
                tile(9, 2, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
            elif count == 8:
                tile(8, 2, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
            elif count == 6:
                tile(6, 2, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
            elif count == 4:
                tile(4, 2, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
            elif count == 2:
                tile(2, 2, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
            else:
                tile(1, 2, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
        elif count == 14:
            tile(14, 1, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
        elif count == 12:
            tile(12, 1, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
        elif count == 10:
            tile(10, 1, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
        elif count == 9:
            tile(9, 1, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
        elif count == 8:
            tile(8, 1, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
        elif count == 7:
            tile(7, 1, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
        elif count == 6:
            tile(6, 1, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
        elif count == 4:
            tile(4, 1, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
        elif count == 2:
            tile(2, 1, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)
        else:
            tile(1, 1, c, into, c_row, start, begin, start_row, a, b, seen, right, lines, depth, columns)


# The rows of the next tile: parts of nearly equal size, for which there are tiles. An addition must wait some four steps for the
# one before it, so a tile of few rows takes no less time than one of 4 rows of two vectors, or of 8 rows of one.


@device_function(reassociate=False, inline=True)
def _next_of_two(left):
    parts = (left + 11) // 12
    count = (left + parts - 1) // parts  # of rows, if all parts were equal
    if left == 9:  # a row of a 3x3 window over three channels
        return 9
    if count > 8:
        return 12 if left > count or left == 12 else 6  # 11 are 6 and 5, 10 are 6 and 4
    if count == 7:
        return 8 if left > 7 else 6
    return 4 if count == 5 else 2 if count == 3 else count


@device_function(reassociate=False, inline=True)
def _next_of_one(left):
    parts = (left + 13) // 14
    count = (left + parts - 1) // parts
    if count == 13 or count == 11:
        return count + 1 if left > count else 7
    return 4 if count == 5 else 2 if count == 3 else count
