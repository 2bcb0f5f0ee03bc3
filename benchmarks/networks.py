"""The benchmarked networks, written once in PyTorch's style and built with either library.

``library`` is ``torch`` or ``minigrad``: both have ``nn.Module``, ``nn.Conv2d``, ``nn.functional`` and so on by the same names,
so that the same source makes both networks and one loads the other's state dict. Each function defines its classes
for the library that it is given.
"""

from __future__ import annotations

__all__ = ["NAMES", "create"]


def create(name: str, library):
    """The network ``name`` (one of ``NAMES``) as a module of ``library`` (``torch`` or ``minigrad``), newly initialized."""
    return _MAKERS[name](library.nn, library.nn.functional)


def _lenet5(nn, F):
    class LeNet5(nn.Module):
        """LeNet-5 in its modern form, 1 x 32 x 32."""

        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5)
            self.conv2 = nn.Conv2d(6, 16, 5)
            self.fc1 = nn.Linear(16 * 5 * 5, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            x = x.flatten(1)
            x = F.relu(self.fc1(x))
            x = F.relu(self.fc2(x))
            return self.fc3(x)

    return LeNet5()


def _basic_block(nn, F, option):
    """The class of a residual block whose shortcut is projected ("B") or sub-sampled and padded with zeros ("A")."""

    class PadShortcut(nn.Module):
        def __init__(self, extra, stride):
            super().__init__()
            self.extra, self.stride = extra, stride

        def forward(self, x):
            before = self.extra // 2
            return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before))

    class BasicBlock(nn.Module):
        def __init__(self, in_planes, planes, stride=1):
            super().__init__()
            self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.shortcut = nn.Sequential()
            if option == "A" and in_planes != planes:
                self.shortcut = PadShortcut(planes - in_planes, stride)
            elif stride != 1 or in_planes != planes:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(planes)
                )

        def forward(self, x):
            out = F.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            out += self.shortcut(x)
            return F.relu(out)

    return BasicBlock


