"""MobileNet V1 (Howard et al. 2017, table 1) and V2 (Sandler et al. 2018, table 2): convolutions split into two cheap ones.

A k x k convolution from C to D channels takes C D k^2 multiplications for each pixel. MobileNet filters each channel by itself
(depthwise, C k^2) and mixes the channels with a 1x1 convolution (pointwise, C D). V1 is a chain of such pairs. V2 puts the
depthwise convolution between two 1x1 convolutions, the first of which widens its input sixfold; the last one has no
activation (a linear bottleneck), and the block adds its input where it keeps the shape (an inverted residual).

V1 has the module names of timm's ``mobilenetv1_100``, V2 those of torchvision's ``mobilenet_v2``, so that their checkpoints
load. Traps: TensorFlow's networks pad an even image only on the right and at the bottom where they halve it, and have
eps = 1e-3 in their batch normalization; here, as in PyTorch's, padding is on all sides and eps is 1e-5. The paper's V1
has ReLU; its authors' code and later ones ReLU6 = min(max(x, 0), 6).

The ``cifar_`` forms for 32 x 32 images keep the resolution where the large ones halve it first (V1: the first convolution; V2:
also the second stage), use ReLU, and in V2 a 1x1 convolution as the shortcut where a block of stride 1 changes the number of
channels. They follow the collection github.com/kuangliu/pytorch-cifar, with its module names.
"""

from __future__ import annotations

import math

from minigrad import nn
from minigrad.models.layers import make_divisible
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.tensor import Tensor

__all__ = [
    "CifarMobileNetV1",
    "CifarMobileNetV2",
    "MobileNetV1",
    "MobileNetV2",
    "cifar_mobilenet_v1",
    "cifar_mobilenet_v2",
    "conv_norm",
    "mobilenet_v1",
    "mobilenet_v2",
]

V1 = Paper(
    "Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto, Adam",
    "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    2017,
    arxiv="1704.04861",
)
V2 = Paper(
    "Sandler, Howard, Zhu, Zhmoginov, Chen",
    "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    2018,
    arxiv="1801.04381",
)

V1_STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))  # channels, blocks, stride of the first
V2_STAGES = (  # expansion, channels, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _check_width(width: float) -> None:
    if not width > 0:
        raise ValueError(f"width, the factor of all numbers of channels, must be larger than 0, got {width!r}")


def conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, **norm: float
) -> list[nn.Module]:
    """A convolution without bias that keeps the image's size up to ``stride``, and batch normalization (``norm``: eps ...)."""
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel, stride=stride, padding=(kernel - 1) // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(out_channels, **norm)]


# ---- version 1 ---------------------------------------------------------------------------------------------------------


class DepthwiseSeparable(nn.Module):
    """relu6(bn2(1x1(relu6(bn1(depthwise 3x3(x)))))): (N, C, H, W) -> (N, out_channels, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = conv_norm(in_channels, in_channels, 3, stride, groups=in_channels)
        self.conv_pw, self.bn2 = conv_norm(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv_dw(x)))
        return F.relu6(self.bn2(self.conv_pw(x)))


class MobileNetV1(nn.Module):
    """A 3x3 convolution, 13 depthwise-separable blocks in five stages, the mean over the image, a linear layer.

    x (N, in_channels, H, W) -> (N, num_classes); the image is halved five times. ``width`` multiplies all numbers of channels,
    which are then rounded to multiples of 8.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, width: float = 1.0, dropout: float = 0.0) -> None:
        _check_width(width)
        super().__init__()
        channels = make_divisible(32 * width)
        self.conv_stem, self.bn1 = conv_norm(in_channels, channels, 3, stride=2)
        self.blocks = nn.Sequential()
        for planes, blocks, stride in V1_STAGES:
            stage = nn.Sequential()
            for i in range(blocks):
                planes_out = make_divisible(planes * width)
                stage.append(DepthwiseSeparable(channels, planes_out, stride if i == 0 else 1))
                channels = planes_out
            self.blocks.append(stage)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He's standard deviation by the fan-out of one group
                weight = module.weight
                init.normal_(weight, 0.0, math.sqrt(2 * module.groups / (weight.shape[0] * math.prod(weight.shape[2:]))))
        bound = 1 / math.sqrt(self.classifier.out_features)
        init.uniform_(self.classifier.weight, -bound, bound)
        init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv_stem(x)))
        x = F.adaptive_avg_pool2d(self.blocks(x), 1).flatten(1)
        return self.classifier(self.dropout(x))


@register(paper=V1, input_shape=(3, 224, 224), parameters=4_231_976, macs=568_740_352)
def mobilenet_v1(num_classes: int = 1000, in_channels: int = 3, width: float = 1.0, dropout: float = 0.0) -> MobileNetV1:
    """MobileNet V1: depthwise and pointwise convolutions; ``width`` 1, .75, .5, .25: 4.2, 2.6, 1.3, 0.5 million parameters."""
    return MobileNetV1(num_classes, in_channels, width, dropout)


# ---- version 2 ---------------------------------------------------------------------------------------------------------


