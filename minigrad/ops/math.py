"""Elementary functions, element by element: exponentials, roots, trigonometry, rounding, clamp and where.

Integer tensors are computed in float32 where the result is not an integer.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad.device import is_floating
from minigrad.ops._base import (
    check_devices,
    check_inplace,
    check_tensor,
    op,
    quiet,
    record,
    record_inplace,
    unbroadcast,
    xp,
)
from minigrad.ops._erf import erf_of
from minigrad.tensor import Tensor

__all__ = [
    "abs",
    "ceil",
    "clamp",
    "clamp_",
    "cos",
    "erf",
    "exp",
    "expm1",
    "floor",
    "log",
    "log1p",
    "log2",
    "log10",
    "reciprocal",
    "round",
    "rsqrt",
    "sign",
    "sin",
    "sqrt",
    "square",
    "tan",
    "trunc",
    "where",
]


def _floats(x: Tensor):
    """The array of ``x``, integers as float32."""
    check_tensor(x)
    return x.data if is_floating(x.dtype) else x.data.astype(np.float32)


# ---- exponentials and logarithms ---------------------------------------------------------------------------------------


@op
@quiet
def exp(x: Tensor) -> Tensor:
    """e to the power of x."""
    y = xp(check_tensor(x)).exp(_floats(x))

    def backward(gy):
        return gy * y

    return record(y, (x,), backward, saves_output=True)


@op
@quiet
def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1, accurate for small x."""
    y = xp(check_tensor(x)).expm1(_floats(x))

    def backward(gy):
        return gy * (y + 1)

    return record(y, (x,), backward, saves_output=True)


@op
@quiet
def log(x: Tensor) -> Tensor:
    """The natural logarithm: -inf at 0, NaN below."""
    a, library = _floats(x), xp(x)

    def backward(gy):
        return gy / a

    return record(library.log(a), (x,), backward, saves=(x,))


@op
@quiet
def log1p(x: Tensor) -> Tensor:
    """log(1 + x), accurate for small x."""
    a, library = _floats(x), xp(x)

    def backward(gy):
        return gy / (a + 1)

    return record(library.log1p(a), (x,), backward, saves=(x,))


@op
@quiet
def log2(x: Tensor) -> Tensor:
    """The logarithm to base 2."""
    a, library = _floats(x), xp(x)

    def backward(gy):
        return gy / (a * math.log(2))

    return record(library.log2(a), (x,), backward, saves=(x,))


@op
@quiet
def log10(x: Tensor) -> Tensor:
    """The logarithm to base 10."""
    a, library = _floats(x), xp(x)

    def backward(gy):
        return gy / (a * math.log(10))

    return record(library.log10(a), (x,), backward, saves=(x,))


# ---- powers ------------------------------------------------------------------------------------------------------------


@op
@quiet
def sqrt(x: Tensor) -> Tensor:
    """The square root: NaN below 0; the derivative at 0 is infinite."""
    y = xp(check_tensor(x)).sqrt(_floats(x))

    def backward(gy):
        return gy / (2 * y)

    return record(y, (x,), backward, saves_output=True)


@op
@quiet
def rsqrt(x: Tensor) -> Tensor:
    """1 / sqrt(x)."""
    y = 1 / xp(check_tensor(x)).sqrt(_floats(x))

    def backward(gy):
        return gy * (-0.5 * y * y * y)

    return record(y, (x,), backward, saves_output=True)


@op
@quiet
def square(x: Tensor) -> Tensor:
    """x * x, of the dtype of x."""
    a = check_tensor(x).data

    def backward(gy):
        return gy * (2 * a)

    return record(a * a, (x,), backward, saves=(x,))


@op
@quiet
def reciprocal(x: Tensor) -> Tensor:
    """1 / x."""
    y = 1 / _floats(x)

    def backward(gy):
        return -gy * (y * y)

    return record(y, (x,), backward, saves_output=True)


# ---- trigonometry, erf -------------------------------------------------------------------------------------------------


@op
@quiet
def sin(x: Tensor) -> Tensor:
    """The sine of x in radians."""
    a, library = _floats(x), xp(x)

    def backward(gy):
        return gy * library.cos(a)

    return record(library.sin(a), (x,), backward, saves=(x,))


