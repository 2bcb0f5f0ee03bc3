"""Arithmetic of tensors with broadcasting: + - * / ** negation, minimum and maximum, comparisons, and the in-place forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minigrad.device import device_of, is_floating, move
from minigrad.kernels import for_array
from minigrad.ops._base import (
    check_devices,
    check_inplace,
    check_tensor,
    no_gradient,
    op,
    quiet,
    record,
    record_inplace,
    record_pending,
    times,
    unbroadcast,
    xp,
)
from minigrad.ops._pending import depend, is_pending, pending_sum
from minigrad.ops.casting import cast
from minigrad.tensor import Tensor

__all__ = [
    "add",
    "add_",
    "copy_",
    "div",
    "div_",
    "eq",
    "fill_",
    "floor_divide",
    "ge",
    "gt",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "logical_and",
    "logical_not",
    "logical_or",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "mul_",
    "ne",
    "neg",
    "pow",
    "remainder",
    "sub",
    "sub_",
    "zero_",
]

Operand = Tensor | float


# ---- operands ----------------------------------------------------------------------------------------------------------


def _operand(value):
    """(tensor or None, array or Python number) of an operand; TypeError for anything else."""
    if isinstance(value, Tensor):
        return value, value.array
    if isinstance(value, np.ndarray) and value.ndim:
        return Tensor(value), value
    if isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        # A plain Python number never widens an array: np.float64(3) would turn float32 into float64.
        return None, value.item() if isinstance(value, (np.generic, np.ndarray)) else value
    raise TypeError(f"expected a Tensor or a number, got {type(value).__name__}: use mg.tensor(...)")


def _operands(x, other):
    """Two operands with PyTorch's rules for dtypes.

    An integer tensor takes the dtype of a floating operand, and a 0-d tensor that of an operand of its kind with dimensions.
    """
    (x, a), (other, b) = _operand(x), _operand(other)
    if x is None and other is None:
        raise TypeError("expected at least one Tensor, got two numbers")
    if x is not None and other is not None:
        if type(a) is not type(b):
            a, b = _to_one_device(x, other)
        if a.dtype != b.dtype:
            a, b = _converted(a, b)
        if a.shape != b.shape:
            _check_broadcast(a.shape, b.shape)
    elif x is not None:
        a = a.astype(np.float32) if isinstance(b, float) and a.dtype.kind != "f" and not is_floating(a.dtype) else a
    else:
        b = b.astype(np.float32) if isinstance(a, float) and b.dtype.kind != "f" and not is_floating(b.dtype) else b
    return x, other, a, b


def _to_one_device(x: Tensor, other: Tensor) -> tuple:
    """The arrays of two operands. As in PyTorch a number in a tensor of the processor may meet tensors on a card."""
    for t, place in ((x, other), (other, x)):
        if not t.array.ndim and not t.requires_grad and not t.is_cuda:
            where = device_of(place.array)
            return move(x.array, where), move(other.array, where)
    check_devices(x=x, other=other)
    return x.array, other.array


def _converted(a, b):
    """Two arrays of different dtypes, one of them converted where NumPy would widen the result against PyTorch's rules."""
    if is_floating(a.dtype) != is_floating(b.dtype):
        return (a, b.astype(a.dtype)) if is_floating(a.dtype) else (a.astype(b.dtype), b)
    if bool(a.ndim) != bool(b.ndim) and (a.dtype.kind == "b") == (b.dtype.kind == "b"):
        return (a, b.astype(a.dtype)) if a.ndim else (a.astype(b.dtype), b)
    return a, b


def _check_broadcast(a: tuple, b: tuple) -> None:
    if any(m != n and m != 1 and n != 1 for m, n in zip(a[::-1], b[::-1], strict=False)):
        raise ValueError(
            f"shapes {a} and {b} do not broadcast: each pair of lengths, from the last dimension backwards, "
            "must be equal or contain a 1"
        )


def _receiver(t: Tensor | None) -> Callable | None:
    """What turns the gradient of a broadcast result into the gradient of the operand ``t``; None if ``t`` needs none."""
    if t is None or not t.requires_grad:
        return None
    shape, dtype = t.shape, t.dtype
    return lambda g: unbroadcast(g, shape).astype(dtype, copy=False)


