"""Cells: drawn pictures of touching cells under a microscope, with exactly known masks. Needs no download."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minigrad.data.crops import Resize
from minigrad.data.segmentation import SegmentationDataset

__all__ = ["Cells"]

SEED = 20150518  # the day on which the U-Net paper appeared
COUNTS = (60, 20)  # training and test images
SMALLEST = 48  # pixels: below it cells are too small to have a rim
REACH = 1.8  # no cell reaches further from its centre than this times its radius


class Cells(SegmentationDataset):
    """Drawn grey images of 8 to 16 cells each, many of which touch, in the spirit of the HeLa cells of the U-Net paper.

    A ``SegmentationDataset`` with ``instances=True``: sample i is (uint8 (1, size, size), int64 (size, size)); in the mask 0 is
    background, and the cells are 1, 2, ... without gaps, each in one piece. Cells touch but do not overlap.

    ``train``      the 60 training images, or the 20 test images; always the same ones
    ``size``       height and width in pixels, at least 48. Cells grow with it; blur and noise stay as they are
    ``transform``  see ``SegmentationDataset``

    Cells are ellipses with wavy outlines, lit from one side as in differential interference contrast, with a brighter rim, a
    darker nucleus, grains, and a thin dark seam where two touch; light is uneven, and blur and noise come last: no threshold
    separates cells from background. The drawing uses only raw random bits, + - * / and square roots, whose results do not
    depend on the machine.

    Raises TypeError or ValueError for a size that is no integer of at least 48.
    """

    def __init__(self, train: bool = True, size: int = 132, *, transform: Callable | None = None):
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool):
            raise TypeError(f"size must be an integer of at least {SMALLEST}, got {size!r}")
        if size < SMALLEST:
            raise ValueError(f"size must be at least {SMALLEST} pixels, got {size}: smaller cells would have no inside")
        numbers = range(COUNTS[0]) if train else range(COUNTS[0], sum(COUNTS))
        images, masks = _draw([_Draws(SEED, k) for k in numbers], int(size))
        mean, std = (0.4664,), (0.1399,)  # of the training images of 132 x 132
        super().__init__(images, masks, instances=True, name="cells", mean=mean, std=std, transform=transform)
        self.train = train


class _Draws:
    """Uniform random numbers from raw bits, whose stream NumPy promises to keep (that of its Generators it does not)."""

    def __init__(self, seed: int, stream: int):
        self.bits = np.random.Philox(key=np.array([seed, stream], np.uint64))
        self.ready: list[float] = []

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        return low + (high - low) * ((self.bits.random_raw(shape) >> np.uint64(11)) * 2.0**-53)

    def number(self, low: float, high: float) -> float:
        if not self.ready:
            self.ready = self.uniform(0, 1, 256).tolist()  # one by one would be slow
        return low + (high - low) * self.ready.pop()

    def direction(self) -> tuple[float, float]:
        """A vector of length 1; sines and cosines could differ between machines."""
        while True:
            y, x = self.number(-1, 1), self.number(-1, 1)
            if 0.01 < y * y + x * x <= 1:
                length = math.sqrt(y * y + x * x)
                return y / length, x / length


# ---- where the cells are ----------------------------------------------------------------------------------------------


def _layout(draws: _Draws, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mask uint8 (size, size); how far each of its pixels is from its cell's centre, 0 ... 1 at the outline; tones of cells.

    Both of the latter are float64 (size, size), and 1 and 0 in the background.
    """
    mask, level, tone = np.zeros((size, size), np.uint8), np.ones((size, size)), np.zeros((size, size))
    wanted, placed = int(draws.number(8, 17)), []
    for _ in range(400):  # a cell that does not fit is tried elsewhere
        radius = size * draws.number(0.092, 0.14)
        y, x = _place(draws, placed, radius, size)
        if any((y - b) ** 2 + (x - a) ** 2 < (0.78 * (radius + r)) ** 2 for b, a, r in placed):
            continue
        part, distance = _cell(draws, y, x, radius, size)
        visible = _visible(mask[part] == 0, distance)
        if visible is None:
            continue
        placed.append((y, x, radius))
        mask[part][visible] = len(placed)
        level[part][visible] = distance[visible]
        tone[part][visible] = draws.number(-1, 1)
        if len(placed) == wanted:
            break
    return mask, level, tone


def _place(draws: _Draws, placed: list[tuple[float, float, float]], radius: float, size: int) -> tuple[float, float]:
    """The centre of the next cell: mostly beside one that is there."""
    y, x = (size * draws.number(0.02, 0.98) for _ in range(2))
    if placed and draws.number(0, 1) < 0.8:
        other_y, other_x, other = placed[int(draws.number(0, len(placed)))]
        dy, dx = draws.direction()
        distance = (radius + other) * draws.number(0.86, 1.02)
        beside = other_y + dy * distance, other_x + dx * distance
        if all(0.02 * size < c < 0.98 * size for c in beside):
            return beside
    return y, x


