"""Sorting along one dimension, and what follows from it: the k largest elements and the median."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from minigrad.device import is_floating
from minigrad.ops._base import check_tensor, no_gradient, normalize_dims, op, record, xp
from minigrad.tensor import Tensor

__all__ = ["argsort", "median", "sort", "topk"]

SortResult = namedtuple("SortResult", ["values", "indices"])
TopkResult = namedtuple("TopkResult", ["values", "indices"])
MedianResult = namedtuple("MedianResult", ["values", "indices"])


def _axis(x: Tensor, dim: int) -> int:
    """The one dimension ``dim`` as a non-negative integer; 0 for a tensor without dimensions."""
    if isinstance(dim, (tuple, list)) or dim is None:
        raise TypeError(f"dim must be one integer, got {dim!r}")
    return (*normalize_dims(dim, check_tensor(x).ndim), 0)[0]


def _order(a, axis: int, descending: bool, library):
    """Indices (int64) that sort ``a`` (at least 1-d); equal elements keep their order, and NaN counts as the largest."""
    if not descending:
        return library.argsort(a, axis=axis, kind="stable")
    backwards = library.argsort(library.flip(a, axis), axis=axis, kind="stable")
    return library.flip(a.shape[axis] - 1 - backwards, axis)


def _gather(a, order, axis: int, library):
    """(the elements of ``a`` at the indices ``order``, function from their gradient to that of ``a``)."""
    shape = a.shape

    def scatter(gy):
        g = library.zeros(shape, gy.dtype)
        index = [library.arange(n).reshape(-1, *(1,) * (len(shape) - 1 - i)) for i, n in enumerate(shape)]
        index[axis] = order
        g[tuple(index)] = gy.reshape(order.shape)
        return g

    y = library.empty_like(a, shape=order.shape)  # in the memory order of a
    y[...] = library.take_along_axis(a, order, axis)
    return y, scatter


def _flat(x: Tensor):
    """The array of ``x``, with one dimension if it has none."""
    return x.data if x.ndim else x.data.reshape(1)


@op
def sort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> SortResult:
    """(values, indices) sorted along ``dim``. Always stable; NaN counts as larger than every number."""
    axis, library, shape = _axis(x, dim), xp(x), x.shape
    order = _order(_flat(x), axis, descending, library)
    values, scatter = _gather(_flat(x), order, axis, library)

    def backward(gy):
        return scatter(gy).reshape(shape)

    return SortResult(record(values.reshape(shape), (x,), backward), Tensor(order.reshape(shape).copy()))


@no_gradient
def argsort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices (int64) that sort ``x`` along ``dim``; see ``sort``."""
    axis = _axis(x, dim)
    return Tensor(_order(_flat(x), axis, descending, xp(x)).reshape(x.shape))


@op
def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> TopkResult:
    """(values, indices) of the ``k`` largest (or smallest) elements along ``dim``, sorted; of equal ones the first come first."""
    axis, library, shape = _axis(x, dim), xp(x), x.shape
    length = _flat(x).shape[axis]
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 0 <= k <= length:
        raise ValueError(f"k must be an integer in 0 ... {length}, the length of dimension {dim} of shape {shape}, got {k!r}")
    order = _order(_flat(x), axis, largest, library)
    order = order[(slice(None),) * axis + (slice(0, k),)]
    values, scatter = _gather(_flat(x), order, axis, library)

    def backward(gy):
        return scatter(gy).reshape(shape)

    kept = order.shape if shape or k == 0 else ()
    return TopkResult(record(values.reshape(kept), (x,), backward), Tensor(order.reshape(kept).copy()))


@op
def median(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | MedianResult:
    """The middle element (the lower of two), or with ``dim`` (values, indices) along it; NaN if there is one.

    The gradient goes to the element that was chosen.
    """
    library, shape = xp(check_tensor(x)), x.shape
    if dim is None:
        flat, axis = x.data.reshape(-1), 0
    else:
        flat, axis = _flat(x), _axis(x, dim)
    length = flat.shape[axis]
    if not length:
        raise ValueError(f"x of shape {x.shape} has no elements along dim={dim}: an empty tensor has no median")
    order = _order(flat, axis, False, library)
    lead = (slice(None),) * axis
    middle = order[(*lead, slice((length - 1) // 2, (length + 1) // 2))]
    if is_floating(flat.dtype):
        nans = library.isnan(flat)
        middle = library.where(nans.any(axis=axis, keepdims=True), nans.argmax(axis=axis, keepdims=True), middle)
    values, scatter = _gather(flat, middle, axis, library)

    def backward(gy):
        return scatter(gy).reshape(shape)

    if dim is None:
        return record(values.reshape(()), (x,), backward)
    kept = () if not shape else middle.shape if keepdim else middle.shape[:axis] + middle.shape[axis + 1 :]
    return MedianResult(record(values.reshape(kept), (x,), backward), Tensor(middle.reshape(kept).copy()))
