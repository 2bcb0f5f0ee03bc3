"""Which algorithm computes a convolution: one table, which a caller can overrule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..geometry import ConvGeometry

__all__ = ["ALGORITHMS", "algorithm", "choose"]

# Every algorithm computes every geometry. The first whose condition holds is taken; fastest first.
ALGORITHMS: dict[str, Callable[[ConvGeometry], bool]] = {
    # Loops over the window with no matrix in between. Depthwise convolutions have one weight a channel and nothing to multiply.
    "direct": lambda g: g.c == g.groups > 1,
    # Columns for a few pixels at a time, times the weight.
    "im2col": lambda g: True,
}

_forced: ContextVar[str | None] = ContextVar("minigrad convolution algorithm", default=None)


@contextmanager
def algorithm(name: str) -> Iterator[None]:
    """Compute every convolution of this thread by one algorithm: ``with algorithm("im2col"): ...``

    Names: "direct" (loops over the window), "im2col" (columns for a few pixels at a time, then a product). Raises ValueError
    for another name.
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
    return _forced.get() or next(name for name, fits in ALGORITHMS.items() if fits(geometry))
