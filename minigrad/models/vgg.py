"""VGG: many 3x3 convolutions in place of fewer large ones (Simonyan & Zisserman 2015, table 1).

Two 3x3 convolutions see as much of the image as one of 5x5 and three as much as one of 7x7, with fewer weights and more
rectifiers in between. Each of five stages ends with 2x2 max pooling and doubles the channels up to 512; three linear layers
follow, of which the first alone has 102,764,544 parameters: three quarters of VGG-16.

Module names, their numbers in ``features`` (which count rectifiers and poolings) and the initialization are torchvision's. The
forms with batch normalization are torchvision's too: the paper has none. Other traps: table 1 has a net "C" with 1x1
convolutions, which is not VGG-16 (that is "D"); the original weights in Caffe want images in the order blue, green, red.
"""

from __future__ import annotations

from minigrad import nn
from minigrad.models.registry import Paper, register
from minigrad.nn import init
from minigrad.tensor import Tensor

__all__ = ["VGG", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"]

PAPER = Paper(
    "Simonyan, Zisserman",
    "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    2015,
    arxiv="1409.1556",
)

CHANNELS = (64, 128, 256, 512, 512)  # of the five stages
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # nets A, B, D, E


class VGG(nn.Module):
    """(N, in_channels, H, W) -> (N, num_classes); H and W at least 32, made for 224.

    ``depth``: the layers with weights, 11, 13, 16 or 19. ``batch_norm``: normalize after each convolution. Convolutions start
    from He's normal distribution for the outputs of a unit, linear layers from N(0, 0.01^2), biases at 0.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        if depth not in CONVOLUTIONS:
            raise ValueError(f"depth must be one of {', '.join(map(str, CONVOLUTIONS))}, got {depth!r}")
        super().__init__()
        self.features = _convolutions(CONVOLUTIONS[depth], in_channels, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            *(nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(4096, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                init.normal_(module.weight, 0, 0.01)
                init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _convolutions(numbers: tuple[int, ...], in_channels: int, batch_norm: bool) -> nn.Sequential:
    """The five stages of so many convolutions each, as one sequence of layers."""
    layers: list[nn.Module] = []
    for channels, number in zip(CHANNELS, numbers, strict=True):
        for _ in range(number):
            layers.append(nn.Conv2d(in_channels, channels, 3, padding=1))
            layers += [nn.BatchNorm2d(channels)] if batch_norm else []
            layers.append(nn.ReLU())
            in_channels = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


# ---- the networks ------------------------------------------------------------------------------------------------------


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=132_863_336, macs=7_609_090_048)
def vgg11(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-11, net A of the paper: 8 convolutions of 3x3 and 3 linear layers."""
    return VGG(11, num_classes, in_channels, False, dropout)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=132_868_840, macs=7_609_090_048)
def vgg11_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-11 with batch normalization after each convolution."""
    return VGG(11, num_classes, in_channels, True, dropout)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=133_047_848, macs=11_308_466_176)
def vgg13(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-13, net B of the paper: 10 convolutions of 3x3 and 3 linear layers."""
    return VGG(13, num_classes, in_channels, False, dropout)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=133_053_736, macs=11_308_466_176)
def vgg13_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-13 with batch normalization after each convolution."""
    return VGG(13, num_classes, in_channels, True, dropout)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=138_357_544, macs=15_470_264_320)
def vgg16(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-16, net D of the paper: 13 convolutions of 3x3 and 3 linear layers."""
    return VGG(16, num_classes, in_channels, False, dropout)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=138_365_992, macs=15_470_264_320)
def vgg16_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-16 with batch normalization after each convolution."""
    return VGG(16, num_classes, in_channels, True, dropout)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=143_667_240, macs=19_632_062_464)
def vgg19(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-19, net E of the paper: 16 convolutions of 3x3 and 3 linear layers."""
    return VGG(19, num_classes, in_channels, False, dropout)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=143_678_248, macs=19_632_062_464)
def vgg19_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-19 with batch normalization after each convolution."""
    return VGG(19, num_classes, in_channels, True, dropout)
