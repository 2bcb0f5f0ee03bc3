"""Compiling kernels with Numba."""

from __future__ import annotations

import numba
from numba import prange

__all__ = ["device_function", "kernel", "prange"]

# Contractions and reassociation make loops vectorize; nnan and ninf stay off, so that NaN stays NaN and Inf stays Inf.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
OPTIONS = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}

# Below this many elementary operations a kernel runs on the calling thread: waking others would cost more.
SERIAL_WORK = 100_000


class Kernel:
    """A function that fills the arrays it is given, built twice from one source: serial, and parallel over its prange."""

    def __init__(self, function):
        self.serial = numba.njit(**OPTIONS)(function)
        self.parallel = numba.njit(parallel=True, **OPTIONS)(function)

    def __call__(self, *args, work):
        """Run on all threads if ``work`` (elementary operations, roughly) is worth it, else on this one."""
        if work < SERIAL_WORK:
            self.serial(*args)
        else:
            self.parallel(*args)


def kernel(function):
    """Decorator: a module-level function of arrays and numbers with one ``prange`` over disjoint outputs; returns nothing."""
    return Kernel(function)


def device_function(function):
    """Decorator: a small function that kernels call."""
    return numba.njit(**OPTIONS)(function)
