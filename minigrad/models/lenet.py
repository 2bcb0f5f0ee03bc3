"""LeNet-5, the first convolutional network in wide use: as it is taught today, and as it was published (LeCun et al. 1998).

``lenet5`` is the modern form: all 16 maps of the second convolution see all 6 of the first, ReLU instead of tanh, max pooling
instead of trained sub-sampling, a linear output layer: 61,706 parameters.

``lenet5_1998`` is the network of section II.B, with exactly 60,000 parameters:

    C1      6 @ 28x28   5x5 convolution                                                         156
    S2      6 @ 14x14   sum of 2x2 pixels, times a coefficient, plus a bias, one each per map    12
    C3     16 @ 10x10   5x5 convolution, each map of 3, 4 or 6 of the maps of S2 (table I)    1,516
    S4     16 @ 5x5     as S2                                                                    32
    C5    120 @ 1x1     5x5 convolution of all maps                                          48,120
    F6     84           linear                                                               10,164
    output 10           squared distances of F6 to fixed codes (radial basis functions)           0

with 1.7159 tanh(2/3 x) after every layer but the output (the nets called LeNet-5 elsewhere often leave it out after S2 and S4,
or have a mean without parameters there). Two things to know about the last layer:

- It gives minus the squared distances, so that the largest output is the nearest code as in any other classifier. The loss
  of the paper (equation 9) without its constant j is then the cross-entropy of these outputs. They differ by tens, so the
  network wants a small learning rate: 0.001 with momentum 0.9 learns well, 0.01 drives every tanh to its ends.
- The codes of the digits are bitmaps of 7x12 pixels, ink 1 and paper -1. The paper shows its own in a picture only (figure
  3) and lists no pixels; those below are drawn in the same manner. Any set of codes can be put into ``output.codes``.
"""

from __future__ import annotations

import math
from itertools import groupby
from random import Random

from minigrad import nn
from minigrad.creation import empty, tensor
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.ops import cat
from minigrad.tensor import Tensor

__all__ = ["ConnectedConv2d", "LeNet5", "LeNet51998", "RadialBasis", "SubSampling", "codes", "lenet5", "lenet5_1998", "squash"]

PAPER = Paper(
    "LeCun, Bottou, Bengio, Haffner",
    "Gradient-Based Learning Applied to Document Recognition",
    1998,
    doi="10.1109/5.726791",
)

# The maps of S2 that each map of C3 sees (table I).
TABLE = (
    *("012", "123", "234", "345", "045", "015"),
    *("0123", "1234", "2345", "0345", "0145", "0125", "0134", "1245", "0235"),
    "012345",
)

DIGITS = """
..###..  ...##..  .#####.  .#####.  ....##.  #######  ..####.  #######  .#####.  .#####.
.##.##.  ..###..  ##...##  ##...##  ...###.  ##.....  .##....  .....##  ##...##  ##...##
##...##  .####..  .....##  .....##  ..####.  ##.....  ##.....  .....##  ##...##  ##...##
##...##  ...##..  .....##  .....##  .##.##.  ##.....  ##.....  ....##.  ##...##  ##...##
##...##  ...##..  ....##.  ..####.  ##..##.  ######.  ######.  ....##.  .#####.  ##...##
##...##  ...##..  ...##..  .....##  ##..##.  .....##  ##...##  ...##..  ##...##  .######
##...##  ...##..  ..##...  .....##  #######  .....##  ##...##  ...##..  ##...##  .....##
##...##  ...##..  .##....  .....##  ....##.  .....##  ##...##  ..##...  ##...##  .....##
.##.##.  ...##..  ##.....  ##...##  ....##.  ##...##  ##...##  ..##...  ##...##  ....##.
..###..  .######  #######  .#####.  ....##.  .#####.  .#####.  ..##...  .#####.  .####..
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
"""


# ---- the modern form ---------------------------------------------------------------------------------------------------


