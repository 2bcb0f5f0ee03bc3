"""Elastic deformations of images and masks, and the pixel weights of U-Net's loss.

Both deformations draw a smooth random field of displacements for each image, and let every output pixel show the point
of the image that lies that far from it. Beyond its borders an image continues mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minigrad import random
from minigrad.data.checks import check_images
from minigrad.data.crops import cubic
from minigrad.kernels.layout import nhwc

__all__ = ["ElasticDeformation", "GridDeformation", "border_weights", "deform", "deform_masks"]


# ---- the two random fields --------------------------------------------------------------------------------------------


class _Deformation:
    """What the two share: images alone, or images with their masks."""

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        n, _, height, width = check_images(images).shape
        return deform(images, self.field(n, height, width, rng))

    def with_masks(
        self, images: np.ndarray, masks: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, C, H, W) and masks (N, H, W) under the same deformations; the masks as ``deform_masks`` does it."""
        n, _, height, width = check_images(images).shape
        _check_masks(masks, (n, height, width))
        field = self.field(n, height, width, rng)
        return deform(images, field), deform_masks(masks, field)

    def field(self, n: int, height: int, width: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Displacements (down, to the right) in pixels: (n, 2, height, width)."""
        raise NotImplementedError(f"{type(self).__name__} must define field")


@dataclass(frozen=True)
class ElasticDeformation(_Deformation):
    """Displacements that are smoothed noise: uniform in -1 ... 1, filtered by a Gaussian, times ``alpha`` (Simard et al. 2003).

    ``alpha``  strength; the displacements' standard deviation is about 0.163 * alpha / sigma pixels
    ``sigma``  standard deviation of the Gaussian in pixels, above 0: how far the displacements hold together

    The paper's values for MNIST are sigma = 4 and alpha = 34, the defaults.
    """

    alpha: float = 34.0
    sigma: float = 4.0

    def __post_init__(self):
        _check_number(self.alpha, "alpha", 0)
        _check_number(self.sigma, "sigma", 0, exclusive=True)

    def field(self, n: int, height: int, width: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Displacements (down, to the right) in pixels: float32 (n, 2, height, width)."""
        rng = random.generator() if rng is None else rng
        reach = max(1, math.ceil(4 * self.sigma))
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / self.sigma) ** 2)
        weights /= weights.sum()
        shape = (n, 2, height + 2 * reach, width + 2 * reach)  # wider, so that the border is as random as the middle
        noise = 2 * rng.random(shape, np.float32) - 1
        return _filtered(_filtered(noise, weights, 2), self.alpha * weights, 3)


