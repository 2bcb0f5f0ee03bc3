"""Normalization. See ``kernels/reference/normalization.py`` for what each function computes.

A view (M, A, B, L) is an array of rows of B * L columns. Where many rows share statistics, sums are taken by columns:
neighbouring threads have neighbouring columns, and slices of the rows make partial results that a second kernel combines.
Where A = 1, as in layer normalization, they are taken by rows, one warp for each. The order of every sum depends on the shape
alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cupy
import numpy as np

from ..layout import empty_channels_last, nhwc
from ._compiler import FLOATS, THREADS, WIDTHS, Kernel, blocks, c_type, on_device, struct, vector_width

__all__ = [
    "local_response_norm_backward",
    "local_response_norm_forward",
    "moments",
    "normalize_backward",
    "normalize_forward",
]

SUMMED = {"float": 4, "double": 2, "half_t": 4, "bfloat16_t": 4}  # in sums, whose registers are for floats
REALS = [("float",), ("double",)]

_forward = Kernel("normalization.cu", "normalize_forward", [(t, n) for t in FLOATS for n in (1, WIDTHS[t])])
_backward = Kernel("normalization.cu", "normalize_backward", [(t, n) for t in FLOATS for n in (1, WIDTHS[t])])
_moments_columns = Kernel("moments.cu", "moments_columns", [(t, n) for t in FLOATS for n in (1, SUMMED[t])])
_moments_rows = Kernel("moments.cu", "moments_rows", [(t, n) for t in FLOATS for n in (1, SUMMED[t])])
_moments_combine = Kernel("moments.cu", "moments_combine", REALS)
_sums_columns = Kernel("norm_sums.cu", "sums_columns", [(t, n) for t in FLOATS for n in (1, SUMMED[t])])
_sums_rows = Kernel("norm_sums.cu", "sums_rows", [(t, n) for t in FLOATS for n in (1, SUMMED[t])])
_sums_gradients = Kernel("norm_sums.cu", "sums_gradients", REALS)
_sums_averages = Kernel("norm_sums.cu", "sums_averages", REALS)
_lrn_forward = Kernel("lrn.cu", "lrn_forward", [(t,) for t in FLOATS])
_lrn_backward = Kernel("lrn.cu", "lrn_backward", [(t, tile) for t in FLOATS for tile in (True, False)])

BLOCKS = 1024  # of a sum over everything: eight for each multiprocessor of a large card
CHUNK = 8  # rows that a thread takes at least, if there are so many (moments.cu)
ROWS = 4  # rows of a thread of the kernels without sums (normalization.cu)
LONG = 4096  # a row that is too long for one warp, unless there are enough rows to keep the card busy
MANY = 2048


# ----- how an array is walked -----


class _Walk(NamedTuple):
    """The structure ``View`` of ``norm.cuh``, and the shape of a block."""

    view: np.ndarray
    block: tuple[int, int]
    grid: int
    slices: int


def _power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


def _walk(outers: int, rows: int, a: int, b: int, length: int, width: int, per_thread: int, limit: int) -> _Walk:
    """``outers`` times ``rows`` rows of b * length columns, for threads that take ``width`` columns, ``per_thread`` rows or more.

    There are about ``limit`` blocks, or fewer; without a limit (0) no thread takes more rows than that.
    """
    columns = b * length
    packs = columns // width
    y = min(THREADS // min(_power_of_two(packs), 32), _power_of_two(blocks(rows, per_thread)))
    x = min(_power_of_two(packs), THREADS // y)
    column_blocks, step = blocks(packs, x), y * per_thread
    per_slice = step
    if limit:
        slices = max(1, limit // (column_blocks * outers))
        per_slice *= blocks(blocks(rows, step), slices)
    slices = blocks(rows, per_slice)
    view = np.array((outers, rows, columns, slices, per_slice, a, b, length, column_blocks), np.int64)
    return _Walk(view, (x, y), column_blocks * slices * outers, slices)


def _by_rows(m: int, a: int, b: int, length: int) -> bool:
    """Whether statistics are of one row each, of which there are many or which are short."""
    return a == 1 and (length <= LONG or m * b >= MANY)


def _real(x: cupy.ndarray) -> np.dtype:
    """The dtype of statistics and of weights: float32 for activations of 16 bits."""
    return np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


def _dense(array: cupy.ndarray | None, dtype: np.dtype) -> cupy.ndarray | None:
    return None if array is None else cupy.ascontiguousarray(array, dtype)


def _each(x: cupy.ndarray, *others: cupy.ndarray) -> tuple[int, _Walk]:
    """The width and the walk for a kernel that works number by number on arrays like x."""
    m, a, b, length = x.shape
    width = vector_width(x, *others, multiple_of=b * length)
    return width, _walk(1, m * a, a, b, length, width, ROWS, 0)


def _sum_width(*arrays: cupy.ndarray, row: int) -> int:
    """Like ``vector_width``, for sums."""
    width = SUMMED[c_type(arrays[0].dtype)]
    fits = row % width == 0 and all(array.data.ptr % (width * array.dtype.itemsize) == 0 for array in arrays)
    return width if fits else 1


def _threads_for(count: int) -> int:
    """The threads of a block that combines ``count`` partial results."""
    return min(max(_power_of_two(count), 32), THREADS)


# ----- moments -----


@on_device
def moments(x: cupy.ndarray) -> tuple[cupy.ndarray, cupy.ndarray]:
    """See reference. Both are float32 for x of 16 bits. Chunks of eight numbers, combined by their means (Chan et al. 1979)."""
    m, a, b, length = x.shape
    dtype, kind = _real(x), c_type(x.dtype)
    mean, var = cupy.empty((m, b), dtype), cupy.empty((m, b), dtype)
    if not x.size:
        mean.fill(np.nan)
        var.fill(np.nan)
        return mean, var
    x = cupy.ascontiguousarray(x)
    if _by_rows(m, a, b, length):
        width = _sum_width(x, row=length)
        values = x, mean, var, np.int64(m * b), np.int64(length)
        _moments_rows((kind, width), blocks(m * b, 4), 4 * 32, values)
        return mean, var
    if a == 1:  # few long rows: short pieces of them are as good as rows that share statistics
        m, a, b, length = m * b, length // math.gcd(length, 4), 1, math.gcd(length, 4)
    width = _sum_width(x, row=b * length)
    walk = _walk(m, a, a, b, length, width, CHUNK, BLOCKS)
    partial = cupy.empty((m, walk.slices, b * length, 2), np.float64)
    _moments_columns((kind, width), walk.grid, walk.block, (x, partial, walk.view))
    values = partial, mean, var, walk.view
    _moments_combine((c_type(dtype),), m * b, _threads_for(walk.slices * length), values)
    return mean, var


# ----- normalization -----


@on_device
def normalize_forward(
    x: cupy.ndarray,
    mean: cupy.ndarray,
    rstd: cupy.ndarray,
    weight: cupy.ndarray | None,
    bias: cupy.ndarray | None,
    addend: cupy.ndarray | None = None,
    rectify: bool = False,
) -> cupy.ndarray:
    """See reference. One pass; y = (x - mean) * (rstd * weight) + bias, in float for 16 bits and else in the dtype of x."""
    y = cupy.empty(x.shape, x.dtype)
    if not x.size:
        return y
    x, addend = cupy.ascontiguousarray(x), _dense(addend, x.dtype)
    small = (_dense(array, _real(x)) for array in (mean, rstd, weight, bias))
    width, walk = _each(x, y, *(() if addend is None else (addend,)))
    values = x, *small, addend, y, np.int32(rectify), walk.view
    _forward((c_type(x.dtype), width), walk.grid, walk.block, values)
    return y


@on_device
def normalize_backward(
    gy: cupy.ndarray,
    x: cupy.ndarray,
    mean: cupy.ndarray,
    rstd: cupy.ndarray,
    weight: cupy.ndarray | None,
    through_statistics: bool,
    bias: cupy.ndarray | None = None,
    rectify: bool = False,
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """See reference. One pass over gy and x for all sums, one for gx. gweight and gbias are float32 for x of 16 bits."""
    dtype = _real(x)
    gx = cupy.empty(x.shape, x.dtype)
    if not x.size:
        return gx, cupy.zeros(x.shape[2:], dtype), cupy.zeros(x.shape[2:], dtype)
    gy, x = _dense(gy, x.dtype), cupy.ascontiguousarray(x)
    statistics = tuple(_dense(array, dtype) for array in (mean, rstd, weight, bias))
    gweight, gbias, averages = _sums(gy, x, statistics, through_statistics, rectify)
    width, walk = _each(x, gy, gx)
    values = gy, x, *statistics, *averages, gx, np.int32(rectify), walk.view
    _backward((c_type(x.dtype), width), walk.grid, walk.block, values)
    return gx, gweight, gbias


def _sums(gy, x, statistics, through_statistics: bool, rectify: bool):
    """gweight and gbias, and the averages of g * xhat and of g for each of the statistics (or None twice)."""
    m, a, b, length = x.shape
    dtype = _real(x)
    gweight, gbias = cupy.empty((b, length), dtype), cupy.empty((b, length), dtype)
    outers, rows = (1, m) if a == 1 else (m, a)
    width = _sum_width(x, gy, row=b * length)
    walk = _walk(outers, rows, a, b, length, width, CHUNK, BLOCKS)
    partial = cupy.empty((outers, walk.slices, b * length, 2), np.float64)
    values = gy, x, *statistics, partial, np.int32(rectify), walk.view
    _sums_columns((c_type(x.dtype), width), walk.grid, walk.block, values)

    columns, lines = b * length, outers * walk.slices
    block = min(_power_of_two(columns), 32), min(_power_of_two(lines), 32)
    averages, at_once = (None, None), through_statistics and m == length == 1 < a  # a column is a statistic
    if at_once or (through_statistics and a != 1):
        averages = cupy.empty((m, b), dtype), cupy.empty((m, b), dtype)
    values = partial, gweight, gbias, np.int64(lines), np.int64(columns), statistics[2]
    values = *values, *(averages if at_once else (None, None)), np.float64(a)
    _sums_gradients((c_type(dtype),), blocks(columns, block[0]), block, values)
    if at_once or not through_statistics:
        return gweight, gbias, averages
    if a == 1:
        return gweight, gbias, _row_averages(gy, x, statistics, rectify)
    values = partial, statistics[2], *averages, np.float64(a * length), walk.view
    _sums_averages((c_type(dtype),), m * b, _threads_for(walk.slices * length), values)
    return gweight, gbias, averages


def _row_averages(gy, x, statistics, rectify: bool):
    """The averages where every row has statistics of its own: by warps that take a row each, or a part of it."""
    m, _, b, length = x.shape
    rows, dtype = m * b, _real(x)
    width = _sum_width(x, gy, row=length)
    piece = 32 * width * CHUNK  # of a row, at least
    per_part = piece * blocks(blocks(length, piece), max(1, 8 * BLOCKS // rows))
    parts = blocks(length, per_part)
    view = np.array((1, rows, length, parts, per_part, 1, b, length, 1), np.int64)
    partial = cupy.empty((rows, parts, 2), np.float64)
    values = gy, x, *statistics, partial, np.int32(rectify), view
    _sums_rows((c_type(x.dtype), width), blocks(rows * parts, 4), 4 * 32, values)
    averages = cupy.empty((m, b), dtype), cupy.empty((m, b), dtype)
    view = np.array((rows, parts, 1, parts, 1, 1, 1, 1, 1), np.int64)
    values = partial, None, *averages, np.float64(length), view
    _sums_averages((c_type(dtype),), rows, _threads_for(parts), values)
    return averages


# ----- local response normalization -----


@on_device
def local_response_norm_forward(
    x: cupy.ndarray, size: int, alpha: float, beta: float, k: float
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """See reference. One thread for each number."""
    pixels, real = nhwc(x), _real(x).type
    y, scale = (empty_channels_last(cupy, x.shape, x.dtype) for _ in range(2))
    values = pixels, nhwc(y), nhwc(scale), real(alpha), real(beta), real(k), np.int64(x.size)
    _lrn_forward((c_type(x.dtype),), blocks(x.size), THREADS, (*values, _window(x, size // 2, (size - 1) // 2)))
    return y, scale


@on_device
def local_response_norm_backward(
    gy: cupy.ndarray, x: cupy.ndarray, scale: cupy.ndarray, size: int, alpha: float, beta: float
) -> cupy.ndarray:
    """See reference. One thread for each number; a block shares what is computed of neighbouring channels."""
    gx, real = empty_channels_last(cupy, x.shape, x.dtype), _real(x).type
    window = _window(x, (size - 1) // 2, size // 2)
    shared = (THREADS + int(window[1] + window[2])) * np.dtype(real).itemsize
    tile = shared <= 48 * 1024
    inputs = (nhwc(_as(array, x.dtype)) for array in (gy, x, scale))
    values = *inputs, nhwc(gx), real(2 * alpha * beta), real(beta), np.int64(x.size), window
    _lrn_backward((c_type(x.dtype), tile), blocks(x.size), THREADS, values, shared if tile else 0)
    return gx


def _as(array: cupy.ndarray, dtype: np.dtype) -> cupy.ndarray:
    return array if array.dtype == dtype else array.astype(dtype)


def _window(x: cupy.ndarray, before: int, after: int) -> np.ndarray:
    """The structure ``Window`` of ``lrn.cu``: no window reaches beyond all channels."""
    c = x.shape[1]
    return struct(c, min(before, max(c - 1, 0)), min(after, max(c - 1, 0)))
