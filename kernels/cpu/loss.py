"""Softmax and cross-entropy in one. See ``kernels/reference/loss.py`` for the formulas.

A loss is a small part of a training step, so the arithmetic is float64 for float32 logits too. As in all kernels, no sum adds
two products: the compiler may round one product and sum at once, and which one would be its choice.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ._compiler import device_function, kernel, prange

__all__ = ["cross_entropy_backward", "cross_entropy_forward"]

EXPONENTIAL = 20  # an exponential costs about as much as this many additions


def cross_entropy_forward(
    logits: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int, label_smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    """See reference. One task for each row."""
    logits, target = np.ascontiguousarray(logits), np.ascontiguousarray(target)
    m = len(logits)
    losses, logsumexp = np.empty(m, logits.dtype), np.empty(m)
    sharp, smooth, _ = _class_weights(weight, logits.shape[1], label_smoothing)
    work = EXPONENTIAL * logits.size
    _forward(losses, logsumexp, logits, target, sharp, smooth, ignore_index, label_smoothing != 0, m, work=work)
    return losses, logsumexp


def cross_entropy_backward(
    glosses: np.ndarray,
    logits: np.ndarray,
    logsumexp: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    label_smoothing: float,
) -> np.ndarray:
    """See reference. One task for each row."""
    logits, target = np.ascontiguousarray(logits), np.ascontiguousarray(target)
    glosses = glosses.copy()  # what mean() hands back is read-only, for which another build would be compiled
    glogits = np.empty_like(logits)
    sharp, smooth, total = _class_weights(weight, logits.shape[1], label_smoothing)
    work = EXPONENTIAL * logits.size
    _backward(glogits, glosses, logits, logsumexp, target, sharp, smooth, total, ignore_index, len(logits), work=work)
    return glogits


def _class_weights(weight, count, smoothing):
    """What -log p of a class counts in a loss: ``sharp`` of the target, and besides ``smooth`` of every class; its sum."""
    if weight is None:
        return _equal_weights(count, smoothing)
    weight = weight.astype(np.float64)
    smooth = smoothing / max(count, 1) * weight
    return (1 - smoothing) * weight, smooth, smooth.sum()


@lru_cache(maxsize=64)
def _equal_weights(count, smoothing):
    return _class_weights(np.ones(count), count, smoothing)


@kernel
def _forward(losses, logsumexp, logits, target, sharp, smooth, ignore_index, smoothed, m):
    for i in prange(m):
        logsumexp[i] = _logsumexp(logits[i])
        if target[i] == ignore_index:
            losses[i] = 0
        else:
            losses[i] = _loss(logits[i], logsumexp[i], target[i], sharp, smooth, smoothed)


@device_function(reassociate=False)
def _logsumexp(x):
    largest = np.float64(x[0])
    for k in range(x.size):
        if x[k] > largest or x[k] != x[k]:
            largest = np.float64(x[k])
    total = 0.0
    for k in range(x.size):
        total += math.exp(x[k] - largest)
    return largest + math.log(total)


@device_function(reassociate=False)
def _loss(x, logsumexp, target, sharp, smooth, smoothed):
    spread = 0.0
    if smoothed:
        for k in range(x.size):
            spread += smooth[k] * (logsumexp - x[k])
    return sharp[target] * (logsumexp - x[target]) + spread


@kernel
def _backward(glogits, glosses, logits, logsumexp, target, sharp, smooth, smooth_sum, ignore_index, m):
    for i in prange(m):
        if target[i] == ignore_index:
            glogits[i] = 0
        else:
            _row_gradient(glogits[i], glosses[i], logits[i], logsumexp[i], target[i], sharp, smooth, smooth_sum)


@device_function(reassociate=False)
def _row_gradient(glogits, g, x, logsumexp, target, sharp, smooth, smooth_sum):
    total = sharp[target] + smooth_sum
    for k in range(x.size):
        share = sharp[k] + smooth[k] if k == target else smooth[k]
        glogits[k] = g * (math.exp(x[k] - logsumexp) * total - share)
