"""The official files: MNIST and CIFAR-10, where MINIGRAD_TEST_DATA says where they are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from minigrad.data import (
    CIFAR10,
    MNIST,
    DataError,
    DataLoader,
    FashionMNIST,
    ImageDataset,
    channel_statistics,
    standard_transforms,
)

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("MINIGRAD_TEST_DATA" not in os.environ, reason="MINIGRAD_TEST_DATA names no folder of real data"),
]

# md5 of the official uncompressed files, without the header of 16 or 8 bytes
MD5 = {
    True: ("6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"),
    False: ("2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"),
}


def folder() -> Path:
    return Path(os.environ["MINIGRAD_TEST_DATA"])


@pytest.mark.parametrize("train", [True, False])
def test_mnist_is_the_official_one(train):
    data = MNIST(folder(), train)
    count = len(data)
    assert count == (60_000 if train else 10_000)
    headers = [
        np.array([0x803, count, 28, 28], ">u4").tobytes(),
        np.array([0x801, count], ">u4").tobytes(),
    ]
    parts = [data.images.tobytes(), data.labels.astype(np.uint8).tobytes()]
    assert tuple(hashlib.md5(h + p).hexdigest() for h, p in zip(headers, parts, strict=True)) == MD5[train]
    if train:
        mean, std = channel_statistics(data)
        assert (data.mean, data.std) == (pytest.approx(mean, abs=5e-5), pytest.approx(std, abs=5e-5))


def test_mnist_is_not_fashion_mnist():
    with pytest.raises(DataError, match="belongs to MNIST"):
        FashionMNIST(folder() / "mnist")


def test_mnist_batches_padded_for_lenet():
    data = MNIST(folder(), train=False)
    loader = DataLoader(data, 1000, num_workers=1, transform=standard_transforms(data, train=False, size=32))
    x = np.concatenate([x.numpy() for x, _ in loader])
    assert x.shape == (10_000, 1, 32, 32)
    assert abs(x[:, :, 2:-2, 2:-2].mean()) < 0.02
    assert abs(x[:, :, 2:-2, 2:-2].std() - 1) < 0.02


def test_cifar10_records(tmp_path, monkeypatch):
    """The official images written into the binary layout come back as they were."""
    with np.load(folder() / "cifar10" / "cifar10-official-head.npz") as arrays:
        pixels, labels = arrays["test_images"], arrays["test_labels"]
    monkeypatch.setattr(CIFAR10, "records", (10_000, len(pixels)))
    np.concatenate([labels[:, None].astype(np.uint8), pixels.reshape(len(pixels), -1)], 1).tofile(tmp_path / "test_batch.bin")
    data = CIFAR10(tmp_path, train=False)
    np.testing.assert_array_equal(data.images, pixels)
    np.testing.assert_array_equal(data.labels, labels)


def test_constants_of_cifar10():
    with np.load(folder() / "cifar10" / "cifar10-official-head.npz") as arrays:
        part = ImageDataset(arrays["train_images"], arrays["train_labels"])
    mean, std = channel_statistics(part)
    assert CIFAR10.constants == (pytest.approx(mean, abs=5e-3), pytest.approx(std, abs=5e-3))
