"""DenseNet (Huang, Liu, van der Maaten, Weinberger 2017): each layer sees the concatenated outputs of all layers before it.

A dense block of L layers adds ``growth_rate`` channels with each, so that layer l has C + (l - 1) growth_rate input channels.
Between blocks a transition (1x1 convolution, 2x2 mean) halves the image. Everything is pre-activated: BN, ReLU, convolution.

    ImageNet (table 1)     7x7 stem, four blocks, bottlenecks (1x1 to 4 growth_rate before each 3x3), transitions that halve the
                           channels
    CIFAR (section 4.2)    3x3 stem without normalization, three blocks of (depth - 4) / 3 layers: plain ones with a stem of 16
                           channels, and BC, with bottlenecks (half as many layers, as each has two convolutions), halving
                           transitions and a stem of 2 growth_rate

Module names are torchvision's: features.denseblock1.denselayer1.norm1, ..., features.transition1.conv, features.norm5,
classifier. (Its files of 2017 hold denselayer1.norm.1 in place of denselayer1.norm1, and conv.2 of conv2.) The last normalization
is norm4 in the networks of three blocks.

Within a block the concatenations take memory in proportion to the square of the number of layers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from minigrad import nn
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.ops import cat
from minigrad.tensor import Tensor

__all__ = [
    "DenseBlock",
    "DenseLayer",
    "DenseNet",
    "cifar_densenet40_12",
    "cifar_densenet100_12",
    "cifar_densenet_bc100_12",
    "cifar_densenet_bc190_40",
    "cifar_densenet_bc250_24",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
]

PAPER = Paper("Huang, Liu, van der Maaten, Weinberger", "Densely Connected Convolutional Networks", 2016, arxiv="1608.06993")


class DenseLayer(nn.Module):
    """The new channels of a layer: (N, in_channels, H, W) -> (N, growth_rate, H, W).

    BN, ReLU, 3x3 convolution; with ``bn_size`` before it BN, ReLU and a 1x1 convolution to bn_size * growth_rate channels
    (0: none). ``drop_rate``: dropout of the result.
    """

    def __init__(self, in_channels: int, growth_rate: int, bn_size: int = 4, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.bn_size, self.drop_rate = bn_size, drop_rate
        self.norm1 = nn.BatchNorm2d(in_channels)
        if bn_size:
            width = bn_size * growth_rate
            self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, growth_rate, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, growth_rate, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(F.relu(self.norm1(x)))
        if self.bn_size:
            x = self.conv2(F.relu(self.norm2(x)))
        return F.dropout(x, self.drop_rate, self.training)


class DenseBlock(nn.Sequential):
    """``num_layers`` dense layers: (N, in_channels, H, W) -> (N, in_channels + num_layers * growth_rate, H, W).

    The input is the first part of the output, followed by the new channels of each layer. ``bn_size``, ``drop_rate``: see
    ``DenseLayer``. The layers are denselayer1, denselayer2, ...; ``out_channels`` is the number of channels of the output.
    """

    def __init__(self, num_layers: int, in_channels: int, growth_rate: int, bn_size: int = 4, drop_rate: float = 0.0) -> None:
        for name, value, least in (("num_layers", num_layers, 1), ("growth_rate", growth_rate, 1), ("bn_size", bn_size, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        if not 0 <= drop_rate <= 1:
            raise ValueError(f"drop_rate must be a probability between 0 and 1, got {drop_rate!r}")
        super().__init__()
        for i in range(num_layers):
            layer = DenseLayer(in_channels + i * growth_rate, growth_rate, bn_size, drop_rate)
            self.add_module(f"denselayer{i + 1}", layer)
        self.out_channels = in_channels + num_layers * growth_rate

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = cat([x, layer(x)], 1)
        return x


def _transition(in_channels: int, out_channels: int) -> nn.Sequential:
    """(N, in_channels, H, W) -> (N, out_channels, H // 2, W // 2)."""
    convolution = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    layers = OrderedDict(norm=nn.BatchNorm2d(in_channels), relu=nn.ReLU(), conv=convolution, pool=nn.AvgPool2d(2, stride=2))
    return nn.Sequential(layers)


def _stem(in_channels: int, out_channels: int, small_images: bool) -> OrderedDict[str, nn.Module]:
    """A 3x3 convolution for small images; else a 7x7 convolution and a pooling, which divide the size by four."""
    if small_images:
        return OrderedDict(conv0=nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False))
    return OrderedDict(
        conv0=nn.Conv2d(in_channels, out_channels, 7, stride=2, padding=3, bias=False),
        norm0=nn.BatchNorm2d(out_channels),
        relu0=nn.ReLU(),
        pool0=nn.MaxPool2d(3, stride=2, padding=1),
    )


