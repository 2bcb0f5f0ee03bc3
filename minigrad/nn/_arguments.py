"""What the constructors of layers share: checks of their arguments, and new parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import creation
from minigrad.nn.parameter import Parameter

__all__ = ["check_divides", "check_positive", "check_probability", "floating", "new_parameter"]


def check_positive(**arguments: Any) -> None:
    """Raise TypeError or ValueError, naming the argument, unless every one is an integer of at least 1."""
    for name, value in arguments.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise TypeError(f"{name} must be a positive integer, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}")


def check_divides(divisor_name: str, divisor: int, **arguments: int) -> None:
    """Raise ValueError unless ``divisor`` divides every argument without remainder."""
    for name, value in arguments.items():
        if value % divisor:
            raise ValueError(f"{divisor_name}={divisor} must divide {name}={value} without remainder")


def check_probability(p: Any, name: str = "p") -> float:
    """``p`` if it is a number from 0 to 1, else TypeError or ValueError."""
    if not isinstance(p, (int, float)) or isinstance(p, bool):
        raise TypeError(f"{name} must be a number from 0 to 1, got {p!r}")
    if not 0 <= p <= 1:
        raise ValueError(f"{name} must be a probability from 0 to 1, got {p!r}")
    return p


def new_parameter(*shape: int, device: Any = None, dtype: Any = None) -> Parameter:
    """A parameter of ``shape`` whose values are still to be set (float32 on "cpu" unless told otherwise)."""
    return Parameter(creation.empty(*shape, device=device, dtype=floating(dtype)))


def floating(dtype: Any) -> Any:
    """``dtype``, or float32 for None."""
    return np.float32 if dtype is None else dtype
