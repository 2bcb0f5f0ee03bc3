"""Padding layers for x (N, C, H, W). ``padding``: one number, or (left, right, top, bottom)."""

from __future__ import annotations

import numpy as np

from minigrad.nn import functional as F
from minigrad.nn.module import Module
from minigrad.tensor import Tensor

__all__ = ["CircularPad2d", "ConstantPad2d", "ReflectionPad2d", "ReplicationPad2d", "ZeroPad2d"]

Padding = int | tuple[int, int, int, int]


class _Pad2d(Module):
    mode: str

    def __init__(self, padding: Padding) -> None:
        items = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4
        if len(items) != 4 or not all(isinstance(p, (int, np.integer)) and not isinstance(p, bool) for p in items):
            raise TypeError(f"padding must be an integer or four of them (left, right, top, bottom), got {padding!r}")
        super().__init__()
        self.padding = items

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.padding, mode=self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad2d(_Pad2d):
    """Adds rows and columns that hold ``value``; negative numbers take rows and columns away."""

    mode = "constant"

    def __init__(self, padding: Padding, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.padding, value=self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ZeroPad2d(_Pad2d):
    """Adds rows and columns of zeros; negative numbers take rows and columns away."""

    mode = "constant"


class ReflectionPad2d(_Pad2d):
    """Mirrors the image at its edge pixels, which are not repeated."""

    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """Repeats the edge pixels."""

    mode = "replicate"


class CircularPad2d(_Pad2d):
    """Continues with the opposite side of the image."""

    mode = "circular"
