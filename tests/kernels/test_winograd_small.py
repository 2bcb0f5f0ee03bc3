"""Winograd's convolution for images of few pixels: its matrices, its three passes against the reference, and its rounding."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from minigrad.kernels.cpu import _machine, _winograd_small
from minigrad.kernels.cpu._compiler import build, kernel, prange
from minigrad.kernels.cpu._vector import lanes, load, store
from minigrad.kernels.cpu._winograd_small import gradient_line, input_line, output_line, weight_gradient_line, weight_line
from minigrad.kernels.geometry import ConvGeometry
from tests.kernels.agreement import DTYPES, MEMORY_ORDERS, assert_channels_last
from tests.kernels.small import follow
from tests.kernels.test_winograd import arrays, check, passes, seen_by, spoiled

NAME = "small winograd"
INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])  # as in the text of the module
WEIGHT = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) * Fraction(1, 2)
OUTPUT = np.array([[1, 0], [1, 1], [1, -1], [0, -1]])


@kernel(reassociate=False)
def _lines(x, y):
    for _ in prange(1):
        step = lanes(x)
        a, b, c, d = load(x, 0), load(x, step), load(x, 2 * step), load(x, 3 * step)
        n0, n1, n2, n3 = input_line(a, b, c, d)
        store(y, 0, n0)
        store(y, step, n1)
        store(y, 2 * step, n2)
        store(y, 3 * step, n3)
        n0, n1, n2, n3 = weight_line(x, a, b, c)
        store(y, 4 * step, n0)
        store(y, 5 * step, n1)
        store(y, 6 * step, n2)
        store(y, 7 * step, n3)
        n0, n1 = output_line(a, b, c, d)
        store(y, 8 * step, n0)
        store(y, 9 * step, n1)
        n0, n1, n2, n3 = gradient_line(x, a, b)
        store(y, 10 * step, n0)
        store(y, 11 * step, n1)
        store(y, 12 * step, n2)
        store(y, 13 * step, n3)
        n0, n1, n2 = weight_gradient_line(x, a, b, c, d)
        store(y, 14 * step, n0)
        store(y, 15 * step, n1)
        store(y, 16 * step, n2)


follow(_lines, module=_winograd_small)


def test_the_identity_of_the_matrices():
    """y = A^T [(G w) * (B^T d)] is y[i] = sum over j of w[j] d[i + j], in exact fractions."""
    products = np.einsum("mi,mj,mk->ijk", OUTPUT, WEIGHT, INPUT)
    for i, j, k in np.ndindex(products.shape):
        assert products[i, j, k] == (k == i + j)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lines_are_products_with_the_matrices(dtype):
    step = _machine.lanes(dtype)
    x, y = np.random.default_rng(0).integers(-9, 10, (4, step)).astype(dtype), np.zeros((17, step), dtype)
    _lines(x.reshape(-1), y.reshape(-1), work=1)
    matrices = INPUT, WEIGHT.astype(float), OUTPUT.T, OUTPUT, WEIGHT.T.astype(float)
    np.testing.assert_array_equal(y, np.concatenate([matrix @ x[: matrix.shape[1]] for matrix in matrices]))


# ---- the three passes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("h", range(1, 8))
def test_sizes(h):
    """Tiles that stick out on the right and below, and images smaller than a tile."""
    for w in range(1, 8):
        check(2, 3, 5, h, w, name=NAME)


@pytest.mark.parametrize("c", [1, 15, 16, 17, 40, 129])
def test_channels(c):
    """No whole vectors, no whole panels, several slices of inputs, several parts of outputs."""
    for o in (1, 15, 16, 17, 40, 129):
        check(1, c, o, 2, 3, name=NAME)


@pytest.mark.parametrize("padding", [0, 1, 2, 4, ((2, 0), (1, 3)), ((0, 1), (0, 0)), ((5, 7), (0, 2))], ids=str)
def test_paddings(padding):
    """Whole tiles of padding, tiles that begin inside the image, and gradients of what was cut off."""
    for n, c, o, h, w in ((1, 2, 3, 3, 4), (2, 16, 17, 5, 4), (3, 33, 16, 6, 7)):
        check(n, c, o, h, w, padding, name=NAME)


@pytest.mark.parametrize("tiles", [1, 7, 96])
@pytest.mark.parametrize("which", ["serial", "parallel"])
def test_blocks_of_tiles(which, tiles, monkeypatch):
    monkeypatch.setattr(_winograd_small, "TILES", tiles)
    with build(which):
        check(9, 17, 40, 5, 7, name=NAME)
        check(70, 5, 3, 2, 2, name=NAME)


@pytest.mark.parametrize("order", MEMORY_ORDERS)
def test_memory_orders(order):
    g, change = ConvGeometry.of((2, 17, 5, 4), (20, 17, 3, 3), 1, 1), MEMORY_ORDERS[order]
    x, weight, bias, gy = arrays(g, np.float32)
    with cpu.algorithm(NAME):
        straight = passes(cpu, g, x, weight, bias, gy)
        changed = passes(cpu, g, change(x), change(weight), bias[::-1].copy()[::-1], change(gy))
    for name, result in straight.items():
        np.testing.assert_array_equal(changed[name], result)
        if name != "gw":
            assert_channels_last(result)


def test_an_empty_batch():
    g = ConvGeometry.of((0, 16, 2, 2), (16, 16, 3, 3), 1, 1)
    with cpu.algorithm(NAME):
        results = passes(cpu, g, *arrays(g))
    assert [results[name].shape for name in ("y", "gx", "gw")] == [g.y_shape, g.x_shape, g.weight_shape]
    assert not results["gw"].any()


@pytest.mark.parametrize("channels", [16, 64, 256, 512])
def test_rounding(channels):
    """A tenth of what the larger tiles may round: at most 2e-6 of the largest."""
    g, rng = ConvGeometry.of((16, channels, 2, 3), (channels, channels, 3, 3), 1, 1), np.random.default_rng(channels)
    x = np.maximum(rng.standard_normal(g.x_shape), 0).astype(np.float32)
    weight = (rng.standard_normal(g.weight_shape) * np.sqrt(2 / (9 * channels))).astype(np.float32)
    bias, gy = rng.standard_normal(g.o).astype(np.float32), rng.standard_normal(g.y_shape).astype(np.float32)
    with cpu.algorithm(NAME):
        actual = passes(cpu, g, x, weight, bias, gy)
    for name, expected in passes(reference, g, *(array.astype(np.float64) for array in (x, weight, bias, gy))).items():
        assert actual[name].dtype == np.float32
        assert abs(actual[name] - expected).max() <= 2e-6 * abs(expected).max(), name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("padding", [1, ((0, 2), (2, 0))], ids=str)
def test_what_is_not_finite_spoils_only_the_tiles_that_see_it(padding, bad):
    g = ConvGeometry.of((2, 17, 5, 6), (18, 17, 3, 3), 1, padding)
    x, weight, bias, gy = arrays(g, np.float32)
    with cpu.algorithm(NAME):
        for row, column in itertools.product((0, 3, 4), (0, 2, 5)):
            x[1, 16, row, column] = bad
            y = spoiled(cpu.conv2d_forward(x, weight, None, g))
            (tile_rows, rows), (tile_columns, columns) = seen_by(row, g.top, g.oh, 2), seen_by(column, g.left, g.ow, 2)
            assert not y[0].any()
            assert not (y[1] & ~np.outer(tile_rows, tile_columns)).any()
            assert y[1][:, np.outer(rows, columns)].all()
            assert not spoiled(cpu.conv2d_backward_weight(gy, x, g))[:, :16].any()
            x[1, 16, row, column] = 0
        for row, column in itertools.product((0, g.oh - 1), (0, g.ow - 1)):
            gy[0, 17, row, column] = bad
            gx = spoiled(cpu.conv2d_backward_input(gy, weight, g))
            (tile_rows, rows), (tile_columns, columns) = seen_by(row, 2 - g.top, g.h, 2), seen_by(column, 2 - g.left, g.w, 2)
            assert not gx[1].any()
            assert not (gx[0] & ~np.outer(tile_rows, tile_columns)).any()
            assert gx[0][:, np.outer(rows, columns)].all()
            gw = spoiled(cpu.conv2d_backward_weight(gy, x, g))
            assert gw[17].any()
            assert not gw[:17].any()
            gy[0, 17, row, column] = 0
        weight[2, 3, 1, 1], bias[4] = bad, bad
        y = spoiled(cpu.conv2d_forward(x, weight, bias, g))
    assert sorted(set(np.nonzero(y)[1])) == [2, 4]
