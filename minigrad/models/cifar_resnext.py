"""ResNeXt-29 for CIFAR (Xie et al. 2016, section 5.3): aggregated transformations, written as grouped convolutions.

A 3x3 convolution to 64 channels, three stages of three bottleneck blocks with 64, 128 and 256 planes, the mean over the image, a
linear layer. "8x64d" is 8 groups (the cardinality) of 64 channels in the 3x3 convolutions of the first stage, twice and four
times that in the others; the output of a block has 4 times its planes. Shortcuts where the shape changes are 1x1 convolutions
with batch normalization. The stride is in the 3x3 convolution. (A smaller "ResNeXt29_2x64d" of other collections starts with a
1x1 convolution and has outputs half as wide.)

The class, and the names of its modules, are those for ImageNet: conv1, bn1, layer1.0.conv1, ..., layer3.2.bn3, fc.
"""

from __future__ import annotations

from minigrad.models.registry import register
from minigrad.models.resnet import RESNEXT, Bottleneck, Norm, ResNet

__all__ = ["cifar_resnext29_1x64d", "cifar_resnext29_8x64d", "cifar_resnext29_16x64d", "cifar_resnext29_32x4d"]


def _resnext29(groups: int, width: int, num_classes: int, in_channels: int, norm: Norm) -> ResNet:
    options = {"small_images": True, "groups": groups, "width_per_group": width}
    return ResNet(Bottleneck, (3, 3, 3), num_classes, in_channels, norm=norm, **options)


@register(paper=RESNEXT, input_shape=(3, 32, 32), parameters=4_914_250, macs=748_365_824)
def cifar_resnext29_1x64d(num_classes: int = 10, in_channels: int = 3, norm: Norm = "batch") -> ResNet:
    """ResNeXt-29 (1x64d) for CIFAR, without groups: a ResNet of 29 layers to compare with."""
    return _resnext29(1, 64, num_classes, in_channels, norm)


@register(paper=RESNEXT, input_shape=(3, 32, 32), parameters=34_426_698, macs=5_387_266_048)
def cifar_resnext29_8x64d(num_classes: int = 10, in_channels: int = 3, norm: Norm = "batch") -> ResNet:
    """ResNeXt-29 (8x64d) for CIFAR; published error on CIFAR-10 3.65 %, on CIFAR-100 17.77 %."""
    return _resnext29(8, 64, num_classes, in_channels, norm)


@register(paper=RESNEXT, input_shape=(3, 32, 32), parameters=68_155_210, macs=10_688_866_304)
def cifar_resnext29_16x64d(num_classes: int = 10, in_channels: int = 3, norm: Norm = "batch") -> ResNet:
    """ResNeXt-29 (16x64d) for CIFAR; published error on CIFAR-10 3.58 %, on CIFAR-100 17.31 %."""
    return _resnext29(16, 64, num_classes, in_channels, norm)


@register(paper=RESNEXT, input_shape=(3, 32, 32), parameters=4_775_754, macs=774_055_936)
def cifar_resnext29_32x4d(num_classes: int = 10, in_channels: int = 3, norm: Norm = "batch") -> ResNet:
    """ResNeXt-29 (32x4d) for CIFAR: 32 groups of 4, 8 and 16 channels, about as large as 1x64d."""
    return _resnext29(32, 4, num_classes, in_channels, norm)
