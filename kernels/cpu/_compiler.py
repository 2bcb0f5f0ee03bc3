"""Compiling kernels with Numba: each from one source, for one thread and for many.

A kernel is a module-level function that fills arrays it is given:

    @kernel
    def _scale(x, y, factor):
        for i in prange(x.shape[0]):
            y[i] = factor * x[i]

    _scale(x, y, 2.0, work=x.size)

It is compiled for a signature when it is first called with it, and kept on disk (``_cache.py``). The rules, which
``tests/kernels/test_rules.py`` enforces: one ``prange`` whose iterations write to different places; no sum over its
iterations; nothing allocated and nothing raised inside. So threads (``_threads.py``) never change a bit of the result.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numba
from numba import prange

from ._cache import KernelCache
from ._threads import launch, pool, uninterrupted

__all__ = ["Kernel", "build", "check_writeable", "device_function", "kernel", "prange"]

# Contractions and reassociation make loops vectorize; nnan and ninf stay off, so that NaN stays NaN and Inf stays Inf.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
# Kernels make no arrays, so nothing has to count references to those that they are given: each call of a device function would
# do that, atomically, which takes longer than the work on a line of a small image.
OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}

# Below this many elementary operations a kernel runs on the calling thread: waking others would cost more.
SERIAL_WORK = 100_000


class Kernel:
    """A function that fills the arrays it is given, built twice from one source: serial, and parallel over its prange."""

    def __init__(self, function, fastmath: set[str]):
        functools.update_wrapper(self, function)
        self.serial = _compiled(function, fastmath=fastmath, **OPTIONS)
        self.parallel = _compiled(function, fastmath=fastmath, parallel=True, **OPTIONS)

    def __call__(self, *args, work: int) -> None:
        """Run on all threads if ``work`` (elementary operations, roughly) is worth it, else on this one."""
        if work < SERIAL_WORK * pool.launch_cost or pool.count == 1 or not pool.usable:
            self.serial(*args)
        else:
            launch(self.parallel, args)


@contextmanager
def build(name: str) -> Iterator[None]:
    """Inside, all kernels run their "serial" or their "parallel" build, however small the work."""
    call = Kernel.__call__

    def run(self, *args, work):
        if name == "serial":
            self.serial(*args)
        else:
            launch(self.parallel, args)

    Kernel.__call__ = run
    try:
        yield
    finally:
        Kernel.__call__ = call


def kernel(function=None, *, reassociate: bool = True):
    """Decorator: a module-level function of arrays and numbers with one ``prange`` over disjoint outputs; returns nothing.

    Sums over a contiguous axis become vector code only if the compiler may ``reassociate`` them. With False the order of
    every sum is the one that is written.
    """
    if function is None:
        return functools.partial(kernel, reassociate=reassociate)
    return Kernel(function, _fastmath(reassociate))


def device_function(function=None, *, reassociate: bool = True, inline: bool = False):
    """Decorator: a function that kernels call.

    ``reassociate``: see ``kernel``. ``inline``: put its code into its callers, which pays where a call does little.
    """
    if function is None:
        return functools.partial(device_function, reassociate=reassociate, inline=inline)
    return numba.njit(fastmath=_fastmath(reassociate), forceinline=inline, **OPTIONS)(function)


def _fastmath(reassociate: bool) -> set[str]:
    return FASTMATH if reassociate else FASTMATH - {"reassoc"}


def _compiled(function, **options):
    dispatcher = numba.njit(**options)(function)
    if dispatcher is not function:  # with NUMBA_DISABLE_JIT=1 it is the function itself
        dispatcher._cache = KernelCache(function, options)
        dispatcher.compile = uninterrupted(dispatcher.compile)
        dispatcher._compile_for_args = _with_read_only_arrays(dispatcher)
    return dispatcher


def _with_read_only_arrays(dispatcher):
    """What is called for arguments of new types: it gives the build for read-only arrays, too, for arrays that can be written.

    Numba would compile one for every combination of the two. So nothing here notices when a kernel writes to a read-only
    array: whoever gets an array to write to from outside must check it (``check_writeable``).
    """
    compile_for_args = dispatcher._compile_for_args

    def find(*args, **kwargs):
        exact = [dispatcher.typeof_pyval(a) for a in args]
        if kwargs or not any(isinstance(t, numba.types.Array) and not t.mutable for t in exact):
            return compile_for_args(*args, **kwargs)
        general = tuple([t.copy(readonly=False) if isinstance(t, numba.types.Array) else t for t in exact])
        entry = dispatcher.compile(general)
        dispatcher._insert([t._code for t in exact], entry)  # found at once from now on
        return entry

    return find


def check_writeable(**arrays) -> None:
    """Raise ValueError, naming the argument, if one of the arrays (or None) that a kernel is to write to is read-only."""
    for name, array in arrays.items():
        if array is not None and not array.flags.writeable:
            raise ValueError(f"{name} is a read-only array, and results are to be written into it: give a copy()")
