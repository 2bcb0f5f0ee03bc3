"""How an op is called where it does not simply run: observed, under autocast, given 16-bit numbers or arrays on a card.

Autocast converts arguments to the dtype that the op's list names, by differentiable casts. The casts of parameters are kept until
the outermost block ends, for recurrent and shared layers and for further forward passes.

16-bit numbers (float16, bfloat16) are for storing. Ops compute with them in float32 and round the result once, as PyTorch's do;
on the graphics card the ops of ``NATIVE`` have kernels that do so while they read and write.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import numpy as np

from minigrad.autograd import Node, state
from minigrad.device import is_floating
from minigrad.ops._base import REGISTRY
from minigrad.ops._memory_order import in_memory_order
from minigrad.ops._precision_lists import LOW, MIXING, NATIVE, NORMALIZING, SINGLE, WIDENED, WIDEST, WRITING
from minigrad.tensor import Tensor

__all__ = ["call"]

FLOAT32 = np.dtype(np.float32)


def call(function: Callable, args: tuple, kwargs: dict):
    """The result of the op ``function``."""
    if state.autocast:
        tensors = list(_floating(args, kwargs))
        dtype = state.autocast.get(_device_type(tensors[0])) if tensors else None
        if dtype is not None:
            return _autocast(function, args, kwargs, tensors, dtype)
    return _computed(function, args, kwargs) if state.sixteen_bits else _run(function, args, kwargs)


# ---- arguments ---------------------------------------------------------------------------------------------------------


def _floating(args: tuple, kwargs: dict) -> Iterator[Tensor]:
    """The tensors of floating-point numbers among the arguments, those in lists too."""
    for value in (*args, *kwargs.values()):
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, Tensor) and is_floating(_dtype(item)):
                yield item


def _dtype(t: Tensor) -> np.dtype:
    """The dtype of a tensor; one that is pending stays so."""
    return t.array.dtype if t.pending is None else t.pending.dtype


def _device_type(t: Tensor) -> str:
    return "cpu" if t.pending is not None or isinstance(t.array, np.ndarray) else "cuda"


def _replaced(value, convert: Callable):
    """An argument with its floating tensors converted."""
    if isinstance(value, Tensor):
        return convert(value) if is_floating(_dtype(value)) else value
    if isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value):
        return type(value)([_replaced(item, convert) for item in value])
    return value


def _converted(args: tuple, kwargs: dict, convert: Callable) -> tuple[tuple, dict]:
    return tuple([_replaced(value, convert) for value in args]), {k: _replaced(value, convert) for k, value in kwargs.items()}


def _cast(t: Tensor, dtype: np.dtype) -> Tensor:
    return t if _dtype(t) == dtype else REGISTRY["cast"](t, dtype)


# ---- autocast ----------------------------------------------------------------------------------------------------------


def _autocast(function: Callable, args: tuple, kwargs: dict, tensors: list[Tensor], dtype: np.dtype):
    """Call the op with its arguments in the dtype that autocast has for it; ops that it calls are not autocast again."""
    name, where = function.__name__, _device_type(tensors[0])
    if name == "binary_cross_entropy" and where == "cuda":
        raise RuntimeError(
            "is unsafe under autocast, because probabilities of 16 bits lose what its logarithms need: leave the sigmoid out and "
            "use binary_cross_entropy_with_logits (BCEWithLogitsLoss), or call it inside autocast(..., enabled=False)"
        )
    if name in LOW[where]:

        def convert(t):
            return _to_low(t, dtype) if _dtype(t).itemsize <= 4 else t

    elif name in SINGLE[where] or (name == "div" and where == "cuda" and not isinstance(args[0], Tensor)):

        def convert(t):
            return _cast(t, FLOAT32) if _dtype(t).itemsize < 4 else t

    elif name in WIDEST[where]:
        widest = np.result_type(*(_dtype(t) for t in tensors))

        def convert(t):
            return _cast(t, widest)

    else:
        return _computed(function, args, kwargs)
    before, state.autocast = state.autocast, {}
    try:
        return _computed(function, *_converted(args, kwargs, convert))
    finally:
        state.autocast = before


class _ParameterCast(Node):
    """The cast of a parameter. It holds no array, so it outlives the graphs that share it."""

    __slots__ = ()

    def release(self) -> None:
        """Nothing to drop: another forward pass may have used the same cast."""


def _to_low(t: Tensor, dtype: np.dtype) -> Tensor:
    """t in 16 bits; for a parameter what was kept from its last use, if it has not changed since."""
    if _dtype(t) == dtype:
        return t
    kept = t.requires_grad and t.origin is None and t.view_version is None and state.autocast_caches
    if not kept or state.capture is not None:  # what a CUDA graph computes lies in memory of its own
        return _cast(t, dtype)
    stamp = (t.version[0], dtype, state.grad_enabled)
    entry = state.autocast_cache.get(id(t))
    if entry is None or entry[0] is not t.array or entry[1] != stamp:
        entry = state.autocast_cache[id(t)] = (t.array, stamp, _parameter_cast(t, dtype), t)  # t: so that its id stays its own
    return entry[2]


def _parameter_cast(t: Tensor, dtype: np.dtype) -> Tensor:
    before = t.array.dtype
    with np.errstate(over="ignore"):
        y = Tensor(t.array.astype(dtype))
    if state.grad_enabled:
        y.requires_grad = True
        y.origin = (_ParameterCast(lambda gy: gy.astype(before), (t,), (), name="cast"), 0)
    return y


# ---- 16-bit numbers ----------------------------------------------------------------------------------------------------


def _computed(function: Callable, args: tuple, kwargs: dict):
    """The result of an op; what has no kernel for 16-bit numbers gets float32, and its result is rounded."""
    name = function.__name__
    if name in WIDENED or name in WRITING:
        tensors = list(_floating(args, kwargs))
        if any(_dtype(t).itemsize == 2 for t in tensors):
            return _with_16_bits(name, function, args, kwargs, tensors)
    return _run(function, args, kwargs)


def _run(function: Callable, args: tuple, kwargs: dict):
    if state.observer is not None:
        return state.observer(function, args, kwargs)
    return in_memory_order(function, args, kwargs) if state.cards else function(*args, **kwargs)


def _with_16_bits(name: str, function: Callable, args: tuple, kwargs: dict, tensors: list[Tensor]):
    if name in WRITING:
        low = _dtype(tensors[0]).itemsize == 2
        return _written(args, REGISTRY[WRITING[name]], kwargs) if low else _run(function, args, kwargs)
    dtype = _result_dtype(name, tensors)
    if dtype is None or _is_native(name, args, kwargs, tensors):
        return _run(function, args, kwargs)
    given = inspect.signature(function).bind(*args, **kwargs).arguments
    if given.get("inplace"):
        given["inplace"] = False
        return _written((given.pop("x"),), REGISTRY[name], given)
    wide: dict[int, Tensor] = {}  # id of what an argument became -> the argument

    def convert(t):
        y = _cast(t, FLOAT32) if _dtype(t).itemsize == 2 else t
        wide[id(y)] = t
        return y

    args, kwargs = _converted(args, kwargs, convert)
    y = _run(function, args, kwargs)
    if name in NORMALIZING and isinstance(y, tuple):  # statistics stay as accurate as they are
        return (_rounded(y[0], dtype, wide), *y[1:])
    return _rounded(y, dtype, wide)


def _written(args: tuple, function: Callable, kwargs: dict) -> Tensor:
    """The result of an op, written into its first argument."""
    return REGISTRY["copy_"](args[0], function(*args, **kwargs))


def _result_dtype(name: str, tensors: list[Tensor]) -> np.dtype | None:
    """The dtype of the result, float32 and wider ones included; None for dtypes that the op itself has to refuse."""
    dtypes = {_dtype(t) for t in tensors}
    if len(dtypes) == 1:
        return dtypes.pop()
    if name in NORMALIZING:
        first = _dtype(tensors[0])
        return first if first.itemsize == 2 and dtypes == {first, FLOAT32} else None
    if name not in MIXING:
        return None
    dtypes = {_dtype(t) for t in tensors if t.ndim} or dtypes  # tensors without dimensions do not widen others
    return dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes)


def _is_native(name: str, args: tuple, kwargs: dict, tensors: list[Tensor]) -> bool:
    """Whether the op computes with these 16-bit numbers itself: by a kernel, or one rounding for one operation."""
    if name in ("add", "sub", "mul"):
        alike = len(args) == len(tensors) == 2 and not kwargs and _dtype(tensors[0]) == _dtype(tensors[1])
        return alike and isinstance(args[0], Tensor) and isinstance(args[1], Tensor)
    return name in NATIVE and _device_type(tensors[0]) == "cuda"


def _rounded(y, dtype: np.dtype, wide: dict[int, Tensor]):
    """A result, or several, in ``dtype``; an argument that comes back unchanged is the argument that was given."""
    if isinstance(y, Tensor):
        if id(y) in wide:
            return wide[id(y)]
        return _cast(y, dtype) if is_floating(_dtype(y)) else y
    if isinstance(y, tuple):
        items = [_rounded(item, dtype, wide) for item in y]
        return type(y)(*items) if hasattr(y, "_fields") else tuple(items)
    return y
