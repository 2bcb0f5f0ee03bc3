"""Initial values of parameters: each function fills a tensor in place and returns it.

Random numbers come from the framework's generator (``mg.manual_seed``), are drawn in float64 and rounded to the tensor's dtype,
so that a float32 and a float64 model start from the same numbers.
"""

from __future__ import annotations

import functools
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from minigrad.device import move
from minigrad.ops._base import check_float, check_tensor
from minigrad.random import generator
from minigrad.tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "skipped",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def _fill(tensor: Tensor, values) -> Tensor:
    """Write ``values`` (a NumPy array of the tensor's shape, or a number) into its memory."""
    tensor.array[...] = move(values, tensor.device) if isinstance(values, np.ndarray) else values
    tensor.bump_version()
    return tensor


class _Skipping(threading.local):
    depth = 0


_skipping = _Skipping()


@contextmanager
def skipped() -> Iterator[None]:
    """Inside, nothing is drawn at random: parameters hold whatever their memory held, until they are loaded.

    Making a network of a hundred million parameters takes seconds otherwise. Constants (``ones_``, ``zeros_``) are still set.
    """
    _skipping.depth += 1
    try:
        yield
    finally:
        _skipping.depth -= 1


def _random(function: Callable) -> Callable:
    """Decorator of a function that fills a tensor with random numbers, unless that is ``skipped``."""

    @functools.wraps(function)
    def fill(tensor: Tensor, *args, **kwargs) -> Tensor:
        return tensor if _skipping.depth else function(tensor, *args, **kwargs)

    return fill


# ---- plain distributions -----------------------------------------------------------------------------------------------


@_random
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Numbers spread evenly between ``a`` and ``b``."""
    check_float(tensor, "tensor")
    if not a <= b:
        raise ValueError(f"a must not be larger than b, got a={a!r}, b={b!r}")
    return _fill(tensor, generator().uniform(a, b, tensor.shape))


@_random
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normally distributed numbers."""
    check_float(tensor, "tensor")
    _check_std(std)
    return _fill(tensor, generator().normal(mean, std, tensor.shape))


