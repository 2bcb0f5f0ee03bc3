"""Which algorithm computes a convolution on a card: one table, which a caller can overrule, and which numbers are multiplied."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from ..geometry import ConvGeometry

__all__ = ["ALGORITHMS", "POSSIBLE", "algorithm", "allow_tf32", "choose", "is_exact", "without_cublas"]

# Which geometries an algorithm is best for. The first whose condition holds is taken.
ALGORITHMS: dict[str, Callable[[ConvGeometry], bool]] = {
    # Loops over the window: groups of so few channels that tiles of a product would be mostly empty.
    "direct": lambda g: g.groups > 1 and (g.c // g.groups) * (g.o // g.groups) <= 256,
    # The image is the matrix: one product by cuBLAS.
    "product": lambda g: _is_product(g),
    # A product that gathers what the windows see on its way into shared memory.
    "implicit": lambda g: True,
    # Columns in memory, then a product.
    "im2col": lambda g: True,
}

# What an algorithm cannot compute is left to the table when that algorithm is forced.
POSSIBLE: dict[str, Callable[[ConvGeometry], bool]] = {
    "direct": lambda g: True,
    "product": lambda g: _is_product(g),
    "implicit": lambda g: g.groups <= MOST_GROUPS,
    "im2col": lambda g: g.groups == 1,
}

MOST_GROUPS = 1024  # times the phases of a stride, or the parts of a sum, they number the blocks along z


def _is_product(g: ConvGeometry) -> bool:
    return (g.kh, g.kw, g.sh, g.sw, g.groups, g.top, g.bottom, g.left, g.right) == (1, 1, 1, 1, 1, 0, 0, 0, 0)


_forced: ContextVar[str | None] = ContextVar("minigrad convolution algorithm on a card", default=None)
_exact: ContextVar[bool] = ContextVar(
    "minigrad exact convolution on a card", default=os.environ.get("MINIGRAD_EXACT", "0") not in ("", "0")
)
allow_tf32 = {"convolution": True, "product": False}  # PyTorch's defaults


@contextmanager
def algorithm(name: str | None = None, *, exact: bool | None = None) -> Iterator[None]:
    """Choose how the convolutions of this thread are computed: ``with algorithm("im2col"): ...`` or ``algorithm(exact=True)``.

    ``exact``: every product and sum of float32 numbers in float32. Otherwise convolutions of float32 run on the tensor cores of
    cards that have TF32 ones (since 2020), which round the factors to 10 bits of fraction: an error of some 3e-4 of a typical
    output. That is PyTorch's default too. The environment variable MINIGRAD_EXACT=1 makes exactness the default.

    Names: "direct" (loops over the window), "product" (1x1 windows, cuBLAS), "implicit" (a product that gathers the window; the
    matrix products of layers then take that kernel too) and "im2col" (columns in memory, then a product). What an algorithm
    cannot compute is left to the table. Raises ValueError for another name.
    """
    if name is not None and name not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(map(repr, ALGORITHMS))}, got {name!r}")
    if exact is not None and not isinstance(exact, bool):
        raise TypeError(f"exact must be True or False, got {exact!r}")
    tokens = _forced.set(_forced.get() if name is None else name), _exact.set(_exact.get() if exact is None else exact)
    try:
        yield
    finally:
        _forced.reset(tokens[0])
        _exact.reset(tokens[1])


def is_exact(what: str = "convolution") -> bool:
    """Whether float32 numbers keep all their bits in a "convolution" or a "product"."""
    return _exact.get() or not allow_tf32[what]


def without_cublas() -> bool:
    """Whether products take the project's own kernel too."""
    return _forced.get() == "implicit"


def choose(geometry: ConvGeometry) -> str:
    """The name of the algorithm for a convolution: the forced one, else the first of the table that fits."""
    return _chosen(geometry, _forced.get())


@lru_cache(maxsize=1024)
def _chosen(geometry: ConvGeometry, forced: str | None) -> str:
    if forced is not None and POSSIBLE[forced](geometry):
        return forced
    fits = (name for name, condition in ALGORITHMS.items() if condition(geometry) and POSSIBLE[name](geometry))
    return next(fits, "direct")
