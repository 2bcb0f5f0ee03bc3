"""Elastic deformations and border weights: values by hand and by brute force, statistics, masks, types, wrong arguments."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad import random
from minigrad.data import ElasticDeformation, GridDeformation, border_weights
from minigrad.data.elastic import _bicubic, deform, deform_masks
from minigrad.data.transforms import Compose, ToTensor
from minigrad.kernels.layout import channels_last, is_channels_last

EXAMPLES = [ElasticDeformation(20.0, 2.0), GridDeformation(2.0)]


def pixels(shape=(6, 3, 8, 10), seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def shifts(n, height, width, down, right):
    return np.stack([np.full((n, height, width), float(down)), np.full((n, height, width), float(right))], 1)


@pytest.mark.parametrize("transform", EXAMPLES, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_rules_for_all(transform, dtype):
    x = pixels() if dtype == np.uint8 else (pixels() / 255).astype(dtype)
    before = x.copy()
    y = transform(x, np.random.default_rng(1))
    np.testing.assert_array_equal(x, before)
    assert not np.array_equal(y, x)
    assert y.dtype == dtype
    assert y.shape == x.shape
    assert is_channels_last(y)
    np.testing.assert_array_equal(transform(x, np.random.default_rng(1)), y)
    np.testing.assert_array_equal(transform(channels_last(x), np.random.default_rng(1)), y)
    assert transform(x[:0], np.random.default_rng(1)).shape == (0, 3, 8, 10)
    random.manual_seed(3)
    first = transform(x)
    random.manual_seed(3)
    np.testing.assert_array_equal(transform(x), first)
    assert Compose([transform, ToTensor()])(x).dtype == np.float32


# ---- moving pixels ----------------------------------------------------------------------------------------------------


def test_shifts_and_mirrors():
    x = np.arange(20.0).reshape(1, 1, 4, 5)
    moved = deform(x, shifts(1, 4, 5, 1, -2))
    # Rows 1 2 3 and then 2 again, columns 2 1 0 1 2: mirrored at the border pixels, which are not repeated.
    np.testing.assert_array_equal(moved[0, 0], x[0, 0][[1, 2, 3, 2]][:, [2, 1, 0, 1, 2]])
    far = deform(x, shifts(1, 4, 5, 6, 8))  # a whole period of the mirror images
    np.testing.assert_array_equal(far, x)
    between = deform(x, shifts(1, 4, 5, 0.25, 0.5))
    assert between[0, 0, 0, 0] == pytest.approx(0.25 * 5 + 0.5)
    assert deform(x.astype(np.uint8), shifts(1, 4, 5, 0, 0.75))[0, 0, 0].tolist() == [1, 2, 3, 4, 3]  # 0.75 is rounded to 1
    thin = np.arange(4.0).reshape(1, 1, 1, 4)
    np.testing.assert_array_equal(deform(thin, shifts(1, 1, 4, 2.5, 0)), thin)


def test_images_move_one_by_one():
    x = pixels((2, 3, 5, 6)).astype(np.float64)
    field = np.concatenate([shifts(1, 5, 6, 0, 0), shifts(1, 5, 6, 0, 1)])
    y = deform(x, field)
    np.testing.assert_array_equal(y[0], x[0])
    np.testing.assert_array_equal(y[1, :, :, :-1], x[1, :, :, 1:])


def test_deform_is_bilinear():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, field = rng.random((3, 2, 9, 12)), 4 * rng.standard_normal((3, 2, 9, 12))
    rows, columns = np.arange(9)[:, None] + field[:, 0], np.arange(12) + field[:, 1]
    grid = np.stack([2 * columns / 11 - 1, 2 * rows / 8 - 1], 3)
    expected = torch.nn.functional.grid_sample(
        torch.tensor(x), torch.tensor(grid), mode="bilinear", padding_mode="reflection", align_corners=True
    )
    np.testing.assert_allclose(deform(x, field), expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("transform", EXAMPLES, ids=lambda t: type(t).__name__)
def test_masks_move_with_their_images(transform):
    rows, columns = np.mgrid[:32, :40]
    masks = np.stack([((rows - 14) ** 2 + (columns - k) ** 2 < 100) * k for k in (15, 20, 25)]).astype(np.int32)
    images = np.repeat((masks > 0)[:, None], 2, 1).astype(np.float32)
    y, moved = transform.with_masks(images, masks, np.random.default_rng(0))
    np.testing.assert_array_equal(y, transform(images, np.random.default_rng(0)))  # the same field as without masks
    assert moved.dtype == np.int32
    assert not np.array_equal(moved, masks)
    for k, mask in zip((15, 20, 25), moved, strict=True):
        assert set(np.unique(mask)) == {0, k}
    inner, outer = y[:, 0] > 0.75, y[:, 0] < 0.25  # near the edge the nearest pixel may differ from the mixture
    assert (moved[inner] > 0).all()
    assert (moved[outer] == 0).all()


# ---- the fields -------------------------------------------------------------------------------------------------------


def test_smooth_noise():
    field = ElasticDeformation(34, 4).field(50, 40, 30, np.random.default_rng(0))
    assert field.shape == (50, 2, 40, 30)
    assert field.std() == pytest.approx(0.163 * 34 / 4, rel=0.05)
    np.testing.assert_allclose(field.std((0, 2, 3)), field.std(), rtol=0.1)
    edge, middle = field[..., 0, :].std(), field[..., 20, :].std()
    assert edge == pytest.approx(middle, rel=0.15)
    # Noise filtered by a Gaussian is correlated as exp(-distance^2 / (4 sigma^2)).
    for distance in (2, 4, 8):
        correlation = (field[..., distance:] * field[..., :-distance]).mean() / field.var()
        assert correlation == pytest.approx(np.exp(-(distance**2) / 64), abs=0.06)
    assert abs((field[:, 0] * field[:, 1]).mean()) < 0.1 * field.var()


def test_smooth_noise_by_hand():
    noise = 2 * np.random.default_rng(0).random((1, 2, 3 + 6, 2 + 6), np.float32).astype(np.float64) - 1
    weights = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 0.75**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    expected = [[[(5 * weights * noise[0, a, i : i + 7, j : j + 7]).sum() for j in range(2)] for i in range(3)] for a in range(2)]
    field = ElasticDeformation(5, 0.75).field(1, 3, 2, np.random.default_rng(0))
    np.testing.assert_allclose(field[0], expected, atol=1e-6)


def test_grid_points_are_met():
    field = GridDeformation(10).field(2, 9, 13, np.random.default_rng(0))
    points = 10 * np.random.default_rng(0).standard_normal((2, 2, 3, 3))
    np.testing.assert_allclose(field[:, :, ::4, ::6], points, atol=1e-12)
    five = GridDeformation(10, points=5).field(300, 9, 9, np.random.default_rng(0))
    assert five[:, :, ::2, ::2].std() == pytest.approx(10, rel=0.02)
    constant = _bicubic(np.full((1, 2, 3, 3), 7.0), 6, 5)
    np.testing.assert_allclose(constant, 7)
    single = GridDeformation(10).field(2, 1, 1, np.random.default_rng(0))
    np.testing.assert_allclose(single[..., 0, 0], points[..., 0, 0])


def test_grid_is_interpolated_as_pytorch_does():
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(0).standard_normal((2, 2, 3, 3))
    expected = torch.nn.functional.interpolate(torch.tensor(grid), (20, 33), mode="bicubic", align_corners=True)
    np.testing.assert_allclose(_bicubic(grid, 20, 33), expected.numpy(), atol=1e-12)


def test_no_strength_changes_nothing():
    for transform in (ElasticDeformation(0, 3), GridDeformation(0)):
        np.testing.assert_array_equal(transform(pixels()), pixels())


# ---- border_weights ---------------------------------------------------------------------------------------------------


def brute_force(mask, w0, sigma):
    """The formula, with the distance of every pixel to every cell."""
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    count = (mask > 0).sum()
    w = np.where(mask > 0, mask.size / (2 * count), mask.size / (2 * (mask.size - count)))
    distances = []
    for cell in np.unique(mask[mask > 0]):
        r, c = np.nonzero(mask == cell)
        distances.append(np.hypot(rows[..., None] - r, columns[..., None] - c).min(2))
    d1, d2 = np.sort(distances, 0)[:2]
    return w + w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))


def test_border_weights_by_hand():
    weights = border_weights(np.array([[1, 0, 0, 0, 2]]), w0=10, sigma=2)
    # d1 + d2 is 4 everywhere between the two; the classes are 2 and 3 of 5 pixels.
    ridge = 10 * np.exp(-16 / 8)
    np.testing.assert_allclose(weights, np.array([[5 / 4, 5 / 6, 5 / 6, 5 / 6, 5 / 4]]) + ridge, rtol=1e-6)
    assert weights.dtype == np.float32
    diagonal = border_weights(np.array([[7, 0], [0, 3]]), w0=1, sigma=1, class_weights=(0.5, 2))
    a, b = np.exp(-1.0), np.exp(-2 / 2)  # 1 + 1 pixels beside both; 0 + sqrt(2) in the cells
    np.testing.assert_allclose(diagonal, [[2 + b, 0.5 + a * a], [0.5 + a * a, 2 + b]], rtol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_border_weights_like_brute_force(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((24, 31), np.int64)
    for cell in range(1, 4 + 2 * seed):
        top, left = rng.integers(0, 22), rng.integers(0, 28)
        mask[top : top + rng.integers(1, 6), left : left + rng.integers(1, 7)] = cell * 11
    mask[rng.random(mask.shape) < 0.02] = 5  # a cell in pieces
    np.testing.assert_allclose(border_weights(mask, 10, 5), brute_force(mask, 10, 5), rtol=1e-5)
    np.testing.assert_allclose(border_weights(mask.T, 3, 1.5), brute_force(mask.T, 3, 1.5), rtol=1e-5)  # beyond 15 pixels: 0


def test_border_weights_of_few_cells_and_of_batches():
    empty, one = np.zeros((6, 7), np.int32), np.zeros((6, 7), np.int32)
    one[2:4, 2:5] = 9
    np.testing.assert_array_equal(border_weights(empty), np.ones((6, 7)))
    np.testing.assert_array_equal(border_weights(np.full((6, 7), 4)), np.ones((6, 7)))
    np.testing.assert_allclose(border_weights(one), np.where(one > 0, 42 / 12, 42 / 72), rtol=1e-6)
    assert border_weights(one).mean() == pytest.approx(1)
    two = one.copy()
    two[5, 6] = 1
    batch = border_weights(np.stack([one, two, empty]))
    for weights, mask in zip(batch, (one, two, empty), strict=True):
        np.testing.assert_array_equal(weights, border_weights(mask))
    assert border_weights(np.zeros((0, 4, 4), int)).shape == (0, 4, 4)


# ---- wrong arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ElasticDeformation(-1), "alpha must be a number of at least 0"),
        (lambda: ElasticDeformation(1, 0), "sigma must be a number above 0"),
        (lambda: ElasticDeformation(1, float("inf")), "sigma must be"),
        (lambda: GridDeformation("10"), "std must be a number"),
        (lambda: GridDeformation(points=1), "points must be an integer of at least 2"),
        (lambda: GridDeformation()(pixels()[0]), "transforms take uint8 or float images"),
        (
            lambda: GridDeformation().with_masks(pixels(), pixels()[:, 0, 1:]),
            r"masks must have the shape \(6, 8, 10\), as the im",
        ),
        (lambda: deform_masks(pixels(), shifts(6, 8, 10, 0, 0)), r"masks must have the shape \(N, H, W\)"),
        (lambda: deform(pixels(), shifts(6, 8, 9, 0, 0)), r"field must have the shape \(N, 2, H, W\) = \(6, 2, 8, 10\)"),
        (lambda: deform(pixels(), shifts(6, 8, 10, 0, np.nan)), "field has displacements that are NaN or infinite"),
        (lambda: border_weights(np.zeros((4, 4))), "mask must be integers"),
        (lambda: border_weights(np.zeros((4, 4), bool)), "mask must be integers"),
        (lambda: border_weights(np.zeros(4, int)), r"mask must be integers \(H, W\) or \(N, H, W\)"),
        (lambda: border_weights(-np.eye(3, dtype=int)), "mask must not have negative numbers"),
        (lambda: border_weights(np.eye(3, dtype=int), sigma=0), "sigma must be a number above 0"),
        (lambda: border_weights(np.eye(3, dtype=int), w0=-1), "w0 must be"),
        (lambda: border_weights(np.eye(3, dtype=int), class_weights=(1,)), "class_weights must be two numbers"),
    ],
)
def test_wrong_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_masks_are_arrays():
    with pytest.raises(TypeError, match="masks must be a NumPy array"):
        GridDeformation().with_masks(pixels(), [[[1]]])