@_random
def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Normally distributed numbers; those outside ``a`` ... ``b`` (values, not multiples of ``std``) are drawn again."""
    check_float(tensor, "tensor")
    _check_std(std)
    inside = 0.5 * (math.erf((b - mean) / (std * math.sqrt(2))) - math.erf((a - mean) / (std * math.sqrt(2)))) if std else 1.0
    if not a < b or inside < 1e-3:
        raise ValueError(
            f"fewer than one in a thousand numbers of mean {mean!r} and std {std!r} lie between a={a!r} and b={b!r}: "
            "a and b are limits of the values themselves"
        )
    values = generator().normal(mean, std, tensor.shape)
    outside = (values < a) | (values > b)
    while outside.any():
        values[outside] = generator().normal(mean, std, int(outside.sum()))
        outside = (values < a) | (values > b)
    return _fill(tensor, values)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """The number ``val`` everywhere."""
    check_tensor(tensor, "tensor")
    return _fill(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(tensor, 1)


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(tensor, 0)


def _check_std(std) -> None:
    if not std >= 0:
        raise ValueError(f"std must be at least 0, got {std!r}")


# ---- identities --------------------------------------------------------------------------------------------------------


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, for a tensor of 2 dimensions: a Linear layer that passes its input on."""
    check_float(tensor, "tensor")
    if tensor.ndim != 2:
        raise ValueError(f"eye_ needs a tensor of 2 dimensions, got shape {tensor.shape}")
    return _fill(tensor, np.eye(*tensor.shape))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The identity for a convolution weight (O, C/groups, kh, kw): the kernel's centre is 1 where input and output agree."""
    check_float(tensor, "tensor")
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(f"dirac_ needs the weight of a convolution, of 3 to 5 dimensions, got shape {tensor.shape}")
    outputs, inputs, *kernel = tensor.shape
    if groups < 1 or outputs % groups:
        raise ValueError(f"groups={groups!r} must divide the {outputs} output channels")
    values = np.zeros(tensor.shape)
    centre = tuple(k // 2 for k in kernel)
    for group in range(groups):
        for channel in range(min(outputs // groups, inputs)):
            values[(group * (outputs // groups) + channel, channel, *centre)] = 1
    return _fill(tensor, values)


# ---- scaled to the layer -----------------------------------------------------------------------------------------------

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much to enlarge the standard deviation of weights whose layer is followed by ``nonlinearity``.

    sqrt(2) for "relu"; sqrt(2 / (1 + slope^2)) for "leaky_relu", whose slope is ``param`` (0.01 if None); 5/3 for "tanh".
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"param, the slope of leaky_relu, must be a number, got {param!r}")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        known = ", ".join(sorted([*_GAINS, "leaky_relu"]))
        raise ValueError(f"nonlinearity must be one of {known}, got {nonlinearity!r}")
    return _GAINS[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out): the connections into and out of one unit of a weight (out, in, ...)."""
    check_float(tensor, "tensor")
    if tensor.ndim < 2:
        raise ValueError(f"fan-in and fan-out need a weight of at least 2 dimensions (out, in, ...), got shape {tensor.shape}")
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


_calculate_fan_in_and_fan_out = _fans  # PyTorch's name, which layers with parameters of their own import


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'mode must be "fan_in" or "fan_out", got {mode!r}')
    return _fans(tensor)[mode == "fan_out"]


def _scaled(gain: float, fan: float) -> float:
    """The standard deviation gain / sqrt(fan); 0 for a weight without elements."""
    return gain / math.sqrt(fan) if fan else 0.0


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """U(-a, a) with a = gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    bound = math.sqrt(3) * _scaled(gain, sum(_fans(tensor)) / 2)
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """N(0, std^2) with std = gain sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    return normal_(tensor, 0.0, _scaled(gain, sum(_fans(tensor)) / 2))


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """U(-b, b) with b = gain sqrt(3 / fan) (He et al. 2015).

    ``a``: the slope of leaky_relu (0: relu). ``mode``: "fan_in" keeps the variance of activations, "fan_out" of gradients.
    """
    bound = math.sqrt(3) * _scaled(calculate_gain(nonlinearity, a), _fan(tensor, mode))
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """N(0, std^2) with std = gain / sqrt(fan) (He et al. 2015); arguments as for ``kaiming_uniform_``."""
    return normal_(tensor, 0.0, _scaled(calculate_gain(nonlinearity, a), _fan(tensor, mode)))


@_random
def orthogonal_(tensor: Tensor, gain: float = 1) -> Tensor:
    """gain times a random matrix with orthonormal rows or columns, whichever are fewer (Saxe et al. 2013).

    A weight of more than 2 dimensions is seen as the matrix (out, everything else).
    """
    check_float(tensor, "tensor")
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_ needs a tensor of at least 2 dimensions, got shape {tensor.shape}")
    if not tensor.numel():
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    q, r = np.linalg.qr(generator().normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # without this the distribution is not uniform over the rotations
    return _fill(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


# ---- names from before PyTorch 0.4 -------------------------------------------------------------------------------------


def _old_name(function: Callable) -> Callable:
    """The function under its name without underscore, which warns."""
    new = function.__name__
    old = new.removesuffix("_")

    @functools.wraps(function)
    def deprecated(*args, **kwargs) -> Tensor:
        warnings.warn(f"nn.init.{old} is now deprecated in favor of nn.init.{new}", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    deprecated.__name__ = deprecated.__qualname__ = old
    deprecated.__doc__ = f"The old name of ``{new}``."
    return deprecated


constant, dirac, eye, normal, uniform = map(_old_name, (constant_, dirac_, eye_, normal_, uniform_))
kaiming_normal, kaiming_uniform = _old_name(kaiming_normal_), _old_name(kaiming_uniform_)
xavier_normal, xavier_uniform, orthogonal = map(_old_name, (xavier_normal_, xavier_uniform_, orthogonal_))
