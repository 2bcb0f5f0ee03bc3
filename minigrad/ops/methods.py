"""Gives Tensor its operators and methods: everything that is imported from here works once this module was imported."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator

import numpy as np

from minigrad import creation, ops, random
from minigrad._names import missing
from minigrad.autograd import no_grad
from minigrad.device import move
from minigrad.ops._base import check_float, normalize_dims
from minigrad.tensor import Tensor

__all__: list[str] = []

# Functions of ops whose first argument is the tensor, installed as methods of the same name.
METHODS = """
    abs add add_ all amax amin any argmax argmin argsort bmm broadcast_to ceil chunk clamp clamp_ clamp_min clamp_max clone
    contiguous copy_ cos cumsum div div_ dot elu eq erf exp expand expand_as expm1 fill_ flatten flip floor floor_divide gather ge
    gelu gt hardsigmoid hardswish hardtanh index_select isfinite isinf isnan le leaky_relu log log10 log1p log2 log_softmax
    logical_and logical_not logical_or logsigmoid logsumexp lt masked_fill masked_fill_ masked_select matmul max maximum mean min
    minimum mish mm movedim mul mul_ mv ne neg nonzero norm outer permute pow prod ravel reciprocal relu relu_ remainder repeat
    repeat_interleave reshape reshape_as roll round rsqrt scatter scatter_ scatter_add scatter_add_ selu sigmoid sign silu sin
    softmax softplus sort split sqrt square squeeze std sub sub_ sum t take_along_dim tan tanh to topk transpose tril triu
    type_as unbind unflatten unique unsqueeze var view view_as where zero_
""".split()


# ---- operators ---------------------------------------------------------------------------------------------------------

_OPERANDS = (Tensor, bool, int, float, np.ndarray, np.generic)


def _operator(function: Callable) -> Callable:
    """x OP other; Python tries the other operand's method, and then raises TypeError, for what is no operand."""

    def operator(x: Tensor, other):
        return function(x, other) if isinstance(other, _OPERANDS) else NotImplemented

    operator.__doc__ = function.__doc__
    return operator


def _reflected(function: Callable) -> Callable:
    def operator(x: Tensor, other):
        return function(other, x) if isinstance(other, _OPERANDS) else NotImplemented

    operator.__doc__ = function.__doc__
    return operator


def _matmul(x: Tensor, other) -> Tensor:
    return ops.matmul(x, Tensor(other) if isinstance(other, np.ndarray) else other)


def _rmatmul(x: Tensor, other) -> Tensor:
    return ops.matmul(Tensor(other) if isinstance(other, np.ndarray) else other, x)


def _pow_(x: Tensor, exponent) -> Tensor:
    return x.copy_(ops.pow(x, exponent))


def _iter(x: Tensor) -> Iterator[Tensor]:
    """The slices along the first dimension."""
    if not x.ndim:
        raise TypeError("iteration over a 0-d tensor: use .item()")
    return iter(ops.unbind(x))


def _contains(x: Tensor, value) -> builtins.bool:
    """Whether an element equals ``value``."""
    return builtins.bool((x.data == (value.data if isinstance(value, Tensor) else value)).any())


OPERATORS = {
    "__add__": _operator(ops.add),
    "__radd__": _reflected(ops.add),
    "__sub__": _operator(ops.sub),
    "__rsub__": _reflected(ops.sub),
    "__mul__": _operator(ops.mul),
    "__rmul__": _reflected(ops.mul),
    "__truediv__": _operator(ops.div),
    "__rtruediv__": _reflected(ops.div),
    "__floordiv__": _operator(ops.floor_divide),
    "__rfloordiv__": _reflected(ops.floor_divide),
    "__mod__": _operator(ops.remainder),
    "__rmod__": _reflected(ops.remainder),
    "__pow__": _operator(ops.pow),
    "__rpow__": _reflected(ops.pow),
    "__matmul__": _operator(_matmul),
    "__rmatmul__": _operator(_rmatmul),
    "__eq__": _operator(ops.eq),
    "__ne__": _operator(ops.ne),
    "__lt__": _operator(ops.lt),
    "__le__": _operator(ops.le),
    "__gt__": _operator(ops.gt),
    "__ge__": _operator(ops.ge),
    "__and__": _operator(ops.logical_and),
    "__or__": _operator(ops.logical_or),
    "__iadd__": _operator(ops.add_),
    "__isub__": _operator(ops.sub_),
    "__imul__": _operator(ops.mul_),
    "__itruediv__": _operator(ops.div_),
    "__ipow__": _operator(_pow_),
    "__neg__": ops.neg,
    "__pos__": lambda x: x,
    "__abs__": ops.abs,
    "__invert__": ops.logical_not,
    "__getitem__": ops.getitem,
    "__setitem__": ops.setitem,
    "__iter__": _iter,
    "__contains__": _contains,
}
