"""UCI digits: 1,797 real handwritten digits of 8 x 8 pixels that come with the package."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import numpy as np

from minigrad.data.images import ImageDataset, held_out_fifth

__all__ = ["Digits"]


class Digits(ImageDataset):
    """Handwritten digits (Alpaydin and Kaynak 1998), an ``ImageDataset`` of 1 x 8 x 8 images. Needs no download.

    ``train``: the 1,438 training images, or the 359 test images: a fixed fifth, with as many of each class as the rest.
    The original values 0 ... 16 are scaled to 0 ... 255. ``transform``: see ``ImageDataset``.

    The images are the test set of "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
    doi 10.24432/C50P49, licence CC BY 4.0 (the same 1,797 that scikit-learn calls "digits").
    """

    def __init__(self, train: bool = True, *, transform: Callable | None = None):
        with (files("minigrad.data") / "files" / "digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            ink, labels = arrays["images"], arrays["labels"]
        rows = held_out_fifth(labels)[0 if train else 1]
        images = np.rint(ink[rows] * (255 / 16)).astype(np.uint8)
        mean, std = (0.3058,), (0.3762,)  # of the training images
        super().__init__(images, labels[rows], tuple("0123456789"), name="digits", mean=mean, std=std, transform=transform)
        self.train = train
