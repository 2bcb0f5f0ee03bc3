"""Normalization: the reference against loops and exact sums, the other kernels against the reference, all against PyTorch."""

import math

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from minigrad.kernels.cpu import _norm_columns
from tests.cuda.on_device import cuda
from tests.kernels.agreement import DTYPES, EPS64, MEMORY_ORDERS, assert_channels_last, assert_close, eps

IMPLEMENTATIONS = [reference, cpu, cuda]
FAST = [cpu, cuda]

# (M, A, B, L): what the normalizations of small activations look like, and the edges of the blocks that the kernels make
VIEWS = {
    "batch": (1, 2 * 5 * 3, 6, 1),
    "batch of one channel": (1, 700, 1, 1),
    "batch, an odd number of rows": (1, 3 * 37 * 41, 3, 1),
    "batch, several blocks": (1, 12 * 37 * 41, 6, 1),
    "groups, several blocks": (3, 3001, 3, 7),
    "batch, many channels": (1, 70, 300, 1),
    "instance": (3, 20, 5, 1),
    "group": (2, 24, 3, 4),
    "group of one pixel": (4, 1, 3, 5),
    "layer": (3, 1, 1, 40),
    "layer, several chunks": (2, 1, 1, 5000),
    "layer, an odd length": (2, 1, 1, 4999),
    "layer of pixels": (1900, 1, 1, 11),
    "one element": (2, 1, 3, 1),
    "one image": (1, 9, 1, 4),
}
SEVERAL = ("batch, several blocks", "groups, several blocks")
EMPTY = {"no images": (0, 9, 3, 1), "layer": (0, 1, 1, 12), "group": (0, 4, 2, 3), "no channels": (2, 6, 0, 1)}
EMPTY |= {"no pixels": (1, 0, 3, 1), "neither": (1, 0, 0, 1), "nothing in a layer": (3, 1, 1, 0)}


def draw(view, dtype, seed=0, special=False):
    """gy, x, mean, rstd, weight, bias: x with another mean and scale in every column."""
    rng = np.random.default_rng(seed)
    m, _, b, length = view
    x = rng.standard_normal(view) * rng.uniform(0.5, 3, (b, length)) + rng.uniform(-4, 4, (b, length))
    gy = rng.standard_normal(view)
    mean, rstd = x.mean((1, 3)) + 0.1, 1 / np.sqrt(x.var((1, 3)) + 0.1)
    weight, bias = rng.uniform(0.5, 2, (2, b, length))
    if special:
        for array in (gy, x):
            array[rng.random(view) < 0.02] = np.nan
            array[rng.random(view) < 0.02] = np.inf
    return tuple(array.astype(dtype) for array in (gy, x, mean.reshape(m, b), rstd.reshape(m, b), weight, bias))


# ----- moments -----


