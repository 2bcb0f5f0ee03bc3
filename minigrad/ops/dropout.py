"""Dropout: elements or whole channels set to zero at random while training (Srivastava et al. 2014)."""

from __future__ import annotations

import numpy as np

from minigrad.kernels import for_array
from minigrad.ops._base import check_float, check_inplace, op, quiet, record, record_inplace, times
from minigrad.random import generator
from minigrad.tensor import Tensor

__all__ = ["dropout", "dropout2d"]


def _check_probability(p: float) -> None:
    if isinstance(p, bool) or not isinstance(p, (int, float, np.integer, np.floating)) or not 0 <= p <= 1:
        raise ValueError(f"p must be a probability in 0 ... 1, got {p!r}")


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
    noise = for_array(x.data).dropout_noise(x.data, x.shape, float(p), generator())

    def backward(gy):
        return times(gy, noise)

    if inplace:
        x.data *= noise
        return record_inplace(x, (x,), backward)
    return record(times(x.data, noise), (x,), backward)


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
    noise = for_array(x.data).dropout_noise(x.data, (*x.shape[:2], 1, 1), float(p), generator())

    def backward(gy):
        return times(gy, noise)

    if inplace:
        x.data *= noise
        return record_inplace(x, (x,), backward)
    return record(times(x.data, noise), (x,), backward)