class LeNet5(nn.Module):
    """Two convolutions with pooling, three linear layers: 32x32 -> 6@28 -> 6@14 -> 16@10 -> 16@5 -> 120 -> 84 -> classes."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1, input_size: int = 32) -> None:
        _check_size(input_size)
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=(32 - input_size) // 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)  # (N, 6, 14, 14)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (N, 16, 5, 5)
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def _check_size(input_size: int) -> None:
    if input_size not in (28, 32):
        raise ValueError(f"input_size must be 32, or 28 for MNIST's images, which are padded to 32, got {input_size!r}")


@register(paper=PAPER, input_shape=(1, 32, 32), parameters=61_706, macs=416_520)
def lenet5(num_classes: int = 10, in_channels: int = 1, input_size: int = 32) -> LeNet5:
    """LeNet-5 (modern form) for images of 32 x 32, or of 28 x 28 with ``input_size=28``."""
    return LeNet5(num_classes, in_channels, input_size)


# ---- the published form ------------------------------------------------------------------------------------------------


def squash(x: Tensor) -> Tensor:
    """1.7159 tanh(2/3 x): 1 at 1 and -1 at -1, where it bends most (appendix A)."""
    return F.tanh(x * (2 / 3)) * 1.7159


class SubSampling(nn.Module):
    """(N, C, H, W) -> (N, C, H / 2, W / 2): the sum of 2 x 2 pixels, times ``weight``, plus ``bias``, both (C,)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(empty(channels))
        self.bias = nn.Parameter(empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        sums = F.avg_pool2d(x, 2, divisor_override=1)
        return sums * self.weight.reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return f"{self.channels}"


class ConnectedConv2d(nn.Module):
    """A convolution whose output maps see only some of the input maps: output i those with the numbers ``table[i]``.

    Outputs that follow one another and see equally many maps are one convolution with a group for each of them, so that only
    connections that exist are stored and computed.
    """

    def __init__(self, table: tuple[str, ...], kernel_size: int) -> None:
        super().__init__()
        self.maps: list[list[int]] = []  # the input maps of each convolution, one group after the other
        self.convs = nn.ModuleList()
        for _, rows in groupby(table, key=len):
            rows = list(rows)
            self.maps.append([int(digit) for row in rows for digit in row])
            self.convs.append(nn.Conv2d(len(self.maps[-1]), len(rows), kernel_size, groups=len(rows)))

    def forward(self, x: Tensor) -> Tensor:
        return cat([conv(x[:, maps]) for conv, maps in zip(self.convs, self.maps, strict=True)], 1)


class RadialBasis(nn.Module):
    """(N, D) -> (N, classes): minus the squared distances to ``codes`` (classes, D), a buffer that is not trained."""

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes)

    def forward(self, x: Tensor) -> Tensor:
        difference = x.unsqueeze(1) - self.codes  # (N, classes, D)
        return -(difference * difference).sum(2)


def codes(num_classes: int = 10) -> Tensor:
    """The targets of F6 (num_classes, 84) of 1 and -1: for 10 classes the bitmaps of the digits, row by row.

    For another number of classes there are no pictures: the codes are then drawn at random, always the same ones.
    """
    if num_classes == 10:
        rows = [line.split() for line in DIGITS.split("\n")[1:-1]]
        return tensor([[1.0 if dot == "#" else -1.0 for row in rows for dot in row[digit]] for digit in range(10)])
    draw = Random(1998)
    return tensor([[draw.choice((-1.0, 1.0)) for _ in range(84)] for _ in range(num_classes)])


class LeNet51998(nn.Module):
    """LeNet-5 with the layers of the paper, whose names it has: (N, in_channels, 32, 32) -> (N, num_classes).

    Weights, coefficients and biases start uniform in +-2.4 / F, where F is the number of inputs of a unit (appendix A). With
    ``input_size=28`` the border of the image is repeated twice on each side.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, input_size: int = 32) -> None:
        _check_size(input_size)
        super().__init__()
        self.input_size = input_size
        self.c1 = nn.Conv2d(in_channels, 6, 5)
        self.s2 = SubSampling(6)
        self.c3 = ConnectedConv2d(TABLE, 5)
        self.s4 = SubSampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = RadialBasis(codes(num_classes))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, SubSampling)):
                inputs = 4 if isinstance(module, SubSampling) else math.prod(module.weight.shape[1:])
                for p in module.parameters(recurse=False):
                    init.uniform_(p, -2.4 / inputs, 2.4 / inputs)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[2:] != (self.input_size, self.input_size):
            raise ValueError(
                f"x must be images (N, C, {self.input_size}, {self.input_size}), got shape {x.shape}: the network is made for "
                "32 x 32 pixels, or with input_size=28 for 28 x 28"
            )
        if self.input_size == 28:
            x = F.pad(x, (2, 2, 2, 2), mode="replicate")
        x = squash(self.s2(squash(self.c1(x))))  # (N, 6, 14, 14)
        x = squash(self.s4(squash(self.c3(x))))  # (N, 16, 5, 5)
        x = squash(self.c5(x)).flatten(1)  # (N, 120)
        return self.output(squash(self.f6(x)))


@register(paper=PAPER, input_shape=(1, 32, 32), parameters=60_000, macs=325_680)
def lenet5_1998(num_classes: int = 10, in_channels: int = 1, input_size: int = 32) -> LeNet51998:
    """LeNet-5 as published: a table of connections, trained sub-sampling, tanh, and distances to bitmaps of the ten digits.

    The paper scales images so that the background is -0.1 and the ink 1.175. With another number of classes than ten, the
    bitmaps are replaced by random codes of 1 and -1, the same in every network.
    """
    return LeNet51998(num_classes, in_channels, input_size)
