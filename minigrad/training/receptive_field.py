"""Receptive fields: how large a part of the input image a value depends on.

Along one axis a map has a field r (pixels of the input that one of its values sees) and a jump j (pixels of the input between
neighbouring values). A window of k values with stride s makes of them

    r + (k - 1) * j    and    j * s,

where a dilated window counts with the pixels it spans. Borders are not looked at: the field may be larger than the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from minigrad.kernels.geometry import pair
from minigrad.tensor import Tensor

__all__ = ["PIXEL", "WHOLE", "Field", "field_after"]


@dataclass(frozen=True)
class Field:
    """Height and width of the receptive field in pixels of the input, and the steps between neighbouring values."""

    size: tuple[float, float]
    jump: tuple[float, float]

    @property
    def whole(self) -> bool:
        """Whether every value sees the whole image."""
        return math.isinf(self.size[0])

    def __str__(self) -> str:
        if self.whole:
            return "all"
        h, w = (math.ceil(n) for n in self.size)
        return str(h) if h == w else f"{h} x {w}"


PIXEL = Field((1, 1), (1, 1))  # of the input itself
WHOLE = Field((math.inf, math.inf), (math.inf, math.inf))

WINDOWS = ("conv2d", "max_pool2d", "avg_pool2d")


def field_after(name: str, arguments: dict[str, Any], inputs: list[tuple[Tensor, Field]], y: Tensor) -> Field | None:
    """The field of ``y``, which the op ``name`` made; ``inputs``: its input tensors that depend on the image, with their fields.

    ``arguments``: the op's arguments by name. None if nothing depends on the image.
    """
    if not inputs:
        return None
    before = _joined([field for _, field in inputs])
    x = inputs[0][0]
    if before.whole or x.ndim != 4:
        return before
    if y.ndim != 4:  # flattened, or reduced to a vector
        return WHOLE
    if name in WINDOWS or name == "conv_transpose2d":
        return _after_window(name, arguments, before)
    if name == "getitem":
        return _moved(before, (1, 1), _steps(arguments["index"]))
    if name in ("interpolate", "upsample") or name.startswith("adaptive_"):
        return _after_resizing(name, arguments, before, x.shape[2:], y.shape[2:])
    if any(n > 1 and m == 1 for n, m in zip(x.shape[2:], y.shape[2:], strict=True)):
        return WHOLE  # a mean or a maximum over the image
    return before


def _joined(fields: list[Field]) -> Field:
    """The field of a sum or a concatenation: the largest."""
    sizes, jumps = zip(*((f.size, f.jump) for f in fields), strict=True)
    return Field(*(tuple(max(values) for values in zip(*pairs, strict=True)) for pairs in (sizes, jumps)))


def _moved(f: Field, windows: tuple[float, float], strides: tuple[float, float]) -> Field:
    """The field after a window of that many values, moved in these steps."""
    size = tuple(r + (k - 1) * j for r, k, j in zip(f.size, windows, f.jump, strict=True))
    return Field(size, tuple(j * s for j, s in zip(f.jump, strides, strict=True)))


def _after_window(name: str, arguments: dict[str, Any], before: Field) -> Field:
    weight = arguments.get("weight")
    kernel = weight.shape[2:] if weight is not None else pair(arguments["kernel_size"], "kernel_size")
    stride = pair(kernel if arguments.get("stride") is None else arguments["stride"], "stride")
    dilation = pair(arguments.get("dilation", 1), "dilation")
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    if name != "conv_transpose2d":
        return _moved(before, span, stride)
    # A value of the output is reached by the windows of so many neighbouring values.
    reached = tuple(math.ceil(k / s) for k, s in zip(span, stride, strict=True))
    return _moved(before, reached, tuple(1 / s for s in stride))


def _after_resizing(name: str, arguments: dict[str, Any], before: Field, size: tuple, new_size: tuple) -> Field:
    """After pooling to a given size, or after up-sampling."""
    if name.startswith("adaptive_"):
        if all(n == 1 for n in new_size):
            return WHOLE
        window = tuple(math.ceil(n / m) for n, m in zip(size, new_size, strict=True))
    else:
        window = (1, 1) if arguments.get("mode", "nearest") == "nearest" else (2, 2)
    return _moved(before, window, tuple(n / m for n, m in zip(size, new_size, strict=True)))


def _steps(index: Any) -> tuple[int, int]:
    """The steps along height and width of ``x[index]`` for a 4-d x; 1 for everything but slices."""
    items = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in items:
        at = items.index(Ellipsis)
        items[at : at + 1] = [slice(None)] * (4 - sum(item is not None for item in items) + 1)
    steps = [item.step or 1 if isinstance(item, slice) else 1 for item in items if item is not None]
    h, w = (steps + [1] * 4)[2:4]
    return h, w
