"""Resize and the crops: hand-computed values, Pillow's and torchvision's, randomness, types, wrong arguments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from minigrad import random
from minigrad.data import CenterCrop, FiveCrop, RandomResizedCrop, Resize, TenCrop
from minigrad.data.crops import cubic
from minigrad.data.transforms import Compose, ToTensor
from minigrad.kernels.layout import channels_last, is_channels_last

EXAMPLES = [
    Resize(7),
    Resize((12, 5), "bicubic"),
    Resize((4, 20), "nearest"),
    CenterCrop(5),
    RandomResizedCrop((6, 7)),
    FiveCrop((4, 5)),
    TenCrop(6),
]


def pixels(shape=(6, 3, 8, 10), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def functional(monkeypatch):
    """torchvision.transforms.functional, or skip."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "models")
    from oracle import import_torchvision

    import_torchvision()
    return pytest.importorskip("torchvision.transforms.functional")


@pytest.mark.parametrize("transform", EXAMPLES, ids=repr)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_rules_for_all(transform, dtype):
    x = pixels() if dtype == np.uint8 else (pixels() / 255).astype(dtype)
    before = x.copy()
    y = transform(x, np.random.default_rng(1))
    np.testing.assert_array_equal(x, before)
    assert y.dtype == dtype
    assert is_channels_last(y)
    assert not np.shares_memory(x, y)
    np.testing.assert_array_equal(transform(x, np.random.default_rng(1)), y)
    np.testing.assert_array_equal(transform(channels_last(x), np.random.default_rng(1)), y)
    assert transform(x[:0], np.random.default_rng(1)).shape == (0, *y.shape[1:])
    np.testing.assert_array_equal(transform(x[:1], np.random.default_rng(1)), y[: len(y) // 6])  # images do not mix
    random.manual_seed(3)
    first = transform(x)
    random.manual_seed(3)
    np.testing.assert_array_equal(transform(x), first)
    assert Compose([transform, ToTensor()])(x).dtype == np.float32


# ---- Resize -----------------------------------------------------------------------------------------------------------


def resized(values, size, interpolation="bilinear", dtype=np.float64):
    x = np.array(values, dtype).reshape(1, 1, 1, -1)
    return Resize((1, size), interpolation)(x).ravel().tolist()


def test_resize_by_hand():
    assert resized([0, 1], 4) == pytest.approx([0, 0.25, 0.75, 1])
    # Half the size: a triangle of two pixels' reach, weights 1 3 3 1, renormalized at the borders.
    assert resized([1, 2, 4, 8, 16, 32], 3) == pytest.approx(
        [(3 * 1 + 3 * 2 + 4) / 7, (2 + 3 * 4 + 3 * 8 + 16) / 8, (8 + 3 * 16 + 3 * 32) / 7]
    )
    assert resized([0, 1, 2, 3, 4, 5], 2, "nearest") == [1, 4]
    assert resized([0, 1], 4, "nearest") == [0, 0, 1, 1]
    assert resized([7, 7, 7, 7, 7], 3, "bicubic") == pytest.approx([7, 7, 7])
    middle = cubic(np.array([1.25, 0.25, 0.75, 1.75]))  # the new pixel lies at 1/4 between two pixels
    assert middle.tolist() == pytest.approx([-0.0703125, 0.8671875, 0.2265625, -0.0234375])
    assert resized([1, 5, 2, 4], 8, "bicubic")[3] == pytest.approx(middle @ [1, 5, 2, 4])
    assert resized([0, 255, 0, 255], 8, "bicubic", np.uint8)[3:5] == [215, 40]
    assert min(resized([0, 0, 255, 255], 8, "bicubic", np.uint8)) == 0  # cut off, not wrapped around


def test_resize_sizes():
    x = pixels((1, 3, 30, 45))
    assert Resize(20)(x).shape == (1, 3, 20, 30)
    assert Resize(20)(x.transpose(0, 1, 3, 2)).shape == (1, 3, 30, 20)
    assert Resize(7)(x).shape == (1, 3, 7, 10)  # 10.5 pixels: as torchvision, without the fraction
    assert Resize((20, 21))(x).shape == (1, 3, 20, 21)
    np.testing.assert_array_equal(Resize(30)(x), x)
    np.testing.assert_array_equal(Resize((30, 45), "bicubic")(x), x)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("size", [(7, 11), (40, 50), (13, 60), (17, 23)])
def test_resize_like_pillow(interpolation, size):
    image = pytest.importorskip("PIL.Image")
    x = np.random.default_rng(0).random((2, 1, 17, 23)).astype(np.float32)
    filters = {"bilinear": image.Resampling.BILINEAR, "bicubic": image.Resampling.BICUBIC, "nearest": image.Resampling.NEAREST}
    y = Resize(size, interpolation)(x)
    expected = [np.asarray(image.fromarray(a[0]).resize(size[::-1], filters[interpolation])) for a in x]
    np.testing.assert_allclose(y[:, 0], expected, atol=2e-6)
    coloured = 64 + pixels((1, 3, 17, 23)) // 2  # no overshoot, which Pillow cuts off after the first direction already
    theirs = np.asarray(image.fromarray(coloured[0].transpose(1, 2, 0)).resize(size[::-1], filters[interpolation]))
    difference = Resize(size, interpolation)(coloured)[0].transpose(1, 2, 0) - theirs.astype(int)
    assert abs(difference).max() <= (0 if interpolation == "nearest" else 1 if interpolation == "bilinear" else 2)


@pytest.mark.slow  # importing torchvision takes seconds
def test_like_torchvision(functional):
    import torch

    x = np.random.default_rng(0).random((2, 3, 37, 53)).astype(np.float32)
    t = torch.tensor(x)
    for size in (20, (50, 31)):
        for interpolation in ("bilinear", "bicubic"):
            mode = functional.InterpolationMode(interpolation)
            expected = functional.resize(t, size, mode, antialias=True).numpy()
            np.testing.assert_allclose(Resize(size, interpolation)(x), expected, atol=3e-6)
    for size in (20, (21, 30), (36, 52), (37, 53)):
        np.testing.assert_array_equal(CenterCrop(size)(x), functional.center_crop(t, size).numpy())
        for ours, theirs in (
            (FiveCrop(size), functional.five_crop(t, size)),
            (TenCrop(size), functional.ten_crop(t, size)),
            (TenCrop(size, vertical_flip=True), functional.ten_crop(t, size, vertical_flip=True)),
        ):
            expected = torch.stack(theirs, 1).flatten(0, 1).numpy()
            np.testing.assert_array_equal(ours(x), expected)


# ---- RandomResizedCrop ------------------------------------------------------------------------------------------------


def test_windows_lie_within_their_ranges():
    crop, rng = RandomResizedCrop(8, scale=(0.1, 0.6), ratio=(0.5, 2)), np.random.default_rng(0)
    areas, ratios, places = [], [], []
    for _ in range(3000):
        rows, columns = crop._window(300, 400, rng)
        h, w = rows.stop - rows.start, columns.stop - columns.start
        assert 0 <= rows.start < rows.stop <= 300
        assert 0 <= columns.start < columns.stop <= 400
        areas.append(h * w / (300 * 400))
        ratios.append(w / h)
        places.append((rows.start / max(300 - h, 1), columns.start / max(400 - w, 1)))
    assert 0.095 < min(areas) < 0.105
    assert 0.57 < max(areas) < 0.605
    assert 0.49 < min(ratios) < 0.52
    assert 1.95 < max(ratios) < 2.04
    assert abs(np.mean(np.log(ratios))) < 0.06  # wide and tall ones alike
    np.testing.assert_allclose(np.mean(places, 0), 0.5, atol=0.02)
    rows, columns = RandomResizedCrop(8, scale=(0.1, 0.1), ratio=(4, 4))._window(100, 100, rng)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (16, 63)  # ratio is width : height


def test_crop_is_a_resized_window():
    x = pixels((5, 3, 30, 40)).astype(np.float32)
    crop, rng = RandomResizedCrop((9, 12)), np.random.default_rng(4)
    y = crop(x, np.random.default_rng(4))
    for image, window in zip(y, x, strict=True):
        rows, columns = crop._window(30, 40, rng)
        np.testing.assert_array_equal(image, Resize((9, 12))(window[None, :, rows, columns])[0])
    whole = RandomResizedCrop((30, 40), scale=(1, 1), ratio=(4 / 3, 4 / 3))
    np.testing.assert_array_equal(whole(x), x)


def test_window_that_never_fits_falls_back_to_the_middle():
    crop, rng = RandomResizedCrop(4, scale=(1, 1), ratio=(3 / 4, 4 / 3)), np.random.default_rng(0)
    assert crop._window(10, 100, rng) == (slice(0, 10), slice(43, 56))  # 13 = 10 * 4/3 wide
    assert crop._window(100, 10, rng) == (slice(43, 56), slice(0, 10))
    assert RandomResizedCrop(4, ratio=(5, 5), scale=(1, 1))._window(1, 2, rng) == (slice(0, 1), slice(0, 2))
    assert crop._window(1, 1, rng) == (slice(0, 1), slice(0, 1))


# ---- fixed crops ------------------------------------------------------------------------------------------------------


def test_crops_by_hand():
    x = np.arange(2 * 9).reshape(2, 1, 3, 3).astype(np.uint8)
    assert CenterCrop(1)(x).ravel().tolist() == [4, 13]
    assert FiveCrop(1)(x).ravel().tolist() == [0, 2, 6, 8, 4, 9, 11, 15, 17, 13]
    assert TenCrop(1)(x)[:10].ravel().tolist() == [0, 2, 6, 8, 4, 2, 0, 8, 6, 4]
    assert TenCrop(1, vertical_flip=True)(x)[:10].ravel().tolist() == [0, 2, 6, 8, 4, 6, 8, 0, 2, 4]
    assert TenCrop((1, 2))(x)[5].ravel().tolist() == [2, 1]  # the mirrored upper left corner
    y = TenCrop((2, 3))(pixels())
    assert y.shape == (60, 3, 2, 3)
    np.testing.assert_array_equal(y.reshape(6, 10, 3, 2, 3)[4], TenCrop((2, 3))(pixels()[4:5]))


# ---- wrong arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Resize(0), "size must be at least 1"),
        (lambda: Resize(4, "cubic"), "interpolation must be one of bilinear, bicubic, nearest, got 'cubic'"),
        (lambda: Resize(4)(pixels((1, 3, 0, 5))), "Resize needs images with pixels, got 0 x 5"),
        (lambda: CenterCrop((9, 10))(pixels()), "CenterCrop of 9 x 10 needs images at least that large, got 8 x 10"),
        (lambda: FiveCrop(11)(pixels()), "FiveCrop of 11 x 11 needs .* use Resize or Pad before it"),
        (lambda: TenCrop(11)(pixels()), "TenCrop of 11 x 11"),
        (lambda: RandomResizedCrop(-1), "size must be at least 1"),
        (lambda: RandomResizedCrop(4, scale=(0, 1)), "scale must be"),
        (lambda: RandomResizedCrop(4, scale=(0.5, 1.5)), "scale must be"),
        (lambda: RandomResizedCrop(4, ratio=(2, 1)), "ratio must be"),
        (lambda: RandomResizedCrop(4, interpolation="area"), "interpolation must be"),
        (lambda: RandomResizedCrop(4)(pixels((2, 3, 4, 0))), "RandomResizedCrop needs images with pixels"),
        (lambda: Resize(4)(pixels()[0]), "transforms take uint8 or float images"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("transform", [Resize, CenterCrop, RandomResizedCrop, FiveCrop, TenCrop])
def test_sizes_are_integers(transform):
    with pytest.raises(TypeError, match="size must be an integer or a pair"):
        transform(3.5)
