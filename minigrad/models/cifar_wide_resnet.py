"""Wide residual networks for CIFAR (Zagoruyko & Komodakis 2016, table 1): WRN-d-k.

Pre-activation blocks of two 3x3 convolutions, fewer of them and k times as wide as in the networks for CIFAR before: a 3x3
convolution to 16 channels, three stages of n blocks with 16 k, 32 k and 64 k channels, and a last normalization, ReLU, mean and
classifier. The depth d is 6 n + 4, which counts the shortcuts' convolutions of the three stages but not the classifier. Where
the shape changes, the shortcut is a 1x1 convolution behind the block's first normalization and ReLU. ``dropout`` (0.3 in the
paper) is between the two convolutions of a block.

With k = 1 the first stage begins without a change of shape: there the shortcut is the input itself, and not behind normalization
and ReLU as in the pre-activation ResNet (so in the authors' code). Not to be confused with torchvision's wide_resnet50_2, which
is a bottleneck network for ImageNet. Module names are those of the pre-activation networks here (``preact_resnet``).
"""

from __future__ import annotations

from minigrad.models.preact_resnet import PreActBasicBlock, PreActResNet
from minigrad.models.registry import Paper, register

__all__ = [
    "cifar_wrn16_4",
    "cifar_wrn16_8",
    "cifar_wrn22_8",
    "cifar_wrn28_10",
    "cifar_wrn28_12",
    "cifar_wrn40_1",
    "cifar_wrn40_2",
    "cifar_wrn40_4",
    "cifar_wrn40_8",
]

PAPER = Paper("Zagoruyko, Komodakis", "Wide Residual Networks", 2016, arxiv="1605.07146")


def _wide(depth: int, k: int, num_classes: int, in_channels: int, dropout: float) -> PreActResNet:
    layers, planes = ((depth - 4) // 6,) * 3, (16 * k, 32 * k, 64 * k)
    options = {"activate_stem": False, "dropout": dropout}
    return PreActResNet(PreActBasicBlock, layers, planes, num_classes, in_channels, small_images=True, **options)


# ---- the networks ------------------------------------------------------------------------------------------------------


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=2_748_890, macs=392_612_352)
def cifar_wrn16_4(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> PreActResNet:
    """Wide ResNet 16-4 for CIFAR: 2 blocks a stage at 4 times the usual width."""
    return _wide(16, 4, num_classes, in_channels, dropout)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=10_961_370, macs=1_548_145_664)
def cifar_wrn16_8(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> PreActResNet:
    """Wide ResNet 16-8 for CIFAR: 2 blocks a stage at 8 times the usual width."""
    return _wide(16, 8, num_classes, in_channels, dropout)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=17_158_106, macs=2_454_115_328)
def cifar_wrn22_8(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> PreActResNet:
    """Wide ResNet 22-8 for CIFAR: 3 blocks a stage at 8 times the usual width."""
    return _wide(22, 8, num_classes, in_channels, dropout)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=36_479_194, macs=5_243_328_768)
def cifar_wrn28_10(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> PreActResNet:
    """Wide ResNet 28-10 for CIFAR: 4 blocks a stage at 10 times the usual width; published error on CIFAR-10 4.00 %."""
    return _wide(28, 10, num_classes, in_channels, dropout)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=52_517_850, macs=7_543_905_792)
def cifar_wrn28_12(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> PreActResNet:
    """Wide ResNet 28-12 for CIFAR: 4 blocks a stage at 12 times the usual width."""
    return _wide(28, 12, num_classes, in_channels, dropout)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=563_930, macs=83_280_512)
def cifar_wrn40_1(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> PreActResNet:
    """Wide ResNet 40-1 for CIFAR: 6 blocks a stage with the usual width of 16, 32, 64 channels."""
    return _wide(40, 1, num_classes, in_channels, dropout)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=2_243_546, macs=327_599_360)
def cifar_wrn40_2(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> PreActResNet:
    """Wide ResNet 40-2 for CIFAR: 6 blocks a stage at 2 times the usual width."""
    return _wide(40, 2, num_classes, in_channels, dropout)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=8_949_210, macs=1_298_582_016)
def cifar_wrn40_4(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> PreActResNet:
    """Wide ResNet 40-4 for CIFAR: 6 blocks a stage at 4 times the usual width."""
    return _wide(40, 4, num_classes, in_channels, dropout)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=35_748_314, macs=5_172_024_320)
def cifar_wrn40_8(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> PreActResNet:
    """Wide ResNet 40-8 for CIFAR: 6 blocks a stage at 8 times the usual width."""
    return _wide(40, 8, num_classes, in_channels, dropout)
