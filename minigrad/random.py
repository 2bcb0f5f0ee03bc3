"""The one source of randomness of the framework: a counter-based generator whose state is a small dictionary."""

from __future__ import annotations

import numpy as np

__all__ = ["Generator", "generator", "get_rng_state", "initial_seed", "manual_seed", "set_rng_state"]

_seed = 0
_generator: np.random.Generator | None = None


class Generator(np.random.Generator):
    """A source of random numbers of its own, for the ``generator=`` of other functions: ``Generator().manual_seed(7)``."""

    def __init__(self):
        super().__init__(np.random.Philox(0))

    def manual_seed(self, seed: int) -> Generator:
        """Restart from ``seed`` (an integer >= 0); returns the generator."""
        self.bit_generator.state = np.random.Philox(_check_seed(seed)).state
        return self


def _check_seed(seed: int) -> int:
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
    return int(seed)


def manual_seed(seed: int) -> np.random.Generator:
    """Restart the generator from ``seed`` (an integer >= 0), so that what follows can be repeated; returns the generator."""
    global _seed, _generator
    _seed = _check_seed(seed)
    _generator = np.random.Generator(np.random.Philox(_seed))
    return _generator


def initial_seed() -> int:
    """The seed of the last ``manual_seed``; 0 if there was none."""
    return _seed


def generator() -> np.random.Generator:
    """The generator behind initial weights, dropout and ``mg.randn``; seeded with 0 until ``manual_seed`` is called."""
    return _generator if _generator is not None else manual_seed(0)


def get_rng_state() -> dict:
    """The generator's state as plain numbers and lists, ready for JSON."""
    return _plain(generator().bit_generator.state)


def set_rng_state(state: dict) -> None:
    """Continue from a state that ``get_rng_state`` gave. Raises ValueError if it is not one."""
    bits = np.random.Philox(0)
    try:
        restored = {
            **state,
            "state": {k: np.array(v, np.uint64) for k, v in state["state"].items()},
            "buffer": np.array(state["buffer"], np.uint64),
        }
        if not (0 <= restored["buffer_pos"] <= 4 and restored["has_uint32"] in (0, 1)):  # NumPy trusts these
            raise ValueError(f"buffer_pos is {restored['buffer_pos']!r} and has_uint32 {restored['has_uint32']!r}")
        bits.state = restored
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"state is not one that get_rng_state gave: {error}") from None
    generator().bit_generator.state = bits.state


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
