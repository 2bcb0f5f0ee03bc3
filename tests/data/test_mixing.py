"""Mixup and CutMix: values worked out by hand or with the same draws, labels, kinds of input, statistics, wrong arguments."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad import random
from minigrad.data import CutMix, Mixup
from minigrad.kernels.layout import is_channels_last
from minigrad.nn import functional as F

KINDS = (Mixup, CutMix)


def batch(n=6, dtype=np.float32, shape=(3, 8, 10)):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, *shape), np.uint8)
    return images if dtype == np.uint8 else (images / 255).astype(dtype), rng.integers(0, 4, n)


def draws(seed, alpha, n):
    """The numbers that a call with this seed uses, up to the mixing itself."""
    rng = np.random.default_rng(seed)
    rng.random()
    return rng.beta(alpha, alpha), rng.permutation(n), rng


def test_mixup_adds_pairs():
    images, labels = batch()
    y, soft = Mixup(0.7, num_classes=4)(images, labels, np.random.default_rng(3))
    lam, partners, _ = draws(3, 0.7, 6)
    assert 0.05 < lam < 0.95
    assert (partners != np.arange(6)).any()
    np.testing.assert_allclose(y, lam * images + (1 - lam) * images[partners], atol=1e-6)
    one_hot = np.eye(4)[labels]
    np.testing.assert_allclose(soft, lam * one_hot + (1 - lam) * one_hot[partners], atol=1e-6)


def test_mixup_of_bytes_rounds_once():
    images, labels = batch(dtype=np.uint8)
    y, _ = Mixup(0.7, num_classes=4)(images, labels, np.random.default_rng(3))
    lam, partners, _ = draws(3, 0.7, 6)
    assert abs(y - (lam * images + (1 - lam) * images[partners])).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_replaces_one_rectangle(seed):
    images, labels = batch(shape=(1, 12, 20))
    images[:] = np.arange(6).reshape(6, 1, 1, 1)  # each pixel says which image it is from
    y, soft = CutMix(1.0, num_classes=4)(images, labels, np.random.default_rng(seed))
    lam, partners, rng = draws(seed, 1.0, 6)
    edges = []
    for size in (12, 20):
        half, centre = int(size * (1 - lam) ** 0.5) // 2, rng.integers(size)
        edges.append((max(0, centre - half), min(size, centre + half)))
    (top, bottom), (left, right) = edges
    expected = images.copy()
    expected[:, :, top:bottom, left:right] = images[partners][:, :, top:bottom, left:right]
    np.testing.assert_array_equal(y, expected)
    share = (bottom - top) * (right - left) / 240
    np.testing.assert_allclose(soft, (1 - share) * np.eye(4)[labels] + share * np.eye(4)[labels[partners]], atol=1e-6)


def test_cutmix_labels_say_how_many_pixels_are_whose():
    images = np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1) * np.ones((5, 2, 16, 16), np.float32)
    shares = []
    for seed in range(300):
        y, soft = CutMix(1.0, num_classes=5)(images, np.arange(5), np.random.default_rng(seed))
        counted = np.stack([(y == k).mean((1, 2, 3)) for k in range(5)], 1)
        np.testing.assert_allclose(soft, counted, atol=1e-6)
        shares.append(soft[np.arange(5), np.arange(5)].min())
    # The side s = sqrt(1 - lam) keeps s - s^2 / 4 within the border on average; squared and averaged over a uniform lam: 0.321.
    assert np.mean(shares) == pytest.approx(1 - 0.321, abs=0.05)
    assert min(shares) < 0.3
    assert max(shares) == 1


def test_mixup_is_beta_distributed():
    images, labels = np.zeros((2, 1, 1, 1), np.float32), np.array([0, 1])
    rng, shares = np.random.default_rng(0), []
    while len(shares) < 2000:
        _, soft = Mixup(0.2, num_classes=2)(images, labels, rng)
        assert soft.sum(1) == pytest.approx(1)
        if soft[0, 0] != 1:  # not paired with itself
            shares.append(soft[0, 0])
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.4), abs=0.015)  # of Beta(a, a): 1 / (4 (2 a + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_probability_of_mixing(kind):
    images, labels = batch()
    untouched = kind(1.0, num_classes=4, p=0)
    y, soft = untouched(images, labels, np.random.default_rng(0))
    np.testing.assert_array_equal(y, images)
    np.testing.assert_array_equal(soft, np.eye(4)[labels])
    assert not np.shares_memory(y, images)
    rng = np.random.default_rng(0)
    mixed = [not np.array_equal(kind(5.0, 4, p=0.3)(images, labels, rng)[0], images) for _ in range(300)]
    assert 0.2 < np.mean(mixed) < 0.4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_same_seed_same_bits_and_dtype(kind, dtype):
    images, labels = batch(dtype=dtype)
    mixing, before = kind(num_classes=4), images.copy()
    y, soft = mixing(images, labels, np.random.default_rng(2))
    again, soft_again = mixing(images, labels, np.random.default_rng(2))
    np.testing.assert_array_equal(y, again)
    np.testing.assert_array_equal(soft, soft_again)
    np.testing.assert_array_equal(images, before)
    assert y.dtype == dtype
    assert soft.dtype == (np.float32 if dtype == np.uint8 else dtype)
    assert is_channels_last(y)
    random.manual_seed(5)
    first = mixing(images, labels)[0]
    random.manual_seed(5)
    np.testing.assert_array_equal(mixing(images, labels)[0], first)
    assert not np.array_equal(mixing(images, labels)[0], first)
    empty, none = mixing(images[:0], labels[:0])
    assert empty.shape == (0, 3, 8, 10)
    assert none.shape == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_and_the_loss(kind):
    images, labels = batch()
    arrays = kind(0.9, 4)(images, labels, np.random.default_rng(2))
    y, soft = kind(0.9, 4)(mg.tensor(images), mg.tensor(labels), np.random.default_rng(2))
    np.testing.assert_array_equal(y.numpy(), arrays[0])
    np.testing.assert_array_equal(soft.numpy(), arrays[1])
    logits = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    lam, partners, _ = draws(2, 0.9, 6)
    if kind is CutMix:
        lam = 1 - (arrays[0] != images).any(1).mean((1, 2)).max()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    a, b = (-log_p[np.arange(6), t].mean() for t in (labels, labels[partners]))
    assert F.cross_entropy(mg.tensor(logits), soft).item() == pytest.approx(lam * a + (1 - lam) * b, rel=1e-4)


def test_one_after_the_other():
    images, labels = batch()
    y, soft = CutMix()(*Mixup(num_classes=4)(images, labels, np.random.default_rng(0)), np.random.default_rng(1))
    assert y.shape == images.shape
    np.testing.assert_allclose(soft.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments(kind):
    for wrong in (0, -1, float("nan"), float("inf"), "1", True):
        with pytest.raises(ValueError, match="alpha must be a number above 0"):
            kind(wrong)
    for wrong in (0, 2.5, True):
        with pytest.raises(ValueError, match="num_classes must be an integer of at least 1"):
            kind(num_classes=wrong)
    with pytest.raises(ValueError, match="p must be a probability"):
        kind(p=2)
    images, labels = batch()
    with pytest.raises(ValueError, match=rf"{kind.__name__}\(num_classes=...\)"):
        kind()(images, labels)
    with pytest.raises(ValueError, match="labels must be at least 0 and at most 1"):
        kind(num_classes=2)(images, labels)
    with pytest.raises(ValueError, match="labels must be 6 integers"):
        kind(num_classes=4)(images, labels[:5])
    with pytest.raises(ValueError, match="labels must be 6 class indices, or float probabilities"):
        kind(num_classes=4)(images, labels[:, None])
    with pytest.raises(ValueError, match="probabilities of 4 classes, num_classes is 5"):
        kind(num_classes=5)(images, np.eye(4)[labels])
    with pytest.raises(ValueError, match="transforms take uint8 or float images"):
        kind(num_classes=4)(images[0], labels)
    with pytest.raises(TypeError, match="labels must be a NumPy array or a Tensor, got list"):
        kind(num_classes=4)(images, labels.tolist())
