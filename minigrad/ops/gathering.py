"""Picking and placing along one dimension: gather and scatter, one-hot vectors, the distinct values.

Positions count from 0, negative ones from the end, as in ``x[index]``; one out of range raises IndexError before anything is
changed. Where several values go to one place they are added in a fixed order, so that the same call gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad.device import is_floating
from minigrad.ops._base import (
    check_devices,
    check_inplace,
    check_tensor,
    no_gradient,
    normalize_dims,
    op,
    record,
    record_inplace,
    xp,
)
from minigrad.ops.indexing import FULL, add_at, check_range, extremes, write_in_order
from minigrad.ops.shape import expand
from minigrad.tensor import Tensor

__all__ = [
    "gather",
    "index_add",
    "index_select",
    "one_hot",
    "scatter",
    "scatter_",
    "scatter_add",
    "scatter_add_",
    "take_along_dim",
    "unique",
]


def _along(x: Tensor, dim: int, index, name: str = "index"):
    """(dim, checked array of positions) for an op that indexes along one dimension."""
    check_tensor(x)
    check_tensor(index, name)
    check_devices(x=x, index=index)
    if index.dtype.kind != "i":
        raise TypeError(f"{name} must hold integers, got dtype {index.dtype}: use .long()")
    if x.ndim == 0:
        raise ValueError("a 0-d tensor has no dimension to index")
    (dim,) = normalize_dims(dim, x.ndim)
    return dim, check_range(index.data, dim, x.shape[dim])


def _grid(index, dim: int, library) -> tuple:
    """The index arrays of "position index[i, j, k] along ``dim``, the element's own position along the others"."""
    shapes = [[-1 if e == d else 1 for e in range(index.ndim)] for d in range(index.ndim)]
    return tuple(index if d == dim else library.arange(index.shape[d]).reshape(shapes[d]) for d in range(index.ndim))


def _check_reach(x: Tensor, dim: int, index, limits: Sequence[int], what: str) -> None:
    if index.ndim != x.ndim or any(n > m for d, (n, m) in enumerate(zip(index.shape, limits, strict=True)) if d != dim):
        raise ValueError(f"index of shape {index.shape} reaches beyond {what} of shape {tuple(limits)} outside dim={dim}")


@op
def gather(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """y[i, j, ...] = x[..., index[i, j, ...], ...] with the index at dimension ``dim``; y has the shape of ``index``.

    ``index`` (int64) has as many dimensions as x and is nowhere longer than x except along ``dim``.
    """
    dim, positions = _along(x, dim, index)
    _check_reach(x, dim, positions, x.shape, "x")
    library, shape, dtype = xp(x), x.shape, x.dtype
    at = _grid(positions, dim, library)

    def backward(gy):
        gx = library.zeros(shape, dtype)
        add_at(gx, at, gy)
        return gx

    return record(x.data[at], (x,), backward, saves=(index,))


@op
def take_along_dim(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """``gather`` with x and ``index`` broadcast against each other in the other dimensions, as ``np.take_along_axis``."""
    (dim,) = normalize_dims(dim, check_tensor(x).ndim)
    if check_tensor(index, "index").ndim != x.ndim:
        raise ValueError(f"index must have {x.ndim} dimensions like x, got shape {index.shape}")
    shape = np.broadcast_shapes(*((*t.shape[:dim], 1, *t.shape[dim + 1 :]) for t in (x, index)))
    x, index = (expand(t, (*shape[:dim], t.shape[dim], *shape[dim + 1 :])) for t in (x, index))
    return gather(x, dim, index)


@op
def index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of x along ``dim`` at the positions ``index`` (a vector of integers), in that order."""
    dim, positions = _along(x, dim, index)
    if positions.ndim > 1:
        raise ValueError(f"index must be a vector, got shape {positions.shape}")
    library, shape, dtype = xp(x), x.shape, x.dtype
    at = tuple(positions.reshape(-1) if d == dim else FULL for d in range(x.ndim))

    def backward(gy):
        gx = library.zeros(shape, dtype)
        add_at(gx, at, gy)
        return gx

    return record(x.data[at], (x,), backward, saves=(index,))


# ---- scatter -----------------------------------------------------------------------------------------------------------


def _scatter_arguments(x: Tensor, dim: int, index: Tensor, src):
    """(index arrays, src as a tensor or None, its array or number cut to the index) after every check."""
    dim, positions = _along(x, dim, index)
    _check_reach(x, dim, positions, x.shape, "x")
    if not isinstance(src, Tensor):
        if isinstance(src, float) and not is_floating(x.dtype):
            raise TypeError(f"a floating value cannot be stored in a tensor of dtype {x.dtype}")
        if not isinstance(src, (bool, int, float)):
            raise TypeError(f"src must be a Tensor or a number, got {type(src).__name__}")
        return _grid(positions, dim, xp(x)), None, src
    check_devices(x=x, src=src)
    if src.dtype != x.dtype:
        raise TypeError(f"x and src must have one dtype, but x is {x.dtype} and src is {src.dtype}")
    if src.ndim != x.ndim or any(n > m for n, m in zip(positions.shape, src.shape, strict=True)):
        raise ValueError(f"index of shape {positions.shape} reaches beyond src of shape {src.shape}")
    return _grid(positions, dim, xp(x)), src, src.data[tuple(slice(n) for n in positions.shape)]


