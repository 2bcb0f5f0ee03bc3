"""The update of stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["sgd_momentum", "sgd_momentum_all"]


def sgd_momentum(
    parameter: np.ndarray,
    gradient: np.ndarray,
    velocity: np.ndarray | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> None:
    """One step of stochastic gradient descent, written into ``parameter`` and ``velocity``, with PyTorch's formula:

        g = -gradient if maximize else gradient
        g = g + weight_decay * parameter
        v = g if first else momentum * velocity + (1 - dampening) * g
        parameter = parameter - lr * (g + momentum * v if nesterov else v)

    Polyak's momentum (Sutskever et al. 2013), with the learning rate outside the velocity: a change of ``lr`` acts at once.
    Without a velocity it is plain gradient descent, parameter - lr * g. ``first`` marks the first step, before which the
    velocity holds nothing.

    parameter, gradient, velocity: the same shape, any strides. Nothing is returned.
    """
    p = parameter.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        g = (-1.0 if maximize else 1.0) * gradient.astype(np.float64)
        if weight_decay:
            g += weight_decay * p
        if velocity is None:
            step = g
        else:
            v = g if first else momentum * velocity.astype(np.float64) + (1 - dampening) * g
            velocity[...] = v
            step = g + momentum * v if nesterov else v
        parameter[...] = p - lr * step


def sgd_momentum_all(
    parameters: Sequence[np.ndarray],
    gradients: Sequence[np.ndarray],
    velocities: Sequence[np.ndarray] | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first: Sequence[bool],
) -> None:
    """``sgd_momentum`` for each of some parameters.

    parameters, gradients: arrays, each gradient of its parameter's shape. velocities: likewise, or None for all.
    first: a flag for each. The other arguments are the same for all. Nothing is returned.
    """
    for index, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        velocity = None if velocities is None else velocities[index]
        options = lr, momentum, dampening, weight_decay, nesterov, maximize, first[index]
        sgd_momentum(parameter, gradient, velocity, *options)
