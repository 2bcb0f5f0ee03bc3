"""Images with masks: data sets in memory and from folders, and transforms of images and masks together.

A mask has a number for each pixel of its image: its class, or (``instances``) the number of the object that it belongs to.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minigrad import random
from minigrad.data.checks import check_images
from minigrad.data.crops import CenterCrop, RandomResizedCrop, Resize
from minigrad.data.dataset import Dataset
from minigrad.data.files import DataError, MissingDataError
from minigrad.data.folder import CHANNELS, EXTENSIONS, LONG_MODES, import_pillow
from minigrad.data.images import byte_images, per_channel
from minigrad.data.transforms import Compose, RandomAffine, RandomCrop, RandomHorizontalFlip, RandomRotation
from minigrad.kernels.geometry import pair
from minigrad.kernels.layout import channels_last, nhwc

__all__ = ["JointCompose", "MirrorPad", "RandomFlipsAndTurns", "SegmentationDataset", "SegmentationFolder"]

MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")  # whose pixels are whole numbers
MOVING = (RandomAffine, RandomCrop, RandomHorizontalFlip, RandomResizedCrop, RandomRotation)  # move pixels, know no masks


# ---- data sets --------------------------------------------------------------------------------------------------------


class SegmentationDataset(Dataset):
    """Images with masks in memory. Sample i is ``(image, mask)``: uint8 (C, H, W) with values 0 ... 255, and int64 (H, W).

    ``images``     uint8 (N, C, H, W), or (N, H, W) for one channel; kept channels-last in memory
    ``masks``      integers (N, H, W) of at least 0; kept in the smallest unsigned integers that hold them
    ``classes``    the names of the classes; None names them "0", "1", ... or, of instances, "background" and "cell"
    ``instances``  False: a mask holds the class of each pixel. True: 0 is background, and each object (cell) of an image has
                   a number of its own, 1, 2, ...; there are two classes
    ``name``       what the collection is called
    ``mean, std``  per channel, of pixel values scaled to 0 ... 1, for normalization; None where unknown
    ``transform``  a function ``(images, rng) -> images`` of a batch, which leaves the masks alone, or a joint one:
                   ``(images, masks, rng) -> (images, masks)``, see ``JointCompose``. A DataLoader applies it to whole batches;
                   ``dataset[i]`` to one image, with the framework's own random generator. TypeError for one that is known
                   to move the images alone
    """

    def __init__(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        classes: Sequence[str] | None = None,
        *,
        instances: bool = False,
        name: str = "images with masks",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        transform: Callable | None = None,
    ):
        images, masks = byte_images(images), np.asarray(masks)
        self.images, self.instances, self.name = channels_last(images), bool(instances), name
        self.classes = _class_names(classes, self.instances, masks)
        self.masks = _checked_masks(masks, images, None if self.instances else len(self.classes))
        self.mean, self.std = per_channel(mean, "mean", images.shape[1]), per_channel(std, "std", images.shape[1])
        if not getattr(transform, "joint", False):
            _check_alone(transform)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = self.images[index], self.masks[index].astype(np.int64)
        if getattr(self.transform, "joint", False):
            images, masks = self.transform(image[None], mask[None], random.generator())
            return images[0], masks[0]
        if self.transform is not None:
            image = self.transform(image[None], random.generator())[0]
        return image, mask

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The images and masks ``indices``, without the transform: uint8 (n, C, H, W), channels-last, and int64 (n, H, W)."""
        rows = np.asarray(indices)
        return nhwc(self.images)[rows].transpose(0, 3, 1, 2), self.masks[rows].astype(np.int64)

    def select(self, indices: Sequence[int]) -> SegmentationDataset:
        """A data set of the same kind with only the images ``indices``, and all the classes."""
        part, rows = copy.copy(self), np.asarray(indices)
        part.images, part.masks = nhwc(self.images)[rows].transpose(0, 3, 1, 2), self.masks[rows]
        return part

    @property
    def batch_transform(self) -> Callable | None:
        """The transform, which a DataLoader applies to whole batches."""
        return self.transform

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image, before any transform."""
        return self.images.shape[1:]

    def __repr__(self) -> str:
        c, h, w = self.image_shape
        kind = "masks of instances" if self.instances else f"masks of {self.num_classes} classes"
        return f"{type(self).__name__}({self.name!r}, {len(self):,} images of {c} x {h} x {w} with {kind})"


def _class_names(classes: Sequence[str] | None, instances: bool, masks: np.ndarray) -> tuple[str, ...]:
    if classes is not None:
        if instances and len(classes) != 2:
            raise ValueError(f"classes of instances must be two names, of background and of objects, got {classes!r}")
        return tuple(classes)
    if instances:
        return ("background", "cell")
    if not masks.size or masks.dtype.kind not in "iu":
        return ()
    highest = int(masks.max())
    if highest >= 1000:
        raise ValueError(f"masks hold classes up to {highest:,}: pass instances=True if they are numbers of objects, or classes=")
    return tuple(str(k) for k in range(highest + 1))


def _checked_masks(masks: np.ndarray, images: np.ndarray, num_classes: int | None) -> np.ndarray:
    """``masks`` in the smallest unsigned integers; raises unless they are whole numbers that fit the images and the classes."""
    expected = (len(images), *images.shape[2:])
    if masks.dtype.kind not in "iu" or masks.shape != expected:
        hint = ": use masks.astype(np.uint8)" if masks.dtype == np.bool_ else ""
        raise ValueError(f"masks must be integers (N, H, W) = {expected}, as the images, got {masks.dtype} {masks.shape}{hint}")
    if not masks.size:
        return masks.astype(np.uint8)
    low, high = int(masks.min()), int(masks.max())
    if low < 0 or high >= (2**32 if num_classes is None else num_classes):
        top = "2^32 - 1" if num_classes is None else f"{num_classes - 1} (there are {num_classes} classes)"
        raise ValueError(f"masks must hold numbers of at least 0 and at most {top}, got {low} ... {high}")
    return masks.astype(np.min_scalar_type(high))


class SegmentationFolder(SegmentationDataset):
    """Images ``root/images/NAME.png`` with masks ``root/masks/NAME.png``, a ``SegmentationDataset`` read into memory at once.

    ``root``       the folder; images and masks in alphabetical order, paired by their names without the ending
    ``size``       height and width (one number or a pair): each image is resized (bilinear, antialiased) until it covers this
                   size, and its middle is cut out; its mask likewise (nearest). None: all must have the size of the first
    ``mode``       "L" (grey, 1 channel) or "RGB" (3 channels), of the images
    ``instances``, ``classes``, ``transform``  see ``SegmentationDataset``; a folder without pixels of the last class needs
                   ``classes``

    Any ending that ``ImageFolder`` reads will do. Masks are grey, black and white, palette or 16-bit images, whose pixel values
    (a palette's indices) are the numbers, unchanged; but if there are only 0 and 255 in all masks, and no more than two
    classes, 255 stands for 1: the usual form of binary masks. ``names`` are the names without the ending.

    Raises MissingDataError if a folder is missing, DataError for images without masks and masks without images (naming them),
    and for files that cannot be used; needs Pillow (``pip install pillow``).
    """

    def __init__(
        self,
        root: str | os.PathLike,
        size: int | tuple[int, int] | None = None,
        *,
        mode: str = "L",
        instances: bool = False,
        classes: Sequence[str] | None = None,
        transform: Callable | None = None,
    ):
        if mode not in CHANNELS:
            raise ValueError(f'mode must be "L" (grey) or "RGB", got {mode!r}')
        size = None if size is None else pair(size, "size", minimum=1)
        import_pillow()
        self.root, self.mode = Path(root).expanduser(), mode
        pairs = _pairs(self.root)
        images, masks = [], []
        for paths in pairs.values():
            image, mask = _read_pair(*paths, mode, size, images[0].shape[1:] if images else None)
            images.append(image)
            masks.append(mask)
        images, masks = np.stack(images), np.stack(masks)
        if (classes is None or len(classes) <= 2) and masks.max() == 255 and ((masks == 0) | (masks == 255)).all():
            masks = masks // 255
        super().__init__(images, masks, classes, instances=instances, name="masks", transform=transform)
        self.names = list(pairs)

    def select(self, indices: Sequence[int]) -> SegmentationFolder:
        """A data set of the same kind with only the images ``indices``, and all the classes."""
        part = super().select(indices)
        part.names = [self.names[int(i)] for i in indices]
        return part


def _pairs(root: Path) -> dict[str, tuple[Path, Path]]:
    """Image and mask of each name, in alphabetical order."""
    images, masks = _by_name(root / "images"), _by_name(root / "masks")
    differences = ("images", "masks", images.keys() - masks.keys()), ("masks", "images", masks.keys() - images.keys())
    for folder, other, alone in differences:
        if alone:
            some = ", ".join(sorted(alone)[:5]) + (", ..." if len(alone) > 5 else "")
            raise DataError(f"{len(alone)} of the {folder} in {root} have no file of the same name in {other}: {some}")
    return {name: (images[name], masks[name]) for name in sorted(images)}


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise MissingDataError(f"{folder} is not a folder: SegmentationFolder needs one with the sub-folders images and masks")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.lower().endswith(EXTENSIONS) and not path.name.startswith("."):
            if path.stem in found:
                raise DataError(f"{folder} holds both {found[path.stem].name} and {path.name}: one name, one file")
            found[path.stem] = path
    if not found:
        raise DataError(f"{folder} holds no images ({', '.join(EXTENSIONS)})")
    return found


def _read_pair(
    image_path: Path, mask_path: Path, mode: str, size: tuple[int, int] | None, first: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 (C, H, W) and its mask (H, W) of the right size. ``first``: height and width of the first image."""
    image, mask = _decode(image_path, mode), _decode(mask_path, None)
    height, width = image.shape[1:]
    if mask.shape[1:] != (height, width):
        h, w = mask.shape[1:]
        raise DataError(f"{mask_path} has {h} x {w} pixels, its image {height} x {width}: they must have the same size")
    if size is not None:
        return _cover(image, size, "bilinear"), _cover(mask.astype(np.float64), size, "nearest")[0].astype(mask.dtype)
    if first not in (None, (height, width)):
        expected = f"{first[0]} x {first[1]}"
        raise DataError(
            f"{image_path} has {height} x {width} pixels, the first image {expected}: pass size= to resize all of them"
        )
    return image, mask[0]


def _decode(path: Path, mode: str | None) -> np.ndarray:
    """The pixels (C, H, W) of an image in ``mode``, or (None) of a mask, as they are; DataError that names the file."""
    try:
        with import_pillow().open(path) as image:
            if mode is None and image.mode not in MASK_MODES:
                raise ValueError(f"a mask must have one whole number per pixel (grey, palette or 16 bits), not mode {image.mode}")
            if mode is not None and image.mode in LONG_MODES:
                raise ValueError(f"it has more than 8 bits per pixel (mode {image.mode}), convert it first")
            pixels = np.asarray(image if mode is None else image.convert(mode))
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise DataError(f"{path} cannot be read as {'a mask' if mode is None else 'an image'}: {error}") from None
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


def _cover(pixels: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """(C, H, W) scaled, keeping its proportions, until it just covers ``size``; then its middle."""
    factor = max(new / old for new, old in zip(size, pixels.shape[1:], strict=True))
    scaled = tuple(max(new, round(old * factor)) for new, old in zip(size, pixels.shape[1:], strict=True))
    return CenterCrop(size)(Resize(scaled, interpolation)(pixels[None]))[0]


# ---- transforms of images and masks -----------------------------------------------------------------------------------


class JointCompose:
    """Apply several transforms to images (N, C, H, W) and their masks (N, H, W): ``(images, masks, rng) -> (images, masks)``.

    A step may be

    * a transform with ``with_masks`` (``ElasticDeformation``, ``GridDeformation``) or a joint one (``RandomFlipsAndTurns``,
      another ``JointCompose``), which moves both together,
    * ``MirrorPad``, which comes after those, because it makes the images larger than the masks,
    * or a transform of images that changes values but moves nothing (``Normalize``, ``ColorJitter``): the masks stay.

    Raises TypeError for transforms that would move the images alone (``RandomHorizontalFlip``, ``RandomCrop``, ...), and
    ValueError when a step changes the size of the images. ``rng``: a NumPy generator; None means the framework's own.
    """

    joint = True  # so a DataLoader gives it the masks, too

    def __init__(self, steps: Iterable[Callable]):
        self.steps = list(steps)
        for step in self.steps:
            if not callable(step):
                raise TypeError(f"JointCompose takes transforms of images, alone or with their masks, got {step!r}")
            if not _moves_both(step):
                _check_alone(step)

    def __call__(
        self, images: np.ndarray, masks: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        for step in self.steps:
            if getattr(step, "joint", False):
                images, masks = step(images, masks, rng)
            elif hasattr(step, "with_masks"):
                _check_pair(images, masks)
                images, masks = step.with_masks(images, masks, rng)
            else:
                images = _alone(step, images, rng)
        return images, masks

    def __repr__(self) -> str:
        return "\n".join(["JointCompose(", *(f"    {step!r}" for step in self.steps), ")"])


def _moves_both(step: Callable) -> bool:
    return getattr(step, "joint", False) or hasattr(step, "with_masks")


def _check_alone(step: Callable | None) -> None:
    """Raise TypeError for a transform that would move the images and leave their masks."""
    if isinstance(step, Compose):
        for part in step.transforms:
            _check_alone(part)
    if isinstance(step, MOVING):
        raise TypeError(f"{step!r} moves images without their masks: use RandomFlipsAndTurns or a deformation in JointCompose")
    if _moves_both(step):
        raise TypeError(f"{step!r} here would get the images without their masks: make it a step of JointCompose itself")


def _alone(step: Callable, images: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """The images after a step that leaves the masks alone; raises ValueError if it changes their number or size."""
    after = step(images, rng)
    places = (0,) if isinstance(step, MirrorPad) else (0, 2, 3)
    if any(after.shape[axis] != images.shape[axis] for axis in places):
        raise ValueError(
            f"{step!r} made images {after.shape} of {images.shape}, but their masks stay: a step of JointCompose must keep"
            " the number and the size of the images (MirrorPad alone may enlarge them)"
        )
    return after


def _check_pair(images: np.ndarray, masks: np.ndarray) -> None:
    """Raise unless the masks (N, H, W) fit the images."""
    check_images(images)
    if not isinstance(masks, np.ndarray):
        raise TypeError(f"masks must be a NumPy array (N, H, W), got {type(masks).__name__}")
    expected = (len(images), *images.shape[2:])
    if masks.shape != expected:
        raise ValueError(
            f"masks must have the shape (N, H, W) = {expected}, as the images have, got {masks.shape}"
            " (MirrorPad must come after the steps that move pixels)"
        )


@dataclass(frozen=True)
class RandomFlipsAndTurns:
    """Mirror and turn images and masks together, each image its own way: one of the 8 symmetries of a square, at random.

    Images that are not square are not turned by 90 degrees: one of the 4 symmetries of a rectangle.
    """

    joint = True

    def __call__(
        self, images: np.ndarray, masks: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        rng = random.generator() if rng is None else rng
        _check_pair(images, masks)
        x = nhwc(images)
        n, height, width = masks.shape
        step = 1 if height == width else 2
        turns, mirrored = step * rng.integers(0, 4 // step, n), rng.integers(0, 2, n)
        y, moved = np.empty_like(x), np.empty_like(masks)
        for i, (turn, mirror) in enumerate(zip(turns.tolist(), mirrored.tolist(), strict=True)):
            columns = slice(None, None, -1 if mirror else 1)
            y[i], moved[i] = np.rot90(x[i], turn)[:, columns], np.rot90(masks[i], turn)[:, columns]
        return y.transpose(0, 3, 1, 2), moved


@dataclass(frozen=True)
class MirrorPad:
    """Enlarge images by ``padding`` mirrored pixels at each side (one number, or a pair for height and width); no masks.

    For networks without padding, whose output is smaller than their input, as U-Net's "overlap-tile strategy" does it. The border
    is not repeated (``numpy.pad``'s "reflect"), and padding may be larger than the image. Dtype and values stay.
    """

    padding: int | tuple[int, int]

    def __post_init__(self):
        pair(self.padding, "padding")

    def __call__(self, images: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        x = nhwc(check_images(images))
        ph, pw = pair(self.padding, "padding")
        return np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)), "reflect").transpose(0, 3, 1, 2)
