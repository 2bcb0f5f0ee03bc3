"""Noise for dropout: the reference against its definition, the other implementations against the reference, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.kernels import cpu, reference
from tests.cuda.on_device import cuda
from tests.kernels.agreement import DTYPES, MEMORY_ORDERS

IMPLEMENTATIONS = [reference, cpu, cuda]
SHAPES = [
    (),
    (0,),
    (1,),
    (3,),
    (8,),
    (17,),
    (1000,),
    (4, 33),
    (2, 5, 1, 1),
    (2, 40, 3, 5),
    (1, 3, 8, 8),
    (2, 0, 3, 3),
    (7, 9, 1, 2),
]


def philox(words: int = 0, floats: int = 0) -> np.random.Generator:
    """A generator that has drawn some words of 64 bits, and then some floats of 32."""
    generator = np.random.Generator(np.random.Philox(5))
    generator.bit_generator.random_raw(words)
    generator.random(floats, dtype=np.float32)
    return generator


def assert_same_state(a: np.random.Generator, b: np.random.Generator) -> None:
    np.testing.assert_equal(a.bit_generator.state, b.bit_generator.state)
    np.testing.assert_array_equal(a.random(9, dtype=np.float32), b.random(9, dtype=np.float32))
    assert a.integers(2**60) == b.integers(2**60)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [*DTYPES, np.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_like_its_definition(shape, dtype, implementation):
    for p in (0.0, 0.3, 0.5, 1.0):
        ours, theirs = philox(), philox()
        noise = implementation.dropout_noise(np.ones(shape, dtype), shape, p, ours)
        kept = theirs.random(shape, dtype=np.float32) >= p
        assert noise.dtype == dtype
        np.testing.assert_array_equal(noise, np.where(kept, 1 / (1 - p) if p < 1 else 0, 0).astype(dtype))
        assert_same_state(ours, theirs)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("floats", [0, 1, 2])
@pytest.mark.parametrize("words", range(9))
def test_wherever_the_generator_stands(words, floats, implementation):
    """With every number of words left of the last block, and with half a word or without."""
    for size in [*range(20), 100]:
        ours, theirs = philox(words, floats), philox(words, floats)
        noise = implementation.dropout_noise(np.ones(size, np.float32), (size,), 0.5, ours)
        np.testing.assert_array_equal(noise, 2 * (theirs.random(size, dtype=np.float32) >= 0.5))
        assert_same_state(ours, theirs)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("words", [0, 3])
@pytest.mark.parametrize("counter", [2**64 - 3, 2**128 - 3, 2**192 - 3, 2**256 - 3, 2**64 - 1])
def test_the_counter_carries(counter, words, implementation):
    generators = [philox(words, 1) for _ in range(2)]
    for generator in generators:
        state = generator.bit_generator.state
        state["state"]["counter"] = np.array([counter >> 64 * k & (2**64 - 1) for k in range(4)], np.uint64)
        generator.bit_generator.state = state
    noise = implementation.dropout_noise(np.ones(100), (100,), 0.25, generators[0])
    np.testing.assert_array_equal(noise > 0, generators[1].random(100, dtype=np.float32) >= 0.25)
    assert_same_state(*generators)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("order", [*MEMORY_ORDERS, "transposed"])
@pytest.mark.parametrize("words", [0, 1, 6])
def test_a_seed_gives_the_same_for_every_memory_order(words, order, implementation):
    x = np.ones((3, 6, 5, 7), np.float32)
    x = x.transpose(2, 0, 1, 3).copy().transpose(1, 2, 0, 3) if order == "transposed" else MEMORY_ORDERS[order](x)
    noise = implementation.dropout_noise(x, x.shape, 0.5, philox(words, words % 2))
    expected = 2 * (philox(words, words % 2).random(x.shape, dtype=np.float32) >= 0.5)
    np.testing.assert_array_equal(noise, expected)
    if order in ("channels-first", "channels-last", "transposed"):
        assert noise.strides == x.strides


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_whole_channels(implementation):
    x = MEMORY_ORDERS["channels-last"](np.ones((4, 10, 3, 3), np.float64))
    noise = implementation.dropout_noise(x, (4, 10, 1, 1), 0.2, philox())
    assert noise.shape == (4, 10, 1, 1)
    np.testing.assert_array_equal(noise, 1.25 * (philox().random((4, 10, 1, 1), dtype=np.float32) >= 0.2))


def test_the_card_knows_one_generator():
    generator = np.random.Generator(np.random.PCG64(0))
    with pytest.raises(TypeError, match="Philox only, got PCG64"):
        cuda.dropout_noise(np.ones(3), (3,), 0.5, generator)
