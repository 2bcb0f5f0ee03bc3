"""Batch, Layer, Instance and Group normalization, which are one computation over four views, and local response normalization.

The kernels see a contiguous array (M, A, B, L) and compute a mean and a variance for each (m, b) over A and L. Of an activation
(N, C, H, W) that lies channels-last in memory the four normalizations take these views, none of which moves a byte:

    Batch      (1, N*H*W, C, 1)       one mean per channel
    Instance   (N, H*W,   C, 1)       one per image and channel
    Group      (N, H*W,   G, C/G)     one per image and group of channels
    Layer      (N, 1,     1, H*W*C)   one per image

The ops are pure: running statistics belong to the modules, which update them from the mean and variance returned here.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from minigrad.autograd import Deferred, finished
from minigrad.kernels import for_array
from minigrad.kernels.layout import is_channels_last
from minigrad.ops._base import check_alike, check_devices, check_float, op, record, record_pending, xp
from minigrad.ops._pending import Pending, depend, is_worth_it
from minigrad.tensor import Tensor

__all__ = [
    "batch_norm_inference",
    "batch_norm_training",
    "group_norm",
    "instance_norm_training",
    "layer_norm",
    "local_response_norm",
    "local_response_norm_paper",
]


@op
def batch_norm_training(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize each channel of x (N, C, ...) by its mean and variance over the batch (Ioffe & Szegedy 2015, algorithm 1).

    Returns y = (x - mean) / sqrt(var + eps) * weight + bias, the mean (C,) and the biased variance (C,); no gradient flows
    through the returned statistics themselves. weight and bias: (C,) or None.
    """
    _check(x, weight, bias, eps)
    n, channels = x.shape[:2]
    if x.array.size // max(channels, 1) < 2:
        raise ValueError(
            f"one value per channel has no variance: x of shape {x.shape} (N, C, ...) holds a single value for each of "
            f"{channels} channels. In training use a larger batch or image, or GroupNorm; for inference call model.eval()"
        )
    y, mean, var = _normalize("batch_norm", x, weight, bias, eps, lambda pixels: (1, n * pixels, channels, 1))
    return y, Tensor(mean[0]), Tensor(var[0])


