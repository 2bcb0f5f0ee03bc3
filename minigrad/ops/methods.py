"""Gives Tensor its operators and methods, and NumPy's functions their meaning for tensors, when it is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from minigrad import creation, ops, testing
from minigrad._names import missing
from minigrad.device import bfloat16
from minigrad.tensor import Tensor

__all__: list[str] = []

# Ops whose first argument is the tensor: methods of the same name.
# fmt: off
METHODS = (
    "abs", "add", "add_", "all", "amax", "amin", "any", "argmax", "argmin", "argsort", "bmm", "broadcast_to", "ceil", "chunk",
    "clamp", "clamp_", "clone", "contiguous", "copy_", "cos", "count_nonzero", "cumsum", "div", "div_", "dot", "eq", "erf",
    "exp", "expand", "expand_as", "expm1", "fill_", "flatten", "flip", "floor", "floor_divide", "gather", "ge", "gt",
    "hardtanh", "index_add", "index_select", "isfinite", "isinf", "isnan", "le", "log", "log10", "log1p", "log2",
    "log_softmax", "logical_and", "logical_not", "logical_or", "logsumexp", "lt", "masked_fill", "masked_fill_",
    "masked_select", "matmul", "max", "maximum", "mean", "median", "min", "minimum", "mm", "movedim", "mul", "mul_", "mv",
    "narrow", "ne", "neg", "nonzero", "norm", "outer", "permute", "pow", "prod", "ravel", "reciprocal", "relu", "relu_",
    "remainder", "repeat", "repeat_interleave", "reshape", "reshape_as", "roll", "round", "rsqrt", "scatter", "scatter_",
    "scatter_add", "scatter_add_", "sigmoid", "sign", "sin", "softmax", "sort", "split", "sqrt", "square", "squeeze", "std",
    "sub", "sub_", "sum", "t", "take_along_dim", "tan", "tanh", "tile", "to", "topk", "transpose", "tril", "triu", "trunc",
    "type_as", "unbind", "unflatten", "unique", "unsqueeze", "var", "view", "zero_",
)
# fmt: on

# NumPy's function -> op, so that np.exp(t), np.float32(2) * t and ndarray + t give tensors with a gradient.
UFUNCS = {
    np.add: ops.add,
    np.subtract: ops.sub,
    np.multiply: ops.mul,
    np.true_divide: ops.div,
    np.floor_divide: ops.floor_divide,
    np.remainder: ops.remainder,
    np.power: ops.pow,
    np.matmul: lambda x, other: _matmul(x, other),
    np.maximum: ops.maximum,
    np.minimum: ops.minimum,
    np.equal: ops.eq,
    np.not_equal: ops.ne,
    np.less: ops.lt,
    np.less_equal: ops.le,
    np.greater: ops.gt,
    np.greater_equal: ops.ge,
    np.logical_and: ops.logical_and,
    np.logical_or: ops.logical_or,
    np.logical_not: ops.logical_not,
    np.bitwise_and: lambda x, other: _and(x, other),
    np.bitwise_or: lambda x, other: _or(x, other),
    np.invert: lambda x: _not(x),
    np.negative: ops.neg,
    np.absolute: ops.abs,
    np.exp: ops.exp,
    np.expm1: ops.expm1,
    np.log: ops.log,
    np.log1p: ops.log1p,
    np.log2: ops.log2,
    np.log10: ops.log10,
    np.sqrt: ops.sqrt,
    np.square: ops.square,
    np.reciprocal: ops.reciprocal,
    np.sign: ops.sign,
    np.sin: ops.sin,
    np.cos: ops.cos,
    np.tan: ops.tan,
    np.tanh: ops.tanh,
    np.floor: ops.floor,
    np.ceil: ops.ceil,
    np.trunc: ops.trunc,
    np.rint: ops.round,
    np.isnan: ops.isnan,
    np.isinf: ops.isinf,
    np.isfinite: ops.isfinite,
}


# ---- operators ---------------------------------------------------------------------------------------------------------

OPERANDS = (Tensor, bool, int, float, np.ndarray, np.generic)


def _operator(function: Callable) -> Callable:
    """x OP other. For what is no operand Python tries the other's method, and then raises TypeError."""

    def operator(x: Tensor, other):
        return function(x, other) if isinstance(other, OPERANDS) else NotImplemented

    operator.__doc__ = function.__doc__
    return operator


