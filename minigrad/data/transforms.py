"""Transforms of whole batches of images: ``transform(images, rng) -> images``.

Images are arrays (N, C, H, W): uint8 with values 0 ... 255 as data sets hold them, or float32 after ``ToTensor`` or
``Normalize``. Augmentation is cheapest on uint8, so normalization comes last. Every image of a batch gets random numbers of its
own, all drawn from ``rng`` (a NumPy generator; None means the framework's own, see ``mg.manual_seed``), so that equal
generators give equal results. Results lie channels-last in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import random
from minigrad.data.checks import check_fill, check_images, check_probability, fill_row, filled
from minigrad.data.images import channel_statistics, mean_image
from minigrad.data.warp import RandomAffine, RandomRotation
from minigrad.kernels.geometry import pair
from minigrad.kernels.layout import nhwc

__all__ = [
    "Compose",
    "Normalize",
    "Pad",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRotation",
    "SubtractMean",
    "ToTensor",
]

PADDING_MODES = ("constant", "edge", "reflect", "symmetric")


class Compose:
    """Apply several transforms, one after the other."""

    def __init__(self, transforms: Iterable[Callable]):
        self.transforms = list(transforms)
        for t in self.transforms:
            if not callable(t):
                raise TypeError(f"Compose takes functions (images, rng) -> images, got {t!r}")

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        for transform in self.transforms:
            images = transform(images, rng)
        return images

    def __repr__(self) -> str:
        return "\n".join(["Compose(", *(f"    {t!r}" for t in self.transforms), ")"])


# ---- size and place: Pad, RandomCrop, RandomHorizontalFlip ------------------------------------------------------------


@dataclass(frozen=True)
class Pad:
    """Add ``padding`` pixels (one number, or a pair for height and width) at each side.

    ``padding_mode`` as in ``numpy.pad``: "constant" (``fill``: one value, or one per channel), "edge", "reflect", "symmetric".
    """

    padding: int | tuple[int, int]
    fill: float | tuple = 0
    padding_mode: str = "constant"

    def __post_init__(self):
        pair(self.padding, "padding")
        check_fill(self.fill)
        if self.padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, got {self.padding_mode!r}")

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        x = nhwc(check_images(images))
        n, height, width, c = x.shape
        ph, pw = pair(self.padding, "padding")
        if self.padding_mode != "constant":
            if self.padding_mode == "reflect" and (ph >= height or pw >= width):
                raise ValueError(f"padding {self.padding} by reflection needs images larger than it, got {height} x {width}")
            return np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)), self.padding_mode).transpose(0, 3, 1, 2)
        y = filled((n, height + 2 * ph, width + 2 * pw, c), self.fill, x.dtype)
        y[:, ph : ph + height, pw : pw + width] = x
        return y.transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class RandomCrop:
    """Cut a window of ``size`` at a random place of each image, after padding as in ``Pad``.

    Raises ValueError on images that are smaller than the window even with padding.
    """

    size: int | tuple[int, int]
    padding: int | tuple[int, int] = 0
    fill: float | tuple = 0
    padding_mode: str = "constant"

    def __post_init__(self):
        pair(self.size, "size", minimum=1)
        Pad(self.padding, self.fill, self.padding_mode)  # checks these three

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        rng = random.generator() if rng is None else rng
        if pair(self.padding, "padding") != (0, 0):
            images = Pad(self.padding, self.fill, self.padding_mode)(images)
        x = nhwc(check_images(images))
        n, height, width, c = x.shape
        h, w = pair(self.size, "size")
        if h > height or w > width:
            raise ValueError(f"RandomCrop of {h} x {w} needs images at least that large, got {height} x {width} after padding")
        tops, lefts = rng.integers(0, height - h + 1, n), rng.integers(0, width - w + 1, n)
        y = np.empty((n, h, w, c), x.dtype)
        for i, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
            y[i] = x[i, top : top + h, left : left + w]
        return y.transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Mirror each image left to right with probability ``p``."""

    p: float = 0.5

    def __post_init__(self):
        check_probability(self.p)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        rng = random.generator() if rng is None else rng
        x = nhwc(check_images(images))
        y = x.copy()
        flipped = rng.random(len(x)) < self.p
        y[flipped] = x[flipped, :, ::-1]
        return y.transpose(0, 3, 1, 2)


