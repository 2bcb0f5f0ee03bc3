"""Winograd's convolution: its matrices, its three passes against the reference, and how much it rounds."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from minigrad.kernels.cpu import _conv_winograd, _machine, _winograd_gradient, _winograd_transforms
from minigrad.kernels.cpu._algorithms import choose
from minigrad.kernels.cpu._compiler import build, kernel, prange
from minigrad.kernels.cpu._vector import lanes, load, store
from minigrad.kernels.cpu._winograd_transforms import (
    INPUT,
    OUTPUT,
    WEIGHT,
    gradient_line,
    input_line,
    output_line,
    weight_gradient_line,
    weight_line,
)
from minigrad.kernels.geometry import ConvGeometry
from tests.kernels.agreement import DTYPES, MEMORY_ORDERS, assert_channels_last, eps
from tests.kernels.small import follow

# ---- the matrices ------------------------------------------------------------------------------------------------------


def exactly(matrix) -> np.ndarray:
    """The fractions that are meant by floating-point numbers."""
    return np.array([[Fraction(number).limit_denominator(15) for number in row] for row in matrix])


def test_the_identity_of_the_matrices():
    """y = A^T [(G w) * (B^T d)] is y[i] = sum over j of w[j] d[i + j], in exact fractions."""
    products = np.einsum("mi,mj,mk->ijk", exactly(OUTPUT), exactly(WEIGHT), exactly(INPUT))
    assert products.shape == (4, 3, 6)
    for i, j, k in np.ndindex(products.shape):
        assert products[i, j, k] == (k == i + j)


def test_the_matrices_are_rounded_once():
    for matrix in (INPUT, WEIGHT, OUTPUT):
        np.testing.assert_array_equal(np.array(matrix, np.float64), exactly(matrix).astype(np.float64))
    for dtype in DTYPES:
        rows = _winograd_transforms.rows(dtype)
        assert (rows.shape, rows.dtype) == ((6, 13), dtype)
        np.testing.assert_array_equal(rows, np.concatenate([INPUT, OUTPUT, WEIGHT], axis=1).astype(dtype))


@kernel(reassociate=False)
def _lines(x, y):
    for _ in prange(1):
        step = lanes(x)
        d = load(x, 0), load(x, step), load(x, 2 * step), load(x, 3 * step), load(x, 4 * step), load(x, 5 * step)
        n0, n1, n2, n3, n4, n5 = input_line(x, d[0], d[1], d[2], d[3], d[4], d[5])
        store(y, 0, n0)
        store(y, step, n1)
        store(y, 2 * step, n2)
        store(y, 3 * step, n3)
        store(y, 4 * step, n4)
        store(y, 5 * step, n5)
        n0, n1, n2, n3, n4, n5 = weight_line(x, d[0], d[1], d[2])
        store(y, 6 * step, n0)
        store(y, 7 * step, n1)
        store(y, 8 * step, n2)
        store(y, 9 * step, n3)
        store(y, 10 * step, n4)
        store(y, 11 * step, n5)
        n0, n1, n2, n3 = output_line(x, d[0], d[1], d[2], d[3], d[4], d[5])
        store(y, 12 * step, n0)
        store(y, 13 * step, n1)
        store(y, 14 * step, n2)
        store(y, 15 * step, n3)
        n0, n1, n2, n3, n4, n5 = gradient_line(x, d[0], d[1], d[2], d[3])
        store(y, 16 * step, n0)
        store(y, 17 * step, n1)
        store(y, 18 * step, n2)
        store(y, 19 * step, n3)
        store(y, 20 * step, n4)
        store(y, 21 * step, n5)
        n0, n1, n2 = weight_gradient_line(x, d[0], d[1], d[2], d[3], d[4], d[5])
        store(y, 22 * step, n0)
        store(y, 23 * step, n1)
        store(y, 24 * step, n2)


follow(_lines, module=_winograd_transforms)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lines_are_products_with_the_matrices(dtype):
    matrices = np.array(INPUT), np.array(WEIGHT), np.array(OUTPUT).T, np.array(OUTPUT), np.array(WEIGHT).T
    step = _machine.lanes(dtype)
    x, y = np.random.default_rng(0).standard_normal((6, step)).astype(dtype), np.zeros((25, step), dtype)
    _lines(x.reshape(-1), y.reshape(-1), work=1)
    expected = np.concatenate([matrix @ x[: matrix.shape[1]].astype(np.float64) for matrix in matrices])
    sizes = np.concatenate([abs(matrix) @ abs(x[: matrix.shape[1]].astype(np.float64)) for matrix in matrices])
    assert (abs(y - expected) <= 4 * eps(dtype) * sizes).all()


# ---- the three passes --------------------------------------------------------------------------------------------------


def arrays(g, dtype=np.float64, seed=0):
    """x, weight, bias, gy."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in (g.x_shape, g.weight_shape, (g.o,), g.y_shape)]


