"""Images and masks in folders: a round trip, kinds of masks, resizing together, what cannot be used."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from synthetic import numbers, pixels

from minigrad import data
from minigrad.data import (
    DataError,
    DataLoader,
    JointCompose,
    MirrorPad,
    MissingDataError,
    RandomFlipsAndTurns,
    SegmentationDataset,
    SegmentationFolder,
)

Image = pytest.importorskip("PIL.Image")


def write(root, name, image, mask, endings=(".png", ".png")):
    for folder, array, ending in zip(("images", "masks"), (image, mask), endings, strict=True):
        (root / folder).mkdir(parents=True, exist_ok=True)
        picture = array if hasattr(array, "save") else Image.fromarray(array)
        picture.save(root / folder / (name + ending))


def write_many(root, count=5, height=6, width=8, highest=3, factor=1):
    images, masks = pixels((count, height, width)), numbers((count, height, width), highest) * factor
    for k in range(count):
        write(root, f"{k}", images[k], masks[k].astype(np.uint8))
    return images, masks


def test_folder_round_trip(tmp_path):
    images, masks = write_many(tmp_path)
    (tmp_path / "images" / ".hidden.png").write_text("no image")
    (tmp_path / "masks" / "notes.txt").write_text("no image")
    folder = SegmentationFolder(tmp_path)
    assert isinstance(folder, SegmentationDataset)
    assert folder.names == ["0", "1", "2", "3", "4"]
    assert (folder.image_shape, folder.num_classes, folder.name) == ((1, 6, 8), 4, "masks")
    found, their = folder.batch(range(5))
    np.testing.assert_array_equal(found[:, 0], images)
    np.testing.assert_array_equal(their, masks)
    assert SegmentationFolder(tmp_path, instances=True).classes == ("background", "cell")
    assert SegmentationFolder(tmp_path, classes="abcde").num_classes == 5
    part = folder.select([3, 1])
    assert part.names == ["3", "1"]
    np.testing.assert_array_equal(part[0][1], masks[3])
    for x, m in DataLoader(folder, 4, transform=JointCompose([RandomFlipsAndTurns(), MirrorPad(9)])):
        assert (x.shape[2:], m.shape[1:]) == ((24, 26), (6, 8))


def test_folder_of_colors_and_of_many_kinds_of_masks(tmp_path):
    color, mask = pixels((6, 8, 3)), numbers((6, 8))
    mask[0, 0] = 3
    palette = Image.new("P", (8, 6))
    palette.putdata(mask.ravel().tolist())
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 70, 70, 70])
    write(tmp_path, "palette", color, palette, (".bmp", ".png"))
    write(tmp_path, "grey", color, mask.astype(np.uint8), (".png", ".TIF"))
    write(tmp_path, "long", color, mask.astype(np.uint16) + 300)
    write(tmp_path, "black and white", color, mask > 1)
    folder = SegmentationFolder(tmp_path, mode="RGB", instances=True)
    assert folder.names == ["black and white", "grey", "long", "palette"]
    assert folder.image_shape == (3, 6, 8)
    found, masks = folder.batch(range(4))
    np.testing.assert_array_equal(found, np.stack([color.transpose(2, 0, 1)] * 4))
    np.testing.assert_array_equal(masks, np.stack([mask > 1, mask, mask + 300, mask]))


def test_binary_masks(tmp_path):
    _, masks = write_many(tmp_path, highest=1, factor=255)
    for options in ({}, {"instances": True}, {"classes": ("street", "car")}):
        folder = SegmentationFolder(tmp_path, **options)
        assert folder.num_classes == 2
        np.testing.assert_array_equal(folder.batch(range(5))[1], masks // 255)
    many = SegmentationFolder(tmp_path, classes=[str(k) for k in range(256)])
    np.testing.assert_array_equal(many.batch(range(5))[1], masks)
    masks[2, 3, 4] = 254
    Image.fromarray(masks[2].astype(np.uint8)).save(tmp_path / "masks" / "2.png")
    np.testing.assert_array_equal(SegmentationFolder(tmp_path, instances=True).batch(range(5))[1], masks)


@pytest.mark.parametrize("size", [4, (4, 4), (3, 8), (12, 16), 5, (5, 9)])
def test_resizing_keeps_image_and_mask_together(tmp_path, size):
    """Two halves and a spot, large enough that the edges of image and mask can be compared after resizing."""
    for k, (height, width) in enumerate(((60, 80), (90, 50))):
        mask = np.zeros((height, width), np.uint8)
        mask[:, width // 2 :] = 2
        mask[: height // 3] = 1
        write(tmp_path, f"{k}", mask * 100, mask)
    folder = SegmentationFolder(tmp_path, size)
    h, w = (size, size) if isinstance(size, int) else size
    assert folder.image_shape == (1, h, w)
    for k, (height, width) in enumerate(((60, 80), (90, 50))):
        image, mask = folder[k]
        factor = max(h / height, w / width)
        top, left = (round(height * factor) - h) / 2, (round(width * factor) - w) / 2
        for i in range(h):
            for j in range(w):
                y, x = (i + round(top) + 0.5) / factor, (j + round(left) + 0.5) / factor  # that point of the original
                if min(abs(y - height // 3), abs(x - width // 2)) * factor > 1.5:  # away from the edges
                    assert mask[i, j] == (1 if y < height // 3 else 2 if x > width // 2 else 0)
                    assert image[0, i, j] == 100 * mask[i, j]


def test_resized_masks_hold_only_their_own_numbers(tmp_path):
    mask = numbers((30, 40), 4) * 10_000
    write(tmp_path, "a", pixels((30, 40)), mask.astype(np.uint16))
    folder = SegmentationFolder(tmp_path, 17, instances=True)
    assert set(np.unique(folder.masks)) == {0, 10_000, 20_000, 30_000, 40_000}


def test_images_of_differing_sizes(tmp_path):
    write_many(tmp_path)
    write(tmp_path, "9", pixels((7, 8)), numbers((7, 8)).astype(np.uint8))
    with pytest.raises(DataError, match=r"images/9.png has 7 x 8 pixels, the first image 6 x 8: pass size="):
        SegmentationFolder(tmp_path)
    assert SegmentationFolder(tmp_path, 6).image_shape == (1, 6, 6)
    write(tmp_path, "9", pixels((6, 8)), numbers((6, 7)).astype(np.uint8))
    for size in (None, 6):
        with pytest.raises(DataError, match=r"masks/9.png has 6 x 7 pixels, its image 6 x 8"):
            SegmentationFolder(tmp_path, size)


def test_images_and_masks_without_partners(tmp_path):
    write_many(tmp_path, 9)
    (tmp_path / "images" / "4.png").unlink()
    with pytest.raises(DataError, match=r"1 of the masks in .* have no file of the same name in images: 4$"):
        SegmentationFolder(tmp_path)
    (tmp_path / "masks" / "4.png").unlink()
    for k in (0, 1, 2, 5, 6, 7):
        (tmp_path / "masks" / f"{k}.png").unlink()
    with pytest.raises(DataError, match=r"6 of the images in .* have no file of the same name in masks: 0, 1, 2, 5, 6, ...$"):
        SegmentationFolder(tmp_path)


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(MissingDataError, match=r"images is not a folder: SegmentationFolder needs"):
        SegmentationFolder(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"images holds no images \(.jpg"):
        SegmentationFolder(tmp_path)
    write_many(tmp_path)
    with pytest.raises(ValueError, match="mode must be"):
        SegmentationFolder(tmp_path, mode="CMYK")
    with pytest.raises(ValueError, match="size must be at least 1"):
        SegmentationFolder(tmp_path, 0)
    with pytest.raises(ValueError, match=r"at most 2 \(there are 3 classes\)"):
        SegmentationFolder(tmp_path, classes="abc")
    Image.fromarray(pixels((6, 8))).save(tmp_path / "images" / "1.bmp")
    with pytest.raises(DataError, match=r"holds both 1.bmp and 1.png"):
        SegmentationFolder(tmp_path)
    (tmp_path / "images" / "1.bmp").unlink()
    Image.fromarray(pixels((6, 8)).astype(np.uint16)).save(tmp_path / "images" / "1.png")
    with pytest.raises(DataError, match=r"images/1.png .*more than 8 bits per pixel"):
        SegmentationFolder(tmp_path)
    write(tmp_path, "1", pixels((6, 8)), pixels((6, 8, 3)))
    with pytest.raises(DataError, match=r"masks/1.png cannot be read as a mask: .*one whole number per pixel.* not mode RGB"):
        SegmentationFolder(tmp_path)
    (tmp_path / "masks" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"masks/1.png cannot be read as a mask"):
        SegmentationFolder(tmp_path)


def test_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="needs Pillow: pip install pillow"):
        SegmentationFolder(tmp_path)


# ---- by name -----------------------------------------------------------------------------------------------------------


def test_create_splits_a_folder_of_masks(tmp_path):
    write_many(tmp_path, 10)
    train, test = (data.create("masks", tmp_path, part, size=4, mode="RGB", instances=True) for part in (True, False))
    assert test.names == ["2", "7"]
    assert sorted(train.names + test.names) == [str(k) for k in range(10)]
    assert (train.image_shape, train.instances) == ((3, 4, 4), True)
    with pytest.raises(ValueError, match='"masks" reads any folder'):
        data.is_available("masks")
    with pytest.raises(MissingDataError, match='"masks" needs root=: a folder with the sub-folders images and masks'):
        data.create("masks")


@pytest.mark.parametrize("name", ["test", "val"])
def test_create_uses_train_and_test_folders_of_masks(tmp_path, name):
    write_many(tmp_path / "train", 3)
    write_many(tmp_path / name, 2)
    train, test = (data.create("masks", tmp_path, part, transform=RandomFlipsAndTurns()) for part in (True, False))
    assert (len(train), len(test)) == (3, 2)
    assert test.transform == RandomFlipsAndTurns()
