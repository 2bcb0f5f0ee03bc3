"""Which algorithm computes a convolution: one table, which a caller can overrule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..geometry import ConvGeometry

__all__ = ["ALGORITHMS", "algorithm", "choose"]

# Which geometries an algorithm is best for. The first whose condition holds is taken; fastest first.
ALGORITHMS: dict[str, Callable[[ConvGeometry], bool]] = {
    # Loops over the window with no matrix in between. Depthwise convolutions have one weight a channel and nothing to multiply.
    "direct": lambda g: g.c == g.groups > 1,
    # A quarter of the multiplications, where tiles of 4x4 pixels fit and the channels outweigh the transforms.
    "winograd": lambda g: _has_tiles(g) and min(g.c, g.o) >= 16 and min(g.oh, g.ow) > 2,
    # No columns: the lines of the image are their own.
    "lines": lambda g: g.groups == 1 and g.kh * g.kw * max(g.sh, g.sw) > 1 and g.ow >= 7 and g.c <= 128,
    # Columns for a few pixels at a time, times the weight.
    "im2col": lambda g: True,
}

# What an algorithm cannot compute is left to the table when that algorithm is forced.
POSSIBLE: dict[str, Callable[[ConvGeometry], bool]] = {
    "direct": lambda g: True,
    "winograd": lambda g: _has_tiles(g),
    "lines": lambda g: g.groups == 1,
    "im2col": lambda g: True,
}


def _has_tiles(g: ConvGeometry) -> bool:
    return (g.kh, g.kw, g.sh, g.sw, g.dh, g.dw, g.groups) == (3, 3, 1, 1, 1, 1, 1)


_forced: ContextVar[str | None] = ContextVar("minigrad convolution algorithm", default=None)


@contextmanager
def algorithm(name: str) -> Iterator[None]:
    """Compute every convolution of this thread by one algorithm: ``with algorithm("im2col"): ...``

    Names: "direct" (loops over the window), "winograd" (3x3 windows with stride 1), "lines" (products with the lines of the image,
    one group), "im2col" (columns for a few pixels at a time, then a product). What an algorithm cannot compute is left to the
    table. Raises ValueError for another name.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(map(repr, ALGORITHMS))}, got {name!r}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def choose(geometry: ConvGeometry) -> str:
    """The name of the algorithm for a convolution: the forced one, else the first of the table that fits."""
    forced = _forced.get()
    if forced is not None and POSSIBLE[forced](geometry):
        return forced
    return next(name for name, fits in ALGORITHMS.items() if fits(geometry))
