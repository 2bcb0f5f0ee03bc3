"""Kernels touch the memory that they are given, and no other: behind it, or before it, lies a page that cannot be read.

Indices of vectors are not checked, and most mistakes there would read or write something that is there by chance. So everything
runs once more in a process where each array ends, or begins, at such a page, and where new arrays are full of NaN.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import math
import mmap
import os
import sys

import numpy as np
import pytest

from minigrad.kernels import cpu
from minigrad.kernels.cpu._algorithms import ALGORITHMS, POSSIBLE, WINOGRAD
from minigrad.kernels.cpu._compiler import build
from minigrad.kernels.layout import channels_last
from tests.kernels.agreement import DTYPES
from tests.kernels.rules import SOURCES
from tests.kernels.small import finish, start
from tests.kernels.test_bits import results_of_all_kernels
from tests.kernels.test_convolution import CASES, all_results, arrays, geometry

PAGE = mmap.PAGESIZE


class Guarded:
    """Arrays that end ("end") or begin ("begin") at a page that cannot be touched."""

    def __init__(self, side: str):
        self.side = side
        self.protect = ctypes.CDLL(None, use_errno=True).mprotect

    def empty(self, shape, dtype) -> np.ndarray:
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        pages = max(1, -(-size // PAGE)) * PAGE
        memory = np.frombuffer(mmap.mmap(-1, pages + PAGE), np.uint8)
        guard = memory.ctypes.data + (pages if self.side == "end" else 0)
        assert self.protect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0) == 0
        first = pages - size if self.side == "end" else PAGE
        array = memory[first : first + size].view(dtype).reshape(shape)
        if dtype.kind == "f":
            array.fill(np.nan)
        return array

    def zeros(self, shape, dtype) -> np.ndarray:
        array = self.empty(shape, dtype)
        array.fill(0)
        return array

    def copy(self, array) -> np.ndarray:
        """The same numbers in the same memory order."""
        order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        copy = self.empty([array.shape[axis] for axis in order], array.dtype).transpose(np.argsort(order))
        copy[...] = array
        return copy

    def install(self) -> None:
        """Let all kernels take their memory from here."""
        for name in SOURCES:
            module = importlib.import_module(f"minigrad.kernels.cpu.{name}")
            for function in ("empty", "zeros"):
                if hasattr(module, function):
                    setattr(module, function, getattr(self, function))


def convolutions(guarded) -> None:
    """All cases of convolutions by all algorithms that can compute them."""
    for case, dtype in ((case, dtype) for case in CASES for dtype in DTYPES):
        g, results = geometry(case), {}
        x, weight, bias, gy = arrays(case, "integers", dtype)
        given = [guarded.copy(array) for array in (channels_last(x), weight, bias, channels_last(gy))]
        for name in ALGORITHMS:
            if POSSIBLE[name](g):
                with cpu.algorithm(name):
                    print(case, name, dtype.__name__, file=sys.stderr, flush=True)
                    results[name] = all_results(cpu, *given, g)
        for name, arrays_ in results.items():
            for key, array in arrays_.items():
                assert np.isfinite(array).all(), (case, name, key)
                np.testing.assert_allclose(array, results["direct"][key], rtol=0, atol=1 if name in WINOGRAD else 0)


def main(side: str) -> None:
    faulthandler.enable()
    guarded = Guarded(side)
    with build("serial"):
        plain = [list(results_of_all_kernels(dtype)) for dtype in DTYPES]
        guarded.install()
        convolutions(guarded)
        for dtype, expected in zip(DTYPES, plain, strict=True):
            for (name, arrays_), (_, others) in zip(results_of_all_kernels(dtype, guarded.copy), expected, strict=True):
                print(name, dtype.__name__, file=sys.stderr, flush=True)
                for array, other in zip(*((a if isinstance(a, tuple) else (a,)) for a in (arrays_, others)), strict=True):
                    np.testing.assert_array_equal(array, other)
    print("true")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs mprotect")
@pytest.mark.parametrize("side", ["begin", "end"])
def test_kernels_stay_in_their_memory(side):
    """(Where the process ends with SIGSEGV, the last line tells the kernel.)"""
    assert finish(start("-m", "tests.kernels.test_memory", side), timeout=600)[0] is True


def test_the_guard_is_noticed():
    """A kernel that reads one number too many ends the process."""
    code = (
        "import numpy as np; from tests.kernels.test_memory import Guarded; from tests.kernels.test_vector import _move\n"
        "x = Guarded('{}').empty((64,), np.float32)\n_move(x, np.zeros(64, np.float32), {}, 0, 0, 0, work=1)"
    )
    for side, first in (("end", 63), ("begin", -1)):
        finish(start("-c", code.format(side, first)), returncode=-11)
        finish(start("-c", code.format(side, 0)))


if __name__ == "__main__":
    main(*sys.argv[1:])
