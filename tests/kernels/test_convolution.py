"""Convolution: the reference against seven loops written here, the CPU kernels against the same loops, both against PyTorch."""

import functools
import hashlib
import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from minigrad.kernels.cpu._algorithms import ALGORITHMS, POSSIBLE, WINOGRAD, choose
from minigrad.kernels.cpu._compiler import build
from minigrad.kernels.geometry import ConvGeometry
from tests import beside
from tests.cuda.on_device import cuda
from tests.kernels.agreement import DTYPES, MEMORY_ORDERS, assert_channels_last, assert_close, eps
from tests.kernels.small import finish, start

# x shape, weight shape, stride, padding, dilation, groups
CASES = {
    "1x1": ((2, 5, 4, 3), (7, 5, 1, 1), 1, 0, 1, 1),
    "1x1 stride": ((2, 3, 5, 6), (4, 3, 1, 1), (2, 3), 0, 1, 1),
    "3x3 same": ((2, 3, 5, 6), (4, 3, 3, 3), 1, "same", 1, 1),
    "3x3 valid": ((1, 2, 5, 4), (3, 2, 3, 3), 1, "valid", 1, 1),
    "2x2 same": ((1, 2, 4, 5), (3, 2, 2, 2), 1, "same", 1, 1),  # one more pixel of padding at the end
    "kh != kw": ((2, 3, 7, 6), (2, 3, 2, 5), 1, (1, 2), 1, 1),
    "strides differ": ((2, 2, 7, 8), (3, 2, 3, 3), (2, 3), 1, 1, 1),
    "does not divide": ((1, 3, 8, 6), (2, 3, 3, 3), 2, 0, 1, 1),  # the last row and column are seen by no window
    "stride beyond the kernel": ((2, 2, 9, 10), (3, 2, 2, 2), (4, 3), (0, 1), 1, 1),
    "asymmetric padding": ((1, 2, 5, 5), (3, 2, 3, 3), 1, ((2, 0), (1, 3)), 1, 1),
    "padding beyond the kernel": ((1, 2, 3, 3), (2, 2, 2, 2), 2, 3, 1, 1),  # windows that see padding only
    "padding beyond the kernel, stride 1": ((1, 2, 3, 4), (3, 2, 2, 2), 1, ((3, 2), (4, 1)), 1, 1),
    "dilation": ((1, 2, 9, 8), (3, 2, 3, 2), 1, (2, 1), (2, 3), 1),
    "dilation and stride": ((2, 2, 11, 13), (2, 2, 3, 3), (2, 4), 2, (3, 2), 1),
    "dilation divides stride": ((1, 2, 9, 9), (2, 2, 3, 3), 4, 1, 2, 1),
    "groups": ((2, 6, 5, 5), (4, 3, 3, 3), 1, 1, 1, 2),
    "groups, stride, dilation": ((2, 6, 9, 7), (9, 2, 3, 2), (2, 1), ((1, 0), (0, 2)), (1, 2), 3),
    "groups, one column": ((2, 6, 7, 5), (4, 3, 3, 1), 1, (1, 0), 1, 2),
    "groups, one column, stride and padding": ((2, 8, 7, 6), (6, 4, 3, 1), (2, 3), (1, 2), (2, 1), 2),
    "depthwise": ((2, 5, 6, 6), (5, 1, 3, 3), 1, 1, 1, 5),
    "depthwise stride": ((1, 9, 7, 8), (9, 1, 3, 5), (2, 3), (1, 2), (1, 2), 9),
    "depthwise multiplier": ((2, 3, 5, 5), (6, 1, 3, 3), 2, 1, 1, 3),
    "one channel": ((2, 1, 7, 7), (6, 1, 5, 5), 1, 2, 1, 1),
    "whole image": ((3, 4, 4, 5), (5, 4, 4, 5), 1, 0, 1, 1),
    "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), 1, 0, 1, 1),
    "one pixel in padding": ((1, 3, 1, 1), (2, 3, 3, 3), 1, 1, 1, 1),
    "one row": ((1, 3, 1, 9), (2, 3, 1, 4), (1, 2), 0, (1, 2), 1),
    "empty batch": ((0, 3, 5, 5), (4, 3, 3, 3), 2, 1, 1, 1),
    "many outputs": ((1, 40, 3, 4), (150, 40, 2, 2), 1, 1, 1, 1),  # several panels, the last of them smaller
    # columns of some taps at a time
    "many channels": ((1, 100, 4, 5), (20, 100, 3, 3), 1, 1, 1, 1),
    "a tap at a time": ((1, 500, 3, 4), (17, 500, 2, 3), (2, 1), 1, 1, 1),
    "many channels, stride": ((2, 130, 5, 6), (35, 130, 3, 3), 2, 1, 1, 1),
    # blocks of pixels, the last of them smaller
    "many pixels": ((2, 3, 23, 25), (18, 3, 3, 3), 1, 1, 1, 1),
    "many pixels, dilation": ((1, 5, 26, 29), (4, 5, 3, 3), 1, 2, 2, 1),
    "many pixels, stride": ((2, 6, 31, 27), (33, 6, 3, 3), 2, 1, 1, 1),
    "wide": ((1, 4, 2, 300), (5, 4, 3, 3), 1, 1, 1, 1),
    # the image is the matrix of columns, or not quite
    "1x1, many pixels": ((2, 40, 17, 19), (70, 40, 1, 1), 1, 0, 1, 1),
    "1x1, many channels": ((1, 800, 2, 3), (33, 800, 1, 1), 1, 0, 1, 1),
    "1x1, blocks of pixels and pieces of channels": ((1, 300, 15, 14), (150, 300, 1, 1), 1, 0, 1, 1),
    "1x1 stride, pieces of channels": ((2, 270, 9, 12), (20, 270, 1, 1), 2, 0, 1, 1),
    "1x1 stride, many channels": ((2, 40, 9, 12), (70, 40, 1, 1), 2, 0, 1, 1),
    "1x1 padding": ((1, 20, 5, 6), (9, 20, 1, 1), 1, 1, 1, 1),
    "1x1 groups": ((2, 96, 5, 6), (66, 48, 1, 1), 1, 0, 1, 2),
    "groups, many channels": ((1, 96, 5, 6), (40, 48, 3, 3), 1, 1, 1, 2),
    "groups, many channels, stride": ((1, 204, 5, 7), (36, 102, 3, 3), 2, 1, 1, 2),
    # the first layer of a network
    "7x7 stride": ((2, 3, 17, 19), (20, 3, 7, 7), 2, 3, 1, 1),
    "2x2 stride": ((3, 3, 13, 16), (40, 3, 2, 2), (2, 1), (0, 1), 1, 1),  # rows of the window shorter than a vector
    "11x11 stride": ((1, 3, 29, 31), (17, 3, 11, 11), 4, 2, 1, 1),
    # vectors of channels, four pixels at a time, and what is left of both
    "depthwise, many channels": ((1, 37, 4, 13), (37, 1, 3, 3), 1, 1, 1, 37),
    "depthwise, many channels, stride": ((1, 32, 5, 22), (32, 1, 3, 3), 2, 1, 1, 32),
    "depthwise, many channels, odd stride": ((1, 33, 4, 23), (33, 1, 3, 3), (1, 2), (0, 1), 1, 33),
    "depthwise, no padding": ((1, 16, 4, 11), (16, 1, 3, 3), 1, 0, 1, 16),
    "depthwise, more padding": ((1, 17, 2, 9), (17, 1, 3, 3), 1, ((2, 1), (2, 3)), 1, 17),
    "depthwise 5x5": ((1, 20, 3, 14), (20, 1, 5, 5), 1, 2, 1, 20),
    "depthwise 5x5 stride": ((1, 20, 5, 19), (20, 1, 5, 5), 3, 2, 1, 20),
    "depthwise 5x5, up to nine windows": ((1, 20, 7, 10), (20, 1, 5, 5), 2, 2, 1, 20),
    "depthwise dilation": ((1, 34, 5, 15), (34, 1, 3, 3), 1, 2, 2, 34),
    "depthwise, narrow": ((1, 33, 4, 2), (33, 1, 3, 3), 1, 1, 1, 33),
}
IMPLEMENTATIONS = {"reference": reference, "cpu": cpu, "cuda": cuda}


