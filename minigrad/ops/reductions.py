"""Reductions: sums, means, moments, norms, products, extremes, and cumulative sums.

``dim`` is an integer, a tuple of integers, or None for all dimensions; ``keepdim=True`` keeps the reduced ones with length 1.
Sums are added up in float64 and rounded once, so that a float32 sum over many elements stays accurate.
"""

from __future__ import annotations

import builtins
import math
from collections import namedtuple

import numpy as np

from minigrad.device import is_floating
from minigrad.ops._base import check_float, check_tensor, no_gradient, normalize_dims, op, quiet, record, xp
from minigrad.ops.arithmetic import maximum, minimum
from minigrad.tensor import Tensor

__all__ = [
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "cumsum",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "std",
    "sum",
    "var",
]

Dims = int | tuple[int, ...] | None


# ---- dimensions --------------------------------------------------------------------------------------------------------


def _axes(x: Tensor, dim: Dims) -> tuple[int, ...]:
    """The reduced dimensions; as in PyTorch an empty tuple means all."""
    return normalize_dims(None if isinstance(dim, (tuple, list)) and not dim else dim, x.ndim)


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` with length 1 in the reduced dimensions."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def _count(x: Tensor, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[axis] for axis in axes)


def _sum(a, axes: tuple[int, ...], keepdim: bool = False):
    """The sum of a floating array, added up in float64, in the dtype of ``a``."""
    return a.sum(axis=axes, keepdims=keepdim, dtype=np.float64).astype(a.dtype)


# ---- sums and moments --------------------------------------------------------------------------------------------------


@op
@quiet
def sum(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The sum over ``dim``. Integers and booleans give int64."""
    axes, library = _axes(check_tensor(x), dim), xp(x)
    shape, kept = x.shape, _kept(x.shape, axes)
    if not is_floating(x.dtype):
        return Tensor(x.data.sum(axis=axes, keepdims=keepdim, dtype=np.int64))

    def backward(gy):
        return library.broadcast_to(gy.reshape(kept), shape)

    return record(_sum(x.data, axes, keepdim), (x,), backward)


@op
@quiet
def mean(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The mean over ``dim``; NaN if there are no elements. Raises TypeError for integers, whose mean has no dtype of its own."""
    axes, library = _axes(check_float(x), dim), xp(x)
    shape, kept, count = x.shape, _kept(x.shape, axes), _count(x, axes)
    total = x.data.sum(axis=axes, keepdims=keepdim, dtype=np.float64)

    def backward(gy):
        return library.broadcast_to((gy / count).reshape(kept), shape)

    return record((total / count if count else total * math.nan).astype(x.dtype), (x,), backward)


def _variance(x: Tensor, dim, unbiased: bool | None, keepdim: bool, correction: float | None):
    """(variance, deviations from the mean, divisor, shape with the reduced dimensions kept) by two passes in float64."""
    check_float(x)
    if isinstance(dim, bool):  # var(x, unbiased), as in PyTorch
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise ValueError("give unbiased or correction, not both")
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    axes = _axes(x, dim)
    count = _count(x, axes)
    divisor = builtins.max(count - correction, 0)
    center = x.data.sum(axis=axes, keepdims=True, dtype=np.float64) / (count or math.nan)
    deviations = x.data - center
    total = (deviations * deviations).sum(axis=axes, keepdims=keepdim)
    return total / (divisor or math.nan), deviations.astype(x.dtype), divisor or math.nan, _kept(x.shape, axes)


@op
@quiet
def var(
    x: Tensor, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The variance over ``dim``: squared deviations from the mean, divided by (number of elements - correction).

    ``correction`` is 1 by default (the unbiased estimate); ``unbiased=False`` means 0. NaN if the divisor is not positive.
    """
    y, deviations, divisor, kept = _variance(x, dim, unbiased, keepdim, correction)

    def backward(gy):
        return (gy * (2 / divisor)).reshape(kept) * deviations

    return record(y.astype(x.dtype), (x,), backward)


@op
@quiet
def std(
    x: Tensor, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The standard deviation over ``dim``: the square root of ``var``. Its gradient where it is 0 is taken as 0."""
    variance, deviations, divisor, kept = _variance(x, dim, unbiased, keepdim, correction)
    y, library = (variance**0.5).astype(x.dtype), xp(x)

    def backward(gy):
        return library.where(y == 0, 0, gy / (y * divisor)).astype(gy.dtype).reshape(kept) * deviations

    return record(y, (x,), backward, saves_output=True)


@op
@quiet
def norm(x: Tensor, p: float | str | None = 2.0, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """(sum of |x|^p over dim)^(1/p); "fro" and None mean 2, inf the largest |x|, -inf the smallest, 0 the number of non-zeros.

    Where the norm is 0 its gradient is taken as 0. Ties of p = inf share the gradient equally.
    """
    p = 2.0 if p in ("fro", None) else p
    if isinstance(p, (str, bool)) or not isinstance(p, (int, float)) or math.isnan(p):
        raise ValueError(f'p must be a number, inf, -inf or "fro", got {p!r}')
    axes, library = _axes(check_float(x), dim), xp(x)
    a, kept, p = x.data, _kept(x.shape, axes), float(p)
    size = library.abs(a)
    if math.isinf(p):
        _check_not_empty(x, axes)
        y = (size.max if p > 0 else size.min)(axis=axes, keepdims=True)
    elif p == 0:
        y = (a != 0).sum(axis=axes, keepdims=True).astype(a.dtype)
    else:
        power = size.astype(np.float64) ** p
        y = (power.sum(axis=axes, keepdims=True) ** (1 / p)).astype(a.dtype)

    def backward(gy):
        gy = gy.reshape(kept)
        if p == 0:
            return library.zeros_like(a)
        if math.isinf(p):
            return _share(gy, library.abs(a) == y, axes, library) * library.sign(a)
        # d y / d x = sign(x) * (|x| / y)^(p - 1)
        ratio = library.where(y == 0, 0, library.abs(a) / y) if p != 1 else library.ones_like(a)
        return (library.where(a == 0, 0, ratio ** (p - 1)) * library.sign(a) * gy).astype(a.dtype)

    return record(y if keepdim else y.reshape(_dropped(x.shape, axes)), (x,), backward, saves=(x,), saves_output=True)


def _dropped(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` without the reduced dimensions."""
    return tuple(n for i, n in enumerate(shape) if i not in axes)


@op
@quiet
def logsumexp(x: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over ``dim``; the largest value is taken out first, so that nothing overflows."""
    axes, library = _axes(check_float(x), dim), xp(x)
    a, kept = x.data, _kept(x.shape, axes)
    if _count(x, axes):
        top = a.max(axis=axes, keepdims=True)
        top = library.where(library.isfinite(top), top, 0).astype(a.dtype)  # Inf - Inf would be NaN
    else:
        top = library.zeros(kept, a.dtype)
    total = _sum(library.exp(a - top), axes, True)
    y = library.log(total) + top

    def backward(gy):
        # exp(a - y) would feel the rounding of a large y.
        share = library.exp(a - top) / library.where(library.isfinite(y), total, 1)
        return gy.reshape(kept) * share

    return record(y if keepdim else y.reshape(_dropped(x.shape, axes)), (x,), backward, saves=(x,))


