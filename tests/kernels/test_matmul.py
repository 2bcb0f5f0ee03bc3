"""Matrix products: the reference against NumPy, the kernels of the CPU and of a card against the reference."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from minigrad.kernels.cpu._compiler import build
from tests.cuda.on_device import cuda
from tests.kernels.agreement import DTYPES, assert_close, eps

KERNELS = {"reference": reference, "cpu": cpu, "cuda": cuda}
SIZES = [
    (1, 1, 1),
    (1, 400, 120),
    (3, 5, 7),
    (4, 33, 17),
    (5, 0, 3),
    (13, 64, 10),
    (64, 400, 120),
    (97, 513, 33),
    (130, 1030, 50),
    (6, 1, 1),
    (57, 3, 40),
    (300, 4, 33),
]
ORDERS = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "sliced": lambda x: np.repeat(np.repeat(x, 2, axis=-1), 2, axis=-2)[..., ::2, ::2],
    "reversed": lambda x: x[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
}


def draw(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def bound(x, y, dtype):
    """What rounding may change: some units of the sums of the absolute products."""
    return 8 * eps(dtype) * (np.abs(x).astype(np.float64) @ np.abs(y).astype(np.float64)) + 1e-300


@pytest.mark.parametrize("name", ["serial", "parallel", "cuda"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_like_the_reference(size, dtype, name):
    m, k, n = size
    x, y, bias = draw(m, k, dtype=dtype), draw(k, n, dtype=dtype, seed=1), draw(n, dtype=dtype, seed=2)
    matmul = cuda.matmul if name == "cuda" else cpu.matmul
    with contextlib.nullcontext() if name == "cuda" else build(name):
        for b in (None, bias):
            for right in (y, np.ascontiguousarray(y.T).T):
                expected = x.astype(np.float64) @ y.astype(np.float64) + (0 if b is None else b)
                assert_close(matmul(x, right, b), expected, bound(x, y, dtype) + eps(dtype) * np.abs(expected), dtype)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("left", "right"), list(itertools.product(ORDERS, ORDERS)))
def test_memory_orders(left, right, kernels):
    for terms in (30, 2):
        x, y = draw(40, terms), draw(terms, 50, seed=1)
        z = KERNELS[kernels].matmul(ORDERS[left](x), ORDERS[right](y))
        assert z.flags.c_contiguous
        np.testing.assert_allclose(z, x @ y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernels", KERNELS)
def test_stacks(kernels):
    x, y, bias = draw(5, 9, 8), draw(5, 8, 17, seed=1), draw(17, seed=2)
    np.testing.assert_allclose(KERNELS[kernels].matmul(x, y, bias), x @ y + bias, rtol=0, atol=1e-13)
    np.testing.assert_allclose(KERNELS[kernels].matmul(x, y.swapaxes(1, 2).copy().swapaxes(1, 2)), x @ y, rtol=0, atol=1e-13)
    assert KERNELS[kernels].matmul(x[:0], y[:0]).shape == (0, 9, 17)


@pytest.mark.parametrize("dtype", DTYPES)
def test_integers_are_exact(dtype):
    rng = np.random.default_rng(0)
    x, y = rng.integers(-8, 9, (37, 700)), rng.integers(-8, 9, (700, 61))
    np.testing.assert_array_equal(cpu.matmul(x.astype(dtype), y.astype(dtype)), x @ y)


def test_long_sums_are_accurate():
    """They are made of parts: the error does not grow with the length."""
    x, y = draw(8, 100_000, dtype=np.float32), draw(100_000, 3, dtype=np.float32, seed=1)
    expected = x.astype(np.float64) @ y.astype(np.float64)
    assert np.abs(cpu.matmul(x, y) - expected).max() < 40 * eps(np.float32) * np.sqrt(100_000)


def test_nan_and_infinity_reach_their_rows_and_columns_only():
    x, y = draw(20, 30, dtype=np.float32), draw(30, 40, dtype=np.float32, seed=1)
    x[3, 4], y[5, 6] = np.nan, np.inf
    z = cpu.matmul(x, y)
    wrong = ~np.isfinite(z)
    assert wrong[3].all()
    assert wrong[:, 6].all()
    wrong[3], wrong[:, 6] = False, False
    assert not wrong.any()