def passes(kernels, g, x, weight, bias, gy) -> dict[str, np.ndarray]:
    return {
        "y": kernels.conv2d_forward(x, weight, bias, g),
        "y without bias": kernels.conv2d_forward(x, weight, None, g),
        "gx": kernels.conv2d_backward_input(gy, weight, g),
        "gw": kernels.conv2d_backward_weight(gy, x, g),
    }


def check(n, c, o, h, w, padding=1, name="winograd") -> None:
    """All passes in float64, where Winograd's rounding is small."""
    g = ConvGeometry.of((n, c, h, w), (o, c, 3, 3), 1, padding)
    given = arrays(g)
    with cpu.algorithm(name):
        assert choose(g) == name
        actual = passes(cpu, g, *given)
    for name, expected in passes(reference, g, *given).items():
        assert actual[name].shape == expected.shape
        assert actual[name].dtype == expected.dtype
        error = abs(actual[name] - expected).max()
        assert error <= 1e-12 * abs(expected).max(), f"{name} of {g} is off by {error}"


@pytest.mark.parametrize("h", range(1, 14))
def test_sizes(h):
    """Every size of the image up to 13 x 13: tiles that stick out on the right and below, and images smaller than a tile."""
    for w in range(1, 14):
        check(2, 3, 5, h, w)


@pytest.mark.parametrize("c", [1, 3, 15, 16, 17, 40, 129, 300])
def test_channels(c):
    """No whole vectors, no whole panels, several parts of the weight gradient, inputs that are transformed first."""
    for o in (1, 3, 15, 16, 17, 40, 129, 300):
        check(1, c, o, 5, 6)


PADDINGS = [0, 1, 2, 4, ((2, 0), (1, 3)), ((0, 1), (0, 0)), ((0, 0), (3, 0)), ((5, 7), (0, 2))]


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_paddings(padding):
    """Whole tiles of padding, tiles that begin inside the image, and gradients of what was cut off."""
    for n, c, o, h, w in ((1, 2, 3, 3, 4), (2, 16, 17, 9, 7), (3, 33, 16, 6, 13)):
        check(n, c, o, h, w, padding)


@pytest.mark.parametrize("c", [5, 33])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_many_tiles(n, c):
    """Runs of neighbouring tiles that a block cuts apart, lines of more tiles than a run has, the last block smaller."""
    check(n, c, 18, 21, 45)
    check(n, c, 18, 6, 70)


