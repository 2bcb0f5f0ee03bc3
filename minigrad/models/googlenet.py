"""GoogLeNet, or Inception v1 (Szegedy et al. 2015, table 1): nine Inception blocks, whose four branches are concatenated.

Each block looks at its input through 1x1, 3x3 and 5x5 convolutions and a 3x3 maximum, side by side. 1x1 convolutions before the
large ones reduce the channels, which makes the block cheap. In training, two auxiliary classifiers on top of blocks 4a and 4d
bring gradients into the middle of the network; their losses were weighted with 0.3.

There are two networks of this name, and weights of one do not fit the other:

    googlenet_2014   as published: 5x5 convolutions, biases, no batch normalization; local response normalization in the stem
    googlenet        torchvision's: batch normalization (eps 1e-3) and no biases, no response normalization, 3x3 in place of
                     the 5x5 convolutions, a 2x2 last pooling, dropout 0.2 in place of 0.4

The module names of both are torchvision's: conv1.conv, inception3a.branch1.conv, inception3a.branch2.0.conv, ..., aux1.fc1, fc.
The poolings round the size up, as those of the Caffe framework did.
"""

from __future__ import annotations

from typing import NamedTuple

from minigrad import nn
from minigrad.creation import tensor
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.nn import init
from minigrad.ops import cat
from minigrad.tensor import Tensor

__all__ = ["GoogLeNet", "GoogLeNetOutputs", "Inception", "InceptionAux", "googlenet", "googlenet_2014"]

PAPER = Paper(
    "Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich",
    "Going Deeper with Convolutions",
    2014,
    arxiv="1409.4842",
)

# Table 1: channels of the branches: 1x1, reduction and 3x3, reduction and 5x5, projection of the pooling.
BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}

# Mean and standard deviation per channel of normalized ImageNet images, and those of the first Inception checkpoints.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INCEPTION_MEAN, INCEPTION_STD = 0.5, 0.5


class GoogLeNetOutputs(NamedTuple):
    """What GoogLeNet with auxiliary classifiers returns in training: (N, num_classes) each, the later classifier first."""

    logits: Tensor
    aux_logits2: Tensor
    aux_logits1: Tensor