@op
@quiet
def cumsum(x: Tensor, dim: int) -> Tensor:
    """y[i] = x[0] + ... + x[i] along the one dimension ``dim``. Integers and booleans give int64."""
    axis = _one_axis(check_tensor(x), dim)
    if not is_floating(x.dtype):
        return Tensor(x.data.cumsum(axis=axis, dtype=np.int64) if x.ndim else x.data.astype(np.int64))
    library = xp(x)

    def accumulate(a):
        return a.cumsum(axis=axis, dtype=np.float64).astype(a.dtype) if a.ndim else a.copy()

    def backward(gy):
        return library.flip(accumulate(library.flip(gy, axis)), axis) if gy.ndim else gy

    return record(accumulate(x.data), (x,), backward)


def _one_axis(x: Tensor, dim: int) -> int:
    if isinstance(dim, (tuple, list)) or dim is None:
        raise TypeError(f"dim must be one integer, got {dim!r}")
    return normalize_dims(dim, x.ndim)[0] if x.ndim else ((normalize_dims(dim, 0) and 0) or 0)


# ---- products ----------------------------------------------------------------------------------------------------------


@op
@quiet
def prod(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The product over ``dim``. Integers and booleans give int64. The gradient is exact where elements are 0 too."""
    axes, library = _axes(check_tensor(x), dim), xp(x)
    if not is_floating(x.dtype):
        return Tensor(x.data.prod(axis=axes, keepdims=keepdim, dtype=np.int64))
    a, kept = x.data, _kept(x.shape, axes)

    def backward(gy):
        # The product of all the others, without a division: of those before times of those after.
        last = tuple(range(-len(axes), 0))
        moved = library.moveaxis(a, axes, last)
        flat = moved.reshape(*moved.shape[: a.ndim - len(axes)], -1).astype(np.float64)
        others = _before(flat, library) * library.flip(_before(library.flip(flat, -1), library), -1)
        return (library.moveaxis(others.reshape(moved.shape), last, axes) * gy.reshape(kept)).astype(gy.dtype)

    y = a.prod(axis=axes, keepdims=keepdim, dtype=np.float64).astype(a.dtype)
    return record(y, (x,), backward, saves=(x,))


def _before(a, library):
    """The product of all elements before each one, along the last dimension."""
    y = library.ones_like(a)
    y[..., 1:] = a[..., :-1].cumprod(axis=-1)
    return y


# ---- extremes ----------------------------------------------------------------------------------------------------------

MaxResult = namedtuple("MaxResult", ["values", "indices"])
MinResult = namedtuple("MinResult", ["values", "indices"])


def _check_not_empty(x: Tensor, axes: tuple[int, ...]) -> None:
    """Raise ValueError if there is nothing to choose an extreme from."""
    if not _count(x, axes) and math.prod(_dropped(x.shape, axes)):
        raise ValueError(f"x of shape {x.shape} has no elements along dim={axes}: an empty tensor has no extreme value")


def _share(gy, winners, axes: tuple[int, ...], library):
    """``gy`` (reduced dimensions kept) divided equally among the ``winners``."""
    return library.where(winners, gy / winners.sum(axis=axes, keepdims=True).astype(gy.dtype), 0).astype(gy.dtype)


def _winners(a, y, library):
    """Where ``a`` has the extreme value ``y``; NaN is the extreme of everything that holds one."""
    return (a == y) | (library.isnan(a) & library.isnan(y))


@op
def amax(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The largest value over ``dim``; NaN wins. Elements that tie for it share the gradient equally."""
    axes, library = _axes(check_tensor(x), dim), xp(x)
    _check_not_empty(x, axes)
    a, kept = x.data, _kept(x.shape, axes)
    y = a.max(axis=axes, keepdims=keepdim)

    def backward(gy):
        return _share(gy.reshape(kept), _winners(a, y.reshape(kept), library), axes, library)

    return record(y, (x,), backward, saves=(x,), saves_output=True)


@op
def amin(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The smallest value over ``dim``; NaN wins. Elements that tie for it share the gradient equally."""
    axes, library = _axes(check_tensor(x), dim), xp(x)
    _check_not_empty(x, axes)
    a, kept = x.data, _kept(x.shape, axes)
    y = a.min(axis=axes, keepdims=keepdim)

    def backward(gy):
        return _share(gy.reshape(kept), _winners(a, y.reshape(kept), library), axes, library)

    return record(y, (x,), backward, saves=(x,), saves_output=True)


def _arg_extreme(x: Tensor, dim: int | None, keepdim: bool, method: str):
    check_tensor(x)
    _check_not_empty(x, _axes(x, dim))
    if dim is None or not x.ndim:
        y = getattr(x.data.reshape(-1), method)()
        return y.reshape((1,) * x.ndim) if keepdim else y
    return getattr(x.data, method)(axis=_one_axis(x, dim), keepdims=keepdim)


@no_gradient
def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the largest value along ``dim`` (the first of equal ones), or in the flattened tensor; int64."""
    return Tensor(_arg_extreme(x, dim, keepdim, "argmax"))


@no_gradient
def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the smallest value along ``dim`` (the first of equal ones), or in the flattened tensor; int64."""
    return Tensor(_arg_extreme(x, dim, keepdim, "argmin"))


def _select(x: Tensor, dim: int, keepdim: bool, method: str):
    """(values, indices, function from the gradient of the values to that of x) of the first extreme along ``dim``."""
    axis, library = _one_axis(x, dim), xp(x)
    _check_not_empty(x, (axis,) if x.ndim else ())
    if not x.ndim:
        return x.data.copy(), np.int64(0) if library is np else library.zeros((), np.int64), lambda gy: gy
    shape = x.shape
    kept = getattr(x.data, method)(axis=axis, keepdims=True)
    values = library.take_along_axis(x.data, kept, axis)

    def spread(gy):
        hit = kept == library.arange(shape[axis]).reshape(-1, *(1,) * (len(shape) - 1 - axis))
        return library.where(hit, gy.reshape(kept.shape), 0).astype(gy.dtype, copy=False)

    if keepdim:
        return values, kept.copy(), spread
    return values.squeeze(axis), kept.squeeze(axis).copy(), spread


@op
def max(x: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> Tensor | MaxResult:
    """``max(x)``: the largest element (see ``amax``). ``max(x, dim)``: (values, indices) along ``dim``.

    ``max(x, other)`` with a Tensor is ``maximum``. NaN wins; of equal values the first is taken, and receives the gradient.
    """
    if isinstance(dim, Tensor):
        return maximum(x, dim)
    if dim is None:
        _check_not_empty(check_tensor(x), _axes(x, None))
        return amax(x)
    values, indices, spread = _select(check_tensor(x), dim, keepdim, "argmax")

    def backward(gy):
        return spread(gy)

    return MaxResult(record(values, (x,), backward), Tensor(indices))


@op
def min(x: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> Tensor | MinResult:
    """``min(x)``: the smallest element (see ``amin``). ``min(x, dim)``: (values, indices) along ``dim``.

    ``min(x, other)`` with a Tensor is ``minimum``. NaN wins; of equal values the first is taken, and receives the gradient.
    """
    if isinstance(dim, Tensor):
        return minimum(x, dim)
    if dim is None:
        _check_not_empty(check_tensor(x), _axes(x, None))
        return amin(x)
    values, indices, spread = _select(check_tensor(x), dim, keepdim, "argmin")

    def backward(gy):
        return spread(gy)

    return MinResult(record(values, (x,), backward), Tensor(indices))


# ---- counting ----------------------------------------------------------------------------------------------------------


@no_gradient
def any(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether any element over ``dim`` is not zero."""
    return Tensor(check_tensor(x).data.any(axis=_axes(x, dim), keepdims=keepdim))


@no_gradient
def all(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether all elements over ``dim`` are not zero."""
    return Tensor(check_tensor(x).data.all(axis=_axes(x, dim), keepdims=keepdim))


@no_gradient
def count_nonzero(x: Tensor, dim: Dims = None) -> Tensor:
    """How many elements over ``dim`` are not zero, as int64."""
    return Tensor((check_tensor(x).data != 0).sum(axis=_axes(x, dim), dtype=np.int64))
