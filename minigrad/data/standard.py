"""The usual preparation of each data set: constants for normalization, and augmentation for training."""

from __future__ import annotations

from typing import Any

from minigrad.data.cifar import CIFAR10, CIFAR100
from minigrad.data.mnist import KMNIST, MNIST, FashionMNIST
from minigrad.data.transforms import Compose, Normalize, Pad, RandomAffine, RandomCrop, RandomHorizontalFlip
from minigrad.kernels.geometry import pair

__all__ = ["NORMALIZATION", "standard_transforms"]

# Mean and standard deviation of the training images' pixels, scaled to 0 ... 1, per channel.
NORMALIZATION = {
    "digits": ((0.3058,), (0.3762,)),
    **{cls.collection: cls.constants for cls in (MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100)},
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "imagenet-grey": ((0.449,), (0.226,)),
}


def standard_transforms(dataset: Any, train: bool = True, size: int | tuple[int, int] | None = None) -> Compose:
    """The transform that is usual for the images of ``dataset`` (an ImageDataset or an ImageFolder).

    ``train``: with the usual augmentation (CIFAR: crop with padding 4 and flip, He et al. 2016), or without.
    ``size``: height and width that a network needs; smaller images get a black border first (MNIST's 28 x 28 as LeNet-5's
    32 x 32). Data sets without constants of their own are normalized with ImageNet's.
    Raises ValueError if the images are larger than ``size``.
    """
    channels, height, width = dataset.image_shape
    steps: list = []
    if size is not None:
        h, w = pair(size, "size", minimum=1)
        if h < height or w < width or (h - height) % 2 or (w - width) % 2:
            raise ValueError(f"images of {height} x {width} cannot be padded evenly to size {h} x {w}")
        if (h, w) != (height, width):
            steps.append(Pad(((h - height) // 2, (w - width) // 2)))
        height, width = h, w
    if train:
        steps += _augmentation(dataset.name, height, width)
    mean, std = getattr(dataset, "mean", None), getattr(dataset, "std", None)
    if mean is None or std is None:
        mean, std = NORMALIZATION["imagenet" if channels == 3 else "imagenet-grey"]
    return Compose([*steps, Normalize(mean, std)])


def _augmentation(name: str, height: int, width: int) -> list:
    size = (height, width)
    if name == "digits":
        return [RandomAffine(degrees=10, translate=(0.1, 0.1), scale=(0.9, 1.1))]
    if name == "kmnist":
        return [RandomCrop(size, padding=2)]
    if name == "fashion-mnist":
        return [RandomCrop(size, padding=2), RandomHorizontalFlip()]
    if name in ("cifar10", "cifar100"):
        return [RandomCrop(size, padding=4), RandomHorizontalFlip()]
    if name == "folder":
        return [RandomCrop(size, padding=(height // 8, width // 8), padding_mode="reflect"), RandomHorizontalFlip()]
    return []
