"""Layers that several families of architectures share."""

from __future__ import annotations

from collections.abc import Callable

from minigrad import nn
from minigrad._names import did_you_mean
from minigrad.creation import ones
from minigrad.nn import functional as F
from minigrad.tensor import Tensor

__all__ = ["NORMS", "SqueezeExcitation", "StochasticDepth", "make_divisible", "norm_layer"]

GROUPS = 32  # of channels in a group normalization, at most (Wu & He 2018, table 3)


def make_divisible(value: float, divisor: int = 8, minimum: int | None = None) -> int:
    """The multiple of ``divisor`` nearest to ``value``, but at least ``minimum`` and 90 % of ``value``.

    So the numbers of channels of MobileNet and EfficientNet are rounded after they were scaled.
    """
    nearest = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * value else nearest


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(next(groups for groups in range(min(GROUPS, channels), 0, -1) if channels % groups == 0), channels)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": _group_norm,
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
}


def norm_layer(norm: str | Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
    """What makes the normalization of so many channels: ``norm_layer("group")(64)``.

    "batch", "group" (32 groups, or the next smaller number that divides the channels), "layer" (over channels and pixels),
    "instance", or a function of the number of channels. Raises ValueError for another name.
    """
    if callable(norm):
        return norm
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}{did_you_mean(str(norm), NORMS)}")
    return NORMS[norm]


class SqueezeExcitation(nn.Module):
    """Scale each channel of x (N, C, H, W) by a gate in 0 ... 1 that is computed from the means of all channels.

    gate = scale_activation(fc2(activation(fc1(mean of x over H and W)))), with ``squeeze_channels`` in between (Hu et al.
    2018). The names fc1 and fc2 (1x1 convolutions) are torchvision's.
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Callable[[], nn.Module] = nn.ReLU,
        scale_activation: Callable[[], nn.Module] = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def forward(self, x: Tensor) -> Tensor:
        gate = self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))  # (N, C, 1, 1)
        return x * gate


class StochasticDepth(nn.Module):
    """In training, x times 0 with probability p, else times 1 / (1 - p) (Huang et al. 2016): leaves out a residual branch.

    ``mode``: "row" decides for each image of the batch, "batch" once for all. In evaluation x is passed on.
    """

    def __init__(self, p: float, mode: str = "row") -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p must be a probability between 0 and 1, got {p!r}")
        if mode not in ("row", "batch"):
            raise ValueError(f'mode must be "row" (each image by itself) or "batch", got {mode!r}')
        super().__init__()
        self.p, self.mode = p, mode

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        shape = (x.shape[0] if self.mode == "row" else 1, *(1,) * (x.ndim - 1))
        kept = F.dropout(ones(shape, dtype=x.dtype, device=x.device), self.p, training=True)  # 0 or 1 / (1 - p)
        return x * kept

    def extra_repr(self) -> str:
        return f"p={self.p}, mode={self.mode}"