def _filtered(x: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """``x`` filtered along an axis, without its borders: len(weights) - 1 shorter."""
    size = x.shape[axis] - len(weights) + 1
    windows = [x[(slice(None),) * axis + (slice(k, k + size),)] for k in range(len(weights))]
    y, part = np.zeros_like(windows[0]), np.empty_like(windows[0])
    for window, weight in zip(windows, weights.tolist(), strict=True):
        y += np.multiply(window, weight, out=part)
    return y


@dataclass(frozen=True)
class GridDeformation(_Deformation):
    """Displacements that are normal at the points of a coarse grid, and bicubic between them (Ronneberger et al. 2015, U-Net).

    ``std``     standard deviation of the displacements at the points, in pixels: the paper's 10 is for images of 512 x 512
    ``points``  points of the grid along height and width, at least 2; the outer ones lie on the border pixels

    The interpolation is ``torch.nn.functional.interpolate(grid, mode="bicubic", align_corners=True)``.
    """

    std: float = 10.0
    points: int = 3

    def __post_init__(self):
        _check_number(self.std, "std", 0)
        if not isinstance(self.points, (int, np.integer)) or isinstance(self.points, bool) or self.points < 2:
            raise ValueError(f"points must be an integer of at least 2, got {self.points!r}")

    def field(self, n: int, height: int, width: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Displacements (down, to the right) in pixels: float64 (n, 2, height, width)."""
        rng = random.generator() if rng is None else rng
        return _bicubic(self.std * rng.standard_normal((n, 2, self.points, self.points)), height, width)


def _bicubic(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """(..., k, k) values at the points of a grid, interpolated to (..., height, width)."""
    rows, columns = (_cubic_weights(grid.shape[-1], size) for size in (height, width))
    between = sum(rows[:, i, None] * grid[..., i, None, :] for i in range(grid.shape[-1]))  # (..., height, k)
    return sum(between[..., j, None] * columns[:, j] for j in range(grid.shape[-1]))


def _cubic_weights(points: int, size: int) -> np.ndarray:
    """The share of each point in each of ``size`` pixels (size, points); beyond the ends the end points are repeated."""
    place = np.arange(size) * ((points - 1) / max(size - 1, 1))
    weights = np.zeros((size, points))
    first = np.floor(place).astype(np.int64) - 1
    for k in range(4):
        weights[np.arange(size), np.clip(first + k, 0, points - 1)] += cubic(first + k - place, -0.75)
    return weights


# ---- moving pixels ----------------------------------------------------------------------------------------------------


def deform(images: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) whose pixel (i, j) shows the point (i + field[n, 0, i, j], j + field[n, 1, i, j]); bilinear.

    ``field`` (N, 2, H, W) in pixels. Shape and dtype stay. Points outside lie in mirror images, which do not repeat the border.
    """
    x = nhwc(check_images(images))
    n, height, width, c = x.shape
    sy, sx = _sources(field, (n, height, width))
    top, left = np.floor(sy).astype(np.int64), np.floor(sx).astype(np.int64)
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    fy, fx = (sy - top).astype(dtype), (sx - left).astype(dtype)
    down, right = (top + 1 < height) * width, left + 1 < width  # where there is no next pixel its weight is 0
    first = (np.arange(n)[:, None, None] * height + top) * width + left
    y = np.empty(x.shape, x.dtype)
    for channel in range(c):
        plane = x[..., channel].ravel()
        upper = plane[first] * (1 - fx) + plane[first + right] * fx
        lower = plane[first + down] * (1 - fx) + plane[first + down + right] * fx
        mixed = upper * (1 - fy) + lower * fy
        y[..., channel] = np.rint(mixed) if x.dtype == np.uint8 else mixed
    return y.transpose(0, 3, 1, 2)


def deform_masks(masks: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Masks (N, H, W) of any dtype under the same map as ``deform``, by the nearest pixel: only values that occur in a mask."""
    _check_masks(masks)
    sy, sx = (np.rint(s).astype(np.int64) for s in _sources(field, masks.shape))
    return masks[np.arange(len(masks))[:, None, None], sy, sx]


def _check_masks(masks: np.ndarray, shape: tuple[int, ...] | None = None) -> None:
    if not isinstance(masks, np.ndarray):
        raise TypeError(f"masks must be a NumPy array (N, H, W), got {type(masks).__name__}")
    if masks.ndim != 3 or shape not in (None, masks.shape):
        expected = "(N, H, W)" if shape is None else f"{shape}, as the images have"
        raise ValueError(f"masks must have the shape {expected}, got {masks.shape}")


def _sources(field: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The row and the column that each pixel shows, within the image: two arrays (N, H, W)."""
    n, height, width = shape
    field = np.asarray(field, np.float64)
    if field.shape != (n, 2, height, width):
        raise ValueError(f"field must have the shape (N, 2, H, W) = {(n, 2, height, width)}, got {field.shape}")
    if not np.isfinite(field).all():
        raise ValueError("field has displacements that are NaN or infinite")
    rows, columns = np.arange(height)[:, None] + field[:, 0], np.arange(width) + field[:, 1]
    return _mirrored(rows, height), _mirrored(columns, width)


def _mirrored(place: np.ndarray, size: int) -> np.ndarray:
    """Coordinates brought back to 0 ... size - 1 by reflection at the two border pixels."""
    period = max(2 * (size - 1), 1)
    place = abs(place) % period
    return np.minimum(place, period - place) if size > 1 else np.zeros_like(place)


# ---- U-Net's weights --------------------------------------------------------------------------------------------------


def border_weights(
    mask: np.ndarray, w0: float = 10.0, sigma: float = 5.0, class_weights: tuple[float, float] | None = None
) -> np.ndarray:
    """The weight of each pixel in U-Net's loss: ``w_c + w0 * exp(-(d1 + d2)^2 / (2 sigma^2))``, float32 in the mask's shape.

    ``mask``           integers (H, W) or (N, H, W): 0 is background, each cell (instance) has a number of its own
    ``w0, sigma``      height and width (in pixels) of the ridges between cells
    ``class_weights``  w_c of background and of cells; None balances them in each image: pixels / (2 * pixels of that class)

    d1 and d2 are the distances to the nearest and to the second nearest cell, between centres of pixels and exact; within a
    cell d1 is 0. With fewer than two cells the second term is 0. (Ronneberger et al. 2015, equation 2; it holds for all
    pixels, so a cell's pixels beside another cell weigh more, too.) The number of cells does not matter for the time.
    """
    mask = np.asarray(mask)
    if mask.dtype.kind not in "iu" or mask.ndim not in (2, 3):
        raise ValueError(
            f"mask must be integers (H, W) or (N, H, W), one number for each cell and 0 for background,"
            f" got {mask.dtype} of shape {mask.shape}"
        )
    if mask.size and mask.min() < 0:
        raise ValueError(f"mask must not have negative numbers, got {mask.min()}")
    _check_number(w0, "w0", 0)
    _check_number(sigma, "sigma", 0, exclusive=True)
    if mask.ndim == 3:
        maps = [border_weights(m, w0, sigma, class_weights) for m in mask]
        return np.stack(maps) if maps else np.zeros(mask.shape, np.float32)
    background, cells = _class_weights(mask > 0, class_weights)
    # Beyond 10 sigma the exponential is below exp(-50), far less than float32 can add to w_c.
    d1, d2 = (np.sqrt(square) for square in _two_nearest(mask.astype(np.int64), math.ceil(10 * sigma)))
    ridge = np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    return (np.where(mask > 0, cells, background) + w0 * ridge).astype(np.float32)


def _class_weights(is_cell: np.ndarray, given: tuple[float, float] | None) -> tuple[float, float]:
    if given is not None:
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise ValueError(f"class_weights must be two numbers (background, cells) of at least 0, got {given!r}")
        for value in given:
            _check_number(value, "class_weights", 0)
        return given[0], given[1]
    count = int(is_cell.sum())
    if count in (0, is_cell.size):
        return 1.0, 1.0
    return is_cell.size / (2 * (is_cell.size - count)), is_cell.size / (2 * count)


def _two_nearest(mask: np.ndarray, reach: int) -> list[np.ndarray]:
    """Squared distances to the nearest two cells (H, W), float64; infinite where there are fewer within ``reach``.

    First along each row, then along the columns. The nearest two of each row are enough: if two other cells are nearer in a row,
    they are nearer at every height.
    """
    height, width = mask.shape
    squares = [np.full(mask.shape, np.inf), np.full(mask.shape, np.inf)]
    cells = [np.zeros_like(mask), np.zeros_like(mask)]  # which two; 0 is none
    if len(np.unique(mask[mask > 0])) < 2:
        return squares
    for distance in range(min(width, reach + 1)):
        for here, there in _shifts(distance, width):
            found = mask[:, there]
            _insert(squares, cells, (slice(None), here), np.where(found > 0, float(distance**2), np.inf), found)
    rows, row_cells = [s.copy() for s in squares], [c.copy() for c in cells]
    for distance in range(1, min(height, reach + 1)):
        for here, there in _shifts(distance, height):
            for square, found in zip(rows, row_cells, strict=True):
                _insert(squares, cells, (here,), square[there] + distance**2, found[there])
    return squares


def _shifts(distance: int, size: int) -> list[tuple[slice, slice]]:
    """Where pixels have a neighbour at ``distance`` along an axis, and where that lies, in both directions."""
    low, high = slice(0, size - distance), slice(distance, size)
    return [(low, high), (high, low)] if distance else [(low, high)]


def _insert(squares: list[np.ndarray], cells: list[np.ndarray], where: tuple, square: np.ndarray, cell: np.ndarray) -> None:
    """Put a cell at the squared distance ``square`` into the sorted pairs of nearest cells, each of which is another cell."""
    (s1, s2), (c1, c2) = ((a[where] for a in arrays) for arrays in (squares, cells))  # views
    better = np.nonzero((square < s2) & ((cell != c1) | (square < s1)))
    new, new_cell, old, old_cell = square[better], cell[better], s1[better], c1[better]
    first = new < old
    moved = first & (new_cell != old_cell)  # the old first one becomes the second, unless it is the same cell
    s2[better] = np.where(moved, old, np.where(first, s2[better], new))
    c2[better] = np.where(moved, old_cell, np.where(first, c2[better], new_cell))
    s1[better], c1[better] = np.where(first, new, old), np.where(first, new_cell, old_cell)


def _check_number(value: float, name: str, minimum: float, exclusive: bool = False) -> None:
    good = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < minimum or (exclusive and value == minimum):
        raise ValueError(f"{name} must be a number {'above' if exclusive else 'of at least'} {minimum}, got {value!r}")
