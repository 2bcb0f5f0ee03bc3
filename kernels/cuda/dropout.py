"""What dropout multiplies by. See ``kernels/reference/dropout.py``."""

from __future__ import annotations

import cupy
import numpy as np

from ..layout import empty_like, is_channels_last
from ._capture import before_replay, is_capturing
from ._compiler import FLOATS, THREADS, Kernel, blocks, c_type, on_device

__all__ = ["dropout_noise"]

WORDS = 16  # of the structure State of dropout.cu

_noise = Kernel("dropout.cu", "dropout_noise", [(t,) for t in FLOATS])


def dropout_noise(x: cupy.ndarray, shape: tuple[int, ...], p: float, generator: np.random.Generator) -> cupy.ndarray:
    """See reference. Drawn on the card, the same bits. Raises TypeError unless ``generator`` is one over NumPy's Philox.

    In a capture nothing is drawn: every replay draws, as if this were called then.
    """
    if not is_capturing():
        noise = noise_from(x, shape, p, packed(generator))
        skip(generator, noise.size)
        return noise
    state = cupy.empty(WORDS, np.uint64)
    noise = noise_from(x, shape, p, state)

    def refresh(count: int = noise.size) -> None:
        state.set(packed(generator))
        skip(generator, count)

    before_replay(refresh)
    return noise


@on_device
def noise_from(x: cupy.ndarray, shape: tuple[int, ...], p: float, state: np.ndarray | cupy.ndarray) -> cupy.ndarray:
    """The noise that a generator in the ``packed`` state would give.

    If ``state`` lies on the card, the kernel reads it there when it runs: a captured launch draws from what it holds then.
    """
    shape = tuple(shape)
    noise = empty_like(x, cupy.empty) if shape == x.shape else cupy.empty(shape, x.dtype)
    target, channels, pixels = noise, 1, noise.size
    if noise.ndim == 4 and not noise.flags.c_contiguous and is_channels_last(noise):
        channels, pixels = noise.shape[1], noise.shape[2] * noise.shape[3]
    elif not noise.flags.c_contiguous:
        target = cupy.empty(shape, x.dtype)
    if noise.size:
        images, turns = noise.size // (channels * pixels), pixels // 8 + 1
        on_card = isinstance(state, cupy.ndarray)
        given, pointer = (np.zeros(WORDS, np.uint64), state) if on_card else (state, None)
        scale = np.full(1, 1 / (1 - p) if p < 1 else 0, x.dtype)
        sizes = np.int64(noise.size), np.int64(turns), np.array((channels, pixels), np.int64)
        values = target, given, pointer, np.float32(p), scale, *sizes
        _noise((c_type(x.dtype),), blocks(images * turns * channels), THREADS, values)
    if target is not noise:
        noise[...] = target
    return noise


def packed(generator: np.random.Generator) -> np.ndarray:
    """The state of a generator over Philox as the kernel reads it, 16 numbers of 64 bits."""
    state = _state_of(generator)
    words = np.zeros(WORDS, np.uint64)
    words[:4], words[4:6], words[6:10] = state["state"]["counter"], state["state"]["key"], state["buffer"]
    words[10:13] = state["buffer_pos"], state["has_uint32"], state["uinteger"]
    return words


def skip(generator: np.random.Generator, count: int) -> None:
    """Leave the generator where ``generator.random(count, dtype=np.float32)`` would: the last few of them are drawn."""
    state = _state_of(generator)
    left = state["has_uint32"] + 2 * (4 - state["buffer_pos"])
    if count > left:
        passed = (count - left - 1) // 8  # blocks of eight, before the last that is needed
        counter = sum(int(word) << 64 * k for k, word in enumerate(state["state"]["counter"])) + passed
        state["state"]["counter"] = np.array([counter >> 64 * k & (2**64 - 1) for k in range(4)], np.uint64)
        state["buffer_pos"], state["has_uint32"] = 4, 0
        generator.bit_generator.state = state
        count -= left + 8 * passed
    generator.random(count, dtype=np.float32)


def _state_of(generator: np.random.Generator) -> dict:
    state = generator.bit_generator.state
    if state["bit_generator"] != "Philox":
        raise TypeError(f"the card can draw from a generator over NumPy's Philox only, got {state['bit_generator']}")
    return state
