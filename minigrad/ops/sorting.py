"""Sorting along one dimension, and what follows from it: the k largest elements and the median."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from minigrad.ops._base import check_tensor, no_gradient, normalize_dims, op, record, xp
from minigrad.tensor import Tensor

__all__ = ["argsort", "median", "sort", "topk"]

SortResult = namedtuple("SortResult", ["values", "indices"])
TopkResult = namedtuple("TopkResult", ["values", "indices"])
MedianResult = namedtuple("MedianResult", ["values", "indices"])


def _axis(x: Tensor, dim: int) -> int:
    if isinstance(dim, (tuple, list)) or dim is None:
        raise TypeError(f"dim must be one integer, got {dim!r}")
    return (*normalize_dims(dim, check_tensor(x).ndim), 0)[0]


def _order(a, axis: int, descending: bool, library):
    """Indices (int64) that sort ``a`` (at least 1-d); equal elements keep their order, and NaN counts as the largest."""
    if not descending:
        return library.argsort(a, axis=axis, kind="stable")
    backwards = library.argsort(library.flip(a, axis), axis=axis, kind="stable")
    return library.flip(a.shape[axis] - 1 - backwards, axis)


def _gather(x: Tensor, order, axis: int):
    """(the elements of ``x`` at the indices ``order``, function from their gradient to that of x)."""
    library, shape = xp(x), x.shape

    def scatter(gy):
        gx = library.zeros(shape or (1,), gy.dtype)
        index = [library.arange(n).reshape(-1, *(1,) * (gx.ndim - 1 - i)) for i, n in enumerate(gx.shape)]
        index[axis] = order
        gx[tuple(index)] = gy.reshape(order.shape)
        return gx.reshape(shape)

    return library.take_along_axis(x.data if x.ndim else x.data.reshape(1), order, axis), scatter


@op
def sort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> SortResult:
    """(values, indices) sorted along ``dim``. Always stable; NaN counts as larger than every number."""
    axis, library = _axis(x, dim), xp(x)
    order = _order(x.data if x.ndim else x.data.reshape(1), axis, descending, library)
    values, scatter = _gather(x, order, axis)

    def backward(gy):
        return scatter(gy)

    return SortResult(record(values.reshape(x.shape), (x,), backward), Tensor(order.reshape(x.shape).copy()))


@no_gradient
def argsort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices (int64) that sort ``x`` along ``dim``; see ``sort``."""
    axis = _axis(x, dim)
    return Tensor(_order(x.data if x.ndim else x.data.reshape(1), axis, descending, xp(x)).reshape(x.shape))


@op
def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> TopkResult:
    """(values, indices) of the ``k`` largest (or smallest) elements along ``dim``, in order; of equal ones the first come first."""
    axis, library = _axis(x, dim), xp(x)
    length = x.shape[axis] if x.ndim else 1
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 0 <= k <= length:
        raise ValueError(f"k must be an integer in 0 ... {length}, the length of dimension {dim} of shape {x.shape}, got {k!r}")
    order = _order(x.data if x.ndim else x.data.reshape(1), axis, largest, library)
    order = order[(slice(None),) * axis + (slice(0, k),)]
    values, scatter = _gather(x, order, axis)

    def backward(gy):
        return scatter(gy)

    shape = order.shape if x.ndim or k != 1 else ()
    return TopkResult(record(values.reshape(shape), (x,), backward), Tensor(order.reshape(shape).copy()))


@op
def median(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | MedianResult:
    """The middle element (the lower of two), or (values, indices) along ``dim``; NaN if there is one.

    The gradient goes to the element that was chosen.
    """
    axis, library = _axis(x, -1 if dim is None else dim), xp(x)
    flat = x.data.reshape(-1) if dim is None or not x.ndim else x.data
    axis = 0 if dim is None else axis
    length = flat.shape[axis]
    if not length:
        raise ValueError(f"x of shape {x.shape} has no elements along dim={dim}: an empty tensor has no median")
    order = _order(flat, axis, False, library)
    middle = order[(slice(None),) * axis + (slice((length - 1) // 2, (length - 1) // 2 + 1),)]
    last = order[(slice(None),) * axis + (slice(length - 1, length),)]
    holds_nan = library.isnan(library.take_along_axis(flat, last, axis)) if flat.dtype.kind == "f" else False
    chosen = library.where(holds_nan, library.argmax(library.isnan(flat), axis=axis, keepdims=True), middle) if flat.dtype.kind == "f" else middle
    return chosen
