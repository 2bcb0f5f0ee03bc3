"""Matrix products: the specification."""

from __future__ import annotations

import numpy as np

__all__ = ["matmul"]


def matmul(x: np.ndarray, y: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """z[..., m, n] = bias[n] + sum over k of x[..., m, k] * y[..., k, n].

    x: (M, K) or a stack (B, M, K); y: (K, N) or a stack (B, K, N) of as many; any strides. bias: (N,) or None. Returns a
    contiguous array (M, N) or (B, M, N) of their dtype.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is NaN, as it should be
        z = np.matmul(x.astype(np.float64), y.astype(np.float64))
        if bias is not None:
            z = z + bias
        return z.astype(x.dtype)