def _to_both(x: Tensor, other: Tensor) -> Callable:
    """The backward of a sum of two tensors of one shape and dtype: both get the gradient as it is."""
    needs_x, needs_other = x.requires_grad, other.requires_grad

    def backward(gy):
        return gy if needs_x else None, gy if needs_other else None

    return backward


def _are_alike(a, b) -> bool:
    """Whether two operands are floating-point arrays of one shape and dtype."""
    if type(a) is not type(b) or not hasattr(a, "shape"):
        return False
    return a.shape == b.shape and a.dtype == b.dtype and (a.dtype.kind == "f" or is_floating(a.dtype))


def _total(a, b):
    return for_array(a).add(a, b) if _are_alike(a, b) else a + b


# ---- binary ops --------------------------------------------------------------------------------------------------------


@op
@quiet
def add(x: Operand, other: Operand, alpha: float = 1) -> Tensor:
    """x + alpha * other, broadcast."""
    if alpha == 1 and (pending := pending_sum(x, other)) is not None:
        y = record_pending(pending, (x, other), _to_both(x, other))
        depend(y, x, other)
        return y
    x, other, a, b = _operands(x, other)
    y = _total(a, b) if alpha == 1 else a + b * alpha
    to_x, to_other = _receiver(x), _receiver(other)

    def backward(gy):
        return to_x and to_x(gy), to_other and to_other(gy if alpha == 1 else gy * alpha)

    return record(y, (x, other), backward)


@op
@quiet
def sub(x: Operand, other: Operand, alpha: float = 1) -> Tensor:
    """x - alpha * other, broadcast."""
    x, other, a, b = _operands(x, other)
    y = a - b if alpha == 1 else a - b * alpha
    to_x, to_other = _receiver(x), _receiver(other)

    def backward(gy):
        return to_x and to_x(gy), to_other and to_other(-gy if alpha == 1 else gy * -alpha)

    return record(y, (x, other), backward)


@op
@quiet
def mul(x: Operand, other: Operand) -> Tensor:
    """x * other, broadcast."""
    x, other, a, b = _operands(x, other)
    to_x, to_other = _receiver(x), _receiver(other)

    def backward(gy):
        return to_x and to_x(gy * b), to_other and to_other(gy * a)

    return record(a * b, (x, other), backward, saves=(other if to_x else None, x if to_other else None))


@op
@quiet
def div(x: Operand, other: Operand, rounding_mode: str | None = None) -> Tensor:
    """x / other, broadcast; integers give float32. ``rounding_mode``: None, "trunc" or "floor" (these have no gradient)."""
    x, other, a, b = _operands(x, other)
    if rounding_mode is not None:
        if rounding_mode not in ("trunc", "floor"):
            raise ValueError(f'rounding_mode must be None, "trunc" or "floor", got {rounding_mode!r}')
        library = xp(x if x is not None else other)
        _check_divisor(a, b)
        y = library.floor_divide(a, b) if rounding_mode == "floor" else library.trunc(library.true_divide(a, b))
        return Tensor(y)
    if getattr(a, "dtype", None) is not None and not is_floating(a.dtype):
        a = a.astype(np.float32)
    if getattr(b, "dtype", None) is not None and not is_floating(b.dtype):
        b = b.astype(np.float32)
    to_x, to_other = _receiver(x), _receiver(other)

    def backward(gy):
        return to_x and to_x(gy / b), to_other and to_other(-gy * a / (b * b))

    saves = (other, x if to_other else None)
    return record(a / b if not _is_zero(b) else _divide_by_zero(a, b), (x, other), backward, saves=saves)


def _check_divisor(a, b) -> None:
    """Integers have no infinity: raise ZeroDivisionError if one is divided by 0."""
    a, b = a.dtype if hasattr(a, "dtype") else np.result_type(a), b if hasattr(b, "dtype") else np.asarray(b)
    if not is_floating(a) and not is_floating(b.dtype) and bool((b == 0).any()):
        raise ZeroDivisionError("an integer cannot be divided by 0: use x.float(), or mask the zeros")


def _is_zero(b) -> bool:
    return isinstance(b, (int, float)) and b == 0


def _divide_by_zero(a, b):
    """A tensor divided by the number 0: IEEE's infinities and NaN, where Python would raise."""
    return a / a.dtype.type(b)


