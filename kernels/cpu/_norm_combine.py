"""Combining the means and variances of parts."""

from __future__ import annotations

from ._compiler import device_function, kernel, prange

__all__ = ["combine"]


@kernel
def combine(mean, var, means, squares, m, b, size, block):
    """Mean and biased variance (M, B) of parts whose means and sums of squared deviations are (M, parts, fold, B, L).

    The parts cut ``size`` elements into blocks of ``block`` (the last one may be smaller); each has ``fold`` * L columns.
    The squared deviations of all elements are those inside the parts plus those of the parts' means (Chan, Golub and
    LeVeque 1983): sums of positive terms, which cannot cancel.
    """
    for task in prange(m * b):
        i, j = task // b, task % b
        mean[i, j], var[i, j] = _combined(means[i, :, :, j], squares[i, :, :, j], size, block)


@device_function(reassociate=False)
def _combined(means, squares, size, block):
    parts, fold, length = means.shape
    total = 0.0
    for part in range(parts):
        count = min(block, size - part * block)
        for f in range(fold):
            for t in range(length):
                total += count * means[part, f, t]
    scale = 1.0 / (size * fold * length)
    mean = total * scale
    total = 0.0
    for part in range(parts):
        count = min(block, size - part * block)
        for f in range(fold):
            for t in range(length):
                deviation = means[part, f, t] - mean
                total += squares[part, f, t] + count * deviation * deviation
    return mean, total * scale
