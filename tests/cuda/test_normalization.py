"""Normalization on a card: 16-bit numbers, sums of any division into blocks, the same bits whatever the order of the threads."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from minigrad.kernels import reference
from tests.cuda import standin
from tests.cuda.on_device import cuda, has_card
from tests.kernels.agreement import EPS64, MEMORY_ORDERS, assert_close, eps
from tests.kernels.test_normalization import RESPONSES, VIEWS, draw

HALVES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
WIDE = {  # rows of packs, also of eight halves
    "batch": (1, 300, 64, 1),
    "batch of few channels": (1, 1500, 8, 1),
    "instance": (3, 40, 16, 1),
    "group": (2, 50, 4, 8),
    "layer": (3, 1, 1, 160),
    "layer, long": (2, 1, 1, 8192),
    "layer of pixels": (300, 1, 1, 24),
}
LARGE = (
    "batch, several blocks",
    "groups, several blocks",
    "batch, many channels",
    "layer, several chunks",
    "layer, an odd length",
)


def spacing(dtype) -> float:
    """The relative distance of neighbouring numbers."""
    return float(ml_dtypes.finfo(dtype).eps)


def smallest(dtype) -> float:
    return float(ml_dtypes.finfo(dtype).smallest_subnormal)


def halves(view, dtype):
    """Activations of 16 bits; statistics and weights of float32."""
    gy, x, mean, rstd, weight, bias = draw(view, np.float32)
    return gy.astype(dtype), x.astype(dtype), mean, rstd, weight, bias


@pytest.mark.parametrize("dtype", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize("view", (VIEWS | WIDE).values(), ids=(VIEWS | WIDE))
def test_moments_of_halves(view, dtype):
    """As good as those of the same numbers in float32."""
    x = halves(view, dtype)[1]
    mean, var = cuda.moments(x)
    expected_mean, expected_var = reference.moments(x.astype(np.float64))
    assert_close(mean, expected_mean, eps(np.float32) * abs(expected_mean) + 1e-12, np.float32)
    assert_close(var, expected_var, 3 * eps(np.float32) * expected_var, np.float32)


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("with_addend", [False, True])
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64), *HALVES.values()], ids=str)
@pytest.mark.parametrize("view", WIDE.values(), ids=WIDE)
def test_forward(view, dtype, with_addend, rectify):
    addend, x, mean, rstd, weight, bias = (
        draw(view, dtype) if dtype.itemsize > 2 else halves(view, dtype)
    )  # gy serves as the addend
    addend = addend if with_addend else None
    for w, b in ((weight, bias), (weight, None), (None, None)):
        y = cuda.normalize_forward(x, mean, rstd, w, b, addend, rectify)
        wide = (None if array is None else array.astype(np.float64) for array in (x, mean, rstd, w, b, addend))
        expected = reference.normalize_forward(*wide, rectify)
        size = abs(expected) + (0 if b is None else 2 * abs(b)) + (0 if addend is None else 2 * abs(addend.astype(np.float64)))
        size = size + abs(x.astype(np.float64) - mean[:, None, :, None]) * rstd[:, None, :, None] * (1 if w is None else w)
        assert_close(
            y.astype(np.float64), expected, spacing(dtype) / 2 * abs(expected) + 3 * eps(mean.dtype) * size + smallest(dtype)
        )
        assert y.dtype == dtype


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("through_statistics", [True, False])
@pytest.mark.parametrize("dtype", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize("view", (VIEWS | WIDE).values(), ids=(VIEWS | WIDE))
def test_backward_of_halves(view, dtype, through_statistics, rectify):
    """gx is rounded to 16 bits; the gradients of weights are as good as in float32."""
    gy, x, mean, rstd, weight, bias = halves(view, dtype)
    if rectify:  # what is rectified is the rounded y
        gy = np.where(cuda.normalize_forward(x, mean, rstd, weight, bias).astype(np.float64) <= 0, dtype.type(0), gy)
    gx, gweight, gbias = cuda.normalize_backward(gy, x, mean, rstd, weight, through_statistics, bias, rectify)
    wide = (array.astype(np.float64) for array in (gy, x, mean, rstd, weight))
    expected = reference.normalize_backward(*wide, through_statistics)
    rstd64 = rstd.astype(np.float64)[:, None, :, None]
    xhat = abs(x.astype(np.float64) - mean[:, None, :, None]) * rstd64
    g = abs(gy.astype(np.float64))
    single = eps(np.float32)
    assert_close(gweight, expected[1], single * abs(expected[1]) + 1e-10 * (g * xhat).sum((0, 1)), np.float32)
    assert_close(gbias, expected[2], single * abs(expected[2]) + 1e-10 * g.sum((0, 1)), np.float32)
    g = g * weight
    sums = g.mean((1, 3), keepdims=True) + xhat * (g * xhat).mean((1, 3), keepdims=True)
    bound = spacing(dtype) / 2 * abs(expected[0]) + 5 * single * rstd64 * (g + (sums if through_statistics else 0))
    assert_close(gx.astype(np.float64), expected[0], bound + smallest(dtype))
    assert gx.dtype == dtype


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("view", [VIEWS[name] for name in LARGE] + [WIDE["batch"], WIDE["batch of few channels"]])
def test_few_blocks(view, dtype, blocks, monkeypatch):
    """Threads that take many rows, as those of large arrays do."""
    monkeypatch.setattr(cuda.module.normalization, "BLOCKS", blocks)
    gy, x, mean, rstd, weight, bias = draw(view, dtype)
    gy[0, 0, 0, 0], x[0, 0, 0, 0] = 3e3, -2e3
    new_mean, new_var = cuda.moments(x)
    expected_mean, expected_var = reference.moments(x)
    slack = 2 * view[1] * view[3] * EPS64 * abs(x.astype(np.float64)).mean((1, 3))
    assert_close(new_mean, expected_mean, eps(dtype) * abs(expected_mean) + slack)
    far = abs(x - expected_mean[:, None, :, None]).max((1, 3))  # sums are of differences from one of the first numbers
    assert_close(new_var, expected_var, 3 * eps(dtype) * expected_var + 2 * view[1] * view[3] * EPS64 * far**2)
    for rectify in (False, True):
        actual = cuda.normalize_backward(gy, x, mean, rstd, weight, True, bias, rectify)
        expected = reference.normalize_backward(gy, x, mean, rstd, weight, True, bias, rectify)
        for a, e in zip(actual[1:], expected[1:], strict=True):
            assert_close(a, e, eps(dtype) * abs(e) + 1e-13 * abs(e).max() * 100)
        assert_close(actual[0], expected[0], 8 * eps(dtype) * (abs(expected[0]) + abs(expected[0]).max()))


@pytest.mark.skipif(has_card(), reason="only the stand-in knows the order of the threads")
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_the_order_of_the_threads_does_not_matter(view, monkeypatch):
    gy, x, mean, rstd, weight, bias = draw(view, np.float32, special=True)

    def results():
        backward = cuda.normalize_backward(gy, x, mean, rstd, weight, True, bias, True)
        return [*cuda.moments(x), cuda.normalize_forward(x, mean, rstd, weight, bias), *backward]

    before = results()
    monkeypatch.setattr(standin.RawKernel, "backwards", True)
    for a, b in zip(before, results(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_arrays_with_gaps_and_other_dtypes():
    gy, x, mean, rstd, weight, bias = draw((2, 12, 6, 4), np.float32)
    right = cuda.normalize_forward(x, mean, rstd, weight, bias, gy), cuda.normalize_backward(gy, x, mean, rstd, weight, True)[0]
    gapped_x, gapped_gy = (MEMORY_ORDERS["sliced"](array) for array in (x, gy))
    weight, bias, mean = weight.astype(np.float64), MEMORY_ORDERS["sliced"](bias[None, ..., None])[0, ..., 0], mean.T.copy().T
    np.testing.assert_array_equal(cuda.normalize_forward(gapped_x, mean, rstd, weight, bias, gapped_gy), right[0])
    np.testing.assert_array_equal(cuda.normalize_backward(gapped_gy, gapped_x, mean, rstd, weight, True)[0], right[1])
    for a, b in zip(cuda.moments(gapped_x), cuda.moments(x), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize(("size", "beta"), [*RESPONSES, (5, 0.6)])
def test_responses_of_halves(size, beta, dtype):
    gy, x = np.random.default_rng(size).standard_normal((2, 2, 20, 3, 5)).astype(dtype)
    y, scale = cuda.local_response_norm_forward(x, size, 0.3, beta, 1.5)
    expected_y, expected_scale = reference.local_response_norm_forward(x.astype(np.float64), size, 0.3, beta, 1.5)
    assert_close(scale.astype(np.float64), expected_scale, 0.51 * spacing(dtype) * expected_scale)
    assert_close(y.astype(np.float64), expected_y, 0.51 * spacing(dtype) * abs(expected_y))
    gx = cuda.local_response_norm_backward(gy, x, scale, size, 0.3, beta)
    expected = reference.local_response_norm_backward(*(a.astype(np.float64) for a in (gy, x, scale)), size, 0.3, beta)
    assert_close(gx.astype(np.float64), expected, 0.51 * spacing(dtype) * abs(expected) + 1e-5)


def test_a_window_too_large_for_shared_memory():
    x, gy = np.random.default_rng(0).standard_normal((2, 1, 7000, 1, 1))
    y, scale = cuda.local_response_norm_forward(x, 9000, 0.3, 0.75, 1.5)
    expected = reference.local_response_norm_forward(x, 9000, 0.3, 0.75, 1.5)
    np.testing.assert_allclose(y, expected[0], rtol=1e-12)
    gx = cuda.local_response_norm_backward(gy, x, scale, 9000, 0.3, 0.75)
    np.testing.assert_allclose(gx, reference.local_response_norm_backward(gy, x, scale, 9000, 0.3, 0.75), rtol=1e-9, atol=1e-12)
