"""Functions without state, under the names and with the arguments of ``torch.nn.functional``: the ops that networks are made of,
and the few that are put together from several ops."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from minigrad._names import missing
from minigrad.kernels import for_array
from minigrad.ops._base import check_float, data_of, other_names, with_own_names
from minigrad.ops.activations import (
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    mish,
    relu,
    relu6,
    relu_,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from minigrad.ops.arithmetic import add, div, gt, mul
from minigrad.ops.arithmetic import pow as power
from minigrad.ops.convolution import conv2d, conv_transpose2d, fold, unfold
from minigrad.ops.dropout import dropout, dropout2d
from minigrad.ops.gathering import one_hot
from minigrad.ops.linalg import linear
from minigrad.ops.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from minigrad.ops.math import abs as absolute
from minigrad.ops.math import clamp, where
from minigrad.ops.normalization import (
    batch_norm_inference,
    batch_norm_training,
    group_norm,
    instance_norm_training,
    layer_norm,
    local_response_norm,
    local_response_norm_paper,
)
from minigrad.ops.padding import pad
from minigrad.ops.pooling import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d
from minigrad.ops.reductions import norm
from minigrad.ops.reductions import sum as sum_of
from minigrad.ops.resize import interpolate
from minigrad.ops.shape import permute, reshape
from minigrad.tensor import Tensor

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "channel_shuffle",
    "conv2d",
    "conv_transpose2d",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "elu",
    "fold",
    "gelu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "local_response_norm_paper",
    "log_softmax",
    "logsigmoid",
    "lp_pool2d",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "relu",
    "relu6",
    "relu_",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
    "unfold",
    "upsample",
]

upsample = interpolate  # its name before PyTorch 0.4.1

F = TypeVar("F", bound=Callable)


def _composed(function: F) -> F:
    """Decorator of a function that is no op: its first argument x may be called ``input`` too, as in PyTorch."""
    aliases = other_names(function)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        if kwargs and not aliases.keys().isdisjoint(kwargs):
            args, kwargs = with_own_names(aliases, args, kwargs)
        return function(*args, **kwargs)

    return wrapper


# ---- normalization with running statistics -----------------------------------------------------------------------------


@_composed
def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of x (N, C, ...): while ``training`` by the batch's mean and variance, else by the running ones.

    While training the running statistics (C,), if given, are updated in place, after everything was checked:
    running = (1 - momentum) running + momentum new, with the unbiased variance (Ioffe & Szegedy 2015).
    """
    return batch_norm_counting(x, running_mean, running_var, weight, bias, training, momentum, eps, None)


def batch_norm_counting(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    counter: Tensor | None,
) -> Tensor:
    """``batch_norm``, and ``counter`` (int64, without dimensions, or None) grows by one where running statistics are updated."""
    if not training:
        _need_running("batch_norm", running_mean, running_var)
        return batch_norm_inference(x, running_mean, running_var, weight, bias, eps)
    _check_running("batch_norm", x, running_mean, running_var)
    y, mean, var = batch_norm_training(x, weight, bias, eps)
    count = x.array.size // x.shape[1]
    _update(running_mean, running_var, mean.array, var.array, momentum, count / (count - 1), counter)
    return y


@_composed
def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of each image of x (N, C, ...), by its own mean and variance or by the running ones (C,).

    With ``use_input_stats`` the running statistics, if given, are updated in place by the means over the batch.
    """
    if not use_input_stats:
        _need_running("instance_norm", running_mean, running_var)
        return batch_norm_inference(x, running_mean, running_var, weight, bias, eps)
    _check_running("instance_norm", x, running_mean, running_var)
    y, mean, var = instance_norm_training(x, weight, bias, eps)  # mean and var (N, C)
    if mean.array.size:
        count = x.array.size // mean.array.size
        _update(running_mean, running_var, mean.array.mean(axis=0), var.array.mean(axis=0), momentum, count / (count - 1))
    return y


def _need_running(name: str, running_mean: Tensor | None, running_var: Tensor | None) -> None:
    if running_mean is None or running_var is None:
        raise ValueError(f"{name}: without the statistics of the input it needs running_mean and running_var, got None")


def _check_running(name: str, x: Tensor, running_mean: Tensor | None, running_var: Tensor | None) -> None:
    """Both running statistics must fit before either is changed."""
    channels = check_float(x).shape[1:2]
    for argument, value in (("running_mean", running_mean), ("running_var", running_var)):
        if value is not None and check_float(value, argument).array.shape != channels:
            raise ValueError(
                f"{name}: {argument} must have one number per channel of x {x.shape} (N, C, ...), got shape {value.shape}"
            )


def _update(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Any,
    var: Any,
    momentum: float,
    correction: float,
    counter: Tensor | None = None,
) -> None:
    """Move running statistics towards new ones (arrays): all of them or, if there is no memory, none."""
    kernels = for_array(mean)
    arrays = data_of(running_mean), data_of(running_var), mean, var
    kernels.update_running(*arrays, momentum, correction, data_of(counter))
    for running in (running_mean, running_var, counter):
        if running is not None:
            running.bump_version()


# ---- put together from other ops ---------------------------------------------------------------------------------------


@_composed
def normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x divided by its p-norm along ``dim``, or by ``eps`` where the norm is smaller."""
    return div(x, clamp(norm(x, p, dim, keepdim=True), min=eps))


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between x1 and x2 along ``dim``; norms smaller than ``eps`` count as ``eps``."""
    return sum_of(mul(normalize(x1, 2.0, dim, eps), normalize(x2, 2.0, dim, eps)), dim)


@_composed
def lp_pool2d(
    x: Tensor,
    norm_type: float,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The p-norm of each window without the sign, (sum of x^p)^(1/p) with p = ``norm_type``; else as ``avg_pool2d``."""
    if not norm_type > 0:
        raise ValueError(f"lp_pool2d: norm_type must be positive, got {norm_type!r}")
    kh, kw = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size, kernel_size)
    mean = avg_pool2d(power(check_float(x), norm_type), (kh, kw), stride, 0, ceil_mode)
    return power(mul(mean, kh * kw), 1 / norm_type)


