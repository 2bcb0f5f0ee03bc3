"""Resizing, and the crops of ImageNet's recipes: random ones for training, the centre, five or ten for evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minigrad import random
from minigrad.data.checks import check_images
from minigrad.kernels.geometry import pair
from minigrad.kernels.layout import nhwc

__all__ = ["CenterCrop", "FiveCrop", "RandomResizedCrop", "Resize", "TenCrop"]

INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


# ---- resizing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resize:
    """Scale the images to ``size``: a pair (height, width), or one number for the shorter side (the proportions stay).

    ``interpolation``: "bilinear" or "bicubic", both antialiased when the images shrink, as Pillow and torchvision do it (uint8
    images are rounded and cut off at 0 and 255 once, at the end; Pillow does so after each of the two directions);
    "nearest": the pixel under the centre of the new one, as for masks.
    """

    size: int | tuple[int, int]
    interpolation: str = "bilinear"

    def __post_init__(self):
        pair(self.size, "size", minimum=1)
        _check_interpolation(self.interpolation)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        x = nhwc(check_images(images))
        height, width = x.shape[1:3]
        if not height or not width:
            raise ValueError(f"Resize needs images with pixels, got {height} x {width}")
        if isinstance(self.size, (tuple, list)) and len(self.size) == 2:
            h, w = pair(self.size, "size")
        else:
            short = pair(self.size, "size")[0]
            longer = int(short * max(height, width) / min(height, width))
            h, w = (short, longer) if height <= width else (longer, short)
        return _resample(x, h, w, self.interpolation).transpose(0, 3, 1, 2)


def _check_interpolation(name: str) -> None:
    if name not in INTERPOLATIONS:
        raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {name!r}")


def _resample(x: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    """(N, h, w, C) scaled to (N, height, width, C), in the same dtype; a new array."""
    if interpolation == "nearest":
        rows, columns = (((np.arange(n) + 0.5) * m / n).astype(np.int64) for n, m in ((height, x.shape[1]), (width, x.shape[2])))
        return x.take(rows, 1).take(columns, 2)
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    y = x.astype(dtype)
    for axis, size in ((1, height), (2, width)):
        if y.shape[axis] != size:
            y = _scale_axis(y, axis, size, interpolation)
    if x.dtype == np.uint8:
        y = np.clip(np.rint(y, out=y), 0, 255, out=y)
    return y.astype(x.dtype, copy=False)


def _scale_axis(x: np.ndarray, axis: int, size: int, interpolation: str) -> np.ndarray:
    """``x`` scaled along one axis. Sums of shifted products, not a matrix product: the same bits for every batch size."""
    indices, weights = _taps(x.shape[axis], size, interpolation)
    shape = [1] * x.ndim
    shape[axis] = size
    weights = weights.astype(x.dtype).reshape(-1, *shape)
    y = np.take(x, indices[0], axis)
    y *= weights[0]
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        part = np.take(x, index, axis)
        part *= weight
        y += part
    return y


def _taps(old: int, new: int, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that make up each new pixel, and their weights: two arrays (pixels, new).

    The filter (a triangle, or Keys' cubic with a = -0.5) is widened by the scale when the image shrinks.
    """
    reach, weigh = (1, _triangle) if interpolation == "bilinear" else (2, cubic)
    scale = old / new
    spread = max(scale, 1.0)
    centre = (np.arange(new) + 0.5) * scale  # in the old image, whose pixel i reaches from i to i + 1
    first = np.floor(centre - reach * spread + 0.5).astype(np.int64)
    index = first + np.arange(math.ceil(2 * reach * spread) + 1)[:, None]
    weights = weigh((index + 0.5 - centre) / spread) * ((index >= 0) & (index < old))
    used = weights.any(1)
    weights = weights / weights.sum(0)
    return np.clip(index, 0, old - 1)[used], weights[used]


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - abs(x), 0)


def cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    """The weight of a pixel at distance ``x`` in cubic convolution (Keys 1981); -1 < a < 0 says how far it overshoots."""
    x = abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


