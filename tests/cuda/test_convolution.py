"""Convolution on a card: every algorithm and every kind of number against the reference, on the cases of the CPU's tests."""

from __future__ import annotations

import functools

import ml_dtypes
import numpy as np
import pytest

from minigrad.kernels import reference
from minigrad.kernels.geometry import ConvGeometry
from tests.cuda.on_device import cuda, has_card
from tests.kernels.agreement import assert_close, eps
from tests.kernels.test_convolution import CASES, LARGE, TRANSPOSED, all_results, arrays, gamma, geometry

ALGORITHMS = ("implicit", "direct", "product", "im2col")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# name -> dtype, exact
NUMBERS = {
    "float64": (np.float64, True),
    "float32": (np.float32, True),
    "tf32": (np.float32, False),
    "float16": (np.float16, False),
    "bfloat16": (BFLOAT16, False),
}
# The relative error of a factor that is rounded to the numbers that are multiplied.
FACTOR = {"float64": 0, "float32": 0, "tf32": 2**-11, "float16": 0, "bfloat16": 0}


def possible(name, g) -> bool:
    return cuda.module._algorithms.POSSIBLE[name](g)


@functools.cache
def right_results(x, weight, gy, g):
    """y without bias, gx and gw of the reference in float64; the arrays by their bytes, because several kinds share them."""
    x, weight, gy = (
        np.frombuffer(b).reshape(s) for b, s in zip((x, weight, gy), (g.x_shape, g.weight_shape, g.y_shape), strict=True)
    )
    y, gx = reference.conv2d_forward(x, weight, None, g), reference.conv2d_backward_input(gy, weight, g)
    return y, gx, reference.conv2d_backward_weight(gy, x, g)


def right_of(x, weight, gy, g):
    return right_results(*(np.ascontiguousarray(a, np.float64).tobytes() for a in (x, weight, gy)), g)


def results(g, name, algorithm, kind, seed=0):
    """(x, weight, bias, gy) of a kind of values, and y, gx, gw."""
    dtype, exact = NUMBERS[name]
    rng = np.random.default_rng(seed)
    shapes = g.x_shape, g.weight_shape, (g.o,), g.y_shape
    draw = (lambda s: rng.integers(-8, 9, s)) if kind == "integers" else rng.standard_normal
    given = tuple(np.asarray(draw(shape)).astype(dtype) for shape in shapes)
    x, weight, bias, gy = given
    with cuda.module.algorithm(algorithm, exact=exact):
        y = cuda.conv2d_forward(x, weight, bias, g)
        return given, (y, cuda.conv2d_backward_input(gy, weight, g), cuda.conv2d_backward_weight(gy, x, g))


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("case", CASES)
def test_integers_are_exact(case, name):
    """Small integers and their products are numbers of every kind, and their sums of float32: only the result is rounded."""
    g, dtype = geometry(case), NUMBERS[name][0]
    right, given = None, None
    for algorithm in ALGORITHMS:
        if not possible(algorithm, g) or (algorithm == "im2col" and name not in ("float32", "float64")):
            continue
        given, actual = results(g, name, algorithm, "integers")
        if right is None:
            x, weight, bias, gy = (a.astype(np.float64) for a in given)
            y, gx, gw = right_of(x, weight, gy, g)
            right = y + bias[:, None, None], gx, gw
        for a, r in zip(actual, right, strict=True):
            assert a.dtype == dtype, algorithm
            np.testing.assert_array_equal(a.astype(np.float64), r.astype(dtype).astype(np.float64), err_msg=algorithm)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("case", CASES)
def test_rounding(case, name):
    """Every error is within the bound that holds for sums of so many terms of factors that are rounded once."""
    g, dtype = geometry(case), NUMBERS[name][0]
    given, actual = results(g, name, None, "normal")
    x, weight, bias, gy = (a.astype(np.float64) for a in given)
    right, sizes = right_of(x, weight, gy, g), right_of(abs(x), abs(weight), abs(gy), g)
    right, sizes = (right[0] + bias[:, None, None], *right[1:]), (sizes[0] + abs(bias)[:, None, None], *sizes[1:])
    terms = g.kh * g.kw * g.c // g.groups + 1, g.kh * g.kw * g.o // g.groups, g.n * g.oh * g.ow + 2
    computed, stored = (np.float64, np.float64) if name == "float64" else (np.float32, dtype)
    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(name, eps(computed) / 2)
    for a, r, size, count in zip(actual, right, sizes, terms, strict=True):
        bound = (gamma(count, computed) + 2 * FACTOR[name] * (1 + FACTOR[name])) * size
        if stored != computed:
            bound = bound + unit * (abs(r) + bound) + 2.0**-24
        assert_close(a.astype(np.float64), r, bound)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed(case, name):
    g, (dtype, exact) = ConvGeometry.of_transposed(*TRANSPOSED[case]), NUMBERS[name]
    rng = np.random.default_rng(0)
    x, weight, bias, gy = (rng.integers(-8, 9, shape).astype(dtype) for shape in (g.y_shape, g.weight_shape, g.c, g.x_shape))
    gx, y, gw = right_of(gy, weight, x, g)
    y = y + bias[:, None, None].astype(np.float64)
    for algorithm in (None, *ALGORITHMS):
        if algorithm == "im2col" and name in ("float16", "bfloat16"):
            continue  # its columns are rounded too
        with cuda.module.algorithm(algorithm, exact=exact):
            actual = (
                cuda.conv_transpose2d_forward(x, weight, bias, g),
                cuda.conv_transpose2d_backward_input(gy, weight, g),
                cuda.conv_transpose2d_backward_weight(gy, x, g),
            )
        for a, r in zip(actual, (y, gx, gw), strict=True):
            np.testing.assert_array_equal(a.astype(np.float64), r.astype(dtype).astype(np.float64), err_msg=str(algorithm))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case", ["kh != kw", "dilation and stride", "groups, stride, dilation", "depthwise stride", "1x1"])
