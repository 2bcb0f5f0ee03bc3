"""The update of stochastic gradient descent. See ``kernels/reference/optimizer.py`` for the formula."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..layout import flat_views
from ._compiler import device_function, kernel, prange

__all__ = ["sgd_momentum"]

BLOCK = 16384  # elements a task
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
    arrays = [parameter, gradient] if velocity is None else [parameter, gradient, velocity]
    flat = flat_views(*arrays)
    copied = flat is None
    if copied:
        flat = [array.flatten() for array in arrays]
    p, g, v = flat if velocity is not None else (*flat, flat[0][:0])
    mode = PLAIN if velocity is None else FIRST if first else NEXT
    factors = _factors(parameter.dtype.type, lr, momentum, dampening, weight_decay)
    _sgd(p, g, v, *factors, bool(nesterov), bool(maximize), mode, p.size, -(-p.size // BLOCK), work=4 * p.size)
    if copied:
        parameter[...] = p.reshape(parameter.shape)
        if velocity is not None:
            velocity[...] = v.reshape(velocity.shape)


@lru_cache(maxsize=64)
def _factors(number, *values):
    """Numbers of the arrays' dtype: a Python float would make float32 arithmetic float64."""
    return tuple(map(number, values))


@kernel
def _sgd(p, g, v, lr, momentum, dampening, decay, nesterov, maximize, mode, size, blocks):
    for block in prange(blocks):
        start, stop = block * BLOCK, min(size, (block + 1) * BLOCK)
        if mode == PLAIN:
            _plain_block(p[start:stop], g[start:stop], lr, decay, maximize)
        else:
            arrays = p[start:stop], g[start:stop], v[start:stop]
            _momentum_block(*arrays, lr, momentum, dampening, decay, nesterov, maximize, mode == FIRST)


@device_function(reassociate=False)
def _plain_block(p, g, lr, decay, maximize):
    for i in range(p.size):
        p[i] -= lr * _direction(p[i], g[i], decay, maximize)


@device_function(reassociate=False)
def _momentum_block(p, g, v, lr, momentum, dampening, decay, nesterov, maximize, first):
    for i in range(p.size):
        step = _direction(p[i], g[i], decay, maximize)
        damped = step if dampening == 0 else step - dampening * step  # no sum adds two products, see loss.py
        velocity = step if first else damped + momentum * v[i]
        v[i] = velocity
        p[i] -= lr * (step + momentum * velocity if nesterov else velocity)


@device_function(reassociate=False)
def _direction(p, g, decay, maximize):
    g = -g if maximize else g
    return g if decay == 0 else g + decay * p
