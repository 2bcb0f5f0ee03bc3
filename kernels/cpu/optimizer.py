"""The update of stochastic gradient descent. See ``kernels/reference/optimizer.py`` for the formula."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numba import config

from ..layout import flat_views
from ._compiler import check_writeable, device_function, kernel, prange
from ._threads import get_num_threads
from ._vector import fill, fma, lanes, load, load_first, store, store_first

__all__ = ["sgd_momentum", "sgd_momentum_all"]

PLAIN, FIRST, NEXT = 0, 1, 2  # without a velocity; its first value; any later one


def sgd_momentum(
    parameter: np.ndarray,
    gradient: np.ndarray,
    velocity: np.ndarray | None,
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
    parameters: Sequence[np.ndarray],
    gradients: Sequence[np.ndarray],
    velocities: Sequence[np.ndarray] | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: Sequence[bool],
) -> None:
    """See reference. One launch for the arrays of each dtype; those of different memory orders, or not aligned, are copied.

    Those of 16-bit numbers are copied to float32, and rounded at the end.
    """
    groups, copies = {}, []
    for index, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        v = p if velocities is None else velocities[index]  # without one, no kernel looks at it
        if not (p.flags.writeable and v.flags.writeable):
            check_writeable(parameter=p, velocity=v)
        flat, dtype = flat_views(p, g, v), p.dtype if p.dtype.itemsize > 2 else np.dtype(np.float32)
        if flat is None or dtype != p.dtype or not (p.flags.aligned and g.flags.aligned and v.flags.aligned):
            flat = [array.flatten().astype(dtype, copy=False) for array in (p, g, v)]
            copies.append((p, flat[0]))
            if v is not p:
                copies.append((v, flat[2]))
        mode = PLAIN if velocities is None else FIRST if first[index] else NEXT
        groups.setdefault(dtype, []).append((*flat, mode))
    for dtype, group in groups.items():
        factors = _factors(dtype.type, -1 if maximize else 1, weight_decay, -dampening, momentum, -lr)
        for some in [[one] for one in group] if config.DISABLE_JIT else [group]:
            _update(some, factors, bool(nesterov))
    for array, values in copies:
        array[...] = values.reshape(array.shape)


@lru_cache(maxsize=64)
def _factors(number, *values):
    """Numbers of the arrays' dtype: a Python float would make float32 arithmetic float64."""
    return tuple(map(number, values))


def _update(group, factors, nesterov) -> None:
    """One launch for arrays of one dtype; without the compiler a group has one member, because there are no addresses then."""
    table = np.empty((len(group), 5), np.int64)
    size = 0
    for row, arrays in enumerate(group):
        _enter(table, row, *arrays, work=0)
        size += arrays[0].size
    _sgd(*group[0][:3], table, factors, nesterov, get_num_threads(), work=size)


@kernel
def _enter(table, row, p, g, v, mode):
    """Where the arrays lie in memory."""
    for one in prange(1):
        at = row + one
        table[at, 0], table[at, 1], table[at, 2] = p.ctypes.data, g.ctypes.data, v.ctypes.data
        table[at, 3], table[at, 4] = p.size, mode


@kernel(reassociate=False)
def _sgd(p, g, v, table, factors, nesterov, workers):
    """Arrays that lie anywhere in memory, as if they were elements of the first three. Every worker takes a part of each."""
    for worker in prange(workers):
        for row in range(table.shape[0]):
            size, mode, step = table[row, 3], table[row, 4], 4 * lanes(p)
            begin, end = size // step * worker // workers * step, size // step * (worker + 1) // workers * step
            if worker == workers - 1:
                end = size
            at_p, at_g, at_v = table[row, 0] - table[0, 0], table[row, 1] - table[0, 1], table[row, 2] - table[0, 2]
            places = at_p // p.itemsize, at_g // p.itemsize, at_v // p.itemsize
            _update_part(p, g, v, places, begin, end, mode, factors, nesterov)


@device_function(reassociate=False)
def _update_part(p, g, v, places, begin, end, mode, factors, nesterov):
    at_p, at_g, at_v = places
    sign, decay, damping, momentum, rate = factors
    step = lanes(p)
    for i in range(begin, end, step):
        count = min(step, end - i)
        x = load(p, at_p + i) if count == step else load_first(p, at_p + i, count)
        direction = load(g, at_g + i) if count == step else load_first(g, at_g + i, count)
        if sign < 0:
            direction = direction * fill(p, sign)
        if decay != 0:
            direction = fma(fill(p, decay), x, direction)
        if mode != PLAIN:
            velocity = direction
            if mode == NEXT:
                before = load(v, at_v + i) if count == step else load_first(v, at_v + i, count)
                if damping != 0:
                    velocity = fma(fill(p, damping), direction, direction)
                velocity = fma(fill(p, momentum), before, velocity)
            if count == step:
                store(v, at_v + i, velocity)
            else:
                store_first(v, at_v + i, velocity, count)
            direction = fma(fill(p, momentum), velocity, direction) if nesterov else velocity
        x = fma(fill(p, rate), direction, x)
        if count == step:
            store(p, at_p + i, x)
        else:
            store_first(p, at_p + i, x, count)