def _cell(draws: _Draws, y: float, x: float, radius: float, size: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """A window of the image around the cell, and the distance of its pixels from the centre, 1 at the cell's outline."""
    reach = REACH * radius
    part = tuple(slice(max(0, int(c - reach)), min(size, int(c + reach) + 2)) for c in (y, x))
    rows, columns = (np.arange(p.start, p.stop) - c for p, c in zip(part, (y, x), strict=True))
    sin, cos = draws.direction()
    stretch = draws.number(1.0, 1.25)
    u = (cos * columns + sin * rows[:, None]) / (radius * stretch)
    v = (cos * rows[:, None] - sin * columns) / (radius / stretch)
    length = np.maximum(np.sqrt(u * u + v * v), 1e-9)
    c1, s1 = u / length, v / length
    c, s, outline = c1, s1, np.ones_like(length)
    for k in range(2, 6):  # c and s: cosine and sine of k times the angle
        c, s = c * c1 - s * s1, s * c1 + c * s1
        outline = outline + draws.number(-0.2, 0.2) / k * c + draws.number(-0.2, 0.2) / k * s
    return part, length / outline


def _visible(free: np.ndarray, distance: np.ndarray) -> np.ndarray | None:
    """The free pixels of a cell that hang together with its middle; None if too much of it is hidden by other cells."""
    inside, hidden = distance < 1, ~free
    allowed = inside & free
    for core in (0.9, 0.5):  # from the larger one it is not far to the outline
        found = distance < core
        if not (found & hidden).any():
            break
    else:
        return None
    count = np.count_nonzero(found)
    while True:
        grown = found.copy()
        grown[1:] |= found[:-1]
        grown[:-1] |= found[1:]
        grown[:, 1:] |= found[:, :-1]
        grown[:, :-1] |= found[:, 1:]
        grown &= allowed
        found, before, count = grown, count, np.count_nonzero(grown)
        if count == before:
            return found if count > 0.75 * np.count_nonzero(inside) else None


# ---- what they look like ----------------------------------------------------------------------------------------------


def _draw(draws: list[_Draws], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 1, size, size) and masks uint8 (n, size, size), one for each source of random numbers."""
    masks, level, tone = (np.stack(maps) for maps in zip(*(_layout(d, size) for d in draws), strict=True))
    n, inside = len(draws), masks > 0
    light, grains, rough = (_smooth([d.uniform(-1, 1, points, points) for d in draws], size) for points in (4, 44, 16))
    centre = 1 - level  # 0 at the outline
    rim = np.maximum(1 - abs(level - 0.9) / 0.12, 0) * inside
    nucleus = np.clip((0.5 - level) / 0.12, 0, 1)
    height = np.sqrt(np.clip(centre * 2.2, 0, 1)) * inside + 0.12 * grains * inside + 0.08 * rough
    x = 0.46 + 0.05 * rough + (0.02 + 0.07 * tone + 0.06 * grains * (1 - 0.7 * nucleus)) * inside
    x = x + 0.09 * rim - 0.07 * nucleus - 0.1 * _seams(masks)
    x = x + 0.5 * _relief(height)
    x = _blurred(x, 2) * (1 + 0.3 * light) + 0.06 * light
    noise = sum(np.stack([d.uniform(-1, 1, size, size) for d in draws]) for _ in range(3))  # nearly normal, variance 1
    x = x + 0.035 * noise
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8).reshape(n, 1, size, size), masks


def _seams(masks: np.ndarray) -> np.ndarray:
    """Where a cell's pixel lies above or left of one of another cell: bool (n, H, W)."""
    seams = np.zeros(masks.shape, np.bool_)
    seams[:, :-1] |= (masks[:, :-1] != masks[:, 1:]) & (masks[:, :-1] > 0) & (masks[:, 1:] > 0)
    seams[:, :, :-1] |= (masks[:, :, :-1] != masks[:, :, 1:]) & (masks[:, :, :-1] > 0) & (masks[:, :, 1:] > 0)
    return seams


def _smooth(grids: list[np.ndarray], size: int) -> np.ndarray:
    """Coarse random numbers (k, k), drawn smooth over each image: float64 (n, size, size)."""
    return Resize((size, size), "bicubic")(np.stack(grids)[:, None])[:, 0]


def _relief(height: np.ndarray) -> np.ndarray:
    """The slopes of a landscape (n, H, W) that is lit from the upper left."""
    padded = np.pad(height, ((0, 0), (1, 1), (1, 1)), "edge")
    return padded[:, 2:, 2:] - padded[:, :-2, :-2]


def _blurred(x: np.ndarray, times: int) -> np.ndarray:
    """Images (n, H, W) filtered by (1, 2, 1) / 4 in both directions, several times."""
    for _ in range(times):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), "edge")
        padded = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
        x = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    return x