def _reflected(function: Callable) -> Callable:
    """other OP x, where ``other`` is a number or an array."""

    def operator(x: Tensor, other):
        return function(other, x) if isinstance(other, OPERANDS) else NotImplemented

    operator.__doc__ = function.__doc__
    return operator


def _matmul(x, other) -> Tensor:
    """x @ other, where one of them may be an array."""
    return ops.matmul(*(Tensor(value) if isinstance(value, np.ndarray) else value for value in (x, other)))


def _of_booleans(function: Callable, sign: str) -> Callable[..., Tensor]:
    """The logical function behind ``&``, ``|`` and ``~``, for booleans only: of integers they would work bit by bit."""

    def logical(*operands) -> Tensor:
        for value in operands:
            if getattr(value, "dtype", np.dtype(type(value))) != np.bool_:
                kind = getattr(value, "dtype", type(value).__name__)
                raise TypeError(f"{sign} is defined for booleans, got {kind}: use {function.__name__}() or .bool()")
        return function(*operands)

    logical.__doc__ = function.__doc__
    return logical


_and = _of_booleans(ops.logical_and, "&")
_or = _of_booleans(ops.logical_or, "|")
_not = _of_booleans(ops.logical_not, "~")


def _pow_(x: Tensor, exponent) -> Tensor:
    """x **= exponent, in place; returns x."""
    return ops.copy_(x, ops.pow(x, exponent))


def _iter(x: Tensor) -> Iterator[Tensor]:
    """The slices along the first dimension."""
    if not x.ndim:
        raise TypeError("a 0-d tensor cannot be iterated over: use .item()")
    return iter(ops.unbind(x))


def _contains(x: Tensor, value) -> bool:
    """Whether an element equals ``value``."""
    return bool(ops.any(ops.eq(x, value)))


OPERATORS = {
    "__add__": _operator(ops.add),
    "__radd__": _reflected(ops.add),
    "__iadd__": _operator(ops.add_),
    "__sub__": _operator(ops.sub),
    "__rsub__": _reflected(ops.sub),
    "__isub__": _operator(ops.sub_),
    "__mul__": _operator(ops.mul),
    "__rmul__": _reflected(ops.mul),
    "__imul__": _operator(ops.mul_),
    "__truediv__": _operator(ops.div),
    "__rtruediv__": _reflected(ops.div),
    "__itruediv__": _operator(ops.div_),
    "__floordiv__": _operator(ops.floor_divide),
    "__rfloordiv__": _reflected(ops.floor_divide),
    "__mod__": _operator(ops.remainder),
    "__rmod__": _reflected(ops.remainder),
    "__pow__": _operator(ops.pow),
    "__rpow__": _reflected(ops.pow),
    "__ipow__": _operator(_pow_),
    "__matmul__": _operator(_matmul),
    "__rmatmul__": _reflected(_matmul),
    "__eq__": _operator(ops.eq),
    "__ne__": _operator(ops.ne),
    "__lt__": _operator(ops.lt),
    "__le__": _operator(ops.le),
    "__gt__": _operator(ops.gt),
    "__ge__": _operator(ops.ge),
    "__and__": _operator(_and),
    "__rand__": _reflected(_and),
    "__or__": _operator(_or),
    "__ror__": _reflected(_or),
    "__invert__": _not,
    "__neg__": ops.neg,
    "__pos__": lambda x: x,
    "__abs__": ops.abs,
    "__getitem__": ops.getitem,
    "__setitem__": ops.setitem,
    "__iter__": _iter,
    "__contains__": _contains,
}


