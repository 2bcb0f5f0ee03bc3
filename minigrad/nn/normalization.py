"""Normalization layers. Those that keep running statistics update them here, so that the ops stay pure."""

from __future__ import annotations

from typing import Any

from minigrad import creation
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.nn._arguments import check_divides, check_positive, floating, new_parameter
from minigrad.nn.module import Module
from minigrad.ops._base import check_tensor
from minigrad.tensor import Tensor

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "GroupNorm",
    "InstanceNorm2d",
    "LayerNorm",
    "LocalResponseNorm",
    "LocalResponseNormPaper",
]


class _Affine(Module):
    """A module with a weight that starts as ones and a bias that starts as zeros, both of ``shape``, each optional."""

    def _make_affine(self, shape: tuple[int, ...], weight: bool, bias: bool, device: Any, dtype: Any) -> None:
        self.register_parameter("weight", new_parameter(*shape, device=device, dtype=dtype) if weight else None)
        self.register_parameter("bias", new_parameter(*shape, device=device, dtype=dtype) if weight and bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0, where there are any."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


# ---- statistics over the batch -----------------------------------------------------------------------------------------


class _RunningStatistics(_Affine):
    """What batch and instance normalization share: affine parameters and running statistics, one number per channel."""

    optional_state = ("num_batches_tracked",)  # checkpoints from before PyTorch 0.4.1 lack it
    dimensions: tuple[int, ...]  # that x may have
    axes: str

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        check_positive(num_features=num_features)
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._make_affine((num_features,), affine, bias, device, dtype)
        statistics = {"running_mean": None, "running_var": None, "num_batches_tracked": None}
        if track_running_stats:
            statistics["running_mean"] = creation.zeros(num_features, device=device, dtype=floating(dtype))
            statistics["running_var"] = creation.ones(num_features, device=device, dtype=floating(dtype))
            statistics["num_batches_tracked"] = creation.tensor(0, device=device)
        for name, tensor in statistics.items():
            self.register_buffer(name, tensor)

    def reset_running_stats(self) -> None:
        """Forget what was tracked: mean 0, variance 1, no batches."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def _check_input(self, x: Tensor) -> None:
        if check_tensor(x).ndim not in self.dimensions or x.shape[1] != self.num_features:
            raise ValueError(
                f"{self._get_name()} expects x of shape {self.axes} with C={self.num_features} channels, got {x.shape}"
                + (": add a batch dimension with x.unsqueeze(0)?" if x.ndim == min(self.dimensions) - 1 else "")
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningStatistics):
    def forward(self, x: Tensor) -> Tensor:
        self._check_input(x)
        tracking = self.training and self.track_running_stats
        momentum = self.momentum
        if momentum is None:  # the plain average of all batches so far
            momentum = 1 / (self.num_batches_tracked.item() + 1) if tracking else 0.0
        return F.batch_norm_counting(
            x,
            self.running_mean if tracking or not self.training else None,
            self.running_var if tracking or not self.training else None,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            momentum,
            self.eps,
            self.num_batches_tracked if tracking else None,
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalization of x (N, C) or (N, C, L); see BatchNorm2d."""

    dimensions, axes = (2, 3), "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Batch normalization of x (N, C, H, W) per channel (Ioffe & Szegedy 2015): y = (x - mean) / sqrt(var + eps) * weight + bias.

    In training mode mean and (biased) variance are those of the batch, and the running statistics move towards them:
    running = (1 - momentum) running + momentum new, where the new variance is the unbiased one; ``momentum=None`` keeps the
    plain average of all batches. In evaluation mode the running statistics are used, or with ``track_running_stats=False``
    still those of the batch. Buffers: running_mean, running_var (C,), num_batches_tracked (int64).
    """

    dimensions, axes = (4,), "(N, C, H, W)"


class InstanceNorm2d(_RunningStatistics):
    """Normalization of x (N, C, H, W) per image and channel (Ulyanov et al. 2016); no parameters and statistics by default."""

    dimensions, axes = (4,), "(N, C, H, W)"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        self._check_input(x)
        momentum = 0.0 if self.momentum is None else self.momentum
        own_statistics = self.training or not self.track_running_stats
        return F.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias, own_statistics, momentum, self.eps)


# ---- statistics within an image ----------------------------------------------------------------------------------------


class LayerNorm(_Affine):
    """Normalization over the last dimensions, which are ``normalized_shape`` (Ba et al. 2016), with parameters of that shape."""

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...] | list[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        shape = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
        for size in shape:
            check_positive(normalized_shape=size)
        super().__init__()
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self._make_affine(shape, elementwise_affine, bias, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class GroupNorm(_Affine):
    """Normalization of x (N, C, ...) over ``num_groups`` groups of neighbouring channels of each image (Wu & He 2018).

    One group is layer normalization over (C, H, W), C groups are instance normalization. weight and bias: one number per channel.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        check_positive(num_groups=num_groups, num_channels=num_channels)
        check_divides("num_groups", num_groups, num_channels=num_channels)
        super().__init__()
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self._make_affine((num_channels,), affine, bias, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"


# ---- statistics over neighbouring channels -----------------------------------------------------------------------------


class LocalResponseNorm(Module):
    """x / (k + alpha / size * sum of x^2 over ``size`` neighbouring channels)^beta: PyTorch's scaling of alpha."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        check_positive(size=size)
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class LocalResponseNormPaper(LocalResponseNorm):
    """x / (k + alpha * sum of x^2 over ``size`` neighbouring channels)^beta, as in AlexNet (Krizhevsky et al. 2012, 3.3).

    The published constants are the defaults. PyTorch divides alpha by ``size``: see LocalResponseNorm.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        super().__init__(size, alpha, beta, k)

    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm_paper(x, self.size, self.alpha, self.beta, self.k)
