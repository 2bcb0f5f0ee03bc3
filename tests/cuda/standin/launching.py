"""Kernels of the stand-in: they are built for the processor, and run there."""

from __future__ import annotations

import numpy as np

from tests.cuda.host import HostModule, host_module
from tests.cuda.standin.arrays import ndarray
from tests.cuda.standin.memory import MemoryPointer
from tests.cuda.standin.streams import CUDARuntimeError, Stream

__all__ = ["RawKernel", "RawModule"]


class RawKernel:
    """A kernel of a module: runs on the processor."""

    backwards = False  # the threads, from the last to the first
    launches = 0

    def __init__(self, module: HostModule, name: str):
        self.host, self.name = module, name
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None) -> None:
        grid, block = (tuple(int(n) for n in (*d, 1, 1)[:3]) for d in (grid, block))
        if np.prod(block) > 1024 or min(block) < 1 or block[2] > 64:
            raise CUDARuntimeError(f"CUDA_ERROR_INVALID_VALUE: a block of {block} threads")
        if min(grid) < 1 or grid[0] >= 2**31 or max(grid[1:]) > 65535:
            raise CUDARuntimeError(f"CUDA_ERROR_INVALID_VALUE: a grid of {grid} blocks")
        if shared_mem > min(self.max_dynamic_shared_size_bytes, 227 * 1024):
            raise CUDARuntimeError(f"CUDA_ERROR_INVALID_VALUE: {shared_mem} bytes of shared memory")
        RawKernel.launches += 1
        kept = [_value(a) for a in args]  # the values as they are now, wherever the launch is run

        def run():
            pointers, sizes = [v.ctypes.data for v in kept], [v.nbytes for v in kept]
            self.host.run(self.name, grid, block, pointers, sizes, shared_mem, RawKernel.backwards)
            for a in args:
                if isinstance(a, ndarray) and a._memory is not None and not a._memory.check():
                    raise RuntimeError(f"{self.name} wrote beyond the end of an array")

        if Stream.current.notes is None:
            run()
        else:
            Stream.current.notes.append(run)


def _value(value) -> np.ndarray:
    """The bytes of a launch's value."""
    if isinstance(value, ndarray):
        return np.array([value._array.ctypes.data], np.uintp)
    if value is None:
        raise RuntimeError("CuPy makes of None no null pointer but a parameter that lies nowhere: use np.uintp(0)")
    if isinstance(value, MemoryPointer):
        return np.array([value.ptr], np.uintp)
    if isinstance(value, np.ndarray):
        if value.size != 1:
            raise TypeError(
                f"a numpy.ndarray of shape {value.shape} as a kernel parameter: only those of size one are passed by value"
            )
        return value.copy()
    if isinstance(value, np.generic):
        return np.array([value])
    if isinstance(value, bool):
        return np.array([value], np.bool_)
    if isinstance(value, int):
        return np.array([value], np.int64)
    if isinstance(value, float):
        return np.array([value], np.float64)
    raise TypeError(f"Unsupported type {type(value)}")


class RawModule:
    """The text of a file, for the kernels that ``name_expressions`` lists."""

    def __init__(self, *, code=None, path=None, options=(), backend="nvrtc", name_expressions=None, jitify=False):
        self.module, self.names = host_module(code), tuple(name_expressions or ())

    def get_function(self, name: str) -> RawKernel:
        if name not in self.names:
            raise ValueError(f"{name} is none of the name_expressions")
        return RawKernel(self.module, name)
