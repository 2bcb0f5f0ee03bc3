"""Batch, layer, instance and group normalization as one kernel family, and local response normalization.

The four normalizations differ only in which elements share a mean and a variance. All of them work on a contiguous view
x (M, A, B, L) of the activation, with one statistic for each (m, b), taken over A and L. On channels-last memory:

    Batch     (1, N*H*W, C, 1)        each channel over the batch         (Ioffe and Szegedy 2015)
    Instance  (N, H*W,   C, 1)        each channel of each image          (Ulyanov, Vedaldi and Lempitsky 2016)
    Group     (N, H*W,   G, C/G)      each group of channels of an image  (Wu and He 2018)
    Layer     (N, 1,     1, elements) each image                          (Ba, Kiros and Hinton 2016)

The learned scale (weight) and shift (bias) have one entry for each (b, l).
"""

from __future__ import annotations

import numpy as np

from ..layout import channels_last

__all__ = [
    "local_response_norm_backward",
    "local_response_norm_forward",
    "moments",
    "normalize_backward",
    "normalize_forward",
]


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance (divided by the count, not by count - 1) over A and L.

    The variance is the mean of the squared deviations from the mean. The shortcut mean(x^2) - mean(x)^2 subtracts two nearly
    equal numbers wherever the mean is large beside the deviation, and is never used.

    x: (M, A, B, L). Returns mean (M, B) and var (M, B). Without elements (A * L = 0) both are NaN.
    """
    m, a, b, length = x.shape
    if a * length == 0:
        return np.full((m, b), np.nan, x.dtype), np.full((m, b), np.nan, x.dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is NaN, as it should be
        mean = x.mean(axis=(1, 3), dtype=np.float64)
        var = np.square(x - mean[:, None, :, None]).mean(axis=(1, 3))
        return mean.astype(x.dtype), var.astype(x.dtype)


def normalize_forward(
    x: np.ndarray,
    mean: np.ndarray,
    rstd: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    addend: np.ndarray | None = None,
    rectify: bool = False,
) -> np.ndarray:
    """y = (x - mean) * rstd * weight + bias, and what often follows: + addend, and max(., 0) if ``rectify``.

    x: (M, A, B, L). mean, rstd: (M, B); rstd = 1 / sqrt(var + eps). weight, bias: (B, L), or None for 1 and 0.
    addend: like x, or None. Returns y, like x.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        y = _standardized(x, mean, rstd)
        if weight is not None:
            y = y * weight
        if bias is not None:
            y = y + bias
        if addend is not None:
            y = y + addend
        if rectify:
            y = np.where(y <= 0, 0, y)
        return y.astype(x.dtype)


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
    """The three gradients of ``normalize_forward``.

    With xhat = (x - mean) * rstd and g = gy * weight, where mean and rstd were computed from x,

        gx = rstd * (g - average(g) - xhat * average(g * xhat)),      averages over A and L, one for each (m, b):

    moving one x also moves the mean (second term) and the deviation (third). Where they are constants
    (``through_statistics`` false: a layer in evaluation mode), gx = rstd * g.

    gy, x: (M, A, B, L); mean, rstd: (M, B); weight, bias: (B, L) or None. If ``rectify``, gy is the gradient of max(y, 0),
    without addend: it counts where y is positive (or NaN), and only for that is the bias needed. Returns gx, like x;
    gweight = sum of gy * xhat and gbias = sum of gy over M and A, both (B, L).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        xhat = _standardized(x, mean, rstd)
        if rectify:
            gy = np.where(normalize_forward(x, mean, rstd, weight, bias) <= 0, 0, gy)
        gweight = (gy * xhat).sum(axis=(0, 1))
        gbias = gy.sum(axis=(0, 1), dtype=np.float64)
        gx = gy.astype(np.float64) if weight is None else gy * weight.astype(np.float64)
        if through_statistics and x.size:
            projection = (gx * xhat).mean(axis=(1, 3), keepdims=True)
            gx = gx - gx.mean(axis=(1, 3), keepdims=True) - xhat * projection
        gx = gx * rstd[:, None, :, None]
        return gx.astype(x.dtype), gweight.astype(x.dtype), gbias.astype(x.dtype)


def _standardized(x, mean, rstd):
    """(x - mean) * rstd in float64."""
    return (x.astype(np.float64) - mean[:, None, :, None]) * rstd[:, None, :, None].astype(np.float64)


# ----- local response normalization -----


def local_response_norm_forward(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> tuple[np.ndarray, np.ndarray]:
    """Each value divided by a power of the energy of its channel neighbours (Krizhevsky et al. 2012, section 3.3).

        scale[c] = k + alpha * sum of x[j]^2 over the channels j from c - size // 2 to c + (size - 1) // 2
        y[c] = x[c] * scale[c] ** -beta

    Channels that do not exist count as 0. ``alpha`` is the paper's; PyTorch's is ``size`` times as large.

    x: (N, C, H, W). Returns y and scale, like x.
    """
    x64 = x.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        scale = k + alpha * _window_sum(x64 * x64, size // 2, (size - 1) // 2)
        y = x64 * scale**-beta
        return channels_last(y.astype(x.dtype)), channels_last(scale.astype(x.dtype))


def local_response_norm_backward(
    gy: np.ndarray, x: np.ndarray, scale: np.ndarray, size: int, alpha: float, beta: float
) -> np.ndarray:
    """The gradient of ``local_response_norm_forward`` with respect to x.

    x[c] appears in y[c] itself, and in the scale of every channel j whose window holds c. By the product rule

        gx[c] = gy[c] * scale[c] ** -beta - 2 alpha beta x[c] * sum over those j of gy[j] * x[j] * scale[j] ** (-beta - 1),

    and j's window holds c when j is between c - (size - 1) // 2 and c + size // 2: the window, mirrored.

    gy, x, scale: (N, C, H, W). Returns gx, like x.
    """
    gy64, x64, scale64 = (array.astype(np.float64) for array in (gy, x, scale))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        through_scale = _window_sum(gy64 * x64 * scale64 ** (-beta - 1), (size - 1) // 2, size // 2)
        gx = gy64 * scale64**-beta - 2 * alpha * beta * x64 * through_scale
        return channels_last(gx.astype(x.dtype))


def _window_sum(values, before, after):
    """Sum over the channels c - before ... c + after, for every channel c of (N, C, H, W)."""
    c = values.shape[1]
    padded = np.pad(values, ((0, 0), (before, after), (0, 0), (0, 0)))
    return sum(padded[:, j : j + c] for j in range(before + 1 + after))
