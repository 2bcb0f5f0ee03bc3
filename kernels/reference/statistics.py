"""What batch normalization keeps of its statistics: the numbers that its passes read, and the running averages."""

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
    """The arrays that ``normalize_forward`` and ``normalize_backward`` read: (mean, rstd, weight, bias).

    rstd = 1 / sqrt(var + eps), of var's shape and dtype. ``own_mean`` and ``own_affine``: copies of the mean, and of weight and
    bias, instead of the arrays themselves, so that nobody changes them between the passes.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        rstd = (1.0 / np.sqrt(var.astype(np.float64) + eps)).astype(var.dtype)
    affine = [p.copy() if own_affine and p is not None else p for p in (weight, bias)]
    return mean.copy() if own_mean else mean, rstd, *affine


def update_running(
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    mean: np.ndarray,
    var: np.ndarray,
    momentum: float,
    correction: float,
    counter: np.ndarray | None = None,
) -> None:
    """Moves running statistics towards those of a batch, in place, with the unbiased variance (Ioffe and Szegedy 2015):

        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * correction * var        correction = count / (count - 1)

    All arrays: (C,). A running array that is None is left out. ``counter``: an int64 array without dimensions that counts the
    batches, or None. Nothing is returned.
    """
    if counter is not None:
        counter += 1
    for running, new in ((running_mean, mean), (running_var, correction * var.astype(np.float64))):
        if running is not None:
            running[...] = (1 - momentum) * running.astype(np.float64) + momentum * new.astype(np.float64)
