"""What the processor can do, as far as the code generator may use it."""

from __future__ import annotations

import functools
import platform

import numpy as np
from numba.core import config
from numba.core.codegen import get_host_cpu_features

__all__ = ["lanes", "masked_loads_are_free", "registers", "vector_features"]


@functools.cache
def vector_features() -> frozenset[str]:
    """The instruction sets that code is generated for, by LLVM's names: "avx512f", "avx2", "fma", "neon", ...

    Those of this processor, less what the environment variables NUMBA_CPU_NAME and NUMBA_CPU_FEATURES switch off.
    """
    features = _parsed(get_host_cpu_features()) if config.CPU_NAME is None else {}
    if config.CPU_FEATURES is not None:
        features |= _parsed(config.CPU_FEATURES)
    found = {name for name, there in features.items() if there}
    if platform.machine().lower() in ("arm64", "aarch64"):
        found.add("neon")  # part of every 64-bit ARM
    return frozenset(found)


def _parsed(text: str) -> dict[str, bool]:
    """{"avx2": True, "avx512f": False} of "+avx2,-avx512f"."""
    return {word[1:]: word[0] == "+" for word in text.split(",") if word[:1] in ("+", "-")}


def lanes(dtype) -> int:
    """How many numbers of a dtype a vector register holds."""
    size = 64 if "avx512f" in vector_features() else 32 if "avx" in vector_features() else 16
    return size // np.dtype(dtype).itemsize


def masked_loads_are_free() -> bool:
    """Whether a load of a part of a vector costs no more than that of a whole one."""
    return "avx512f" in vector_features()


def registers() -> int:
    """How many vector registers there are."""
    return 32 if vector_features() & {"avx512f", "neon"} else 16
