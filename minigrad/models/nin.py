"""Network in network: a small network of 1x1 convolutions after each convolution, and no linear layers (Lin et al. 2014).

Each of the 3 or 4 stages is a convolution with two 1x1 convolutions behind it, all three with a rectifier: at every pixel a
perceptron of three layers. The last stage has one map for each class, whose mean over the image is the class's score.

Sizes are those of the authors' definitions in Caffe (the paper gives them in a picture, without numbers); in ``nin`` also
those of Chainer's example. Traps: pooling rounds the sizes of its maps up, as Caffe does, which matters for CIFAR's 32 pixels
(16 and 8 instead of 15 and 7); the second pooling of ``cifar_nin`` is of means; the last rectifier, before the mean, is in the
paper (equation 2) and in Caffe, but not in Chainer's example.
"""

from __future__ import annotations

from minigrad import nn
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.tensor import Tensor

__all__ = ["NIN", "cifar_nin", "nin"]

PAPER = Paper("Lin, Chen, Yan", "Network In Network", 2014, arxiv="1312.4400")

# For each stage: channels of its three convolutions (None: the classes), then kernel, stride and padding of the first of them.
IMAGENET = (
    ((96, 96, 96), 11, 4, 0),
    ((256, 256, 256), 5, 1, 2),
    ((384, 384, 384), 3, 1, 1),
    ((1024, 1024, None), 3, 1, 1),
)
CIFAR = (
    ((192, 160, 96), 5, 1, 2),
    ((192, 192, 192), 5, 1, 2),
    ((192, 192, None), 3, 1, 1),
)


class NIN(nn.Module):
    """Stages ``mlpconv1``, ``mlpconv2``, ... with pooling between them: (N, in_channels, H, W) -> (N, num_classes).

    ``stages``: a table as above. ``pools``: what is done between two stages, one entry less: "max" or "avg" pooling of 3x3
    windows with stride 2. ``dropouts``: the probabilities of dropout behind each of them. Weights start from He's normal
    distribution, biases at 0.
    """

    def __init__(
        self,
        stages: tuple[tuple, ...],
        pools: tuple[str, ...],
        dropouts: tuple[float, ...],
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.stages = len(stages)
        for i, (widths, kernel, stride, padding) in enumerate(stages, start=1):
            layers: list[nn.Module] = []
            for j, width in enumerate(widths):
                window = (kernel, stride, padding) if j == 0 else (1, 1, 0)
                layers += [nn.Conv2d(in_channels, width or num_classes, *window), nn.ReLU()]
                in_channels = width
            setattr(self, f"mlpconv{i}", nn.Sequential(*layers))
            if i < self.stages:
                pool = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}[pools[i - 1]](3, stride=2, ceil_mode=True)
                setattr(self, f"pool{i}", nn.Sequential(pool, nn.Dropout(dropouts[i - 1])))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init.kaiming_normal_(module.weight)
                init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, self.stages):
            x = getattr(self, f"pool{i}")(getattr(self, f"mlpconv{i}")(x))
        x = getattr(self, f"mlpconv{self.stages}")(x)
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


@register(paper=PAPER, input_shape=(3, 227, 227), parameters=7_595_176, macs=1_105_996_320)
def nin(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> NIN:
    """Network in network for ImageNet: four stages, dropout before the last one; images of about 227 x 227."""
    return NIN(IMAGENET, ("max", "max", "max"), (0.0, 0.0, dropout), num_classes, in_channels)


@register(paper=PAPER, input_shape=(3, 32, 32), parameters=966_986, macs=222_486_528)
def cifar_nin(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.5) -> NIN:
    """Network in network for CIFAR's images of 32 x 32: three stages; published error 8.81 % (augmented)."""
    return NIN(CIFAR, ("max", "avg"), (dropout, dropout), num_classes, in_channels)