class BasicConv2d(nn.Module):
    """Convolution that keeps the size (or divides it by ``stride``), batch normalization or else a bias, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, batch_norm: bool = True) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=not batch_norm)
        if batch_norm:
            self.bn = nn.BatchNorm2d(out_channels, eps=1e-3)
        self.batch_norm = batch_norm

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.relu(self.bn(x) if self.batch_norm else x)


class Inception(nn.Module):
    """Four branches side by side: (N, in_channels, H, W) -> (N, ch1x1 + ch3x3 + ch5x5 + pool_proj, H, W).

    ``ch3x3red`` and ``ch5x5red``: the channels to which 1x1 convolutions reduce the input of the large convolutions.
    ``large_kernel``: 5 as published; 3 in torchvision's network. ``batch_norm``: normalize each convolution's output.
    """

    def __init__(
        self,
        in_channels: int,
        ch1x1: int,
        ch3x3red: int,
        ch3x3: int,
        ch5x5red: int,
        ch5x5: int,
        pool_proj: int,
        large_kernel: int = 5,
        batch_norm: bool = True,
    ) -> None:
        if large_kernel not in (3, 5):
            raise ValueError(f"large_kernel must be 5 (as published) or 3 (torchvision's), got {large_kernel!r}")
        super().__init__()

        def conv(inputs: int, outputs: int, kernel_size: int) -> BasicConv2d:
            return BasicConv2d(inputs, outputs, kernel_size, batch_norm=batch_norm)

        self.branch1 = conv(in_channels, ch1x1, 1)
        self.branch2 = nn.Sequential(conv(in_channels, ch3x3red, 1), conv(ch3x3red, ch3x3, 3))
        self.branch3 = nn.Sequential(conv(in_channels, ch5x5red, 1), conv(ch5x5red, ch5x5, large_kernel))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv(in_channels, pool_proj, 1))

    def forward(self, x: Tensor) -> Tensor:
        return cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class InceptionAux(nn.Module):
    """An auxiliary classifier: the image averaged to 4 x 4, a 1x1 convolution, two linear layers; -> (N, num_classes).

    As published, the mean is over windows of 5 x 5 in steps of 3, which gives 4 x 4 only for 14 x 14 to 16 x 16 (images of
    224 pixels have 14 here); torchvision's (``batch_norm``) divides an image of any size into 4 x 4.
    """

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.7, batch_norm: bool = True) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4) if batch_norm else nn.AvgPool2d(5, stride=3)
        self.conv = BasicConv2d(in_channels, 128, 1, batch_norm=batch_norm)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.pool(x)).flatten(1)
        x = self.dropout(F.relu(self.fc1(x)))
        return self.fc2(x)


class GoogLeNet(nn.Module):
    """Images (N, C, H, W) -> (N, num_classes); in training with ``aux_logits`` -> ``GoogLeNetOutputs``.

    ``published``: the network of 2014 and its initialization, in place of torchvision's. ``transform_input``: scale images
    that were normalized with ImageNet's mean and standard deviation to those of 0.5 and 0.5 that torchvision's checkpoint
    expects (RGB). ``dropout``, ``dropout_aux``: before the last linear layer of the main and of the auxiliary classifiers.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        aux_logits: bool = False,
        transform_input: bool = False,
        published: bool = False,
        dropout: float = 0.2,
        dropout_aux: float = 0.7,
    ) -> None:
        if transform_input and in_channels != 3:
            raise ValueError(f"transform_input is for RGB images: it needs in_channels=3, got {in_channels!r}")
        for name, p in (("dropout", dropout), ("dropout_aux", dropout_aux)):
            if not 0 <= p <= 1:
                raise ValueError(f"{name} must be a probability between 0 and 1, got {p!r}")
        super().__init__()
        batch_norm = not published
        self.aux_logits, self.transform_input = aux_logits, transform_input

        self.conv1 = BasicConv2d(in_channels, 64, 7, stride=2, batch_norm=batch_norm)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm1 = nn.LocalResponseNormPaper() if published else nn.Identity()
        self.conv2 = BasicConv2d(64, 64, 1, batch_norm=batch_norm)
        self.conv3 = BasicConv2d(64, 192, 3, batch_norm=batch_norm)
        self.norm2 = nn.LocalResponseNormPaper() if published else nn.Identity()
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        channels = 192
        for name, widths in BLOCKS.items():
            block = Inception(channels, *widths, large_kernel=5 if published else 3, batch_norm=batch_norm)
            self.add_module(f"inception{name}", block)
            channels = widths[0] + widths[2] + widths[4] + widths[5]
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(3 if published else 2, stride=2, ceil_mode=True)
        if aux_logits:
            self.aux1 = InceptionAux(512, num_classes, dropout_aux, batch_norm)
            self.aux2 = InceptionAux(528, num_classes, dropout_aux, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        self._initialize(published)

    def _initialize(self, published: bool) -> None:
        """torchvision's N(0, 0.01^2), or Caffe's U(-b, b) with b = sqrt(3 / fan-in) and biases of 0.2: the paper does not say."""
        for name, module in self.named_modules():
            if not isinstance(module, (nn.Conv2d, nn.Linear)):
                continue
            if not published:
                init.trunc_normal_(module.weight, std=0.01)
            else:
                init.kaiming_uniform_(module.weight, nonlinearity="linear")
                init.constant_(module.bias, 0.0 if name in ("fc", "aux1.fc2", "aux2.fc2") else 0.2)

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        if self.transform_input:
            x = _from_imagenet_to_inception(x)
        x = self.norm1(self.maxpool1(self.conv1(x)))  # (N, 64, 56, 56) for images of 224 x 224
        x = self.maxpool2(self.norm2(self.conv3(self.conv2(x))))  # (N, 192, 28, 28)
        x = self.inception3b(self.inception3a(x))
        x = middle = self.inception4a(self.maxpool3(x))  # (N, 512, 14, 14)
        x = late = self.inception4d(self.inception4c(self.inception4b(x)))
        x = self.maxpool4(self.inception4e(x))
        x = self.inception5b(self.inception5a(x))  # (N, 1024, 7, 7)
        logits = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        if self.training and self.aux_logits:
            return GoogLeNetOutputs(logits, self.aux2(late), self.aux1(middle))
        return logits


def _from_imagenet_to_inception(x: Tensor) -> Tensor:
    """RGB images (N, 3, H, W), normalized for ImageNet, normalized to mean 0.5 and standard deviation 0.5 instead."""
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"transform_input is for RGB images (N, 3, H, W), got shape {x.shape}")
    scale = [std / INCEPTION_STD for std in IMAGENET_STD]
    shift = [(mean - INCEPTION_MEAN) / INCEPTION_STD for mean in IMAGENET_MEAN]
    scale, shift = (tensor(v, dtype=x.dtype, device=x.device).reshape(1, 3, 1, 1) for v in (scale, shift))
    return x * scale + shift


# ---- the networks ------------------------------------------------------------------------------------------------------


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=6_624_904, macs=1_498_376_192)
def googlenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    aux_logits: bool = False,
    transform_input: bool = False,
    dropout: float = 0.2,
    dropout_aux: float = 0.7,
) -> GoogLeNet:
    """GoogLeNet (Inception v1) as in torchvision: batch normalization, and 3x3 in place of the 5x5 convolutions.

    torchvision's checkpoint needs ``aux_logits=True`` (13,004,888 parameters; the auxiliary classifiers in it are not
    trained) and ``transform_input=True``; its published accuracy is 69.8 % (top 5: 89.5 %). See ``GoogLeNet``.
    """
    return GoogLeNet(num_classes, in_channels, aux_logits, transform_input, dropout=dropout, dropout_aux=dropout_aux)


@register(paper=PAPER, input_shape=(3, 224, 224), parameters=6_998_552, macs=1_582_671_872)
def googlenet_2014(
    num_classes: int = 1000,
    in_channels: int = 3,
    aux_logits: bool = False,
    dropout: float = 0.4,
    dropout_aux: float = 0.7,
) -> GoogLeNet:
    """GoogLeNet as published: 5x5 convolutions, biases, local response normalization, no batch normalization.

    Winner of ILSVRC 2014. With ``aux_logits=True`` it has 13,378,280 parameters, and takes images of 224 x 224 in training.
    The paper gives no constants of the response normalization: they are AlexNet's (Caffe's network divides alpha by 5, and
    has k = 1).
    """
    return GoogLeNet(num_classes, in_channels, aux_logits, published=True, dropout=dropout, dropout_aux=dropout_aux)
