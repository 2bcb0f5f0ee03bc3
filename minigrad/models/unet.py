"""U-Net (Ronneberger, Fischer, Brox 2015, figure 1): a class for every pixel, from a path down, a path up, and links across.

Four times the image is halved and the channels doubled (64 ... 1024), then four times the reverse; each level going up also
sees the features of the same level going down. At every level there are two 3x3 convolutions.

``unet_2015`` is the paper's: nothing is padded, so the output is 184 pixels smaller than the input (572 -> 388), what comes
from the path down is cropped, and there is no normalization. To segment a whole image, mirror 92 pixels around it
(``F.pad(x, (92, 92, 92, 92), mode="reflect")``) and cut it into tiles. ``unet`` is the form in common use: padded, so that the
output has the size of the input, with batch normalization. Its module names are those of
github.com/milesial/Pytorch-UNet, so that those checkpoints load.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from minigrad import nn
from minigrad.models.layers import norm_layer
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.ops import cat
from minigrad.tensor import Tensor

__all__ = ["UNet", "unet", "unet_2015"]

PAPER = Paper(
    "Ronneberger, Fischer, Brox", "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015, arxiv="1505.04597"
)

Norm = str | Callable[[int], nn.Module] | None


class DoubleConv(nn.Module):
    """Twice a 3x3 convolution, ``norm`` and ReLU: (N, in_channels, H, W) -> (N, out_channels, H, W), or H - 4 unpadded."""

    def __init__(self, in_channels: int, out_channels: int, middle: int, norm: Norm, padded: bool) -> None:
        super().__init__()
        self.double_conv = nn.Sequential()
        for before, after in ((in_channels, middle), (middle, out_channels)):
            # A normalization takes the mean away, and a bias with it.
            self.double_conv.append(nn.Conv2d(before, after, 3, padding=int(padded), bias=norm is None))
            if norm is not None:
                self.double_conv.append(norm_layer(norm)(after))
            self.double_conv.append(nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Down(nn.Module):
    """The largest of 2 x 2 pixels, then two convolutions."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm, padded: bool) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(in_channels, out_channels, out_channels, norm, padded))

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Doubles the image, puts the features of the path down in front of its channels, then two convolutions.

    The doubling is a transposed convolution that halves the channels, or a bilinear interpolation, after which the first
    convolution halves them.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm, padded: bool, bilinear: bool) -> None:
        super().__init__()
        half = in_channels // 2
        if bilinear:
            self.up: nn.Module = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        else:
            self.up = nn.ConvTranspose2d(in_channels, half, 2, stride=2)
        self.conv = DoubleConv(in_channels, out_channels, half if bilinear else out_channels, norm, padded)

    def forward(self, x: Tensor, across: Tensor) -> Tensor:
        x = self.up(x)
        dy, dx = across.shape[2] - x.shape[2], across.shape[3] - x.shape[3]
        if self.conv.double_conv[0].padding == (0, 0):
            across = F.pad(across, (-(dx // 2), dx // 2 - dx, -(dy // 2), dy // 2 - dy))  # crops
        elif dx or dy:  # an odd size was halved: fill up what the doubling lacks
            x = F.pad(x, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))
        return self.conv(cat([across, x], 1))


class OutConv(nn.Module):
    """The 1x1 convolution to the classes."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class UNet(nn.Module):
    """x (N, in_channels, H, W) -> scores (N, num_classes, H, W), or H - 184 and W - 184 if not ``padded``.

    Padded, images have at least 16 x 16 pixels; unpadded, H and W are 188, 204, ... (188 + 16 k), so that every image that is
    halved has an even size. ``norm``: "batch", "group", ... (see ``layers.norm_layer``), or None for none and biases instead.
    ``bilinear``: double the image by interpolation instead of transposed convolutions. ``base_channels``: those of the first
    level. ``dropout``: of the two lowest levels of the path down.
    """

    def __init__(
        self,
        num_classes: int = 2,
        in_channels: int = 3,
        norm: Norm = "batch",
        padded: bool = True,
        bilinear: bool = False,
        base_channels: int = 64,
        dropout: float = 0.0,
    ) -> None:
        if base_channels < 2 or base_channels % 2:
            raise ValueError(f"base_channels must be an even number of at least 2, got {base_channels!r}")
        super().__init__()
        self.padded = padded
        a, b, c, d, e = (base_channels * 2**level for level in range(5))
        less = 2 if bilinear else 1  # an interpolation does not halve the channels: they are halved before it
        self.inc = DoubleConv(in_channels, a, a, norm, padded)
        self.down1 = Down(a, b, norm, padded)
        self.down2 = Down(b, c, norm, padded)
        self.down3 = Down(c, d, norm, padded)
        self.down4 = Down(d, e // less, norm, padded)
        self.dropout = nn.Dropout(dropout)
        self.up1 = Up(e, d // less, norm, padded, bilinear)
        self.up2 = Up(d, c // less, norm, padded, bilinear)
        self.up3 = Up(c, b // less, norm, padded, bilinear)
        self.up4 = Up(b, a, norm, padded, bilinear)
        self.outc = OutConv(a, num_classes)
        self._initialize()

    def _initialize(self) -> None:
        """The paper's: normal with a standard deviation of sqrt(2 / N), where N numbers come into a unit."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                if isinstance(module, nn.Conv2d):
                    init.kaiming_normal_(module.weight)
                else:  # its windows do not overlap: one pixel of each channel
                    init.normal_(module.weight, 0.0, math.sqrt(2 / module.in_channels))
                if module.bias is not None:
                    init.zeros_(module.bias)

    @property
    def margin(self) -> int:
        """Pixels of the input on each side that the output does not show."""
        return 0 if self.padded else 92

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:  # else the first convolution says so
            self.check_size(*x.shape[2:])
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.dropout(self.down3(x3))
        x = self.dropout(self.down4(x4))
        for up, across in ((self.up1, x4), (self.up2, x3), (self.up3, x2), (self.up4, x1)):
            x = up(x, across)
        return self.outc(x)

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError unless the network takes images of this size."""
        sizes = (height, width)
        if self.padded and min(sizes) < 16:
            raise ValueError(f"a U-Net halves the image four times: it needs at least 16 x 16 pixels, got {sizes}")
        if not self.padded and any(size < 188 or size % 16 != 12 for size in sizes):
            raise ValueError(
                f"height and width must be 188, 204, 220, ... (188 + 16 k), as nothing is padded, got {sizes}: "
                "pad the image, or use unet, which takes any size"
            )


@register(paper=PAPER, input_shape=(1, 572, 572), parameters=31_030_658, macs=150_428_424_448)
def unet_2015(num_classes: int = 2, in_channels: int = 1, dropout: float = 0.5, base_channels: int = 64) -> UNet:
    """The U-Net of 2015 for segmentation: nothing padded (572 -> 388 pixels), no normalization; 188 + 16 k pixels a side."""
    return UNet(num_classes, in_channels, None, padded=False, base_channels=base_channels, dropout=dropout)


@register(paper=PAPER, input_shape=(3, 256, 256), parameters=31_037_698, macs=48_171_581_440)
def unet(
    num_classes: int = 2, in_channels: int = 3, norm: Norm = "batch", bilinear: bool = False, base_channels: int = 64
) -> UNet:
    """U-Net for segmentation in its common form: padded, so that the output has the input's size, with normalization."""
    return UNet(num_classes, in_channels, norm, bilinear=bilinear, base_channels=base_channels)
