"""ZFNet: AlexNet with a finer first layer, found by looking at what its layers see (Zeiler & Fergus 2014, figure 3).

The first convolution has windows of 7 x 7 with stride 2 instead of 11 x 11 with stride 4, the second has stride 2; nothing is
grouped. Pooling is followed by local response normalization, here with AlexNet's constants: the paper gives none. The maps
are 110, 55, 26, 13, 13, 13, 13 and 6 pixels wide.

Trap: no padding makes these sizes come out evenly of the paper's 224 pixels. With one pixel around the image and one around
the first two poolings, and the last odd pixel left out, as here, they do; of an image of 225 pixels the first layer uses the
last one too (111 and 56 pixels, then the same sizes). All images from 213 to 244 pixels end in maps of 6 x 6.
"""

from __future__ import annotations

from minigrad import nn
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.tensor import Tensor

__all__ = ["ZFNet", "zfnet"]

PAPER = Paper("Zeiler, Fergus", "Visualizing and Understanding Convolutional Networks", 2014, arxiv="1311.2901")


class ZFNet(nn.Module):
    """Five convolutions and three linear layers: (N, in_channels, 224, 224) -> (N, num_classes).

    ``maps``: the output channels of conv3, conv4 and conv5. Weights start from N(0, 0.01^2), biases at 0. The names are
    those of AlexNet's layers.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        maps: tuple[int, int, int] = (384, 384, 256),
        dropout: float = 0.5,
    ) -> None:
        if not isinstance(maps, (tuple, list)) or len(maps) != 3:
            raise ValueError(f"maps must be the numbers of channels of conv3, conv4 and conv5, as (384, 384, 256), got {maps!r}")
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 96, 7, stride=2, padding=1)
        self.pool1 = nn.MaxPool2d(3, stride=2, padding=1)
        self.norm1 = nn.LocalResponseNormPaper(size=5, alpha=1e-4, beta=0.75, k=2.0)
        self.conv2 = nn.Conv2d(96, 256, 5, stride=2)
        self.pool2 = nn.MaxPool2d(3, stride=2, padding=1)
        self.norm2 = nn.LocalResponseNormPaper(size=5, alpha=1e-4, beta=0.75, k=2.0)
        self.conv3 = nn.Conv2d(256, maps[0], 3, padding=1)
        self.conv4 = nn.Conv2d(maps[0], maps[1], 3, padding=1)
        self.conv5 = nn.Conv2d(maps[1], maps[2], 3, padding=1)
        self.pool5 = nn.MaxPool2d(3, stride=2)
        self.fc6 = nn.Linear(maps[2] * 6 * 6, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, num_classes)
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                init.normal_(module.weight, 0, 0.01)
                init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if x.shape[2:] != (6, 6):
            raise ValueError(
                "the maps before fc6 must be 6 x 6, as they are for images of 213 to 244 pixels in height and width, "
                f"got {x.shape[2]} x {x.shape[3]}"
            )
        x = self.dropout(F.relu(self.fc6(x.flatten(1))))
        x = self.dropout(F.relu(self.fc7(x)))
        return self.fc8(x)

    def features(self, x: Tensor) -> Tensor:
        """What the convolutions make of images: (N, in_channels, 224, 224) -> (N, maps[2], 6, 6)."""
        x = self.norm1(self.pool1(F.relu(self.conv1(x))))  # (N, 96, 55, 55)
        x = self.norm2(self.pool2(F.relu(self.conv2(x))))  # (N, 256, 13, 13)
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        return self.pool5(F.relu(self.conv5(x)))


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=62_357_608, macs=1_168_032_896)
def zfnet(
    num_classes: int = 1000,
    in_channels: int = 3,
    maps: tuple[int, int, int] = (384, 384, 256),
    dropout: float = 0.5,
) -> ZFNet:
    """ZFNet: AlexNet with smaller windows and strides in the first layers.

    ``maps=(512, 1024, 512)`` is the larger network of the paper's table 2: 107,627,624 parameters.
    """
    return ZFNet(num_classes, in_channels, maps, dropout)