def _placed(x: Tensor, dim: int, index: Tensor, src, inplace: bool) -> Tensor:
    at, src, values = _scatter_arguments(x, dim, index, src)
    if inplace:
        check_inplace(x, src)
    library, y = xp(x), x.data if inplace else x.data.copy(order="K")
    needs_x, needs_src = x.requires_grad, src is not None and src.requires_grad
    stays, shape = None, None if src is None else src.shape
    if src is None:
        y[at] = values
    else:
        stays = write_in_order(y, at, index.shape, values, needs_src)

    def backward(gy):
        gx = gsrc = None
        if needs_x:
            gx = gy.copy(order="K")
            gx[at] = 0
        if needs_src:
            gsrc = library.zeros(shape, gy.dtype)
            gsrc[tuple(slice(n) for n in stays.shape)] = gy[at] * stays
        return gx, gsrc

    backward.__qualname__ = "scatter_.<locals>.backward" if inplace else "scatter.<locals>.backward"  # names the node
    if inplace:
        return record_inplace(x, (x, src), backward, saves=(index,))
    return record(y, (x, src), backward, saves=(index,))


@op
def scatter(x: Tensor, dim: int, index: Tensor, src: Tensor | float) -> Tensor:
    """x with y[..., index[i, j, ...], ...] = src[i, j, ...], the index at dimension ``dim``; ``src`` may be a number.

    Where several values go to one place the last stays, and only that one receives a gradient.
    """
    return _placed(x, dim, index, src, inplace=False)


@op
def scatter_(x: Tensor, dim: int, index: Tensor, src: Tensor | float) -> Tensor:
    """``scatter`` into the memory of x; returns x. ``zeros.scatter_(1, labels[:, None], 1)`` makes one-hot vectors."""
    return _placed(x, dim, index, src, inplace=True)


def _added(x: Tensor, dim: int, index: Tensor, src: Tensor, inplace: bool) -> Tensor:
    at, _, values = _scatter_arguments(x, dim, index, check_tensor(src, "src"))
    if inplace:
        check_inplace(x, src)
    library, y = xp(x), x.data if inplace else x.data.copy(order="K")
    add_at(y, at, values)
    shape = src.shape

    def backward(gy):
        gsrc = library.zeros(shape, gy.dtype)
        gsrc[tuple(slice(n) for n in values.shape)] = gy[at]
        return gy, gsrc

    backward.__qualname__ = "scatter_add_.<locals>.backward" if inplace else "scatter_add.<locals>.backward"
    if inplace:
        return record_inplace(x, (x, src), backward, saves=(index,))
    return record(y, (x, src), backward, saves=(index,))


@op
def scatter_add(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """x with y[..., index[i, j, ...], ...] += src[i, j, ...], the index at dimension ``dim``; repeated places add up."""
    return _added(x, dim, index, src, inplace=False)


@op
def scatter_add_(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``scatter_add`` into the memory of x; returns x."""
    return _added(x, dim, index, src, inplace=True)


@op
def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float = 1) -> Tensor:
    """x with alpha * source added to its slices along ``dim`` at the positions ``index`` (a vector); repeated ones add up."""
    dim, positions = _along(x, dim, index)
    expected = (*x.shape[:dim], positions.size, *x.shape[dim + 1 :])
    if check_tensor(source, "source").shape != expected or positions.ndim > 1:
        raise ValueError(f"index must be a vector and source of shape {expected}, got {positions.shape} and {source.shape}")
    check_devices(x=x, source=source)
    if source.dtype != x.dtype:
        raise TypeError(f"x and source must have one dtype, but x is {x.dtype} and source is {source.dtype}")
    at = tuple(positions.reshape(-1) if d == dim else FULL for d in range(x.ndim))
    y = x.data.copy(order="K")
    add_at(y, at, source.data if alpha == 1 else source.data * alpha)

    def backward(gy):
        return gy, gy[at] if alpha == 1 else gy[at] * alpha

    return record(y, (x, source), backward, saves=(index,))


# ---- without gradient --------------------------------------------------------------------------------------------------


@no_gradient
def one_hot(x: Tensor, num_classes: int = -1) -> Tensor:
    """(..., num_classes) int64: 1 at the position that x (..., integers from 0) names, else 0. -1: the largest one plus 1."""
    if check_tensor(x).dtype.kind not in "iu":
        raise TypeError(f"x must hold integers, got dtype {x.dtype}: use .long()")
    if not isinstance(num_classes, (int, np.integer)) or (num_classes < 1 and num_classes != -1):
        raise ValueError(f"num_classes must be an integer of at least 1, or -1, got {num_classes!r}")
    if not x.numel() and num_classes == -1:
        raise ValueError("num_classes must be given for an empty tensor")
    bounds = extremes(x.data) if x.numel() else (0, 0)
    if bounds is None and num_classes == -1:
        raise ValueError("num_classes must be given while a step is captured")
    low, high = bounds or (0, 0)
    count = high + 1 if num_classes == -1 else int(num_classes)
    if low < 0 or high >= count:
        raise ValueError(f"class {low if low < 0 else high} is out of range for {count} classes")
    return Tensor((x.data[..., None] == xp(x).arange(count)).astype(np.int64))


@no_gradient
def unique(x: Tensor, return_inverse: bool = False, return_counts: bool = False):
    """The distinct values of x in rising order, as a vector.

    ``return_inverse``: also the position of each element's value in it (of x's shape). ``return_counts``: also how often each
    value occurs.
    """
    values, inverse, counts = xp(check_tensor(x)).unique(x.data, return_inverse=True, return_counts=True)
    results = [values, *([inverse.reshape(x.shape)] if return_inverse else []), *([counts] if return_counts else [])]
    return Tensor(values) if len(results) == 1 else tuple(Tensor(array) for array in results)
