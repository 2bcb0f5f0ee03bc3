"""Rectifiers and sums: the reference against NumPy, the other kernels against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from minigrad.kernels.cpu._compiler import build
from tests.cuda.on_device import cuda
from tests.kernels.agreement import DTYPES, MEMORY_ORDERS

SHAPES = [(), (0,), (1,), (7,), (2049,), (16384,), (3, 16385), (2, 5, 33, 17), (4, 16, 32, 32)]
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40])


def draw(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = np.asarray(rng.standard_normal(shape), dtype)
    if x.size > len(SPECIAL):
        x.reshape(-1)[rng.permutation(x.size)[: len(SPECIAL)]] = SPECIAL
    return x


@pytest.mark.parametrize(
    ("kernels", "name"), [(cpu, "serial"), (cpu, "parallel"), (cuda, "serial")], ids=["serial", "parallel", "cuda"]
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_like_the_reference(shape, dtype, kernels, name):
    x, y, z = draw(shape, dtype), draw(shape, dtype, 1), draw(shape, dtype, 2)
    with build(name), np.errstate(invalid="ignore"):
        for ours, theirs in (
            (kernels.relu_forward(x), reference.relu_forward(x)),
            (kernels.relu_backward(x, y), reference.relu_backward(x, y)),
            (kernels.relu_backward(x, y, z), reference.relu_backward(x, y, z)),
            (kernels.add(x, y), reference.add(x, y)),
        ):
            assert ours.dtype == dtype
            np.testing.assert_array_equal(ours, theirs)


def test_reference_by_hand():
    x = np.array([-1.0, 0.0, 2.0, np.nan, -np.inf, np.inf])
    np.testing.assert_array_equal(reference.relu_forward(x), [0, 0, 2, np.nan, 0, np.inf])
    gy = np.array([1.0, np.inf, 3.0, 4.0, np.nan, 6.0])
    np.testing.assert_array_equal(reference.relu_backward(gy, x), [0, 0, 3, 4, 0, 6])
    np.testing.assert_array_equal(reference.relu_backward(gy, x, np.arange(6.0)), [0, 0, 5, 7, 0, 11])
    np.testing.assert_array_equal(reference.add(x[:3], gy[:3]), [0, np.inf, 5])


@pytest.mark.parametrize("kernels", [reference, cpu, cuda], ids=["reference", "cpu", "cuda"])
@pytest.mark.parametrize("order", MEMORY_ORDERS)
@pytest.mark.parametrize("other", MEMORY_ORDERS)
def test_memory_orders(order, other, kernels):
    x, y = MEMORY_ORDERS[order](draw((2, 16, 13, 12), np.float32)), MEMORY_ORDERS[other](draw((2, 16, 13, 12), np.float32, 1))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(kernels.add(x, y), x + y)
    np.testing.assert_array_equal(kernels.relu_backward(x, y), np.where(y <= 0, 0, x))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(kernels.relu_backward(x, y, x[::-1]), np.where(y <= 0, 0, x + x[::-1]))
    np.testing.assert_array_equal(kernels.relu_forward(x), np.where(x <= 0, 0, x))
    if order in ("channels-first", "channels-last"):
        assert kernels.relu_forward(x).strides == x.strides


@pytest.mark.parametrize("kernels", [reference, cpu, cuda], ids=["reference", "cpu", "cuda"])
@pytest.mark.parametrize("size", [5, 5000])
def test_in_place(size, kernels):
    x, y = draw((size,), np.float32), draw((size,), np.float32, 1)
    with np.errstate(invalid="ignore"):
        total, rectified = x + y, np.where(x <= 0, 0, x)
        assert kernels.add(x.copy(), y) is not x
        first = x.copy()
        assert kernels.add(first, y, out=first) is first
        np.testing.assert_array_equal(first, total)
        second = y.copy()
        kernels.add(x, second, out=second)
        np.testing.assert_array_equal(second, total)
    assert kernels.relu_forward(x, out=x) is x
    np.testing.assert_array_equal(x, rectified)


def test_float16_is_left_to_numpy():
    x = draw((5000,), np.float16)
    y = cpu.relu_forward(x)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, np.where(x <= 0, 0, x))
