"""The update of stochastic gradient descent."""

from __future__ import annotations

import numpy as np

__all__ = ["sgd_momentum"]


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