def test_nan_reaches_exactly_what_depends_on_it(case, algorithm):
    g = geometry(case)
    x, weight, _, gy = arrays(case, "normal", np.float32)
    seen, gradient = x.copy(), gy.copy()
    seen[-1, 0, g.h // 2, g.w // 2] = np.nan
    gradient[0, -1, g.oh // 2, g.ow // 2] = np.nan  # times the padding it may be 0 or NaN: not for the weight
    with np.errstate(invalid="ignore"), cuda.module.algorithm(algorithm, exact=True):
        for kernel, *given in (
            ("forward", seen, weight, None),
            ("backward_input", gradient, weight),
            ("backward_weight", gy, seen),
        ):
            actual, right = (getattr(k, f"conv2d_{kernel}")(*given, g) for k in (cuda, reference))
            np.testing.assert_array_equal(np.isnan(actual), np.isnan(right))


TILES = {name: LARGE[name][1] for name in ("im2col, stride", "im2col, groups", "few pixels", "lines, three channels")}
WIDE = {  # x shape, weight shape, stride, padding: channels for every width of tile
    "64 channels": ((4, 64, 9, 8), (64, 64, 3, 3), 1, 1),
    "128 channels": ((5, 32, 8, 8), (136, 32, 1, 1), 1, 0),
    "many images": ((4, 64, 16, 16), (128, 64, 1, 1), 1, 0),
    "stride": ((6, 32, 20, 20), (96, 32, 3, 3), 2, 1),
    "many weights": ((2, 96, 5, 6), (80, 96, 3, 3), 1, 1),  # which are packed first
}


@pytest.mark.parametrize(
    ("case", "name"), [(case, name) for case in TILES | WIDE for name in NUMBERS if case in TILES or name != "float64"]
)
def test_many_tiles(case, name):
    """Tiles of every size, several of them, the last ones smaller."""
    g, (dtype, exact) = ConvGeometry.of(*(TILES | WIDE)[case]), NUMBERS[name]
    rng, most = np.random.default_rng(0), 2 if case in TILES else 1
    x, weight, gy = (rng.integers(-most, most + 1, shape).astype(dtype) for shape in (g.x_shape, g.weight_shape, g.y_shape))
    with cuda.module.algorithm("implicit", exact=exact):
        actual = cuda.conv2d_forward(x, weight, None, g), cuda.conv2d_backward_input(gy, weight, g)
        actual = *actual, cuda.conv2d_backward_weight(gy, x, g)
    for a, r in zip(actual, right_of(x, weight, gy, g), strict=True):
        np.testing.assert_array_equal(a.astype(np.float64), r.astype(dtype).astype(np.float64))


@pytest.mark.skipif(has_card(), reason="a card runs its threads in any order by itself")
@pytest.mark.parametrize(
    "case", ["3x3 same", "strides differ", "groups", "depthwise stride", "many channels", "1x1, many pixels"]
)
def test_the_order_of_the_threads_does_not_matter(case):
    """A thread that reads what another has yet to write, without a barrier in between, sees other values the other way round."""
    from tests.cuda.standin import RawKernel

    given, g = arrays(case, "normal", np.float32), geometry(case)
    forwards = all_results(cuda, *given, g)
    RawKernel.backwards = True
    try:
        backwards = all_results(cuda, *given, g)
    finally:
        RawKernel.backwards = False
    for name, array in forwards.items():
        np.testing.assert_array_equal(backwards[name], array, err_msg=name)


def test_tf32_is_close():
    """PyTorch's default for convolutions on cards that can: an error of 1e-3 at most of a typical output."""
    g = ConvGeometry.of((2, 64, 14, 14), (64, 64, 3, 3), 1, 1)
    given, actual = results(g, "tf32", None, "normal")
    x, weight, bias, gy = (a.astype(np.float64) for a in given)
    y, gx, gw = right_of(x, weight, gy, g)
    for a, r in zip(actual, (y + bias[:, None, None], gx, gw), strict=True):
        assert 0 < np.linalg.norm(a - r) / np.linalg.norm(r) < 1e-3


def test_bad_algorithms():
    with pytest.raises(ValueError, match="algorithm must be one of 'direct', 'product', 'implicit', 'im2col', got 'winograd'"):
        cuda.module.algorithm("winograd").__enter__()
    with pytest.raises(TypeError, match="exact must be True or False, got 1"):
        cuda.module.algorithm(exact=1).__enter__()