class DenseNet(nn.Module):
    """A stem, dense blocks with transitions between them, the mean over the image, a linear layer: -> (N, num_classes).

    ``block_config``: the number of layers of each block. ``bn_size``: width of the bottlenecks in growth rates, 0 for none.
    ``compression``: the share of the channels that a transition keeps, above 0 and at most 1. ``small_images``: the stem of the
    CIFAR networks. ``drop_rate``: dropout of each layer's new channels (the paper: 0.2 for CIFAR without augmentation).
    """

    def __init__(
        self,
        growth_rate: int,
        block_config: Sequence[int],
        num_init_features: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        bn_size: int = 4,
        compression: float = 0.5,
        drop_rate: float = 0.0,
        small_images: bool = False,
    ) -> None:
        if not 0 < compression <= 1:
            raise ValueError(f"compression must be above 0 and at most 1, got {compression!r}")
        super().__init__()
        features = _stem(in_channels, num_init_features, small_images)
        channels = num_init_features
        for i, num_layers in enumerate(block_config, 1):
            if i > 1:
                kept = int(channels * compression)
                features[f"transition{i - 1}"] = _transition(channels, kept)
                channels = kept
            block = DenseBlock(num_layers, channels, growth_rate, bn_size, drop_rate)
            features[f"denseblock{i}"] = block
            channels = block.out_channels
        features[f"norm{len(block_config) + 1}"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(features)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight)
        init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.features(x))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


# ---- ImageNet ----------------------------------------------------------------------------------------------------------


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=7_978_856, macs=2_834_161_664)
def densenet121(num_classes: int = 1000, in_channels: int = 3, drop_rate: float = 0.0) -> DenseNet:
    """DenseNet-121: blocks of 6, 12, 24 and 16 layers, growth rate 32; torchvision's checkpoint 74.4 % (top 5: 92.0 %)."""
    return DenseNet(32, (6, 12, 24, 16), 64, num_classes, in_channels, drop_rate=drop_rate)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=28_681_000, macs=7_727_907_072)
def densenet161(num_classes: int = 1000, in_channels: int = 3, drop_rate: float = 0.0) -> DenseNet:
    """DenseNet-161: blocks of 6, 12, 36 and 24 layers, growth rate 48; torchvision's checkpoint 77.1 %."""
    return DenseNet(48, (6, 12, 36, 24), 96, num_classes, in_channels, drop_rate=drop_rate)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=14_149_480, macs=3_359_843_328)
def densenet169(num_classes: int = 1000, in_channels: int = 3, drop_rate: float = 0.0) -> DenseNet:
    """DenseNet-169: blocks of 6, 12, 32 and 32 layers, growth rate 32; torchvision's checkpoint 75.6 %."""
    return DenseNet(32, (6, 12, 32, 32), 64, num_classes, in_channels, drop_rate=drop_rate)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=20_013_928, macs=4_291_365_888)
def densenet201(num_classes: int = 1000, in_channels: int = 3, drop_rate: float = 0.0) -> DenseNet:
    """DenseNet-201: blocks of 6, 12, 48 and 32 layers, growth rate 32; torchvision's checkpoint 76.9 %."""
    return DenseNet(32, (6, 12, 48, 32), 64, num_classes, in_channels, drop_rate=drop_rate)


# ---- CIFAR -------------------------------------------------------------------------------------------------------------


def _plain(depth: int, growth_rate: int, num_classes: int, in_channels: int, drop_rate: float) -> DenseNet:
    """Three blocks of 3x3 convolutions; transitions keep all channels."""
    blocks = (depth - 4) // 3  # the stem, two transitions and the linear layer are the other four
    return DenseNet(growth_rate, [blocks] * 3, 16, num_classes, in_channels, 0, 1.0, drop_rate, small_images=True)


def _bc(depth: int, growth_rate: int, num_classes: int, in_channels: int, drop_rate: float) -> DenseNet:
    """Three blocks with bottlenecks; transitions keep half of the channels."""
    blocks = (depth - 4) // 6
    stem = 2 * growth_rate
    return DenseNet(growth_rate, [blocks] * 3, stem, num_classes, in_channels, drop_rate=drop_rate, small_images=True)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=1_019_722, macs=264_812_928)
def cifar_densenet40_12(num_classes: int = 10, in_channels: int = 3, drop_rate: float = 0.0) -> DenseNet:
    """DenseNet of depth 40, growth rate 12, for CIFAR, without bottlenecks; published error on CIFAR-10 5.24 %."""
    return _plain(40, 12, num_classes, in_channels, drop_rate)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=6_979_642, macs=1_769_516_448)
def cifar_densenet100_12(num_classes: int = 10, in_channels: int = 3, drop_rate: float = 0.0) -> DenseNet:
    """DenseNet of depth 100, growth rate 12, for CIFAR, without bottlenecks; published error on CIFAR-10 4.10 %."""
    return _plain(100, 12, num_classes, in_channels, drop_rate)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=769_162, macs=287_929_692)
def cifar_densenet_bc100_12(num_classes: int = 10, in_channels: int = 3, drop_rate: float = 0.0) -> DenseNet:
    """DenseNet-BC of depth 100, growth rate 12, for CIFAR; published error on CIFAR-10 4.51 %."""
    return _bc(100, 12, num_classes, in_channels, drop_rate)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=25_624_430, macs=9_301_945_740)
def cifar_densenet_bc190_40(num_classes: int = 10, in_channels: int = 3, drop_rate: float = 0.0) -> DenseNet:
    """DenseNet-BC of depth 190, growth rate 40, for CIFAR; published error on CIFAR-10 3.46 %."""
    return _bc(190, 40, num_classes, in_channels, drop_rate)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=15_324_406, macs=5_418_785_724)
def cifar_densenet_bc250_24(num_classes: int = 10, in_channels: int = 3, drop_rate: float = 0.0) -> DenseNet:
    """DenseNet-BC of depth 250, growth rate 24, for CIFAR; published error on CIFAR-10 3.62 %."""
    return _bc(250, 24, num_classes, in_channels, drop_rate)
