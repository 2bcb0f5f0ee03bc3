"""Convolution as a product that gathers what the windows see: launches of ``convolution.cu`` and ``conv_weight.cu``."""

from __future__ import annotations

from functools import lru_cache

import cupy
import numpy as np

from ..geometry import ConvGeometry
from ._compiler import FLOATS, THREADS, Kernel, blocks, c_type, struct
from ._window import window

__all__ = ["gather", "rows_times_filters", "weight_gradient"]

STAGES, BLOCK = 3, 256  # as in gemm.cuh
PITCH = 80  # bytes of a row of a tile that lies along K
ROW, PIXEL = 24, 16  # bytes of these structures
FEW = 1 << 16  # weights that are not worth a launch to be packed
SIZES = {"float": 4, "double": 8, "half_t": 2, "bfloat16_t": 2}

# (rows, columns, warps along the rows) of a block's tile
WIDE, HALF, QUARTER, NARROW, SMALL = (128, 128, 2), (128, 64, 4), (128, 32, 8), (128, 16, 8), (64, 64, 2)
TENSOR = {"float": "Tf32", "half_t": "Float16", "bfloat16_t": "Bfloat16"}


def _instances_of_gather():
    for kind, math in TENSOR.items():
        yield from ((math, *tile, 16 // SIZES[kind], True) for tile in (WIDE, HALF, QUARTER, NARROW, SMALL))
        yield from ((math, *tile, 16 // SIZES[kind], False) for tile in (HALF, QUARTER, NARROW, SMALL))
        yield from ((math, *tile, 1, False) for tile in (HALF, NARROW))
    for kind in FLOATS:
        if kind != "half_t":  # every card has tensor cores for it
            yield f"Exact<{kind}>", *SMALL, 1, False
            yield f"Exact<{kind}>", *SMALL, 16 // SIZES[kind], True
    yield "Exact<float>", *HALF, 4, True


def _instances_of_weight():
    for kind, math in TENSOR.items():
        v = 16 // SIZES[kind]
        yield from ((math, *tile, v, v) for tile in (WIDE, SMALL, (16, 128, 1), (32, 128, 2)))
        yield from ((math, *SMALL, *pair) for pair in ((v, 1), (1, 1)))
    for kind in FLOATS:
        if kind != "half_t":
            v = 16 // SIZES[kind]
            yield from ((f"Exact<{kind}>", *SMALL, *pair) for pair in {(v, v), (v, 1), (1, 1)})


_gather = Kernel("convolution.cu", "conv_gather", _instances_of_gather())
_filters = Kernel("convolution.cu", "conv_filters", [(t,) for t in FLOATS])
_weight = Kernel("conv_weight.cu", "conv_weight", _instances_of_weight())
_weight_sum = Kernel("conv_weight.cu", "conv_weight_sum", [(t,) for t in FLOATS])


# ---- the card ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _card(index: int) -> tuple[int, int]:
    """(multiprocessors, compute capability as 75, 80, ...) of a card."""
    properties = cupy.cuda.runtime.getDeviceProperties(index)
    return properties["multiProcessorCount"], 10 * properties["major"] + properties["minor"]


@lru_cache(maxsize=64)
def _arithmetic(dtype, exact: bool, device: int) -> str:
    """How numbers of a dtype are multiplied on a card."""
    kind = c_type(dtype)
    if kind == "half_t" or (kind in TENSOR and _card(device)[1] >= 80 and not (kind == "float" and exact)):
        return TENSOR[kind]
    return f"Exact<{kind}>"


# ---- images ------------------------------------------------------------------------------------------------------------


def gather(
    x: cupy.ndarray,
    weight: cupy.ndarray,
    bias: cupy.ndarray | None,
    y: cupy.ndarray,
    g: ConvGeometry,
    transposed: bool,
    exact: bool,
) -> None:
    """Write the convolution of x with weight (O, C/groups, kh, kw) into y, or with ``transposed`` the input gradient of x = gy.

    x and y: (N, H, W, C), contiguous.
    """
    device = cupy.cuda.runtime.getDevice()
    math, width = _arithmetic(x.dtype, exact, device), _width((g.o if transposed else g.c) // g.groups, x)
    filters, strides = weight, _strides(weight, g, transposed)
    packed = width > 1 and _lies_packed(weight, g, transposed)
    if width > 1 and not packed and (math.startswith("Exact") or weight.size > FEW):
        filters, packed = _packed(weight, strides, g, transposed), True
    arguments, grid, sizes, shared = _gather_plan(g, transposed, math, width, packed, device)
    _gather(arguments, grid, BLOCK, (x, filters, bias, y, sizes, strides), shared)


def _strides(weight: cupy.ndarray, g: ConvGeometry, transposed: bool) -> np.ndarray:
    """The structure Strides: columns are the output channels of a group, channels its input channels, or if transposed not."""
    o, c, row, tap = (s // weight.itemsize for s in weight.strides)
    return np.array((g.o // g.groups * o, c, o, row, tap) if transposed else (g.o // g.groups * o, o, c, row, tap), np.int64)


def _lies_packed(weight: cupy.ndarray, g: ConvGeometry, transposed: bool) -> bool:
    """Whether the weight is in memory what ``_packed`` makes of it."""
    turned = weight.transpose((1, 2, 3, 0) if transposed else (0, 2, 3, 1))
    return turned.flags.c_contiguous and (g.groups == 1 or not transposed) and weight.data.ptr % 16 == 0


def _packed(weight: cupy.ndarray, strides: np.ndarray, g: ConvGeometry, transposed: bool) -> cupy.ndarray:
    """The weight as (groups, columns, kh, kw, channels)."""
    outputs, inputs, taps = g.o // g.groups, g.c // g.groups, g.kh * g.kw
    filters = cupy.empty(weight.size, weight.dtype)
    sizes = (inputs, taps, outputs, g.kw) if transposed else (outputs, taps, inputs, g.kw)
    values = (weight, filters, *map(np.int32, (g.groups, *sizes)), *strides)
    _filters((c_type(weight.dtype),), blocks(weight.size), THREADS, values)
    return filters


@lru_cache(maxsize=4096)
def _gather_plan(g: ConvGeometry, transposed: bool, math: str, width: int, packed: bool, device: int) -> tuple:
    """(template arguments, blocks, sizes, bytes of shared memory)."""
    if transposed:
        read, written, phases = (g.n, g.oh, g.ow, g.o), (g.h, g.w, g.c), g.sh * g.sw
        rows = g.n * -(-g.h // g.sh) * -(-g.w // g.sw)
    else:
        read, written, phases = (g.n, g.h, g.w, g.c), (g.oh, g.ow, g.o), 1
        rows = g.n * g.oh * g.ow
    sizes = struct(*read, *written, g.groups, g.kh, g.kw, g.sh, g.sw, g.top, g.left, g.dh, g.dw, transposed)
    columns, layers = written[2] // g.groups, g.groups * phases
    tile = _gather_tile(math, width, packed, rows, columns, layers, device)
    shared = tile[0] * ROW + STAGES * PITCH * (tile[0] + tile[1])
    return (math, *tile, width, packed), (blocks(rows, tile[0]), blocks(columns, tile[1]), layers), sizes, shared


def _width(channels: int, *arrays) -> int:
    """How many channels are copied at once: 16 bytes of them, or one."""
    width = 16 // arrays[0].itemsize
    return width if channels % width == 0 and all(a.data.ptr % 16 == 0 for a in arrays) else 1


def _gather_tile(math: str, width: int, packed: bool, rows: int, columns: int, layers: int, device: int) -> tuple[int, int, int]:
    """The largest tile that leaves every multiprocessor something to do."""
    if math == "Exact<float>" and width > 1 and columns >= 64:
        return HALF
    if math.startswith("Exact"):
        return SMALL
    if width == 1:
        return HALF if columns > 16 else NARROW
    for tile in (NARROW, QUARTER):
        if columns <= tile[1]:
            return tile
    for tile in (WIDE, HALF) if columns > 64 and packed else (HALF,):
        if blocks(rows, tile[0]) * blocks(columns, tile[1]) * layers >= _card(device)[0]:
            return tile
    return SMALL


def rows_times_filters(x: cupy.ndarray, filters: cupy.ndarray, z: cupy.ndarray, exact: bool) -> None:
    """z (M, N) = x (M, K) @ filters (N, K)^T, all C-contiguous: a convolution of one-pixel windows."""
    (m, k), n = x.shape, len(filters)
    gather(x, filters.reshape(n, k, 1, 1), None, z, ConvGeometry.of((m, k, 1, 1), (n, k, 1, 1)), False, exact)


# ---- weights -----------------------------------------------------------------------------------------------------------

LONGEST = 8192  # pixels that are added one after another


def weight_gradient(gy: cupy.ndarray, x: cupy.ndarray, gw: cupy.ndarray, g: ConvGeometry, exact: bool) -> None:
    """Write gw (O, C/groups, kh, kw), contiguous, from gy (N, oh, ow, O) and x (N, H, W, C), contiguous."""
    device, taps, inputs = cupy.cuda.runtime.getDevice(), g.kh * g.kw, g.c // g.groups
    left = _width(g.o // g.groups, gy)
    right = _width(inputs, x) if left > 1 else 1
    plan = _weight_plan(g, _arithmetic(x.dtype, exact, device), x.itemsize, left, right, device)
    arguments, grid, sizes, shared, splits, pixels = plan
    parts = cupy.empty((splits, g.o, taps * inputs), np.float64 if x.dtype == np.float64 else np.float32)
    _weight(arguments, grid, BLOCK, (gy, x, parts, sizes, pixels), shared)
    values = (parts, gw, *map(np.int32, (splits, g.o, taps, inputs)))
    _weight_sum((c_type(x.dtype),), blocks(gw.size), THREADS, values)


@lru_cache(maxsize=4096)
def _weight_plan(g: ConvGeometry, math: str, itemsize: int, left: int, right: int, device: int) -> tuple:
    """(template arguments, blocks, sizes, bytes of shared memory, parts of the sum, pixels of a part)."""
    outputs, columns = g.o // g.groups, g.kh * g.kw * (g.c // g.groups)
    tile = _weight_tile(math, left, right, outputs, columns)
    across, down = blocks(columns, tile[1]), blocks(outputs, tile[0])
    pixels, step = g.n * g.oh * g.ow, 64 // itemsize
    splits = _splits(pixels, step, across * down * g.groups, g.groups, device)
    pad = 8 if math == "Tf32" else 16 // itemsize
    shared = 4 * step * PIXEL + STAGES * step * (tile[0] + tile[1] + 2 * pad) * itemsize
    a_part = np.int64(blocks(pixels, splits * step) * step)
    return (math, *tile, left, right), (across, down, g.groups * splits), window(g), shared, splits, a_part


def _weight_tile(math: str, left: int, right: int, outputs: int, columns: int) -> tuple[int, int, int]:
    if math.startswith("Exact") or 1 in (left, right):
        return SMALL
    if outputs <= 32:
        return (16, 128, 1) if outputs <= 16 else (32, 128, 2)
    return WIDE if outputs > 64 and columns > 64 else SMALL


def _splits(pixels: int, step: int, tiles: int, groups: int, device: int) -> int:
    """Into how many parts the sum over the pixels is divided: enough for every multiprocessor, but not shorter than 8 steps."""
    wanted = blocks(3 * _card(device)[0], tiles)
    return max(1, min(max(wanted, blocks(pixels, LONGEST)), blocks(pixels, 8 * step), 65535 // groups))
