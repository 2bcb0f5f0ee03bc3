"""Memory orders. An activation (N, C, H, W) is kept channels-last: its strides are those of a contiguous (N, H, W, C) array.

These functions use only methods that NumPy and CuPy arrays share, so they serve both.
"""

from __future__ import annotations

__all__ = ["channels_last", "empty_channels_last", "empty_like", "flat_views", "is_channels_last", "nhwc"]


def nhwc(x):
    """The (N, H, W, C) view of x (N, C, H, W); copied into contiguous memory only if x is not channels-last."""
    view = x.transpose(0, 2, 3, 1)
    return view if view.flags.c_contiguous else view.copy(order="C")


def channels_last(x):
    """x (N, C, H, W) itself if it lies channels-last in memory, else a channels-last copy; the shape stays (N, C, H, W)."""
    return nhwc(x).transpose(0, 3, 1, 2)


def is_channels_last(x) -> bool:
    """Whether x (N, C, H, W) lies channels-last in memory."""
    return x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous


def empty_channels_last(xp, shape, dtype):
    """A new uninitialized channels-last array of ``shape`` (N, C, H, W) from the array library ``xp``."""
    n, c, h, w = shape
    return xp.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def empty_like(x, empty):
    """A new array of x's shape and dtype from ``empty(shape, dtype)``, with x's memory order if x has no gaps."""
    if x.flags.c_contiguous:
        return empty(x.shape, x.dtype)
    if is_channels_last(x):
        n, c, h, w = x.shape
        return empty((n, h, w, c), x.dtype).transpose(0, 3, 1, 2)
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    back = sorted(range(x.ndim), key=order.__getitem__)
    return empty(tuple(x.shape[axis] for axis in order), x.dtype).transpose(back)


def flat_views(*arrays):
    """Views of arrays that lie in memory in one and the same order without gaps, as vectors; None if they do not."""
    for array in arrays:
        if not array.flags.c_contiguous:
            break
    else:
        return [array.reshape(-1) for array in arrays]
    first = arrays[0]
    order = (0, 2, 3, 1) if first.ndim == 4 else sorted(range(first.ndim), key=lambda axis: -first.strides[axis])
    views = []
    for array in arrays:
        turned = array.transpose(order)
        if not turned.flags.c_contiguous:
            return None
        views.append(turned.reshape(-1))
    return views
