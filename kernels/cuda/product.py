"""Matrix products. See ``kernels/reference/product.py``."""

from __future__ import annotations

import cupy

from ._blas import multiply
from ._compiler import on_device

__all__ = ["matmul"]


@on_device
def matmul(x: cupy.ndarray, y: cupy.ndarray, bias: cupy.ndarray | None = None) -> cupy.ndarray:
    """See reference. By cuBLAS, one product after another of a stack."""
    if x.ndim == y.ndim == 2:
        z = multiply(x, y)
    else:
        count = max(len(a) for a in (x, y) if a.ndim == 3)
        z = cupy.empty((count, x.shape[-2], y.shape[-1]), x.dtype)
        for i in range(count):
            multiply(x[i] if x.ndim == 3 else x, y[i] if y.ndim == 3 else y, z[i])
    if bias is not None:
        z += bias
    return z