@op
@quiet
def pow(x: Operand, exponent: Operand) -> Tensor:
    """x ** exponent, broadcast. The gradient with respect to the exponent is x^exponent log x, and 0 where x is 0."""
    x, exponent, a, b = _operands(x, exponent)
    y = a**b
    to_x, to_exponent = _receiver(x), _receiver(exponent)
    library = xp(x if x is not None else exponent)

    def backward(gy):
        gx = gb = None
        if to_x:
            # At exponent 0 the result is constant; x^(-1) would make 0 * inf of it.
            gx = to_x(library.where(library.equal(b, 0), 0, gy * (b * a ** (b - 1))).astype(gy.dtype, copy=False))
        if to_exponent:
            log = library.where(library.equal(a, 0), 0, library.log(library.where(library.equal(a, 0), 1, a)))
            gb = to_exponent((gy * y * log).astype(gy.dtype, copy=False))
        return gx, gb

    return record(y, (x, exponent), backward, saves=(x, exponent), saves_output=to_exponent is not None)


@op
def neg(x: Tensor) -> Tensor:
    """-x."""
    check_tensor(x)

    def backward(gy):
        return -gy

    return record(-x.array, (x,), backward)


def _extremum(x, other, pick, wins):
    x, other, a, b = _operands(x, other)
    to_x, to_other = _receiver(x), _receiver(other)

    def share(gy, mine, theirs):
        # A tie is shared equally, as in PyTorch.
        return gy * (wins(mine, theirs) + 0.5 * (mine == theirs)).astype(gy.dtype)

    def backward(gy):
        return to_x and to_x(share(gy, a, b)), to_other and to_other(share(gy, b, a))

    return pick(a, b), (x, other), backward


@op
def maximum(x: Operand, other: Operand) -> Tensor:
    """The larger of x and other, broadcast; NaN wins. Where both are equal each gets half of the gradient."""
    library = xp(x if isinstance(x, Tensor) else other)
    y, inputs, share = _extremum(x, other, library.maximum, library.greater)

    def backward(gy):
        return share(gy)

    return record(y, inputs, backward, saves=inputs)


@op
def minimum(x: Operand, other: Operand) -> Tensor:
    """The smaller of x and other, broadcast; NaN wins. Where both are equal each gets half of the gradient."""
    library = xp(x if isinstance(x, Tensor) else other)
    y, inputs, share = _extremum(x, other, library.minimum, library.less)

    def backward(gy):
        return share(gy)

    return record(y, inputs, backward, saves=inputs)


# ---- without gradient --------------------------------------------------------------------------------------------------


def _comparison(name: str, description: str) -> Callable:
    def function(x: Operand, other: Operand) -> Tensor:
        x, other, a, b = _operands(x, other)
        if name in ("floor_divide", "remainder"):
            _check_divisor(a, b)
        return Tensor(getattr(xp(x if x is not None else other), name)(a, b))

    function.__name__ = function.__qualname__ = {
        "equal": "eq",
        "not_equal": "ne",
        "less": "lt",
        "less_equal": "le",
        "greater": "gt",
        "greater_equal": "ge",
    }.get(name, name)
    function.__doc__ = description
    return no_gradient(quiet(function))


eq = _comparison("equal", "Where x equals other, broadcast: a tensor of booleans.")
ne = _comparison("not_equal", "Where x differs from other, broadcast: a tensor of booleans.")
lt = _comparison("less", "Where x < other, broadcast: a tensor of booleans.")
le = _comparison("less_equal", "Where x <= other, broadcast: a tensor of booleans.")
gt = _comparison("greater", "Where x > other, broadcast: a tensor of booleans.")
ge = _comparison("greater_equal", "Where x >= other, broadcast: a tensor of booleans.")
logical_and = _comparison("logical_and", "Where both x and other are true (not zero), broadcast.")
logical_or = _comparison("logical_or", "Where x or other is true (not zero), broadcast.")
floor_divide = _comparison("floor_divide", "floor(x / other), broadcast.")
remainder = _comparison("remainder", "x - other * floor(x / other), broadcast: of the sign of other.")


def _predicate(name: str, description: str) -> Callable:
    def function(x: Tensor) -> Tensor:
        return Tensor(getattr(xp(check_tensor(x)), name)(x.array))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = description
    return no_gradient(function)


isnan = _predicate("isnan", "Where x is not a number.")
isinf = _predicate("isinf", "Where x is infinite.")
isfinite = _predicate("isfinite", "Where x is neither infinite nor NaN.")
logical_not = _predicate("logical_not", "Where x is false (zero).")