class InvertedResidual(nn.Module):
    """1x1 to ``expansion`` times the channels, depthwise 3x3, linear 1x1; plus x where the shape stays the same."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        expand = [nn.Sequential(*conv_norm(in_channels, wide, 1), nn.ReLU6())] if expansion != 1 else []
        depthwise = nn.Sequential(*conv_norm(wide, wide, 3, stride, groups=wide), nn.ReLU6())
        self.conv = nn.Sequential(*expand, depthwise, *conv_norm(wide, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """A 3x3 convolution, 17 inverted residuals, a 1x1 convolution to 1280 channels, the mean over the image, a linear layer.

    x (N, in_channels, H, W) -> (N, num_classes); the image is halved five times. ``width`` multiplies all numbers of channels
    (rounded to multiples of 8), but does not make the last one smaller than 1280.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, width: float = 1.0, dropout: float = 0.2) -> None:
        _check_width(width)
        super().__init__()
        channels, last = make_divisible(32 * width), make_divisible(1280 * max(1.0, width))
        self.features = nn.Sequential(nn.Sequential(*conv_norm(in_channels, channels, 3, stride=2), nn.ReLU6()))
        for expansion, planes, blocks, stride in V2_STAGES:
            for i in range(blocks):
                planes_out = make_divisible(planes * width)
                self.features.append(InvertedResidual(channels, planes_out, stride if i == 0 else 1, expansion))
                channels = planes_out
        self.features.append(nn.Sequential(*conv_norm(channels, last, 1), nn.ReLU6()))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                init.normal_(module.weight, 0.0, 0.01)
                init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(x.flatten(1))


@register(paper=V2, input_shape=(3, 224, 224), parameters=3_504_872, macs=300_774_272)
def mobilenet_v2(num_classes: int = 1000, in_channels: int = 3, width: float = 1.0, dropout: float = 0.2) -> MobileNetV2:
    """MobileNet V2: inverted residuals with linear bottlenecks; ``width``, for example .35 to 1.4, scales all channels."""
    return MobileNetV2(num_classes, in_channels, width, dropout)


# ---- for images of 32 x 32 ---------------------------------------------------------------------------------------------


class CifarSeparable(nn.Module):
    """relu(bn2(1x1(relu(bn1(depthwise 3x3(x))))))."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(in_planes, in_planes, 3, stride, groups=in_planes)
        self.conv2, self.bn2 = conv_norm(in_planes, planes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)))


class CifarMobileNetV1(nn.Module):
    """MobileNet V1 whose first convolution has stride 1: (N, in_channels, 32, 32) -> (N, 1024, 2, 2) -> (N, num_classes)."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(in_channels, 32, 3)
        self.layers, in_planes = nn.Sequential(), 32
        for planes, blocks, stride in V1_STAGES:
            for i in range(blocks):
                self.layers.append(CifarSeparable(in_planes, planes, stride if i == 0 else 1))
                in_planes = planes
        self.linear = nn.Linear(in_planes, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


class CifarInvertedResidual(nn.Module):
    """bn3(1x1(relu(bn2(depthwise(relu(bn1(1x1(x)))))))), and where the stride is 1 plus x or a 1x1 convolution of it."""

    def __init__(self, in_planes: int, planes: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.stride, wide = stride, in_planes * expansion
        self.conv1, self.bn1 = conv_norm(in_planes, wide, 1)
        self.conv2, self.bn2 = conv_norm(wide, wide, 3, stride, groups=wide)
        self.conv3, self.bn3 = conv_norm(wide, planes, 1)
        self.shortcut = nn.Sequential(*(conv_norm(in_planes, planes, 1) if stride == 1 and in_planes != planes else []))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return y + self.shortcut(x) if self.stride == 1 else y


class CifarMobileNetV2(nn.Module):
    """MobileNet V2 that halves the image only three times: (N, in_channels, 32, 32) -> (N, 1280, 4, 4) -> (N, num_classes)."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(in_channels, 32, 3)
        self.layers, in_planes = nn.Sequential(), 32
        for stage, (expansion, planes, blocks, stride) in enumerate(V2_STAGES):
            for i in range(blocks):
                block_stride = stride if i == 0 and stage > 1 else 1  # the second stage keeps the resolution
                self.layers.append(CifarInvertedResidual(in_planes, planes, block_stride, expansion))
                in_planes = planes
        self.conv2, self.bn2 = conv_norm(in_planes, 1280, 1)
        self.linear = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


@register(paper=V1, input_shape=(3, 32, 32), parameters=3_217_226, macs=46_354_432)
def cifar_mobilenet_v1(num_classes: int = 10, in_channels: int = 3) -> CifarMobileNetV1:
    """MobileNet V1 for images of 32 x 32: the first convolution has stride 1."""
    return CifarMobileNetV1(num_classes, in_channels)


@register(paper=V2, input_shape=(3, 32, 32), parameters=2_296_922, macs=91_154_944)
def cifar_mobilenet_v2(num_classes: int = 10, in_channels: int = 3) -> CifarMobileNetV2:
    """MobileNet V2 for images of 32 x 32: the first convolution and the second stage have stride 1, and shortcuts may be 1x1."""
    return CifarMobileNetV2(num_classes, in_channels)
