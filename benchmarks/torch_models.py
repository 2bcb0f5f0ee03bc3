"""The benchmarked networks written for PyTorch, with minigrad's names, so that one loads the other's state dict."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["create"]


class LeNet5(nn.Module):
    """LeNet-5 in its modern form, 1 x 32 x 32."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: projected ("B") or sub-sampled and padded with zeros ("A")."""

    def __init__(self, channels: int, planes: int, stride: int, option: str):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.extra = planes - channels if option == "A" else 0
        self.stride = stride
        self.shortcut = nn.Sequential()
        if option == "B" and channels != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.extra:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        return F.relu(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """The CIFAR ResNet with 16-32-64 channels and ``blocks`` blocks a stage."""

    def __init__(self, blocks: int, option: str, num_classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages, channels = [], 16
        for planes, stride in ((16, 1), (32, 2), (64, 2)):
            stage = [Block(channels, planes, stride, option)]
            stage += [Block(planes, planes, 1, option) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
            channels = planes
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def create(name: str) -> torch.nn.Module:
    """The PyTorch form of the minigrad model ``name``. Raises KeyError if there is none here."""
    makers = {
        "lenet5": LeNet5,
        "cifar_resnet14": lambda: CifarResNet(2, "B"),
        "cifar_resnet20": lambda: CifarResNet(3, "A"),
        "cifar_resnet56": lambda: CifarResNet(9, "A"),
    }
    return makers[name]()
