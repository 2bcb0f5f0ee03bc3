"""Runs the CUDA kernels for tests that know NumPy arrays only: on a card where there is one, else on the stand-in."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterator

import numpy as np

__all__ = ["as_cupy", "cuda", "has_card", "to_card", "to_host"]


@functools.cache
def has_card() -> bool:
    """Whether CuPy is here and finds a graphics card."""
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceCount() > 0
    except Exception:  # a broken driver shows itself in many exception types
        return False


@functools.cache
def _library():
    if has_card():
        return importlib.import_module("cupy")
    from tests.cuda import standin

    with _installed(standin):
        importlib.import_module("minigrad.kernels.cuda")
    return standin.module


@contextlib.contextmanager
def _installed(standin) -> Iterator[None]:
    """Inside, ``import cupy`` gives the stand-in; for everybody else there is no CuPy."""
    before = {name: sys.modules.get(name) for name in ("cupy", "cupy.cuda")}
    standin.install()
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@contextlib.contextmanager
def as_cupy() -> Iterator:
    """Inside, the whole framework computes on "cuda": on a card where there is one, else on the stand-in. Gives the library."""
    library = _library()
    if has_card():
        yield library
        return
    from tests.cuda import standin

    with _installed(standin):
        yield library


def to_card(array: np.ndarray):
    """A copy on the card with the same strides: gaps, reversed axes and repeated rows too."""
    if array.dtype.hasobject or array.size == 0:
        return _library().asarray(array)
    low = sum(min(0, (n - 1) * s) for n, s in zip(array.shape, array.strides, strict=True))
    high = sum(max(0, (n - 1) * s) for n, s in zip(array.shape, array.strides, strict=True)) + array.itemsize
    raw = np.full(high - low, 0xFF, np.uint8)  # what lies in the gaps is NaN
    np.ndarray(array.shape, array.dtype, raw, -low, array.strides)[...] = array
    memory = _library().asarray(raw)
    return _library().ndarray(array.shape, array.dtype, memory.data + -low, array.strides)


def to_host(array) -> np.ndarray:
    """A NumPy copy whose axes lie in memory in the same order."""
    order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    return array.transpose(order).get().transpose(np.argsort(order)) if order else array.get()


def _converted(value, convert, kind):
    if isinstance(value, kind):
        return convert(value)
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)([_converted(v, convert, kind) for v in value])
    return value


class _Cuda:
    """``minigrad.kernels.cuda`` with NumPy arrays in and out; what a kernel writes into its arguments is copied back."""

    @property
    def __name__(self) -> str:
        return "minigrad.kernels.cuda"

    @property
    def module(self):
        _library()
        return importlib.import_module("minigrad.kernels.cuda")

    def __getattr__(self, name: str):
        kernel = getattr(self.module, name)
        if not callable(kernel):
            return kernel

        @functools.wraps(kernel)
        def call(*args, **kwargs):
            pairs: dict[int, tuple] = {}

            def given(array: np.ndarray):
                if id(array) not in pairs:
                    pairs[id(array)] = (array, to_card(array))
                return pairs[id(array)][1]

            moved = _converted(list(args), given, np.ndarray)
            named = {k: _converted(v, given, np.ndarray) for k, v in kwargs.items()}
            result = kernel(*moved, **named)
            for array, card in pairs.values():
                if array.flags.writeable:
                    array[...] = card.get()
            for array, card in pairs.values():
                if result is card:
                    return array
            return _converted(result, to_host, _library().ndarray)

        return call


cuda = _Cuda()
