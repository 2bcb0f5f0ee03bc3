"""``grad`` and ``backward``: the gradients of several tensors, as return values or in ``.grad``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from minigrad.autograd import run_backward
from minigrad.device import array_module
from minigrad.tensor import Tensor

__all__ = ["backward", "grad"]


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
    _check_first_order(create_graph)
    outputs, inputs = _tensors(outputs, "outputs"), _tensors(inputs, "inputs")
    _check_requires_grad(outputs, "outputs"), _check_requires_grad(inputs, "inputs")
    arrays = _above(outputs, grad_outputs, "outputs", "grad_outputs")
    gradients = run_backward(outputs, arrays, bool(retain_graph), targets=inputs) or []
    for i, g in enumerate(gradients):
        if g is None and not allow_unused:
            raise RuntimeError(f"the outputs do not depend on inputs[{i}]: pass allow_unused=True to get None for it")
    return tuple(None if g is None else Tensor(g.copy(order="K")) for g in gradients)  # they may share memory


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add the gradients of (the sum of) ``tensors`` to the ``.grad`` of the leaves, as ``Tensor.backward`` does for one.

    ``grad_tensors``: what arrives from above, one tensor of its shape for each; may be left out for tensors of one element (then
    1). ``retain_graph``: keep the graph for another call.
    """
    _check_first_order(create_graph)
    tensors = _tensors(tensors, "tensors")
    _check_requires_grad(tensors, "tensors")
    run_backward(tensors, _above(tensors, grad_tensors, "tensors", "grad_tensors"), bool(retain_graph))


# ---- arguments ---------------------------------------------------------------------------------------------------------


def _check_first_order(create_graph: bool) -> None:
    if create_graph:
        raise NotImplementedError("minigrad computes first-order gradients only: create_graph must be False")


def _check_requires_grad(tensors: list[Tensor], name: str) -> None:
    for i, t in enumerate(tensors):
        if not t.requires_grad:
            raise RuntimeError(f"{name}[{i}] does not require grad")


def _tensors(value: Any, name: str) -> list[Tensor]:
    if not isinstance(value, (Tensor, Iterable)):
        raise TypeError(f"{name} must be a Tensor or a list of Tensors, got {type(value).__name__}")
    tensors = [value] if isinstance(value, Tensor) else list(value)
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name}[{i}] must be a Tensor, got {type(t).__name__}")
    return tensors


def _above(ys: list[Tensor], gys: Any, of: str, name: str) -> list:
    """The arrays of the gradients that arrive at ``ys``: ``gys``, or 1 for one element. ``of``, ``name``: the arguments."""
    above: Sequence = [None] * len(ys) if gys is None else [gys] if isinstance(gys, Tensor) else gys
    if len(above) != len(ys):
        raise ValueError(f"{name} must hold one tensor for each of the {len(ys)} {of}, got {len(above)}")
    arrays = []
    for i, (y, gy) in enumerate(zip(ys, above, strict=True)):
        if gy is None and y.numel() != 1:
            raise RuntimeError(f"{of}[{i}] has shape {y.shape}: give {name}, or reduce it to one number first")
        if gy is not None and (not isinstance(gy, Tensor) or gy.shape != y.shape):
            raise ValueError(f"{name}[{i}] must be a Tensor of shape {y.shape}, got {getattr(gy, 'shape', gy)!r}")
        if gy is not None and gy.device != y.device:
            raise RuntimeError(f"{name}[{i}] is on {gy.device}, {of}[{i}] on {y.device}: move it with .to(device)")
        arrays.append(array_module(y.array).ones_like(y.array) if gy is None else gy.array.astype(y.dtype, copy=False))
    return arrays
