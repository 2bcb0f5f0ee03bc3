"""What dropout multiplies by. See ``kernels/reference/dropout.py``."""

from __future__ import annotations

import numpy as np

from ..layout import empty_like
from ._buffers import empty

__all__ = ["dropout_noise"]


def dropout_noise(x: np.ndarray, shape: tuple[int, ...], p: float, generator: np.random.Generator) -> np.ndarray:
    """See reference. NumPy draws, and NumPy multiplies."""
    kept = generator.random(shape, dtype=np.float32) >= p
    noise = empty_like(x, empty) if tuple(shape) == x.shape else empty(shape, x.dtype)
    noise[...] = kept
    noise *= 1 / (1 - p) if p < 1 else 0
    return noise
