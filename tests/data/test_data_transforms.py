"""Transforms: values against PyTorch or a plain loop, randomness, memory order, types, and wrong arguments."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad import random
from minigrad.data import ImageDataset, transforms
from minigrad.data.warp import warp
from minigrad.kernels.layout import channels_last, is_channels_last

SHAPE = (6, 3, 8, 10)


def pixels(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


EXAMPLES = {
    "Pad": transforms.Pad((1, 2), fill=(1, 2, 3)),
    "Pad reflect": transforms.Pad(2, padding_mode="reflect"),
    "RandomCrop": transforms.RandomCrop((8, 7), padding=2),
    "RandomHorizontalFlip": transforms.RandomHorizontalFlip(),
    "RandomErasing": transforms.RandomErasing(p=1.0, value=(1, 2, 3)),
    "RandomErasing random": transforms.RandomErasing(value="random"),
    "RandomRotation": transforms.RandomRotation(30),
    "RandomAffine": transforms.RandomAffine(10, (0.2, 0.1), (0.8, 1.2), 5, fill=9),
    "ToTensor": transforms.ToTensor(),
    "Normalize": transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
    "SubtractMean": transforms.SubtractMean((0.5, 0.4, 0.3)),
    "SubtractMean image": transforms.SubtractMean(np.full(SHAPE[1:], 0.5)),
    "Compose": transforms.Compose([transforms.RandomHorizontalFlip(), transforms.ToTensor()]),
}


def test_every_transform_has_an_example():
    assert {name.split()[0] for name in EXAMPLES} == set(transforms.__all__)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rules_for_all(name, dtype):
    transform, x = EXAMPLES[name], pixels()
    x = x if dtype == np.uint8 else x.astype(np.float32) / 255
    before = x.copy()
    y = transform(x, np.random.default_rng(1))
    np.testing.assert_array_equal(x, before)  # the input is left alone
    assert not np.shares_memory(x, y)
    assert is_channels_last(y)
    assert y.dtype in (dtype, np.float32)
    np.testing.assert_array_equal(transform(x, np.random.default_rng(1)), y)
    np.testing.assert_array_equal(transform(channels_last(x), np.random.default_rng(1)), y)  # any memory order
    assert transform(x[:0], np.random.default_rng(1)).shape == (0, *y.shape[1:])
    assert repr(transform).startswith(name.split()[0] + "(")
    random.manual_seed(3)
    first = transform(x)  # the framework's own generator
    random.manual_seed(3)
    np.testing.assert_array_equal(transform(x), first)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_not_a_batch_of_images_is_refused(name):
    for wrong, error in ((pixels()[0], ValueError), (pixels().astype(np.int64), ValueError), ([[[[1]]]], TypeError)):
        with pytest.raises(error, match="transforms take"):
            EXAMPLES[name](wrong, np.random.default_rng(0))


# ---- Pad, RandomCrop, RandomHorizontalFlip ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_pad(mode):
    x = pixels()
    y = transforms.Pad((2, 3), padding_mode=mode)(x)
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (0, 0), (2, 2), (3, 3)), mode))


def test_pad_with_a_colour():
    y = transforms.Pad(1, fill=(10, 20, 30))(pixels())
    assert y[0, :, 0, 0].tolist() == [10, 20, 30]


def test_random_crop_takes_windows_of_the_padded_image():
    x = pixels((200, 1, 4, 4))
    y = transforms.RandomCrop(4, padding=1, fill=7)(x, np.random.default_rng(0))
    padded, places = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=7), set()
    for image, window in zip(padded[:, 0], y[:, 0], strict=True):
        found = [(t, left) for t in range(3) for left in range(3) if np.array_equal(image[t : t + 4, left : left + 4], window)]
        assert len(found) == 1
        places.update(found)
    assert len(places) == 9  # every place occurs


def test_crop_larger_than_the_image():
    with pytest.raises(ValueError, match="RandomCrop of 11 x 12 needs images at least that large, got 10 x 12 after padding"):
        transforms.RandomCrop((11, 12), padding=1)(pixels())


def test_flip():
    x = pixels((300, 3, 4, 5))
    y = transforms.RandomHorizontalFlip(0.3)(x, np.random.default_rng(0))
    flipped = np.array([np.array_equal(a, b[:, :, ::-1]) for a, b in zip(x, y, strict=True)])
    np.testing.assert_array_equal(y[~flipped], x[~flipped])
    assert 0.2 < flipped.mean() < 0.4
    np.testing.assert_array_equal(transforms.RandomHorizontalFlip(1)(x), x[..., ::-1])
    np.testing.assert_array_equal(transforms.RandomHorizontalFlip(0)(x), x)


# ---- RandomErasing ----------------------------------------------------------------------------------------------------


def test_erasing_changes_one_rectangle_of_the_right_size():
    x = np.full((400, 3, 32, 32), 200, np.uint8)
    erasing = transforms.RandomErasing(p=0.6, scale=(0.05, 0.3), ratio=(0.5, 2), value=(1, 2, 3))
    y = erasing(x, np.random.default_rng(0))
    erased = 0
    for image in y:
        changed = image[0] != 200
        if changed.any():
            rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
            h, w = len(rows), len(columns)
            assert changed[rows[0] : rows[0] + h, columns[0] : columns[0] + w].all()
            assert changed.sum() == h * w
            assert 0.04 < h * w / 32**2 < 0.33
            assert 0.4 < h / w < 2.5
            assert {tuple(p) for p in image[:, changed].T.tolist()} == {(1, 2, 3)}
            erased += 1
    assert 0.5 < erased / 400 < 0.7


def test_erasing_with_noise():
    black = np.zeros((1, 3, 32, 32), np.uint8)
    noise = transforms.RandomErasing(1, scale=(0.5, 0.5), value="random")
    y = noise(black, np.random.default_rng(0))
    assert 100 < y[y > 0].mean() < 155
    y = noise(black.astype(np.float32), np.random.default_rng(0))
    assert abs(y[y != 0].std() - 1) < 0.1


# ---- RandomAffine, RandomRotation -------------------------------------------------------------------------------------


def test_warp_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.random((5, 2, 9, 12)).astype(np.float32)
    matrix, shift = np.eye(2) + 0.3 * rng.standard_normal((5, 2, 2)), 2 * rng.standard_normal((5, 2))
    y = warp(x, matrix, shift)
    # PyTorch wants the inverse map in coordinates -1 ... 1 (u = 2 x / W with x from the centre).
    half = np.array([12 / 2, 9 / 2])
    inverse = np.linalg.inv(matrix)
    theta = np.concatenate([inverse * half / half[:, None], -(inverse @ shift[..., None]) / half[:, None]], 2)
    grid = torch.nn.functional.affine_grid(torch.tensor(theta), x.shape, align_corners=False)
    expected = torch.nn.functional.grid_sample(torch.tensor(x).double(), grid, align_corners=False)
    np.testing.assert_allclose(y, expected.numpy(), atol=2e-6)


def test_warp_of_bytes_rounds_and_fills():
    x = pixels()
    exact = warp(x.astype(np.float64), np.eye(2)[None].repeat(6, 0), np.full((6, 2), 0.3), fill=(10, 20, 30))
    y = warp(x, np.eye(2)[None].repeat(6, 0), np.full((6, 2), 0.3), fill=(10, 20, 30))
    assert np.abs(y - exact).max() <= 0.5 + 1e-4
    far = warp(x, np.eye(2)[None].repeat(6, 0), np.full((6, 2), 1e6), fill=(10, 20, 30))
    assert (far == np.array([10, 20, 30], np.uint8).reshape(1, 3, 1, 1)).all()


def test_rotation_is_counter_clockwise_and_affine_clockwise():
    x = np.zeros((1, 1, 5, 5), np.uint8)
    x[0, 0, 2, 4] = 255  # a point to the right of the centre
    rotated = transforms.RandomRotation((90, 90))(x)
    assert np.argwhere(rotated[0, 0]).tolist() == [[0, 2]]  # now above it
    moved = transforms.RandomAffine((90, 90))(x)
    assert np.argwhere(moved[0, 0]).tolist() == [[4, 2]]


def test_affine_ranges():
    x = np.zeros((500, 1, 21, 21), np.uint8)
    x[:, :, 10, 10] = 255
    y = transforms.RandomAffine(0, translate=(0.2, 0.1))(x, np.random.default_rng(0))
    places = np.argwhere(y)
    assert len(places) == 500
    assert sorted(set(places[:, 2])) == [8, 9, 10, 11, 12]
    assert sorted(set(places[:, 3])) == [6, 7, 8, 9, 10, 11, 12, 13, 14]
    doubled = transforms.RandomAffine(0, scale=(2, 2))(pixels((1, 1, 4, 4)))
    np.testing.assert_array_equal(doubled.shape, (1, 1, 4, 4))
    same = transforms.RandomAffine(0)(pixels())
    np.testing.assert_array_equal(same, pixels())


def test_shear_moves_rows_sideways():
    x = np.zeros((1, 1, 5, 9), np.uint8)
    x[0, 0, :, 4] = 255
    y = transforms.RandomAffine(0, shear=(45, 45))(x)
    np.testing.assert_array_equal(np.argwhere(y[0, 0]), [[0, 6], [1, 5], [2, 4], [3, 3], [4, 2]])


# ---- values -----------------------------------------------------------------------------------------------------------


def test_normalize_has_the_bits_of_pytorch():
    torch = pytest.importorskip("torch")
    mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, 1)
    y = transforms.Normalize(mean, std)(x)
    scaled = torch.tensor(x).to(torch.float32).div(255)
    expected = scaled.sub(torch.tensor(mean).view(-1, 1, 1)).div(torch.tensor(std).view(-1, 1, 1))
    np.testing.assert_array_equal(y, expected.numpy())
    assert y.dtype == np.float32
    composed = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])(x)
    np.testing.assert_array_equal(composed, y)


def test_normalize_fitted_to_a_data_set():
    whole = ImageDataset(pixels((50, 3, 4, 4)), np.zeros(50, int))
    y = transforms.Normalize.fit(whole)(whole.images).astype(np.float64)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(y.std((0, 2, 3)), 1, atol=1e-6)
    black = ImageDataset(np.zeros((5, 4, 4), np.uint8), np.zeros(5, int))
    assert not transforms.Normalize.fit(black)(black.images).any()


@pytest.mark.parametrize("per_pixel", [True, False])
def test_subtract_mean_fitted_to_a_data_set(per_pixel):
    whole = ImageDataset(pixels((50, 3, 4, 4)), np.zeros(50, int))
    transform = transforms.SubtractMean.fit(whole, per_pixel)
    y = transform(whole.images).astype(np.float64)
    np.testing.assert_allclose(y.mean(0 if per_pixel else (0, 2, 3)), 0, atol=1e-6)
    exact = whole.images / 255.0
    np.testing.assert_allclose(y, exact - exact.mean(0 if per_pixel else (0, 2, 3), keepdims=True), atol=1e-6)
    assert repr(transform).startswith("SubtractMean(image of shape (3, 4, 4)" if per_pixel else "SubtractMean((0.")


def test_wrong_number_of_channels():
    grey = pixels((2, 1, 8, 8))
    with pytest.raises(ValueError, match="mean has 3 values, the images have 1 channels"):
        transforms.Normalize((0.5, 0.5, 0.5), (1, 1, 1))(grey)
    with pytest.raises(ValueError, match="fill has 3 values, the images have 1 channels"):
        transforms.Pad(1, fill=(1, 2, 3))(grey)
    with pytest.raises(ValueError, match=r"mean image to subtract has shape \(3, 8, 10\)"):
        EXAMPLES["SubtractMean image"](pixels((2, 3, 8, 8)))
    with pytest.raises(ValueError, match=r"fill must lie within 0 ... 255"):
        transforms.Pad(1, fill=256)(grey)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: transforms.Pad(-1), "padding must be at least 0"),
        (lambda: transforms.Pad(1, padding_mode="wrap"), "padding_mode must be one of constant, edge"),
        (lambda: transforms.Pad(1, fill="black"), "fill must be a number"),
        (lambda: transforms.Pad(3, padding_mode="reflect")(pixels((1, 1, 3, 9))), "needs images larger"),
        (lambda: transforms.RandomCrop(0), "size must be at least 1"),
        (lambda: transforms.RandomCrop(4, padding=-2), "padding must be at least 0"),
        (lambda: transforms.RandomHorizontalFlip(1.5), "p must be a probability"),
        (lambda: transforms.RandomHorizontalFlip(float("nan")), "p must be a probability"),
        (lambda: transforms.RandomErasing(scale=(0.5, 0.1)), "scale must be"),
        (lambda: transforms.RandomErasing(scale=(0.5, 1.1)), "scale must be"),
        (lambda: transforms.RandomErasing(ratio=(0, 1)), "ratio must be"),
        (lambda: transforms.RandomErasing(value="white"), "value must be a number"),
        (lambda: transforms.RandomRotation(-5), "degrees must be a number of at least 0"),
        (lambda: transforms.RandomRotation((5, -5)), "degrees must be"),
        (lambda: transforms.RandomRotation("5"), "degrees must be"),
        (lambda: transforms.RandomAffine(0, translate=(2, 0)), "translate must be two shares"),
        (lambda: transforms.RandomAffine(0, scale=(0, 1)), "scale must be"),
        (lambda: transforms.RandomAffine(0, shear=90), "shear must lie within"),
        (lambda: transforms.Normalize((0.5,), (0,)), "std must be above 0"),
        (lambda: transforms.Normalize((float("nan"),), (1,)), "mean must be one finite number"),
        (lambda: transforms.SubtractMean(np.zeros((2, 2))), "mean must be finite"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_arguments_of_wrong_type():
    with pytest.raises(TypeError, match=r"Compose takes functions \(images, rng\) -> images, got 'flip'"):
        transforms.Compose(["flip"])
    with pytest.raises(TypeError, match="size must be an integer or a pair"):
        transforms.RandomCrop(3.5)