@pytest.mark.parametrize("name", SEVERAL)
def test_several_blocks_are_several(name):
    assert _norm_columns._shape_of(*VIEWS[name]).blocks > 1


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_moments_reference(view):
    x = draw(view, np.float64)[1]
    mean, var = reference.moments(x)
    for m, b in np.ndindex(mean.shape):
        elements = x[m, :, b].ravel().tolist()
        exact = math.fsum(elements) / len(elements)
        np.testing.assert_allclose(mean[m, b], exact, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(var[m, b], math.fsum((v - exact) ** 2 for v in elements) / len(elements), rtol=1e-13)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_moments(view, dtype, implementation):
    x = draw(view, dtype)[1]
    mean, var = implementation.moments(x)
    expected_mean, expected_var = reference.moments(x)
    n = view[1] * view[3]  # both sums have n float64 roundings at most; then one to the dtype
    slack = 2 * n * EPS64 * abs(x.astype(np.float64)).mean((1, 3))
    # By columns: sums of eight differences from one of the numbers, in the dtype.
    far = 0 if view[1] == 1 else abs(x - expected_mean[:, None, :, None]).max((1, 3))
    assert_close(mean, expected_mean, slack + eps(dtype) * (abs(expected_mean) + far), dtype)
    assert_close(var, expected_var, (2 * n * EPS64 + 3 * eps(dtype)) * (expected_var + far**2) + slack**2, dtype)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", [(1, 40_000, 3, 1), (1, 1, 1, 120_000), (2, 10_000, 2, 3)], ids=["batch", "layer", "group"])
@pytest.mark.parametrize("ratio", [1e3, 1e5])
def test_a_large_mean_does_not_drown_the_variance(view, ratio, dtype, implementation):
    """mean / deviation = ratio: a variance from sums of squares would be wrong by ratio^2 roundings, here 100 % and more."""
    x = (np.random.default_rng(0).standard_normal(view) + ratio).astype(dtype)
    mean, var = implementation.moments(x)
    x64 = x.astype(np.longdouble)
    expected = x64.mean((1, 3))
    assert_close(mean, expected.astype(np.float64), (eps(dtype) + 1e-13) * ratio)  # 1e-13: of the float64 sums
    expected = ((x64 - expected[:, None, :, None]) ** 2).mean((1, 3)).astype(np.float64)
    assert_close(var, expected, (eps(dtype) + 1e-12) * expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_squares_and_products_beyond_float32(implementation):
    """Only the results must be in its range."""
    gy, x = np.random.default_rng(0).standard_normal((2, 1, 4003, 5, 1)).astype(np.float32)
    x[0, [100, 4002], 2, 0] = 3e20, -2e20
    gy[0, [7, 4001], 3, 0], x[0, [7, 4001], 3, 0] = (1e20, 1e21), (1e20, -1e19)
    x64, g64 = x[..., 0].astype(np.float64), gy[..., 0].astype(np.float64)
    mean, var = implementation.moments(x)
    np.testing.assert_allclose(mean[:, 2:4], x64.mean(1)[:, 2:4], rtol=1e-6)
    np.testing.assert_allclose(var, x64.var(1), rtol=1e-6)
    mean, rstd = np.zeros((1, 5), np.float32), np.full((1, 5), 1e-10, np.float32)
    _, gweight, gbias = implementation.normalize_backward(gy, x, mean, rstd, None, False)
    np.testing.assert_allclose(gweight[3, 0], (g64 * x64).sum(1)[0, 3] * rstd[0, 3], rtol=1e-6)
    np.testing.assert_allclose(gbias[3, 0], g64.sum(1)[0, 3], rtol=1e-6)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("far", [1e3, -1e7, np.inf, np.nan])
def test_the_first_rows_may_be_unlike_the_others(far, dtype, implementation):
    """Sums are of differences from one of the rows of a block: whatever that holds, nothing is lost, and no more becomes NaN."""
    x = np.random.default_rng(0).standard_normal((1, 5000, 40, 1)).astype(dtype)
    x[0, :4, 7] = far
    mean, var = implementation.moments(x)
    x64 = x[..., 0].astype(np.longdouble)
    expected = x64.mean(1).astype(np.float64)
    largest = abs(far) if np.isfinite(far) else 1
    atol = np.where(np.arange(40) == 7, 1e-13 * largest + eps(dtype), 1e-13 + eps(dtype) / 2)
    same = np.isclose(mean[0], expected[0], rtol=2 * eps(dtype), atol=atol, equal_nan=True)
    assert same.all(), (mean[0][~same], expected[0][~same])
    with np.errstate(invalid="ignore"):
        expected = ((x64 - x64.mean(1)[:, None]) ** 2).mean(1).astype(np.float64)
    np.testing.assert_allclose(var, expected, rtol=2 * eps(dtype) + 1e-11)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_constant_columns_have_no_variance(implementation):
    x = np.full((1, 3000, 4, 1), 1e8 / 3, np.float32)
    mean, var = implementation.moments(x)
    np.testing.assert_array_equal(mean, x[:, 0, :, 0])
    np.testing.assert_array_equal(var, 0)


def test_moments_of_a_hundred_million_elements():
    """Six times more than float32 can count one by one (2^24), and 400 MB: the sums stay right."""
    n = 10**8
    x = (np.arange(n, dtype=np.uint8) + np.float32(1000)).astype(np.float32)  # 1000 ... 1255, again and again
    counts = np.bincount(np.arange(n % 256), minlength=256) + n // 256
    exact = (counts * np.arange(256.0)).sum() / n
    variance = (counts * (np.arange(256) - exact) ** 2).sum() / n
    for view in ((1, n, 1, 1), (1, 1, 1, n), (1, n // 5, 1, 5)):
        mean, var = cpu.moments(x.reshape(view))
        np.testing.assert_allclose(mean, [[1000 + exact]], rtol=1e-7)
        np.testing.assert_allclose(var, [[variance]], rtol=1e-7)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("view", [(1, 500, 3, 1), (3, 1, 1, 30), (2, 20, 3, 2)])
def test_nan_and_infinity_stay_in_their_statistic(view, implementation):
    x = draw(view, np.float32)[1]
    x[0, 0, 0, 0] = np.nan
    x[-1, -1, -1, -1] = np.inf
    mean, var = implementation.moments(x)
    assert np.isnan(mean[0, 0])
    assert np.isnan(var[0, 0])
    assert mean[-1, -1] == np.inf
    assert np.isnan(var[-1, -1])
    assert np.isfinite(mean).sum() == mean.size - 2


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("view", EMPTY.values(), ids=EMPTY)
def test_no_numbers(view, implementation):
    gy, x, mean, rstd, weight, bias = (np.zeros(s, np.float32) for s in (view, view, *[view[:3:2]] * 2, *[view[2:]] * 2))
    assert [array.shape for array in implementation.moments(x)] == [view[:3:2]] * 2
    assert implementation.normalize_forward(x, mean, rstd, weight, bias).shape == view
    for through_statistics in (True, False):
        gx, gweight, gbias = implementation.normalize_backward(gy, x, mean, rstd, weight, through_statistics)
        assert gx.shape == view
        np.testing.assert_array_equal(gweight, np.zeros(view[2:]))
        np.testing.assert_array_equal(gbias, np.zeros(view[2:]))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_moments_of_nothing_are_nan(implementation):
    for mean_or_var in implementation.moments(np.zeros((1, 0, 3, 1), np.float32)):
        np.testing.assert_array_equal(mean_or_var, np.full((1, 3), np.nan))


# ----- forward and backward -----


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_forward_reference(view):
    _, x, mean, rstd, weight, bias = draw(view, np.float64)
    y = reference.normalize_forward(x, mean, rstd, weight, bias)
    plain = reference.normalize_forward(x, mean, rstd, None, None)
    for m, a, b, k in list(np.ndindex(view))[::7]:
        xhat = (x[m, a, b, k] - mean[m, b]) * rstd[m, b]
        np.testing.assert_allclose(plain[m, a, b, k], xhat, rtol=1e-14)
        np.testing.assert_allclose(y[m, a, b, k], xhat * weight[b, k] + bias[b, k], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("view", [(1, 6, 2, 1), (2, 3, 2, 2), (2, 1, 1, 5)], ids=["batch", "group", "layer"])
def test_backward_reference_is_the_derivative(view, affine):
    """Central differences of sum(gy * y), the statistics recomputed for every moved x."""
    gy, x, _, _, weight, bias = draw(view, np.float64)
    weight, bias = (weight, bias) if affine else (None, None)

    def loss(x, weight, bias):
        mean, var = reference.moments(x)
        return (gy * reference.normalize_forward(x, mean, 1 / np.sqrt(var + 0.1), weight, bias)).sum()

    def numeric(array, function, h=1e-5):
        g = np.zeros(array.shape)
        for i in np.ndindex(array.shape):
            step = np.zeros(array.shape)
            step[i] = h
            g[i] = (function(array + step) - function(array - step)) / (2 * h)
        return g

    mean, var = reference.moments(x)
    gx, gweight, gbias = reference.normalize_backward(gy, x, mean, 1 / np.sqrt(var + 0.1), weight, True)
    np.testing.assert_allclose(gx, numeric(x, lambda v: loss(v, weight, bias)), rtol=1e-7, atol=1e-8)
    if affine:
        np.testing.assert_allclose(gweight, numeric(weight, lambda v: loss(x, v, bias)), rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(gbias, numeric(bias, lambda v: loss(x, weight, v)), rtol=1e-7, atol=1e-8)
    gx, _, _ = reference.normalize_backward(gy, x, mean, 1 / np.sqrt(var + 0.1), weight, False)
    scale = (1 / np.sqrt(var + 0.1))[:, None, :, None] * (weight if affine else 1)
    np.testing.assert_allclose(gx, gy * scale, rtol=1e-13)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_forward(view, affine, dtype, special, implementation):
    _, x, mean, rstd, weight, bias = draw(view, dtype, special=special)
    weight, bias = (weight, bias) if affine else (None, None)
    y = implementation.normalize_forward(x, mean, rstd, weight, bias)
    expected = reference.normalize_forward(x, mean, rstd, weight, bias)
    product = abs(expected - (0 if bias is None else bias)) if not special else abs(np.where(np.isfinite(x), expected, 0)) + 3
    # roundings: of the difference, of rstd * weight, of their product, of the sum, and of the reference to the dtype
    assert_close(y, expected, 2.5 * eps(dtype) * (product + (0 if bias is None else abs(bias))), dtype)
    assert y.flags.c_contiguous


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("through_statistics", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_backward(view, dtype, affine, through_statistics, implementation):
    gy, x, mean, rstd, weight, _ = draw(view, dtype)
    weight = weight if affine else None
    gx, gweight, gbias = implementation.normalize_backward(gy, x, mean, rstd, weight, through_statistics)
    expected = reference.normalize_backward(gy, x, mean, rstd, weight, through_statistics)

    terms = view[0] * view[1] * view[3]  # float64 sums of at most that many terms, by columns of sums of eight in the dtype
    rstd64 = rstd.astype(np.float64)[:, None, :, None]
    xhat = abs(x.astype(np.float64) - mean[:, None, :, None]) * rstd64
    g = abs(gy.astype(np.float64)) * (1 if weight is None else weight)
    sums = 2 * terms * EPS64 + (3 * eps(dtype) if view[1] > 1 else 0)
    assert_close(gweight, expected[1], eps(dtype) * abs(expected[1]) + sums * (abs(gy) * xhat).sum((0, 1)), dtype)
    assert_close(gbias, expected[2], eps(dtype) * abs(expected[2]) + sums * abs(gy).sum((0, 1), dtype=np.float64), dtype)
    average, projection = g.mean((1, 3), keepdims=True), (g * xhat).mean((1, 3), keepdims=True)
    size = rstd64 * (g + (average + xhat * projection if through_statistics else 0))  # the terms of gx without their signs
    assert_close(gx, expected[0], (4 * eps(dtype) + sums) * size, dtype)
    assert gx.flags.c_contiguous


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_backward_puts_nan_where_the_reference_does(view, dtype, implementation):
    gy, x, mean, rstd, weight, _ = draw(view, dtype, special=True)
    for through_statistics in (True, False):
        actual = implementation.normalize_backward(gy, x, mean, rstd, weight, through_statistics)
        expected = reference.normalize_backward(gy, x, mean, rstd, weight, through_statistics)
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(e))
            np.testing.assert_array_equal(np.isinf(a), np.isinf(e))


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_backward_through_a_rectifier(view, dtype, implementation, special):
    """The same bits as the gradient of max(y, 0) taken by itself, which the rectified result tells."""
    gy, x, mean, rstd, weight, bias = draw(view, dtype, special=special)
    for w, b, through_statistics in ((weight, bias, True), (weight, bias, False), (None, None, True)):
        y = implementation.normalize_forward(x, mean, rstd, w, b, rectify=True)
        if not special:
            assert 0 < np.count_nonzero(y) < y.size or y.size < 10
        expected = implementation.normalize_backward(implementation.relu_backward(gy, y), x, mean, rstd, w, through_statistics)
        actual = implementation.normalize_backward(gy, x, mean, rstd, w, through_statistics, b, True)
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", ["batch", "instance", "group", "layer"])
def test_like_torch(kind, implementation):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    n, c, h, w, groups, pixels = 3, 6, 4, 5, 2, 20
    rng = np.random.default_rng(0)
    x, gy = rng.standard_normal((2, n, h, w, c)) + 2
    weight, bias = rng.standard_normal((2, *((h, w, c) if kind == "layer" else (c,))))
    view, affine = {
        "batch": ((1, n * pixels, c, 1), (c, 1)),
        "instance": ((n, pixels, c, 1), (c, 1)),
        "group": ((n, pixels, groups, c // groups), (groups, c // groups)),
        "layer": ((n, 1, 1, pixels * c), (1, pixels * c)),
    }[kind]
    t, tw, tb = (torch.tensor(array, requires_grad=True) for array in (x, weight, bias))
    image = t.permute(0, 3, 1, 2)
    y = {
        "batch": lambda: functional.batch_norm(image, None, None, tw, tb, True, eps=1e-5),
        "instance": lambda: functional.instance_norm(image, None, None, tw, tb, eps=1e-5),
        "group": lambda: functional.group_norm(image, groups, tw, tb, eps=1e-5),
        "layer": lambda: functional.layer_norm(t, (h, w, c), tw, tb, eps=1e-5),
    }[kind]()
    y = y if kind == "layer" else y.permute(0, 2, 3, 1)
    y.backward(torch.tensor(gy))

    mean, var = implementation.moments(x.reshape(view))
    rstd = 1 / np.sqrt(var + 1e-5)
    w, b = weight.reshape(affine), bias.reshape(affine)
    ours = implementation.normalize_forward(x.reshape(view), mean, rstd, w, b)
    np.testing.assert_allclose(ours.reshape(x.shape), y.detach().numpy(), rtol=1e-10, atol=1e-12)
    gradients = implementation.normalize_backward(gy.reshape(view), x.reshape(view), mean, rstd, w, True)
    for actual, expected in zip(gradients, (t.grad, tw.grad, tb.grad), strict=True):
        np.testing.assert_allclose(actual.reshape(expected.shape), expected.numpy(), rtol=1e-9, atol=1e-11)


# ----- local response normalization -----

RESPONSES = [(size, beta) for size in (1, 2, 4, 5, 12) for beta in (0.75, 0.5)]


def response_loops(x, size, alpha, beta, k):
    n, c, h, w = x.shape
    y, scale = np.empty((2, *x.shape))
    for i, j, p, q in np.ndindex(n, c, h, w):
        window = x[i, max(0, j - size // 2) : j + (size - 1) // 2 + 1, p, q]
        scale[i, j, p, q] = k + alpha * sum(v * v for v in window)
        y[i, j, p, q] = x[i, j, p, q] / scale[i, j, p, q] ** beta
    return y, scale


@pytest.mark.parametrize(("size", "beta"), RESPONSES)
def test_response_reference(size, beta):
    x, gy = np.random.default_rng(size).standard_normal((2, 2, 7, 2, 3))
    y, scale = reference.local_response_norm_forward(x, size, 0.3, beta, 1.5)
    for actual, expected in zip((y, scale), response_loops(x, size, 0.3, beta, 1.5), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-13)
        assert_channels_last(actual)
    gx, h = reference.local_response_norm_backward(gy, x, scale, size, 0.3, beta), 1e-5
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[i] = h
        upper, lower = (response_loops(x + sign * step, size, 0.3, beta, 1.5)[0] for sign in (1, -1))
        np.testing.assert_allclose(gx[i], (gy * (upper - lower)).sum() / (2 * h), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "beta"), RESPONSES)
@pytest.mark.parametrize("shape", [(2, 7, 3, 5), (1, 40, 9, 8), (2, 1, 3, 3), (0, 4, 2, 2)])
def test_response(shape, size, beta, dtype, implementation):
    gy, x = np.random.default_rng(size).standard_normal((2, *shape)).astype(dtype)
    y, scale = implementation.local_response_norm_forward(x, size, 0.3, beta, 1.5)
    expected_y, expected_scale = reference.local_response_norm_forward(x, size, 0.3, beta, 1.5)
    roundings = size + 4  # of the sum of squares, alpha, k; a power passes them on times its exponent and adds a few
    assert_close(scale, expected_scale, roundings * eps(dtype) * expected_scale, dtype)
    assert_close(y, expected_y, (roundings + 4) * eps(dtype) * abs(expected_y), dtype)
    gx = implementation.local_response_norm_backward(gy, x, scale, size, 0.3, beta)
    expected = reference.local_response_norm_backward(gy, x, scale, size, 0.3, beta)
    terms = abs(gy) + size * 0.6 * beta * abs(x) * (abs(gy) * abs(x)).max(
        axis=1, initial=0, keepdims=True
    )  # scale is 1.5 or more
    assert_close(gx, expected, (roundings + 4) * eps(dtype) * terms, dtype)
    assert_channels_last(y, scale, gx)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_response_takes_any_memory_order_and_keeps_nan_in_its_window(implementation):
    x = np.random.default_rng(0).standard_normal((2, 6, 3, 4))
    x[0, 2, 1, 1] = np.nan
    y, scale = implementation.local_response_norm_forward(x, 3, 0.3, 0.75, 1.0)
    gx = implementation.local_response_norm_backward(x, x, scale, 3, 0.3, 0.75)
    assert np.argwhere(np.isnan(y)).tolist() == [[0, c, 1, 1] for c in (1, 2, 3)]
    assert np.argwhere(np.isnan(gx)).tolist() == [[0, c, 1, 1] for c in (0, 1, 2, 3, 4)]
    for change in MEMORY_ORDERS.values():
        for actual, expected in zip(
            implementation.local_response_norm_forward(change(x), 3, 0.3, 0.75, 1.0), (y, scale), strict=True
        ):
            np.testing.assert_array_equal(actual, expected)
        again = implementation.local_response_norm_backward(change(x), change(x), change(scale), 3, 0.3, 0.75)
        np.testing.assert_array_equal(again, gx)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_response_like_torch(implementation):
    torch = pytest.importorskip("torch")
    for size, beta in RESPONSES:
        x, gy = np.random.default_rng(size).standard_normal((2, 2, 9, 3, 4))
        t = torch.tensor(x, requires_grad=True)
        expected = torch.nn.functional.local_response_norm(t, size, 0.3, beta, 1.5)
        expected.backward(torch.tensor(gy))
        y, scale = implementation.local_response_norm_forward(x, size, 0.3 / size, beta, 1.5)
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12)
        gx = implementation.local_response_norm_backward(gy, x, scale, size, 0.3 / size, beta)
        np.testing.assert_allclose(gx, t.grad.numpy(), rtol=1e-11, atol=1e-13)