@op
@quiet
def cos(x: Tensor) -> Tensor:
    """The cosine of x in radians."""
    a, library = _floats(x), xp(x)

    def backward(gy):
        return -gy * library.sin(a)

    return record(library.cos(a), (x,), backward, saves=(x,))


@op
@quiet
def tan(x: Tensor) -> Tensor:
    """The tangent of x in radians."""
    y = xp(check_tensor(x)).tan(_floats(x))

    def backward(gy):
        return gy * (1 + y * y)

    return record(y, (x,), backward, saves_output=True)


@op
@quiet
def erf(x: Tensor) -> Tensor:
    """The error function: 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    a, library = _floats(x), xp(x)

    def backward(gy):
        return gy * (library.exp(-a * a) * (2 / math.sqrt(math.pi)))

    return record(erf_of(a, library), (x,), backward, saves=(x,))


# ---- sign and rounding: the derivatives of steps are 0 -----------------------------------------------------------------


@op
def abs(x: Tensor) -> Tensor:
    """|x|. The derivative at 0 is 0."""
    a, library = check_tensor(x).data, xp(x)

    def backward(gy):
        return gy * library.sign(a)

    return record(library.abs(a), (x,), backward, saves=(x,))


@op
@quiet
def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1; NaN for NaN. Its gradient is 0."""
    y, library = xp(check_tensor(x)).sign(x.data), xp(x)

    def backward(gy):
        return library.zeros_like(gy)

    return record(y, (x,), backward)


@op
@quiet
def floor(x: Tensor) -> Tensor:
    """The largest integer not above x. Its gradient is 0."""
    y, library = _rounded(x, "floor"), xp(x)

    def backward(gy):
        return library.zeros_like(gy)

    return record(y, (x,), backward)


@op
@quiet
def ceil(x: Tensor) -> Tensor:
    """The smallest integer not below x. Its gradient is 0."""
    y, library = _rounded(x, "ceil"), xp(x)

    def backward(gy):
        return library.zeros_like(gy)

    return record(y, (x,), backward)


@op
@quiet
def trunc(x: Tensor) -> Tensor:
    """x without its fraction. Its gradient is 0."""
    y, library = _rounded(x, "trunc"), xp(x)

    def backward(gy):
        return library.zeros_like(gy)

    return record(y, (x,), backward)


@op
@quiet
def round(x: Tensor, decimals: int = 0) -> Tensor:
    """The nearest integer, or the nearest multiple of 10^-decimals; halves go to the even one. Its gradient is 0."""
    library = xp(check_tensor(x))
    y = library.round(x.data, decimals) if decimals else _rounded(x, "rint")

    def backward(gy):
        return library.zeros_like(gy)

    return record(y, (x,), backward)


def _rounded(x: Tensor, name: str):
    a = check_tensor(x).data
    return getattr(xp(x), name)(a) if is_floating(a.dtype) else a.copy(order="K")


# ---- clamp and where ---------------------------------------------------------------------------------------------------


Limit = Tensor | float | None


def _check_broadcast(**tensors: Tensor) -> None:
    try:
        np.broadcast_shapes(*(t.shape for t in tensors.values()))
    except ValueError:
        listed = ", ".join(f"{name} {t.shape}" for name, t in tensors.items())
        raise ValueError(f"the shapes do not broadcast: {listed}") from None


def _within(a, low, high):
    """Where ``a`` is between its limits (arrays, numbers or None), which belong to the range."""
    inside = True if low is None else a >= low
    return inside if high is None else inside & (a <= high)


def _limits(x: Tensor, min: Limit, max: Limit):
    """The limits of ``x`` as two arrays, numbers or None."""
    check_tensor(x)
    if min is None and max is None:
        raise ValueError("give min, max or both")
    for name, limit in (("min", min), ("max", max)):
        if limit is not None and not isinstance(limit, (int, float, Tensor)):
            raise TypeError(f"{name} must be a number or a Tensor, got {type(limit).__name__}")
    tensors = {name: limit for name, limit in (("min", min), ("max", max)) if isinstance(limit, Tensor)}
    check_devices(x=x, **tensors)
    for name, limit in tensors.items():
        if limit.dtype != x.dtype:
            raise TypeError(f"{name} must have the dtype of x, {x.dtype}, got {limit.dtype}")
    _check_broadcast(x=x, **tensors)
    return tuple(limit.data if isinstance(limit, Tensor) else limit for limit in (min, max))


