"""Which algorithm computes a convolution: one table, which a caller can overrule."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import numpy as np

from ..geometry import ConvGeometry

__all__ = ["ALGORITHMS", "algorithm", "choose"]

# Which geometries an algorithm is best for. The first whose condition holds is taken; fastest first.
ALGORITHMS: dict[str, Callable[[ConvGeometry], bool]] = {
    # Loops over the window with no matrix in between. Depthwise convolutions have one weight a channel and nothing to multiply.
    "direct": lambda g: g.c == g.groups > 1,
    # A quarter of the multiplications, where tiles of 4x4 pixels fit and the channels outweigh the transforms.
    "winograd": lambda g: _has_tiles(g) and min(g.c, g.o) >= 16 and min(g.oh, g.ow) > 2,
    # 16 multiplications instead of 36: for images of few pixels.
    "small winograd": lambda g: _has_tiles(g) and min(g.c, g.o) >= 64 and min(g.oh, g.ow) == 2,
    # No columns: the lines of the image are their own.
    "lines": lambda g: g.groups == 1 and g.kh * g.kw * max(g.sh, g.sw) > 1 and g.ow >= 7 and g.c <= 128,
    # Columns for a few pixels at a time, times the weight.
    "im2col": lambda g: True,
}

# What an algorithm cannot compute is left to the table when that algorithm is forced.
POSSIBLE: dict[str, Callable[[ConvGeometry], bool]] = {
    "direct": lambda g: True,
    "winograd": lambda g: _has_tiles(g),
    "small winograd": lambda g: _has_tiles(g),
    "lines": lambda g: g.groups == 1,
    "im2col": lambda g: True,
}


WINOGRAD = ("winograd", "small winograd")  # which are not exact


def _has_tiles(g: ConvGeometry) -> bool:
    return (g.kh, g.kw, g.sh, g.sw, g.dh, g.dw, g.groups) == (3, 3, 1, 1, 1, 1, 1)


_forced: ContextVar[str | None] = ContextVar("minigrad convolution algorithm", default=None)
_exact: ContextVar[bool] = ContextVar(
    "minigrad exact convolution", default=os.environ.get("MINIGRAD_EXACT", "0") not in ("", "0")
)


@contextmanager
def algorithm(name: str | None = None, *, exact: bool | None = None) -> Iterator[None]:
    """Choose how the convolutions of this thread are computed: ``with algorithm("im2col"): ...`` or ``algorithm(exact=True)``.

    ``exact``: never by Winograd's transforms, which round more (at most 2e-5 of the largest output instead of some 5e-7) and
    spread a NaN or an infinity over a tile of 4x4 outputs. The environment variable MINIGRAD_EXACT=1 makes that the default.
    float64 is always exact, as long as no algorithm is named.

    Names: "direct" (loops over the window), "winograd" and "small winograd" (3x3 windows with stride 1, by tiles of 4x4 and of
    2x2 outputs), "lines" (products with the lines of the image, one group), "im2col" (columns for a few pixels at a time, then a
    product). What an algorithm cannot compute is left to the table. Raises ValueError for another name.
    """
    if name is not None and name not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(map(repr, ALGORITHMS))}, got {name!r}")
    if exact is not None and not isinstance(exact, bool):
        raise TypeError(f"exact must be True or False, got {exact!r}")
    if name in WINOGRAD and exact:
        raise ValueError(f'the algorithm "{name}" is not exact: leave out one of the two')
    tokens = _forced.set(_forced.get() if name is None else name), _exact.set(_exact.get() if exact is None else exact)
    try:
        yield
    finally:
        _forced.reset(tokens[0])
        _exact.reset(tokens[1])


def choose(geometry: ConvGeometry, dtype=np.float32) -> str:
    """The name of the algorithm for a convolution: the forced one, else the first of the table that fits."""
    return _chosen(geometry, dtype == np.float64, _forced.get(), _exact.get())


@lru_cache(maxsize=1024)
def _chosen(geometry: ConvGeometry, double: bool, forced: str | None, exact: bool) -> str:
    if forced is not None and POSSIBLE[forced](geometry) and not (exact and forced in WINOGRAD):
        return forced
    exact = exact or double
    return next(name for name, fits in ALGORITHMS.items() if fits(geometry) and not (exact and name in WINOGRAD))
