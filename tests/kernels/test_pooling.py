"""Pooling: the reference against loops written here, the other kernels against the reference, all against PyTorch."""

import itertools
import math

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from minigrad.kernels.geometry import AdaptiveGeometry, PoolGeometry
from tests.cuda.on_device import cuda
from tests.kernels.agreement import DTYPES, EPS64, MEMORY_ORDERS, assert_channels_last, assert_close, eps

# x_shape, kernel_size, stride, padding, dilation, ceil_mode
MAX_CASES = [
    ((2, 3, 6, 8), 2, None, 0, 1, False),
    ((1, 5, 7, 9), (2, 3), (3, 2), (1, 1), 1, False),  # kh != kw, sh != sw, sizes that do not divide
    ((2, 3, 7, 6), 3, 2, 1, 1, True),
    ((2, 4, 5, 5), 2, 2, 1, 1, True),
    ((2, 3, 2, 5), 3, 2, 0, 1, True),  # higher than the input: one window is kept
    ((1, 2, 9, 8), (3, 2), (2, 3), (1, 0), (2, 3), False),
    ((1, 2, 8, 9), 3, 2, 1, 2, True),
    ((2, 1, 5, 6), 5, 1, 2, 1, False),  # windows that overlap, most of them cut by the border
    ((3, 2, 4, 4), 4, 4, 0, 1, False),
    ((1, 1, 1, 1), 1, 1, 0, 1, False),
    ((1, 2, 3, 3), 2, 1, 1, 4, False),  # the window lies on padding alone
    ((0, 3, 6, 6), 2, None, 0, 1, False),
    ((1, 20, 5, 6), 3, 2, 1, 1, False),  # a vector of channels and a few more
    ((2, 70, 4, 5), 2, None, 0, 1, True),  # four vectors at a time, and what is left
    ((1, 70, 5, 4), 3, 1, 1, 1, False),
    ((2, 20, 13, 9), (8, 5), (4, 2), (2, 1), 1, False),  # large windows
]
# x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
AVERAGE_CASES = [
    ((*case[:4], case[5], include, divisor))
    for case in MAX_CASES
    if case[4] == 1
    for include, divisor in ((True, None), (False, None), (True, 3))
]
# x_shape, output_size
ADAPTIVE_CASES = [
    ((2, 3, 7, 9), (3, 4)),
    ((1, 4, 8, 8), 1),
    ((2, 2, 5, 6), (5, 2)),
    ((2, 2, 3, 4), (5, 7)),  # more outputs than inputs
    ((0, 2, 5, 5), 2),
    ((1, 70, 5, 4), (2, 3)),
    ((2, 35, 9, 8), 1),
    ((1, 12, 40, 33), 1),
]


