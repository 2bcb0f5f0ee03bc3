"""Dropout: what it multiplies by (Srivastava et al. 2014)."""

from __future__ import annotations

import numpy as np

__all__ = ["dropout_noise"]


def dropout_noise(x: np.ndarray, shape: tuple[int, ...], p: float, generator: np.random.Generator) -> np.ndarray:
    """0 with probability p, else 1 / (1 - p), so that the mean stays; everywhere 0 for p = 1.

    An element is 0 where ``generator.random(shape, dtype=np.float32)`` is below p. The numbers are drawn in the order of the
    indices: a seed gives the same result for every memory order and device.

    x gives the dtype, and its memory order if ``shape`` is its shape; p: 0 ... 1. Returns the array; the generator moves on.
    """
    kept = generator.random(shape, dtype=np.float32) >= p
    noise = np.empty_like(x) if tuple(shape) == x.shape else np.empty(shape, x.dtype)
    noise[...] = kept
    noise *= 1 / (1 - p) if p < 1 else 0
    return noise
