"""Images in folders, one folder for each class; decoded with Pillow when they are asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from minigrad import random
from minigrad.data.dataset import Dataset
from minigrad.data.files import DataError, MissingDataError
from minigrad.data.images import ImageDataset
from minigrad.kernels.geometry import pair

__all__ = ["ImageFolder"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
CHANNELS = {"RGB": 3, "L": 1}
LONG_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow would clip their values to 0 ... 255 without a word


class ImageFolder(Dataset):
    """Images under ``root/CLASS/...``, one sub-folder for each class; sample i is ``(uint8 (C, H, W), label)``.

    ``root``             the folder; its sub-folders in alphabetical order are the classes 0, 1, ...
    ``size``             height and width (one number or a pair): each image is resized (bilinear, antialiased) until it covers
                         this size, and its middle is cut out. None: all images must have the size of the first
    ``mode``             "RGB" (3 channels) or "L" (grey, 1 channel)
    ``transform``        see ``ImageDataset``
    ``skip_unreadable``  decode every image once now, and leave out those that cannot be decoded, with one warning that names
                         them; without it such an image raises a DataError that names it, when it is asked for

    Images are decoded at each access, in the loader's threads; ``load()`` decodes all of them into memory once.
    Raises MissingDataError if ``root`` is no folder, DataError if it holds no images; needs Pillow (``pip install pillow``).
    """

    def __init__(
        self,
        root: str | os.PathLike,
        size: int | tuple[int, int] | None = None,
        *,
        mode: str = "RGB",
        transform: Callable | None = None,
        skip_unreadable: bool = False,
    ):
        if mode not in CHANNELS:
            raise ValueError(f'mode must be "RGB" or "L" (grey), got {mode!r}')
        self.root, self.mode, self.transform, self.name = Path(root).expanduser(), mode, transform, "folder"
        self.resize = size is not None
        self.size = pair(size, "size", minimum=1) if self.resize else None
        import_pillow()
        self.classes, self.paths, labels = _scan(self.root)
        self.labels = np.array(labels, np.int64)
        if skip_unreadable:
            self._drop_unreadable()
        if self.size is None:
            self.size = self._decode(self.paths[0]).shape[1:]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image = self._decode(self.paths[index])
        if self.transform is not None:
            image = self.transform(image[None], random.generator())[0]
        return image, int(self.labels[index])

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The images and labels ``indices``, without the transform: uint8 (n, C, H, W), channels-last, and int64 (n,)."""
        images = np.empty((len(indices), *self.size, CHANNELS[self.mode]), np.uint8).transpose(0, 3, 1, 2)
        for image, index in zip(images, indices, strict=True):
            image[...] = self._decode(self.paths[index])
        return images, self.labels[np.asarray(indices)]

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
        return CHANNELS[self.mode], *self.size

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}

    def select(self, indices: Sequence[int]) -> ImageFolder:
        """A data set of the same kind with only the images ``indices``, and all the classes."""
        part = object.__new__(ImageFolder)
        part.__dict__.update(self.__dict__)
        part.paths, part.labels = [self.paths[int(i)] for i in indices], self.labels[np.asarray(indices)]
        return part

    def load(self) -> ImageDataset:
        """All images decoded into memory: an ImageDataset of len * C * H * W bytes."""
        images, labels = self.batch(range(len(self)))
        return ImageDataset(images, labels, self.classes, name=self.name, transform=self.transform)

    def __repr__(self) -> str:
        c, h, w = self.image_shape
        return f"ImageFolder({str(self.root)!r}, {len(self):,} images of {c} x {h} x {w}, {self.num_classes} classes)"

    def _drop_unreadable(self) -> None:
        problems = {}
        for path in self.paths:
            try:
                self._decode(path)
            except DataError as error:
                problems[path] = str(error)
        if len(problems) == len(self.paths):
            raise DataError(
                f"none of the {len(self.paths)} images under {self.root} can be used, e.g. {next(iter(problems.values()))}"
            )
        if problems:
            warnings.warn(f"left out {len(problems)} unreadable images: {'; '.join(problems.values())}", stacklevel=3)
            kept = [i for i, path in enumerate(self.paths) if path not in problems]
            self.paths, self.labels = [self.paths[i] for i in kept], self.labels[kept]

    def _decode(self, path: Path) -> np.ndarray:
        """One image as uint8 (C, H, W) of the right size; DataError that names the file if that is impossible."""
        pillow = import_pillow()
        try:
            with pillow.open(path) as image:
                if image.mode in LONG_MODES:
                    raise ValueError(f"it has more than 8 bits per pixel (mode {image.mode}), convert it first")
                decoded = image.convert(self.mode)
        except Exception as error:  # Pillow's decoders raise many kinds on damaged files
            raise DataError(f"{path} cannot be read as an image: {error}") from None
        width, height = decoded.size
        if self.resize and (height, width) != self.size:
            decoded = _cover(decoded, self.size, pillow)
        elif self.size is not None and (height, width) != self.size:
            expected = f"{self.size[0]} x {self.size[1]}"
            raise DataError(f"{path} has {height} x {width} pixels, the first image {expected}: pass size= to resize all of them")
        pixels = np.asarray(decoded)
        return pixels.reshape(*pixels.shape[:2], CHANNELS[self.mode]).transpose(2, 0, 1)


def import_pillow():
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("reading image folders needs Pillow: pip install pillow") from None
    return Image


def _scan(root: Path) -> tuple[tuple[str, ...], list[Path], list[int]]:
    """The classes, the image files and their labels, all in alphabetical order."""
    if not root.is_dir():
        raise MissingDataError(f"{root} is not a folder: ImageFolder needs one with a sub-folder of images for each class")
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = [
            Path(folder, file)
            for folder, _, names in os.walk(root / name)
            for file in names
            if file.lower().endswith(EXTENSIONS) and not file.startswith(".")
        ]
        if not found:
            raise DataError(f"{root / name} holds no images ({', '.join(EXTENSIONS)}): every sub-folder must be a class")
        paths += sorted(found)
        labels += [label] * len(found)
    if not classes:
        raise DataError(f"{root} has no sub-folders: ImageFolder needs one with images for each class")
    return tuple(classes), paths, labels


def _cover(image, size: tuple[int, int], pillow):
    """``image`` scaled, keeping its proportions, until it just covers ``size`` (height, width); then its middle."""
    height, width = size
    factor = max(width / image.width, height / image.height)
    w, h = max(width, round(image.width * factor)), max(height, round(image.height * factor))
    image = image.resize((w, h), pillow.Resampling.BILINEAR)
    left, top = (w - width) // 2, (h - height) // 2
    return image.crop((left, top, left + width, top + height))
