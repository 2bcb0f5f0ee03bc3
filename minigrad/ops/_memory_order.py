"""Elementwise ops, and those along one dimension, on arrays of a graphics card: results lie in memory as the arguments do.

NumPy's results take the memory order of what they are computed from. CuPy's are always in the order of their indices: a
channels-last image times a number would come out channels-first, after a pass over memory in the worst order for both, and the
next convolution would turn it back. So the ops that are listed here are given their arguments with the axes in the order in
which they lie in memory, where they look like ordinary contiguous arrays; result and gradients are turned back. Turning costs
nothing on the card: only the description of an array changes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from minigrad.autograd import Node, state
from minigrad.tensor import Tensor

__all__ = ["ALONG_ONE", "ELEMENTWISE", "in_memory_order"]

# Ops whose every result element depends on one element of each argument, after broadcasting, and losses that are sums of such
# elements. They call no other op. In-place forms need not be here: they write into the memory that is there.
_NAMES = """
add sub mul div pow neg maximum minimum floor_divide remainder eq ne lt le gt ge logical_and logical_or logical_not
isnan isinf isfinite exp expm1 log log1p log2 log10 sqrt rsqrt square reciprocal sin cos tan erf abs sign
floor ceil trunc round clamp where hardtanh relu6 leaky_relu elu selu sigmoid tanh silu gelu softplus logsigmoid mish
hardsigmoid hardswish
l1_loss mse_loss huber_loss smooth_l1_loss binary_cross_entropy binary_cross_entropy_with_logits
"""
ELEMENTWISE = frozenset(_NAMES.split())
ALONG_ONE = frozenset(("softmax", "log_softmax", "cumsum"))  # (x, dim): every line of x along ``dim`` by itself


def in_memory_order(function: Callable, args: tuple, kwargs: dict):
    """The result of the op ``function``, computed in the order of its arguments' memory if it is one of those above."""
    name = function.__name__
    if name not in ELEMENTWISE and name not in ALONG_ONE:
        return function(*args, **kwargs)
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, Tensor):
            if value.pending is not None and name == "add":  # which may wait on: see _pending.py
                return function(*args, **kwargs)
            array = value.array
            if type(array) is not np.ndarray and not array.flags.c_contiguous and not state.anomaly:
                order = _order(array)
                if order is not None:
                    turned = _Turned(order)
                    return turned.call(function if name in ELEMENTWISE else turned.along(function), args, kwargs)
    return function(*args, **kwargs)


def _order(array) -> tuple[int, ...] | None:
    """The axes from the longest step in memory to the shortest; None if the array has gaps."""
    return _order_of(array.shape, array.strides, array.itemsize)


@functools.lru_cache(maxsize=4096)
def _order_of(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, ...] | None:
    order = sorted(range(len(shape)), key=lambda axis: -strides[axis])
    step = itemsize
    for axis in reversed(order):
        if shape[axis] != 1 and strides[axis] != step:
            return None
        step *= shape[axis]
    return tuple(order)


class _Turned:
    """A call with the axes of its arguments in the order ``order``."""

    def __init__(self, order: tuple[int, ...]):
        self.order, self.ndim = order, len(order)
        self.back = tuple(sorted(range(self.ndim), key=order.__getitem__))
        self.originals: dict[int, Tensor] = {}  # id of a turned tensor -> the tensor

    def along(self, function: Callable) -> Callable:
        """``function(x, dim)`` with ``dim`` turned too."""

        def turned(x, dim):
            right = type(dim) is int and -self.ndim <= dim < self.ndim
            return function(x, self.back[dim] if right else dim)

        return turned

    def call(self, function: Callable, args: tuple, kwargs: dict):
        twins = {}  # a tensor that is given twice is turned once
        turned = [self._twin(v, twins) if isinstance(v, Tensor) else v for v in args]
        named = {k: self._twin(v, twins) if isinstance(v, Tensor) else v for k, v in kwargs.items()}
        if any(t is None for t in twins.values()):  # one has more axes: the order says nothing about them
            return function(*args, **kwargs)
        try:
            y = function(*turned, **named)
        except (ValueError, IndexError):  # of shapes: it shall speak of those that were given
            return function(*args, **kwargs)
        original = self.originals.get(id(y))
        if original is not None:
            return self._settled(original, y)
        y.data = self._turned_back(y.array)
        if y.origin is not None:
            self._turn_back(y.origin[0])
        return y

    def _twin(self, t: Tensor, twins: dict[int, Tensor | None]) -> Tensor | None:
        """The same tensor, for autograd too, with its axes in the order of memory. None if it has more axes."""
        if id(t) not in twins:
            twins[id(t)] = twin = None if t.array.ndim > self.ndim else Tensor.__new__(Tensor)
            if twin is not None:
                twin.data = self._turn(t.array)
                twin.requires_grad, twin.origin, twin.version, twin.view_version = (
                    t.requires_grad,
                    t.origin,
                    t.version,
                    t.view_version,
                )
                twin.grad = twin.hooks = twin.pending = None
                self.originals[id(twin)] = t
        return twins[id(t)]

    def _turn(self, array):
        if not array.ndim:  # stays what it is, because its dtype counts less than that of others
            return array
        if array.ndim < self.ndim:
            array = array.reshape((1,) * (self.ndim - array.ndim) + array.shape)
        return array.transpose(self.order)

    def _settled(self, original: Tensor, twin: Tensor) -> Tensor:
        """The tensor that an op gives back as it is, or changed in place."""
        if twin.origin is not original.origin:
            self._turn_back(twin.origin[0])
            original.origin, original.requires_grad, original.view_version = twin.origin, True, twin.view_version
        return original

    def _turn_back(self, node: Node) -> None:
        """Let gradients come to ``node``, and go from it, with the axes that the tensors have which were given."""
        leaves = self.originals  # a leaf stands among the edges itself, other tensors by the node that made them
        node.edges = tuple([leaves.get(id(edge), edge) if isinstance(edge, Tensor) else edge for edge in node.edges])
        shapes = {t.origin or t: t.shape for t in leaves.values() if t.ndim < self.ndim}
        node.backward = functools.partial(self._backward, node.backward, [shapes.get(edge) for edge in node.edges])
        self.originals = {}

    def _turned_back(self, array):
        return array.transpose(self.back) if array.ndim else array

    def _backward(self, backward: Callable, shapes: list, gy) -> tuple:
        """``shapes``: those of the inputs that have fewer axes, None for the others."""
        gxs = backward(gy.transpose(self.order) if gy.ndim else gy)
        pairs = zip(gxs if type(gxs) is tuple else (gxs,), shapes, strict=True)
        return tuple(
            [None if gx is None else gx.transpose(self.back) if shape is None else gx.reshape(shape) for gx, shape in pairs]
        )