# ---- in place ----------------------------------------------------------------------------------------------------------


def _inplace_operand(x: Tensor, other):
    """The operand of an in-place op as (tensor or None, array or number), after every check and before any change."""
    check_tensor(x)
    other, b = _operand(other)
    check_inplace(x, other)
    if other is not None:
        if type(b) is not type(x.array):
            b = _to_one_device(x, other)[1]
        _check_broadcast(x.shape, other.shape)
        if np.broadcast_shapes(x.shape, other.shape) != x.shape:
            raise ValueError(f"shape {other.shape} does not fit into {x.shape}: an in-place operation keeps its shape")
        if other.version is x.version:  # x *= x, x += x.T: the operand must not change on the way
            other = mul(other, 1)
            b = other.array
    if not is_floating(x.dtype) and (isinstance(b, float) or (other is not None and is_floating(other.dtype))):
        raise TypeError(f"a floating result cannot be stored in a tensor of dtype {x.dtype}: use an out-of-place operation")
    return other, b


@op
@quiet
def add_(x: Tensor, other: Operand, alpha: float = 1) -> Tensor:
    """x += alpha * other, in place; returns x."""
    if alpha == 1 and is_pending(x) and (pending := pending_sum(x, other)) is not None and is_pending(x):
        x.settle()
        x.pending = pending
        depend(x, other)
        return record_inplace(x, (x, other), _to_both(x, other))
    other, b = _inplace_operand(x, other)
    to_other = _receiver(other)
    if alpha == 1 and _are_alike(x.array, b):
        for_array(b).add(x.array, b, out=x.array)
    else:
        x.array += b if alpha == 1 else b * alpha

    def backward(gy):
        return gy, to_other and to_other(gy if alpha == 1 else gy * alpha)

    return record_inplace(x, (x, other), backward)


@op
@quiet
def sub_(x: Tensor, other: Operand, alpha: float = 1) -> Tensor:
    """x -= alpha * other, in place; returns x."""
    other, b = _inplace_operand(x, other)
    to_other = _receiver(other)
    x.array -= b if alpha == 1 else b * alpha

    def backward(gy):
        return gy, to_other and to_other(-gy if alpha == 1 else gy * -alpha)

    return record_inplace(x, (x, other), backward)


@op
@quiet
def mul_(x: Tensor, other: Operand) -> Tensor:
    """x *= other, in place; returns x."""
    other, b = _inplace_operand(x, other)
    to_other = _receiver(other)
    before = x.array.copy(order="K") if to_other else None
    x.array *= b

    def backward(gy):
        return times(gy, b), to_other and to_other(gy * before)

    return record_inplace(x, (x, other), backward, saves=(other,))


@op
@quiet
def div_(x: Tensor, other: Operand) -> Tensor:
    """x /= other, in place; returns x."""
    other, b = _inplace_operand(x, other)
    if not is_floating(x.dtype):
        raise TypeError(f"a quotient cannot be stored in a tensor of dtype {x.dtype}: use x / other")
    to_other = _receiver(other)
    before = x.array.copy(order="K") if to_other else None
    x.array /= b if not _is_zero(b) else x.dtype.type(b)

    def backward(gy):
        return gy / b, to_other and to_other(-gy * before / (b * b))

    return record_inplace(x, (x, other), backward, saves=(other,))


@op
def copy_(x: Tensor, other: Operand) -> Tensor:
    """Write ``other`` (broadcast, from any device) into the memory of x; returns x."""
    if isinstance(x, Tensor) and isinstance(other, Tensor) and other.device != x.device:
        other = cast(other, device=x.device)
    other, b = _inplace_operand(x, other)
    to_other = _receiver(other)
    x.array[...] = b

    def backward(gy):
        return None, to_other and to_other(gy)

    return record_inplace(x, (x, other), backward)


@op
def fill_(x: Tensor, value: float) -> Tensor:
    """Write the number ``value`` into every element of x; returns x."""
    if isinstance(value, Tensor):
        value = value.item()
    _inplace_operand(x, value)
    x.array.fill(value)

    def backward(gy):
        return (None,)

    return record_inplace(x, (x,), backward)


@op
def zero_(x: Tensor) -> Tensor:
    """Write 0 into every element of x; returns x."""
    return fill_(check_tensor(x), 0)
