"""Padding: new elements around the edges, constant, mirrored, repeated or wrapped around."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad.device import array_module, is_floating
from minigrad.ops._base import check_tensor, op, record, xp
from minigrad.tensor import Tensor

__all__ = ["pad"]

MODES = ("constant", "reflect", "replicate", "circular")


@op
def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """x with new elements before and after some dimensions; keeps the memory order.

    ``pad``: pairs (before, after) counted from the last dimension, as in PyTorch: (left, right) pads W, (left, right, top,
    bottom) pads W and H.
    ``mode``: "constant" (``value``, default 0; negative numbers crop), "reflect" (mirrored without the edge itself: less than
    the length), "replicate" (the edge repeated) or "circular" (wrapped around: at most the length).
    """
    pairs = _pairs(check_tensor(x), pad)
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}")
    if mode == "constant":
        return _pad_constant(x, pairs, 0 if value is None else value)
    if value not in (None, 0):
        raise ValueError(f'value is for mode "constant", got mode={mode!r} and value={value!r}')
    for dim, (before, after) in pairs.items():
        _check_edges(mode, dim, x.shape[dim], before, after)
    y = x.data
    for dim, (before, after) in pairs.items():
        y = _pad_dim(y, mode, dim, before, after)

    def backward(gy):
        for dim, (before, after) in reversed(pairs.items()):
            gy = _unpad_dim(gy, mode, dim, before, after)
        return gy

    return record(y if pairs else y.copy(order="K"), (x,), backward)


def _pairs(x: Tensor, pad: Sequence[int]) -> dict[int, tuple[int, int]]:
    """{dimension: (before, after)} of the dimensions that change."""
    pad = [n.item() if isinstance(n, Tensor) and n.numel() == 1 else n for n in pad] if isinstance(pad, (list, tuple)) else pad
    if not isinstance(pad, list) or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in pad):
        raise TypeError(f"pad must be a list or tuple of integers, got {pad!r}")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(
            f"pad must be pairs (before, after), the last dimension first, for at most {x.ndim} dimensions; got {tuple(pad)}"
        )
    pairs = {x.ndim - 1 - i: (int(pad[2 * i]), int(pad[2 * i + 1])) for i in range(len(pad) // 2)}
    return {dim: pair for dim, pair in pairs.items() if pair != (0, 0)}


def _pad_constant(x: Tensor, pairs: dict[int, tuple[int, int]], value: float) -> Tensor:
    """Constant padding; what is negative is cropped."""
    both = [pairs.get(dim, (0, 0)) for dim in range(x.ndim)]
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, both, strict=True))
    if any(n < 0 for n in shape):
        raise ValueError(f"pad crops more than there is: shape {x.shape} would become {shape}")
    if not isinstance(value, (bool, int, float)) or (isinstance(value, float) and not is_floating(x.dtype)):
        raise TypeError(f"value must be a number that dtype {x.dtype} can hold, got {value!r}")
    kept = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, both, strict=True))  # of x
    inner = tuple(slice(max(b, 0), n - max(a, 0)) for n, (b, a) in zip(shape, both, strict=True))  # of y
    before_shape, library = x.shape, xp(x)
    y = library.empty_like(x.data, shape=shape)
    y.fill(value)
    y[inner] = x.data[kept]

    def backward(gy):
        if kept == tuple(slice(0, n) for n in before_shape):
            return gy[inner]
        gx = library.zeros_like(gy, shape=before_shape)
        gx[kept] = gy[inner]
        return gx

    backward.__qualname__ = "pad.<locals>.backward"  # names the node
    return record(y, (x,), backward)


# ---- the modes that repeat elements of x, one dimension at a time ------------------------------------------------------


def _check_edges(mode: str, dim: int, size: int, before: int, after: int) -> None:
    if min(before, after) < 0:
        raise ValueError(f'only mode "constant" can crop, got ({before}, {after}) for dimension {dim} in mode {mode!r}')
    largest = {"reflect": size - 1, "circular": size, "replicate": before + after if size else 0}[mode]
    if max(before, after) > largest:
        raise ValueError(f"mode {mode!r} can add at most {largest} to dimension {dim} of size {size}, got ({before}, {after})")


def _edges(mode: str, size: int, before: int, after: int) -> list[tuple[slice, slice]]:
    """(where in y, from where in x) for the elements before and those after a dimension of length ``size``."""
    first, last = slice(0, before), slice(before + size, before + size + after)
    if mode == "reflect":  # y = x2 x1 | x0 x1 x2 x3 | x2 x1
        stop = size - 2 - after
        return [(first, slice(before, 0, -1)), (last, slice(size - 2, stop if stop >= 0 else None, -1))]
    if mode == "circular":  # y = x2 x3 | x0 x1 x2 x3 | x0 x1
        return [(first, slice(size - before, size)), (last, slice(0, after))]
    return [(first, slice(0, 1)), (last, slice(size - 1, size))]  # y = x0 x0 | x0 x1 x2 x3 | x3 x3


def _pad_dim(x, mode: str, dim: int, before: int, after: int):
    """The array x padded along one dimension."""
    size, lead = x.shape[dim], (slice(None),) * dim
    y = array_module(x).empty_like(x, shape=(*x.shape[:dim], before + size + after, *x.shape[dim + 1 :]))
    y[(*lead, slice(before, before + size))] = x
    for target, source in _edges(mode, size, before, after):
        y[(*lead, target)] = x[(*lead, source)]
    return y


def _unpad_dim(gy, mode: str, dim: int, before: int, after: int):
    """The gradient of ``_pad_dim``: every added element's gradient goes to the element that it repeats."""
    size, lead = gy.shape[dim] - before - after, (slice(None),) * dim
    gx = gy[(*lead, slice(before, before + size))].copy(order="K")
    for target, source in _edges(mode, size, before, after):
        part = gy[(*lead, target)]
        if part.shape[dim]:
            gx[(*lead, source)] += part.sum(axis=dim, keepdims=True) if mode == "replicate" else part
    return gx
