"""Residual networks for ImageNet: ResNet (He et al. 2015, table 1), ResNeXt (Xie et al. 2016) and Wide ResNet-50-2 and -101-2.

A 7x7 convolution and a pooling, four stages of blocks with 64, 128, 256 and 512 planes, the mean over the image, a linear layer.
Each stage but the first halves the image. A block adds its input, or a 1x1 convolution of it where the shape changes, to

    BasicBlock   two 3x3 convolutions                            (ResNet-18 and -34)
    Bottleneck   1x1, 3x3 and 1x1, whose output is 4 times the planes; the 3x3 has width planes * width_per_group / 64 * groups

so that ResNeXt (groups) and the wide networks (width_per_group) are other arguments of the same class. Where the paper and the
usual implementation differ: the paper halves the image in the first 1x1 convolution of a bottleneck, torchvision (and here,
unless ``stride_in="1x1"``) in the 3x3. That costs 6 % more, is about 0.5 % more accurate, and needs other weights: the names and
shapes of the state are the same, so nothing but the results tells that a checkpoint belongs to the other form.

Module names are torchvision's: conv1, bn1, layer1.0.conv1, ..., layer2.0.downsample.0, ..., fc.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minigrad import nn
from minigrad.models.layers import norm_layer
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.tensor import Tensor

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]

RESNET = Paper("He, Zhang, Ren, Sun", "Deep Residual Learning for Image Recognition", 2015, arxiv="1512.03385")
RESNEXT = Paper(
    "Xie, Girshick, Dollar, Tu, He", "Aggregated Residual Transformations for Deep Neural Networks", 2016, arxiv="1611.05431"
)
WIDE = Paper("Zagoruyko, Komodakis", "Wide Residual Networks", 2016, arxiv="1605.07146")

Norm = str | Callable[[int], nn.Module]  # see layers.norm_layer


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut) with two 3x3 convolutions, the first with ``stride``.

    (N, in_channels, H, W) -> (N, planes, H / stride, W / stride). ``downsample``: the shortcut, None for x itself.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, planes: int, stride: int = 1, downsample: nn.Module | None = None, norm: Norm = "batch"
    ) -> None:
        norm = norm_layer(norm)
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = norm(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))

    @property
    def last_norm(self) -> nn.Module:
        """The normalization just before the sum."""
        return self.bn2


class Bottleneck(nn.Module):
    """relu(branch(x) + shortcut), the branch a 1x1, a 3x3 and a 1x1 convolution, each with normalization.

    (N, in_channels, H, W) -> (N, 4 planes, H / stride, W / stride). The 3x3 has ``groups`` groups of
    planes * width_per_group / 64 channels. ``stride_in``: the convolution with the stride, "3x3" (torchvision) or "1x1"
    (the paper). ``downsample``: the shortcut, None for x itself.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        norm: Norm = "batch",
        groups: int = 1,
        width_per_group: int = 64,
        stride_in: str = "3x3",
    ) -> None:
        if stride_in not in ("3x3", "1x1"):
            raise ValueError(f'stride_in must be "3x3" (as in torchvision) or "1x1" (as in the paper), got {stride_in!r}')
        norm = norm_layer(norm)
        width = int(planes * width_per_group / 64) * groups
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, stride=first, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=second, padding=1, groups=groups, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, 4 * planes, 1, bias=False)
        self.bn3 = norm(4 * planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))

    @property
    def last_norm(self) -> nn.Module:
        """The normalization just before the sum."""
        return self.bn3


class ResNet(nn.Module):
    """A convolution, stages of ``layers`` blocks, the mean over the image, a linear layer: (N, C, H, W) -> (N, num_classes).

    ``block``: BasicBlock or Bottleneck, whose further arguments are ``block_options``; ``layers``: the number of blocks of each
    stage, at most 4. ``small_images``: start with a 3x3 convolution of stride 1 and no pooling, for images of 32 x 32.
    ``zero_init_residual``: start with branches that give 0, so that a block passes on its shortcut (Goyal et al. 2017): 0.2 to
    0.3 % more accurate. ``norm``: "batch", "group", "layer", "instance" or a function of the channels (see ``norm_layer``).
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        zero_init_residual: bool = False,
        norm: Norm = "batch",
        small_images: bool = False,
        **block_options,
    ) -> None:
        if not 1 <= len(layers) <= 4:
            raise ValueError(f"layers must be the numbers of blocks of 1 to 4 stages, got {layers!r}")
        norm = norm_layer(norm)
        super().__init__()
        kernel_size, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, 64, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
        self.bn1 = norm(64)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, stride=2, padding=1)
        channels = 64
        self.stages = len(layers)
        for i, blocks in enumerate(layers):
            planes, stride = 64 * 2**i, 1 if i == 0 else 2
            stage = _stage(block, channels, planes, blocks, stride, norm, **block_options)
            self.add_module(f"layer{i + 1}", stage)
            channels = planes * block.expansion
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init_residual and isinstance(module, block):
                init.zeros_(module.last_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))  # (N, 64, H / 4, W / 4)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)  # at last (N, 512 * expansion, H / 32, W / 32)
        return self.fc(self.avgpool(x).flatten(1))


def _stage(block, in_channels: int, planes: int, blocks: int, stride: int, norm, **options) -> nn.Sequential:
    channels, downsample = planes * block.expansion, None
    if stride != 1 or in_channels != channels:
        downsample = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), norm(channels))
    first = block(in_channels, planes, stride, downsample, norm, **options)
    return nn.Sequential(first, *(block(channels, planes, norm=norm, **options) for _ in range(blocks - 1)))


# ---- the networks (accuracies: top 1 on ImageNet, one crop, with torchvision's first weights) ---------------------------


@register(paper=RESNET, input_shape=(3, 224, 224), parameters=11_689_512, macs=1_814_073_344)
def resnet18(num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False, norm: Norm = "batch") -> ResNet:
    """ResNet-18: [2, 2, 2, 2] blocks of two 3x3 convolutions; accuracy 69.8 %."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels, zero_init_residual, norm)


