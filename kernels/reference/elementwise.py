"""Rectifiers and sums, element by element: the specification."""

from __future__ import annotations

import numpy as np

__all__ = ["add", "relu_backward", "relu_forward"]


def relu_forward(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """max(x, 0); NaN stays NaN.

    x: any shape. Returns ``out`` (which may be x), or a new array of x's shape, dtype and memory order.
    """
    y = np.empty_like(x) if out is None else out
    y[...] = np.where(x <= 0, 0, x)
    return y


def relu_backward(gy: np.ndarray, y: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
    """The gradient gx of max(x, 0) from its result y: gy where y > 0 or y is NaN, else 0. The derivative at 0 is 0.

    ``other``: a second gradient of y, or None; the two are added. gy, y, other: one shape and dtype. Returns a new array of y's
    memory order: gy is selected and not multiplied, so Inf does not become 0 * Inf.
    """
    gx = np.empty_like(y)
    gx[...] = np.where(y <= 0, 0, gy if other is None else gy + other)
    return gx


def add(x: np.ndarray, y: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """x + y for arrays of one shape and dtype.

    Returns ``out`` (which may be x or y), or a new array of x's shape, dtype and memory order.
    """
    total = np.empty_like(x) if out is None else out
    total[...] = x + y
    return total
