"""Resizing: the reference against loops, the other kernels against the reference, all against PyTorch."""

import itertools
import math

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from minigrad.kernels.geometry import ResizeGeometry
from tests.cuda.on_device import cuda
from tests.kernels.agreement import DTYPES, EPS64, MEMORY_ORDERS, assert_channels_last, assert_close, eps

# x_shape, size, scale_factor
CASES = [
    ((2, 3, 4, 5), (8, 10), None),
    ((1, 2, 7, 5), (3, 9), None),  # one axis shrinks, the other grows
    ((2, 1, 6, 6), None, 2.0),
    ((1, 4, 5, 7), None, (1.1, 0.6)),  # 1.1 keeps 5 rows
    ((1, 2, 9, 9), None, 1 / 3),
    ((3, 2, 1, 1), (4, 3), None),
    ((1, 2, 6, 5), (1, 1), None),
    ((2, 2, 4, 4), (4, 4), None),
    ((0, 2, 4, 4), (8, 8), None),
]
MODES = [("nearest", False), ("bilinear", False), ("bilinear", True)]


def geometry(case, align_corners):
    return ResizeGeometry.of(case[0], case[1], case[2], align_corners)


def kernels(implementation, mode):
    return (getattr(implementation, f"upsample_{mode}2d_{direction}") for direction in ("forward", "backward"))


def taps(count, size, scale, mode, align_corners):
    """(input index, weight) pairs of every output index."""
    result = []
    for i in range(count):
        if count == size:
            result.append([(i, 1.0)])
        elif mode == "nearest":
            result.append([(min(math.floor(np.float32(i) * np.float32(scale)), size - 1), 1.0)])
        else:
            source = i * scale if align_corners else max((i + 0.5) * scale - 0.5, 0)
            first = min(math.floor(source), size - 1)
            t = min(source - first, 1)
            result.append([(first, 1 - t), (min(first + 1, size - 1), t)])
    return result


def matrices(g, mode):
    """The resizing as y = rows x columns^T."""
    result = []
    for count, size, scale in ((g.oh, g.h, g.scale_h), (g.ow, g.w, g.scale_w)):
        matrix = np.zeros((count, size))
        for i, pairs in enumerate(taps(count, size, scale, mode, g.align_corners)):
            for index, weight in pairs:
                matrix[i, index] += weight
        result.append(matrix)
    return result


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
@pytest.mark.parametrize("case", CASES)
def test_reference(case, mode, align_corners):
    g = geometry(case, align_corners)
    rng = np.random.default_rng(0)
    x, gy = rng.standard_normal(g.x_shape), rng.standard_normal(g.y_shape)
    rows, columns = matrices(g, mode)
    forward, backward = kernels(reference, mode)
    np.testing.assert_allclose(forward(x, g), rows @ x @ columns.T, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(backward(gy, g), rows.T @ gy @ columns, rtol=1e-13, atol=1e-14)
    assert_channels_last(forward(x, g), backward(gy, g))


@pytest.mark.parametrize("implementation", [cpu, cuda])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("mode", "align_corners"), MODES)
@pytest.mark.parametrize("case", CASES)
def test_against_the_reference(case, mode, align_corners, dtype, implementation):
    g = geometry(case, align_corners)
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal(g.x_shape).astype(dtype), rng.standard_normal(g.y_shape).astype(dtype)
    for array, actual, expected in zip(arrays, kernels(implementation, mode), kernels(reference, mode), strict=True):
        # float64 sums of products of two weights, and one rounding to the dtype
        terms = (g.oh * g.ow + 4) * EPS64 * expected(abs(array), g).astype(np.float64)
        result = expected(array, g)
        assert_close(actual(array, g), result, eps(dtype) * abs(result) + terms, dtype)
        assert_channels_last(actual(array, g))
    if mode == "nearest":
        np.testing.assert_array_equal(implementation.upsample_nearest2d_forward(arrays[0], g), result_of_copying(arrays[0], g))


def result_of_copying(x, g):
    rows, columns = (
        [pairs[0][0] for pairs in taps(count, size, scale, "nearest", False)]
        for count, size, scale in ((g.oh, g.h, g.scale_h), (g.ow, g.w, g.scale_w))
    )
    return x[:, :, rows][:, :, :, columns]


