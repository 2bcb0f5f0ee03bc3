"""Softmax and cross-entropy in one, which is both stable and cheaper than one after the other."""

from __future__ import annotations

import numpy as np

__all__ = ["check_labels", "cross_entropy_backward", "cross_entropy_forward"]


def cross_entropy_forward(
    logits: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int, label_smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    """The loss of every row, before any reduction.

    With log p[k] = logits[k] - logsumexp(logits), class weights w, and smoothing s (Szegedy et al. 2016, section 7),

        loss = -(1 - s) * w[target] * log p[target] - s / K * sum over k of w[k] * log p[k].

    Rows whose target is ``ignore_index`` have loss 0. The largest logit is subtracted before any exponential, so no logit
    overflows; -inf is a class that is impossible. A row without a finite largest logit has the loss NaN, as in PyTorch.

    logits: (M, K). target: (M,) int64, in 0 ... K - 1 or ``ignore_index``. weight: (K,), or None for 1.
    Returns losses (M,) and logsumexp (M,), which the backward pass needs; the latter is float64 whatever the dtype, because
    rounded to float32 it would shift every probability of a row of large logits (by 0.05 % for logits near 10^4).
    """
    log_p, logsumexp = _log_softmax(logits)
    kept = target != ignore_index
    rows, classes = np.flatnonzero(kept), target[kept]
    w = np.ones(logits.shape[1]) if weight is None else weight.astype(np.float64)
    losses = np.zeros(len(logits))
    with np.errstate(invalid="ignore", over="ignore"):
        losses[rows] = -(1 - label_smoothing) * w[classes] * log_p[rows, classes]
        if label_smoothing:
            losses[rows] -= label_smoothing / logits.shape[1] * (w * log_p[rows]).sum(axis=1)
        return losses.astype(logits.dtype), logsumexp


def cross_entropy_backward(
    glosses: np.ndarray,
    logits: np.ndarray,
    logsumexp: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None,
    ignore_index: int,
    label_smoothing: float,
) -> np.ndarray:
    """The gradient of ``cross_entropy_forward`` with respect to the logits.

    With p = softmax(logits), the derivative of -log p[j] by logits[k] is p[k] - [k = j], so

        glogits[k] = gloss * ((1 - s) * w[target] * (p[k] - [k = target]) + s / K * (sum(w) * p[k] - w[k])),

    and 0 in ignored rows. Without weights and smoothing: softmax minus one-hot.

    glosses, logsumexp, target: (M,); logits: (M, K); weight: (K,) or None. Returns glogits (M, K).
    """
    count = logits.shape[1]
    kept = target != ignore_index
    rows, classes = np.flatnonzero(kept), target[kept]
    w = np.ones(count) if weight is None else weight.astype(np.float64)
    g = np.zeros(logits.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        p = np.exp(logits[rows].astype(np.float64) - logsumexp[rows, None])
        true_weight = (1 - label_smoothing) * w[classes]
        g[rows] = true_weight[:, None] * p
        g[rows, classes] -= true_weight
        if label_smoothing:
            g[rows] += label_smoothing / count * (w.sum() * p - w)
        g[rows] *= glosses[rows, None]
        return g.astype(logits.dtype)


def check_labels(target: np.ndarray, classes: int, ignore_index: int) -> bool:
    """Whether every label is in 0 ... classes - 1 or ``ignore_index``.

    The two kernels above index with labels, so this is asked before. target: integers of any shape.
    """
    return bool((((target >= 0) & (target < classes)) | (target == ignore_index)).all())


def _log_softmax(logits):
    """log softmax and log sum exp of every row, in float64."""
    x = logits.astype(np.float64)
    if not x.size:
        return x, np.zeros(len(x))
    with np.errstate(invalid="ignore", divide="ignore"):
        largest = x.max(axis=1, keepdims=True)
        logsumexp = largest + np.log(np.exp(x - largest).sum(axis=1, keepdims=True))
        return x - logsumexp, logsumexp[:, 0]
