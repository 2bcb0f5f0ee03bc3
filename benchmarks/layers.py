"""The layers of well-known networks: the shapes over which the kernels are timed.

C, O: input and output channels; ``size``: height and width of the input. Layers that a network repeats are listed once.
DenseNet and GoogLeNet have many layers that are alike: here are some of each kind.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

__all__ = ["NETS", "Conv", "Net", "Pool"]


class Conv(NamedTuple):
    c: int
    size: int
    o: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    groups: int = 1

    @property
    def out_size(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1


class Pool(NamedTuple):
    """``kind``: "max", "avg", or "adaptive_avg" (to 1 x 1)."""

    kind: str
    c: int
    size: int
    kernel: int = 2
    stride: int = 2
    padding: int = 0
    ceil_mode: bool = False


class Net(NamedTuple):
    """``linear``: (in, out) features. ``normalized``: it has a batch normalization at every convolution."""

    batch: int
    convolutions: tuple[Conv, ...]
    pools: tuple[Pool, ...]
    linear: tuple[tuple[int, int], ...]
    normalized: bool = True

    @property
    def maps(self) -> tuple[tuple[int, int], ...]:
        """The distinct (channels, size) of the convolutions' outputs: what normalizations and activations work on."""
        return tuple(dict.fromkeys((conv.o, conv.out_size) for conv in self.convolutions))

    @property
    def classes(self) -> int:
        return self.linear[-1][1]


def _point(c: int, size: int, o: int, stride: int = 1) -> Conv:
    """A 1x1 convolution."""
    return Conv(c, size, o, 1, stride, 0)


def _deep(c: int, size: int, stride: int = 1) -> Conv:
    """A depthwise 3x3 convolution."""
    return Conv(c, size, c, 3, stride, 1, c)


def _global(c: int, size: int) -> Pool:
    """Global average pooling."""
    return Pool("adaptive_avg", c, size)


def _residual(widths: tuple[int, ...], size: int, project: bool) -> list[Conv]:
    """The stages of a ResNet of basic blocks; each stage after the first halves the image."""
    layers = [Conv(widths[0], size, widths[0])]
    for before, width in pairwise(widths):
        layers += [Conv(before, size, width, 3, 2), Conv(width, size // 2, width)]
        layers += [_point(before, size, width, 2)] if project else []
        size //= 2
    return layers


def _bottlenecks(size: int) -> list[Conv]:
    """The stages of a ResNet of bottlenecks; the stride is in the 3x3 convolution."""
    layers, c = [], 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        small = size // stride
        layers += [_point(c, size, width), Conv(width, size, width, 3, stride), _point(width, small, 4 * width)]
        layers += [_point(c, size, 4 * width, stride), _point(4 * width, small, width), Conv(width, small, width)]
        c, size = 4 * width, small
    return layers


def _separable(size: int) -> list[Conv]:
    """MobileNetV1: pairs of a depthwise and a 1x1 convolution."""
    layers, c = [], 32
    for o, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (1024, 2), (1024, 1)):
        layers += [_deep(c, size, stride), _point(c, size // stride, o)]
        c, size = o, size // stride
    return layers


def _inverted(size: int) -> list[Conv]:
    """MobileNetV2: a 1x1 convolution to more channels, a depthwise one, a 1x1 convolution to fewer."""
    plan = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    layers, c = [], 32
    for expansion, o, blocks, stride in plan:
        for s in [stride] + [1] * (blocks - 1):
            wide = expansion * c
            layers += [_point(c, size, wide), _deep(wide, size, s), _point(wide, size // s, o)]
            c, size = o, size // s
    return [*layers, _point(c, size, 1280)]


def _net(batch: int, convolutions: list[Conv], pools: list[Pool], *linear: tuple[int, int], normalized: bool = True) -> Net:
    return Net(batch, tuple(dict.fromkeys(convolutions)), tuple(pools), linear, normalized)


STEM = Conv(3, 224, 64, 7, 2, 3)  # the first layer of most networks for 224 x 224 images
HALVINGS = [Pool("max", c, size) for c, size in ((64, 32), (128, 16), (256, 8), (512, 4), (512, 2))]  # VGG's

NETS = {
    "lenet5": _net(
        64,
        [Conv(1, 32, 6, 5, 1, 0), Conv(6, 14, 16, 5, 1, 0)],
        [Pool("max", 6, 28), Pool("max", 16, 10)],
        *((400, 120), (120, 84), (84, 10)),
        normalized=False,
    ),
    "cifar_resnet": _net(128, [Conv(3, 32, 16), *_residual((16, 32, 64), 32, True)], [_global(64, 8)], (64, 10)),
    "resnet18_32": _net(32, [Conv(3, 32, 64), *_residual((64, 128, 256, 512), 32, True)], [_global(512, 4)], (512, 10)),
    "resnet18_224": _net(
        8,
        [STEM, *_residual((64, 128, 256, 512), 56, True)],
        [Pool("max", 64, 112, 3, 2, 1), _global(512, 7)],
        (512, 1000),
    ),
    "resnet50": _net(8, [STEM, *_bottlenecks(56)], [Pool("max", 64, 112, 3, 2, 1), _global(2048, 7)], (2048, 1000)),
    "vgg16_bn": _net(
        64,
        [
            *(Conv(3, 32, 64), Conv(64, 32, 64), Conv(64, 16, 128), Conv(128, 16, 128), Conv(128, 8, 256)),
            *(Conv(256, 8, 256), Conv(256, 4, 512), Conv(512, 4, 512), Conv(512, 2, 512)),
        ],
        HALVINGS,
        (512, 10),
    ),
    "mobilenet_v1": _net(64, [Conv(3, 32, 32), *_separable(32)], [_global(1024, 2)], (1024, 10)),
    "mobilenet_v2": _net(64, [Conv(3, 32, 32), *_inverted(32)], [_global(1280, 4)], (1280, 10)),
    "densenet121": _net(
        8,
        [
            *(STEM, _point(64, 56, 128), _point(224, 56, 128), Conv(128, 56, 32), _point(256, 56, 128)),
            *(_point(480, 28, 128), Conv(128, 28, 32), _point(512, 28, 256)),
            *(_point(992, 14, 128), Conv(128, 14, 32), _point(1024, 14, 512), _point(992, 7, 128), Conv(128, 7, 32)),
        ],
        [Pool("max", 64, 112, 3, 2, 1), Pool("avg", 128, 56), Pool("avg", 256, 28), Pool("avg", 512, 14), _global(1024, 7)],
        (1024, 1000),
    ),
    "googlenet": _net(
        8,
        [
            *(STEM, _point(64, 56, 64), Conv(64, 56, 192)),
            *(_point(192, 28, 64), Conv(96, 28, 128), _point(192, 28, 16), Conv(16, 28, 32, 5, 1, 2), _point(192, 28, 32)),
            *(_point(480, 14, 192), Conv(96, 14, 208), Conv(16, 14, 48, 5, 1, 2)),
            *(_point(832, 7, 384), Conv(192, 7, 384), Conv(48, 7, 128, 5, 1, 2)),
        ],
        [
            *(Pool("max", 64, 112, 3, 2, 0, True), Pool("max", 192, 56, 3, 2, 0, True), Pool("max", 192, 28, 3, 1, 1)),
            *(Pool("max", 480, 14, 3, 1, 1), Pool("max", 832, 7, 3, 1, 1), Pool("avg", 512, 14, 5, 3), _global(1024, 7)),
        ],
        (1024, 1000),
        normalized=False,
    ),
}
