"""The drawn cells: fixed, numbered, touching, hard to find by brightness."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from minigrad import data
from minigrad.data import Cells, JointCompose, MirrorPad, channel_statistics
from minigrad.data.transforms import Normalize


@pytest.fixture(scope="module")
def cells():
    return Cells(), Cells(train=False)


def test_cells_are_two_fixed_sets(cells):
    train, test = cells
    assert (len(train), len(test)) == (60, 20)
    assert (train.image_shape, train.name, train.instances) == ((1, 132, 132), "cells", True)
    assert train.classes == ("background", "cell")
    assert repr(test) == "Cells('cells', 20 images of 1 x 132 x 132 with masks of instances)"
    again = Cells()
    np.testing.assert_array_equal(again.images, train.images)
    np.testing.assert_array_equal(again.masks, train.masks)
    everything = [image.tobytes() for part in cells for image in part.images]
    assert len(set(everything)) == 80
    assert len({mask.tobytes() for part in cells for mask in part.masks}) == 80
    # Another drawing would make all results that were measured on this one void.
    sums = [zlib.crc32(np.ascontiguousarray(array).tobytes()) for part in cells for array in (part.images, part.masks)]
    assert sums == [1485036942, 641582647, 176150704, 905972529]


def test_constants_of_cells(cells):
    mean, std = channel_statistics(cells[0])
    np.testing.assert_allclose(cells[0].mean, mean, atol=5e-5)
    np.testing.assert_allclose(cells[0].std, std, atol=5e-5)


def pieces(mask):
    """The parts of a mask that hang together through the sides of equal pixels: one set of (row, column) each; by walking."""
    left, found = {(i, j) for i, j in zip(*np.nonzero(mask), strict=True)}, []
    while left:
        start = left.pop()
        part, border = {start}, [start]
        while border:
            i, j = border.pop()
            for there in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if there in left and mask[there] == mask[i, j]:
                    left.remove(there)
                    part.add(there)
                    border.append(there)
        found.append(part)
    return found


@pytest.mark.parametrize("size", [132, 48])
def test_every_cell_is_one_piece_with_a_number(cells, size):
    parts = cells if size == 132 else (Cells(size=size),)
    for masks in (part.masks for part in parts):
        assert masks.dtype == np.uint8
        for mask in masks:
            count = int(mask.max())
            assert 8 <= count <= 16
            assert set(np.unique(mask)) == set(range(count + 1))
            assert len(pieces(mask)) == count


def touching(mask):
    """Pairs of cells with pixels side by side."""
    pairs = set()
    for a, b in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
        at = (a != b) & (a > 0) & (b > 0)
        pairs |= {tuple(sorted(p)) for p in zip(a[at].tolist(), b[at].tolist(), strict=True)}
    return pairs


def test_cells_touch(cells):
    pairs = [len(touching(mask)) for part in cells for mask in part.masks]
    assert min(pairs) >= 1
    assert np.mean(pairs) > 5


def test_no_threshold_finds_the_cells(cells):
    for image, mask in zip(cells[1].images[:, 0], cells[1].masks, strict=True):
        right = [((image > level) == (mask > 0)).mean() for level in range(256)]
        assert max(*right, *(1 - r for r in right)) < 0.8


def test_seams_between_cells_are_darker(cells):
    """A cell's pixels beside another cell are darker than those one pixel further in: so touching cells can be told apart."""
    seam, inner = [], []
    for image, mask in zip(cells[0].images[:, 0].astype(float), cells[0].masks.astype(int), strict=True):
        a, b = mask[:, 4:-5], mask[:, 5:-4]
        i, j = np.nonzero((a > 0) & (b > 0) & (a != b) & (mask[:, 1:-8] == a) & (mask[:, 8:-1] == b))
        seam += image[i, j + 4].tolist()
        inner += ((image[i, j + 1] + image[i, j + 8]) / 2).tolist()
    assert len(seam) > 500
    assert np.mean(seam) < np.mean(inner) - 8


@pytest.mark.parametrize(("size", "error"), [(47, ValueError), (0, ValueError), (64.0, TypeError), (True, TypeError)])
def test_wrong_sizes_of_cells(size, error):
    with pytest.raises(error, match="size must be"):
        Cells(size=size)


def test_cells_of_other_sizes_with_a_transform():
    small = Cells(train=False, size=50, transform=JointCompose([Normalize((0.5,), (0.5,)), MirrorPad(4)]))
    image, mask = small[0]
    assert (image.shape, mask.shape) == ((1, 58, 58), (50, 50))
    assert small.select([3, 4]).image_shape == (1, 50, 50)


def test_create_cells():
    test = data.create("cells", train=False, size=64)
    assert (type(test), len(test), test.image_shape) == (Cells, 20, (1, 64, 64))
    assert data.is_available("cells")
    with pytest.raises(TypeError, match="'cells' takes no option 'mode'"):
        data.create("cells", size=64, mode="L")