@register(paper=RESNET, input_shape=(3, 224, 224), parameters=21_797_672, macs=3_663_761_408)
def resnet34(num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False, norm: Norm = "batch") -> ResNet:
    """ResNet-34: [3, 4, 6, 3] blocks of two 3x3 convolutions; accuracy 73.3 %."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels, zero_init_residual, norm)


@register(paper=RESNET, input_shape=(3, 224, 224), parameters=25_557_032, macs=4_089_184_256)
def resnet50(
    num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False, norm: Norm = "batch", stride_in: str = "3x3"
) -> ResNet:
    """ResNet-50: [3, 4, 6, 3] bottleneck blocks; accuracy 76.1 %."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, zero_init_residual, norm, stride_in=stride_in)


@register(paper=RESNET, input_shape=(3, 224, 224), parameters=44_549_160, macs=7_801_405_440)
def resnet101(
    num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False, norm: Norm = "batch", stride_in: str = "3x3"
) -> ResNet:
    """ResNet-101: [3, 4, 23, 3] bottleneck blocks; accuracy 77.4 %."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, in_channels, zero_init_residual, norm, stride_in=stride_in)


@register(paper=RESNET, input_shape=(3, 224, 224), parameters=60_192_808, macs=11_513_626_624)
def resnet152(
    num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False, norm: Norm = "batch", stride_in: str = "3x3"
) -> ResNet:
    """ResNet-152: [3, 8, 36, 3] bottleneck blocks; accuracy 78.3 %."""
    return ResNet(Bottleneck, (3, 8, 36, 3), num_classes, in_channels, zero_init_residual, norm, stride_in=stride_in)


@register(paper=RESNEXT, input_shape=(3, 224, 224), parameters=25_028_904, macs=4_230_479_872)
def resnext50_32x4d(
    num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False, norm: Norm = "batch", stride_in: str = "3x3"
) -> ResNet:
    """ResNeXt-50: the 3x3 convolutions have 32 groups of 4, 8, 16 and 32 channels; accuracy 77.6 %."""
    options = {"groups": 32, "width_per_group": 4, "stride_in": stride_in}
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, zero_init_residual, norm, **options)


@register(paper=RESNEXT, input_shape=(3, 224, 224), parameters=88_791_336, macs=16_414_015_488)
def resnext101_32x8d(
    num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False, norm: Norm = "batch", stride_in: str = "3x3"
) -> ResNet:
    """ResNeXt-101 with 32 groups of 8, 16, 32 and 64 channels; accuracy 79.3 %."""
    options = {"groups": 32, "width_per_group": 8, "stride_in": stride_in}
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, in_channels, zero_init_residual, norm, **options)


@register(paper=RESNEXT, input_shape=(3, 224, 224), parameters=83_455_272, macs=15_460_270_080)
def resnext101_64x4d(
    num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False, norm: Norm = "batch", stride_in: str = "3x3"
) -> ResNet:
    """ResNeXt-101 with 64 groups of 4, 8, 16 and 32 channels; accuracy 83.2 %, of a newer way of training."""
    options = {"groups": 64, "width_per_group": 4, "stride_in": stride_in}
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, in_channels, zero_init_residual, norm, **options)


@register(paper=WIDE, input_shape=(3, 224, 224), parameters=68_883_240, macs=11_398_021_120)
def wide_resnet50_2(
    num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False, norm: Norm = "batch", stride_in: str = "3x3"
) -> ResNet:
    """Wide ResNet-50-2: ResNet-50 with 3x3 convolutions of twice the width; accuracy 78.5 %."""
    options = {"width_per_group": 128, "stride_in": stride_in}
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, zero_init_residual, norm, **options)


@register(paper=WIDE, input_shape=(3, 224, 224), parameters=126_886_696, macs=22_753_050_624)
def wide_resnet101_2(
    num_classes: int = 1000, in_channels: int = 3, zero_init_residual: bool = False, norm: Norm = "batch", stride_in: str = "3x3"
) -> ResNet:
    """Wide ResNet-101-2: ResNet-101 with 3x3 convolutions of twice the width; accuracy 78.8 %."""
    options = {"width_per_group": 128, "stride_in": stride_in}
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, in_channels, zero_init_residual, norm, **options)
