"""What batch normalization keeps of its statistics. See ``kernels/reference/statistics.py``."""

from __future__ import annotations

import cupy
import numpy as np

from ._compiler import THREADS, Kernel, blocks, c_type, on_device

__all__ = ["normalization_constants", "update_running"]

_constants = Kernel("statistics.cu", "normalization_constants", [("float",), ("double",)])
_update = Kernel("statistics.cu", "update_running", [("float",), ("double",)])


@on_device
def normalization_constants(
    mean: cupy.ndarray,
    var: cupy.ndarray,
    weight: cupy.ndarray | None,
    bias: cupy.ndarray | None,
    eps: float,
    own_mean: bool,
    own_affine: bool,
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray | None, cupy.ndarray | None]:
    """See reference. One launch."""
    mean, var = (cupy.ascontiguousarray(a, var.dtype) for a in (mean, var))
    kept = cupy.empty(mean.shape, var.dtype) if own_mean else None
    rstd = cupy.empty(var.shape, var.dtype)
    given = [None if p is None else cupy.ascontiguousarray(p, var.dtype) for p in (weight, bias)]
    own = [cupy.empty(p.shape, var.dtype) if own_affine and p is not None else None for p in given]
    parameters = max((p.size for p in own if p is not None), default=0)
    real = var.dtype.type
    values = (mean, var, *given, kept, rstd, *own, real(eps), np.int64(var.size), np.int64(parameters))
    _constants((c_type(var.dtype),), blocks(max(var.size, parameters)), THREADS, values)
    weight, bias = own if own_affine else given
    return kept if own_mean else mean, rstd, weight, bias


def update_running(
    running_mean: cupy.ndarray | None,
    running_var: cupy.ndarray | None,
    mean: cupy.ndarray,
    var: cupy.ndarray,
    momentum: float,
    correction: float,
    counter: cupy.ndarray | None = None,
) -> None:
    """See reference. One launch."""
    with mean.device:
        kind, targets = mean.dtype, [a for a in (running_mean, running_var) if a is not None]
        # What does not lie in memory as the kernel wants it is updated in a copy.
        copies = [
            a if a is None or (a.dtype == kind and a.flags.c_contiguous) else a.astype(kind) for a in (running_mean, running_var)
        ]
        given = cupy.ascontiguousarray(mean), cupy.ascontiguousarray(var, kind)
        values = (*copies, *given, counter, np.float64(momentum), np.float64(correction), np.int32(mean.size))
        _update((c_type(kind),), max(1, blocks(mean.size)), THREADS, values)
        for target, copy in zip(targets, [c for c in copies if c is not None], strict=True):
            if copy is not target:
                target[...] = copy
