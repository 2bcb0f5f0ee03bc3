"""A stand-in for CuPy: the names that minigrad uses, over NumPy, with CuPy's manners, and kernels that run on the processor.

It is as strict as CuPy where the two libraries differ: arrays of both never mix, nothing becomes a NumPy array unasked,
reductions give arrays without dimensions, and the values of a launch must have the sizes of the parameters. In one thing it is
stricter: memory holds NaN until it is written, and has borders that are looked at after every launch.
"""

from __future__ import annotations

import contextlib
import sys
import types

import numpy as np

from tests.cuda.standin import functions
from tests.cuda.standin.arrays import inside, ndarray
from tests.cuda.standin.blas import gemm_ex
from tests.cuda.standin.launching import RawKernel, RawModule
from tests.cuda.standin.memory import POOL, Device, MemoryHook, MemoryPool, OutOfMemoryError, get_allocator, set_allocator
from tests.cuda.standin.names import CREATION, FUNCTIONS, SAME
from tests.cuda.standin.streams import CUDARuntimeError, Event, Graph, Stream

__all__ = ["RawKernel", "install", "module"]

MAKING = ("empty", "empty_like", "array", "asarray", "ascontiguousarray", "asnumpy", "from_dlpack")


def _library() -> types.ModuleType:
    made = types.ModuleType("cupy")
    made.__version__, made.ndarray = "14.0.0", ndarray
    for name in FUNCTIONS:
        setattr(made, name, functions.function_of(name))
    for name in CREATION:
        setattr(made, name, functions.creation(name))
    for name in SAME:
        setattr(made, name, getattr(np, name))
    for name in MAKING:
        setattr(made, name, getattr(functions, name))
    made.result_type = lambda *values: np.result_type(*(v.dtype if isinstance(v, ndarray) else v for v in values))
    made.lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=functions.as_strided))
    made.may_share_memory = lambda a, b: np.may_share_memory(*inside((a, b)))
    made.RawModule, made.RawKernel = RawModule, RawKernel
    made.get_default_memory_pool = lambda: POOL
    made.get_default_pinned_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: None)
    made.is_available = lambda: True
    made.cuda = _cuda()
    for kind in (ndarray, RawKernel, RawModule):
        kind.__module__ = "cupy"
    return made


def _cuda() -> types.ModuleType:
    cuda = types.ModuleType("cupy.cuda")
    cuda.Device, cuda.Stream, cuda.Event, cuda.Graph = Device, Stream, Event, Graph
    cuda.get_current_stream = lambda: Stream.current
    cuda.MemoryPool, cuda.MemoryHook = MemoryPool, MemoryHook
    cuda.set_allocator, cuda.get_allocator = set_allocator, get_allocator
    cuda.alloc_pinned_memory = bytearray
    cuda.nvrtc = types.SimpleNamespace(getVersion=lambda: (13, 0))
    cuda.using_allocator = lambda allocator: contextlib.nullcontext()
    cuda.get_elapsed_time = lambda start, end: 1.0
    cuda.is_available = lambda: True
    cuda.memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cuda.runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDevice=lambda: 0,
        deviceSynchronize=Stream.wait,
        getDeviceProperties=lambda index: {
            "name": b"stand-in",
            "multiProcessorCount": 4,
            "major": 9,
            "minor": 0,
            "totalGlobalMem": POOL.limit,
        },
        memGetInfo=lambda: (POOL.limit - POOL.total_bytes(), POOL.limit),
        runtimeGetVersion=lambda: 13000,
        driverGetVersion=lambda: 13000,
        CUDARuntimeError=CUDARuntimeError,
    )
    cuda.device = types.SimpleNamespace(get_cublas_handle=lambda: 1, Device=Device)
    return cuda


module = _library()


def install() -> None:
    """Make ``import cupy`` give the stand-in."""
    sys.modules["cupy"] = module
    sys.modules["cupy.cuda"] = module.cuda
    for name in ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules[name].cublas = types.SimpleNamespace(gemmEx=gemm_ex)
