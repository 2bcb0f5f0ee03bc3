"""``grad``: gradients as return values instead of in ``.grad``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from minigrad.autograd import run_backward
from minigrad.device import array_module
from minigrad.tensor import Tensor

__all__ = ["grad"]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of (the sum of) ``outputs`` with respect to each of ``inputs``, as a tuple; no ``.grad`` is touched.

    ``grad_outputs``: what arrives from above, one tensor of its shape for each output; may be left out for outputs of one element
    (then 1). ``retain_graph``: keep the graph for another call. ``allow_unused``: give None for an input that the outputs do not
    depend on, instead of raising RuntimeError.
    """
    if create_graph:
        raise NotImplementedError("minigrad computes first-order gradients only: create_graph must be False")
    outputs, inputs = _tensors(outputs, "outputs"), _tensors(inputs, "inputs")
    above: Sequence = [None] * len(outputs) if grad_outputs is None else grad_outputs
    above = [above] if isinstance(above, Tensor) else above
    if len(above) != len(outputs):
        raise ValueError(f"grad_outputs must hold one tensor for each of the {len(outputs)} outputs, got {len(above)}")
    for name, tensors in (("outputs", outputs), ("inputs", inputs)):
        for i, t in enumerate(tensors):
            if not t.requires_grad:
                raise RuntimeError(f"{name}[{i}] does not require grad")
    arrays = [_above(y, gy, i) for i, (y, gy) in enumerate(zip(outputs, above, strict=True))]
    gradients = run_backward(outputs, arrays, bool(retain_graph), targets=inputs) or []
    for i, g in enumerate(gradients):
        if g is None and not allow_unused:
            raise RuntimeError(f"the outputs do not depend on inputs[{i}]: pass allow_unused=True to get None for it")
    return tuple(None if g is None else Tensor(g.copy(order="K")) for g in gradients)  # they may share memory


def _tensors(value: Any, name: str) -> list[Tensor]:
    if not isinstance(value, (Tensor, Iterable)):
        raise TypeError(f"{name} must be a Tensor or a list of Tensors, got {type(value).__name__}")
    tensors = [value] if isinstance(value, Tensor) else list(value)
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}[{i}] must be a Tensor, got {type(t).__name__}")
    return tensors


def _above(y: Tensor, gy: Tensor | None, i: int):
    """The array of the gradient that arrives at output ``i``."""
    if gy is None:
        if y.numel() != 1:
            raise RuntimeError(f"outputs[{i}] has shape {y.shape}: give grad_outputs, or reduce it to one number first")
        return array_module(y.data).ones_like(y.data)
    if not isinstance(gy, Tensor) or gy.shape != y.shape:
        raise ValueError(f"grad_outputs[{i}] must be a Tensor of shape {y.shape}, got {getattr(gy, 'shape', gy)!r}")
    return gy.data.astype(y.dtype, copy=False)
