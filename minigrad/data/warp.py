"""Random rotations and affine maps of images, bilinear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minigrad import random
from minigrad.data.checks import check_fill, check_images, check_range, filled
from minigrad.kernels.layout import nhwc

__all__ = ["RandomAffine", "RandomRotation", "warp"]


@dataclass(frozen=True)
class RandomAffine:
    """Rotate, shift, scale and shear each image at random about its centre.

    ``degrees``    range of the rotation in degrees, clockwise; one number d means (-d, d)
    ``translate``  largest shift as shares of (width, height), e.g. (0.1, 0.1); None: no shift
    ``scale``      range of the magnification, e.g. (0.9, 1.1); None: 1
    ``shear``      range of the shear along x in degrees; one number s means (-s, s); None: no shear
    ``fill``       what comes in from outside: one value, or one per channel

    The order and the directions are torchvision's: shear first, then rotation and scale, then the shift.
    """

    degrees: float | tuple[float, float]
    translate: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    shear: float | tuple[float, float] | None = None
    fill: float | tuple = 0

    def __post_init__(self):
        check_range(self.degrees, "degrees")
        if self.shear is not None and not all(-90 < s < 90 for s in check_range(self.shear, "shear")):
            raise ValueError(f"shear must lie within -90 ... 90 degrees (exclusive), got {self.shear!r}")
        if self.translate is not None and (len(self.translate) != 2 or not all(0 <= t <= 1 for t in self.translate)):
            raise ValueError(f"translate must be two shares within 0 ... 1 (of width and height), got {self.translate!r}")
        if self.scale is not None and (len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]):
            raise ValueError(f"scale must be (lowest, highest), both above 0, got {self.scale!r}")
        check_fill(self.fill)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        rng = random.generator() if rng is None else rng
        n, _, height, width = check_images(images).shape
        angle = np.deg2rad(rng.uniform(*check_range(self.degrees, "degrees"), n))
        shift = np.zeros((n, 2))
        if self.translate is not None:
            largest = np.array([self.translate[0] * width, self.translate[1] * height])
            shift = np.rint(rng.uniform(-1, 1, (n, 2)) * largest)  # whole pixels, as in torchvision
        scale = rng.uniform(*self.scale, n) if self.scale is not None else np.ones(n)
        shear = np.deg2rad(rng.uniform(*check_range(self.shear, "shear"), n)) if self.shear is not None else np.zeros(n)
        return warp(images, _matrices(angle, scale, shear), shift, self.fill)


@dataclass(frozen=True)
class RandomRotation:
    """Rotate each image at random about its centre.

    ``degrees``: range of the angle in degrees, counter-clockwise (as in torchvision); one number d means (-d, d).
    ``fill``: what comes in from outside: one value, or one per channel.
    """

    degrees: float | tuple[float, float]
    fill: float | tuple = 0

    def __post_init__(self):
        check_range(self.degrees, "degrees")
        check_fill(self.fill)

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        rng = random.generator() if rng is None else rng
        n = len(check_images(images))
        angle = -np.deg2rad(rng.uniform(*check_range(self.degrees, "degrees"), n))
        return warp(images, _matrices(angle, np.ones(n), np.zeros(n)), np.zeros((n, 2)), self.fill)


def _matrices(angle: np.ndarray, scale: np.ndarray, shear: np.ndarray) -> np.ndarray:
    """scale * rotation * shear along x, for coordinates (x to the right, y downwards): (N, 2, 2). Angles in radians."""
    cos, sin, tan = np.cos(angle), np.sin(angle), np.tan(shear)
    rows = [[cos, -cos * tan - sin], [sin, -sin * tan + cos]]
    return (scale * np.array(rows)).transpose(2, 0, 1)


def warp(images: np.ndarray, matrix: np.ndarray, shift: np.ndarray, fill: float | tuple = 0) -> np.ndarray:
    """Move every image: its point p (x, y from the centre, in pixels) goes to ``matrix @ p + shift``; bilinear.

    ``images`` (N, C, H, W), ``matrix`` (N, 2, 2) invertible, ``shift`` (N, 2); the result has the shape and dtype of the
    images. Each output pixel looks up where it came from and mixes the four pixels around that point; outside the image
    lies ``fill``.
    """
    x = nhwc(check_images(images))
    n, height, width, c = x.shape
    framed = filled((n, height + 2, width + 2, c), fill, x.dtype)  # one pixel of fill stands for all that lies outside
    framed[:, 1:-1, 1:-1] = x

    sx, sy = _sources(matrix, shift, height, width)  # (N, H, W)
    sx, sy = np.clip(sx + 1, 0, width + 1), np.clip(sy + 1, 0, height + 1)  # coordinates in the framed image
    left, top = np.minimum(sx.astype(np.int64), width), np.minimum(sy.astype(np.int64), height)
    fx, fy = (sx - left).astype(np.float32), (sy - top).astype(np.float32)
    first = (np.arange(n)[:, None, None] * (height + 2) + top) * (width + 2) + left  # the upper left of the four pixels

    y = np.empty(x.shape, x.dtype)
    for channel in range(c):
        plane = framed[..., channel].ravel()
        upper = plane[first] * (1 - fx) + plane[first + 1] * fx
        lower = plane[first + width + 2] * (1 - fx) + plane[first + width + 3] * fx
        mixed = upper * (1 - fy) + lower * fy
        y[..., channel] = np.rint(mixed) if x.dtype == np.uint8 else mixed
    return y.transpose(0, 3, 1, 2)


def _sources(matrix: np.ndarray, shift: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The point (x, y) of the input, in pixels, that each output pixel shows: two arrays (N, H, W)."""
    (a, b), (c, d) = matrix.transpose(1, 2, 0)[..., None, None]
    determinant = a * d - b * c
    cx, cy = (width - 1) / 2, (height - 1) / 2
    dx = np.arange(width) - cx - shift[:, 0, None, None]  # (N, 1, W)
    dy = (np.arange(height) - cy)[:, None] - shift[:, 1, None, None]  # (N, H, 1)
    return (d * dx - b * dy) / determinant + cx, (a * dy - c * dx) / determinant + cy
