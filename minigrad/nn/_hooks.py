"""Backward hooks of a module: they see the gradients of its outputs and of its inputs.

A call of the module gets two gates, nodes without mathematics: its inputs pass through the first, its outputs through the
second. The graph visits the output gate when the gradients of all outputs are complete, and the input gate when those of all
inputs are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minigrad import autograd
from minigrad.ops._base import record_outputs
from minigrad.tensor import Tensor

__all__ = ["BackwardHooks"]


class BackwardHooks:
    """The backward hooks of one call of ``module``."""

    def __init__(self, module, before: Sequence[Callable], after: Sequence[Callable]):
        self.module = module
        self.before = before  # hook(module, grad_output)
        self.after = after  # hook(module, grad_input, grad_output)
        self.inputs = 0  # how many positional arguments the call has
        self.gated = False  # whether one of them requires a gradient
        self.grad_output: tuple | None = None

    def enter(self, args: tuple) -> tuple:
        """The arguments of the call; the tensors among them that require a gradient come out of the input gate."""
        self.inputs = len(args)
        places = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad]
        self.gated = bool(places) and autograd.is_grad_enabled()
        if not self.gated:
            return args

        def on_gradients(gxs):
            return self._run_after(_spread(gxs, places, self.inputs), places)

        return _replace(args, places, _gate([args[i] for i in places], on_gradients))

    def leave(self, result):
        """The result of the call; the tensors in it that require a gradient come out of the output gate."""
        outputs = tuple(result) if isinstance(result, (tuple, list)) else (result,)
        if not all(isinstance(y, Tensor) for y in outputs):
            kinds = ", ".join(type(y).__name__ for y in outputs)
            raise TypeError(f"a module with backward hooks must return a Tensor or a tuple of Tensors, got {kinds}")
        places = [i for i, y in enumerate(outputs) if y.requires_grad]
        if not places or not autograd.is_grad_enabled():
            return result

        def on_gradients(gys):
            gys = _spread(gys, places, len(outputs))
            for hook in self.before:
                gys = _replacement(hook(self.module, gys), gys, "grad_output")
            self.grad_output = gys
            if not self.gated:
                self._run_after((None,) * self.inputs, [])
            return [gys[i] for i in places]

        outputs = _replace(outputs, places, _gate([outputs[i] for i in places], on_gradients))
        return outputs[0] if isinstance(result, Tensor) else type(result)(outputs)

    def _run_after(self, gxs: tuple, places: list[int]) -> list:
        grad_output, self.grad_output = self.grad_output, None
        for hook in self.after:
            gxs = _replacement(hook(self.module, gxs, grad_output), gxs, "grad_input")
        return [gxs[i] for i in places]


def _gate(tensors: list[Tensor], on_gradients: Callable) -> tuple[Tensor, ...]:
    """The tensors again, behind a node that passes their gradients (Tensors or None) through ``on_gradients``."""

    def backward(*gys):
        gradients = on_gradients([None if gy is None else Tensor(gy) for gy in gys])
        return tuple(None if g is None else g.array for g in gradients)

    backward.__qualname__ = "module_backward_hook.<locals>.backward"  # the name of the node
    ys = record_outputs([t.array for t in tensors], tensors, backward)
    for x, y in zip(tensors, ys, strict=True):  # each is a view of its own tensor
        y.version, y.view_version = x.version, x.version[0]
    return ys


def _spread(values: Sequence, places: list[int], length: int) -> tuple:
    return _replace((None,) * length, places, values)


def _replace(values: tuple, places: list[int], replacements: Sequence) -> tuple:
    result = list(values)
    for i, value in zip(places, replacements, strict=True):
        result[i] = value
    return tuple(result)


def _replacement(returned, gradients: tuple, what: str) -> tuple:
    """What a hook returned instead of ``gradients``, checked; None leaves them as they are."""
    if returned is None:
        return gradients
    returned = (returned,) if isinstance(returned, Tensor) else returned
    shapes = [None if g is None else g.shape for g in gradients]
    if not isinstance(returned, (tuple, list)) or len(returned) != len(gradients):
        raise ValueError(f"a backward hook must return None or {len(gradients)} gradients ({what}), got {returned!r}")
    for new, old, shape in zip(returned, gradients, shapes, strict=True):
        if (new is None) != (old is None) or (new is not None and (not isinstance(new, Tensor) or new.shape != shape)):
            raise ValueError(f"a backward hook must return tensors of the shapes of {what}, {shapes}, got {returned!r}")
    return tuple(returned)
