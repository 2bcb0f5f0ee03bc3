"""Pre-activation residual networks (He et al. 2016, "Identity Mappings"): ResNetV2.

Normalization and ReLU come before each convolution instead of behind it, so that nothing but sums lies between the first block
and the last, which is followed by a normalization and a ReLU of its own. Where a block changes the shape, the first
normalization and ReLU serve the branch and the shortcut, a 1x1 convolution without normalization.

    CIFAR      a 3x3 convolution, stages of 16, 32, 64 planes; depth 6 n + 2 of two 3x3 convolutions, 9 n + 2 with bottlenecks
    ImageNet   a 7x7 convolution without normalization, a pooling, stages of 64, 128, 256, 512 planes

Two traps. The shortcut of the network's very first block is behind its normalization and ReLU even where the shape stays, as in
ResNet-110 (the paper's appendix; ``activate_stem``): many implementations leave that out. And the authors' code has the stride
of a bottleneck in the first 1x1 convolution, timm (and here, unless ``stride_in="1x1"``) in the 3x3.

Module names are timm's for ImageNet, and are the same for CIFAR: stem.conv, stages.0.blocks.0.norm1, ...conv1,
...downsample.conv, norm, head.fc (a 1x1 convolution).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from minigrad import nn
from minigrad.models.layers import norm_layer
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.tensor import Tensor

__all__ = [
    "PreActBasicBlock",
    "PreActBottleneck",
    "PreActResNet",
    "cifar_preact_resnet110",
    "cifar_preact_resnet164",
    "cifar_preact_resnet1001",
    "resnetv2_50",
]

PAPER = Paper("He, Zhang, Ren, Sun", "Identity Mappings in Deep Residual Networks", 2016, arxiv="1603.05027")

Norm = str | Callable[[int], nn.Module]  # see layers.norm_layer


def _projection(in_channels: int, channels: int, stride: int) -> nn.Module | None:
    """The shortcut's 1x1 convolution, None where the shape stays."""
    if stride == 1 and in_channels == channels:
        return None
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)))


class _Block(nn.Module):
    """branch(a) + shortcut, where a = relu(norm1(x)) and the shortcut is downsample(a) if there is one, else x.

    ``activated``: a for the shortcut instead of x where there is no downsample.
    """

    downsample: nn.Module | None
    activated: bool

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.norm1(x))
        if self.downsample is not None:
            shortcut = self.downsample(a)
        else:
            shortcut = a if self.activated else x
        return self.branch(a) + shortcut


class PreActBasicBlock(_Block):
    """Two 3x3 convolutions, the first with ``stride``: (N, in_channels, H, W) -> (N, planes, H / stride, W / stride).

    ``dropout``: probability of dropout between the two. ``activated``: the shortcut, where the shape stays, is of relu(norm1(x))
    instead of x.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        norm: Norm = "batch",
        activated: bool = False,
        dropout: float = 0.0,
    ) -> None:
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be a probability between 0 and 1, got {dropout!r}")
        norm = norm_layer(norm)
        super().__init__()
        self.activated = activated
        self.downsample = _projection(in_channels, planes, stride)
        self.norm1 = norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, planes, 3, stride=stride, padding=1, bias=False)
        self.norm2 = norm(planes)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)

    def branch(self, a: Tensor) -> Tensor:
        """What is added to the shortcut; a: the activated input."""
        return self.conv2(self.dropout(F.relu(self.norm2(self.conv1(a)))))


class PreActBottleneck(_Block):
    """A 1x1, a 3x3 and a 1x1 convolution: (N, in_channels, H, W) -> (N, 4 planes, H / stride, W / stride).

    ``stride_in``: the convolution with the stride, "3x3" (timm) or "1x1" (the authors' code).
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        norm: Norm = "batch",
        activated: bool = False,
        stride_in: str = "3x3",
    ) -> None:
        if stride_in not in ("3x3", "1x1"):
            raise ValueError(f'stride_in must be "3x3" (as in timm) or "1x1" (as in the authors\' code), got {stride_in!r}')
        norm = norm_layer(norm)
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        super().__init__()
        self.activated = activated
        self.downsample = _projection(in_channels, 4 * planes, stride)
        self.norm1 = norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, planes, 1, stride=first, bias=False)
        self.norm2 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=second, padding=1, bias=False)
        self.norm3 = norm(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)

    def branch(self, a: Tensor) -> Tensor:
        """What is added to the shortcut; a: the activated input."""
        y = self.conv2(F.relu(self.norm2(self.conv1(a))))
        return self.conv3(F.relu(self.norm3(y)))


