"""EfficientNet B0 to B7 (Tan & Le 2019): one small network found by search, scaled in width, depth and resolution together.

The blocks are MobileNet V2's with squeeze-and-excitation and SiLU (MBConv, table 1). Compound scaling makes the network 1.1^phi
times as wide, 1.2^phi times as deep and its images 1.15^phi times as large, so that it costs about 2^phi times as much; the
published coefficients of B1 to B7 are rounded by hand, hence the table ``SCALES``.

Module names are torchvision's. Traps: the squeezed width is a quarter of the block's input, not of its expanded width; numbers
of channels are rounded after scaling, and again where a block expands them; the batch normalization of B5 to B7 has eps = 1e-3
and momentum = 0.01 (their weights came from TensorFlow), that of B0 to B4 PyTorch's 1e-5 and 0.1; padding is on all sides,
unlike TensorFlow's; and torchvision evaluates B2 on images of 288, not of the paper's 260.
"""

from __future__ import annotations

import math

from minigrad import nn
from minigrad.models.layers import SqueezeExcitation, StochasticDepth, make_divisible
from minigrad.models.mobilenet import conv_norm
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.tensor import Tensor

__all__ = [
    "EfficientNet",
    "MBConv",
    "compound_scaling",
    "efficientnet",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
]

PAPER = Paper("Tan, Le", "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019, arxiv="1905.11946")

STAGES = (  # expansion, kernel, stride of the first block, channels, blocks: those of B0
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
SCALES = (  # width, depth, resolution: those of B0 ... B7
    (1.0, 1.0, 224),
    (1.0, 1.1, 240),
    (1.1, 1.2, 288),
    (1.2, 1.4, 300),
    (1.4, 1.8, 380),
    (1.6, 2.2, 456),
    (1.8, 2.6, 528),
    (2.0, 3.1, 600),
)


class MBConv(nn.Module):
    """1x1 to ``expansion`` times the channels, depthwise k x k, squeeze-and-excitation, linear 1x1; plus x if the shape stays.

    (N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride). ``drop``: the probability that training leaves the
    branch out for an image.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int, drop: float, **norm: float
    ) -> None:
        super().__init__()
        wide = make_divisible(in_channels * expansion)
        layers = [nn.Sequential(*conv_norm(in_channels, wide, 1, **norm), nn.SiLU())] if wide != in_channels else []
        layers.append(nn.Sequential(*conv_norm(wide, wide, kernel, stride, groups=wide, **norm), nn.SiLU()))
        layers.append(SqueezeExcitation(wide, max(1, in_channels // 4), activation=nn.SiLU))
        layers.append(nn.Sequential(*conv_norm(wide, out_channels, 1, **norm)))
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.stochastic_depth(self.block(x)) if self.residual else self.block(x)


class EfficientNet(nn.Module):
    """A 3x3 convolution, seven stages of MBConv blocks, a 1x1 convolution, the mean over the image, a linear layer.

    x (N, in_channels, H, W) -> (N, num_classes); the image is halved five times, and any size will do. Arguments: see
    ``efficientnet``.
    """

    def __init__(
        self,
        width: float = 1.0,
        depth: float = 1.0,
        resolution: int = 224,
        dropout: float = 0.2,
        num_classes: int = 1000,
        in_channels: int = 3,
        stochastic_depth: float = 0.2,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        for name, value in (("width", width), ("depth", depth), ("resolution", resolution)):
            if not value > 0:
                raise ValueError(f"{name} must be larger than 0, got {value!r}")
        if not 0 <= stochastic_depth <= 1:
            raise ValueError(f"stochastic_depth must be a probability between 0 and 1, got {stochastic_depth!r}")
        super().__init__()
        self.resolution = resolution
        norm = {"eps": eps, "momentum": momentum}
        channels = make_divisible(32 * width)
        stages = [nn.Sequential(*conv_norm(in_channels, channels, 3, stride=2, **norm), nn.SiLU())]
        repeats = [math.ceil(blocks * depth) for *_, blocks in STAGES]
        done = 0
        for (expansion, kernel, stride, planes, _), blocks in zip(STAGES, repeats, strict=True):
            stage, planes_out = nn.Sequential(), make_divisible(planes * width)
            for i in range(blocks):
                drop = stochastic_depth * done / sum(repeats)  # deeper blocks are left out more often
                stage.append(MBConv(channels, planes_out, kernel, stride if i == 0 else 1, expansion, drop, **norm))
                channels, done = planes_out, done + 1
            stages.append(stage)
        stages.append(nn.Sequential(*conv_norm(channels, 4 * channels, 1, **norm), nn.SiLU()))
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * channels, num_classes))
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.out_features)
                init.uniform_(module.weight, -bound, bound)
                init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(x.flatten(1))


def compound_scaling(phi: float, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15) -> tuple[float, float, int]:
    """(width, depth, resolution) = (beta^phi, alpha^phi, 224 gamma^phi) for about 2^phi times the cost of B0 (equation 3).

    The paper's alpha, beta and gamma satisfy alpha beta^2 gamma^2 = 1.92; the defaults were found by a search on B0.
    """
    return beta**phi, alpha**phi, round(224 * gamma**phi)


def efficientnet(
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int = 224,
    dropout: float = 0.2,
    num_classes: int = 1000,
    in_channels: int = 3,
    stochastic_depth: float = 0.2,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> EfficientNet:
    """An EfficientNet of your own scale: ``efficientnet(*compound_scaling(1.5), dropout=0.25)``.

    ``width`` multiplies the numbers of channels (then rounded to multiples of 8), ``depth`` the numbers of blocks (rounded up).
    ``resolution`` is the size of images that it is meant for: kept as the model's attribute, it changes no layer.
    ``dropout``: before the last layer; ``stochastic_depth``: the probability, from 0 at the first block almost to this at the
    last one, that a residual branch is left out; ``eps`` and ``momentum``: of the batch normalization.
    """
    return EfficientNet(width, depth, resolution, dropout, num_classes, in_channels, stochastic_depth, eps, momentum)


# ---- the networks ------------------------------------------------------------------------------------------------------


def _scaled(number: int, num_classes: int, in_channels: int, dropout: float, stochastic_depth: float) -> EfficientNet:
    """B ``number``; the weights of B5 to B7 came from TensorFlow, and with them its batch normalization."""
    norm = (1e-3, 0.01) if number >= 5 else (1e-5, 0.1)
    width, depth, resolution = SCALES[number]
    return EfficientNet(width, depth, resolution, dropout, num_classes, in_channels, stochastic_depth, *norm)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=5_288_548, macs=385_814_752)
def efficientnet_b0(
    num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2, stochastic_depth: float = 0.2
) -> EfficientNet:
    """EfficientNet-B0: the network that was found by search, for images of 224."""
    return _scaled(0, num_classes, in_channels, dropout, stochastic_depth)


@register(paper=PAPER, input_shape=(3, 240, 240), parameters=7_794_184, macs=686_802_832)
def efficientnet_b1(
    num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2, stochastic_depth: float = 0.2
) -> EfficientNet:
    """EfficientNet-B1: as wide as B0 and 1.1 times as deep, for images of 240."""
    return _scaled(1, num_classes, in_channels, dropout, stochastic_depth)


@register(paper=PAPER, input_shape=(3, 288, 288), parameters=9_109_994, macs=1_087_529_456)
def efficientnet_b2(
    num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.3, stochastic_depth: float = 0.2
) -> EfficientNet:
    """EfficientNet-B2: 1.1 times as wide and 1.2 times as deep as B0, for images of 288."""
    return _scaled(2, num_classes, in_channels, dropout, stochastic_depth)


@register(paper=PAPER, input_shape=(3, 300, 300), parameters=12_233_232, macs=1_827_141_392)
def efficientnet_b3(
    num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.3, stochastic_depth: float = 0.2
) -> EfficientNet:
    """EfficientNet-B3: 1.2 times as wide and 1.4 times as deep as B0, for images of 300."""
    return _scaled(3, num_classes, in_channels, dropout, stochastic_depth)


@register(paper=PAPER, input_shape=(3, 380, 380), parameters=19_341_616, macs=4_393_771_024)
def efficientnet_b4(
    num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.4, stochastic_depth: float = 0.2
) -> EfficientNet:
    """EfficientNet-B4: 1.4 times as wide and 1.8 times as deep as B0, for images of 380."""
    return _scaled(4, num_classes, in_channels, dropout, stochastic_depth)


@register(paper=PAPER, input_shape=(3, 456, 456), parameters=30_389_784, macs=10_266_384_752)
def efficientnet_b5(
    num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.4, stochastic_depth: float = 0.2
) -> EfficientNet:
    """EfficientNet-B5: 1.6 times as wide and 2.2 times as deep as B0, for images of 456."""
    return _scaled(5, num_classes, in_channels, dropout, stochastic_depth)


@register(paper=PAPER, input_shape=(3, 528, 528), parameters=43_040_704, macs=19_067_593_536)
def efficientnet_b6(
    num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5, stochastic_depth: float = 0.2
) -> EfficientNet:
    """EfficientNet-B6: 1.8 times as wide and 2.6 times as deep as B0, for images of 528."""
    return _scaled(6, num_classes, in_channels, dropout, stochastic_depth)


@register(paper=PAPER, input_shape=(3, 600, 600), parameters=66_347_960, macs=37_745_884_192)
def efficientnet_b7(
    num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5, stochastic_depth: float = 0.2
) -> EfficientNet:
    """EfficientNet-B7: twice as wide and 3.1 times as deep as B0, for images of 600."""
    return _scaled(7, num_classes, in_channels, dropout, stochastic_depth)