def values(shape, kind, seed=0):
    """Arrays that pooling may get wrong: "negative" (padding with 0 would win), "ties", "special" (NaN and infinities)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if kind == "negative":
        return -1 - np.abs(x)
    if kind == "ties":
        return np.round(x)
    if kind == "special" and x.size:
        x[rng.random(shape) < 0.1] = np.nan
        x[rng.random(shape) < 0.1] = np.inf
        x[rng.random(shape) < 0.3] = -np.inf
    return x


KINDS = ["plain", "negative", "ties", "special"]


def max_loops(x, windows):
    """``windows``: rows and columns of every output row and column, some of them outside x."""
    rows, columns = windows
    n, c, h, w = x.shape
    y = np.full((n, c, len(rows), len(columns)), -np.inf)
    indices = np.full(y.shape, -1)
    for b, k, i, j in np.ndindex(y.shape):
        for r, s in itertools.product(rows[i], columns[j]):
            if 0 <= r < h and 0 <= s < w:
                value = x[b, k, r, s]
                if indices[b, k, i, j] < 0 or value > y[b, k, i, j] or math.isnan(value):
                    y[b, k, i, j], indices[b, k, i, j] = value, r * w + s
    return y, indices


def mean_loops(x, windows, divisor):
    """``divisor``: of the output (i, j), a function; the sum leaves out what lies outside x."""
    rows, columns = windows
    n, c, h, w = x.shape
    y = np.zeros((n, c, len(rows), len(columns)))
    for b, k, i, j in np.ndindex(y.shape):
        inside = [x[b, k, r, s] for r, s in itertools.product(rows[i], columns[j]) if 0 <= r < h and 0 <= s < w]
        y[b, k, i, j] = sum(inside) / divisor(i, j, len(inside))
    return y


def mean_backward_loops(gy, windows, divisor, h, w):
    rows, columns = windows
    gx = np.zeros((*gy.shape[:2], h, w))
    for b, k, i, j in np.ndindex(gy.shape):
        inside = [(r, s) for r, s in itertools.product(rows[i], columns[j]) if 0 <= r < h and 0 <= s < w]
        for r, s in inside:
            gx[b, k, r, s] += gy[b, k, i, j] / divisor(i, j, len(inside))
    return gx


def fixed_windows(g):
    rows = [[i * g.sh - g.ph + t * g.dh for t in range(g.kh)] for i in range(g.oh)]
    columns = [[j * g.sw - g.pw + t * g.dw for t in range(g.kw)] for j in range(g.ow)]
    return rows, columns


def fixed_divisor(g):
    rows, columns = fixed_windows(g)

    def divisor(i, j, inside):
        if g.divisor:
            return g.divisor
        padded_rows = [r for r in rows[i] if r < g.h + g.ph]
        padded_columns = [s for s in columns[j] if s < g.w + g.pw]
        return len(padded_rows) * len(padded_columns) if g.count_include_pad else inside

    return divisor


def adaptive_windows(g):
    rows = [range(math.floor(i * g.h / g.oh), math.ceil((i + 1) * g.h / g.oh)) for i in range(g.oh)]
    columns = [range(math.floor(j * g.w / g.ow), math.ceil((j + 1) * g.w / g.ow)) for j in range(g.ow)]
    return rows, columns


def number_inside(i, j, inside):
    return inside


# ----- the reference -----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", MAX_CASES)
def test_max_reference(case, kind):
    g, x = PoolGeometry.of(*case), values(case[0], kind)
    y, indices = reference.max_pool2d_forward(x, g)
    expected_y, expected_indices = max_loops(x, fixed_windows(g))
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(indices, expected_indices)
    assert indices.dtype == np.int64
    assert_channels_last(y, indices)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ADAPTIVE_CASES)
def test_adaptive_max_reference(case, kind):
    g, x = AdaptiveGeometry.of(*case), values(case[0], kind)
    y, indices = reference.adaptive_max_pool2d_forward(x, g)
    expected_y, expected_indices = max_loops(x, adaptive_windows(g))
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.parametrize("case", MAX_CASES)
def test_max_backward_reference(case):
    g, x = PoolGeometry.of(*case), values(case[0], "ties")
    _, indices = reference.max_pool2d_forward(x, g)
    gy = values(g.y_shape, "plain", 1)
    expected = np.zeros((g.n, g.c, g.h * g.w))
    for n, c, i, j in np.ndindex(gy.shape):
        if indices[n, c, i, j] >= 0:
            expected[n, c, indices[n, c, i, j]] += gy[n, c, i, j]
    np.testing.assert_allclose(reference.max_pool2d_backward(gy, indices, g), expected.reshape(g.x_shape), rtol=1e-14)


@pytest.mark.parametrize("case", AVERAGE_CASES)
def test_average_reference(case):
    g, x = PoolGeometry.of(*case[:4], 1, *case[4:]), values(case[0], "plain")
    y = reference.avg_pool2d_forward(x, g)
    np.testing.assert_allclose(y, mean_loops(x, fixed_windows(g), fixed_divisor(g)), rtol=1e-12, atol=1e-14)
    gy = values(g.y_shape, "plain", 1)
    expected = mean_backward_loops(gy, fixed_windows(g), fixed_divisor(g), g.h, g.w)
    np.testing.assert_allclose(reference.avg_pool2d_backward(gy, g), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", ADAPTIVE_CASES)
def test_adaptive_average_reference(case):
    g, x = AdaptiveGeometry.of(*case), values(case[0], "plain")
    y = reference.adaptive_avg_pool2d_forward(x, g)
    np.testing.assert_allclose(y, mean_loops(x, adaptive_windows(g), number_inside), rtol=1e-12, atol=1e-14)
    gy = values(g.y_shape, "plain", 1)
    expected = mean_backward_loops(gy, adaptive_windows(g), number_inside, g.h, g.w)
    np.testing.assert_allclose(reference.adaptive_avg_pool2d_backward(gy, g), expected, rtol=1e-12, atol=1e-14)


# ----- the CPU and CUDA kernels -----


@pytest.mark.parametrize("implementation", [cpu, cuda])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [*MAX_CASES, *ADAPTIVE_CASES])
def test_max(case, kind, dtype, implementation):
    kernel = "max_pool2d" if len(case) == 6 else "adaptive_max_pool2d"
    g = PoolGeometry.of(*case) if len(case) == 6 else AdaptiveGeometry.of(*case)
    x = values(g.x_shape, kind).astype(dtype)
    y, indices = getattr(implementation, f"{kernel}_forward")(x, g)
    expected_y, expected_indices = getattr(reference, f"{kernel}_forward")(x, g)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(indices, expected_indices)
    assert y.dtype == dtype
    assert indices.dtype == np.int64
    assert_channels_last(y, indices)

    gy = values(g.y_shape, "plain", 1).astype(dtype)
    gx = getattr(implementation, f"{kernel}_backward")(gy, indices, g)
    expected = getattr(reference, f"{kernel}_backward")(gy, indices, g)
    # a pixel may win all windows that hold it, and is then a sum of that many terms
    terms = g.oh * g.ow
    assert_close(gx, expected, terms * eps(dtype) * getattr(reference, f"{kernel}_backward")(abs(gy), indices, g), dtype)
    assert_channels_last(gx)


@pytest.mark.parametrize("implementation", [cpu, cuda])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["plain", "special"])
@pytest.mark.parametrize("case", [*AVERAGE_CASES, *ADAPTIVE_CASES])
def test_average(case, kind, dtype, implementation):
    if len(case) == 2:
        kernel, g = "adaptive_avg_pool2d", AdaptiveGeometry.of(*case)
    else:
        kernel, g = "avg_pool2d", PoolGeometry.of(*case[:4], 1, *case[4:])
    for direction, shape in (("forward", g.x_shape), ("backward", g.y_shape)):
        x = values(shape, kind).astype(dtype)
        y = getattr(implementation, f"{kernel}_{direction}")(x, g)
        compute = getattr(reference, f"{kernel}_{direction}")
        # float64 sums of at most that many products, three roundings for each weight, and one to the dtype
        terms = max(g.h * g.w, g.oh * g.ow) + 3
        finite = np.where(np.isfinite(x), x, 0)
        assert_close(y, compute(x, g), terms * EPS64 * compute(abs(finite), g) + eps(dtype) * abs(compute(finite, g)), dtype)
        assert_channels_last(y)


@pytest.mark.parametrize("order", MEMORY_ORDERS)
@pytest.mark.parametrize("implementation", [reference, cpu, cuda])
def test_memory_orders(implementation, order):
    g, adaptive = PoolGeometry.of((2, 3, 7, 9), (3, 2), (2, 3), 1), AdaptiveGeometry.of((2, 3, 7, 9), (2, 4))
    x, change = values(g.x_shape, "ties"), MEMORY_ORDERS[order]
    for kernel, geometry in (("max_pool2d", g), ("adaptive_max_pool2d", adaptive)):
        forward, backward = getattr(implementation, f"{kernel}_forward"), getattr(implementation, f"{kernel}_backward")
        y, indices = forward(x, geometry)
        for actual, expected in zip(forward(change(x), geometry), (y, indices), strict=True):
            np.testing.assert_array_equal(actual, expected)
        np.testing.assert_array_equal(backward(change(y), change(indices), geometry), backward(y, indices, geometry))
    for kernel, geometry in (("avg_pool2d", g), ("adaptive_avg_pool2d", adaptive)):
        forward, backward = getattr(implementation, f"{kernel}_forward"), getattr(implementation, f"{kernel}_backward")
        y = forward(x, geometry)
        np.testing.assert_array_equal(forward(change(x), geometry), y)
        np.testing.assert_array_equal(backward(change(y), geometry), backward(y, geometry))


@pytest.mark.parametrize("implementation", [cpu, cuda])
def test_indices_outside_the_plane_write_nothing(implementation):
    g = PoolGeometry.of((1, 1, 4, 4), 2)
    indices = np.array([[[[16, -5], [2**40, 11]]]])
    gx = implementation.max_pool2d_backward(np.ones((1, 1, 2, 2)), indices, g)
    np.testing.assert_array_equal(gx.ravel(), np.eye(16)[11])


@pytest.mark.parametrize("implementation", [cpu, cuda])
def test_places_that_float32_cannot_count(implementation):
    """Behind 2^24 pixels every other place is no float32."""
    x = np.zeros((1, 1, 4097, 4097), np.float32)
    x[0, 0, -1, -2] = 1
    y, indices = implementation.adaptive_max_pool2d_forward(x, AdaptiveGeometry.of(x.shape, 1))
    assert (y.dtype, y.item(), indices.item()) == (np.float32, 1, x.size - 2)


@pytest.mark.parametrize("implementation", [cpu, cuda])
def test_average_of_a_large_plane_is_exact_to_a_rounding(implementation):
    """100,000 float32 numbers near 1000: a float32 sum would be off in the fifth digit."""
    x = (1000 + np.random.default_rng(0).random((1, 1, 250, 400))).astype(np.float32)
    y = implementation.adaptive_avg_pool2d_forward(x, AdaptiveGeometry.of(x.shape, 1))
    assert y.item() == np.float32(math.fsum(x.ravel().tolist()) / x.size)


@pytest.mark.parametrize("implementation", [cpu, cuda])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_bins_of_all_sizes(kind, implementation):
    """Which bins hold a pixel is found by arithmetic on a card: it must be the inverse of which pixels a bin holds."""
    for h, oh in itertools.product(range(1, 17), repeat=2):
        g = AdaptiveGeometry.of((1, 1, h, 17 - h), (oh, 18 - oh))
        gy, saved = values(g.y_shape, "plain"), ()
        if kind == "max":
            saved = (reference.adaptive_max_pool2d_forward(values(g.x_shape, "ties"), g)[1],)
        actual, expected = (getattr(k, f"adaptive_{kind}_pool2d_backward")(gy, *saved, g) for k in (implementation, reference))
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)
        if kind == "avg":
            y = implementation.adaptive_avg_pool2d_forward(values(g.x_shape, "plain"), g)
            np.testing.assert_allclose(y, reference.adaptive_avg_pool2d_forward(values(g.x_shape, "plain"), g), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "case", [MAX_CASES[2], MAX_CASES[5], ((2, 16, 13, 9), (8, 5), (4, 2), (2, 1), 1, False), *ADAPTIVE_CASES]
)
def test_16_bits(case, dtype):
    """Computed in float32, and rounded once."""
    dtype = np.dtype(dtype if dtype == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
    half = 2.0**-11 if dtype == np.float16 else 2.0**-8  # of a unit in the last place
    prefix, g = ("", PoolGeometry.of(*case)) if len(case) == 6 else ("adaptive_", AdaptiveGeometry.of(*case))
    x, gy = values(g.x_shape, "special").astype(dtype), values(g.y_shape, "plain", 1).astype(dtype)
    wide_x, wide_gy = x.astype(np.float64), gy.astype(np.float64)

    y, indices = getattr(cuda, f"{prefix}max_pool2d_forward")(x, g)
    expected, expected_indices = getattr(reference, f"{prefix}max_pool2d_forward")(wide_x, g)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.astype(np.float64), expected)
    np.testing.assert_array_equal(indices, expected_indices)
    results = [("max_pool2d_backward", (gy, indices, g), (wide_gy, indices, g))]
    if len(case) == 2 or case[4] == 1:
        results += [("avg_pool2d_forward", (x, g), (wide_x, g)), ("avg_pool2d_backward", (gy, g), (wide_gy, g))]
    for name, arguments, wide in results:
        actual, compute = getattr(cuda, prefix + name)(*arguments), getattr(reference, prefix + name)
        expected, sizes = compute(*wide), compute(np.nan_to_num(abs(wide[0]), posinf=0), *wide[1:])
        assert actual.dtype == dtype
        assert_channels_last(actual)
        assert_close(actual.astype(np.float64), expected, half * abs(np.nan_to_num(expected)) + 1e-5 * sizes + 1e-7)


# ----- PyTorch -----


@pytest.mark.parametrize("implementation", [reference, cpu, cuda])
@pytest.mark.parametrize("kind", KINDS)
def test_max_like_torch(kind, implementation):
    torch = pytest.importorskip("torch")
    for case in MAX_CASES:
        shape, kernel_size, stride, padding, dilation, ceil_mode = case
        g = PoolGeometry.of(*case)
        x = values(shape, kind)
        y, indices = implementation.max_pool2d_forward(x, g)
        if (indices < 0).any() or not x.size:  # windows without an input pixel: PyTorch's index then lies outside the plane
            continue
        t = torch.tensor(x, requires_grad=True)
        pool = torch.nn.functional.max_pool2d
        ty, tindices = pool(t, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
        np.testing.assert_array_equal(y, ty.detach().numpy())
        np.testing.assert_array_equal(indices, tindices.numpy())
        gy = values(y.shape, "plain", 1)
        ty.backward(torch.tensor(gy))
        np.testing.assert_allclose(implementation.max_pool2d_backward(gy, indices, g), t.grad.numpy(), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("implementation", [reference, cpu, cuda])
def test_average_like_torch(implementation):
    torch = pytest.importorskip("torch")
    for case in AVERAGE_CASES:
        shape, *arguments = case
        if not math.prod(shape):
            continue
        g = PoolGeometry.of(shape, *arguments[:3], 1, *arguments[3:])
        x, gy = values(shape, "plain"), values(g.y_shape, "plain", 1)
        t = torch.tensor(x, requires_grad=True)
        y = torch.nn.functional.avg_pool2d(t, *arguments)
        y.backward(torch.tensor(gy))
        np.testing.assert_allclose(implementation.avg_pool2d_forward(x, g), y.detach().numpy(), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(implementation.avg_pool2d_backward(gy, g), t.grad.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("implementation", [reference, cpu, cuda])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_like_torch(kind, implementation):
    torch = pytest.importorskip("torch")
    for shape, output_size in ADAPTIVE_CASES:
        if not math.prod(shape):
            continue
        g = AdaptiveGeometry.of(shape, output_size)
        x, gy = values(shape, "ties"), values(g.y_shape, "plain", 1)
        t = torch.tensor(x, requires_grad=True)
        y = getattr(torch.nn.functional, f"adaptive_{kind}_pool2d")(t, output_size)
        y.backward(torch.tensor(gy))
        ours = getattr(implementation, f"adaptive_{kind}_pool2d_forward")(x, g)
        saved = (ours[1],) if kind == "max" else ()
        ours = ours[0] if kind == "max" else ours
        np.testing.assert_allclose(ours, y.detach().numpy(), rtol=1e-12, atol=1e-14)
        gx = getattr(implementation, f"adaptive_{kind}_pool2d_backward")(gy, *saved, g)
        np.testing.assert_allclose(gx, t.grad.numpy(), rtol=1e-12, atol=1e-14)
