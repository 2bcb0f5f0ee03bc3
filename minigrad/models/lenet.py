"""LeNet-5, the first convolutional network in wide use, in the form in which it is taught today."""

from __future__ import annotations

from minigrad import nn
from minigrad.models.registry import Paper, register
from minigrad.nn import functional as F
from minigrad.tensor import Tensor

__all__ = ["LeNet5", "lenet5"]

PAPER = Paper(
    "LeCun, Bottou, Bengio, Haffner",
    "Gradient-Based Learning Applied to Document Recognition",
    1998,
    doi="10.1109/5.726791",
)


class LeNet5(nn.Module):
    """Two convolutions with pooling, three linear layers: 32x32 -> 6@28 -> 6@14 -> 16@10 -> 16@5 -> 120 -> 84 -> classes.

    The modern form: all 16 maps of the second convolution see all 6 of the first, ReLU instead of tanh, max pooling instead
    of trained sub-sampling, and a linear output layer.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, input_size: int = 32) -> None:
        if input_size not in (28, 32):
            raise ValueError(f"input_size must be 32, or 28 for MNIST's images, which are padded to 32, got {input_size!r}")
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


@register(paper=PAPER, input_shape=(1, 32, 32), parameters=61_706, macs=416_520)
def lenet5(num_classes: int = 10, in_channels: int = 1, input_size: int = 32) -> LeNet5:
    """LeNet-5 (modern form) for images of 32 x 32, or of 28 x 28 with ``input_size=28``."""
    return LeNet5(num_classes, in_channels, input_size)
