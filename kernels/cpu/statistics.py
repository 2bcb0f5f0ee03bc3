"""What batch normalization keeps of its statistics. See ``kernels/reference/statistics.py``.

A few numbers for each channel: NumPy is as fast as a compiled loop would be.
"""

from __future__ import annotations

import numpy as np

__all__ = ["normalization_constants", "update_running"]


def normalization_constants(
    mean: np.ndarray,
    var: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    own_mean: bool,
    own_affine: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """See reference. In the dtype of the variance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rstd = (1.0 / np.sqrt(var + eps)).astype(var.dtype, copy=False)
    if own_affine:
        weight, bias = None if weight is None else weight.copy(), None if bias is None else bias.copy()
    return mean.copy() if own_mean else mean, rstd, weight, bias


def update_running(
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    mean: np.ndarray,
    var: np.ndarray,
    momentum: float,
    correction: float,
    counter: np.ndarray | None = None,
) -> None:
    """See reference. Both are changed or, if there is no memory, neither."""
    pairs = (running_mean, mean), (running_var, var * correction)
    steps = [(running, momentum * new) for running, new in pairs if running is not None]
    for running, step in steps:
        running *= 1 - momentum
        running += step
    if counter is not None:
        counter += 1
