"""The smallest images that a network takes."""

from __future__ import annotations

import numpy as np

from minigrad.autograd import no_grad
from minigrad.nn import Module
from minigrad.tensor import Tensor
from minigrad.training.evaluation import device_of_model, evaluation_mode

__all__ = ["smallest_hint", "smallest_input"]

LARGEST = 512  # pixels: networks that refuse such images do not refuse them for being small


def smallest_input(model: Module, channels: int) -> int | None:
    """Height and width of the smallest square images (1, channels, size, size) that ``model`` takes; found by trying.

    None if it takes none of the sizes 1, 2, 4, ... 512, as networks that are made for one size only.
    """
    low, high = 0, 1
    with evaluation_mode(model), no_grad():
        while not _takes(model, channels, high):
            low, high = high, 2 * high
            if high > LARGEST:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _takes(model, channels, middle) else (middle, high)
    return high


def smallest_hint(model: Module, channels: int, height: int, width: int) -> str:
    """The end of an error message about images that ``model`` does not take: nothing, if they are not too small."""
    size = smallest_input(model, channels)
    return "" if size is None or min(height, width) >= size else f" (the smallest images that it takes are {size} x {size})"


def _takes(model: Module, channels: int, size: int) -> bool:
    try:
        model(Tensor(np.zeros((1, channels, size, size), np.float32)).to(device_of_model(model)))
    except ValueError:
        return False
    return True
