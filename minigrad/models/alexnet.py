"""AlexNet: the network that won ImageNet's competition of 2012, and the simpler one that is known under this name today.

``alexnet_2012`` is the published one (Krizhevsky, Sutskever & Hinton 2012, section 3.5). Two processors had one half of the
maps each; only the third convolution sees all of them, so the second, fourth and fifth have two groups. Local response
normalization follows the first two; the pooling windows of 3 x 3 overlap. Traps:

- The paper gives images of 224 x 224 pixels, but 55 x 55 maps of the first layer need 227 x 227.
- The sum of squares in the normalization is not divided by the number of channels, as it is in Caffe's and PyTorch's layer.
- CaffeNet, which often goes by the same name, pools before it normalizes, and begins with biases of 0.1.

Its module names (conv1 ... fc8) are Caffe's. ``alexnet`` is torchvision's, with its module names: the network of "One weird
trick" (Krizhevsky 2014) without groups and normalization, with 64 and 192 maps in the first layers, for 224 x 224 pixels. There
dropout comes before the first two linear layers instead of after them.
"""

from __future__ import annotations

from minigrad import nn
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.tensor import Tensor

__all__ = ["AlexNet", "AlexNet2012", "alexnet", "alexnet_2012"]

PAPER_2012 = Paper(
    "Krizhevsky, Sutskever, Hinton",
    "ImageNet Classification with Deep Convolutional Neural Networks",
    2012,
    doi="10.1145/3065386",
)
PAPER_2014 = Paper("Krizhevsky", "One weird trick for parallelizing convolutional neural networks", 2014, arxiv="1404.5997")


class AlexNet2012(nn.Module):
    """Five convolutions and three linear layers: (N, in_channels, 227, 227) -> (N, num_classes).

    Weights start from N(0, 0.01^2). The biases of conv2, conv4, conv5, fc6 and fc7 start at 1, so that their rectifiers are
    open at first, the others at 0 (section 5).
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, groups: int = 2, dropout: float = 0.5) -> None:
        if groups not in (1, 2):
            raise ValueError(f"groups must be 2 (as published, for two processors) or 1 (all maps see all maps), got {groups!r}")
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=groups)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=groups)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=groups)
        self.norm = nn.LocalResponseNormPaper(size=5, alpha=1e-4, beta=0.75, k=2.0)
        self.pool = nn.MaxPool2d(3, stride=2)
        self.fc6 = nn.Linear(256 * 6 * 6, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, num_classes)
        self.dropout = nn.Dropout(dropout)
        for name, module in self.named_children():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                init.normal_(module.weight, 0, 0.01)
                init.constant_(module.bias, float(name in ("conv2", "conv4", "conv5", "fc6", "fc7")))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if x.shape[2:] != (6, 6):
            raise ValueError(
                "the maps before fc6 must be 6 x 6, as they are for images of 227 to 258 pixels in height and width, "
                f"got {x.shape[2]} x {x.shape[3]} (the 224 pixels of the paper are too few)"
            )
        x = self.dropout(F.relu(self.fc6(x.flatten(1))))
        x = self.dropout(F.relu(self.fc7(x)))
        return self.fc8(x)

    def features(self, x: Tensor) -> Tensor:
        """What the convolutions make of images: (N, in_channels, 227, 227) -> (N, 256, 6, 6)."""
        x = self.pool(self.norm(F.relu(self.conv1(x))))  # (N, 96, 27, 27)
        x = self.pool(self.norm(F.relu(self.conv2(x))))  # (N, 256, 13, 13)
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        return self.pool(F.relu(self.conv5(x)))


class AlexNet(nn.Module):
    """Torchvision's AlexNet: (N, in_channels, H, W) -> (N, num_classes); H and W at least 63, made for 224."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(in_channels, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, stride=2)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            *(nn.Dropout(dropout), nn.Linear(256 * 6 * 6, 4096), nn.ReLU()),
            *(nn.Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU()),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@register(paper=PAPER_2012, input_shape=(3, 227, 227), parameters=60_965_224, macs=724_406_816)
def alexnet_2012(num_classes: int = 1000, in_channels: int = 3, groups: int = 2, dropout: float = 0.5) -> AlexNet2012:
    """AlexNet as published in 2012: grouped convolutions and local response normalization.

    ``groups=1`` joins the two halves of the network: 62,378,344 parameters.
    """
    return AlexNet2012(num_classes, in_channels, groups, dropout)


@register(paper=PAPER_2014, input_shape=(3, 224, 224), parameters=61_100_840, macs=714_188_480)
def alexnet(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> AlexNet:
    """AlexNet in the simpler form of 2014, as in torchvision: no groups, no normalization."""
    return AlexNet(num_classes, in_channels, dropout)
