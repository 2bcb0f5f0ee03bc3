"""Image folders."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from minigrad import data
from minigrad.data import DataError, ImageDataset, ImageFolder, MissingDataError

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def pets(tmp_path):
    """Two classes of lossless 6 x 8 images: cat (3, one of them in a sub-folder), dog (2)."""
    rng = np.random.default_rng(0)
    for name in ("dog/b.png", "dog/a.PNG", "cat/1.png", "cat/2.bmp", "cat/more/3.ppm"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).save(path)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / ".hidden.png").write_text("no image")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def pixels(path):
    return np.asarray(Image.open(path)).transpose(2, 0, 1)


def test_images_and_labels(pets):
    folder = ImageFolder(pets)
    assert folder.classes == ("cat", "dog")
    assert folder.labels.tolist() == [0, 0, 0, 1, 1]
    assert [path.name for path in folder.paths] == ["1.png", "2.bmp", "3.ppm", "a.PNG", "b.png"]
    assert folder.image_shape == (3, 6, 8)
    image, label = folder[4]
    np.testing.assert_array_equal(image, pixels(pets / "dog" / "b.png"))
    assert label == 1
    batch, labels = folder.batch([4, 1])
    np.testing.assert_array_equal(batch[1], pixels(pets / "cat" / "2.bmp"))
    assert labels.tolist() == [1, 0]
    assert repr(folder) == f"ImageFolder({str(pets)!r}, 5 images of 3 x 6 x 8, 2 classes)"


def test_grey(pets):
    folder = ImageFolder(pets, mode="L")
    expected = np.asarray(Image.open(folder.paths[0]).convert("L"))
    np.testing.assert_array_equal(folder[0][0], expected[None])


@pytest.mark.parametrize("size", [4, (4, 4), (3, 8), (12, 16), 5])
def test_resize_covers_and_cuts_the_middle(pets, size):
    folder = ImageFolder(pets, size)
    h, w = (size, size) if isinstance(size, int) else size
    assert folder[0][0].shape == folder.image_shape == (3, h, w)
    if (h, w) == (4, 4):  # 6 x 8 -> 4 x 5 -> the middle 4 columns
        scaled = np.asarray(Image.open(folder.paths[0]).resize((5, 4), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(folder[0][0], scaled[:, :4].transpose(2, 0, 1))


def test_images_of_different_sizes_need_size(pets):
    Image.new("RGB", (7, 6)).save(pets / "dog" / "c.png")
    folder = ImageFolder(pets)
    with pytest.raises(DataError, match=r"c.png has 6 x 7 pixels, the first image 6 x 8: pass size="):
        folder[5]
    assert ImageFolder(pets, 6)[5][0].shape == (3, 6, 6)


def test_unreadable_image_is_named(pets):
    whole = (pets / "dog" / "b.png").read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        (pets / "dog" / "b.png").write_bytes(content)
        folder = ImageFolder(pets)
        with pytest.raises(DataError, match=r"dog/b.png cannot be read as an image"):
            folder[4]
        loader = data.DataLoader(folder, batch_size=5, num_workers=1)
        with pytest.raises(DataError, match=r"dog/b.png cannot be read as an image"):
            next(iter(loader))


def test_unreadable_images_are_left_out_on_request(pets):
    (pets / "cat" / "1.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"left out 1 unreadable images: .*1.png"):
        folder = ImageFolder(pets, skip_unreadable=True)
    assert len(folder) == 4
    assert folder.labels.tolist() == [0, 0, 1, 1]
    for path in folder.paths:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the 5 images"):
        ImageFolder(pets, skip_unreadable=True)


def test_sixteen_bit_images_are_refused(pets):
    Image.fromarray(np.full((6, 8), 40_000, np.uint16)).save(pets / "cat" / "1.png")
    with pytest.raises(DataError, match=r"1.png .*more than 8 bits per pixel"):
        ImageFolder(pets, 6)[0]


def test_load_into_memory(pets):
    folder = ImageFolder(pets)
    loaded = folder.load()
    assert isinstance(loaded, ImageDataset)
    np.testing.assert_array_equal(loaded.images, folder.batch(range(5))[0])
    assert loaded.classes == folder.classes


def test_bad_folders(tmp_path, pets):
    with pytest.raises(MissingDataError, match="is not a folder"):
        ImageFolder(tmp_path / "nothing here")
    with pytest.raises(DataError, match="has no sub-folders"):
        ImageFolder(pets / "dog")
    (pets / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no images \(.jpg"):
        ImageFolder(pets)
    with pytest.raises(ValueError, match="mode must be"):
        ImageFolder(pets, mode="CMYK")
    with pytest.raises(ValueError, match="size must be at least 1"):
        ImageFolder(pets, 0)


def test_without_pillow(pets, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="needs Pillow: pip install pillow"):
        ImageFolder(pets)


def test_create_splits_a_plain_folder(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for k in range(10):
            Image.new("RGB", (4, 4), (k, 0, 0)).save(tmp_path / name / f"{k}.png")
    train, test = (data.create("folder", tmp_path, part) for part in (True, False))
    assert (len(train), len(test)) == (16, 4)
    assert not set(train.paths) & set(test.paths)
    assert test.labels.tolist() == [0, 0, 1, 1]


def test_create_uses_train_and_test_folders(tmp_path):
    for part, count in (("train", 3), ("val", 1)):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for k in range(count):
                Image.new("L", (4, 4), k).save(tmp_path / part / name / f"{k}.png")
    assert len(data.create("folder", tmp_path, mode="L")) == 6
    assert len(data.create("folder", tmp_path, train=False, mode="L", size=2)) == 2


def test_standard_transform_of_a_folder(pets):
    folder = ImageFolder(pets, 16)
    x = data.standard_transforms(folder)(folder.batch([0, 1])[0], np.random.default_rng(0))
    assert x.shape == (2, 3, 16, 16)
    assert x.dtype == np.float32
