"""Results that are computed later, together with what follows: normalization, residual sum and rectifier in one pass.

Networks write ``F.relu(self.bn(x))`` and ``out += shortcut; F.relu(out)``. Each op by itself reads and writes the whole image.
So batch normalization hands out a tensor whose array is not there yet (``Tensor.pending``), a sum of the same shape is noted, and
a rectifier computes all in one pass. Whoever asks for the array in between (``t.data``, any other op, a hook, a print) gets it,
computed then. What a pending result is computed from must not change meanwhile: in-place ops settle it first
(``Tensor.settle``). On the way back the rectifier leaves its work to normalization in the same way (``autograd.Deferred``).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np

from minigrad import autograd
from minigrad.kernels.layout import is_channels_last
from minigrad.tensor import Tensor

__all__ = ["Pending", "depend", "is_pending", "is_worth_it", "pending_sum"]

SMALL = 4096  # elements up to which another pass costs less than thinking about it


class Pending:
    """What the array of a tensor will be: ``compute(addend, rectify)``, of a shape and dtype."""

    __slots__ = ("addend", "compute", "dtype", "shape")

    def __init__(self, compute: Callable, shape: tuple[int, ...], dtype, addend=None):
        self.compute, self.shape, self.dtype, self.addend = compute, shape, dtype, addend

    def array(self, rectify: bool = False):
        """The array, rectified or not."""
        return self.compute(self.addend, rectify)


def is_worth_it(x: Tensor) -> bool:
    """Whether a result of x may wait: x is large, was made by a kernel, and nobody watches every op."""
    a = x.data
    if a.size <= SMALL or autograd.state.anomaly or autograd.state.observer is not None or not is_channels_last(a):
        return False
    base = a.base  # of a kernel's result: bytes; an array of the caller's may be written to at any time
    return base is not None and getattr(base, "dtype", None) == np.uint8


def is_pending(x) -> bool:
    """Whether x is a tensor whose array is not there yet."""
    return isinstance(x, Tensor) and x.pending is not None


def depend(t: Tensor, *sources: Tensor) -> None:
    """In-place ops on a source must compute ``t`` first."""
    for source in sources:
        source.version[1:] = [reference for reference in source.version[1:] if reference() is not None]
        source.version.append(weakref.ref(t))


def pending_sum(x, other) -> Pending | None:
    """The pending sum of a pending tensor and an array of the same kind; None if there is none."""
    for first, second in ((x, other), (other, x)):
        if is_pending(first) and first.pending.addend is None and isinstance(second, Tensor):
            p, a = first.pending, second.data  # asking for it computes first, if they are one tensor
            if a.shape == p.shape and a.dtype == p.dtype and is_worth_it(second) and is_pending(first):
                return Pending(p.compute, p.shape, p.dtype, a)
    return None
