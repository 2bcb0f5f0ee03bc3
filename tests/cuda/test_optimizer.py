"""SGD on a card: 16-bit parameters, more arrays than a launch takes, learning rates in the card's memory, captured steps."""

from __future__ import annotations

import importlib

import ml_dtypes
import numpy as np
import pytest

from minigrad.kernels import reference
from tests.cuda import standin
from tests.cuda.on_device import cuda, has_card, to_card
from tests.kernels.test_optimizer import LR, OPTIONS, draw

HALVES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("with_velocity", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", HALVES.values(), ids=HALVES)
def test_halves(dtype, options, with_velocity, first):
    p, g, v = draw((5000,), dtype)
    wide = [array.astype(np.float64) for array in (p, g, v)]
    cuda.sgd_momentum(p, g, v if with_velocity else None, LR, *options, first)
    reference.sgd_momentum(*wide[:2], wide[2] if with_velocity else None, LR, *options, first)
    for ours, theirs in ((p, wide[0]), (v, wide[2])):
        spacing = float(ml_dtypes.finfo(dtype).eps)
        np.testing.assert_allclose(ours.astype(np.float64), theirs, rtol=0.51 * spacing, atol=3e-6)


def test_a_velocity_of_another_dtype_is_converted():
    p, g, v = draw((33,), np.float32)
    expected, wide = p.copy(), v.astype(np.float64)
    cuda.sgd_momentum(p, g.astype(np.float16), wide, LR, 0.9, 0.0, 0.0, False, False, False)
    cuda.sgd_momentum(expected, g.astype(np.float16).astype(np.float32), v, LR, 0.9, 0.0, 0.0, False, False, False)
    np.testing.assert_array_equal(p, expected)
    np.testing.assert_array_equal(wide, v)


@pytest.mark.parametrize("count", [1, 111, 112, 113, 250])
def test_how_many_arrays_a_launch_takes(count):
    """As many as the parameters of a kernel have room for; single elements of larger arrays stay what they are."""
    arrays = [draw((1 + k % 5,), np.float32, k) for k in range(count)]
    expected = [tuple(a.copy() for a in each) for each in arrays]
    before = standin.RawKernel.launches
    cuda.sgd_momentum_all(
        *map(list, zip(*arrays, strict=True)), LR, 0.9, 0.0, 0.01, True, False, [k % 2 == 0 for k in range(count)]
    )
    assert has_card() or standin.RawKernel.launches - before == -(-count // 112)
    for k, (ours, theirs) in enumerate(zip(arrays, expected, strict=True)):
        reference.sgd_momentum(*theirs, LR, 0.9, 0.0, 0.01, True, False, k % 2 == 0)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_values_of_a_launch_fit():
    """The table, five factors of 8 bytes, a pointer and two ints, into the 4096 bytes that every card has for them."""
    assert cuda.module.optimizer.LIMIT * 36 + 5 * 8 + 8 + 2 * 4 <= 4096


def test_nothing_to_do():
    cuda.sgd_momentum_all([], [], [], LR, 0.9, 0.0, 0.0, False, False, [])
    cuda.sgd_momentum_all([np.zeros((0, 3))], [np.zeros((0, 3))], None, LR, 0.9, 0.0, 0.0, False, False, [True])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_captured_step_follows_the_learning_rate(dtype):
    cupy = importlib.import_module("minigrad.kernels.cuda.optimizer").cupy
    p, g, v = draw((3000,), dtype)
    cards, rate = [to_card(array) for array in (p, g, v)], to_card(np.array(0.0))
    module, options = cuda.module, (0.9, 0.1, 0.01, True, False)
    module.sgd_momentum(*cards, rate, *options, False)  # compiles, and moves the velocity
    cuda.sgd_momentum(p, g, v, 0.0, *options, False)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        module.sgd_momentum(*cards, rate, *options, False)
        graph = stream.end_capture()
    for lr in (0.1, 0.3):
        rate.set(np.array(lr))
        graph.launch(stream)
        stream.synchronize()
        cuda.sgd_momentum(p, g, v, lr, *options, False)
        np.testing.assert_array_equal(cards[0].get(), p)
        np.testing.assert_array_equal(cards[2].get(), v)
