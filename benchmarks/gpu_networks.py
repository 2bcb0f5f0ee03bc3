"""The networks of ``gpu.py``: those of ``networks.py``, and three larger ones, written in the same way for both libraries.

MobileNetV2 and EfficientNet-B0 are without dropout and stochastic depth: the two libraries draw other random numbers, and then no
result could be compared.
"""

from __future__ import annotations

import networks
from training_step import CASES as ON_THE_PROCESSOR
from training_step import Case

__all__ = ["CASES", "NAMES", "create", "labels_shape"]

# The steps that are timed on the processor, at the same batch sizes, and what a card is bought for.
CASES = {
    **ON_THE_PROCESSOR,
    "resnet18 batch 512": Case("resnet18", 512, (3, 32, 32)),
    "resnet50 batch 64": Case("resnet50", 64, (3, 224, 224), classes=1000),
    "resnet50 batch 256": Case("resnet50", 256, (3, 224, 224), classes=1000),
    "mobilenet_v2 batch 64": Case("mobilenet_v2", 64, (3, 224, 224), classes=1000),
    "efficientnet_b0 batch 64": Case("efficientnet_b0", 64, (3, 224, 224), classes=1000),
    "unet batch 8": Case("unet", 8, (3, 256, 256), classes=2),
}


def create(name: str, library):
    """The network ``name`` (one of ``NAMES``) as a module of ``library`` (``torch`` or ``minigrad``), newly initialized."""
    return _MAKERS[name](library) if name in _MAKERS else networks.create(name, library)


def labels_shape(case: Case) -> tuple[int, ...]:
    """One label for each image, or for each of its pixels."""
    return (case.batch, *case.shape[1:]) if case.net == "unet" else (case.batch,)


def _conv_norm(nn, c: int, o: int, kernel: int, stride: int = 1, groups: int = 1, activation=None):
    """A convolution that keeps the size (but for its stride), batch normalization, and an activation if there is one."""
    convolution = nn.Conv2d(c, o, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(o), *([] if activation is None else [activation()]))


def _classifier(nn, features, channels: int):
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def _mobilenet_v2(library):
    nn = library.nn

    class Block(nn.Module):
        """1x1 to more channels, depthwise 3x3, linear 1x1 to fewer; plus x where the shape stays the same."""

        def __init__(self, c, o, stride, expansion):
            super().__init__()
            wide = c * expansion
            expand = [_conv_norm(nn, c, wide, 1, activation=nn.ReLU6)] if expansion > 1 else []
            deep = _conv_norm(nn, wide, wide, 3, stride, wide, nn.ReLU6)
            self.layers = nn.Sequential(*expand, deep, _conv_norm(nn, wide, o, 1))
            self.residual = stride == 1 and c == o

        def forward(self, x):
            return x + self.layers(x) if self.residual else self.layers(x)

    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    layers, c = [_conv_norm(nn, 3, 32, 3, 2, activation=nn.ReLU6)], 32
    for expansion, o, blocks, stride in plan:
        for i in range(blocks):
            layers.append(Block(c, o, stride if i == 0 else 1, expansion))
            c = o
    return _classifier(nn, nn.Sequential(*layers, _conv_norm(nn, c, 1280, 1, activation=nn.ReLU6)), 1280)


def _efficientnet_b0(library):
    nn = library.nn

    class Gate(nn.Module):
        """Squeeze and excitation: every channel times a number in 0 ... 1, computed from the means of all channels."""

        def __init__(self, channels, squeezed):
            super().__init__()
            self.gate = nn.Sequential(
                *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, squeezed, 1), nn.SiLU()),
                *(nn.Conv2d(squeezed, channels, 1), nn.Sigmoid()),
            )

        def forward(self, x):
            return x * self.gate(x)

    class Block(nn.Module):
        """1x1 to more channels, depthwise, the gate, linear 1x1 to fewer; plus x where the shape stays the same."""

        def __init__(self, c, o, kernel, stride, expansion):
            super().__init__()
            wide = c * expansion
            expand = [_conv_norm(nn, c, wide, 1, activation=nn.SiLU)] if expansion > 1 else []
            deep = _conv_norm(nn, wide, wide, kernel, stride, wide, nn.SiLU)
            self.layers = nn.Sequential(*expand, deep, Gate(wide, c // 4), _conv_norm(nn, wide, o, 1))
            self.residual = stride == 1 and c == o

        def forward(self, x):
            return x + self.layers(x) if self.residual else self.layers(x)

    plan = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2))
    layers, c = [_conv_norm(nn, 3, 32, 3, 2, activation=nn.SiLU)], 32
    for expansion, kernel, o, blocks, stride in (*plan, (6, 3, 320, 1, 1)):
        for i in range(blocks):
            layers.append(Block(c, o, kernel, stride if i == 0 else 1, expansion))
            c = o
    return _classifier(nn, nn.Sequential(*layers, _conv_norm(nn, c, 1280, 1, activation=nn.SiLU)), 1280)


def _unet(library):
    nn = library.nn

    def twice(c, o):
        return nn.Sequential(_conv_norm(nn, c, o, 3, activation=nn.ReLU), _conv_norm(nn, o, o, 3, activation=nn.ReLU))

    class UNet(nn.Module):
        """Padded, with batch normalization and transposed convolutions: two scores for every pixel."""

        def __init__(self, widths=(64, 128, 256, 512, 1024)):
            super().__init__()
            self.pool = nn.MaxPool2d(2)
            self.down = nn.ModuleList([twice(c, o) for c, o in zip((3, *widths), widths, strict=False)])
            pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))  # (1024, 512), (512, 256), ...
            self.enlarge = nn.ModuleList([nn.ConvTranspose2d(c, o, 2, stride=2) for c, o in pairs])
            self.up = nn.ModuleList([twice(c, o) for c, o in pairs])
            self.scores = nn.Conv2d(widths[0], 2, 1)

        def forward(self, x):
            levels = []
            for i, layers in enumerate(self.down):
                x = layers(self.pool(x) if i else x)
                levels.append(x)
            for enlarge, layers, across in zip(self.enlarge, self.up, levels[-2::-1], strict=True):
                x = layers(library.cat([across, enlarge(x)], 1))
            return self.scores(x)

    return UNet()


_MAKERS = {"mobilenet_v2": _mobilenet_v2, "efficientnet_b0": _efficientnet_b0, "unet": _unet}
NAMES = (*networks.NAMES, *_MAKERS)
