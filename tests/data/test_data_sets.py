"""Data sets in memory: TensorDataset, Subset, random_split, ImageDataset, Digits, names, and statistics."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad import data, random
from minigrad.data import (
    DataError,
    Dataset,
    Digits,
    ImageDataset,
    MissingDataError,
    Subset,
    TensorDataset,
    channel_statistics,
    collate,
    mean_image,
    random_split,
)
from minigrad.data.images import held_out_fifth
from minigrad.kernels.layout import is_channels_last
from minigrad.tensor import Tensor


class Squares(Dataset):
    def __len__(self):
        return 7

    def __getitem__(self, index):
        return np.full((2, 3), index, np.float32), index**2


def images(count=10, channels=3, size=(4, 5), classes=None, seed=0, **options):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, channels, *size), np.uint8)
    return ImageDataset(pixels, np.arange(count) % 3, classes, **options)


# ---- Dataset, TensorDataset, collate ----------------------------------------------------------------------------------


def test_a_subclass_gets_batches_for_free():
    x, y = Squares().batch([2, 5])
    np.testing.assert_array_equal(x[:, 0, 0], [2, 5])
    np.testing.assert_array_equal(y, [4, 25])
    assert (x.dtype, y.dtype) == (np.float32, np.int64)


def test_a_subclass_must_say_what_it_holds():
    with pytest.raises(NotImplementedError, match="Dataset must define __getitem__"):
        Dataset()[0]
    with pytest.raises(NotImplementedError, match="Dataset must define __len__"):
        len(Dataset())


def test_tensor_dataset():
    x, y = np.arange(12.0).reshape(4, 3), np.arange(4)
    for made in (TensorDataset(x, y), TensorDataset(Tensor(x), Tensor(y))):
        assert len(made) == 4
        rows, labels = made.batch(np.array([3, 1]))
        np.testing.assert_array_equal(rows, x[[3, 1]])
        np.testing.assert_array_equal(labels, [3, 1])
        assert isinstance(rows, np.ndarray)
    np.testing.assert_array_equal(TensorDataset(x, y)[2][0], x[2])


@pytest.mark.parametrize(
    ("tensors", "error", "match"),
    [
        ((), ValueError, "at least one tensor"),
        (([1, 2],), TypeError, "takes tensors or arrays, got list"),
        ((np.float32(1),), ValueError, "at least one axis"),
        ((np.zeros((4, 2)), np.zeros(5)), ValueError, r"same first size, got shapes \(4, 2\), \(5,\)"),
    ],
)
def test_tensor_dataset_refuses(tensors, error, match):
    with pytest.raises(error, match=match):
        TensorDataset(*tensors)


def test_collate():
    batch = collate([{"a": 1, "b": (2.5, True), "c": "x"}, {"a": 2, "b": (1.5, False), "c": "y"}])
    assert batch["a"].dtype == np.int64
    assert batch["b"][0].dtype == np.float32
    assert batch["b"][1].dtype == np.bool_
    assert batch["c"] == ["x", "y"]
    stacked = collate([Tensor(np.zeros((2, 3))), Tensor(np.ones((2, 3)))])
    assert (stacked.shape, stacked.dtype) == ((2, 2, 3), np.float64)


def test_collate_refuses_different_shapes():
    with pytest.raises(ValueError, match=r"different shapes: \(2, 3\) and \(2, 4\); crop or resize"):
        collate([np.zeros((2, 3)), np.zeros((2, 4))])
    with pytest.raises(ValueError, match="different numbers of parts"):
        collate([(1, 2), (1,)])


# ---- Subset, random_split ---------------------------------------------------------------------------------------------


def test_subset_of_a_subset():
    whole = images()
    part = Subset(Subset(whole, [9, 7, 5, 3]), [-1, 0])
    assert len(part) == 2
    np.testing.assert_array_equal(part.batch([0, 1])[0], whole.images[[3, 9]])
    np.testing.assert_array_equal(part[1][0], whole.images[9])
    assert len(Subset(whole, [])) == 0


@pytest.mark.parametrize(
    ("indices", "error"), [([10], IndexError), ([-11], IndexError), ([0.5], TypeError), ([[1]], TypeError), ([True], TypeError)]
)
def test_subset_refuses(indices, error):
    with pytest.raises(error, match="indices must"):
        Subset(images(), indices)


@pytest.mark.parametrize(
    ("lengths", "sizes"), [([6, 4], [6, 4]), ([0.5, 0.5], [5, 5]), ([0.33, 0.33, 0.34], [4, 3, 3]), ([10, 0], [10, 0])]
)
def test_random_split_is_a_partition(lengths, sizes):
    parts = random_split(images(), lengths, generator=1)
    assert [len(part) for part in parts] == sizes
    assert sorted(np.concatenate([part.indices for part in parts])) == list(range(10))


def test_random_split_follows_its_generator():
    def first(generator):
        return random_split(images(), [5, 5], generator)[0].indices.tolist()

    assert first(1) == first(1) != first(2)
    assert first(np.random.default_rng(3)) == first(np.random.default_rng(3))
    random.manual_seed(5)
    drawn = first(None)
    random.manual_seed(5)
    assert first(None) == drawn


@pytest.mark.parametrize("lengths", [[5, 4], [0.5, 0.6], [-1, 11], [], 10, [True, 9], ["5", 5], [float("nan"), 1]])
def test_random_split_refuses(lengths):
    with pytest.raises((ValueError, TypeError)):
        random_split(images(), lengths)


# ---- ImageDataset -----------------------------------------------------------------------------------------------------


def test_image_dataset():
    whole = images(classes=("a", "b", "c"), name="test", mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    assert is_channels_last(whole.images)
    assert whole.image_shape == (3, 4, 5)
    assert (whole.num_classes, whole.class_to_idx["c"]) == (3, 2)
    assert whole.targets is whole.labels
    assert repr(whole) == "ImageDataset('test', 10 images of 3 x 4 x 5, 3 classes)"
    image, label = whole[4]
    assert (image.dtype, image.shape, label, type(label)) == (np.uint8, (3, 4, 5), 1, int)
    batch, labels = whole.batch([4, 2])
    assert is_channels_last(batch)
    np.testing.assert_array_equal(batch, whole.images[[4, 2]])
    np.testing.assert_array_equal(labels, [1, 2])


def test_grey_images_may_lack_the_channel_axis():
    whole = ImageDataset(np.zeros((3, 8, 6), np.uint8), [0, 1, 2])
    assert whole.image_shape == (1, 8, 6)
    assert whole.classes == ("0", "1", "2")


def test_one_image_is_transformed_too():
    whole = images(transform=lambda x, rng: x + rng.integers(1, 100, dtype=np.uint8))
    random.manual_seed(0)
    changed = [whole[0][0] for _ in range(2)]
    random.manual_seed(0)
    np.testing.assert_array_equal(whole[0][0], changed[0])
    assert not np.array_equal(changed[0], changed[1])


@pytest.mark.parametrize(
    ("pixels", "labels", "options", "match"),
    [
        (np.zeros((2, 3, 4, 4)), [0, 1], {}, "uint8 array"),
        (np.zeros((2, 3), np.uint8), [0, 1], {}, "uint8 array"),
        (np.zeros((2, 4, 4), np.uint8), [0], {}, "labels must be 2 integers"),
        (np.zeros((2, 4, 4), np.uint8), [0.0, 1.0], {}, "labels must be 2 integers"),
        (np.zeros((2, 4, 4), np.uint8), [0, -1], {}, "labels must be at least 0"),
        (np.zeros((2, 4, 4), np.uint8), [0, 2], {"classes": "ab"}, r"at most 1 \(there are 2 classes\), got 0 ... 2"),
        (np.zeros((2, 4, 4), np.uint8), [0, 1], {"mean": (0, 0, 0)}, "mean must have one number for each of the 1 channels"),
    ],
)
def test_image_dataset_refuses(pixels, labels, options, match):
    with pytest.raises(ValueError, match=match):
        ImageDataset(pixels, labels, **options)


def test_statistics_are_exact():
    whole = images(count=2500, seed=3)  # more than one block
    mean, std = channel_statistics(whole)
    exact = whole.images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std, exact.std((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(mean_image(whole), exact.mean(0), rtol=1e-13)
    constant = ImageDataset(np.full((5, 3, 3), 77, np.uint8), np.zeros(5, int))
    assert channel_statistics(constant) == ((77 / 255,), (0.0,))
    part = Subset(whole, range(100))
    np.testing.assert_allclose(channel_statistics(part)[0], exact[:100].mean((0, 2, 3)), rtol=1e-13)


def test_statistics_refuse_what_has_none():
    with pytest.raises(ValueError, match="empty data set"):
        mean_image(ImageDataset(np.zeros((0, 3, 3), np.uint8), np.zeros(0, int)))
    with pytest.raises(ValueError, match="need uint8 images"):
        channel_statistics(TensorDataset(np.zeros((4, 1, 2, 2), np.float32)))


# ---- Digits -----------------------------------------------------------------------------------------------------------


def test_digits():
    train, test = Digits(), Digits(train=False)
    assert (len(train), len(test)) == (1438, 359)
    assert train.image_shape == (1, 8, 8)
    everything = np.concatenate([train.labels, test.labels])
    assert np.bincount(everything).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    ink = [np.rint(part.images / (255 / 16)).sum() for part in (train, test)]
    assert sum(ink) == 561_718  # of the 1,797 images that scikit-learn calls digits
    assert train.images.min() == 0
    assert train.images.max() == 255
    share = np.bincount(test.labels) / np.bincount(everything)
    assert share.min() > 0.19
    assert share.max() < 0.21


def test_constants_of_the_digits():
    train = Digits()
    mean, std = channel_statistics(train)
    assert (train.mean, train.std) == (pytest.approx(mean, abs=5e-5), pytest.approx(std, abs=5e-5))


def test_held_out_fifth_is_a_stratified_partition():
    labels = np.array([2, 0, 1, 0, 1] * 20)
    train, test = held_out_fifth(labels)
    assert sorted([*train, *test]) == list(range(100))
    assert np.bincount(labels[test]).tolist() == [8, 8, 4]


# ---- names ------------------------------------------------------------------------------------------------------------


def test_create_by_name(tmp_path):
    assert data.list() == ["digits", "mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "cells", "folder", "masks"]
    assert len(data.create("Digits", train=False)) == 359
    for name in ("mnist", "Fashion_MNIST", "fashionmnist", "KMNIST", "cifar-10", "CIFAR100"):
        with pytest.raises(MissingDataError, match="pass download=True"):
            data.create(name, tmp_path, download=False)


@pytest.mark.parametrize(("name", "near"), [("cifar", "cifar10"), ("mnits", "mnist"), ("fashion", "fashion-mnist")])
def test_unknown_name(name, near):
    with pytest.raises(ValueError, match=f"unknown data set '{name}': did you mean '{near}'\\? There are digits, mnist"):
        data.create(name)


def test_create_refuses():
    with pytest.raises(ValueError, match=r"unknown data set 'imagenet21k': There are"):
        data.create("imagenet21k")
    with pytest.raises(TypeError, match="must be a string"):
        data.create(None)
    with pytest.raises(TypeError, match="'digits' takes no option 'size'"):
        data.create("digits", size=8)
    with pytest.raises(DataError, match="needs root="):
        data.create("folder")


def test_standard_transforms():
    train, test = (data.standard_transforms(Digits(), part) for part in (True, False))
    assert "RandomAffine" in repr(train)
    assert "Random" not in repr(test)
    x = test(Digits().images[:3])
    assert x.dtype == np.float32
    assert is_channels_last(x)
    padded = data.standard_transforms(Digits(), False, size=32)(Digits().images[:3])
    assert padded.shape == (3, 1, 32, 32)
    np.testing.assert_array_equal(padded[:, :, 12:20, 12:20], x)
    with pytest.raises(ValueError, match="cannot be padded evenly to size 7 x 7"):
        data.standard_transforms(Digits(), size=7)


def test_images_without_constants_get_those_of_imagenet():
    assert "mean=(0.485, 0.456, 0.406)" in repr(data.standard_transforms(images(), train=False))
    assert "mean=(0.449,)" in repr(data.standard_transforms(images(channels=1), train=False))