# ---- dtype and device --------------------------------------------------------------------------------------------------


def _caster(dtype: type) -> Callable[[Tensor], Tensor]:
    def method(x: Tensor) -> Tensor:
        return ops.to(x, dtype)

    method.__doc__ = f"x as {np.dtype(dtype)}; x itself if it is that already."
    return method


def _cpu(x: Tensor) -> Tensor:
    """x in the memory of the processor; x itself if it is there already."""
    return ops.to(x, "cpu")


def _cuda(x: Tensor, device=None, non_blocking: bool = False) -> Tensor:
    """x on the graphics card ``device`` (an index or a name; default: the current one); x itself if it is there already."""
    return ops.to(x, "cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device)


def _bfloat16(x: Tensor) -> Tensor:
    """x as bfloat16; x itself if it is that already."""
    return ops.to(x, bfloat16())


CONVERSIONS = {
    "half": _caster(np.float16),
    "bfloat16": _bfloat16,
    "float": _caster(np.float32),
    "double": _caster(np.float64),
    "byte": _caster(np.uint8),
    "short": _caster(np.int16),
    "int": _caster(np.int32),
    "long": _caster(np.int64),
    "bool": _caster(np.bool_),
    "cpu": _cpu,
    "cuda": _cuda,
}


# ---- new tensors like this one -----------------------------------------------------------------------------------------


def _new(function: Callable) -> Callable[..., Tensor]:
    def method(x: Tensor, *args, dtype=None, device=None, requires_grad: bool = False, **kwargs) -> Tensor:
        place = x.device if device is None else device
        dtype = x.dtype if dtype is None else dtype
        return function(*args, dtype=dtype, device=place, requires_grad=requires_grad, **kwargs)

    method.__doc__ = f"``mg.{function.__name__}`` with the dtype and device of this tensor, unless others are given."
    return method


def _new_of_old(x: Tensor, *args) -> Tensor:
    """The old ``x.new(2, 3)`` or ``x.new(y.size())``: zeros of this shape like x; of a list a tensor of its numbers."""
    return NEW["new_tensor" if args and isinstance(args[0], list) else "new_zeros"](x, *(args or (0,)))


NEW = {
    "new": _new_of_old,
    "new_empty": _new(creation.empty),
    "new_full": _new(creation.full),
    "new_ones": _new(creation.ones),
    "new_tensor": _new(creation.tensor),
    "new_zeros": _new(creation.zeros),
}


# ---- in place ----------------------------------------------------------------------------------------------------------


def _inplace(function: Callable) -> Callable[..., Tensor]:
    def method(x: Tensor, *args) -> Tensor:
        return ops.copy_(x, function(x, *args))

    method.__doc__ = f"``{function.__name__}`` written into the memory of x; returns x."
    return method


def _uniform_(x: Tensor, low: float = 0.0, high: float = 1.0, generator: np.random.Generator | None = None) -> Tensor:
    """Fill x with uniform random numbers, low <= value < high; returns x."""
    if not low <= high:
        raise ValueError(f"uniform_: low must not exceed high, got {low} and {high}")
    return ops.copy_(x, creation.rand_like(x, generator) * (high - low) + low)


def _normal_(x: Tensor, mean: float = 0.0, std: float = 1.0, generator: np.random.Generator | None = None) -> Tensor:
    """Fill x with normally distributed random numbers; returns x."""
    if not std >= 0:
        raise ValueError(f"normal_: std must be at least 0, got {std}")
    return ops.copy_(x, creation.randn_like(x, generator) * std + mean)


def _bernoulli_(x: Tensor, p: float = 0.5, generator: np.random.Generator | None = None) -> Tensor:
    """Fill x with 1 (with probability p) and 0; returns x."""
    return ops.copy_(x, creation.bernoulli(creation.full_like(x, p, np.float64), generator).to(x.dtype))


INPLACE = {
    "bernoulli_": _bernoulli_,
    "normal_": _normal_,
    "uniform_": _uniform_,
    **{
        f"{name}_": _inplace(getattr(ops, name))
        for name in (
            "abs",
            "ceil",
            "exp",
            "floor",
            "log",
            "neg",
            "pow",
            "reciprocal",
            "round",
            "sigmoid",
            "sqrt",
            "square",
            "tanh",
        )
    },
}


# ---- the rest ----------------------------------------------------------------------------------------------------------


_TYPES = {"float16": "Half", "float32": "Float", "float64": "Double", "uint8": "Byte", "int8": "Char"}
_TYPES |= {"bfloat16": "BFloat16", "int16": "Short", "int32": "Int", "int64": "Long", "bool": "Bool"}


def _type(x: Tensor, dtype=None) -> Tensor | str:
    """x as ``dtype``: ``mg.float32``, "float32", ``mg.FloatTensor`` or "torch.FloatTensor"; x itself if it is that already.

    Without ``dtype`` the name of x's own type in PyTorch: "torch.FloatTensor", or "torch.cuda.FloatTensor".
    """
    if dtype is None:
        return f"torch.{'cuda.' if x.is_cuda else ''}{_TYPES[str(x.dtype)]}Tensor"
    if isinstance(dtype, str) and dtype.endswith("Tensor"):
        place, _, name = dtype.rpartition(".")
        x = x.to("cuda") if place.endswith("cuda") else x
        dtype = next((own for own, theirs in _TYPES.items() if theirs + "Tensor" == name), dtype)
    return ops.to(x, getattr(dtype, "dtype", dtype) if callable(dtype) and not isinstance(dtype, type) else dtype)


def _where(x: Tensor, condition: Tensor, other) -> Tensor:
    """x where ``condition`` is true, else ``other``."""
    return ops.where(condition, x, other)


def _clamp_min(x: Tensor, min) -> Tensor:
    """x where it is at least ``min``, else ``min``."""
    return ops.clamp(x, min=min)


def _clamp_max(x: Tensor, max) -> Tensor:
    """x where it is at most ``max``, else ``max``."""
    return ops.clamp(x, max=max)


# PyTorch's second names of ops.
SECOND_NAMES = {
    "absolute": ops.abs,
    "clip": ops.clamp,
    "clip_": ops.clamp_,
    "divide": ops.div,
    "moveaxis": ops.movedim,
    "multiply": ops.mul,
    "negative": ops.neg,
    "subtract": ops.sub,
    "swapaxes": ops.transpose,
    "swapdims": ops.transpose,
    "true_divide": ops.div,
}


def _data_ptr(x: Tensor) -> int:
    """The address in memory of the first element."""
    return x.data.ctypes.data if isinstance(x.data, np.ndarray) else x.data.data.ptr


def _reversed_dims(x: Tensor) -> Tensor:
    """x with its dimensions in reverse order. A view."""
    return ops.permute(x, tuple(range(x.ndim))[::-1])


def _transposed_matrices(x: Tensor) -> Tensor:
    """x with its last two dimensions exchanged. A view."""
    return ops.transpose(x, -2, -1)


def _no_attribute(x: Tensor, name: str):
    """Called for a name that Tensor does not have."""
    raise missing("a Tensor", name, dir(type(x)))


Tensor.install(
    **{name: getattr(ops, name) for name in METHODS},
    **OPERATORS,
    **CONVERSIONS,
    **NEW,
    **INPLACE,
    **SECOND_NAMES,
    T=property(_reversed_dims),
    mT=property(_transposed_matrices),
    allclose=testing.allclose,
    equal=testing.equal,
    view_as=ops.reshape_as,
    clamp_min=_clamp_min,
    clamp_max=_clamp_max,
    type=_type,
    where=_where,
    data_ptr=_data_ptr,
    _no_attribute=_no_attribute,
)
Tensor.ufuncs.update(UFUNCS)
