"""Normalization. See ``kernels/reference/normalization.py`` for what each function computes.

A view x (M, A, B, L) is walked so that the inner loop is long and contiguous: by columns (``_norm_columns.py``) where A is
not 1, that is for batch, instance and group normalization, and by rows (``_norm_rows.py``) where A = 1, for layer normalization.
Sums are float64, by columns of sums of eight numbers in their own dtype. A task is a block whose size depends on the shape of x
alone, and the results of blocks are combined in a fixed order: the bits of a result do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np

from ..layout import nhwc
from . import _norm_columns, _norm_rows, elementwise
from ._buffers import empty
from ._compiler import device_function, kernel, prange

__all__ = [
    "local_response_norm_backward",
    "local_response_norm_forward",
    "moments",
    "normalize_backward",
    "normalize_forward",
]


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See reference. Means and squared deviations of blocks, which are then combined."""
    m, _, b, _ = x.shape
    if not x.size:
        return np.full((m, b), np.nan, x.dtype), np.full((m, b), np.nan, x.dtype)
    return _walk(x).moments(x)


def normalize_forward(
    x: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    addend: np.ndarray | None = None,
    rectify: bool = False,
) -> np.ndarray:
    """See reference. y = (x - mean) * (rstd * weight) + bias, in the dtype of x."""
    if not x.size:
        return np.empty(x.shape, x.dtype)
    weight = np.ones(x.shape[2:], x.dtype) if weight is None else weight
    bias = np.zeros(x.shape[2:], x.dtype) if bias is None else bias
    with np.errstate(invalid="ignore", over="ignore"):
        if _walk(x) is _norm_columns:
            return _norm_columns.forward(x, mean, rstd, weight, bias, addend, rectify)
        y = _norm_rows.forward(x, mean, rstd, weight, bias)
        y = y if addend is None else elementwise.add(y, addend, out=y)
        return elementwise.relu_forward(y, out=y) if rectify else y


def normalize_backward(
    gy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    weight: np.ndarray | None,
    through_statistics: bool,
    bias: np.ndarray | None = None,
    rectify: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See reference. One pass over gy and x for all sums, one for gx."""
    if not x.size:
        return np.empty(x.shape, x.dtype), np.zeros(x.shape[2:], x.dtype), np.zeros(x.shape[2:], x.dtype)
    weight = np.ones(x.shape[2:], x.dtype) if weight is None else weight
    bias = np.zeros(x.shape[2:], x.dtype) if bias is None else bias
    with np.errstate(invalid="ignore", over="ignore"):
        if _walk(x) is _norm_columns:
            return _norm_columns.backward(gy, x, mean, rstd, weight, through_statistics, bias, rectify)
        if rectify:
            gy = elementwise.relu_backward(gy, _norm_rows.forward(x, mean, rstd, weight, bias))
        return _norm_rows.backward(gy, x, mean, rstd, weight, through_statistics)


def _walk(x):
    return _norm_rows if x.shape[1] == 1 else _norm_columns


# ----- local response normalization: by blocks of pixels, vectorized over channels -----

PIXELS = 64  # of a block


def local_response_norm_forward(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> tuple[np.ndarray, np.ndarray]:
    """See reference."""
    n, c, h, w = x.shape
    y, scale = empty((n * h * w, c), x.dtype), empty((n * h * w, c), x.dtype)
    factors = (x.dtype.type(factor) for factor in (alpha, beta, k))
    _response(
        nhwc(x).reshape(-1, c), y, scale, size // 2, (size - 1) // 2, *factors, -(-len(y) // PIXELS), work=(size + 20) * x.size
    )
    return tuple(array.reshape(n, h, w, c).transpose(0, 3, 1, 2) for array in (y, scale))


def local_response_norm_backward(
    gy: np.ndarray, x: np.ndarray, scale: np.ndarray, size: int, alpha: float, beta: float
) -> np.ndarray:
    """See reference."""
    n, c, h, w = x.shape
    gx = empty((n * h * w, c), x.dtype)
    inputs = (nhwc(array).reshape(-1, c) for array in (gy, x, scale))
    blocks = -(-len(gx) // PIXELS)
    shares = empty((blocks, c), x.dtype)
    factors = x.dtype.type(2 * alpha * beta), x.dtype.type(beta)
    _response_gradient(*inputs, gx, shares, (size - 1) // 2, size // 2, *factors, blocks, work=(size + 20) * x.size)
    return gx.reshape(n, h, w, c).transpose(0, 3, 1, 2)


@kernel
def _response(x, y, scale, before, after, alpha, beta, k, blocks):
    for block in prange(blocks):
        for pixel in range(block * PIXELS, min(len(x), (block + 1) * PIXELS)):
            _respond(x[pixel], y[pixel], scale[pixel], before, after, alpha, beta, k)


@device_function(reassociate=False)
def _respond(x, y, scale, before, after, alpha, beta, k):
    channels = x.size
    for c in range(channels):
        scale[c] = 0
    for shift in range(-before, after + 1):
        start = min(channels, max(0, -shift))
        stop = max(start, min(channels, channels - shift))  # a window may be wider than there are channels
        _add_squares(scale[start:stop], x[start + shift : stop + shift])
    for c in range(channels):
        scale[c] = k + alpha * scale[c]
    _negative_power(scale, beta, y)
    for c in range(channels):
        y[c] *= x[c]


@kernel
def _response_gradient(gy, x, scale, gx, shares, before, after, factor, beta, blocks):
    for block in prange(blocks):
        for pixel in range(block * PIXELS, min(len(x), (block + 1) * PIXELS)):
            _respond_gradient(gy[pixel], x[pixel], scale[pixel], gx[pixel], shares[block], before, after, factor, beta)


@device_function(reassociate=False)
def _respond_gradient(gy, x, scale, gx, share, before, after, factor, beta):
    channels = x.size
    _negative_power(scale, beta, gx)
    for c in range(channels):
        gx[c] *= gy[c]
        share[c] = factor * gx[c] * x[c] / scale[c]
    for shift in range(-before, after + 1):
        start = min(channels, max(0, -shift))
        stop = max(start, min(channels, channels - shift))  # a window may be wider than there are channels
        _subtract_product(gx[start:stop], x[start:stop], share[start + shift : stop + shift])


@device_function(reassociate=False)
def _add_squares(total, x):
    for c in range(total.size):
        total[c] += x[c] * x[c]


@device_function(reassociate=False)
def _subtract_product(total, x, y):
    for c in range(total.size):
        total[c] -= x[c] * y[c]


@device_function(reassociate=False)
def _negative_power(values, exponent, out):
    """out = values ** -exponent. Square roots are vector instructions, a general power is not: 3/4 is AlexNet's exponent."""
    if exponent == 0.75:
        for i in range(values.size):
            root = math.sqrt(values[i])
            out[i] = np.float32(1) / (root * math.sqrt(root))
    else:
        for i in range(values.size):
            out[i] = values[i] ** -exponent
