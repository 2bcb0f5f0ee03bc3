"""Kernels: arrays in, arrays out. No Tensor, no autograd.

Three implementations with the same names and signatures: ``reference`` (plain NumPy, the specification), ``cpu`` (Numba) and
``cuda`` (CuPy). ``for_array(x)`` gives the one that fits an array. The environment variable ``MINIGRAD_KERNELS=reference``
forces the specification, to check a result or to run where Numba cannot.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import numpy as np

__all__ = ["for_array"]

_by_type: dict[type, ModuleType] = {}


def for_array(x) -> ModuleType:
    """The kernel module for the array ``x``: ``cpu`` (or ``reference`` where forced) for NumPy, ``cuda`` for CuPy.

    Raises TypeError for anything that is not an array of one of the two.
    """
    module = _by_type.get(type(x))
    return module if module is not None else _find(type(x))


def _find(kind: type) -> ModuleType:
    library = kind.__module__.split(".")[0]
    if issubclass(kind, (np.ndarray, np.generic)):  # a generic is what NumPy makes of arrays without dimensions
        choice = os.environ.get("MINIGRAD_KERNELS", "cpu")
        if choice not in ("cpu", "reference"):
            raise ValueError(f'MINIGRAD_KERNELS must be "cpu" or "reference", got {choice!r}')
    elif library == "cupy":
        choice = "cuda"
    else:
        raise TypeError(f"expected a NumPy or CuPy array, got {library}.{kind.__name__}")
    _by_type[kind] = importlib.import_module("." + choice, __name__)
    return _by_type[kind]
