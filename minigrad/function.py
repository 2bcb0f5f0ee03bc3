"""``autograd.Function``: an op with a backward of its own, written outside the framework, as in PyTorch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from minigrad import autograd
from minigrad.autograd import no_grad
from minigrad.device import array_module, device_of
from minigrad.ops._base import record_inplace, record_outputs, unbroadcast
from minigrad.tensor import Tensor

__all__ = ["Function", "FunctionCtx", "once_differentiable"]


class FunctionCtx:
    """What forward tells backward: the ``ctx`` of a ``Function``. Other attributes may be set on it at will.

    ``needs_input_grad``  for each argument of forward, whether its gradient is asked for
    ``saved_tensors``     what ``save_for_backward`` was given
    """

    def __init__(self, needs_input_grad: tuple[bool, ...] = ()):
        self.needs_input_grad = needs_input_grad
        self.saved_tensors: tuple[Tensor | None, ...] = ()
        self.materialize_grads = True
        self.dirty: tuple[Tensor, ...] = ()
        self.non_differentiable: tuple[Tensor, ...] = ()

    @property
    def saved_variables(self) -> tuple[Tensor | None, ...]:
        """``saved_tensors`` by its name from before PyTorch 0.4."""
        return self.saved_tensors

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors (or None) for backward, which finds them in ``saved_tensors``. Changing one in place is noticed then."""
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward takes tensors, got {type(t).__name__} as argument {i}: set an attribute (ctx.x = x)"
                )
        self.saved_tensors = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say that forward changed this input in place; it must be the only output too."""
        self.dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say that these outputs have no gradient."""
        self.non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether the gradient of an output that was not used comes as zeros (at first it does) or as None."""
        self.materialize_grads = bool(value)


class Function:
    """Base of functions with a backward of their own; call them by ``apply``, never make an instance.

        class Cube(mg.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x ** 3

            @staticmethod
            def backward(ctx, gy):
                (x,) = ctx.saved_tensors
                return 3 * x ** 2 * gy

        y = Cube.apply(x)

    ``forward(ctx, *args)`` gets anything and returns a tensor or a tuple of tensors (and other things, which are passed on). What
    it computes is not recorded. ``backward(ctx, *gys)`` gets the gradient of each output and returns that of each argument of
    forward, None where there is none. In the newer style it is ``forward(*args)``, and ``setup_context(ctx, inputs, output)``
    keeps what backward needs. backward runs with recording off: there are no second derivatives.
    """

    def __call__(self, *args, **kwargs):
        raise RuntimeError(
            f"{type(self).__name__} is an autograd function: make forward and backward static methods whose first argument "
            f"is ctx, and call {type(self).__name__}.apply(...), without making an instance"
        )

    @staticmethod
    def forward(*args, **kwargs) -> Any:
        """The function: ``forward(ctx, *args)``, or ``forward(*args)`` beside a ``setup_context``. Must be overridden."""
        raise NotImplementedError("an autograd.Function must define a static method forward(ctx, *args)")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple, output: Any) -> None:
        """Keeps on ``ctx`` what backward needs, in classes whose forward does not take ``ctx``."""
        raise NotImplementedError("setup_context(ctx, inputs, output) is not defined")

    @staticmethod
    def backward(ctx: FunctionCtx, *grad_outputs: Tensor) -> Any:
        """The gradient of each argument of forward from those of the outputs. Must be overridden."""
        raise NotImplementedError("an autograd.Function must define a static method backward(ctx, *grad_outputs)")

    @classmethod
    def apply(cls, *args, **kwargs) -> Any:
        """The value of forward for these arguments, recorded with this class's backward."""
        separate = cls.setup_context is not Function.setup_context
        args, kwargs = _positional(cls, args, kwargs, separate)
        ctx = FunctionCtx(tuple([isinstance(a, Tensor) and a.requires_grad for a in args]))
        with no_grad():
            result = cls.forward(*args, **kwargs) if separate else cls.forward(ctx, *args, **kwargs)
            if separate:
                cls.setup_context(ctx, args, result)
        outputs = list(result) if isinstance(result, tuple) else [result]
        places = [i for i, y in enumerate(outputs) if isinstance(y, Tensor)]
        if not places:
            raise TypeError(f"{cls.__name__}: forward must return a tensor or a tuple of tensors, got {type(result).__name__}")
        for i, y in zip(places, _recorded(cls, ctx, args, [outputs[i] for i in places]), strict=True):
            outputs[i] = y
        return tuple(outputs) if isinstance(result, tuple) else outputs[0]


def once_differentiable(backward: Callable) -> Callable:
    """PyTorch's decorator of a backward that has no second derivative, which here none has: returns ``backward`` itself."""
    return backward


def _positional(cls: type[Function], args: tuple, kwargs: dict, separate: bool) -> tuple[tuple, dict]:
    """Named arguments of forward in their places, so that each has its gradient."""
    if not kwargs:
        return args, kwargs
    before = () if separate else (None,)  # ctx
    bound = inspect.signature(cls.forward).bind(*before, *args, **kwargs)
    for name, value in bound.kwargs.items():
        if isinstance(value, Tensor) and value.requires_grad:
            raise TypeError(f"{cls.__name__}: {name} requires grad, so it must be an argument by position")
    return bound.args[len(before) :], bound.kwargs


# ---- recording ---------------------------------------------------------------------------------------------------------


def _recorded(cls: type[Function], ctx: FunctionCtx, args: tuple, outputs: list[Tensor]) -> Sequence[Tensor]:
    """The outputs of forward with their place in the graph."""
    inputs = [a if isinstance(a, Tensor) else None for a in args]
    # What backward keeps must not lead to this node, so an output is kept without its history.
    kept = ctx.saved_tensors
    ctx.saved_tensors = tuple([
        t if t is None or (_among(t, inputs) and not _among(t, ctx.dirty)) else t.detach() for t in kept
    ])  # fmt: skip
    backward = _backward(cls, ctx, inputs, outputs)
    if ctx.dirty:
        return [_recorded_inplace(cls, ctx, inputs, outputs, backward)]
    ys = record_outputs([y.data for y in outputs], inputs, backward, kept)
    for y, out in zip(ys, outputs, strict=True):
        y.version = out.version
        y.view_version = out.version[0] if _among(out, inputs) else out.view_version
        if _among(out, ctx.non_differentiable):
            y.requires_grad, y.origin = False, None
    return ys


def _recorded_inplace(cls: type[Function], ctx: FunctionCtx, inputs: list, outputs: list[Tensor], backward: Callable) -> Tensor:
    """The input that forward changed and returned, with the change recorded."""
    if len(ctx.dirty) != 1 or len(outputs) != 1 or outputs[0] is not ctx.dirty[0]:
        raise NotImplementedError(f"{cls.__name__}: mark_dirty is possible for one input, which must be the only output as well")
    x = outputs[0]
    if not _among(x, inputs):
        raise ValueError(f"{cls.__name__}: mark_dirty is for inputs of forward, got another tensor")
    if autograd.is_grad_enabled() and x.requires_grad and x.origin is None:
        raise RuntimeError(f"{cls.__name__}: a leaf tensor that requires grad cannot be changed in place: clone() it first")
    first = next(i for i, t in enumerate(inputs) if t is x)
    order = [first, *(i for i in range(len(inputs)) if i != first)]  # record_inplace wants x in front

    def in_order(gy):
        gradients = backward(gy)
        return tuple([gradients[i] for i in order])

    in_order.__qualname__ = cls.__name__
    return record_inplace(x, [inputs[i] for i in order], in_order, ctx.saved_tensors)


def _among(t: Tensor, tensors: Sequence) -> bool:
    return any([t is other for other in tensors])  # noqa: C419 (== compares elements)


def _backward(cls: type[Function], ctx: FunctionCtx, inputs: list, outputs: list[Tensor]) -> Callable:
    """The node's backward, from arrays to arrays. It holds no tensor but those that ``ctx`` holds."""
    kinds = [None if t is None else (t.shape, t.dtype, t.device) for t in inputs]
    library = array_module(outputs[0].data)
    unused = [(y.shape, y.dtype) for y in outputs]

    def backward(*gys):
        if ctx.materialize_grads:
            gys = [library.zeros(*kind) if gy is None else gy for gy, kind in zip(gys, unused, strict=True)]
        above = [None if gy is None else Tensor(gy) for gy in gys]
        result = cls.backward(ctx, *above)
        for i, gy in enumerate(above):
            if gy is not None and gy.version[0]:
                raise RuntimeError(
                    f"{cls.__name__}: backward changed the gradient of output {i} in place, which other nodes may use: "
                    "clone() it first"
                )
        gradients = list(result) if isinstance(result, (tuple, list)) else [result]
        while len(gradients) > len(kinds) and gradients[-1] is None:
            gradients.pop()
        if len(gradients) != len(kinds):
            raise RuntimeError(
                f"{cls.__name__}: backward must return a gradient (or None) for each of the {len(kinds)} arguments of forward, "
                f"got {len(gradients)}"
            )
        return tuple([
            _array(f"{cls.__name__}: backward", i, g, kind, ctx.needs_input_grad[i])
            for i, (g, kind) in enumerate(zip(gradients, kinds, strict=True))
        ])  # fmt: skip

    backward.__qualname__ = cls.__name__  # the node's name
    return backward


def _array(who: str, i: int, g: Any, kind: tuple | None, needed: bool):
    """The array of gradient ``i`` in the shape and dtype of its argument."""
    if g is None:
        return None
    if kind is None:
        raise RuntimeError(f"{who} returned a gradient for argument {i}, which is not a tensor: return None there")
    if not isinstance(g, Tensor):
        raise TypeError(f"{who} must return tensors or None, got {type(g).__name__} for argument {i}")
    if not needed:
        return None
    shape, dtype, device = kind
    lead = g.ndim - len(shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, g.shape[lead:], strict=True)):
        raise RuntimeError(f"{who} returned shape {g.shape} for argument {i}, which has shape {shape}")
    if device_of(g.data) != device:
        raise RuntimeError(f"{who} returned a gradient on {g.device} for argument {i} on {device}: move it with .to(device)")
    return unbroadcast(g.data, shape).astype(dtype, copy=False)