@_composed
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """Turns channels into pixels: x (N, C r^2, H, W) -> (N, C, H r, W r) with r = ``upscale_factor`` (Shi et al. 2016)."""
    r = upscale_factor
    if check_float(x).ndim != 4 or r < 1 or x.shape[1] % (r * r):
        raise ValueError(f"pixel_shuffle: x must have shape (N, C * {r}^2, H, W) for upscale_factor={r!r}, got {x.shape}")
    n, c, h, w = x.shape
    blocks = reshape(x, (n, c // (r * r), r, r, h, w))
    return reshape(permute(blocks, (0, 1, 4, 2, 5, 3)), (n, c // (r * r), h * r, w * r))


@_composed
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """The opposite of ``pixel_shuffle``: x (N, C, H r, W r) -> (N, C r^2, H, W) with r = ``downscale_factor``."""
    r = downscale_factor
    if check_float(x).ndim != 4 or r < 1 or x.shape[2] % r or x.shape[3] % r:
        raise ValueError(f"pixel_unshuffle: x must have shape (N, C, H * {r}, W * {r}) for downscale_factor={r!r}, got {x.shape}")
    n, c, h, w = x.shape
    blocks = reshape(x, (n, c, h // r, r, w // r, r))
    return reshape(permute(blocks, (0, 1, 3, 5, 2, 4)), (n, c * r * r, h // r, w // r))


@_composed
def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """x (N, C, ...) with its channels dealt out again: those of ``groups`` blocks in turn (Zhang et al. 2018, ShuffleNet)."""
    if check_float(x).ndim < 3 or groups < 1 or x.shape[1] % groups:
        raise ValueError(f"channel_shuffle: x must have shape (N, C, ...) with C divisible by groups={groups!r}, got {x.shape}")
    n, c, *rest = x.shape
    blocks = reshape(x, (n, groups, c // groups, *rest))
    return reshape(permute(blocks, (0, 2, 1, *range(3, len(rest) + 3))), x.shape)


# ---- activations that are put together from other ops ------------------------------------------------------------------


@_composed
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight * x; ``weight`` holds one number, or one per channel of x (N, C, ...) (He et al. 2015)."""
    channels = check_float(x).shape[1] if x.ndim > 1 else 1
    if check_float(weight, "weight").shape not in ((), (1,), (channels,)):
        raise ValueError(f"prelu: weight must hold one number, or one for each of {channels} channels, got shape {weight.shape}")
    if x.dtype.itemsize == 2:  # of autocast: PyTorch counts this to the ops of 16 bits
        weight = weight.to(x.dtype)
    slope = reshape(weight, (-1,) + (1,) * (x.ndim - 2)) if x.ndim > 1 else reshape(weight, (-1,) * min(x.ndim, 1))
    return where(gt(x, 0), x, mul(slope, x))


@_composed
def celu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1) (Barron 2017)."""
    if not alpha:
        raise ValueError("celu: alpha must not be 0")
    y = mul(elu(div(check_float(x), alpha)), alpha)
    return x.copy_(y) if inplace else y


def _choosing(function: F) -> F:
    """softmax or log_softmax, which choose ``dim`` themselves for the old code that leaves it out."""

    @_composed
    @functools.wraps(function)
    def wrapper(x, dim=None):
        if dim is None:
            text = f"Implicit dimension choice for {function.__name__} has been deprecated. Change the call to include dim=X"
            warnings.warn(text, UserWarning, stacklevel=3)
            dim = 0 if check_float(x).ndim in (0, 1, 3) else 1
        return function(x, dim)

    return wrapper


softmax, log_softmax = _choosing(softmax), _choosing(log_softmax)


@_composed
def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return div(check_float(x), add(absolute(x), 1))


def __getattr__(name: str):
    raise missing("minigrad.nn.functional", name, __all__)
