"""standard_transforms: augmentations and normalizations by name, and images larger than the network's."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.data import ImageDataset, standard_transforms
from minigrad.data.standard import stored_size


def an_image_set(channels: int, size: int) -> ImageDataset:
    images = np.random.default_rng(0).integers(0, 256, (5, channels, size, size), np.uint8)
    return ImageDataset(images, np.zeros(5, np.int64), mean=(0.0,) * channels, std=(1 / 255,) * channels)


def steps_of(*arguments, **options) -> list[str]:
    return [type(step).__name__ for step in standard_transforms(*arguments, **options).transforms]


def test_augmentation_by_name():
    color, grey = an_image_set(3, 16), an_image_set(1, 16)
    assert steps_of(color, augment="none") == steps_of(color, train=False, augment="inception") == ["Normalize"]
    assert steps_of(color, augment="alexnet") == ["RandomCrop", "RandomHorizontalFlip", "PCALighting", "Normalize"]
    assert steps_of(grey, augment="alexnet") == ["RandomCrop", "RandomHorizontalFlip", "Normalize"]
    assert steps_of(color, augment="inception") == ["RandomResizedCrop", "RandomHorizontalFlip", "ColorJitter", "Normalize"]
    assert steps_of(grey, augment="elastic") == ["ElasticDeformation", "Normalize"]
    deformation = standard_transforms(an_image_set(1, 56), augment="elastic").transforms[0]
    assert (deformation.sigma, deformation.alpha) == (8, 34 * 4)  # moves twice as many pixels, as far apart
    with pytest.raises(ValueError, match="augment must be one of none, standard, alexnet, inception, elastic, got 'all'"):
        standard_transforms(color, augment="all")
    with pytest.raises(ValueError, match="normalize must be one of own, imagenet, half, got 'no'"):
        standard_transforms(color, normalize="no")


@pytest.mark.parametrize("augment", ["alexnet", "inception"])
def test_of_larger_images_parts_are_cut_out(augment):
    images = an_image_set(3, 16)
    trained = standard_transforms(images, size=14, augment=augment)(images.images, np.random.default_rng(0))
    assert trained.shape == (5, 3, 14, 14)
    tested = standard_transforms(images, train=False, size=14, augment=augment)(images.images)
    np.testing.assert_allclose(tested, images.images[:, :, 1:15, 1:15], atol=1e-3)  # the middle
    with pytest.raises(ValueError, match="images of 16 x 16 cannot be padded evenly to size 14 x 14"):
        standard_transforms(images, size=14)
    with pytest.raises(ValueError, match="cannot be padded evenly to size 18 x 14"):
        standard_transforms(images, size=(18, 14), augment=augment)


def test_how_large_images_are_kept():
    assert stored_size((224, 224), "alexnet") == stored_size((224, 224), "inception") == (256, 256)
    assert stored_size((227, 112), "alexnet") == (259, 128)
    assert stored_size((224, 224), "standard") == stored_size((224, 224), "elastic") == (224, 224)
