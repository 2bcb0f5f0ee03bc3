"""SENet (Hu, Shen, Sun 2018): residual networks whose branches are scaled channel by channel, by gates computed from their means.

The gate of a block (squeeze and excitation: mean over the image, linear to C / 16, ReLU, linear to C, sigmoid) multiplies the
output of its last normalization, before the shortcut is added. The networks follow the authors' Caffe release:

    se_resnet50 ...        the stride of a stage is in the first 1x1 convolution, as in the first ResNet (later ones have it in
                           the 3x3: same parameters, 6 % more computation, other results)
    se_resnet18, 34        timm's, as the authors have none: their branches end with a ReLU before the gate, which those of
                           bottlenecks do not
    se_resnext50_32x4d     the stride is in the 3x3 convolution, of 32 groups
    senet154               64 groups, a first 1x1 convolution of half the width, a stem of three 3x3 convolutions, shortcuts of
                           3x3 convolutions, dropout before the classifier

The first pooling has no padding and rounds up. Module names are those of the common checkpoints (Cadene's, which timm has as
legacy_seresnet50 and so on): layer0.conv1, layer1.0.conv1, layer1.0.se_module.fc1, ..., last_linear.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from minigrad import nn
from minigrad.models.layers import SqueezeExcitation
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.tensor import Tensor

__all__ = [
    "SEBasicBlock",
    "SEBottleneck",
    "SENet",
    "se_resnet18",
    "se_resnet34",
    "se_resnet50",
    "se_resnet101",
    "se_resnet152",
    "se_resnext50_32x4d",
    "senet154",
]

PAPER = Paper("Hu, Shen, Albanie, Sun, Wu", "Squeeze-and-Excitation Networks", 2017, arxiv="1709.01507")


class SEBasicBlock(nn.Module):
    """relu(gate(relu(bn(conv(relu(bn(conv(x))))))) + shortcut) with two 3x3 convolutions, the first with ``stride``.

    (N, in_channels, H, W) -> (N, planes, H / stride, W / stride). ``downsample``: the shortcut, None for x itself.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, planes: int, stride: int = 1, downsample: nn.Module | None = None, reduction: int = 16
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.se_module = SqueezeExcitation(planes, planes // reduction)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.se_module(y) + (x if self.downsample is None else self.downsample(x)))


class SEBottleneck(nn.Module):
    """relu(gate(branch(x)) + shortcut), the branch of a 1x1, a 3x3 and a 1x1 convolution.

    (N, in_channels, H, W) -> (N, 4 planes, H / stride, W / stride). ``kind``: the widths of the first two convolutions and
    which of them has the stride, "resnet" (planes, planes, first), "resnext" (of 4 channels per group for 64 planes, second)
    or "senet" (2 planes, 4 planes, second). ``downsample``: the shortcut, None for x itself.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        reduction: int = 16,
        kind: str = "resnet",
        groups: int = 1,
    ) -> None:
        grouped = planes // 16 * groups
        widths = {"resnet": (planes, planes), "resnext": (grouped, grouped), "senet": (2 * planes, 4 * planes)}
        if kind not in widths:
            raise ValueError(f"kind must be one of {', '.join(widths)}, got {kind!r}")
        first, second = widths[kind]
        strides = (stride, 1) if kind == "resnet" else (1, stride)
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, first, 1, stride=strides[0], bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, second, 3, stride=strides[1], padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(second)
        self.conv3 = nn.Conv2d(second, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.se_module = SqueezeExcitation(4 * planes, 4 * planes // reduction)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(self.se_module(y) + (x if self.downsample is None else self.downsample(x)))


def _stem(in_channels: int, widths: Sequence[int]) -> nn.Sequential:
    """A 7x7 convolution of stride 2, or several 3x3 ones, the first of stride 2, each with batch normalization and ReLU."""
    kernel_size = 7 if len(widths) == 1 else 3
    layers = OrderedDict()
    for i, width in enumerate(widths, 1):
        stride = 2 if i == 1 else 1
        layers[f"conv{i}"] = nn.Conv2d(in_channels, width, kernel_size, stride, kernel_size // 2, bias=False)
        layers[f"bn{i}"] = nn.BatchNorm2d(width)
        layers[f"relu{i}"] = nn.ReLU()
        in_channels = width
    return nn.Sequential(layers)


class SENet(nn.Module):
    """A stem, four stages of 64, 128, 256 and 512 planes, the mean over the image, a linear layer: -> (N, num_classes).

    ``block``: SEBasicBlock or SEBottleneck, whose further arguments are ``block_options``; ``layers``: the number of blocks
    of each stage; ``stem``: the channels of its convolutions; ``shortcut_kernel``: the size of the convolutions of the
    shortcuts of stages 2 to 4; ``drop_rate``: dropout before the classifier.
    """

    def __init__(
        self,
        block: type[SEBasicBlock] | type[SEBottleneck],
        layers: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: Sequence[int] = (64,),
        shortcut_kernel: int = 1,
        drop_rate: float = 0.0,
        **block_options,
    ) -> None:
        if not 0 <= drop_rate <= 1:
            raise ValueError(f"drop_rate must be a probability between 0 and 1, got {drop_rate!r}")
        super().__init__()
        self.layer0 = _stem(in_channels, stem)
        self.pool0 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        channels = stem[-1]
        for i, (blocks, planes) in enumerate(zip(layers, (64, 128, 256, 512), strict=True), 1):
            stride, kernel_size = (1, 1) if i == 1 else (2, shortcut_kernel)
            width, downsample = planes * block.expansion, None
            if stride != 1 or channels != width:
                convolution = nn.Conv2d(channels, width, kernel_size, stride, kernel_size // 2, bias=False)
                downsample = nn.Sequential(convolution, nn.BatchNorm2d(width))
            stage = [block(channels, planes, stride, downsample, **block_options)]
            stage += [block(width, planes, **block_options) for _ in range(blocks - 1)]
            self.add_module(f"layer{i}", nn.Sequential(*stage))
            channels = width
        self.dropout = nn.Dropout(drop_rate)
        self.last_linear = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool0(self.layer0(x))  # (N, C, H / 4, W / 4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (N, 512 * expansion, H / 32, W / 32)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.last_linear(self.dropout(x))


# ---- the networks ------------------------------------------------------------------------------------------------------


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=11_778_592, macs=1_814_160_384)
def se_resnet18(num_classes: int = 1000, in_channels: int = 3, drop_rate: float = 0.0) -> SENet:
    """ResNet-18 with squeeze-and-excitation gates."""
    return SENet(SEBasicBlock, (2, 2, 2, 2), num_classes, in_channels, drop_rate=drop_rate)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=21_958_868, macs=3_663_918_592)
def se_resnet34(num_classes: int = 1000, in_channels: int = 3, drop_rate: float = 0.0) -> SENet:
    """ResNet-34 with squeeze-and-excitation gates."""
    return SENet(SEBasicBlock, (3, 4, 6, 3), num_classes, in_channels, drop_rate=drop_rate)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=28_088_024, macs=3_860_488_192)
def se_resnet50(num_classes: int = 1000, in_channels: int = 3, drop_rate: float = 0.0) -> SENet:
    """ResNet-50 with squeeze-and-excitation gates; published error on ImageNet 22.4 % (top 5: 6.4 %)."""
    return SENet(SEBottleneck, (3, 4, 6, 3), num_classes, in_channels, drop_rate=drop_rate)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=49_326_872, macs=7_574_937_600)
def se_resnet101(num_classes: int = 1000, in_channels: int = 3, drop_rate: float = 0.0) -> SENet:
    """ResNet-101 with squeeze-and-excitation gates; published error on ImageNet 21.8 % (top 5: 5.7 %)."""
    return SENet(SEBottleneck, (3, 4, 23, 3), num_classes, in_channels, drop_rate=drop_rate)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=66_821_848, macs=11_288_993_792)
def se_resnet152(num_classes: int = 1000, in_channels: int = 3, drop_rate: float = 0.0) -> SENet:
    """ResNet-152 with squeeze-and-excitation gates; published error on ImageNet 21.3 % (top 5: 5.5 %)."""
    return SENet(SEBottleneck, (3, 8, 36, 3), num_classes, in_channels, drop_rate=drop_rate)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=27_559_896, macs=4_232_994_816)
def se_resnext50_32x4d(num_classes: int = 1000, in_channels: int = 3, drop_rate: float = 0.0) -> SENet:
    """ResNeXt-50 (32 groups of 4 channels) with squeeze-and-excitation gates."""
    options = {"kind": "resnext", "groups": 32}
    return SENet(SEBottleneck, (3, 4, 6, 3), num_classes, in_channels, drop_rate=drop_rate, **options)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=115_088_984, macs=20_688_363_520)
def senet154(num_classes: int = 1000, in_channels: int = 3, drop_rate: float = 0.2) -> SENet:
    """SENet-154, from which the winner of ILSVRC 2017 was built; published error on ImageNet 18.7 % (top 5: 4.5 %)."""
    options = {"kind": "senet", "groups": 64, "stem": (64, 64, 128), "shortcut_kernel": 3}
    return SENet(SEBottleneck, (3, 8, 36, 3), num_classes, in_channels, drop_rate=drop_rate, **options)
