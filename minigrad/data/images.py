"""Labelled images kept in one array, and exact statistics of their pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minigrad import random
from minigrad.data.dataset import Dataset, gather
from minigrad.kernels.layout import channels_last, nhwc

__all__ = ["ImageDataset", "channel_statistics", "held_out_fifth", "mean_image"]

BLOCK = 1000  # images whose statistics are taken at once


class ImageDataset(Dataset):
    """Labelled images in memory. Sample i is ``(image, label)``: uint8 (C, H, W) with values 0 ... 255, and an int.

    ``images``     uint8 (N, C, H, W), or (N, H, W) for one channel; kept channels-last in memory
    ``labels``     N integers, 0 ... number of classes - 1 (``targets`` is the same array)
    ``classes``    the names of the classes; None names them "0", "1", ...
    ``name``       what the collection is called, e.g. "cifar10"
    ``mean, std``  per channel, of pixel values scaled to 0 ... 1, for normalization; None where unknown
    ``transform``  a function ``(images, rng) -> images`` of a batch (see ``minigrad.data.transforms``). A DataLoader applies it
                   to whole batches; ``dataset[i]`` to one image, with the framework's own random generator
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: Sequence[int] | np.ndarray,
        classes: Sequence[str] | None = None,
        *,
        name: str = "images",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        transform: Callable | None = None,
    ):
        images, labels = byte_images(images), np.asarray(labels)
        self.images = channels_last(images)
        self.labels = check_labels(labels, len(images), None if classes is None else len(classes))
        self.classes = numbered(self.labels) if classes is None else tuple(classes)
        self.name, self.transform = name, transform
        self.mean, self.std = per_channel(mean, "mean", images.shape[1]), per_channel(std, "std", images.shape[1])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image = self.images[index]
        if self.transform is not None:
            image = self.transform(image[None], random.generator())[0]
        return image, int(self.labels[index])

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The images and labels ``indices``, without the transform: uint8 (n, C, H, W), channels-last, and int64 (n,)."""
        rows = np.asarray(indices)
        return nhwc(self.images)[rows].transpose(0, 3, 1, 2), self.labels[rows]

    @property
    def batch_transform(self) -> Callable | None:
        """The transform, which a DataLoader applies to whole batches."""
        return self.transform

    @property
    def targets(self) -> np.ndarray:
        return self.labels

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image, before any transform."""
        return self.images.shape[1:]

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}

    def __repr__(self) -> str:
        c, h, w = self.image_shape
        return f"{type(self).__name__}({self.name!r}, {len(self):,} images of {c} x {h} x {w}, {self.num_classes} classes)"


def byte_images(images: Any) -> np.ndarray:
    """``images`` as an array (N, C, H, W); raises ValueError unless they are uint8 (N, C, H, W) or (N, H, W)."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[:, None]
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images must be a uint8 array (N, C, H, W) or (N, H, W), got {images.dtype} of shape {images.shape}")
    return images


def check_labels(labels: np.ndarray, count: int, num_classes: int | None) -> np.ndarray:
    """``labels`` as int64; raises unless they are ``count`` integers in 0 ... ``num_classes`` - 1."""
    if labels.shape != (count,) or (count and labels.dtype.kind not in "iu"):
        raise ValueError(f"labels must be {count} integers, one for each image, got {labels.dtype} of shape {labels.shape}")
    if count and (labels.min() < 0 or (num_classes is not None and labels.max() >= num_classes)):
        highest = "" if num_classes is None else f" and at most {num_classes - 1} (there are {num_classes} classes)"
        raise ValueError(f"labels must be at least 0{highest}, got {labels.min()} ... {labels.max()}")
    return labels.astype(np.int64)


def numbered(labels: np.ndarray) -> tuple[str, ...]:
    """Names for classes that have none: "0", "1", ... up to the highest label."""
    return tuple(str(k) for k in range(int(labels.max()) + 1)) if len(labels) else ()


def per_channel(values: Sequence[float] | None, name: str, channels: int) -> tuple[float, ...] | None:
    if values is None:
        return None
    if len(values) != channels:
        raise ValueError(f"{name} must have one number for each of the {channels} channels, got {values!r}")
    return tuple(float(v) for v in values)


def held_out_fifth(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (training, test) of a fixed split: every fifth sample of each class, in file order, is for testing.

    No random numbers: the samples are sorted by class, and the third of each five in that order is held out.
    """
    order = np.argsort(labels, kind="stable")
    test = np.zeros(len(labels), np.bool_)
    test[order[2::5]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


def channel_statistics(dataset: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels, scaled to 0 ... 1; exact (counts of the 256 values)."""
    counts = 0
    for images in _blocks(dataset):
        counts = counts + np.stack([np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])])
    values, total = np.arange(256), counts[0].sum()
    mean = counts @ values / total
    variance = (counts @ values**2 - counts @ values * mean) / total
    return tuple((mean / 255).tolist()), tuple((np.sqrt(variance) / 255).tolist())


def mean_image(dataset: Any) -> np.ndarray:
    """The mean of all images, scaled to 0 ... 1: float64 (C, H, W); sums are exact."""
    total = sum(images.sum(0, dtype=np.int64) for images in _blocks(dataset))
    return total / (255 * len(dataset))


def _blocks(dataset: Any) -> Iterator[np.ndarray]:
    """The images of a data set, block by block; raises unless they are uint8 and there are some."""
    if len(dataset) == 0:
        raise ValueError("statistics of an empty data set do not exist")
    for start in range(0, len(dataset), BLOCK):
        images = gather(dataset, np.arange(start, min(start + BLOCK, len(dataset))))[0]
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"statistics need uint8 images (N, C, H, W), got {images.dtype} of shape {images.shape}")
        yield images