@pytest.mark.parametrize("implementation", [cpu, cuda])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_nan_and_infinity_reach_what_they_should(mode, align_corners, dtype, implementation):
    g = ResizeGeometry.of((1, 3, 5, 6), (7, 4), None, align_corners)
    for shape, actual, expected in zip(
        (g.x_shape, g.y_shape), kernels(implementation, mode), kernels(reference, mode), strict=True
    ):
        x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        x[0, 0, 2, 1], x[0, 1, 0, 0], x[0, 2, 3, 2], x[0, 2, 3, 3] = np.nan, np.inf, np.inf, -np.inf
        y, z = actual(x, g), expected(x, g)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(z))
        np.testing.assert_array_equal(y[np.isinf(z)], z[np.isinf(z)])
        assert np.isnan(z).any()
        assert not np.isnan(z).all()


@pytest.mark.parametrize("implementation", [reference, cpu, cuda])
@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_memory_orders(mode, align_corners, implementation):
    g = ResizeGeometry.of((2, 3, 5, 6), (7, 4), None, align_corners)
    rng = np.random.default_rng(0)
    x, gy = rng.standard_normal(g.x_shape), rng.standard_normal(g.y_shape)
    for array, kernel in zip((x, gy), kernels(implementation, mode), strict=True):
        for change in MEMORY_ORDERS.values():
            np.testing.assert_array_equal(kernel(change(array), g), kernel(array, g))


@pytest.mark.parametrize("implementation", [reference, cpu, cuda])
@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_like_torch(mode, align_corners, implementation):
    torch = pytest.importorskip("torch")
    forward, backward = kernels(implementation, mode)
    for case in CASES:
        g = geometry(case, align_corners)
        if not g.n:
            continue
        rng = np.random.default_rng(0)
        x, gy = rng.standard_normal(g.x_shape), rng.standard_normal(g.y_shape)
        t = torch.tensor(x, requires_grad=True)
        options = {"align_corners": align_corners} if mode == "bilinear" else {}
        y = torch.nn.functional.interpolate(t, case[1], case[2], mode, **options)
        y.backward(torch.tensor(gy))
        np.testing.assert_allclose(forward(x, g), y.detach().numpy(), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(backward(gy, g), t.grad.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nearest_picks_the_pixels_that_torch_picks(dtype):
    """Every pair of sizes up to 40: products like 3 * (1 / 3) must round as PyTorch's do."""
    torch = pytest.importorskip("torch")
    for size, count in itertools.product(range(1, 41), repeat=2):
        x = np.arange(size, dtype=dtype).reshape(1, 1, size, 1)
        expected = torch.nn.functional.interpolate(torch.tensor(x), size=(count, 1), mode="nearest").numpy()
        actual = reference.upsample_nearest2d_forward(x, ResizeGeometry.of(x.shape, (count, 1)))
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("implementation", [cpu, cuda])
@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_all_sizes(mode, align_corners, implementation):
    """Which outputs were made of a pixel is searched for on a card: it must be the inverse of what outputs are made of."""
    for size, count in itertools.product(range(1, 21), repeat=2):
        g = ResizeGeometry.of((1, 1, size, 21 - size), (count, 22 - count), None, align_corners)
        rng = np.random.default_rng(0)
        arrays = rng.standard_normal(g.x_shape), rng.standard_normal(g.y_shape)
        for array, actual, expected in zip(arrays, kernels(implementation, mode), kernels(reference, mode), strict=True):
            np.testing.assert_allclose(actual(array, g), expected(array, g), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_nan_and_infinity_where_an_axis_keeps_its_size(mode, align_corners):
    g = ResizeGeometry.of((1, 4, 5, 6), (5, 9), None, align_corners)
    for shape, actual, expected in zip((g.x_shape, g.y_shape), kernels(cuda, mode), kernels(reference, mode), strict=True):
        x = np.random.default_rng(0).standard_normal(shape)
        x[0, 0, 2, 1], x[0, 1, 0, 0], x[0, 2, 3, 2], x[0, 2, 3, 3] = np.nan, np.inf, np.inf, -np.inf
        np.testing.assert_allclose(actual(x, g), expected(x, g), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_16_bits(mode, align_corners, dtype):
    """Computed in float32, and rounded once."""
    dtype = np.dtype(dtype if dtype == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
    half = 2.0**-11 if dtype == np.float16 else 2.0**-8  # of a unit in the last place
    for channels in (3, 16):
        g = ResizeGeometry.of((2, channels, 5, 6), (7, 4), None, align_corners)
        rng = np.random.default_rng(0)
        arrays = rng.standard_normal(g.x_shape).astype(dtype), rng.standard_normal(g.y_shape).astype(dtype)
        for array, actual, expected in zip(arrays, kernels(cuda, mode), kernels(reference, mode), strict=True):
            result, wide = actual(array, g), array.astype(np.float64)
            assert result.dtype == dtype
            bound = half * abs(expected(wide, g)) + 1e-6 * expected(abs(wide), g) + 1e-7
            assert_close(result.astype(np.float64), expected(wide, g), bound)
