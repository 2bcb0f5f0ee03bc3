"""The update of stochastic gradient descent. See ``kernels/reference/optimizer.py`` for the formula."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cupy
import numpy as np

from ..layout import flat_views
from ._capture import fault
from ._compiler import FLOATS, THREADS, WIDTHS, Kernel, blocks, c_type, on_device

__all__ = ["sgd_momentum", "sgd_momentum_all"]

PLAIN, FIRST, NEXT = 0, 1, 2  # without a velocity; its first value; any later one
LIMIT, PIECE = 112, 2048  # as in optimizer.cu and many.cuh: arrays of a launch, numbers of a block

_sgd = Kernel("optimizer.cu", "sgd", [(t, WIDTHS[t]) for t in FLOATS])


def sgd_momentum(
    parameter: cupy.ndarray,
    gradient: cupy.ndarray,
    velocity: cupy.ndarray | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None:
    """See reference. One pass over the memory of the three arrays; only arrays of different memory orders are copied."""
    sgd_momentum_all(
        *([parameter], [gradient], None if velocity is None else [velocity]),
        *(lr, momentum, dampening, weight_decay, nesterov, maximize, [first]),
    )


def sgd_momentum_all(
    parameters: Sequence[cupy.ndarray],
    gradients: Sequence[cupy.ndarray],
    velocities: Sequence[cupy.ndarray] | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: Sequence[bool],
) -> None:
    """See reference. One launch for a hundred arrays of a dtype; those of different memory orders or dtypes are copied.

    lr: also a float64 array without dimensions on the card, which the kernel reads: a captured launch follows its changes.
    """
    if len(parameters):
        options = lr, momentum, dampening, weight_decay, nesterov, maximize, first
        _update_all(parameters, gradients, velocities, *options)


@on_device
def _update_all(parameters, gradients, velocities, lr, momentum, dampening, weight_decay, nesterov, maximize, first) -> None:
    groups, copies = {}, []
    for index, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        v = p if velocities is None else velocities[index]  # without one, no kernel looks at it
        same = p.dtype == g.dtype == v.dtype
        flat = flat_views(p, g, v) if same else None
        if flat is None:
            flat = [array.astype(p.dtype).flatten() for array in (p, g, v)]
            copies.append((p, flat[0]))
            if v is not p:
                copies.append((v, flat[2]))
        mode = PLAIN if velocities is None else FIRST if first[index] else NEXT
        if p.size:
            groups.setdefault(p.dtype, []).append((*flat, mode))
    on_card = isinstance(lr, cupy.ndarray)
    lr = lr.astype(np.float64, copy=False) if on_card else lr
    for dtype, group in groups.items():
        real = np.float64 if dtype == np.float64 else np.float32
        rate = 0 if on_card else -lr
        factors = _factors(real, -1 if maximize else 1, weight_decay, -dampening, momentum, rate)
        for start in range(0, len(group), LIMIT):
            _launch(group[start : start + LIMIT], factors, nesterov, lr if on_card else None)
    for array, values in copies:
        array[...] = values.reshape(array.shape)


@lru_cache(maxsize=64)
def _factors(number, *values):
    """Launch values of the type in which the kernel computes."""
    return tuple(map(number, values))


def _launch(group: list[tuple], factors: tuple, nesterov: bool, lr: cupy.ndarray | None) -> None:
    """One launch for arrays of one dtype, whose table is a value of the launch: nothing is copied to the card."""
    value = np.zeros(4 * LIMIT + LIMIT // 2, np.int64)  # the structure Table of optimizer.cu
    table, end = value[: 4 * LIMIT].reshape(4, LIMIT), value[4 * LIMIT :].view(np.int32)
    total = 0
    for row, (*arrays, mode) in enumerate(group):
        places = [array.data.ptr for array in arrays]
        size = arrays[0].size
        total += blocks(size, PIECE)
        aligned = all(place % 16 == 0 for place in places)
        table[:, row] = *places, 8 * size + 4 * aligned + mode
        end[row] = total
    kind = c_type(group[0][0].dtype)
    values = value, np.int32(len(group)), np.int32(nesterov), lr, fault(), *factors
    _sgd((kind, WIDTHS[kind]), total, THREADS, values)
