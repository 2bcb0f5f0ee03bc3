"""cuBLAS of the stand-in."""

from __future__ import annotations

import ctypes

import numpy as np

from tests.cuda.standin.streams import Stream

__all__ = ["gemm_ex"]

_CUBLAS_TYPES = {0: "float32", 1: "float64", 2: "float16", 14: "bfloat16"}  # cudaDataType


def _matrix(address: int, kind: int, rows: int, columns: int, pitch: int) -> np.ndarray:
    """A matrix of cuBLAS, whose columns lie one after another in memory."""
    dtype = np.dtype(_CUBLAS_TYPES[kind]) if kind != 14 else _bfloat16()
    if pitch < rows:
        raise ValueError(f"a pitch of {pitch} is less than the {rows} rows")
    count = (columns - 1) * pitch + rows
    raw = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address)
    return np.ndarray((rows, columns), dtype, raw, 0, (dtype.itemsize, pitch * dtype.itemsize))


def _bfloat16() -> np.dtype:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def gemm_ex(handle, transa, transb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute, algorithm):
    """C (m, n) = alpha op(A) op(B) + beta C. Numbers are rounded to TF32 where that is asked for."""
    if Stream.current.notes is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    left = _matrix(a, a_type, *((k, m) if transa else (m, k)), lda)
    right = _matrix(b, b_type, *((n, k) if transb else (k, n)), ldb)
    left, right = (_tf32(x) if compute == 77 else x.astype(np.float64) for x in (left, right))
    factor = np.float64 if compute == 70 else np.float32
    first, second = (np.ndarray((), factor, (ctypes.c_uint8 * 8).from_address(p)) for p in (alpha, beta))
    result = _matrix(c, c_type, m, n, ldc)
    with np.errstate(all="ignore"):
        value = float(first) * ((left.T if transa else left) @ (right.T if transb else right))
        result[...] = value + float(second) * result if float(second) else value


def _tf32(x: np.ndarray) -> np.ndarray:
    bits = x.astype(np.float32).view(np.uint32)
    rounded = ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x).astype(np.float64)