WAYS = {
    "together": {"FEWEST": 1},
    "small blocks": {"FEWEST": 1, "CACHE": 36 * 50 * 24},
    "apart": {"FEWEST": 10**6},
    "apart, in many blocks": {"FEWEST": 25, "CACHE": 1},
    "all places at once": {"FEW": 10**9},
    "a row of places at a time": {"FEW": 0},
    "parts of the channels": {"CHANNELS": 16, "FEW": 0},
    "parts, all places": {"CHANNELS": 16, "FEW": 10**9},
    "one range": {"PARTIALS": 0},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way(way, monkeypatch):
    """Each with few and with many channels."""
    for name, value in WAYS[way].items():
        modules = [module for module in (_conv_winograd, _winograd_gradient) if hasattr(module, name)]
        assert modules
        for module in modules:
            monkeypatch.setattr(module, name, value)
    for n, c, o, h, w in (
        (1, 3, 2, 4, 4),
        (2, 17, 33, 7, 9),
        (5, 16, 16, 12, 10),
        (1, 70, 5, 6, 6),
        (1, 5, 70, 9, 3),
        (9, 20, 24, 14, 13),
    ):
        check(n, c, o, h, w)


@pytest.mark.parametrize("which", ["serial", "parallel"])
def test_both_builds(which):
    with build(which):
        check(2, 17, 20, 9, 11)
        check(1, 260, 260, 5, 5)


@pytest.mark.parametrize("order", MEMORY_ORDERS)
def test_memory_orders(order):
    g, change = ConvGeometry.of((2, 17, 9, 7), (20, 17, 3, 3), 1, 1), MEMORY_ORDERS[order]
    x, weight, bias, gy = arrays(g, np.float32)
    before = [array.tobytes() for array in (x, weight, bias, gy)]
    with cpu.algorithm("winograd"):
        straight = passes(cpu, g, x, weight, bias, gy)
        changed = passes(cpu, g, change(x), change(weight), bias[::-1].copy()[::-1], change(gy))
    assert [array.tobytes() for array in (x, weight, bias, gy)] == before
    for name, result in straight.items():
        np.testing.assert_array_equal(changed[name], result)
        assert result.dtype == np.float32
        if name != "gw":
            assert_channels_last(result)
    assert straight["gw"].flags.c_contiguous


def test_an_empty_batch():
    g = ConvGeometry.of((0, 16, 8, 8), (16, 16, 3, 3), 1, 1)
    x, weight, bias, gy = arrays(g)
    with cpu.algorithm("winograd"):
        results = passes(cpu, g, x, weight, bias, gy)
    assert [results[name].shape for name in ("y", "gx", "gw")] == [g.y_shape, g.x_shape, g.weight_shape]
    assert not results["gw"].any()


# ---- rounding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [16, 64, 256, 512])
def test_rounding(channels):
    """As far off as the texts say: at most 2e-5 of the largest, for activations after a ReLU and He's weights."""
    g, rng = ConvGeometry.of((2, channels, 14, 15), (channels, channels, 3, 3), 1, 1), np.random.default_rng(channels)
    x = np.maximum(rng.standard_normal(g.x_shape), 0).astype(np.float32)
    weight = (rng.standard_normal(g.weight_shape) * np.sqrt(2 / (9 * channels))).astype(np.float32)
    bias, gy = rng.standard_normal(g.o).astype(np.float32), rng.standard_normal(g.y_shape).astype(np.float32)
    with cpu.algorithm("winograd"):
        actual = passes(cpu, g, x, weight, bias, gy)
    for name, expected in passes(reference, g, *(array.astype(np.float64) for array in (x, weight, bias, gy))).items():
        assert actual[name].dtype == np.float32
        assert abs(actual[name] - expected).max() <= 2e-5 * abs(expected).max(), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_constants(dtype):
    """An image of ones through a window of ones: 9 inside, 6 at a border, 4 in a corner."""
    g = ConvGeometry.of((1, 1, 9, 10), (1, 1, 3, 3), 1, 1)
    with cpu.algorithm("winograd"):
        y = cpu.conv2d_forward(np.ones(g.x_shape, dtype), np.ones(g.weight_shape, dtype), None, g)
    rows, columns = (np.array([2] + [3] * (size - 2) + [2]) for size in (9, 10))
    np.testing.assert_allclose(y[0, 0], np.outer(rows, columns), rtol=20 * eps(dtype))


# ---- NaN and infinity --------------------------------------------------------------------------------------------------


def spoiled(array) -> np.ndarray:
    return ~np.isfinite(array)


def seen_by(pixel: int, before: int, size: int, tile=4) -> np.ndarray:
    """Which outputs of a line, in tiles, lie in a tile that sees an input, and which see it themselves (two rows)."""
    outputs = np.arange(size)
    first = outputs // tile * tile - before
    return np.stack([(first <= pixel) & (pixel < first + tile + 2), (outputs - before <= pixel) & (pixel < outputs - before + 3)])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("way", ["together", "apart"])
@pytest.mark.parametrize("padding", [1, ((0, 2), (2, 0))], ids=str)
def test_what_is_not_finite_spoils_only_the_tiles_that_see_it(padding, way, bad, monkeypatch):
    monkeypatch.setattr(_conv_winograd, "FEWEST", WAYS[way]["FEWEST"])
    g = ConvGeometry.of((2, 17, 9, 10), (18, 17, 3, 3), 1, padding)
    x, weight, _, gy = arrays(g, np.float32)
    with cpu.algorithm("winograd"):
        for row, column in itertools.product((0, 3, 4, 8), (0, 5, 9)):
            x[1, 16, row, column] = bad
            y = spoiled(cpu.conv2d_forward(x, weight, None, g))
            (tile_rows, rows), (tile_columns, columns) = seen_by(row, g.top, g.oh), seen_by(column, g.left, g.ow)
            assert not y[0].any()
            assert not (y[1] & ~np.outer(tile_rows, tile_columns)).any()
            assert y[1][:, np.outer(rows, columns)].all()
            gw = spoiled(cpu.conv2d_backward_weight(gy, x, g))
            assert not gw[:, :16].any()
            x[1, 16, row, column] = 0
        for row, column in itertools.product((0, 3, g.oh - 1), (0, 5, g.ow - 1)):
            gy[0, 17, row, column] = bad
            gx = spoiled(cpu.conv2d_backward_input(gy, weight, g))
            (tile_rows, rows), (tile_columns, columns) = seen_by(row, 2 - g.top, g.h), seen_by(column, 2 - g.left, g.w)
            assert not gx[1].any()
            assert not (gx[0] & ~np.outer(tile_rows, tile_columns)).any()
            assert gx[0][:, np.outer(rows, columns)].all()
            gw = spoiled(cpu.conv2d_backward_weight(gy, x, g))
            assert not gw[:17].any()
            gy[0, 17, row, column] = 0
        weight[2, 3, 1, 1] = bad
        y, gx = spoiled(cpu.conv2d_forward(x, weight, None, g)), spoiled(cpu.conv2d_backward_input(gy, weight, g))
    assert [sorted(set(np.nonzero(array)[1])) for array in (y, gx)] == [[2], [3]]
    assert y[:, 2].all()
    assert gx[:, 3].all()


@pytest.mark.parametrize("places", [0, 10**9])
def test_a_nan_reaches_the_weight_gradient(places, monkeypatch):
    """Through the pixel that it lies on, and the tap that the pixel is seen through; no other channel is spoiled."""
    monkeypatch.setattr(_winograd_gradient, "FEW", places)
    g = ConvGeometry.of((2, 18, 6, 7), (19, 18, 3, 3), 1, 1)
    x, _, _, gy = arrays(g, np.float32)
    x[0, 17, 2, 3] = np.nan
    with cpu.algorithm("winograd"):
        gw = np.isnan(cpu.conv2d_backward_weight(gy, x, g))
    assert gw[:, 17].all()
    assert not gw[:, :17].any()


def test_the_bias_of_infinity_stays_with_its_output():
    g = ConvGeometry.of((1, 4, 6, 6), (20, 4, 3, 3), 1, 1)
    x, weight, bias, _ = arrays(g, np.float32)
    bias[19], bias[3] = np.inf, np.nan
    with cpu.algorithm("winograd"):
        y = cpu.conv2d_forward(x, weight, bias, g)
    assert (y[:, 19] == np.inf).all()
    assert np.isnan(y[:, 3]).all()
    assert np.isfinite(np.delete(y, [3, 19], 1)).all()
