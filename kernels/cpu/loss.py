"""Softmax and cross-entropy in one. See ``kernels/reference/loss.py`` for the formulas.

A loss is a small part of a training step, so the arithmetic is float64 for float32 logits too. As in all kernels, no sum adds
two products: the compiler may round one product and sum at once, and which one would be its choice.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ._buffers import empty
from ._compiler import device_function, kernel, prange
from ._exponential import exponential

__all__ = ["check_labels", "cross_entropy_backward", "cross_entropy_forward"]

EXPONENTIAL = 4  # an exponential costs about as much as this many additions


def cross_entropy_forward(
    logits: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int, label_smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    """See reference. One task for each row."""
    logits, target = np.ascontiguousarray(logits), np.ascontiguousarray(target)
    m = len(logits)
    losses, logsumexp = np.empty(m, logits.dtype), np.empty(m)
    sharp, smooth, _ = _class_weights(weight, logits.shape[1], label_smoothing)
    work = EXPONENTIAL * logits.size
    powers = empty(logits.shape, np.float64)
    _forward(losses, logsumexp, powers, logits, target, sharp, smooth, ignore_index, label_smoothing != 0, m, work=work)
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
    glosses = np.ascontiguousarray(glosses)  # what mean() hands back has a stride of 0
    glogits = np.empty_like(logits)
    sharp, smooth, total = _class_weights(weight, logits.shape[1], label_smoothing)
    work = EXPONENTIAL * logits.size
    _backward(glogits, glosses, logits, logsumexp, target, sharp, smooth, total, ignore_index, len(logits), work=work)
    return glogits


def check_labels(target: np.ndarray, classes: int, ignore_index: int) -> bool:
    """See reference. As unsigned numbers negative labels are the largest: mostly one look at the largest is enough."""
    if not target.size or int(target.view(f"u{target.itemsize}").max()) < classes:
        return True
    return bool((((target >= 0) & (target < classes)) | (target == ignore_index)).all())


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
def _forward(losses, logsumexp, powers, logits, target, sharp, smooth, ignore_index, smoothed, m):
    for i in prange(m):
        logsumexp[i] = _logsumexp(logits[i], powers[i])
        if target[i] == ignore_index:
            losses[i] = 0
        else:
            losses[i] = _loss(logits[i], logsumexp[i], target[i], sharp, smooth, smoothed)


@device_function(reassociate=False)
def _logsumexp(x, powers):
    largest = np.float64(_largest(x))
    for k in range(x.size):
        powers[k] = exponential(x[k] - largest)
    return largest + math.log(_total(powers))


# Four numbers of a row at a time, so that none has to wait for the one before it.


@device_function(reassociate=False)
def _largest(x):
    """Of a row with NaN any number, or NaN: it makes NaN of the sum whatever is subtracted."""
    a, b, c, d = x[0], x[0], x[0], x[0]
    whole = x.size - x.size % 4
    for k in range(0, whole, 4):
        a, b = x[k] if x[k] > a else a, x[k + 1] if x[k + 1] > b else b
        c, d = x[k + 2] if x[k + 2] > c else c, x[k + 3] if x[k + 3] > d else d
    for k in range(whole, x.size):
        a = x[k] if x[k] > a else a
    a, c = b if b > a else a, d if d > c else c
    return c if c > a else a


@device_function(reassociate=False)
def _total(x):
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    whole = x.size - x.size % 4
    for k in range(0, whole, 4):
        a, b, c, d = a + x[k], b + x[k + 1], c + x[k + 2], d + x[k + 3]
    for k in range(whole, x.size):
        a += x[k]
    return (a + b) + (c + d)


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
        glogits[k] = g * (exponential(x[k] - logsumexp) * total - share)