@op
def batch_norm_inference(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of x (N, C, ...) by the given, constant mean (C,) and variance (C,)."""
    _check(x, weight, bias, eps)
    n, channels = x.shape[:2]
    for name, value in (("mean", mean), ("var", var)):
        if check_float(value, name).shape != (channels,):
            raise ValueError(f"{name} must have shape ({channels},), one number per channel, got {value.shape}")
    check_devices(x=x, mean=mean, var=var)
    kind = _real(x.array)
    statistics = mean.array[None].astype(kind), var.array[None].astype(kind)  # copies: modules update theirs in place

    def view_of(pixels):
        return 1, n * pixels, channels, 1

    return _normalize("batch_norm", x, weight, bias, eps, view_of, statistics)[0]


@op
def instance_norm_training(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize each channel of each image of x (N, C, ...) over its pixels (Ulyanov et al. 2016).

    Returns y, the mean (N, C) and the biased variance (N, C). weight and bias: (C,) or None.
    """
    _check(x, weight, bias, eps)
    n, channels = x.shape[:2]
    if x.ndim < 3 or math.prod(x.shape[2:]) < 2:
        raise ValueError(
            f"one pixel per channel has no variance: x of shape {x.shape} (N, C, ...) must hold several values for each "
            "image and channel. Use a larger image, or GroupNorm"
        )
    y, mean, var = _normalize("instance_norm", x, weight, bias, eps, lambda pixels: (n, pixels, channels, 1))
    return y, Tensor(mean), Tensor(var)


@op
def group_norm(x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Normalize groups of neighbouring channels of each image of x (N, C, ...) (Wu & He 2018). weight, bias: (C,) or None."""
    _check(x, weight, bias, eps)
    n, channels = x.shape[:2]
    if not isinstance(num_groups, int) or num_groups < 1 or channels % num_groups:
        raise ValueError(f"num_groups must be a positive integer that divides the {channels} channels, got {num_groups!r}")
    if x.array.size // max(n * num_groups, 1) < 2 and x.array.size:
        raise ValueError(f"one value per group has no variance: x of shape {x.shape}, num_groups={num_groups}")

    def view_of(pixels):
        return n, pixels, num_groups, channels // num_groups

    return _normalize("group_norm", x, weight, bias, eps, view_of)[0]


@op
def layer_norm(
    x: Tensor,
    normalized_shape: int | tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize x over its last dimensions, which must be ``normalized_shape`` (Ba et al. 2016).

    weight and bias: of ``normalized_shape``, or None.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    _check_types(x, weight, bias)
    _check_eps(eps)
    if not shape or x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(f"normalized_shape {shape} must be the last dimensions of x, whose shape is {x.shape}")
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != shape:
            raise ValueError(f"{name} must have the shape {shape} of normalized_shape, got {value.shape}")
    # A whole channels-last image is normalized where it lies; the affine parameters then follow its memory order.
    order = (1, 2, 0) if len(shape) == 3 and is_channels_last(x.array) else tuple(range(len(shape)))
    lead = tuple(range(x.ndim - len(shape)))
    axes = (*lead, *(len(lead) + i for i in order))
    view = (math.prod(x.shape[: len(lead)]), 1, 1, math.prod(shape))

    return _record("layer_norm", x, weight, bias, eps, axes, view, order)[0]


@op
def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide x (N, C, ...) by (k + alpha / size * sum of squares over ``size`` neighbouring channels)^beta: PyTorch's scaling.

    ``local_response_norm_paper`` has the original one, which does not divide alpha by size.
    """
    return _local_response_norm(x, size, alpha / size if _is_size(size) and _is_number(alpha) else alpha, beta, k)


@op
def local_response_norm_paper(x: Tensor, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Tensor:
    """Divide x (N, C, ...) by (k + alpha * sum of squares over ``size`` neighbouring channels)^beta.

    As published, with the published constants: Krizhevsky, Sutskever & Hinton 2012, section 3.3.
    """
    return _local_response_norm(x, size, alpha, beta, k)


# ---- what they share ---------------------------------------------------------------------------------------------------


def _is_size(size) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size > 0


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_eps(eps) -> None:
    if not isinstance(eps, (int, float)) or not eps >= 0:
        raise ValueError(f"eps must be a number of at least 0, got {eps!r}")


def _real(x) -> np.dtype:
    """The dtype of the statistics and parameters of an array: float32 for 16-bit numbers, else its own."""
    return np.dtype(np.float32) if x.dtype.itemsize == 2 else x.dtype


def _check_types(x, weight, bias) -> None:
    """All of one dtype and device; beside an x of 16-bit numbers the parameters may be float32."""
    if isinstance(x, Tensor) and x.array.dtype.itemsize == 2:
        check_devices(x=check_float(x), weight=weight, bias=bias)
        for name, value in (("weight", weight), ("bias", bias)):
            if value is not None and check_float(value, name).dtype not in (x.dtype, np.float32):
                raise TypeError(f"{name} must be {x.dtype} like x, or float32, got {value.dtype}")
    else:
        check_alike(x=x, weight=weight, bias=bias)


def _check(x, weight, bias, eps) -> None:
    """x (N, C, ...), weight and bias (C,) or None."""
    _check_types(x, weight, bias)
    _check_eps(eps)
    if x.ndim < 2:
        raise ValueError(f"x must have at least 2 dimensions (N, C, ...), got shape {x.shape}")
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != (x.shape[1],):
            raise ValueError(
                f"{name} must have shape ({x.shape[1]},), one number per channel of x {x.shape} (N, C, ...), got {value.shape}"
            )


def _normalize(name, x, weight, bias, eps, view_of, statistics=None):
    """Normalize over a view of the channels-last memory of x (N, C, ...); ``view_of(pixels)`` gives (M, A, B, L)."""
    axes = (0, *range(2, x.ndim), 1)
    return _record(name, x, weight, bias, eps, axes, view_of(math.prod(x.shape[2:])), (0,), statistics)


def _record(name, x, weight, bias, eps, axes, view, order, statistics=None):
    """Normalize ``x.array.transpose(axes).reshape(view)``; returns (y Tensor, mean (M, B), var (M, B)).

    ``order``: the transposition that brings the affine parameters into the memory order of the view.
    ``statistics``: a constant (mean, var), or None to compute them.
    """
    library, kernels, kind = xp(x), for_array(x.array), _real(x.array)
    back = _inverse(axes)

    def rows(array):  # copies only what does not lie in memory in the order of axes
        return library.ascontiguousarray(array.transpose(axes)).reshape(view)

    def image(array):
        return array.reshape(moved).transpose(back)

    def affine(p):
        if p is None:
            return None
        turned = library.ascontiguousarray(p.array.transpose(order)).reshape(view[2:])
        return turned if turned.dtype == kind else turned.astype(kind)

    turned = x.array.transpose(axes)
    moved = turned.shape

    x4, w, b = library.ascontiguousarray(turned).reshape(view), affine(weight), affine(bias)
    waits = name == "batch_norm" and is_worth_it(x)
    given, var = kernels.moments(x4) if statistics is None else statistics
    # Optimizers change the parameters in place before what waits is computed; and the caller may change the mean that it gets.
    returned = statistics is None and name in ("batch_norm", "instance_norm")
    mean, rstd, w, b = kernels.normalization_constants(given, var, w, b, eps, returned, waits)
    of_weight = (weight.shape, weight.dtype) if weight is not None and weight.requires_grad else None
    of_bias = (bias.shape, bias.dtype) if bias is not None and bias.requires_grad else None

    def parameter(gradient, shape, dtype):
        turned = gradient.reshape(tuple(shape[i] for i in order)).transpose(_inverse(order))
        return library.ascontiguousarray(turned).astype(dtype, copy=False)

    def backward(gy):
        rectified = type(gy) is Deferred  # by a rectifier that was computed together with this
        gy = rows(finished(gy.gradient) if rectified else gy)
        gx, gw, gb = kernels.normalize_backward(gy, x4, mean, rstd, w, statistics is None, b, rectified)
        return (
            image(gx),
            parameter(gw, *of_weight) if of_weight else None,
            parameter(gb, *of_bias) if of_bias else None,
        )

    if waits:

        def compute(addend, rectify):
            addend = None if addend is None else rows(addend)
            return image(kernels.normalize_forward(x4, mean, rstd, w, b, addend, rectify))

        y = record_pending(Pending(compute, x.shape, x.dtype), (x, weight, bias), backward, saves=(x, weight), name=name)
        depend(y, x)
        if y.origin is not None:
            y.origin[0].takes_deferred = True
    else:
        y = image(kernels.normalize_forward(x4, mean, rstd, w, b))
        y = record(y, (x, weight, bias), backward, saves=(x, weight), name=name)
    return y, given, var


@lru_cache(maxsize=64)
def _inverse(permutation: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


def _local_response_norm(x, size, alpha, beta, k):
    check_float(x)
    if not _is_size(size):
        raise ValueError(f"size must be a positive number of channels, got {size!r}")
    if x.ndim < 3:
        raise ValueError(f"x must have at least 3 dimensions (N, C, ...), got shape {x.shape}")
    for name, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        if not _is_number(value):
            raise TypeError(f"{name} must be a number, got {value!r}")
    kernels, shape = for_array(x.array), x.shape
    flat = (shape[0], shape[1], math.prod(shape[2:]), 1)  # the kernel takes images (N, C, H, W)
    xd = x.array if x.ndim == 4 else x.array.reshape(flat)
    y, scale = kernels.local_response_norm_forward(xd, size, alpha, beta, k)

    def backward(gy):
        gx = kernels.local_response_norm_backward(gy.reshape(xd.shape), xd, scale, size, alpha, beta)
        return gx.reshape(shape)

    return record(y.reshape(shape), (x,), backward, saves=(x,), name="local_response_norm")
