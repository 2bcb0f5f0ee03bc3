"""Softmax and cross-entropy in one. See ``kernels/reference/loss.py`` for the formulas.

A loss is a small part of a training step, so the arithmetic is float64 for float32 logits too.
"""

from __future__ import annotations

import math

import numpy as np

from ._compiler import device_function, kernel, prange

__all__ = ["cross_entropy_backward", "cross_entropy_forward"]

EXPONENTIAL = 20  # an exponential costs about as much as this many additions


def cross_entropy_forward(
    logits: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int, label_smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    """See reference. One task for each row."""
    logits = np.ascontiguousarray(logits)
    m, count = logits.shape
    losses, logsumexp = np.empty(m, logits.dtype), np.empty(m)
    w = _class_weights(weight, count)
    target = np.ascontiguousarray(target)
    _forward(losses, logsumexp, logits, target, w, ignore_index, float(label_smoothing), m, work=EXPONENTIAL * logits.size)
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
    glosses, logits, target = (np.ascontiguousarray(array) for array in (glosses, logits, target))
    m, count = logits.shape
    glogits = np.empty_like(logits)
    w = _class_weights(weight, count)
    _backward(
        glogits,
        glosses,
        logits,
        logsumexp,
        target,
        w,
        float(w.sum()),
        ignore_index,
        float(label_smoothing),
        m,
        work=EXPONENTIAL * logits.size,
    )
    return glogits


def _class_weights(weight, count):
    return np.ones(count) if weight is None else weight.astype(np.float64)


@kernel
def _forward(losses, logsumexp, logits, target, weight, ignore_index, smoothing, m):
    for i in prange(m):
        logsumexp[i] = _logsumexp(logits[i])
        losses[i] = 0.0 if target[i] == ignore_index else _loss(logits[i], logsumexp[i], target[i], weight, smoothing)


@device_function
def _logsumexp(x):
    largest = np.float64(x[0])
    for k in range(x.size):
        if x[k] > largest or x[k] != x[k]:
            largest = np.float64(x[k])
    total = 0.0
    for k in range(x.size):
        total += math.exp(x[k] - largest)
    return largest + math.log(total)


@device_function
def _loss(x, logsumexp, target, weight, smoothing):
    loss = (1 - smoothing) * weight[target] * (logsumexp - x[target])
    if smoothing != 0:
        spread = 0.0
        for k in range(x.size):
            spread += weight[k] * (logsumexp - x[k])
        loss += smoothing / x.size * spread
    return loss


@kernel
def _backward(glogits, glosses, logits, logsumexp, target, weight, weight_sum, ignore_index, smoothing, m):
    for i in prange(m):
        if target[i] == ignore_index:
            glogits[i] = 0
        else:
            g = np.float64(glosses[i])
            _row_gradient(glogits[i], g, logits[i], logsumexp[i], target[i], weight, weight_sum, smoothing)


@device_function
def _row_gradient(glogits, g, x, logsumexp, target, weight, weight_sum, smoothing):
    true_weight = (1 - smoothing) * weight[target]
    share = smoothing / x.size
    for k in range(x.size):
        p = math.exp(x[k] - logsumexp)
        gradient = true_weight * (p - 1.0 if k == target else p)
        if smoothing != 0:
            gradient += share * (weight_sum * p - weight[k])
        glogits[k] = g * gradient
