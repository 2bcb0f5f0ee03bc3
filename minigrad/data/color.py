"""Random changes of colour: brightness, contrast, saturation, hue, and the lighting noise of AlexNet.

They take pixel values: uint8, or float within 0 ... 1 (so they come before ``Normalize``), of one channel or red, green, blue.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minigrad import random
from minigrad.data.checks import check_images, check_range
from minigrad.kernels.layout import nhwc

__all__ = ["IMAGENET_EIGENVALUES", "IMAGENET_EIGENVECTORS", "ColorJitter", "PCALighting"]

GREY = np.array([0.2989, 0.587, 0.114], np.float32)  # of red, green, blue in the brightness (ITU-R 601), as in torchvision


# ---- ColorJitter ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast, saturation and hue of each image at random, in a random order.

    ``brightness``, ``contrast``, ``saturation``  range of a factor: a number v means (max(0, 1 - v), 1 + v), or a pair. Factor 0
    gives a black image, one of its mean grey, or its grey levels; 1 changes nothing, above 1 the property becomes stronger
    ``hue``  range of a turn of the colour circle: a number h within 0 ... 0.5 means (-h, h), or a pair within -0.5 ... 0.5

    The definitions are torchvision's: values are cut off at black and white after each step, and saturation and hue
    leave images of one channel as they are. Here every image has its own order and factors, and uint8 images are rounded
    once, at the end (torchvision drops fractions at every step).
    """

    brightness: float | tuple[float, float] = 0
    contrast: float | tuple[float, float] = 0
    saturation: float | tuple[float, float] = 0
    hue: float | tuple[float, float] = 0

    def __post_init__(self):
        self._ranges()

    def _ranges(self) -> list[tuple[float, float]]:
        ranges = []
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            low, high = check_range(value, name)
            if not isinstance(value, (tuple, list)):
                low, high = max(0.0, 1 - high), 1 + high
            if low < 0:
                raise ValueError(f"{name} must be a range of factors of at least 0, got {value!r}")
            ranges.append((low, high))
        low, high = check_range(self.hue, "hue")
        if low < -0.5 or high > 0.5:
            raise ValueError(f"hue must lie within -0.5 ... 0.5 (turns of the colour circle), got {self.hue!r}")
        return [*ranges, (low, high)]

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        rng = random.generator() if rng is None else rng
        x = _unit(images, "ColorJitter")
        ranges = self._ranges()
        order = rng.permuted(np.tile(np.arange(len(ranges)), (len(x), 1)), axis=1)
        amounts = [rng.uniform(*r, len(x)).astype(x.dtype)[:, None, None, None] for r in ranges]
        for step in order.T:  # the images whose step is the same one are changed at once
            for k, change in enumerate(STEPS):
                chosen = np.flatnonzero(step == k)
                if ranges[k] != UNCHANGED[k] and len(chosen):
                    x[chosen] = change(x[chosen], amounts[k][chosen])
        return _restored(x, images.dtype)


