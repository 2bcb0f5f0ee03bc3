"""MNIST, Fashion-MNIST and KMNIST: 60,000 + 10,000 grey images of 28 x 28 pixels in 10 classes, in four IDX files each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minigrad.data.download import RemoteFile, download, how_to_get
from minigrad.data.files import DataError, MissingDataError, data_root, find_file
from minigrad.data.idx import read_idx
from minigrad.data.images import ImageDataset

__all__ = ["KMNIST", "MNIST", "FashionMNIST"]

# The first labels of the training and the test files: the three collections have the same file names, sizes and formats.
FIRST_LABELS = {
    "MNIST": ((5, 0, 4, 1, 9, 2, 1, 3, 1, 4), (7, 2, 1, 0, 4, 1, 4, 9, 5, 9)),
    "FashionMNIST": ((9, 0, 0, 3, 0, 2, 7, 2, 5, 5), (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)),
}


def _files(mirrors: tuple[str, ...], *sums_and_sizes: tuple[str, int]) -> tuple[RemoteFile, ...]:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    return tuple(RemoteFile(f"{name}.gz", mirrors, *facts) for name, facts in zip(names, sums_and_sizes, strict=True))


class MNIST(ImageDataset):
    """Handwritten digits (LeCun, Cortes and Burges 1998), an ``ImageDataset`` of 1 x 28 x 28 images.

    ``root``       folder of data sets; None: the environment variable MINIGRAD_DATA, else ``~/.cache/minigrad/data``
    ``train``      the 60,000 training images, or the 10,000 test images
    ``transform``  see ``ImageDataset``
    ``download``   fetch missing files into ``root/MNIST/raw`` (SHA-256 pinned)

    The official files, gzip-compressed or not, may lie in ``root``, ``root/MNIST``, ``root/MNIST/raw`` or ``root/mnist``;
    they are checked by format and content. Raises MissingDataError (what to fetch from where, and where to put it) or DataError.
    """

    collection = "mnist"
    sizes = (60_000, 10_000)  # images for training and test
    names = tuple("0123456789")
    constants = ((0.1307,), (0.3081,))  # mean and standard deviation of the training images
    files = _files(
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    )

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        train: bool = True,
        *,
        transform: Callable | None = None,
        download: bool = False,
    ):
        count = self.sizes[0 if train else 1]
        image_file, label_file = self.files[:2] if train else self.files[2:]
        root = data_root(root)
        images_at, labels_at = (self._locate(file, root, download) for file in (image_file, label_file))
        labels = read_idx(labels_at, (count,))
        if labels.max() >= len(self.names):
            raise DataError(
                f"{labels_at} holds the label {labels.max()}, {type(self).__name__} has classes 0 ... {len(self.names) - 1}"
            )
        self._refuse_relatives(labels, labels_at)
        images = read_idx(images_at, (count, 28, 28))
        mean, std = self.constants
        super().__init__(images, labels, self.names, name=self.collection, mean=mean, std=std, transform=transform)
        self.train = train

    @classmethod
    def available(cls, root: str | os.PathLike | None = None) -> bool:
        """Whether all four files are there; they are not read."""
        try:
            return all(cls._locate(file, data_root(root), False) for file in cls.files)
        except MissingDataError:
            return False

    @classmethod
    def _locate(cls, file: RemoteFile, root: Path, may_download: bool) -> Path:
        folder = root / cls.__name__ / "raw"
        plain = file.name.removesuffix(".gz")
        found = find_file((folder, folder.parent, root / cls.collection, root), (plain, file.name))
        if found is None and may_download:
            try:
                return download(file, folder)
            except MissingDataError as error:
                files = ", ".join(f.name for f in cls.files)
                raise MissingDataError(f"{error} (all files of {cls.__name__}: {files})") from None
        if found is None:
            raise MissingDataError(
                f"{cls.__name__} needs {plain} (or {file.name}), which is not in {root} or its folders {cls.__name__}, "
                f"{cls.__name__}/raw and {cls.collection}: pass download=True, or {how_to_get(file, folder)}"
            )
        return found

    @classmethod
    def _refuse_relatives(cls, labels: np.ndarray, path: Path) -> None:
        for name, beginnings in FIRST_LABELS.items():
            if name != cls.__name__ and tuple(labels[:10].tolist()) in beginnings:
                raise DataError(
                    f"{path} belongs to {name}, not to {cls.__name__}: keep each collection in a folder of its own name"
                )


class FashionMNIST(MNIST):
    """Articles of clothing (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747); arguments and errors as for ``MNIST``."""

    collection = "fashion-mnist"
    names = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    constants = ((0.2860,), (0.3530,))
    files = _files(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
    )


class KMNIST(MNIST):
    """Cursive Japanese characters (Clanuwat et al. 2018, arXiv 1812.01718); arguments and errors as for ``MNIST``."""

    collection = "kmnist"
    names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    constants = ((0.1918,), (0.3483,))
    files = _files(
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/", "https://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
        ("51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4", 18_165_135),
        ("e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17", 29_497),
        ("edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5", 3_041_136),
        ("20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c", 5_120),
    )
