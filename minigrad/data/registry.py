"""Data sets by name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.data.cells import Cells
from minigrad.data.cifar import CIFAR10, CIFAR100
from minigrad.data.digits import Digits
from minigrad.data.files import MissingDataError, data_root
from minigrad.data.folder import ImageFolder
from minigrad.data.images import ImageDataset, held_out_fifth
from minigrad.data.mnist import KMNIST, MNIST, FashionMNIST
from minigrad.data.segmentation import SegmentationDataset, SegmentationFolder

__all__ = ["create", "is_available", "list_names", "resolve_name"]

FILES = {cls.collection: cls for cls in (MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100)}
OWN_FOLDERS = ("folder", "masks")  # read the user's files, not those of a known collection
NAMES = ("digits", *FILES, "cells", *OWN_FOLDERS)
TEST_FOLDERS = ("test", "val", "valid", "validation")


def list_names() -> list[str]:
    """The names that ``create`` knows."""
    return list(NAMES)


def create(
    name: str,
    root: str | os.PathLike | None = None,
    train: bool = True,
    *,
    download: bool = True,
    transform: Callable | None = None,
    **options: Any,
) -> ImageDataset | ImageFolder | SegmentationDataset:
    """The training or the test images of a data set by name (see ``minigrad.data.list()``).

    ``root`` is the folder of data sets (not needed for "digits" and "cells"); missing files are fetched if ``download``.

    "folder" reads images from ``root`` and takes the ``options`` of ``ImageFolder`` (``size``, ``mode``,
    ``skip_unreadable``): from ``root/train`` and ``root/test`` (or ``val``) where they exist; else every fifth image of
    each class is for testing. "masks" does the same with the images and masks of ``SegmentationFolder``, every fifth of all
    images, and its options (``size``, ``mode``, ``instances``, ``classes``). "cells" takes the option ``size``.

    Raises ValueError with the nearest name for an unknown one, and what the data set's class raises.
    """
    key = resolve_name(name)
    if key in OWN_FOLDERS:
        return _create_folder(key, root, train, transform, options)
    for option in options:
        if (key, option) != ("cells", "size"):
            raise TypeError(f"data set {key!r} takes no option {option!r}")
    if key == "digits":
        return Digits(train, transform=transform)
    if key == "cells":
        return Cells(train, transform=transform, **options)
    return FILES[key](root, train, transform=transform, download=download)


def is_available(name: str, root: str | os.PathLike | None = None) -> bool:
    """Whether the files of a data set are in ``root`` (see ``create``), so that nothing need be downloaded.

    Raises ValueError for an unknown name, and for "folder" and "masks", which have no files of their own.
    """
    key = resolve_name(name)
    if key in OWN_FOLDERS:
        raise ValueError(f'"{key}" reads any folder of images: it has no files of its own')
    return key in ("digits", "cells") or FILES[key].available(root)


def resolve_name(name: str) -> str:
    """The registered name of a data set: capitals, "-" and "_" make no difference. Raises ValueError with the nearest name."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a data set must be a string, got {name!r}")
    plain = {key.replace("-", ""): key for key in NAMES}
    asked = name.lower().replace("-", "").replace("_", "")
    if asked in plain:
        return plain[asked]
    near = difflib.get_close_matches(asked, plain, n=1)
    hint = f"did you mean {plain[near[0]]!r}? " if near else ""
    raise ValueError(f"unknown data set {name!r}: {hint}There are {', '.join(NAMES)}")


def _create_folder(
    key: str, root: str | os.PathLike | None, train: bool, transform: Callable | None, options: dict
) -> ImageFolder | SegmentationFolder:
    if root is None:
        content = "a sub-folder of images for each class" if key == "folder" else "the sub-folders images and masks"
        raise MissingDataError(f'data set "{key}" needs root=: a folder with {content}')
    root, kind = data_root(root), ImageFolder if key == "folder" else SegmentationFolder
    test = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    if test is not None and (root / "train").is_dir():
        return kind(root / "train" if train else test, transform=transform, **options)
    images = kind(root, transform=transform, **options)
    labels = images.labels if key == "folder" else np.zeros(len(images), np.int64)
    return images.select(held_out_fifth(labels)[0 if train else 1])