def geometry(case) -> ConvGeometry:
    return ConvGeometry.of(*CASES[case])


def arrays(case, kind="normal", dtype=np.float64):
    """x, weight, bias, gy: normal numbers, or integers from -8 to 8, whose products and sums are exact in float32."""
    g, rng = geometry(case), np.random.default_rng(len(case))
    shapes = g.x_shape, g.weight_shape, (g.o,), g.y_shape
    if kind == "integers":
        return [rng.integers(-8, 9, shape).astype(dtype) for shape in shapes]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def taps(g):
    """(n, group, p, q, row, column, i, j) for every tap of every window that lies on a pixel."""
    for n, group, p, q, i, j in np.ndindex(g.n, g.groups, g.oh, g.ow, g.kh, g.kw):
        row, column = p * g.sh + i * g.dh - g.top, q * g.sw + j * g.dw - g.left
        if 0 <= row < g.h and 0 <= column < g.w:
            yield n, group, p, q, row, column, i, j


def loops(x, weight, gy, g):
    """y without bias, gx, gw: one tap of one window at a time."""
    y, gx, gw = np.zeros(g.y_shape), np.zeros(g.x_shape), np.zeros(g.weight_shape)
    c_group, o_group = g.c // g.groups, g.o // g.groups
    for n, group, p, q, row, column, i, j in taps(g):
        outputs, channels = slice(group * o_group, (group + 1) * o_group), slice(group * c_group, (group + 1) * c_group)
        y[n, outputs, p, q] += weight[outputs, :, i, j] @ x[n, channels, row, column]
        gx[n, channels, row, column] += gy[n, outputs, p, q] @ weight[outputs, :, i, j]
        gw[outputs, :, i, j] += np.outer(gy[n, outputs, p, q], x[n, channels, row, column])
    return y, gx, gw


