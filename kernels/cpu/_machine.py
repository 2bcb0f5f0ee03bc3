"""What the processor can do."""

from __future__ import annotations

import llvmlite.binding

__all__ = ["vector_features"]


def vector_features() -> frozenset[str]:
    """The instruction sets of this processor by LLVM's names: "avx512f", "avx2", "neon", ..."""
    return frozenset(name for name, there in llvmlite.binding.get_host_cpu_features().items() if there)
