"""The small residual networks for 32 x 32 images: three stages of 16, 32 and 64 channels (He et al. 2015, section 4.2).

A network of depth 6 n + 2 has n blocks of two 3x3 convolutions in each stage. Where a stage halves the image and doubles the
channels, the shortcut is one of

    option A   every second pixel, and zeros for the new channels: no parameters
    option B   a 1x1 convolution with batch normalization

The paper has option A for these networks; many checkpoints have B. ``norm`` puts another normalization in the place of all batch
normalizations: "group", "layer", "instance", or a function of the number of channels (see ``layers.norm_layer``).

Module names are those of widely used checkpoints: conv1, bn1, layer1.0.conv1, ..., layer2.0.shortcut.0, ..., linear.
"""

from __future__ import annotations

from collections.abc import Callable

from minigrad import nn
from minigrad.models.layers import norm_layer
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.tensor import Tensor

__all__ = [
    "BasicBlock",
    "CifarResNet",
    "PadShortcut",
    "cifar_resnet14",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
]

PAPER = Paper("He, Zhang, Ren, Sun", "Deep Residual Learning for Image Recognition", 2015, arxiv="1512.03385")

Norm = str | Callable[[int], nn.Module]  # see layers.norm_layer


class PadShortcut(nn.Module):
    """Option A: (N, C, H, W) -> (N, planes, H / stride, W / stride) by leaving out pixels and adding channels of zeros."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (planes - in_planes) // 2
        self.after = planes - in_planes - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, new_channels=({self.before}, {self.after})"


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)) with two 3x3 convolutions, the first with ``stride``."""

    def __init__(self, in_planes: int, planes: int, stride: int, option: str, norm: Norm = "batch") -> None:
        norm = norm_layer(norm)
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = norm(planes)
        if stride == 1 and in_planes == planes:
            self.shortcut = nn.Sequential()
        elif option == "A":
            self.shortcut = PadShortcut(in_planes, planes, stride)
        else:
            convolution = nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, norm(planes))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """A 3x3 convolution, three stages of ``blocks`` residual blocks, the mean over the image, a linear layer.

    ``option``: the shortcuts, "A" or "B". ``he_init``: draw the convolution and linear weights from He's normal distribution
    instead of the layers' own one. ``norm``: the normalization, by its name or a function of the number of channels.
    """

    def __init__(
        self,
        blocks: tuple[int, int, int],
        num_classes: int = 10,
        in_channels: int = 3,
        option: str = "A",
        he_init: bool = True,
        norm: Norm = "batch",
    ) -> None:
        if option not in ("A", "B"):
            raise ValueError(f'option must be "A" (zero-padded shortcut) or "B" (1x1 convolution), got {option!r}')
        norm = norm_layer(norm)
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = norm(16)
        self.layer1 = _stage(16, 16, blocks[0], 1, option, norm)
        self.layer2 = _stage(16, 32, blocks[1], 2, option, norm)
        self.layer3 = _stage(32, 64, blocks[2], 2, option, norm)
        self.linear = nn.Linear(64, num_classes)
        if he_init:
            for module in self.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))  # (N, 64, H / 4, W / 4)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.linear(x.flatten(1))


def _stage(in_planes: int, planes: int, blocks: int, stride: int, option: str, norm: Norm) -> nn.Sequential:
    first = BasicBlock(in_planes, planes, stride, option, norm)
    return nn.Sequential(first, *(BasicBlock(planes, planes, 1, option, norm) for _ in range(blocks - 1)))


# ---- the networks ------------------------------------------------------------------------------------------------------


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=175_258, macs=26_657_408)
def cifar_resnet14(num_classes: int = 10, in_channels: int = 3, norm: Norm = "batch") -> CifarResNet:
    """ResNet with [2, 2, 2] blocks, projection shortcuts and the layers' own initialization: the small net of many lectures."""
    return CifarResNet((2, 2, 2), num_classes, in_channels, option="B", he_init=False, norm=norm)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=269_722, macs=40_551_040)
def cifar_resnet20(num_classes: int = 10, in_channels: int = 3, option: str = "A", norm: Norm = "batch") -> CifarResNet:
    """ResNet-20 for CIFAR: [3, 3, 3] blocks; published error on CIFAR-10 8.75 %."""
    return CifarResNet((3, 3, 3), num_classes, in_channels, option, norm=norm)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=464_154, macs=68_862_592)
def cifar_resnet32(num_classes: int = 10, in_channels: int = 3, option: str = "A", norm: Norm = "batch") -> CifarResNet:
    """ResNet-32 for CIFAR: [5, 5, 5] blocks; published error on CIFAR-10 7.51 %."""
    return CifarResNet((5, 5, 5), num_classes, in_channels, option, norm=norm)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=658_586, macs=97_174_144)
def cifar_resnet44(num_classes: int = 10, in_channels: int = 3, option: str = "A", norm: Norm = "batch") -> CifarResNet:
    """ResNet-44 for CIFAR: [7, 7, 7] blocks; published error on CIFAR-10 7.17 %."""
    return CifarResNet((7, 7, 7), num_classes, in_channels, option, norm=norm)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=853_018, macs=125_485_696)
def cifar_resnet56(num_classes: int = 10, in_channels: int = 3, option: str = "A", norm: Norm = "batch") -> CifarResNet:
    """ResNet-56 for CIFAR: [9, 9, 9] blocks; published error on CIFAR-10 6.97 %."""
    return CifarResNet((9, 9, 9), num_classes, in_channels, option, norm=norm)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=1_727_962, macs=252_887_680)
def cifar_resnet110(num_classes: int = 10, in_channels: int = 3, option: str = "A", norm: Norm = "batch") -> CifarResNet:
    """ResNet-110 for CIFAR: [18, 18, 18] blocks; published error on CIFAR-10 6.43 %."""
    return CifarResNet((18, 18, 18), num_classes, in_channels, option, norm=norm)
