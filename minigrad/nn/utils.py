"""Clipping gradients, and parameters as one vector: ``torch.nn.utils``."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from minigrad.device import array_module
from minigrad.ops._base import check_tensor
from minigrad.ops.joining import cat
from minigrad.ops.shape import reshape
from minigrad.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "parameters_to_vector", "vector_to_parameters"]


def _list(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list; a single one counts as a list of one."""
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for parameter in parameters:
        check_tensor(parameter, "every parameter")
    return parameters


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients by one factor so that the norm of all of them together is at most ``max_norm``.

    Returns the norm before clipping (a tensor of one number). Parameters without a gradient are left out. With
    ``error_if_nonfinite`` a norm that is infinite or NaN raises RuntimeError, and nothing is changed.
    """
    if not max_norm >= 0:
        raise ValueError(f"max_norm must be at least 0, got {max_norm!r}")
    if not norm_type > 0:
        raise ValueError(f"norm_type must be positive (math.inf for the largest entry), got {norm_type!r}")
    gradients = [p.grad for p in _list(parameters) if p.grad is not None]
    total = _total_norm([g.array for g in gradients], float(norm_type))
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(f"the norm of the gradients is {total}: look for the cause with mg.autograd.detect_anomaly()")
    factor = float(max_norm) / (total + 1e-6)
    if not factor >= 1:  # a NaN norm makes every gradient NaN, as in PyTorch
        for g in gradients:
            with np.errstate(invalid="ignore"):  # infinite times 0
                g.array *= factor
            g.bump_version()
    return Tensor(array_module(gradients[0].array).asarray(total, gradients[0].dtype) if gradients else total)


def _total_norm(arrays: list, p: float) -> float:
    """The p-norm of all elements of all arrays together, added up in float64."""
    if p == math.inf:
        return max((float(array_module(a).abs(a).max()) for a in arrays if a.size), default=0.0)
    powers = [float((array_module(a).abs(a.astype("float64")) ** p).sum()) for a in arrays]
    return math.fsum(powers) ** (1 / p) if all(map(math.isfinite, powers)) else sum(powers) ** (1 / p)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every entry of the gradients to -clip_value ... clip_value."""
    limit = float(clip_value)
    if not limit >= 0:
        raise ValueError(f"clip_value must be at least 0, got {clip_value!r}")
    for parameter in _list(parameters):
        if parameter.grad is not None:
            g = parameter.grad.array
            array_module(g).clip(g, -limit, limit, out=g)
            parameter.grad.bump_version()


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters one after the other in one vector; gradients flow back to them."""
    return cat([reshape(p, (-1,)) for p in _list(parameters)])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy a vector that ``parameters_to_vector`` made back into the parameters."""
    parameters = _list(parameters)
    total = sum(p.numel() for p in parameters)
    if check_tensor(vec, "vec").shape != (total,):
        raise ValueError(f"vec must have shape ({total},), the number of elements of all parameters, got {vec.shape}")
    start = 0
    for p in parameters:
        p.array[...] = vec.array[start : start + p.numel()].reshape(p.shape)
        p.bump_version()
        start += p.numel()
