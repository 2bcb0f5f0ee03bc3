"""Dropout layers: they act in training mode only."""

from __future__ import annotations

from minigrad.nn import functional as F
from minigrad.nn._arguments import check_probability
from minigrad.nn.module import Module
from minigrad.tensor import Tensor

__all__ = ["Dropout", "Dropout2d"]


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        check_probability(p)
        super().__init__()
        self.p, self.inplace = p, inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training mode every element becomes 0 with probability ``p``, and the others are divided by 1 - p."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training, self.inplace)


class Dropout2d(_Dropout):
    """In training mode every channel of x (N, C, H, W) becomes 0 with probability ``p``; the others are divided by 1 - p."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout2d(x, self.p, self.training, self.inplace)