def _brightness(x: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return _blend(x, np.zeros_like(factor), factor)


def _contrast(x: np.ndarray, factor: np.ndarray) -> np.ndarray:
    grey = _grey(x)
    return _blend(x, grey.reshape(len(x), -1).mean(1, dtype=np.float64).astype(x.dtype)[:, None, None, None], factor)


def _saturation(x: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return _blend(x, _grey(x), factor) if x.shape[3] == 3 else x


def _hue(x: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Turn the hue, keeping the other two coordinates of the hue-saturation-value cone."""
    if x.shape[3] == 1:
        return x
    red, green, blue = np.moveaxis(x, 3, 0)
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    divisor = np.where(chroma > 0, chroma, 1)  # greys have no hue: any will do, since chroma multiplies it below
    from_red, from_green, from_blue = (green - blue) / divisor, (blue - red) / divisor + 2, (red - green) / divisor + 4
    hue = np.where(value == red, from_red, np.where(value == green, from_green, from_blue))  # in sixths of the circle
    hue += 6 * turn[..., 0]
    y = np.empty_like(x)
    for channel, start in enumerate((5, 3, 1)):  # each colour is full for two sixths, and rises and falls within one
        k = (hue + start) % 6
        y[..., channel] = value - chroma * np.clip(np.minimum(k, 4 - k), 0, 1)
    return y


STEPS: tuple[Callable, ...] = (_brightness, _contrast, _saturation, _hue)
UNCHANGED = ((1, 1), (1, 1), (1, 1), (0, 0))  # ranges under which a step does nothing


def _grey(x: np.ndarray) -> np.ndarray:
    """The brightness of each pixel (N, H, W, 1)."""
    if x.shape[3] == 1:
        return x
    return x[..., :1] * GREY[0] + x[..., 1:2] * GREY[1] + x[..., 2:] * GREY[2]


def _blend(x: np.ndarray, other: np.ndarray, factor: np.ndarray) -> np.ndarray:
    y = x * factor
    y += other * (1 - factor)
    return np.clip(y, 0, 1, out=y)


# ---- PCALighting ------------------------------------------------------------------------------------------------------

# Principal components of the colours of ImageNet, red, green, blue, for values 0 ... 1. The numbers that every
# implementation uses, from fb.resnet.torch; each column of the vectors belongs to one value.
IMAGENET_EIGENVALUES = (0.2175, 0.0188, 0.0045)
IMAGENET_EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


@dataclass(frozen=True)
class PCALighting:
    """Add to all pixels of an image one random colour along the principal components of natural colours.

    Krizhevsky et al. 2012, section 4.1: to (red, green, blue) is added ``eigenvectors @ (a * eigenvalues)``, where the
    three numbers a are normal with mean 0 and standard deviation ``std``, drawn anew for each image. uint8 images are
    rounded and cut off at 0 and 255; float images are not cut off, so they may leave 0 ... 1 a little:
    let it come after ColorJitter.

    ``eigenvalues`` (3 numbers) and ``eigenvectors`` (3 x 3, one column for each value) are for pixel values 0 ... 1.
    """

    std: float = 0.1
    eigenvalues: tuple[float, ...] = IMAGENET_EIGENVALUES
    eigenvectors: tuple[tuple[float, ...], ...] = IMAGENET_EIGENVECTORS

    def __post_init__(self):
        if not isinstance(self.std, (int, float)) or isinstance(self.std, bool) or not 0 <= self.std < math.inf:
            raise ValueError(f"std must be a number of at least 0, got {self.std!r}")
        for name, shape in (("eigenvalues", (3,)), ("eigenvectors", (3, 3))):
            values = np.asarray(getattr(self, name), np.float64)
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(f"{name} must be finite numbers of shape {shape}, got {getattr(self, name)!r}")

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        rng = random.generator() if rng is None else rng
        x = _unit(images, "PCALighting", channels=(3,))
        amounts = self.std * rng.standard_normal((len(x), 3)) * np.asarray(self.eigenvalues)
        colours = sum(amounts[:, k, None] * np.asarray(self.eigenvectors)[:, k] for k in range(3))  # (N, 3)
        x += colours.astype(x.dtype)[:, None, None]
        return _restored(x, images.dtype)


# ---- pixel values -----------------------------------------------------------------------------------------------------


def _unit(images: np.ndarray, name: str, channels: tuple[int, ...] = (1, 3)) -> np.ndarray:
    """A new array (N, H, W, C) of values 0 ... 1, float32 or float64; raises ValueError on other channels or values."""
    x = nhwc(check_images(images))
    if x.shape[3] not in channels:
        raise ValueError(f"{name} takes images of {' or '.join(map(str, channels))} channels, got {x.shape[3]}")
    if x.dtype == np.uint8:
        return np.divide(x, np.float32(255), dtype=np.float32)
    if x.size and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(
            f"{name} takes uint8 images, or float images with values 0 ... 1, got {x.min():g} ... {x.max():g}:"
            " let it come before Normalize"
        )
    return x.astype(np.float64 if x.dtype == np.float64 else np.float32)


def _restored(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """(N, H, W, C) of values about 0 ... 1 as images (N, C, H, W) of ``dtype``."""
    if dtype == np.uint8:
        x *= 255
        x = np.clip(np.rint(x, out=x), 0, 255, out=x)
    return x.astype(dtype, copy=False).transpose(0, 3, 1, 2)
