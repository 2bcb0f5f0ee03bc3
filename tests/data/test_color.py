"""ColorJitter and PCALighting: hand-computed colours, torchvision's values, randomness, types, wrong arguments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from minigrad import random
from minigrad.data import ColorJitter, PCALighting
from minigrad.data.color import IMAGENET_EIGENVALUES, IMAGENET_EIGENVECTORS
from minigrad.data.transforms import Compose, Normalize, RandomHorizontalFlip
from minigrad.kernels.layout import channels_last, is_channels_last

EXAMPLES = [ColorJitter(0.4, 0.4, 0.4, 0.1), PCALighting()]


def pixels(shape=(6, 3, 8, 10), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def colour(*values, dtype=np.float32):
    return np.array(values, dtype).reshape(1, 3, 1, 1)


def changed(image, **ranges):
    return ColorJitter(**ranges)(image, np.random.default_rng(0))[0, :, 0, 0].tolist()


@pytest.fixture
def functional(monkeypatch):
    """torchvision.transforms.functional, or skip."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "models")
    from oracle import import_torchvision

    import_torchvision()
    return pytest.importorskip("torchvision.transforms.functional")


@pytest.mark.parametrize("transform", EXAMPLES, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_rules_for_all(transform, dtype):
    x = pixels() if dtype == np.uint8 else (pixels() / 255).astype(dtype)
    before = x.copy()
    y = transform(x, np.random.default_rng(1))
    np.testing.assert_array_equal(x, before)
    assert not np.array_equal(y, x)
    assert y.dtype == dtype
    assert is_channels_last(y)
    np.testing.assert_array_equal(transform(x, np.random.default_rng(1)), y)
    np.testing.assert_array_equal(transform(channels_last(x), np.random.default_rng(1)), y)
    assert transform(x[:0], np.random.default_rng(1)).shape == (0, 3, 8, 10)
    random.manual_seed(3)
    first = transform(x)
    random.manual_seed(3)
    np.testing.assert_array_equal(transform(x), first)
    composed = Compose([RandomHorizontalFlip(), transform, Normalize((0.5,), (0.5,))])(x, np.random.default_rng(0))
    assert composed.dtype == np.float32


# ---- ColorJitter ------------------------------------------------------------------------------------------------------


def test_each_change_by_hand():
    x = colour(0.2, 0.4, 0.6)
    grey = 0.2989 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6
    assert changed(x, brightness=(1.5, 1.5)) == pytest.approx([0.3, 0.6, 0.9])
    assert changed(x, brightness=(2, 2)) == pytest.approx([0.4, 0.8, 1.0])  # cut off at white
    assert changed(x, saturation=(0, 0)) == pytest.approx([grey] * 3)
    assert changed(x, saturation=(2, 2)) == pytest.approx([0.4 - grey, 0.8 - grey, min(1, 1.2 - grey)])
    assert changed(x, contrast=(0.5, 0.5)) == pytest.approx([v / 2 + grey / 2 for v in (0.2, 0.4, 0.6)])
    two = np.concatenate([x, colour(1, 0, 0)], 3)  # the mean grey is taken over the image
    mean = (grey + 0.2989) / 2
    assert changed(two, contrast=(0, 0)) == pytest.approx([mean] * 3)


def test_hue_turns_the_circle():
    red = colour(1, 0, 0)
    assert changed(red, hue=(1 / 3, 1 / 3)) == pytest.approx([0, 1, 0], abs=1e-6)
    assert changed(red, hue=(-1 / 3, -1 / 3)) == pytest.approx([0, 0, 1], abs=1e-6)
    assert changed(red, hue=(1 / 12, 1 / 12)) == pytest.approx([1, 0.5, 0], abs=1e-6)
    assert changed(colour(0.2, 0.2, 0.8), hue=(0.5, 0.5)) == pytest.approx([0.8, 0.8, 0.2], abs=1e-6)
    assert changed(colour(0.3, 0.3, 0.3), hue=(0.2, 0.2)) == pytest.approx([0.3] * 3)
    x = pixels()
    np.testing.assert_array_equal(ColorJitter(hue=(1e-7, 1e-7))(x), x)  # there and back keeps every byte


def test_grey_images():
    x = pixels((4, 1, 5, 5))
    np.testing.assert_array_equal(ColorJitter(saturation=0.9, hue=0.5)(x), x)
    y = ColorJitter(contrast=(0, 0))(x)
    np.testing.assert_array_equal(y, np.rint(x.mean((1, 2, 3), keepdims=True)).repeat(5, 2).repeat(5, 3))


def test_factors_and_orders_of_images_differ():
    x = np.full((4000, 1, 1, 1), 0.25, np.float64)
    factors = ColorJitter(brightness=0.4)(x, np.random.default_rng(0)).ravel() / 0.25
    assert 0.6 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4
    assert factors.mean() == pytest.approx(1, abs=0.01)
    # Brightness first: 0.4 * 4 is cut off to 1, whose grey is 1. Saturation first: 1 - grey of blue. Both orders occur.
    blue = np.tile(colour(0, 0, 0.4), (400, 1, 1, 1))
    y = ColorJitter(brightness=(4, 4), saturation=(0, 0))(blue, np.random.default_rng(0))[:, 0, 0, 0]
    first, second = abs(y - 0.114) < 1e-6, abs(y - 4 * 0.4 * 0.114) < 1e-6
    assert (first | second).all()
    assert 0.4 < first.mean() < 0.6


def test_ranges():
    assert ColorJitter(2.0)._ranges()[0] == (0.0, 3.0)  # no negative factor
    assert ColorJitter(contrast=(0.5, 0.7))._ranges()[1] == (0.5, 0.7)
    x = pixels()
    y = ColorJitter()(x)
    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(x, y)


@pytest.mark.slow  # importing torchvision takes seconds
@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("adjust_brightness", "brightness", 0.6),
        ("adjust_brightness", "brightness", 1.7),
        ("adjust_contrast", "contrast", 0.4),
        ("adjust_contrast", "contrast", 1.8),
        ("adjust_saturation", "saturation", 0.3),
        ("adjust_saturation", "saturation", 2.5),
        ("adjust_hue", "hue", 0.2),
        ("adjust_hue", "hue", -0.45),
    ],
)
def test_like_torchvision(functional, name, argument, value):
    import torch

    x = pixels((3, 3, 16, 17))
    x[0, :, :4] = x[0, :1, :4]  # some greys
    jitter, theirs = ColorJitter(**{argument: (value, value)}), getattr(functional, name)
    floats = (x / np.float32(255)).astype(np.float32)
    np.testing.assert_allclose(jitter(floats), theirs(torch.tensor(floats), value).numpy(), atol=2e-6)
    difference = jitter(x).astype(int) - theirs(torch.tensor(x), value).numpy().astype(int)
    assert abs(difference).max() <= 2  # they drop fractions, also of the grey levels