@functools.cache
def expected(case, kind, dtype):
    """The loops' results in float64, and the same sums over absolute values."""
    x, weight, _, gy = (array.astype(np.float64) for array in arrays(case, kind, dtype))
    return loops(x, weight, gy, geometry(case)), loops(abs(x), abs(weight), abs(gy), geometry(case))


def gamma(terms, dtype):
    """Bound of the relative error of a sum of so many products, in any order (N. Higham, Accuracy and Stability, 3.1)."""
    u = eps(dtype) / 2
    return terms * u / (1 - terms * u)


def by_winograd(algorithm, g) -> bool:
    return algorithm in WINOGRAD and POSSIBLE[algorithm](g)


def winograd_bound(size, dtype):
    """Bound of the error of Winograd's convolution, from the same sum over absolute values: 2e-5 of the largest in float32."""
    return 168 * eps(dtype) * np.max(size, initial=0)


# ----- against the loops -----


@pytest.mark.parametrize("case", CASES)
def test_reference(case):
    g = geometry(case)
    x, weight, bias, gy = arrays(case)
    (y, gx, gw), _ = expected(case, "normal", np.float64)
    np.testing.assert_allclose(reference.conv2d_forward(x, weight, None, g), y, rtol=1e-12, atol=1e-13)
    y = y + bias[:, None, None]
    np.testing.assert_allclose(reference.conv2d_forward(x, weight, bias, g), y, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(reference.conv2d_backward_input(gy, weight, g), gx, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(reference.conv2d_backward_weight(gy, x, g), gw, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(reference.conv2d_backward_bias(gy), gy.sum((0, 2, 3)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", [None, *ALGORITHMS])  # None: the reference
@pytest.mark.parametrize("case", CASES)
def test_integers_are_exact(case, algorithm, dtype):
    """With small integers every sum is exact, so every bit must be right. (Winograd's transforms take thirds and fifteenths.)"""
    g, kernels = geometry(case), cpu if algorithm else reference
    x, weight, bias, gy = arrays(case, "integers", dtype)
    (y, gx, gw), (y_size, gx_size, gw_size) = expected(case, "integers", dtype)

    def check(actual, right, size):
        assert_close(actual, right, winograd_bound(size, dtype) if by_winograd(algorithm, g) else 0, dtype)

    with cpu.algorithm(algorithm or "im2col"):
        check(kernels.conv2d_forward(x, weight, None, g), y, y_size)
        check(kernels.conv2d_forward(x, weight, bias, g), y + bias[:, None, None], y_size + 8)
        check(kernels.conv2d_backward_input(gy, weight, g), gx, gx_size)
        check(kernels.conv2d_backward_weight(gy, x, g), gw, gw_size)
        np.testing.assert_array_equal(kernels.conv2d_backward_bias(gy), gy.sum((0, 2, 3)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case", CASES)
def test_rounding(case, algorithm, dtype):
    """Every error is within the bound that holds for sums of so many terms."""
    g = geometry(case)
    x, weight, bias, gy = arrays(case, "normal", dtype)
    (y, gx, gw), (y_size, gx_size, gw_size) = expected(case, "normal", dtype)
    window, bias64 = g.kh * g.kw, bias[:, None, None].astype(np.float64)

    def check(actual, right, terms, size):
        bound = winograd_bound(size, dtype) if by_winograd(algorithm, g) else gamma(terms, dtype) * size
        assert_close(actual, right, bound, dtype)

    with cpu.algorithm(algorithm):
        check(cpu.conv2d_forward(x, weight, bias, g), y + bias64, window * g.c // g.groups + 1, y_size + abs(bias64))
        check(cpu.conv2d_backward_input(gy, weight, g), gx, window * g.o // g.groups, gx_size)
        check(cpu.conv2d_backward_weight(gy, x, g), gw, g.n * g.oh * g.ow + 2, gw_size)


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@pytest.mark.parametrize("case", CASES)
def test_adjoint(case, kernels):
    """A convolution is linear in x and in the weight: <conv(x, w), gy> = <x, gx> = <w, gw>."""
    g = geometry(case)
    x, weight, _, gy = arrays(case)
    forward = np.vdot(kernels.conv2d_forward(x, weight, None, g), gy)
    scale = 1e-12 * (1 + np.vdot(expected(case, "normal", np.float64)[1][0], abs(gy)))
    assert abs(np.vdot(x, kernels.conv2d_backward_input(gy, weight, g)) - forward) <= scale
    assert abs(np.vdot(weight, kernels.conv2d_backward_weight(gy, x, g)) - forward) <= scale


def test_long_sums_are_accurate():
    """A bias gradient over 100,000 pixels: one float32 sum after another would be off in the fourth digit."""
    gy = (1000 + np.random.default_rng(0).random((1, 8, 250, 400))).astype(np.float32)
    np.testing.assert_allclose(cpu.conv2d_backward_bias(gy), gy.sum((0, 2, 3), dtype=np.float64), rtol=2e-6)


# ----- NaN, memory orders, dtypes -----


@pytest.mark.parametrize("algorithm", [None, *ALGORITHMS])
@pytest.mark.parametrize("case", ["kh != kw", "dilation and stride", "groups, stride, dilation", "depthwise stride"])
def test_nan_reaches_exactly_what_depends_on_it(case, algorithm):
    g, kernels = geometry(case), cpu if algorithm else reference
    x, weight, gy = np.ones(g.x_shape), np.ones(g.weight_shape), np.ones(g.y_shape)
    seen = list(taps(g))
    c_group, o_group = g.c // g.groups, g.o // g.groups
    with cpu.algorithm(algorithm or "im2col"):
        for pixel in itertools.product([g.n - 1], [0, g.c - 1], range(g.h), range(g.w)):
            x[pixel] = np.nan
            y, gw = np.zeros(g.y_shape, bool), np.zeros(g.weight_shape, bool)
            for n, group, p, q, row, column, i, j in seen:
                if (n, group, row, column) == (pixel[0], pixel[1] // c_group, *pixel[2:]):
                    outputs = slice(group * o_group, (group + 1) * o_group)
                    y[n, outputs, p, q] = True
                    gw[outputs, pixel[1] % c_group, i, j] = True
            np.testing.assert_array_equal(np.isnan(kernels.conv2d_forward(x, weight, None, g)), y)
            np.testing.assert_array_equal(np.isnan(kernels.conv2d_backward_weight(gy, x, g)), gw)
            x[pixel] = 1
        for output in itertools.product([g.n - 1], [0, g.o - 1], range(g.oh), range(g.ow)):
            gy[output] = np.nan
            gx = np.zeros(g.x_shape, bool)
            for n, group, p, q, row, column, _, _ in seen:
                if (n, group, p, q) == (output[0], output[1] // o_group, *output[2:]):
                    gx[n, group * c_group : (group + 1) * c_group, row, column] = True
            np.testing.assert_array_equal(np.isnan(kernels.conv2d_backward_input(gy, weight, g)), gx)
            gy[output] = 1


def all_results(kernels, x, weight, bias, gy, g):
    """Everything that the kernels compute from the four arrays, by name."""
    results = {
        "y": kernels.conv2d_forward(x, weight, bias, g),
        "gx": kernels.conv2d_backward_input(gy, weight, g),
        "gw": kernels.conv2d_backward_weight(gy, x, g),
        "gb": kernels.conv2d_backward_bias(gy),
        "im2col": kernels.im2col(x, g),
        "transposed y": kernels.conv_transpose2d_forward(gy, weight, None, g),
        "transposed gx": kernels.conv_transpose2d_backward_input(x, weight, g),
        "transposed gw": kernels.conv_transpose2d_backward_weight(x, gy, g),
    }
    return results | {"col2im": kernels.col2im(results["im2col"], g)}


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["strides differ", "groups", "depthwise", "empty batch", "1x1"])
def test_dtype_and_memory_order(case, dtype, kernels):
    given = arrays(case, "normal", dtype)
    before = [array.tobytes() for array in given]
    results = all_results(kernels, *given, geometry(case))
    assert [array.tobytes() for array in given] == before
    for name, result in results.items():
        assert result.dtype == dtype
        assert not any(np.shares_memory(result, array) for array in given)
        if name in ("gw", "gb", "im2col", "transposed gw"):
            assert result.flags.c_contiguous
        else:
            assert_channels_last(result)


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@pytest.mark.parametrize("order", MEMORY_ORDERS)
@pytest.mark.parametrize("case", ["strides differ", "groups", "depthwise"])
def test_memory_orders_of_the_inputs(case, order, kernels):
    x, weight, bias, gy = arrays(case, "normal", np.float32)
    change = MEMORY_ORDERS[order]
    straight = all_results(kernels, x, weight, bias, gy, geometry(case))
    changed = all_results(kernels, change(x), change(weight), bias[::-1].copy()[::-1], change(gy), geometry(case))
    for name, result in straight.items():
        np.testing.assert_array_equal(changed[name], result)


def test_expanded_gradients():
    """The gradient of a sum is one number seen everywhere, with strides of 0."""
    g = geometry("groups")
    x, weight, *_ = arrays("groups")
    gy = np.broadcast_to(np.float64(2), g.y_shape)
    for kernels in IMPLEMENTATIONS.values():
        gx, gw = kernels.conv2d_backward_input(gy, weight, g), kernels.conv2d_backward_weight(gy, x, g)
        np.testing.assert_array_equal(gx, kernels.conv2d_backward_input(gy.copy(), weight, g))
        np.testing.assert_array_equal(gw, kernels.conv2d_backward_weight(gy.copy(), x, g))


# ----- transposed convolution -----

# x shape, weight shape, stride, padding, output_padding, dilation, groups
TRANSPOSED = {
    "plain": ((2, 3, 4, 5), (3, 4, 3, 3), 1, 0, 0, 1, 1),
    "stride": ((2, 3, 4, 3), (3, 2, 3, 2), (2, 3), 1, (1, 2), 1, 1),
    "stride beyond the kernel": ((1, 2, 3, 3), (2, 3, 2, 2), 3, 0, 1, 1, 1),  # output pixels that nothing reaches
    "groups, dilation": ((2, 4, 3, 4), (4, 3, 2, 3), (1, 2), (0, 1), (1, 0), (2, 1), 2),
    "depthwise": ((1, 5, 4, 4), (5, 1, 4, 4), 2, 1, 0, 1, 5),
    "depthwise, many channels": ((1, 35, 5, 8), (35, 1, 3, 3), 2, 1, 1, 1, 35),
    "many channels": ((1, 40, 5, 6), (40, 35, 3, 3), 1, 1, 0, 1, 1),
    "upsampling": ((2, 20, 4, 7), (20, 9, 2, 2), 2, 0, 0, 1, 1),
    "empty batch": ((0, 2, 3, 3), (2, 3, 3, 3), 2, 1, 1, 1, 1),
}


@pytest.mark.parametrize("algorithm", [None, *ALGORITHMS])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed(case, algorithm):
    """y[2i + k] += x[i] w[k], and its two gradients, from loops that stamp instead of gather."""
    x_shape, weight_shape, stride, padding, output_padding, dilation, groups = TRANSPOSED[case]
    g, kernels = ConvGeometry.of_transposed(*TRANSPOSED[case]), cpu if algorithm else reference
    rng = np.random.default_rng(len(case))
    x, weight = rng.integers(-8, 9, x_shape).astype(np.float32), rng.integers(-8, 9, weight_shape).astype(np.float32)
    bias, gy = rng.integers(-8, 9, g.c).astype(np.float32), rng.integers(-8, 9, g.x_shape).astype(np.float32)
    gx, y, gw = loops(gy, weight, x, g)  # the transposed convolution's output has the place of a convolution's input gradient
    sizes = loops(abs(gy), abs(weight), abs(x), g)

    def check(actual, right, size):
        assert_close(actual, right, winograd_bound(size, np.float32) if by_winograd(algorithm, g) else 0, np.float32)

    with cpu.algorithm(algorithm or "im2col"):
        check(kernels.conv_transpose2d_forward(x, weight, None, g), y, sizes[1])
        check(kernels.conv_transpose2d_forward(x, weight, bias, g), y + bias[:, None, None], sizes[1] + 8)
        check(kernels.conv_transpose2d_backward_input(gy, weight, g), gx, sizes[0])
        check(kernels.conv_transpose2d_backward_weight(gy, x, g), gw, sizes[2])
        result = kernels.conv_transpose2d_forward(x, weight, bias, g)
    torch = pytest.importorskip("torch")
    if x.size:
        tensors = torch.tensor(x), torch.tensor(weight), torch.tensor(bias)
        expected_y = torch.nn.functional.conv_transpose2d(*tensors, stride, padding, output_padding, groups, dilation)
        check(result, expected_y.numpy(), sizes[1] + 8)


# ----- im2col and col2im -----


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_the_example_of_the_docstring(kernels):
    x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    g = ConvGeometry.of(x.shape, (1, 1, 2, 2))
    columns = kernels.im2col(x, g)
    np.testing.assert_array_equal(columns, [[1, 2, 4, 5], [2, 3, 5, 6], [4, 5, 7, 8], [5, 6, 8, 9]])
    np.testing.assert_array_equal(kernels.col2im(columns, g)[0, 0], [[1, 4, 3], [8, 20, 12], [7, 16, 9]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernels", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@pytest.mark.parametrize("case", CASES)
def test_im2col_and_col2im(case, kernels, dtype):
    g = geometry(case)
    x, _, _, _ = arrays(case, "integers", dtype)
    columns = np.zeros((g.n, g.oh, g.ow, g.c, g.kh, g.kw))
    image, other = np.zeros(g.x_shape), np.random.default_rng(1).integers(-8, 9, columns.shape).astype(dtype)
    c_group = g.c // g.groups
    for n, group, p, q, row, column, i, j in taps(g):
        channels = slice(group * c_group, (group + 1) * c_group)
        columns[n, p, q, channels, i, j] = x[n, channels, row, column]
        image[n, channels, row, column] += other[n, p, q, channels, i, j]
    rows = g.n * g.oh * g.ow, g.c * g.kh * g.kw
    np.testing.assert_array_equal(kernels.im2col(x, g), columns.reshape(rows))
    np.testing.assert_array_equal(kernels.col2im(other.reshape(rows), g), image)


# ----- threads and builds -----

# algorithm, and a geometry of many blocks, the last of them smaller
LARGE = {
    "im2col": ("im2col", ((3, 16, 20, 21), (24, 16, 3, 3), 1, 1, 1, 1)),
    "im2col, stride": ("im2col", ((2, 32, 15, 16), (40, 32, 3, 3), 2, 1, 1, 1)),
    "im2col, slices": ("im2col", ((2, 150, 9, 11), (40, 150, 3, 3), 1, 1, 1, 1)),
    "im2col, groups": ("im2col", ((2, 24, 15, 16), (40, 12, 3, 3), 1, 1, 1, 2)),
    "1x1": ("im2col", ((2, 70, 15, 16), (40, 70, 1, 1), 1, 0, 1, 1)),
    "few pixels": ("im2col", ((1, 64, 3, 3), (200, 64, 3, 3), 1, 1, 1, 1)),  # the panels are shared out
    "lines": ("lines", ((2, 9, 33, 40), (24, 9, 3, 3), 1, 1, 1, 1)),
    "lines, stride": ("lines", ((2, 3, 40, 41), (35, 3, 7, 7), 2, 3, 1, 1)),
    "lines, three channels": ("lines", ((3, 3, 30, 31), (35, 3, 3, 3), 1, 1, 1, 1)),
    "lines, dilation": ("lines", ((1, 20, 30, 31), (17, 20, 3, 3), 1, 2, 2, 1)),
    "winograd": ("winograd", ((3, 17, 30, 31), (40, 17, 3, 3), 1, 1, 1, 1)),
    "winograd, many channels": ("winograd", ((3, 260, 13, 14), (130, 260, 3, 3), 1, 1, 1, 1)),  # inputs and products apart
    "small winograd": ("small winograd", ((60, 90, 5, 6), (70, 90, 3, 3), 1, 1, 1, 1)),
    "direct": ("direct", ((3, 24, 19, 20), (24, 1, 3, 3), 1, 1, 1, 24)),
    "direct, groups": ("direct", ((2, 8, 19, 20), (12, 4, 3, 3), 1, 1, 1, 2)),
}


def digests(dtype=np.float32) -> dict[str, str]:
    """The bits of all results of the large cases."""
    found = {}
    for name, (algorithm, case) in LARGE.items():
        g, rng = ConvGeometry.of(*case), np.random.default_rng(0)
        given = [rng.standard_normal(shape).astype(dtype) for shape in (g.x_shape, g.weight_shape, (g.o,), g.y_shape)]
        with cpu.algorithm(algorithm):
            assert choose(g) == algorithm
            for result, array in all_results(cpu, *given, g).items():
                found[f"{name}: {result}"] = hashlib.sha256(array.tobytes()).hexdigest()
    return found


def main(name: str) -> None:
    """Print the digests of the parallel builds with 1, 2, 3 and 4 threads, and then of the serial builds, as JSON."""
    dtype, found = np.dtype(name).type, []
    with build("parallel"):
        for threads in (1, 2, 3, 4):
            cpu.set_num_threads(threads)
            found.append(digests(dtype))
    with build("serial"):
        found.append(digests(dtype))
    print(json.dumps(found))


@pytest.mark.beside("convolution float32", "convolution float64")
@pytest.mark.parametrize("dtype", DTYPES)
def test_both_builds_and_all_threads_give_the_same_bits(dtype):
    first, *others = beside.result(f"convolution {dtype.__name__}")
    assert {name.rsplit(":", 1)[0] for name in first} == set(LARGE)
    assert others == [first] * 4


# ----- choosing an algorithm -----

TYPICAL = {  # x shape, weight shape, stride, groups -> the algorithm for float32, the one that is exact
    "first layer": ((8, 3, 32, 32), (16, 3, 3, 3), 1, 1, "lines", "lines"),
    "stem": ((1, 3, 224, 224), (64, 3, 7, 7), 2, 1, "lines", "lines"),
    "3x3": ((8, 16, 32, 32), (16, 16, 3, 3), 1, 1, "winograd", "lines"),
    "3x3, many channels": ((8, 512, 4, 4), (512, 512, 3, 3), 1, 1, "winograd", "im2col"),
    "3x3 stride": ((8, 256, 8, 8), (512, 256, 3, 3), 2, 1, "im2col", "im2col"),
    "1x1": ((8, 64, 8, 8), (128, 64, 1, 1), 1, 1, "im2col", "im2col"),
    "depthwise": ((8, 64, 8, 8), (64, 1, 3, 3), 1, 64, "direct", "direct"),
    "groups": ((8, 64, 8, 8), (64, 16, 3, 3), 1, 4, "im2col", "im2col"),
    "two pixels": ((8, 64, 2, 2), (64, 64, 3, 3), 1, 1, "small winograd", "im2col"),
    "two pixels, few channels": ((8, 16, 2, 2), (64, 16, 3, 3), 1, 1, "im2col", "im2col"),
}


@pytest.mark.parametrize("name", TYPICAL)
def test_choice(name):
    x_shape, weight_shape, stride, groups, fastest, exact = TYPICAL[name]
    g = ConvGeometry.of(x_shape, weight_shape, stride, weight_shape[2] // 2, 1, groups)
    assert choose(g) == choose(g, np.float32) == fastest
    assert choose(g, np.float64) == exact
    with cpu.algorithm(exact=True):
        assert choose(g) == choose(g, np.float64) == exact


def test_a_forced_algorithm():
    g = geometry("depthwise")
    with cpu.algorithm("direct"):
        assert choose(geometry("3x3 same")) == "direct"
        with cpu.algorithm("im2col"):
            assert choose(g) == "im2col"
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(choose, g).result() == "direct"  # of the table: the choice is for one thread
        assert choose(geometry("3x3 same")) == "direct"
    assert choose(g) == "direct"
    assert choose(geometry("3x3 same")) == "im2col"


def test_what_an_algorithm_cannot_compute_is_left_to_the_table():
    for name in ALGORITHMS:
        with cpu.algorithm(name):
            for case in CASES:
                g = geometry(case)
                assert POSSIBLE[choose(g)](g)
                assert choose(g) == name or not POSSIBLE[name](g)


def test_exact():
    g = ConvGeometry.of((2, 16, 8, 8), (16, 16, 3, 3), 1, 1)
    with cpu.algorithm("winograd"):
        assert choose(g, np.float64) == "winograd"  # float64 too, where it is named
        with cpu.algorithm(exact=True):
            assert choose(g) == "lines"
            with cpu.algorithm(exact=False):
                assert choose(g) == "winograd"
    with cpu.algorithm("im2col", exact=True):
        assert choose(g) == "im2col"
        with cpu.algorithm("winograd"):
            assert choose(g) == "lines"
        with cpu.algorithm():
            assert choose(g) == "im2col"
    assert choose(g) == "winograd"


def test_the_environment_makes_all_convolutions_exact():
    code = (
        "from minigrad.kernels.cpu._algorithms import algorithm, choose; from minigrad.kernels.geometry import ConvGeometry\n"
        "g = ConvGeometry.of((2, 16, 8, 8), (16, 16, 3, 3), 1, 1)\n"
        "with algorithm(exact=False):\n    name = choose(g)\n"
        'print(f\'["{choose(g)}", "{name}"]\')'
    )
    for value, expected in (("1", ["lines", "winograd"]), ("0", ["winograd"] * 2), ("", ["winograd"] * 2)):
        assert finish(start("-c", code, MINIGRAD_EXACT=value))[0] == expected


def test_unknown_algorithm():
    with pytest.raises(ValueError, match="one of 'direct', 'winograd', 'small winograd', 'lines', 'im2col', got 'fft'"):
        cpu.algorithm("fft").__enter__()
    with pytest.raises(TypeError, match="exact must be True or False, got 1"):
        cpu.algorithm(exact=1).__enter__()
    for name in WINOGRAD:
        with pytest.raises(ValueError, match=f'the algorithm "{name}" is not exact'):
            cpu.algorithm(name, exact=True).__enter__()
    assert choose(geometry("3x3 same")) == "im2col"


# ----- PyTorch -----


@pytest.mark.parametrize("kernels", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@pytest.mark.parametrize("case", CASES)
def test_like_torch(case, kernels):
    torch = pytest.importorskip("torch")
    g = geometry(case)
    given = arrays(case)
    x, weight, bias = (torch.tensor(array, requires_grad=True) for array in given[:3])
    padded = torch.nn.functional.pad(x, (g.left, g.right, g.top, g.bottom))
    y = torch.nn.functional.conv2d(padded, weight, bias, (g.sh, g.sw), 0, (g.dh, g.dw), g.groups)
    y.backward(torch.tensor(given[3]))
    x_, weight_, bias_, gy = given
    np.testing.assert_allclose(kernels.conv2d_forward(x_, weight_, bias_, g), y.detach().numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(kernels.conv2d_backward_input(gy, weight_, g), x.grad.numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(kernels.conv2d_backward_weight(gy, x_, g), weight.grad.numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(kernels.conv2d_backward_bias(gy), bias.grad.numpy(), rtol=1e-11, atol=1e-12)


if __name__ == "__main__":
    main(*sys.argv[1:])
