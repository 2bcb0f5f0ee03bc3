"""Dropout: elements or whole channels set to zero at random while training (Srivastava et al. 2014)."""

from __future__ import annotations

import numpy as np

from minigrad.device import device_of, move
from minigrad.ops._base import check_float, check_inplace, op, quiet, record, record_inplace, xp
from minigrad.random import generator
from minigrad.tensor import Tensor

__all__ = ["dropout", "dropout2d"]


def _check_probability(p: float) -> None:
    if isinstance(p, bool) or not isinstance(p, (int, float, np.integer, np.floating)) or not 0 <= p <= 1:
        raise ValueError(f"p must be a probability in 0 ... 1, got {p!r}")


def _noise(x: Tensor, shape: tuple[int, ...], p: float):
    """What x is multiplied by: 0 with probability p, else 1 / (1 - p), in the dtype and memory order of x.

    Drawn in the order of the indices, on the processor: a seed gives the same result for every memory order and device.
    """
    kept = generator().random(shape, dtype=np.float32) >= p
    noise = xp(x).empty_like(x.data) if shape == x.shape else xp(x).empty(shape, x.dtype)
    noise[...] = move(kept, device_of(x.data))
    noise *= 1 / (1 - p) if p < 1 else 0
    return noise


@op
@quiet
def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets each element to 0 with probability ``p`` and multiplies the others by 1 / (1 - p), so that the mean stays.

    With ``training=False`` or p = 0 it returns ``x`` itself.
    """
    _check_probability(p)
    check_float(x)
    if not training or p == 0:
        return x
    if inplace:
        check_inplace(x)  # before the generator moves on
    noise = _noise(x, x.shape, float(p))

    def backward(gy):
        return gy * noise

    if inplace:
        x.data *= noise
        return record_inplace(x, (x,), backward)
    return record(x.data * noise, (x,), backward)


@op
@quiet
def dropout2d(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Spatial dropout (Tompson et al. 2015): sets whole channels of x (N, C, H, W) to 0 with probability ``p``.

    The other channels are multiplied by 1 / (1 - p). With ``training=False`` or p = 0 it returns ``x`` itself.
    """
    _check_probability(p)
    if check_float(x).ndim != 4:
        raise ValueError(f"x must be (N, C, H, W), got shape {x.shape}: use dropout for other tensors")
    if not training or p == 0:
        return x
    if inplace:
        check_inplace(x)  # before the generator moves on
    noise = _noise(x, (*x.shape[:2], 1, 1), float(p))

    def backward(gy):
        return gy * noise

    if inplace:
        x.data *= noise
        return record_inplace(x, (x,), backward)
    return record(x.data * noise, (x,), backward)
