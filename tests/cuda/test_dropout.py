"""Dropout's noise on a card: generators whose state lies there, and captured steps."""

from __future__ import annotations

import importlib

import ml_dtypes
import numpy as np
import pytest

from minigrad.kernels import reference
from tests.cuda.on_device import cuda, to_card
from tests.kernels.agreement import MEMORY_ORDERS
from tests.kernels.test_dropout import assert_same_state, philox


@pytest.mark.parametrize("words", range(5))
def test_the_state_may_lie_on_the_card(words):
    dropout = cuda.module.dropout
    x = to_card(MEMORY_ORDERS["channels-last"](np.ones((2, 5, 3, 3), np.float32)))
    state = to_card(dropout.packed(philox(words, 1)))
    noise = dropout.noise_from(x, x.shape, 0.5, state)
    assert noise.strides == x.strides
    np.testing.assert_array_equal(
        noise.get(), reference.dropout_noise(np.ones(x.shape, np.float32), x.shape, 0.5, philox(words, 1))
    )


def test_bfloat16():
    x = np.ones(1000, ml_dtypes.bfloat16)
    noise = cuda.dropout_noise(x, x.shape, 0.3, philox())
    np.testing.assert_array_equal(noise, reference.dropout_noise(x, x.shape, 0.3, philox()))
    assert noise.dtype == x.dtype


def test_every_replay_draws():
    module, cupy = cuda.module, importlib.import_module("minigrad.kernels.cuda.dropout").cupy
    ours, theirs = philox(3, 1), philox(3, 1)
    x, small = to_card(np.ones((4, 33), np.float32)), to_card(np.ones((2, 3, 1, 1), np.float64))
    module.dropout_noise(x, x.shape, 0.5, philox())  # compiles
    module.dropout_noise(small, small.shape, 0.2, philox())
    stream, capture = cupy.cuda.Stream(non_blocking=True), module.Capture()
    module.set_capture(capture)
    try:
        with stream:
            stream.begin_capture()
            first = module.dropout_noise(x, x.shape, 0.5, ours)
            second = module.dropout_noise(small, small.shape, 0.2, ours)
            graph = stream.end_capture()
    finally:
        module.set_capture(None)
    for _ in range(3):
        capture.refresh()
        graph.launch(stream)
        stream.synchronize()
        np.testing.assert_array_equal(first.get(), reference.dropout_noise(np.ones(x.shape, np.float32), x.shape, 0.5, theirs))
        np.testing.assert_array_equal(second.get(), reference.dropout_noise(np.ones((2, 3, 1, 1)), (2, 3, 1, 1), 0.2, theirs))
    assert_same_state(ours, theirs)
