"""Images with masks in memory, joint transforms of both, and the loader that applies them."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import numbers, pixels

from minigrad import data, random
from minigrad.data import (
    CenterCrop,
    ColorJitter,
    DataLoader,
    ElasticDeformation,
    FiveCrop,
    GridDeformation,
    ImageDataset,
    JointCompose,
    MirrorPad,
    RandomFlipsAndTurns,
    RandomResizedCrop,
    SegmentationDataset,
    TensorDataset,
)
from minigrad.data.transforms import Compose, Normalize, Pad, RandomCrop, RandomHorizontalFlip, ToTensor
from minigrad.kernels.layout import channels_last, is_channels_last


def coordinates(n, height, width):
    """Images whose pixels all differ, and masks that hold the same numbers: they must move alike."""
    masks = np.arange(n * height * width).reshape(n, height, width)
    return np.stack([masks, 2 * masks], 1).astype(np.float64), masks


# ---- SegmentationDataset -----------------------------------------------------------------------------------------------


def test_samples_and_batches():
    images, masks = pixels(), numbers()
    whole = SegmentationDataset(images, masks, name="things", mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    assert len(whole) == 6
    assert (whole.classes, whole.num_classes) == (("0", "1", "2", "3", "4"), 5)
    assert (whole.image_shape, whole.instances) == ((3, 8, 10), False)
    assert (whole.mean, whole.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert is_channels_last(whole.images)
    assert whole.masks.dtype == np.uint8
    image, mask = whole[2]
    np.testing.assert_array_equal(image, images[2])
    np.testing.assert_array_equal(mask, masks[2])
    assert (image.dtype, mask.dtype) == (np.uint8, np.int64)
    some, their = whole.batch([4, 1])
    np.testing.assert_array_equal(some, images[[4, 1]])
    np.testing.assert_array_equal(their, masks[[4, 1]])
    assert their.dtype == np.int64
    assert is_channels_last(some)
    assert repr(whole) == "SegmentationDataset('things', 6 images of 3 x 8 x 10 with masks of 5 classes)"


def test_instances():
    masks = numbers(highest=300)
    cells = SegmentationDataset(pixels((6, 8, 10)), masks, instances=True)
    assert (cells.classes, cells.num_classes, cells.instances) == (("background", "cell"), 2, True)
    assert cells.image_shape == (1, 8, 10)
    assert cells.masks.dtype == np.uint16
    np.testing.assert_array_equal(cells.batch(range(6))[1], masks)
    assert "with masks of instances" in repr(cells)
    assert SegmentationDataset(pixels(), masks, ("sky", "bird"), instances=True).classes == ("sky", "bird")


def test_select_keeps_the_classes():
    whole = SegmentationDataset(pixels(), numbers())
    part = whole.select([5, 0])
    assert (len(part), part.num_classes, len(whole)) == (2, 5, 6)
    np.testing.assert_array_equal(part[0][0], whole[5][0])
    np.testing.assert_array_equal(part[1][1], whole[0][1])
    assert is_channels_last(part.images)
    empty = SegmentationDataset(pixels()[:0], numbers()[:0], ("a", "b"))
    assert len(empty) == 0


def test_transforms_of_one_sample():
    images, masks = pixels((6, 3, 8, 8)), numbers((6, 8, 8))
    plain = SegmentationDataset(images, masks, transform=Normalize((0.5,), (0.5,)))
    image, mask = plain[3]
    np.testing.assert_array_equal(image, Normalize((0.5,), (0.5,))(images[3:4])[0])
    np.testing.assert_array_equal(mask, masks[3])
    joint = SegmentationDataset(images, masks, transform=RandomFlipsAndTurns())
    assert joint.batch_transform is joint.transform
    random.manual_seed(4)
    expected = RandomFlipsAndTurns()(images[3:4], masks[3:4])
    random.manual_seed(4)
    image, mask = joint[3]
    np.testing.assert_array_equal(image, expected[0][0])
    np.testing.assert_array_equal(mask, expected[1][0])
    np.testing.assert_array_equal(joint.batch([3])[0][0], images[3])  # a batch comes without the transform


@pytest.mark.parametrize(
    ("images", "masks", "options", "match"),
    [
        (pixels().astype(np.int64), numbers(), {}, "images must be a uint8 array"),
        (pixels()[0, 0], numbers(), {}, "images must be a uint8 array"),
        (
            pixels(),
            numbers()[:5],
            {},
            r"masks must be integers \(N, H, W\) = \(6, 8, 10\), as the images, got int64 \(5, 8",
        ),
        (pixels(), numbers().transpose(0, 2, 1), {}, "masks must be integers"),
        (pixels(), numbers().astype(np.float32), {}, "masks must be integers .* got float32"),
        (pixels(), numbers() > 2, {}, r"use masks.astype\(np.uint8\)"),
        (pixels(), numbers() - 1, {}, r"at least 0 and at most 3 \(there are 4 classes\), got -1 ... 3"),
        (pixels(), numbers(), {"classes": "abc"}, r"at most 2 \(there are 3 classes\), got 0 ... 4"),
        (pixels(), numbers() - 1, {"instances": True}, "at least 0"),
        (pixels(), numbers() << 31, {"instances": True}, r"at most 2\^32 - 1"),
        (pixels(), numbers(), {"instances": True, "classes": "abc"}, "classes of instances must be two names"),
        (pixels(), numbers(highest=1000), {}, "pass instances=True"),
        (pixels(), numbers(), {"mean": (0.5,)}, "mean must have one number for each of the 3 channels"),
        (pixels(), numbers(), {"std": (0.5,)}, "std must have one number for each of the 3 channels"),
    ],
)
def test_wrong_images_and_masks(images, masks, options, match):
    with pytest.raises(ValueError, match=match):
        SegmentationDataset(images, masks, **options)


@pytest.mark.parametrize("transform", [GridDeformation(), RandomHorizontalFlip(), Compose([ToTensor(), RandomCrop(8)])])
def test_a_data_set_refuses_transforms_that_move_the_images_alone(transform):
    with pytest.raises(TypeError, match="without their masks"):
        SegmentationDataset(pixels(), numbers(), transform=transform)


# ---- joint transforms --------------------------------------------------------------------------------------------------


def turned(image, turns, mirrored):
    """A plane, turned against the clock, then mirrored left to right; pixel by pixel."""
    for _ in range(turns):
        h, w = image.shape
        image = np.array([[image[j, w - 1 - i] for j in range(h)] for i in range(w)])
    h, w = image.shape
    return np.array([[image[i, w - 1 - j] for j in range(w)] for i in range(h)]) if mirrored else image


@pytest.mark.parametrize(("height", "width", "turns"), [(5, 5, (0, 1, 2, 3)), (4, 6, (0, 2))])
def test_flips_and_turns(height, width, turns):
    images, masks = coordinates(400, height, width)
    before = images.copy()
    y, moved = RandomFlipsAndTurns()(channels_last(images), masks, np.random.default_rng(0))
    np.testing.assert_array_equal(images, before)
    assert (y.dtype, moved.dtype, y.shape, moved.shape) == (images.dtype, masks.dtype, images.shape, masks.shape)
    assert is_channels_last(y)
    np.testing.assert_array_equal(y[:, 0], moved)  # image and mask in the same way
    np.testing.assert_array_equal(y[:, 1], 2 * moved)
    counts = {}
    for before, after in zip(masks, moved, strict=True):
        ways = [(t, m) for t in turns for m in (0, 1) if np.array_equal(turned(before, t, m), after)]
        assert len(ways) == 1
        counts[ways[0]] = counts.get(ways[0], 0) + 1
    assert len(counts) == 2 * len(turns)
    mean = 400 / len(counts)
    assert min(counts.values()) > 0.5 * mean
    assert max(counts.values()) < 1.5 * mean


def test_joint_transforms_repeat_with_the_generator():
    images, masks = pixels((6, 3, 16, 16)), numbers((6, 16, 16))
    transform = JointCompose([RandomFlipsAndTurns(), GridDeformation(2.0), ColorJitter(0.2), Normalize((0.5,), (0.5,))])
    first = transform(images, masks, np.random.default_rng(3))
    for a, b in zip(first, transform(images, masks, np.random.default_rng(3)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[1], transform(images, masks, np.random.default_rng(4))[1])
    random.manual_seed(3)
    first = transform(images, masks)
    random.manual_seed(3)
    np.testing.assert_array_equal(transform(images, masks)[0], first[0])
    assert transform(images[:0], masks[:0])[1].shape == (0, 16, 16)
    assert repr(JointCompose([RandomFlipsAndTurns()])) == "JointCompose(\n    RandomFlipsAndTurns()\n)"


def test_steps_of_each_kind():
    images, masks = pixels((4, 3, 9, 9)), numbers((4, 9, 9))
    deformation, jitter, normalize = ElasticDeformation(8, 2), ColorJitter(0.3), Normalize((0.5,), (0.5,))
    steps = [deformation, JointCompose([RandomFlipsAndTurns()]), Compose([jitter, normalize]), MirrorPad(2)]
    y, moved = JointCompose(steps)(images, masks, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    expected, their = deformation.with_masks(images, masks, rng)
    expected, their = RandomFlipsAndTurns()(expected, their, rng)
    expected = MirrorPad(2)(normalize(jitter(expected, rng)))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(moved, their)
    assert (y.shape, y.dtype, moved.shape) == ((4, 3, 13, 13), np.float32, (4, 9, 9))


def mirrored(place, size):
    """The pixel that a mirror at each border shows at ``place``: step by step, turning round at the ends."""
    at, direction = 0, 1
    for _ in range(abs(place)):  # left of pixel 0 comes the same as right of it
        if not 0 <= at + direction < size:
            direction = -direction
        at += direction
    return at


@pytest.mark.parametrize("padding", [0, 3, (2, 9), 17])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mirror_pad(padding, dtype):
    x = pixels((2, 3, 4, 5)).astype(dtype)
    ph, pw = padding if isinstance(padding, tuple) else (padding, padding)
    y = MirrorPad(padding)(x)
    assert (y.shape, y.dtype) == ((2, 3, 4 + 2 * ph, 5 + 2 * pw), dtype)
    assert is_channels_last(y)
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            np.testing.assert_array_equal(y[:, :, i, j], x[:, :, mirrored(i - ph, 4), mirrored(j - pw, 5)])


def test_mirror_pad_of_thin_and_of_no_images():
    thin = MirrorPad(2)(np.arange(4, dtype=np.uint8).reshape(1, 1, 1, 4))
    assert thin[0, 0].tolist() == [[2, 1, 0, 1, 2, 3, 2, 1]] * 5
    assert MirrorPad(2)(pixels()[:0]).shape == (0, 3, 12, 14)


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (RandomHorizontalFlip(), r"RandomHorizontalFlip\(p=0.5\) moves images without their masks: use RandomFlipsAndTurns"),
        (RandomResizedCrop(8), "moves images without their masks"),
        (Compose([ToTensor(), Compose([RandomCrop(8)])]), "moves images without their masks"),
        (Compose([GridDeformation()]), "make it a step of JointCompose itself"),
        (Compose([RandomFlipsAndTurns()]), "make it a step of JointCompose itself"),
        ("flip", "JointCompose takes transforms of images, alone or with their masks, got 'flip'"),
    ],
)
def test_steps_that_cannot_be_joint(step, match):
    with pytest.raises(TypeError, match=match):
        JointCompose([step])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x, m: JointCompose([Pad(1)])(x, m), ValueError, r"made images \(6, 3, 10, 12\) of \(6, 3, 8, 10\), but their"),
        (lambda x, m: JointCompose([CenterCrop(8)])(x, m), ValueError, "must keep the number and the size"),
        (lambda x, m: JointCompose([lambda images, rng: images[1:]])(x, m), ValueError, "must keep the number and the size"),
        (lambda x, m: JointCompose([FiveCrop((8, 10))])(x, m), ValueError, "must keep the number and the size"),
        (lambda x, m: JointCompose([MirrorPad(2), GridDeformation()])(x, m), ValueError, "MirrorPad must come after"),
        (lambda x, m: JointCompose([MirrorPad(2), RandomFlipsAndTurns()])(x, m), ValueError, "MirrorPad must come after"),
        (lambda x, m: RandomFlipsAndTurns()(x, m[1:]), ValueError, r"masks must have the shape \(N, H, W\) = \(6, 8, 10\)"),
        (lambda x, m: RandomFlipsAndTurns()(x, m.tolist()), TypeError, "masks must be a NumPy array"),
        (lambda x, m: RandomFlipsAndTurns()(x[0], m), ValueError, "transforms take uint8 or float images"),
        (lambda x, m: MirrorPad(-1), ValueError, "padding must be at least 0"),
        (lambda x, m: MirrorPad(1.5), TypeError, "padding must be an integer or a pair"),
        (lambda x, m: MirrorPad(1)(m), ValueError, "transforms take uint8 or float images"),
    ],
)
def test_wrong_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call(pixels(), numbers())


# ---- the loader --------------------------------------------------------------------------------------------------------


def batches(dataset, **options):
    return [tuple(part.numpy() for part in batch) for batch in DataLoader(dataset, 4, seed=7, **options)]


def test_loader_gives_the_same_bits_for_any_workers():
    images, masks = pixels((10, 3, 8, 8)), numbers((10, 8, 8))
    transform = JointCompose([RandomFlipsAndTurns(), GridDeformation(1.0), MirrorPad(3), Normalize((0.5,), (0.5,))])
    dataset = SegmentationDataset(images, masks, transform=transform)
    found = batches(dataset, shuffle=True)
    assert [(x.shape, m.shape) for x, m in found] == [((n, 3, 14, 14), (n, 8, 8)) for n in (4, 4, 2)]
    assert {(x.dtype, m.dtype) for x, m in found} == {(np.dtype(np.float32), np.dtype(np.int64))}
    for other in (batches(dataset, shuffle=True, num_workers=2), batches(dataset, shuffle=True, transform=transform)):
        for expected, batch in zip(found, other, strict=True):
            for a, b in zip(expected, batch, strict=True):
                np.testing.assert_array_equal(a, b)
    part = batches(data.Subset(dataset, range(10)), shuffle=True)
    np.testing.assert_array_equal(part[0][1], found[0][1])


def test_loader_moves_images_and_masks_together():
    masks = np.arange(6 * 49).reshape(6, 7, 7) % 251
    images = masks[:, None].astype(np.uint8)
    whole = SegmentationDataset(images, masks, instances=True)
    for x, m in batches(whole, transform=RandomFlipsAndTurns()):
        np.testing.assert_allclose(x[:, 0], m / 255, rtol=1e-6)
    moved = np.concatenate([m for _, m in batches(whole, transform=RandomFlipsAndTurns())])
    assert not np.array_equal(moved, masks)
    plain = batches(whole, transform=Normalize((0.5,), (0.5,)))
    np.testing.assert_array_equal(np.concatenate([m for _, m in plain]), masks)


@pytest.mark.parametrize(
    ("dataset", "match"),
    [
        (ImageDataset(pixels(), np.arange(6)), r"with parts of shape \(4,\): use minigrad.data.transforms.Compose"),
        (TensorDataset(pixels(), numbers(), np.arange(6)), r"with parts of shape \(4, 8, 10\), \(4,\)"),
        (pixels(), "images alone"),
    ],
)
def test_joint_transform_without_masks(dataset, match):
    with pytest.raises(TypeError, match=r"a joint transform needs samples \(image, mask\).*" + match):
        batches(dataset, transform=RandomFlipsAndTurns())