class PreActResNet(nn.Module):
    """A convolution, stages of blocks, normalization and ReLU, the mean over the image, a classifier: -> (N, num_classes).

    ``block``: PreActBasicBlock or PreActBottleneck, whose further arguments are ``block_options``; ``layers`` and ``planes``: the
    number of blocks and the planes of each stage; ``small_images``: start with a 3x3 convolution to 16 channels instead of a
    7x7 one to 64 with pooling; ``activate_stem``: the shortcut of the first block is behind its normalization and ReLU.
    Convolutions start from He's normal distribution by their outputs, the classifier from N(0, 0.01^2), as timm does it.
    """

    def __init__(
        self,
        block: type[PreActBasicBlock] | type[PreActBottleneck],
        layers: Sequence[int],
        planes: Sequence[int],
        num_classes: int,
        in_channels: int,
        small_images: bool,
        norm: Norm = "batch",
        activate_stem: bool = True,
        **block_options,
    ) -> None:
        norm = norm_layer(norm)
        super().__init__()
        if small_images:
            channels, stem = 16, OrderedDict(conv=nn.Conv2d(in_channels, 16, 3, padding=1, bias=False))
        else:
            channels, stem = 64, OrderedDict(conv=nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False))
            stem["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
        self.stem = nn.Sequential(stem)
        self.stages = nn.Sequential()
        for i, (count, width) in enumerate(zip(layers, planes, strict=True)):
            blocks = []
            for j in range(count):
                stride = 2 if i > 0 and j == 0 else 1
                activated = activate_stem and i == j == 0
                blocks.append(block(channels, width, stride, norm, activated, **block_options))
                channels = width * block.expansion
            self.stages.append(nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks))))
        self.norm = norm(channels)
        self.head = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(1), fc=nn.Conv2d(channels, num_classes, 1)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        init.normal_(self.head.fc.weight, std=0.01)
        init.zeros_(self.head.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x))
        return self.head(F.relu(self.norm(x))).flatten(1)


# ---- the networks ------------------------------------------------------------------------------------------------------

CIFAR = (16, 32, 64)  # planes


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=1_730_522, macs=253_149_824)
def cifar_preact_resnet110(num_classes: int = 10, in_channels: int = 3, norm: Norm = "batch") -> PreActResNet:
    """Pre-activation ResNet-110 for CIFAR: [18, 18, 18] blocks of two 3x3 convolutions; published error on CIFAR-10 6.37 %."""
    return PreActResNet(PreActBasicBlock, (18, 18, 18), CIFAR, num_classes, in_channels, True, norm)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=1_703_258, macs=247_646_720)
def cifar_preact_resnet164(
    num_classes: int = 10, in_channels: int = 3, norm: Norm = "batch", stride_in: str = "3x3"
) -> PreActResNet:
    """Pre-activation ResNet-164 for CIFAR: [18, 18, 18] bottleneck blocks; published error on CIFAR-10 5.46 %."""
    return PreActResNet(PreActBottleneck, (18, 18, 18), CIFAR, num_classes, in_channels, True, norm, stride_in=stride_in)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=10_327_706, macs=1_490_995_712)
def cifar_preact_resnet1001(
    num_classes: int = 10, in_channels: int = 3, norm: Norm = "batch", stride_in: str = "3x3"
) -> PreActResNet:
    """Pre-activation ResNet-1001 for CIFAR: [111, 111, 111] bottleneck blocks; published error on CIFAR-10 4.92 %."""
    return PreActResNet(PreActBottleneck, (111, 111, 111), CIFAR, num_classes, in_channels, True, norm, stride_in=stride_in)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=25_549_352, macs=4_089_184_256)
def resnetv2_50(num_classes: int = 1000, in_channels: int = 3, norm: Norm = "batch", stride_in: str = "3x3") -> PreActResNet:
    """Pre-activation ResNet-50: [3, 4, 6, 3] bottleneck blocks; accuracy of timm's weights on ImageNet 80.4 %."""
    planes = (64, 128, 256, 512)
    return PreActResNet(PreActBottleneck, (3, 4, 6, 3), planes, num_classes, in_channels, False, norm, stride_in=stride_in)