# ---- RandomErasing ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RandomErasing:
    """Erase a random rectangle of each image with probability ``p`` (Zhong et al. 2020, arXiv 1708.04896, algorithm 1).

    ``scale``  the range of the rectangle's share of the image's area
    ``ratio``  the range of its height : width (drawn log-uniformly); a rectangle that does not fit is drawn again, up to
               ten times, after which the image stays as it is
    ``value``  what replaces the pixels: a number, a tuple with one for each channel, or "random" (the paper's best): uniform
               0 ... 255 for uint8 images, standard normal for float images. 0 is black before normalization, the mean after
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float | tuple | str = 0

    def __post_init__(self):
        check_probability(self.p)
        if len(self.scale) != 2 or not 0 <= self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be (lowest, highest) share of the area within 0 ... 1, got {self.scale!r}")
        if len(self.ratio) != 2 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be (lowest, highest), both above 0, got {self.ratio!r}")
        if self.value != "random":
            check_fill(self.value, "value")

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        rng = random.generator() if rng is None else rng
        y = nhwc(check_images(images)).copy()
        height, width, c = y.shape[1:]
        value = None if self.value == "random" else fill_row(self.value, c, y.dtype)
        for i in np.flatnonzero(rng.random(len(y)) < self.p):
            rectangle = self._rectangle(height, width, rng)
            if rectangle is not None:
                y[i][rectangle] = _noise(y[i][rectangle].shape, y.dtype, rng) if value is None else value
        return y.transpose(0, 3, 1, 2)

    def _rectangle(self, height: int, width: int, rng: np.random.Generator) -> tuple[slice, slice] | None:
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area, ratio = height * width * rng.uniform(*self.scale), math.exp(rng.uniform(low, high))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < h < height and 0 < w < width:
                top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
                return slice(top, top + h), slice(left, left + w)
        return None


def _noise(shape: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, shape, np.uint8) if dtype == np.uint8 else rng.standard_normal(shape, dtype)


# ---- values: ToTensor, Normalize, SubtractMean ------------------------------------------------------------------------


@dataclass(frozen=True)
class ToTensor:
    """Scale uint8 images from 0 ... 255 to float32 0 ... 1; float images stay as they are.

    Named as in torchvision, so that its pipelines can be kept; what it gives is an array.
    """

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        return _scaled(check_images(images))


@dataclass(frozen=True)
class Normalize:
    """Subtract ``mean`` and divide by ``std``, after scaling uint8 images to 0 ... 1; the result is float32.

    ``mean`` and ``std`` have one number for each channel, or one for all; in the units of pixel values 0 ... 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        for name in ("mean", "std"):
            values = np.atleast_1d(np.asarray(getattr(self, name), np.float64))
            if values.ndim != 1 or not values.size or not np.isfinite(values).all():
                raise ValueError(f"{name} must be one finite number per channel, got {getattr(self, name)!r}")
            if name == "std" and values.min() <= 0:
                raise ValueError(f"std must be above 0 in every channel, got {self.std!r}")
            object.__setattr__(self, name, tuple(values.tolist()))

    @classmethod
    def fit(cls, dataset: Any) -> Normalize:
        """The transform that gives the images of ``dataset`` mean 0 and standard deviation 1 in every channel."""
        mean, std = channel_statistics(dataset)
        return cls(mean, tuple(s if s > 0 else 1.0 for s in std))

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        y = _scaled(check_images(images))
        rows = _rows(y)
        rows -= _one_row(self.mean, y.shape, "mean")
        rows /= _one_row(self.std, y.shape, "std")
        return y


class SubtractMean:
    """Subtract a mean, per channel or per pixel, after scaling uint8 images to 0 ... 1; the result is float32.

    ``mean``: one number for each channel, or an image (C, H, W), in the units of pixel values 0 ... 1. The mean image of the
    training set is what AlexNet (2012) and the CIFAR networks of He et al. (2016) subtract.
    """

    def __init__(self, mean: np.ndarray | tuple[float, ...]):
        self.mean = np.asarray(mean, np.float32)
        if self.mean.ndim not in (1, 3) or not np.isfinite(self.mean).all():
            raise ValueError(f"mean must be finite, one number per channel or (C, H, W), got shape {self.mean.shape}")

    @classmethod
    def fit(cls, dataset: Any, per_pixel: bool = False) -> SubtractMean:
        """The mean of a data set of uint8 images: of each channel, or (``per_pixel``) of each pixel of each channel."""
        return cls(mean_image(dataset) if per_pixel else channel_statistics(dataset)[0])

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        y = _scaled(check_images(images))
        if self.mean.ndim == 3 and self.mean.shape != y.shape[1:]:
            raise ValueError(f"the mean image to subtract has shape {self.mean.shape}, the images (N, C, H, W) {y.shape}")
        rows = _rows(y)
        rows -= nhwc(self.mean[None]).ravel() if self.mean.ndim == 3 else _one_row(self.mean, y.shape, "mean")
        return y

    def __repr__(self) -> str:
        values = tuple(round(float(v), 4) for v in self.mean) if self.mean.ndim == 1 else f"image of shape {self.mean.shape}"
        return f"SubtractMean({values})"


def _scaled(images: np.ndarray) -> np.ndarray:
    """A new float32 array, channels-last: uint8 images divided by 255, float images as they are."""
    x = nhwc(images)
    y = np.empty(x.shape, np.float32)
    if images.dtype == np.uint8:
        np.divide(x, np.float32(255), out=y)
    else:
        y[...] = x
    return y.transpose(0, 3, 1, 2)


def _rows(images: np.ndarray) -> np.ndarray:
    """Channels-last images (N, C, H, W) as rows (N, H * W * C) of the same memory: long rows keep NumPy's loops long."""
    n, c, h, w = images.shape
    return nhwc(images).reshape(n, h * w * c)


def _one_row(values: tuple[float, ...], shape: tuple[int, ...], name: str) -> np.ndarray:
    """One value per channel, repeated for every pixel (H * W * C), as float32."""
    _, c, h, w = shape
    return np.tile(fill_row(values, c, np.float32, name), h * w)