# ---- PCALighting ------------------------------------------------------------------------------------------------------


def test_lighting_adds_one_colour_along_the_components():
    x = np.full((1, 3, 4, 5), 0.5)
    added = PCALighting(0.1)(x, np.random.default_rng(0)) - x
    assert np.ptp(added, axis=(2, 3)).max() < 1e-12
    amounts = 0.1 * np.random.default_rng(0).standard_normal((1, 3))[0]
    expected = np.array(IMAGENET_EIGENVECTORS) @ (amounts * np.array(IMAGENET_EIGENVALUES))
    np.testing.assert_allclose(added[0, :, 0, 0], expected, rtol=1e-10)


def test_lighting_of_bytes_has_the_same_strength():
    x = np.full((20, 3, 2, 2), 128, np.uint8)
    y = PCALighting(0.5)(x, np.random.default_rng(1))
    exact = PCALighting(0.5)(x / 255.0, np.random.default_rng(1)) * 255
    assert abs(y - exact).max() <= 0.5 + 1e-4
    black = np.zeros((50, 3, 1, 1), np.uint8)
    strong = PCALighting(3.0)(black, np.random.default_rng(0))
    exact = PCALighting(3.0)(black / 255.0, np.random.default_rng(0)) * 255
    assert exact.min() < -100
    assert abs(strong - np.clip(exact, 0, 255)).max() <= 0.5 + 1e-4  # cut off, not wrapped around


def test_lighting_statistics():
    added = PCALighting(0.1)(np.full((20000, 3, 1, 1), 0.5), np.random.default_rng(0))[:, :, 0, 0] - 0.5
    vectors = np.array(IMAGENET_EIGENVECTORS)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=2e-3)
    np.testing.assert_allclose(added.mean(0), 0, atol=5e-4)
    np.testing.assert_allclose((added @ vectors).std(0), 0.1 * np.array(IMAGENET_EIGENVALUES), rtol=0.03)
    same = PCALighting(0)(pixels())
    np.testing.assert_array_equal(same, pixels())


# ---- wrong arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ColorJitter(-0.1), "brightness must be a number of at least 0"),
        (lambda: ColorJitter(contrast=(2, 1)), "contrast must be a number of at least 0, or a pair"),
        (lambda: ColorJitter(saturation=(-1, 1)), "saturation must be a range of factors of at least 0"),
        (lambda: ColorJitter(hue=0.6), r"hue must lie within -0.5 ... 0.5"),
        (lambda: ColorJitter(hue="red"), "hue must be"),
        (lambda: PCALighting(-1), "std must be a number of at least 0"),
        (lambda: PCALighting(0.1, (1, 2)), r"eigenvalues must be finite numbers of shape \(3,\)"),
        (lambda: PCALighting(0.1, eigenvectors=((1, 2, 3),)), r"eigenvectors must be finite numbers of shape \(3, 3\)"),
        (lambda: ColorJitter(0.1)(pixels((1, 4, 2, 2))), "ColorJitter takes images of 1 or 3 channels, got 4"),
        (lambda: PCALighting()(pixels((1, 1, 2, 2))), "PCALighting takes images of 3 channels, got 1"),
        (lambda: ColorJitter(0.1)(colour(-1, 0, 0.5)), r"values 0 ... 1, got -1 ... 0.5: let it come before Normalize"),
        (lambda: PCALighting()(colour(0, 1, 255.0)), r"values 0 ... 1, got 0 ... 255"),
        (lambda: ColorJitter(0.1)(pixels()[0]), "transforms take uint8 or float images"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()
