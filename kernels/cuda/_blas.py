"""Matrix products by cuBLAS, and by the project's own kernel where cuBLAS may not be called.

CuPy refuses calls of cuBLAS while a stream is captured into a graph; products of a captured step take the own kernel.
"""

from __future__ import annotations

import cupy
import numpy as np

from ._algorithms import is_exact, without_cublas
from ._capture import needs_own_products
from ._implicit import rows_times_filters

__all__ = ["multiply"]

# cudaDataType and cublasComputeType_t, from library_types.h and cublas_api.h
_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
_COMPUTE = {"float32": 68, "float64": 70, "float16": 68, "bfloat16": 68}
_COMPUTE_TF32 = 77
_NONE, _TRANSPOSED = 0, 1
_DEFAULT_ALGORITHM = -1


def multiply(x: cupy.ndarray, y: cupy.ndarray, out: cupy.ndarray | None = None, what: str = "product") -> cupy.ndarray:
    """z[m, n] = sum over k of x[m, k] * y[k, n] for two matrices of one dtype, each contiguous along one of its axes or copied.

    ``what`` says whose rule for TF32 holds. Sums are taken in float32 (float64 for float64). ``out``: (M, N), C-contiguous.
    """
    (m, k), n = x.shape, y.shape[1]
    z = cupy.empty((m, n), x.dtype) if out is None else out
    if not z.size:
        return z
    if not k:
        z.fill(0)
        return z
    if needs_own_products() or without_cublas():
        rows_times_filters(_contiguous(x), _contiguous(y.T), z, is_exact(what))
    else:
        _gemm(x, y, z, what)
    return z


def _contiguous(x: cupy.ndarray) -> cupy.ndarray:
    return x if x.flags.c_contiguous else x.copy(order="C")


def _gemm(x, y, z, what) -> None:
    """cuBLAS knows columns: what it calls a matrix is ours transposed, so it is asked for z^T = y^T x^T."""
    from cupy_backends.cuda.libs import cublas

    (m, k), n = x.shape, y.shape[1]
    (y, y_turned, y_pitch), (x, x_turned, x_pitch) = _operand(y), _operand(x)
    kind, double = x.dtype.name, x.dtype == np.float64
    compute = _COMPUTE_TF32 if kind == "float32" and not is_exact(what) else _COMPUTE[kind]
    factors = np.array([1, 0], np.float64 if double else np.float32)
    cublas.gemmEx(
        *(cupy.cuda.device.get_cublas_handle(), y_turned, x_turned, n, m, k, factors.ctypes.data),
        *(y.data.ptr, _TYPES[kind], y_pitch, x.data.ptr, _TYPES[kind], x_pitch),
        *(factors.ctypes.data + factors.itemsize, z.data.ptr, _TYPES[kind], n, compute, _DEFAULT_ALGORITHM),
    )


def _operand(x) -> tuple[cupy.ndarray, int, int]:
    """The matrix as cuBLAS takes it: the array, whether it is to be transposed, and its pitch in elements."""
    size = x.itemsize
    rows, columns = x.strides
    if (columns == size or x.shape[1] == 1) and rows % size == 0 and rows >= x.shape[1] * size:
        return x, _NONE, rows // size
    if (rows == size or x.shape[0] == 1) and columns % size == 0 and columns >= x.shape[0] * size:
        return x, _TRANSPOSED, columns // size
    x = x.copy(order="C")
    return x, _NONE, x.shape[1]
