"""The usual preparation of each data set: constants for normalization, and augmentation for training."""

from __future__ import annotations

from typing import Any

from minigrad.data.cifar import CIFAR10, CIFAR100
from minigrad.data.color import ColorJitter, PCALighting
from minigrad.data.crops import CenterCrop, RandomResizedCrop
from minigrad.data.elastic import ElasticDeformation
from minigrad.data.mnist import KMNIST, MNIST, FashionMNIST
from minigrad.data.transforms import Compose, Normalize, Pad, RandomAffine, RandomCrop, RandomHorizontalFlip
from minigrad.kernels.geometry import pair

__all__ = ["AUGMENTATIONS", "NORMALIZATION", "NORMALIZATIONS", "normalization", "standard_transforms", "stored_size"]

# Mean and standard deviation of the training images' pixels, scaled to 0 ... 1, per channel.
NORMALIZATION = {
    "digits": ((0.3058,), (0.3762,)),
    **{cls.collection: cls.constants for cls in (MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100)},
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "imagenet-grey": ((0.449,), (0.226,)),
}


# What is done to training images: see ``standard_transforms``.
AUGMENTATIONS = ("none", "standard", "alexnet", "inception", "elastic")
NORMALIZATIONS = ("own", "imagenet", "half")
CROPPED = ("alexnet", "inception")  # which cut the network's image out of a larger one, where images of any size are at hand


def standard_transforms(
    dataset: Any,
    train: bool = True,
    size: int | tuple[int, int] | None = None,
    *,
    augment: str = "standard",
    normalize: str = "own",
) -> Compose:
    """The transform that is usual for the images of ``dataset`` (an ImageDataset or an ImageFolder).

    ``train``: with augmentation, or without. ``size``: height and width that a network needs; smaller images get a black border
    first (MNIST's 28 x 28 as LeNet-5's 32 x 32), of larger ones the middle is cut out.

    ``augment``    "none"; "standard": what is usual for the data set (CIFAR: crop with padding 4 and flip, He et al. 2016);
                   "alexnet": random crop, flip and, of color images, other lighting (Krizhevsky et al. 2012);
                   "inception": a random part of the image resized, flip and, of color images, other colors (Szegedy et al. 2015);
                   "elastic": elastic deformation, as strong as Simard et al. 2003 deformed digits of 28 x 28
    ``normalize``  with the mean and standard deviation of the data set ("own"; ImageNet's where it has none), with those of
                   "imagenet", or with 0.5 and 0.5 ("half")

    Raises ValueError if the images are smaller than ``size`` by an odd number, or larger where nothing crops them.
    """
    if augment not in AUGMENTATIONS:
        raise ValueError(f"augment must be one of {', '.join(AUGMENTATIONS)}, got {augment!r}")
    channels, height, width = dataset.image_shape
    steps: list = []
    target = (height, width) if size is None else pair(size, "size", minimum=1)
    smaller = [(t - n) for t, n in zip(target, (height, width), strict=True)]
    larger = min(smaller) < 0
    if any(smaller) and not (larger and max(smaller) <= 0 and augment in CROPPED):
        if larger or any(n % 2 for n in smaller):
            raise ValueError(f"images of {height} x {width} cannot be padded evenly to size {target[0]} x {target[1]}")
        steps.append(Pad((smaller[0] // 2, smaller[1] // 2)))
    if train and augment != "none":
        steps += _augmentation(augment, dataset.name, target, channels, larger)
    elif larger:
        steps.append(CenterCrop(target))
    return Compose([*steps, normalization(dataset, normalize)])


def stored_size(size: tuple[int, int], augment: str) -> tuple[int, int]:
    """How large the images of a folder are kept, of which an augmentation cuts images of ``size``: 256 for 224."""
    return tuple(round(n * 256 / 224) for n in size) if augment in CROPPED else size


def normalization(dataset: Any, normalize: str = "own") -> Normalize:
    """The last step of ``standard_transforms``."""
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize must be one of {', '.join(NORMALIZATIONS)}, got {normalize!r}")
    channels = dataset.image_shape[0]
    mean, std = getattr(dataset, "mean", None), getattr(dataset, "std", None)
    if normalize == "half":
        mean = std = (0.5,) * channels
    elif normalize == "imagenet" or mean is None or std is None:
        mean, std = NORMALIZATION["imagenet" if channels == 3 else "imagenet-grey"]
    return Normalize(mean, std)


def _augmentation(augment: str, name: str, size: tuple[int, int], channels: int, larger: bool) -> list:
    if augment == "standard":
        return _usual(name, *size)
    if augment == "elastic":
        scale = min(size) / 28
        return [ElasticDeformation(alpha=34 * scale**2, sigma=4 * scale)]
    colors = PCALighting() if augment == "alexnet" else ColorJitter(0.4, 0.4, 0.4)
    if augment == "inception":
        crop: Any = RandomResizedCrop(size)
    elif larger:
        crop = RandomCrop(size)
    else:
        crop = RandomCrop(size, padding=(size[0] // 8, size[1] // 8), padding_mode="reflect")
    return [crop, RandomHorizontalFlip(), *([colors] if channels == 3 else [])]


def _usual(name: str, height: int, width: int) -> list:
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