@op
@quiet
def clamp(x: Tensor, min: Limit = None, max: Limit = None) -> Tensor:
    """x where it is between ``min`` and ``max`` (numbers, or tensors that broadcast with x), else the limit; NaN stays NaN.

    Where min is larger than max the result is max. The gradient goes to x up to and including the limits, else to the limit.
    """
    low, high = _limits(x, min, max)
    library, a = xp(x), x.data
    if not is_floating(a.dtype) and (isinstance(low, float) or isinstance(high, float)):
        a = a.astype(np.float32)
    inputs = (x, *(limit if isinstance(limit, Tensor) else None for limit in (min, max)))
    needs = [t is not None and t.requires_grad for t in inputs]
    shapes = [None if t is None else t.shape for t in inputs]
    y = a if low is None else library.maximum(a, low)
    y = y if high is None else library.minimum(y, high)

    def backward(gy):
        inside = _within(a, low, high)
        under = False if low is None else a < low if high is None else (a < low) & (low < high)
        over = False if high is None else a > high if low is None else (a > high) | (high < low)
        return tuple(
            unbroadcast(library.where(mask, gy, 0), shape) if needed else None
            for mask, shape, needed in zip((inside, under, over), shapes, needs, strict=True)
        )

    return record(y, inputs, backward, saves=inputs)


@op
@quiet
def clamp_(x: Tensor, min: Limit = None, max: Limit = None) -> Tensor:
    """``clamp`` of x by two numbers, in place; returns x."""
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        raise TypeError("min and max must be numbers: use clamp for tensors")
    low, high = _limits(x, min, max)
    if not is_floating(x.dtype) and (isinstance(low, float) or isinstance(high, float)):
        raise TypeError(f"a floating limit cannot be stored in a tensor of dtype {x.dtype}: use clamp")
    check_inplace(x)
    library, a = xp(x), x.data
    inside = _within(a, low, high) if x.requires_grad else None
    if low is not None:
        library.maximum(a, low, out=a)
    if high is not None:
        library.minimum(a, high, out=a)

    def backward(gy):
        return library.where(inside, gy, 0)

    return record_inplace(x, (x,), backward)


def _alternatives(x, y, library):
    """Two tensors or numbers as arrays of one dtype: a number takes that of the tensor, integers that of floating values."""
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, (bool, int, float, Tensor)):
            raise TypeError(f"{name} must be a Tensor or a number, got {type(value).__name__}")
    tensors = [t for t in (x, y) if isinstance(t, Tensor)]
    floats = [t.dtype for t in tensors if is_floating(t.dtype)]
    if floats:
        dtype = np.result_type(*floats)
    elif isinstance(x, float) or isinstance(y, float):
        dtype = np.dtype(np.float32)
    else:
        dtype = np.result_type(*(t.dtype for t in tensors)) if tensors else np.dtype(np.int64)
    return [library.asarray(v.data if isinstance(v, Tensor) else v).astype(dtype, copy=False) for v in (x, y)]


@op
def where(condition: Tensor, x: Tensor | float, y: Tensor | float) -> Tensor:
    """x where ``condition`` (booleans) is true, else y; all three broadcast. The gradient goes to the one that was taken."""
    if check_tensor(condition, "condition").dtype.kind != "b":
        raise TypeError(f"condition must hold booleans, got dtype {condition.dtype}: compare, as in x > 0")
    inputs = tuple(t if isinstance(t, Tensor) else None for t in (x, y))
    tensors = {name: t for name, t in (("condition", condition), ("x", inputs[0]), ("y", inputs[1])) if t is not None}
    check_devices(**tensors)
    a, b = _alternatives(x, y, xp(condition))
    _check_broadcast(**tensors)
    library, mask = xp(condition), condition.data
    to_x, to_y = ((t.shape, t.dtype) if t is not None and t.requires_grad else None for t in inputs)

    def backward(gy):
        gx = unbroadcast(library.where(mask, gy, 0), to_x[0]).astype(to_x[1], copy=False) if to_x else None
        return gx, unbroadcast(library.where(mask, 0, gy), to_y[0]).astype(to_y[1], copy=False) if to_y else None

    return record(library.where(mask, a, b), inputs, backward, saves=(condition,))
