"""What the tests of the kernel cache share: counting, the lines on standard error, a process that runs a kernel."""

from __future__ import annotations

import json
import sys

from minigrad.kernels import cpu
from minigrad.kernels.cpu import _cache
from tests.kernels.small import double, doubles

COMPILING = "minigrad: compiling kernels for this machine (once) ...\n"
CANNOT_KEEP = "minigrad: compiled kernels cannot be kept for the next run ("


def begin(monkeypatch) -> None:
    """As if this process had just begun."""
    monkeypatch.setattr(_cache, "_stats", _cache.CompilationStats())
    monkeypatch.setattr(_cache, "_said", set())
    _cache._directory.cache_clear()


def counts():
    """Compiled and loaded since the test began."""
    stats = cpu.compilation_stats()
    return stats.compiled, stats.loaded


def files(cache):
    return sorted(path for path in cache.glob("**/*") if path.is_file())


def several_types() -> None:
    """Run a kernel with the types that are named, in their order; print whether it was right, and what was compiled."""
    print(json.dumps([[doubles(double, dtype) for dtype in sys.argv[2:]], cpu.compilation_stats().compiled]))