def _small_resnet(nn, F, widths, blocks, option):
    """A ResNet for 32 x 32 images: a 3x3 stem without pooling, one stage for each width, the mean over the image."""
    Block = _basic_block(nn, F, option)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.in_planes = widths[0]
            self.conv1 = nn.Conv2d(3, widths[0], kernel_size=3, stride=1, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(widths[0])
            self.layers = nn.Sequential(*(self._stage(width, 1 if i == 0 else 2) for i, width in enumerate(widths)))
            self.linear = nn.Linear(widths[-1], 10)

        def _stage(self, planes, stride):
            layers = []
            for s in [stride] + [1] * (blocks - 1):
                layers.append(Block(self.in_planes, planes, s))
                self.in_planes = planes
            return nn.Sequential(*layers)

        def forward(self, x):
            out = F.relu(self.bn1(self.conv1(x)))
            out = self.layers(out)
            out = F.avg_pool2d(out, out.size(3))
            out = out.view(out.size(0), -1)
            return self.linear(out)

    return ResNet()


def _vgg16_bn(nn, F):
    class VGG(nn.Module):
        """VGG-16 with BatchNorm for 32 x 32 images: thirteen 3x3 convolutions, five poolings, one linear layer."""

        def __init__(self):
            super().__init__()
            plan = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
            layers, in_channels = [], 3
            for x in plan:
                if x == "M":
                    layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
                else:
                    layers += [nn.Conv2d(in_channels, x, kernel_size=3, padding=1), nn.BatchNorm2d(x), nn.ReLU(inplace=True)]
                    in_channels = x
            self.features = nn.Sequential(*layers)
            self.classifier = nn.Linear(512, 10)

        def forward(self, x):
            out = self.features(x)
            out = out.view(out.size(0), -1)
            return self.classifier(out)

    return VGG()


def _bottleneck(nn, F):
    class Bottleneck(nn.Module):
        """1x1, 3x3 (with the stride) and 1x1 convolutions; the last has four times the channels."""

        def __init__(self, in_planes, planes, stride=1):
            super().__init__()
            self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.conv3 = nn.Conv2d(planes, 4 * planes, kernel_size=1, bias=False)
            self.bn3 = nn.BatchNorm2d(4 * planes)
            self.shortcut = nn.Sequential()
            if stride != 1 or in_planes != 4 * planes:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(in_planes, 4 * planes, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(4 * planes)
                )

        def forward(self, x):
            out = F.relu(self.bn1(self.conv1(x)))
            out = F.relu(self.bn2(self.conv2(out)))
            out = self.bn3(self.conv3(out))
            out += self.shortcut(x)
            return F.relu(out)

    return Bottleneck


def _resnet50(nn, F):
    Block = _bottleneck(nn, F)

    class ResNet50(nn.Module):
        """ResNet-50 for 224 x 224 images and 1000 classes."""

        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            self.layer1 = self._stage(64, 64, 3, 1)
            self.layer2 = self._stage(256, 128, 4, 2)
            self.layer3 = self._stage(512, 256, 6, 2)
            self.layer4 = self._stage(1024, 512, 3, 2)
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.fc = nn.Linear(2048, 1000)

        def _stage(self, in_planes, planes, blocks, stride):
            return nn.Sequential(Block(in_planes, planes, stride), *(Block(4 * planes, planes) for _ in range(blocks - 1)))

        def forward(self, x):
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(self.avgpool(x).flatten(1))

    return ResNet50()


def _mobilenet_v1(nn, F):
    class Block(nn.Module):
        """A depthwise 3x3 convolution and a 1x1 convolution."""

        def __init__(self, in_planes, out_planes, stride=1):
            super().__init__()
            self.conv1 = nn.Conv2d(in_planes, in_planes, kernel_size=3, stride=stride, padding=1, groups=in_planes, bias=False)
            self.bn1 = nn.BatchNorm2d(in_planes)
            self.conv2 = nn.Conv2d(in_planes, out_planes, kernel_size=1, stride=1, padding=0, bias=False)
            self.bn2 = nn.BatchNorm2d(out_planes)

        def forward(self, x):
            out = F.relu(self.bn1(self.conv1(x)))
            return F.relu(self.bn2(self.conv2(out)))

    class MobileNet(nn.Module):
        """MobileNetV1 for 32 x 32 images: the stem keeps the size, so that the last maps are 2 x 2."""

        def __init__(self):
            super().__init__()
            plan = [64, (128, 2), 128, (256, 2), 256, (512, 2), 512, 512, 512, 512, 512, (1024, 2), 1024]
            self.conv1 = nn.Conv2d(3, 32, kernel_size=3, stride=1, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(32)
            layers, in_planes = [], 32
            for x in plan:
                planes, stride = x if isinstance(x, tuple) else (x, 1)
                layers.append(Block(in_planes, planes, stride))
                in_planes = planes
            self.layers = nn.Sequential(*layers)
            self.linear = nn.Linear(1024, 10)

        def forward(self, x):
            out = F.relu(self.bn1(self.conv1(x)))
            out = self.layers(out)
            out = F.avg_pool2d(out, 2)
            out = out.view(out.size(0), -1)
            return self.linear(out)

    return MobileNet()


_MAKERS = {
    "lenet5": _lenet5,
    "cifar_resnet14": lambda nn, F: _small_resnet(nn, F, (16, 32, 64), 2, "B"),
    "cifar_resnet20": lambda nn, F: _small_resnet(nn, F, (16, 32, 64), 3, "A"),
    "resnet18": lambda nn, F: _small_resnet(nn, F, (64, 128, 256, 512), 2, "B"),
    "vgg16_bn": _vgg16_bn,
    "resnet50": _resnet50,
    "mobilenet_v1": _mobilenet_v1,
}
NAMES = tuple(_MAKERS)