# ---- one crop of each image -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CenterCrop:
    """Cut out the middle ``size`` (one number or height and width) of each image.

    Raises ValueError on smaller images (torchvision would give them a black border).
    """

    size: int | tuple[int, int]

    def __post_init__(self):
        pair(self.size, "size", minimum=1)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        x, h, w = _crop_arguments(images, self.size, "CenterCrop")
        return x[(slice(None), *_middle(x, h, w))].copy().transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class RandomResizedCrop:
    """Cut a random window out of each image and scale it to ``size`` (one number or height and width).

    ``scale``          the range of the window's share of the image's area
    ``ratio``          the range of its width : height (drawn log-uniformly); a window that does not fit is drawn again, up to ten
                       times, after which the largest one in the middle whose proportions are allowed is taken
    ``interpolation``  as in ``Resize``

    The training crop of Szegedy et al. 2015 (section 6), with torchvision's definitions.
    """

    size: int | tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"

    def __post_init__(self):
        pair(self.size, "size", minimum=1)
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be (lowest, highest) share of the area, above 0 and at most 1, got {self.scale!r}")
        if len(self.ratio) != 2 or not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise ValueError(f"ratio must be (lowest, highest), both above 0, got {self.ratio!r}")
        _check_interpolation(self.interpolation)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        rng = random.generator() if rng is None else rng
        x = nhwc(check_images(images))
        n, height, width, c = x.shape
        if not height or not width:
            raise ValueError(f"RandomResizedCrop needs images with pixels, got {height} x {width}")
        h, w = pair(self.size, "size")
        y = np.empty((n, h, w, c), x.dtype)
        for i in range(n):
            rows, columns = self._window(height, width, rng)
            y[i] = _resample(x[i : i + 1, rows, columns], h, w, self.interpolation)[0]
        return y.transpose(0, 3, 1, 2)

    def _window(self, height: int, width: int, rng: np.random.Generator) -> tuple[slice, slice]:
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area, ratio = height * width * rng.uniform(*self.scale), math.exp(rng.uniform(low, high))
            h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < h <= height and 0 < w <= width:
                top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
                return slice(top, top + h), slice(left, left + w)
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        h, w = min(height, max(1, round(width / ratio))), min(width, max(1, round(height * ratio)))
        top, left = (height - h) // 2, (width - w) // 2
        return slice(top, top + h), slice(left, left + w)


# ---- several crops of each image --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FiveCrop:
    """The four corners and the middle of each image: (N, C, H, W) gives (N * 5, C, h, w), the five of an image in a row.

    Their order is upper left, upper right, lower left, lower right, middle. See ``TenCrop``.
    """

    size: int | tuple[int, int]

    def __post_init__(self):
        pair(self.size, "size", minimum=1)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        x, h, w = _crop_arguments(images, self.size, "FiveCrop")
        return _grouped(_five(x, h, w))


@dataclass(frozen=True)
class TenCrop:
    """The crops of ``FiveCrop``, then those of the mirrored image: (N, C, H, W) gives (N * 10, C, h, w).

    The evaluation of Krizhevsky et al. 2012 and He et al. 2016 averages the predictions over them::

        crops = mg.tensor(Normalize(mean, std)(TenCrop(224)(images)))
        probabilities = F.softmax(model(crops), 1).reshape(len(images), 10, -1).mean(1)

    ``vertical_flip``: mirror top to bottom in place of left to right. A DataLoader needs as many images as labels, so the crops
    are taken from the batches that it gives, not in its transform.
    """

    size: int | tuple[int, int]
    vertical_flip: bool = False

    def __post_init__(self):
        pair(self.size, "size", minimum=1)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        x, h, w = _crop_arguments(images, self.size, "TenCrop")
        mirrored = x[:, ::-1] if self.vertical_flip else x[:, :, ::-1]
        return _grouped(_five(x, h, w) + _five(mirrored, h, w))


def _crop_arguments(images: np.ndarray, size: int | tuple[int, int], name: str) -> tuple[np.ndarray, int, int]:
    """The images (N, H, W, C), and height and width of the crop; raises ValueError if they are smaller."""
    x = nhwc(check_images(images))
    h, w = pair(size, "size")
    height, width = x.shape[1:3]
    if h > height or w > width:
        raise ValueError(
            f"{name} of {h} x {w} needs images at least that large, got {height} x {width}: use Resize or Pad before it"
        )
    return x, h, w


def _middle(x: np.ndarray, h: int, w: int) -> tuple[slice, slice]:
    top, left = round((x.shape[1] - h) / 2), round((x.shape[2] - w) / 2)  # halves to even, as in torchvision
    return slice(top, top + h), slice(left, left + w)


def _five(x: np.ndarray, h: int, w: int) -> list[np.ndarray]:
    upper, lower, left, right = slice(h), slice(x.shape[1] - h, None), slice(w), slice(x.shape[2] - w, None)
    return [x[:, upper, left], x[:, upper, right], x[:, lower, left], x[:, lower, right], x[(slice(None), *_middle(x, h, w))]]


def _grouped(crops: list[np.ndarray]) -> np.ndarray:
    """K arrays (N, h, w, C) as (N * K, C, h, w): all crops of the first image, then those of the second, ..."""
    y = np.stack(crops, 1)
    return y.reshape(y.shape[0] * y.shape[1], *y.shape[2:]).transpose(0, 3, 1, 2)
